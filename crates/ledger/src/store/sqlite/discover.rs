//! Blobs that discovery found.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::DAY;
use crate::{BlobName, SeenBlob, SeenVia};

use super::address::fold;
use super::books::Books;
use super::failure::{Failure, stored};

pub(super) fn note_new(
    books: &mut Books,
    seen: &[SeenBlob],
    now: Timestamp,
) -> Result<Vec<BlobName>, Failure> {
    let mut new = Vec::new();
    let streams = seen
        .iter()
        .map(|blob| books.stream(blob.tenant, blob.content_type))
        .collect::<Result<Vec<_>, _>>()?;
    let mut insert = books.statement(
        "INSERT INTO blob (stream, content_id, uri, seen_via, created_at, expires_at, seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (stream, content_id) DO NOTHING",
    )?;
    for (blob, stream) in seen.iter().zip(streams) {
        let via = match blob.seen_via {
            SeenVia::Listing => 0,
            SeenVia::Notification => 1,
        };
        if blob.expires_at <= now && is_forgotten(books, stream, blob)? {
            continue;
        }
        let uri = fold(&blob.uri, blob.tenant, &blob.content_id);
        let inserted = insert.execute(params![
            stream,
            blob.content_id.as_str(),
            uri,
            via,
            stored(blob.created_at),
            stored(blob.expires_at),
            stored(now)
        ])?;
        if inserted > 0 {
            new.push(blob.name());
        } else if blob.seen_via == SeenVia::Listing {
            books
                .statement(
                    "UPDATE blob SET uri = ?3, seen_via = 0, created_at = ?4, expires_at = ?5
                     WHERE stream = ?1 AND content_id = ?2 AND state < 3 AND seen_via = 1",
                )?
                .execute(params![
                    stream,
                    blob.content_id.as_str(),
                    uri,
                    stored(blob.created_at),
                    stored(blob.expires_at)
                ])?;
        }
    }
    Ok(new)
}

/// Whether an expired blob is to be taken for one that was delivered and forgotten: its day has forgotten blobs, and
/// its time was listed. Noted as new it would only be asked for, found gone, and be counted as lost.
///
/// One of a time that was never listed is noted all the same: nothing says that it was ever had.
fn is_forgotten(books: &Books, stream: i64, blob: &SeenBlob) -> Result<bool, Failure> {
    let created_at = stored(blob.created_at);
    let found = books
        .statement(
            "SELECT 1 FROM forgotten_day WHERE stream = ?1 AND start_at = ?2
               AND EXISTS (SELECT 1 FROM listed WHERE stream = ?1 AND start_at <= ?3 AND end_at > ?3)
               AND NOT EXISTS (SELECT 1 FROM blob WHERE stream = ?1 AND content_id = ?4)",
        )?
        .query_row(
            params![
                stream,
                created_at.div_euclid(DAY) * DAY,
                created_at,
                blob.content_id.as_str()
            ],
            |row| row.get::<_, i64>(0),
        )
        .optional()?;
    Ok(found.is_some())
}

pub(super) fn unknown(
    connection: &Connection,
    names: Vec<BlobName>,
) -> Result<Vec<BlobName>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM blob JOIN stream ON stream.id = blob.stream
         WHERE tenant = ?1 AND content_type = ?2 AND content_id = ?3",
    )?;
    let mut unknown = Vec::new();
    for name in names {
        let is_known = statement.exists(params![
            name.tenant.to_string(),
            name.content_type.as_str(),
            name.content_id.as_str()
        ])?;
        if !is_known {
            unknown.push(name);
        }
    }
    Ok(unknown)
}
