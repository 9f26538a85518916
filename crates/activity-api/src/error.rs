//! What a refusal of Microsoft's means: the one table from statuses and codes to meanings. What to do about it is in `next_step.rs`.

use std::{fmt, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use thiserror::Error;

use crate::{Reply, Untrusted, token::CredentialReason};

macro_rules! api_error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A code of Microsoft's Activity API, kept as it was sent.
        ///
        /// From Microsoft's reference of the Activity API, except where it says otherwise.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ApiErrorCode {
            $($(#[$doc])* $name,)*
            /// Any other one, as [`ApiErrorCode::parse`] keeps it.
            Other(Box<str>),
        }

        impl ApiErrorCode {
            /// All that have a meaning here.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];

            /// The code as Microsoft writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(text) => text,
                }
            }
        }
    };
}

api_error_codes! {
    /// The token lacks the role `ActivityFeed.Read`.
    Af10001 = "AF10001",
    /// A parameter is missing.
    Af20001 = "AF20001",
    /// A parameter has the wrong type.
    Af20002 = "AF20002",
    /// The webhook's expiration is in the past.
    Af20003 = "AF20003",
    /// The tenant in the path is not the token's.
    Af20010 = "AF20010",
    /// The tenant does not exist, was deleted, or never had auditing enabled.
    Af20011 = "AF20011",
    /// The tenant is misconfigured at Microsoft.
    Af20012 = "AF20012",
    /// The tenant in the path is not a GUID.
    Af20013 = "AF20013",
    /// The content type is unknown.
    Af20020 = "AF20020",
    /// The webhook could not be validated.
    Af20021 = "AF20021",
    /// The content type has no subscription.
    Af20022 = "AF20022",
    /// The subscription is disabled.
    Af20023 = "AF20023",
    /// The subscription is enabled already and nothing about it would change. Not documented, seen in captured traffic.
    Af20024 = "AF20024",
    /// The times of a listing break a rule.
    Af20030 = "AF20030",
    /// The token of a next page is bad.
    Af20031 = "AF20031",
    /// The blob does not exist.
    Af20050 = "AF20050",
    /// The blob has expired.
    Af20051 = "AF20051",
    /// The blob's id in the path is invalid.
    Af20052 = "AF20052",
    /// More than one language was asked for.
    Af20053 = "AF20053",
    /// The language asked for cannot be read.
    Af20054 = "AF20054",
    /// The times of a listing break a rule: the younger twin of AF20030.
    Af20055 = "AF20055",
    /// Too many requests. The documented status is 403.
    Af429 = "AF429",
    /// Microsoft failed; try again.
    Af50000 = "AF50000",
    /// Microsoft failed; try again. Not documented, known from other collectors.
    Af50005 = "AF50005",
    /// Microsoft failed; try again. Not documented, known from other collectors.
    Af50006 = "AF50006",
}

/// Longer than any code that was ever seen, short enough for a line of a log.
const LONGEST_CODE: usize = 32;

/// Enough for Microsoft's sentences, short enough for a line of a log.
const LONGEST_MESSAGE: usize = 300;

impl ApiErrorCode {
    /// The code in this text. An unknown one is kept, but with `_` for anything but ASCII letters, digits, `-` and `.`, and at
    /// most 32 characters of it, because it goes into logs and onto the status page. Not without those characters: what is left
    /// could be a known code that Microsoft did not send.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(known) = Self::KNOWN
            .iter()
            .find(|code| code.as_str().eq_ignore_ascii_case(text))
        {
            return known.clone();
        }
        let plain: String = text
            .chars()
            .map(|c| match c {
                '-' | '.' => c,
                c if c.is_ascii_alphanumeric() => c,
                _ => '_',
            })
            .take(LONGEST_CODE)
            .collect();
        Self::Other(plain.into())
    }
}

impl fmt::Display for ApiErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with a request, by its meaning.
///
/// [`Error::next_step`] says what to do; loops look at that and never at the variants or the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Too many requests. Arrives as AF429 with status 403 or 429, or as a bare 429.
    #[error("throttled")]
    Throttled {
        /// How long Microsoft asked to wait, where it did.
        retry_after: Option<Duration>,
    },
    /// The blob is past its time and gone for good (AF20051).
    #[error("the blob has expired")]
    BlobExpired,
    /// There is no such blob (AF20050, or a bare 404 or 410 in answer to the request for a blob).
    #[error("the blob does not exist")]
    BlobMissing,
    /// The blob's id is none (AF20052).
    #[error("the blob's id is invalid")]
    BlobIdInvalid,
    /// The content type is not subscribed to (AF20022).
    #[error("there is no subscription for the content type")]
    SubscriptionMissing,
    /// The subscription was disabled by somebody (AF20023).
    #[error("the subscription is disabled")]
    SubscriptionDisabled,
    /// The window breaks a rule about times (AF20030, AF20055). With windows as they are planned here, the likely cause is this
    /// machine's clock: see [`Reply::date`].
    #[error("the window was refused ({code})")]
    WindowRefused {
        /// Which of the two codes.
        code: ApiErrorCode,
    },
    /// The uri of a next page was not taken back (AF20031).
    #[error("the next page was refused")]
    PageTokenRefused,
    /// The token is missing, too old or for another audience (status 401). The body that says so has no AF code.
    #[error("the token was refused")]
    TokenRefused {
        /// A code that came with it and has no meaning here.
        code: Option<ApiErrorCode>,
    },
    /// The token lacks the permission to read (AF10001).
    #[error("the token lacks the permission to read the activity feed")]
    PermissionMissing,
    /// The tenant cannot be read at all (AF20010, AF20011, AF20012, AF20013).
    #[error("the tenant was refused ({code})")]
    TenantRefused {
        /// Which of them.
        code: ApiErrorCode,
    },
    /// The tenant's unified audit log is off. Microsoft's sentence for it speaks of an exception inside of the service.
    #[error("the tenant has no audit log")]
    AuditingOff {
        /// The code that came with the sentence.
        code: Option<ApiErrorCode>,
    },
    /// Microsoft did not accept the webhook of a subscription (AF20003, AF20021). The subscription stays as it was.
    #[error("the webhook was refused ({code}){}", after_colon(.message))]
    WebhookRefused {
        /// Which of the two.
        code: ApiErrorCode,
        /// Microsoft's sentence, shortened.
        message: String,
    },
    /// A request that should never have been sent (AF20001, AF20002, AF20020, AF20053, AF20054): a defect here, or a rule that changed.
    #[error("the request was refused ({code}){}", after_colon(.message))]
    RequestRefused {
        /// Which of them.
        code: ApiErrorCode,
        /// Microsoft's sentence, shortened.
        message: String,
    },
    /// Microsoft failed (AF50000 and its like, 408, any 5xx).
    #[error("the service failed with status {status}")]
    ServiceFailed {
        /// The reply's status.
        status: StatusCode,
        /// The code that came with it.
        code: Option<ApiErrorCode>,
        /// How long Microsoft asked to wait, where it did.
        retry_after: Option<Duration>,
    },
    /// The sign-in service gave no token, and asking again will not change that.
    #[error("no token was issued{}: {reason}", aadsts_in_brackets(.aadsts))]
    CredentialRefused {
        /// What is wrong and how to mend it.
        reason: CredentialReason,
        /// The number after `AADSTS`, where there was one.
        aadsts: Option<u32>,
    },
    /// The reply was a success, but not what was to be read from it.
    #[error("the reply is not {what}")]
    Malformed {
        /// What it should have been.
        what: &'static str,
    },
    /// The listing goes on at a uri that no token may be sent to.
    #[error("the next page is not at a trusted uri")]
    UntrustedUri(#[source] Untrusted),
    /// A reply that has no meaning here.
    #[error("unexpected reply with status {status}{}{}", code_in_brackets(.code), after_colon(.message))]
    Unexpected {
        /// The reply's status.
        status: StatusCode,
        /// The code that came with it.
        code: Option<ApiErrorCode>,
        /// Microsoft's sentence, shortened; empty where there was none.
        message: String,
    },
}

fn aadsts_in_brackets(number: &Option<u32>) -> String {
    number.map_or_else(String::new, |number| format!(" (AADSTS{number})"))
}

fn code_in_brackets(code: &Option<ApiErrorCode>) -> String {
    code.as_ref()
        .map_or_else(String::new, |code| format!(" ({code})"))
}

fn after_colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

impl Error {
    /// Microsoft's code, where it sent one.
    pub fn code(&self) -> Option<&ApiErrorCode> {
        match self {
            Self::BlobExpired => Some(&ApiErrorCode::Af20051),
            Self::BlobIdInvalid => Some(&ApiErrorCode::Af20052),
            Self::SubscriptionMissing => Some(&ApiErrorCode::Af20022),
            Self::SubscriptionDisabled => Some(&ApiErrorCode::Af20023),
            Self::PageTokenRefused => Some(&ApiErrorCode::Af20031),
            Self::PermissionMissing => Some(&ApiErrorCode::Af10001),
            Self::WindowRefused { code }
            | Self::TenantRefused { code }
            | Self::WebhookRefused { code, .. }
            | Self::RequestRefused { code, .. } => Some(code),
            Self::TokenRefused { code }
            | Self::AuditingOff { code }
            | Self::ServiceFailed { code, .. }
            | Self::Unexpected { code, .. } => code.as_ref(),
            // These two may have come without their code.
            Self::Throttled { .. } | Self::BlobMissing => None,
            Self::CredentialRefused { .. } | Self::Malformed { .. } | Self::UntrustedUri(_) => None,
        }
    }
}

/// What a reply that is no success means.
///
/// The code decides before the status does, because AF429 comes with 403 and several codes come with statuses that are not documented.
pub fn read_error(reply: &Reply) -> Error {
    let said = read_envelope(&reply.body);
    let code = said.code.as_deref().map(ApiErrorCode::parse);
    let message = said.message.as_deref().unwrap_or_default();
    let status = reply.status;
    let retry_after = reply.retry_after();

    if is_auditing_off(message) {
        return Error::AuditingOff { code };
    }
    let message = plain_message(message);
    if let Some(code) = &code
        && let Some(error) = meaning_of_code(code, status, &message, retry_after)
    {
        return error;
    }
    match status {
        StatusCode::UNAUTHORIZED => Error::TokenRefused { code },
        StatusCode::TOO_MANY_REQUESTS => Error::Throttled { retry_after },
        StatusCode::REQUEST_TIMEOUT => Error::ServiceFailed {
            status,
            code,
            retry_after,
        },
        _ if status.is_server_error() => Error::ServiceFailed {
            status,
            code,
            retry_after,
        },
        _ => Error::Unexpected {
            status,
            code,
            message,
        },
    }
}

/// What a reply to the request for a blob means when it is no success.
///
/// Only here does a bare 404 or 410 say something about a blob; in answer to any other request it says that the path is wrong.
pub fn read_blob_error(reply: &Reply) -> Error {
    match read_error(reply) {
        Error::Unexpected {
            status: StatusCode::NOT_FOUND | StatusCode::GONE,
            code: None,
            ..
        } => Error::BlobMissing,
        error => error,
    }
}

fn meaning_of_code(
    code: &ApiErrorCode,
    status: StatusCode,
    message: &str,
    retry_after: Option<Duration>,
) -> Option<Error> {
    use ApiErrorCode::*;
    let error = match code {
        Af10001 => Error::PermissionMissing,
        Af20001 | Af20002 | Af20020 | Af20053 | Af20054 => Error::RequestRefused {
            code: code.clone(),
            message: message.into(),
        },
        Af20003 | Af20021 => Error::WebhookRefused {
            code: code.clone(),
            message: message.into(),
        },
        Af20010 | Af20011 | Af20012 | Af20013 => Error::TenantRefused { code: code.clone() },
        Af20022 => Error::SubscriptionMissing,
        Af20023 => Error::SubscriptionDisabled,
        Af20030 | Af20055 => Error::WindowRefused { code: code.clone() },
        Af20031 => Error::PageTokenRefused,
        Af20050 => Error::BlobMissing,
        Af20051 => Error::BlobExpired,
        Af20052 => Error::BlobIdInvalid,
        Af429 => Error::Throttled { retry_after },
        Af50000 | Af50005 | Af50006 => Error::ServiceFailed {
            status,
            code: Some(code.clone()),
            retry_after,
        },
        // Success to whoever starts a subscription, which is known only there: `read_start`.
        Af20024 => return None,
        Other(_) => return None,
    };
    Some(error)
}

/// By Microsoft's troubleshooting page: what stands in the message while the unified audit log is off.
fn is_auditing_off(message: &str) -> bool {
    message.contains("DataServiceException") && message.contains("does not exist")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    error: Said,
    /// The body of a 401 that has no code: `{"Message": "…"}`.
    #[serde(rename = "Message")]
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

/// What the body says, or nothing where it is HTML, empty, or of another shape.
pub(crate) fn read_envelope(body: &[u8]) -> Said {
    let body = without_bom(body);
    // Serde reads a struct from an array too, and a listing is one.
    if !is_json_object(body) {
        return Said::default();
    }
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    Said {
        code: envelope.error.code,
        message: envelope.error.message.or(envelope.message),
    }
}

/// Whether a body, if it is JSON at all, is an object.
pub(crate) fn is_json_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// The body without the mark that some of Microsoft's services put before UTF-8, and that is no JSON.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// One line of plain text, shortened.
pub(crate) fn plain_message(text: &str) -> String {
    let plain = without_controls(text);
    let plain: String = plain.chars().take(LONGEST_MESSAGE).collect();
    plain.trim().to_owned()
}

/// With a space in place of whatever moves a terminal's cursor.
pub(crate) fn without_controls(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
