//! From SQLite's error codes to what they mean for the caller, and from stored integers to values.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::ErrorCode;
use rusqlite::types::FromSqlError;

use crate::Error;
pub(super) use crate::store::stored;

/// What goes wrong inside an operation. Apart from [`Error`] so that SQLite's own type stays out of the crate's
/// interface while `?` works on it here.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(rusqlite::Error),
    Ledger(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<FromSqlError> for Failure {
    fn from(error: FromSqlError) -> Self {
        corrupt("a stored value", error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ledger(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) => meaning(error, "an operation"),
            Failure::Ledger(error) => error,
        }
    }
}

/// What an error of SQLite means, `what` being what was tried.
pub(super) fn meaning(error: rusqlite::Error, what: &'static str) -> Error {
    let code = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => {
            return Error::Corrupt {
                what: "a stored value",
                source: Arc::new(error),
            };
        }
        _ => None,
    };
    match code {
        Some(ErrorCode::DiskFull) => Error::Full(Arc::new(error)),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(Arc::new(error)),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt {
            what: "the database",
            source: Arc::new(error),
        },
        _ => Error::Unavailable {
            what,
            source: Arc::new(error),
        },
    }
}

/// An error for a stored value that nothing of ours would have stored.
pub(super) fn corrupt(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Failure {
    Failure::Ledger(Error::Corrupt {
        what,
        source: Arc::new(source),
    })
}

/// A stored instant.
pub(super) fn instant(stored: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(stored).map_err(|error| corrupt("a stored time", error))
}

/// A count as it is stored. SQLite's integers end at 2^63 - 1, which no count of ours comes near.
pub(super) fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A stored count.
pub(super) fn count(stored: i64) -> Result<u64, Failure> {
    u64::try_from(stored).map_err(|error| corrupt("a stored count", error))
}
