//! Tests of the table from statuses and codes to meanings.

use super::*;
use crate::fixtures::{reply, test_data, with_header};

fn coded(status: u16, code: &str) -> Reply {
    reply(
        status,
        &format!(r#"{{"error":{{"code":"{code}","message":"Some words."}}}}"#),
    )
}

#[test]
fn every_code_has_its_meaning_whatever_the_status_is() {
    let mut table = String::new();
    for code in ApiErrorCode::KNOWN {
        let meanings: Vec<String> = [400, 401, 403, 404, 429, 500]
            .into_iter()
            .map(|status| {
                let text = format!("{:?}", read_error(&coded(status, code.as_str())));
                // The one thing that may differ with the status is the status that is reported.
                text.replace(&format!("status: {status}"), "status: S")
            })
            .collect();
        let first = meanings.first().unwrap();
        if *code != ApiErrorCode::Af20024 {
            assert!(
                meanings.iter().all(|meaning| meaning == first),
                "{meanings:#?}"
            );
        }
        let meaning = first.split([' ', '{']).next().unwrap();
        table.push_str(&format!("{code} {meaning}\n"));
    }
    expect_test::expect![[r#"
        AF10001 PermissionMissing
        AF20001 RequestRefused
        AF20002 RequestRefused
        AF20003 WebhookRefused
        AF20010 TenantRefused
        AF20011 TenantRefused
        AF20012 TenantRefused
        AF20013 TenantRefused
        AF20020 RequestRefused
        AF20021 WebhookRefused
        AF20022 SubscriptionMissing
        AF20023 SubscriptionDisabled
        AF20024 Unexpected
        AF20030 WindowRefused
        AF20031 PageTokenRefused
        AF20050 BlobMissing
        AF20051 BlobExpired
        AF20052 BlobIdInvalid
        AF20053 RequestRefused
        AF20054 RequestRefused
        AF20055 WindowRefused
        AF429 Throttled
        AF50000 ServiceFailed
        AF50005 ServiceFailed
        AF50006 ServiceFailed
    "#]]
    .assert_eq(&table);
}

#[test]
fn an_error_that_has_a_code_tells_it() {
    for code in ApiErrorCode::KNOWN {
        let error = read_error(&coded(400, code.as_str()));
        match error {
            Error::Throttled { .. } | Error::BlobMissing => assert_eq!(error.code(), None),
            _ => assert_eq!(error.code(), Some(code)),
        }
    }
}

#[test]
fn throttling_is_throttling_as_403_as_429_and_without_a_code() {
    let throttled = Error::Throttled { retry_after: None };
    for status in [403, 429] {
        assert_eq!(
            read_error(&reply(status, test_data!("throttled.json"))),
            throttled
        );
    }
    assert_eq!(read_error(&reply(429, "")), throttled);
    let told = with_header(
        reply(403, test_data!("throttled.json")),
        "Retry-After",
        "30",
    );
    assert_eq!(
        read_error(&told),
        Error::Throttled {
            retry_after: Some(Duration::from_secs(30))
        }
    );
}

#[test]
fn the_two_bodies_of_a_401_mean_different_things() {
    assert_eq!(
        read_error(&reply(401, test_data!("denied.json"))),
        Error::TokenRefused { code: None }
    );
    assert_eq!(
        read_error(&reply(401, test_data!("permission-missing.json"))),
        Error::PermissionMissing
    );
    assert_eq!(
        read_error(&reply(401, "")),
        Error::TokenRefused { code: None }
    );
}

#[test]
fn a_server_that_fails_is_known_without_a_code() {
    for status in [408, 500, 502, 503, 504, 599] {
        let failed = with_header(
            reply(status, test_data!("unavailable.html")),
            "retry-after",
            "5",
        );
        assert_eq!(
            read_error(&failed),
            Error::ServiceFailed {
                status: StatusCode::from_u16(status).unwrap(),
                code: None,
                retry_after: Some(Duration::from_secs(5)),
            }
        );
    }
}

#[test]
fn only_the_request_for_a_blob_learns_about_a_blob_from_a_bare_404() {
    for status in [404, 410] {
        assert_eq!(read_blob_error(&reply(status, "")), Error::BlobMissing);
        assert!(matches!(
            read_error(&reply(status, "")),
            Error::Unexpected { .. }
        ));
    }
    assert_eq!(read_blob_error(&coded(400, "AF20050")), Error::BlobMissing);
    assert_eq!(read_blob_error(&coded(404, "AF20051")), Error::BlobExpired);
    assert!(matches!(
        read_blob_error(&coded(404, "AF20099")),
        Error::Unexpected { .. }
    ));
    assert!(matches!(
        read_blob_error(&reply(403, "")),
        Error::Unexpected { .. }
    ));
}

#[test]
fn a_tenant_without_auditing_is_known_by_its_sentence() {
    let long = "x".repeat(LONGEST_MESSAGE);
    let body = format!(
        r#"{{"error":{{"code":"AF20011","message":"{long} Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 1 does not exist."}}}}"#
    );
    assert_eq!(
        read_error(&reply(400, &body)),
        Error::AuditingOff {
            code: Some(ApiErrorCode::Af20011)
        }
    );
}

#[test]
fn an_unknown_code_is_kept_plain_and_short() {
    let parse = |text| ApiErrorCode::parse(text).to_string();
    assert_eq!(parse("AF20099"), "AF20099");
    assert_eq!(parse("af20051"), "AF20051");
    assert_eq!(parse("<b>\n\u{202e}evil</b>"), "_b___evil__b_");
    assert_eq!(parse("AF2 0051"), "AF2_0051");
    assert_eq!(parse(&"A".repeat(1000)), "A".repeat(32));
    let error = read_error(&coded(418, "AF20099"));
    assert_eq!(error.code(), Some(&ApiErrorCode::Other("AF20099".into())));
    assert_eq!(
        error.to_string(),
        "unexpected reply with status 418 I'm a teapot (AF20099): Some words."
    );
}

#[test]
fn a_body_of_any_other_shape_says_nothing() {
    for body in [
        "",
        "null",
        "[]",
        "\"AF20051\"",
        r#"{"error":"AF20051"}"#,
        r#"{"error":{"code":20051}}"#,
        r#"[{"code":"AF20051"}]"#,
        r#"{"error":{"code":"AF20051""#,
        "{'error':{'code':'AF20051'}}",
    ] {
        assert_eq!(
            read_error(&reply(400, body)),
            Error::Unexpected {
                status: StatusCode::BAD_REQUEST,
                code: None,
                message: String::new()
            },
            "{body}"
        );
    }
}

#[test]
fn a_mark_before_the_body_is_no_part_of_it() {
    let body = format!("\u{feff}{}", test_data!("throttled.json"));
    assert_eq!(
        read_error(&reply(403, &body)),
        Error::Throttled { retry_after: None }
    );
}

#[test]
fn a_message_is_one_short_line() {
    let body = format!(
        r#"{{"error":{{"code":"AF20021","message":"first\r\nsecond\u001b[31m{}"}}}}"#,
        "é".repeat(5000)
    );
    let Error::WebhookRefused { message, .. } = read_error(&reply(400, &body)) else {
        panic!("a refused webhook");
    };
    assert!(message.starts_with("first  second [31m"));
    assert_eq!(message.chars().count(), LONGEST_MESSAGE);
}
