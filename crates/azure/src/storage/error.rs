//! What a reply of storage means when it is not what was asked for.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;

/// What went wrong, by what it means for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is there already.
    #[error("it exists already")]
    AlreadyExists,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Changed,
    /// It is not there.
    #[error("it does not exist")]
    NotFound,
    /// The table is not there.
    #[error("the table does not exist")]
    NoTable,
    /// The queue is not there.
    #[error("the queue does not exist")]
    NoQueue,
    /// The container is not there.
    #[error("the container does not exist")]
    NoContainer,
    /// It may go well when it is tried again. Whether it was done is not known.
    #[error("storage is busy or failed (HTTP {status}, {code})")]
    Busy {
        /// The reply's status.
        status: u16,
        /// Storage's word for it.
        code: Code,
    },
    /// The credential is refused.
    #[error(
        "storage refuses the credential (HTTP {status}, {code}): check the account's key, or the role of the managed identity and the account's firewall"
    )]
    NotAuthorized {
        /// The reply's status.
        status: u16,
        /// Storage's word for it.
        code: Code,
    },
    /// It is more than storage takes.
    #[error("it is too large for storage ({code})")]
    TooLarge {
        /// Storage's word for it.
        code: Code,
    },
    /// Anything else that is refused.
    #[error("storage refuses the request (HTTP {status}, {code})")]
    Refused {
        /// The reply's status.
        status: u16,
        /// Storage's word for it.
        code: Code,
    },
    /// The reply is not what storage says.
    #[error("the reply of storage cannot be read: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Error {
    /// Whether it is the token that is refused, and not what its owner may do: then another token may be taken. The
    /// service says 401 of one that has ended; its emulator says 403, with the word that the service has for a bad
    /// signature.
    #[must_use]
    pub fn refuses_token(&self) -> bool {
        match self {
            Self::NotAuthorized { status, code } => {
                *status == 401 || code.0 == "AuthenticationFailed"
            }
            _ => false,
        }
    }
}

/// Storage's word for an error, such as `EntityAlreadyExists`: nothing but letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Code(String);

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_empty() {
            "no code"
        } else {
            &self.0
        })
    }
}

/// Longer than any code there is.
const LONGEST_CODE: usize = 64;

impl Code {
    pub(super) fn read(text: &str) -> Self {
        let is_code = text.len() <= LONGEST_CODE && text.bytes().all(|b| b.is_ascii_alphanumeric());
        Self(if is_code { text.into() } else { String::new() })
    }
}

/// Success, or what the reply means instead.
pub(super) fn check(reply: &Response<Bytes>) -> Result<(), Error> {
    if reply.status().is_success() {
        return Ok(());
    }
    let code = reply
        .headers()
        .get("x-ms-error-code")
        .and_then(|value| value.to_str().ok())
        .map(Code::read)
        .filter(|code| !code.0.is_empty())
        .unwrap_or_else(|| code_in(reply.body()));
    Err(meaning(reply.status(), code))
}

/// The one table from statuses and codes to meanings.
pub(super) fn meaning(status: StatusCode, code: Code) -> Error {
    let number = status.as_u16();
    match (number, code.0.as_str()) {
        (_, "EntityAlreadyExists" | "TableAlreadyExists" | "QueueAlreadyExists") => {
            Error::AlreadyExists
        }
        (_, "ContainerAlreadyExists" | "BlobAlreadyExists") => Error::AlreadyExists,
        (_, "UpdateConditionNotSatisfied" | "ConditionNotMet") => Error::Changed,
        (_, "TableNotFound") => Error::NoTable,
        (_, "QueueNotFound") => Error::NoQueue,
        (_, "ContainerNotFound") => Error::NoContainer,
        (_, "ServerBusy" | "OperationTimedOut" | "InternalError" | "TableBeingDeleted") => {
            Error::Busy {
                status: number,
                code,
            }
        }
        (_, "QueueBeingDeleted" | "ContainerBeingDeleted") => Error::Busy {
            status: number,
            code,
        },
        (
            _,
            "EntityTooLarge"
            | "RequestBodyTooLarge"
            | "PropertyValueTooLarge"
            | "MessageTooLarge"
            | "ContentLengthExceedsLimit",
        ) => Error::TooLarge { code },
        (401 | 403, _) => Error::NotAuthorized {
            status: number,
            code,
        },
        (404, _) => Error::NotFound,
        (412, _) => Error::Changed,
        (413, _) => Error::TooLarge { code },
        (408 | 429 | 500..=599, _) => Error::Busy {
            status: number,
            code,
        },
        _ => Error::Refused {
            status: number,
            code,
        },
    }
}

#[derive(Deserialize)]
struct TableFailure {
    #[serde(rename = "odata.error")]
    error: TableFailureError,
}

#[derive(Deserialize)]
struct TableFailureError {
    #[serde(default)]
    code: String,
}

/// The code in a body: tables answer in JSON, queues and blobs in XML.
pub(super) fn code_in(body: &[u8]) -> Code {
    if let Ok(failure) = serde_json::from_slice::<TableFailure>(body) {
        return Code::read(&failure.error.code);
    }
    let text = String::from_utf8_lossy(body);
    // `<Code>` for queues and blobs, `<code>` or `<m:code>` for tables where the reply is not JSON after all.
    for (open, close) in [("<Code>", "</Code>"), ("code>", "</")] {
        if let Some((_, rest)) = text.split_once(open)
            && let Some((code, _)) = rest.split_once(close)
        {
            return Code::read(code);
        }
    }
    Code::default()
}
