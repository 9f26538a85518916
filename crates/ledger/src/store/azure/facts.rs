//! Small facts, and where sinks stand.

use std::sync::Arc;

use azure::storage::entity::Entity;

use crate::{Error, SinkName};

use super::books::Books;
use super::names::{FACTS, escaped, hash};
use super::rows::{MAX_TEXT, set_text, text};

/// A key of a row has at most 512 letters that every service takes. A longer name is kept under its hash.
const LONGEST_ROW: usize = 400;

pub(super) async fn remember(books: &Books, key: &str, value: &str) -> Result<(), Error> {
    put(books, &row("f", key), key, value).await
}

pub(super) async fn recall(books: &Books, key: &str) -> Result<Option<String>, Error> {
    get(books, &row("f", key)).await
}

pub(super) async fn set_position(
    books: &Books,
    sink: &SinkName,
    position: &str,
) -> Result<(), Error> {
    put(books, &row("p", sink.as_str()), sink.as_str(), position).await
}

pub(super) async fn position(books: &Books, sink: &SinkName) -> Result<Option<String>, Error> {
    get(books, &row("p", sink.as_str())).await
}

async fn put(books: &Books, row: &str, name: &str, value: &str) -> Result<(), Error> {
    if value.len() > MAX_TEXT {
        return Err(Error::Unavailable {
            what: "keeping a fact",
            source: Arc::new(TooLong),
        });
    }
    let mut entity = Entity::new(FACTS, row);
    set_text(&mut entity, "Name", name);
    set_text(&mut entity, "Value", value);
    books.put(entity).await
}

async fn get(books: &Books, row: &str) -> Result<Option<String>, Error> {
    let row = books.door.get(FACTS, row).await?;
    Ok(row.and_then(|row| text(&row.entity, "Value")))
}

#[derive(Debug, thiserror::Error)]
#[error("it is longer than {MAX_TEXT} bytes, which is all that a row holds")]
struct TooLong;

fn row(kind: &str, name: &str) -> String {
    let escaped = escaped(name);
    if escaped.len() > LONGEST_ROW {
        format!("{kind}-!{:032x}", hash(&[name.as_bytes()]))
    } else {
        format!("{kind}-{escaped}")
    }
}
