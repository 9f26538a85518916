//! Tables: entities read, written under a condition, and found by a filter.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, header};
use serde::Deserialize;
use serde_json::json;

use super::Service;
use super::authorize::{Draft, escape};
use super::entity::{Entity, Stored};
use super::error::{Error, check};

pub(super) const JSON: &str = "application/json";
/// With the types of the values and with etags, without the addresses of everything.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json;odata=minimalmetadata");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const NO_CONTENT: HeaderValue = HeaderValue::from_static("return-no-content");

fn draft(method: Method, path: String) -> Draft {
    Draft::new(Service::Tables, method, path).header(header::ACCEPT, ACCEPT)
}

/// The address of one row, without the account's.
pub(super) fn row_path(table: &str, partition: &str, row: &str) -> String {
    // A quote within is doubled, by OData's rules, and then escaped like the rest.
    let quoted = |text: &str| escape(&text.replace('\'', "''"));
    format!(
        "/{table}(PartitionKey='{}',RowKey='{}')",
        quoted(partition),
        quoted(row)
    )
}

/// Creates a table: [`Error::AlreadyExists`] where it is there.
#[must_use]
pub fn create(table: &str) -> Draft {
    let body = json!({ "TableName": table }).to_string();
    draft(Method::POST, "/Tables".into())
        .header(PREFER, NO_CONTENT)
        .body(JSON, body)
}

/// Reads one row.
#[must_use]
pub fn get(table: &str, partition: &str, row: &str) -> Draft {
    draft(Method::GET, row_path(table, partition, row))
}

/// Which rows, and from where on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// An OData filter.
    pub filter: String,
    /// At most 1,000.
    pub max_count: usize,
    /// Names of properties, with commas; empty for all of them.
    pub select: &'static str,
    /// Where an earlier page said that the next begins.
    pub continuation: Option<Continuation>,
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    partition: String,
    row: Option<String>,
}

/// The most rows that one reply holds.
pub const MAX_PAGE: usize = 1_000;

/// Finds rows, in the order of their keys.
#[must_use]
pub fn query(table: &str, query: &Query) -> Draft {
    let mut draft = draft(Method::GET, format!("/{table}()"))
        .query("$filter", query.filter.clone())
        .query("$top", query.max_count.clamp(1, MAX_PAGE).to_string());
    if !query.select.is_empty() {
        draft = draft.query("$select", query.select);
    }
    if let Some(continuation) = &query.continuation {
        draft = draft.query("NextPartitionKey", continuation.partition.clone());
        if let Some(row) = &continuation.row {
            draft = draft.query("NextRowKey", row.clone());
        }
    }
    draft
}

/// A text within a filter.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// One change to a row, alone or in a [`batch`](super::batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a row: [`Error::AlreadyExists`] where it is there.
    Insert(Entity),
    /// Puts it in the place of the row with that etag: [`Error::Changed`] where it has another,
    /// [`Error::NotFound`] where it is gone.
    Replace {
        /// The new state.
        entity: Entity,
        /// The old one's name; `*` for any.
        etag: String,
    },
    /// Puts it there, whatever is there.
    Put(Entity),
    /// Takes the row away, under the same condition as `Replace`.
    Delete {
        /// Its partition.
        partition: String,
        /// Its name within.
        row: String,
        /// Its state's name; `*` for any.
        etag: String,
    },
}

impl Change {
    /// Method, address, condition and body.
    pub(super) fn parts(&self, table: &str) -> (Method, String, Option<&str>, Option<Vec<u8>>) {
        let of = |entity: &Entity| row_path(table, &entity.partition, &entity.row);
        match self {
            Self::Insert(entity) => (
                Method::POST,
                format!("/{table}"),
                None,
                Some(entity.to_json()),
            ),
            Self::Replace { entity, etag } => {
                (Method::PUT, of(entity), Some(etag), Some(entity.to_json()))
            }
            Self::Put(entity) => (Method::PUT, of(entity), None, Some(entity.to_json())),
            Self::Delete {
                partition,
                row,
                etag,
            } => (
                Method::DELETE,
                row_path(table, partition, row),
                Some(etag),
                None,
            ),
        }
    }

    /// About how many bytes it takes in a request.
    #[must_use]
    pub fn size(&self) -> usize {
        let entity = match self {
            Self::Insert(entity) | Self::Put(entity) | Self::Replace { entity, .. } => entity,
            Self::Delete { .. } => return 1_000,
        };
        1_000 + entity.to_json().len()
    }
}

/// Makes one change. The reply is read with [`read_written`].
#[must_use]
pub fn change(table: &str, change: &Change) -> Draft {
    let (method, path, etag, body) = change.parts(table);
    let mut draft = draft(method, path);
    if let Some(etag) = etag {
        let value = HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("invalid"));
        draft = draft.header(header::IF_MATCH, value);
    }
    if let Some(body) = body {
        draft = draft.header(PREFER, NO_CONTENT).body(JSON, body);
    }
    draft
}

/// The new etag, where there is one.
///
/// # Errors
/// What the reply means instead.
pub fn read_written(reply: &Response<Bytes>) -> Result<Option<String>, Error> {
    check(reply)?;
    Ok(reply
        .headers()
        .get(header::ETAG)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned))
}

/// One row; [`None`] where there is none. A missing table is [`Error::NoTable`].
///
/// # Errors
/// What the reply means instead.
pub fn read_entity(reply: &Response<Bytes>) -> Result<Option<Stored>, Error> {
    match check(reply) {
        Ok(()) => {}
        Err(Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    }
    let json = serde_json::from_slice(reply.body()).map_err(|_| Error::Malformed {
        what: "an entity is no JSON",
    })?;
    Stored::from_json(json).map(Some)
}

/// Rows, and where the next page begins if there is one. A page may be empty and still have a next one.
///
/// # Errors
/// What the reply means instead.
pub fn read_page(reply: &Response<Bytes>) -> Result<(Vec<Stored>, Option<Continuation>), Error> {
    #[derive(Deserialize)]
    struct Page {
        value: Vec<serde_json::Value>,
    }
    check(reply)?;
    let page: Page = serde_json::from_slice(reply.body()).map_err(|_| Error::Malformed {
        what: "a page of entities is no JSON",
    })?;
    let rows = page
        .value
        .into_iter()
        .map(Stored::from_json)
        .collect::<Result<Vec<_>, _>>()?;
    let next = |name: &str| {
        reply
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let continuation = next("x-ms-continuation-NextPartitionKey").map(|partition| Continuation {
        partition,
        row: next("x-ms-continuation-NextRowKey"),
    });
    Ok((rows, continuation))
}

/// Whether a table was created or is there already.
///
/// # Errors
/// What the reply means instead.
pub fn read_created(reply: &Response<Bytes>) -> Result<(), Error> {
    match check(reply) {
        Err(Error::AlreadyExists) => Ok(()),
        other => other,
    }
}
