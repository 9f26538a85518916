//! From PostgreSQL's codes to what they mean for the caller, and from stored values to ours.

use std::fmt;
use std::sync::Arc;

use activity_api::ContentId;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Error as SqlError, Row};

use crate::Error;

use super::address::PostgresServer;

/// What goes wrong inside an operation.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(SqlError),
    Ledger(Error),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ledger(error)
    }
}

/// What is to be done about a failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It was taken back for another's sake, and may be done again at once.
    Again,
    /// The connection is as good as before.
    Keep,
    /// The connection is not to be used again.
    Drop,
    /// Nor is any other: the server takes no writes, so it is not the one that it was.
    DropAll,
}

pub(super) fn next(error: &SqlError) -> Next {
    let Some(code) = error.code() else {
        return Next::Drop;
    };
    if is_one_of(
        code,
        &[
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::T_R_SERIALIZATION_FAILURE,
        ],
    ) {
        return Next::Again;
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Next::DropAll;
    }
    match class(code) {
        // The connection, resources, an operator's hand, the system, the server itself.
        "08" | "53" | "57" | "58" | "XX" => Next::Drop,
        _ => Next::Keep,
    }
}

/// What an error means, `what` being what was tried.
pub(super) fn meaning(error: &SqlError, what: &'static str) -> Error {
    meaning_of(error, what, Said::of(error))
}

/// The same of an error at the way in, with the name of what was to be reached.
pub(super) fn meaning_at(error: &SqlError, what: &'static str, server: &PostgresServer) -> Error {
    let Said(said) = Said::of(error);
    meaning_of(error, what, Said(format!("{server}: {said}")))
}

fn meaning_of(error: &SqlError, what: &'static str, said: Said) -> Error {
    let source: crate::Source = Arc::new(said);
    let Some(code) = error.code() else {
        return Error::Unavailable { what, source };
    };
    if *code == SqlState::DISK_FULL {
        return Error::Full(source);
    }
    if is_one_of(
        code,
        &[
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::LOCK_NOT_AVAILABLE,
            &SqlState::QUERY_CANCELED,
        ],
    ) {
        return Error::Busy(source);
    }
    if is_one_of(
        code,
        &[&SqlState::DATA_CORRUPTED, &SqlState::INDEX_CORRUPTED],
    ) {
        return Error::Corrupt {
            what: "the database",
            source,
        };
    }
    Error::Unavailable { what, source }
}

fn is_one_of(code: &SqlState, codes: &[&SqlState]) -> bool {
    codes.contains(&code)
}

fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

impl Failure {
    /// What the caller is told.
    pub(super) fn meaning(self) -> Error {
        match self {
            Self::Sql(error) => meaning(&error, "an operation"),
            Self::Ledger(error) => error,
        }
    }
}

/// What the server, or the way to it, said: in one line, without the values that it was about. The library's own text
/// says only that there was an error, and the server's details quote rows.
#[derive(Debug)]
struct Said(String);

impl Said {
    fn of(error: &SqlError) -> Self {
        if let Some(said) = error.as_db_error() {
            let code = said.code();
            return Self(match (class(code), code.code()) {
                ("28", "28P01") => {
                    "the server knows no such user, or not with this password (28P01)".to_owned()
                }
                // The server's words name the user and the address that we come from.
                ("28", code) => format!(
                    "the server does not let this user in from this machine in this way ({code}); its pg_hba.conf says who \
                     may come, and whether TLS is wanted"
                ),
                ("42", "42501") => {
                    "the user may not do this in the database, or in the schema o365_collector (42501)".to_owned()
                }
                (_, code) => format!("PostgreSQL says: {} ({code})", one_line(said.message())),
            });
        }
        // The innermost cause says most: a refused connection, a certificate that is not trusted.
        let mut cause: &dyn std::error::Error = error;
        let mut text = cause.to_string();
        while let Some(source) = cause.source() {
            cause = source;
            text = format!("{text}: {cause}");
        }
        Self(one_line(&text))
    }
}

fn one_line(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ")
}

impl fmt::Display for Said {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// Something that took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0} seconds")]
pub(super) struct TookTooLong(pub(super) u64);

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

/// A row that is not there, where one must be.
#[derive(Debug, thiserror::Error)]
#[error("a row is missing")]
pub(super) struct NoSuchRow;

/// A column's value.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Failure> {
    row.try_get(column)
        .map_err(|error| corrupt("a stored value", error))
}

/// A column's text, which is stored as bytes.
pub(super) fn text(row: &Row, column: usize) -> Result<String, Failure> {
    String::from_utf8(get(row, column)?).map_err(|error| corrupt("a stored text", error))
}

/// The same, where there may be none.
pub(super) fn optional_text(row: &Row, column: usize) -> Result<Option<String>, Failure> {
    let bytes: Option<Vec<u8>> = get(row, column)?;
    bytes
        .map(|bytes| String::from_utf8(bytes).map_err(|error| corrupt("a stored text", error)))
        .transpose()
}

/// A column's content id.
pub(super) fn content_id(row: &Row, column: usize) -> Result<ContentId, Failure> {
    Ok(ContentId::canonical(&text(row, column)?))
}

/// A column's count.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, Failure> {
    to_count(get(row, column)?)
}

/// A stored count.
pub(super) fn to_count(stored: i64) -> Result<u64, Failure> {
    u64::try_from(stored).map_err(|error| corrupt("a stored count", error))
}

/// A count as it is stored. Its integers end at 2^63 - 1, which no count of ours comes near.
pub(super) fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A column's instant.
pub(super) fn instant(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    to_instant(get(row, column)?)
}

/// A stored instant.
pub(super) fn to_instant(stored: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(stored).map_err(|error| corrupt("a stored time", error))
}
