//! Blobs that discovery found.

use jiff::Timestamp;
use rusqlite::params;

use crate::{SeenBlob, SeenVia};

use super::books::Books;
use super::failure::{Failure, stored};

pub(super) fn note_seen(
    books: &mut Books,
    seen: &[SeenBlob],
    now: Timestamp,
) -> Result<u64, Failure> {
    let mut new_count = 0;
    for blob in seen {
        let stream = books.stream(blob.tenant, blob.content_type)?;
        let via = match blob.seen_via {
            SeenVia::Listing => 0,
            SeenVia::Notification => 1,
        };
        let inserted = books
            .statement(
                "INSERT INTO blob (stream, content_id, uri, seen_via, created_at, expires_at, seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (stream, content_id) DO NOTHING",
            )?
            .execute(params![
                stream,
                blob.content_id.as_str(),
                blob.uri,
                via,
                stored(blob.created_at),
                stored(blob.expires_at),
                stored(now)
            ])?;
        if inserted > 0 {
            new_count += 1;
        } else if blob.seen_via == SeenVia::Listing {
            books
                .statement(
                    "UPDATE blob SET uri = ?3, seen_via = 0, created_at = ?4, expires_at = ?5
                     WHERE stream = ?1 AND content_id = ?2 AND state < 3 AND seen_via = 1",
                )?
                .execute(params![
                    stream,
                    blob.content_id.as_str(),
                    blob.uri,
                    stored(blob.created_at),
                    stored(blob.expires_at)
                ])?;
        }
    }
    Ok(new_count)
}
