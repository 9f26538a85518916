//! A reply that is no success: what it means must be decided for any status, any headers and any body, and a verdict that
//! loses something needs Microsoft's word for it.

use std::collections::HashMap;
use std::time::Duration;

use activity_api::{
    ApiErrorCode, Error, NextStep, Reply, read_blob_error, read_dlp_sensitive_types, read_error,
    read_start, read_stop, read_subscriptions, read_token,
};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;

use super::{check_text, read_reply, whole_text, without_bom};

/// Tries a reply, written as [`read_reply`] reads it.
pub fn error_reply(input: &[u8]) {
    let reply = read_reply(input);
    let said = Said::read(&reply);
    let error = read_error(&reply);
    check(&error);
    check_verdict(&error, &said);

    let of_a_blob = read_blob_error(&reply);
    check(&of_a_blob);
    let is_gone = matches!(reply.status, StatusCode::NOT_FOUND | StatusCode::GONE);
    if of_a_blob != error {
        assert!(is_gone, "{error} became {of_a_blob}");
        assert_eq!(of_a_blob, Error::BlobMissing);
    }

    for error in [
        read_start(&reply).err(),
        read_stop(&reply).err(),
        read_subscriptions(&reply).err(),
        read_dlp_sensitive_types(&reply).err(),
    ]
    .into_iter()
    .flatten()
    {
        check(&error);
        if !reply.status.is_success() {
            check_verdict(&error, &said);
        }
    }

    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56);
    match read_token(&reply, now) {
        Ok(token) => {
            assert!(reply.status.is_success());
            let lifetime = token.expires_at().duration_since(now);
            assert!(lifetime > SignedDuration::ZERO && lifetime <= SignedDuration::from_hours(24));
            assert!(token.authorization().is_sensitive());
        }
        Err(error) => check(&error),
    }
}

/// There is a next step, it waits for no longer than an hour by Microsoft's word, and the text is fit for a log.
fn check(error: &Error) {
    check_text(&whole_text(error));
    if let Some(code) = error.code() {
        assert!(code.as_str().len() <= 32, "{code}");
        assert_eq!(&ApiErrorCode::parse(code.as_str()), code);
    }
    match error.next_step() {
        NextStep::RetryAfter(wait) => {
            assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(3_600)));
        }
        NextStep::StopTenant(reason) => check_text(&reason.to_string()),
        NextStep::GiveUpOnBlob(reason) => check_text(&reason.to_string()),
        NextStep::Reauthenticate
        | NextStep::StartSubscription
        | NextStep::GoWithoutWebhook
        | NextStep::ListWindowAgain => {}
    }
}

/// Nothing is given up but for a code that says so. An error page, a proxy's reply, a cut-off body: tried again.
fn check_verdict(error: &Error, said: &Said) {
    use ApiErrorCode::*;
    let allowed: &[ApiErrorCode] = match error.next_step() {
        NextStep::GiveUpOnBlob(_) => &[Af20050, Af20051, Af20052],
        NextStep::StartSubscription => &[Af20022, Af20023],
        NextStep::ListWindowAgain => &[Af20030, Af20031, Af20055],
        NextStep::GoWithoutWebhook => &[Af20003, Af20021],
        NextStep::StopTenant(_) if said.speaks_of_auditing => return,
        NextStep::StopTenant(_) => &[Af10001, Af20010, Af20011, Af20012, Af20013],
        NextStep::RetryAfter(_) | NextStep::Reauthenticate => return,
    };
    assert!(
        said.code
            .as_ref()
            .is_some_and(|code| allowed.contains(code)),
        "{error} for {:?}",
        said.code
    );
}

/// What another reading finds in the body.
struct Said {
    code: Option<ApiErrorCode>,
    speaks_of_auditing: bool,
}

impl Said {
    /// Member by member, and without a look at what is in the others: they need not be text that a library takes.
    fn read(reply: &Reply) -> Self {
        let body = String::from_utf8_lossy(without_bom(&reply.body));
        let error = member(&body, "error").unwrap_or_default();
        let message = [member(error, "message"), member(&body, "Message")];
        Self {
            code: member(error, "code")
                .and_then(text)
                .map(|code| ApiErrorCode::parse(&code)),
            speaks_of_auditing: message
                .into_iter()
                .filter_map(|message| message.and_then(text))
                .any(|message| message.contains("DataServiceException")),
        }
    }
}

fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let members: HashMap<String, &'a RawValue> = serde_json::from_str(object).ok()?;
    members.get(name).map(|value| value.get())
}

fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}
