//! Tests of what is done about an error.

use http::StatusCode;

use super::*;
use crate::{
    Reply,
    fixtures::{feed, reply, test_data, with_header},
    read_error,
};

fn step_after(status: u16, code: &str) -> NextStep {
    read_error(&reply(
        status,
        &format!(r#"{{"error":{{"code":"{code}"}}}}"#),
    ))
    .next_step()
}

#[test]
fn every_code_leads_to_one_step() {
    let steps: String = ApiErrorCode::KNOWN
        .iter()
        .map(|code| format!("{code} {:?}\n", step_after(400, code.as_str())))
        .collect();
    expect_test::expect![[r#"
        AF10001 StopTenant(PermissionMissing)
        AF20001 RetryAfter(None)
        AF20002 RetryAfter(None)
        AF20003 GoWithoutWebhook
        AF20010 StopTenant(Refused(Af20010))
        AF20011 StopTenant(Refused(Af20011))
        AF20012 StopTenant(Refused(Af20012))
        AF20013 StopTenant(Refused(Af20013))
        AF20020 RetryAfter(None)
        AF20021 GoWithoutWebhook
        AF20022 StartSubscription
        AF20023 StartSubscription
        AF20024 RetryAfter(None)
        AF20030 ListWindowAgain
        AF20031 ListWindowAgain
        AF20050 GiveUpOnBlob(Missing)
        AF20051 GiveUpOnBlob(Expired)
        AF20052 GiveUpOnBlob(IdInvalid)
        AF20053 RetryAfter(None)
        AF20054 RetryAfter(None)
        AF20055 ListWindowAgain
        AF429 RetryAfter(None)
        AF50000 RetryAfter(None)
        AF50005 RetryAfter(None)
        AF50006 RetryAfter(None)
    "#]]
    .assert_eq(&steps);
}

#[test]
fn a_reply_without_a_code_leads_to_one_step_too() {
    let step = |reply: Reply| read_error(&reply).next_step();
    assert_eq!(
        step(reply(401, test_data!("denied.json"))),
        NextStep::Reauthenticate
    );
    assert_eq!(
        step(reply(503, test_data!("unavailable.html"))),
        NextStep::RetryAfter(None)
    );
    assert_eq!(
        step(with_header(reply(503, ""), "Retry-After", "7")),
        NextStep::RetryAfter(Some(Duration::from_secs(7)))
    );
    for status in [301, 304, 400, 403, 404, 418] {
        assert_eq!(
            step(reply(status, "")),
            NextStep::RetryAfter(None),
            "{status}"
        );
    }
}

#[test]
fn nothing_that_may_pass_makes_a_blob_or_a_tenant_be_given_up() {
    let untrusted = feed().trust("https://evil.example/").unwrap_err();
    for error in [
        Error::Malformed { what: "anything" },
        Error::UntrustedUri(untrusted),
        Error::ServiceFailed {
            status: StatusCode::BAD_GATEWAY,
            code: None,
            retry_after: None,
        },
    ] {
        assert_eq!(error.next_step(), NextStep::RetryAfter(None), "{error}");
    }
    assert!(!BlobReason::Missing.is_final());
    assert!(BlobReason::Expired.is_final() && BlobReason::IdInvalid.is_final());
}

#[test]
fn the_reason_of_a_stopped_tenant_says_how_to_mend_it() {
    let reasons = [
        TenantReason::Credential(CredentialReason::SecretExpired),
        TenantReason::PermissionMissing,
        TenantReason::AuditingOff,
        TenantReason::Refused(ApiErrorCode::Af20010),
        TenantReason::Refused(ApiErrorCode::Af20011),
        TenantReason::Refused(ApiErrorCode::Af20012),
        TenantReason::Refused(ApiErrorCode::Af20013),
    ];
    for reason in reasons {
        let text = reason.to_string();
        assert!(
            text.contains(": ") && !text.ends_with('.') && !text.contains("  "),
            "{text}"
        );
    }
}
