//! Which windows were listed, and the stretches that they make, merged where they touch.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{ListedStretch, Listing};

use super::books::Books;
use super::failure::{Failure, instant, stored, stored_count};

pub(super) fn begin_listing(
    books: &mut Books,
    tenant: TenantId,
    content_type: ContentType,
    from: Timestamp,
) -> Result<Timestamp, Failure> {
    let stream = books.stream(tenant, content_type)?;
    books
        .statement("UPDATE stream SET began_at = ?2 WHERE id = ?1 AND began_at IS NULL")?
        .execute(params![stream, stored(from)])?;
    let began_at = books
        .statement("SELECT began_at FROM stream WHERE id = ?1")?
        .query_row([stream], |row| row.get(0))?;
    instant(began_at)
}

pub(super) fn note_listed(
    books: &mut Books,
    listing: &Listing,
    now: Timestamp,
) -> Result<(), Failure> {
    let stream = books.stream(listing.tenant, listing.content_type)?;
    let (start, end) = (stored(listing.window.start()), stored(listing.window.end()));
    note_window(books, stream, listing, stored(now))?;
    extend_stretch(books, stream, start, end)
}

/// Keeps the window in the place of those that lie within it.
fn note_window(books: &Books, stream: i64, listing: &Listing, now: i64) -> Result<(), Failure> {
    let (start, end) = (stored(listing.window.start()), stored(listing.window.end()));
    let (mut listing_count, mut first_listed_at, mut last_listed_at) = (1, now, now);
    {
        let mut statement = books.statement(
            "SELECT start_at, end_at, listing_count, first_listed_at, last_listed_at FROM listed_window
             WHERE stream = ?1 AND start_at >= ?2 AND start_at < ?3 AND end_at <= ?3",
        )?;
        let mut rows = statement.query([stream, start, end])?;
        while let Some(row) = rows.next()? {
            let is_same = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?) == (start, end);
            let before: i64 = row.get(2)?;
            let last: i64 = row.get(4)?;
            // The very call again, whose answer did not arrive.
            let is_again = is_same && last == now;
            listing_count = listing_count.max(before.saturating_add(i64::from(!is_again)));
            first_listed_at = first_listed_at.min(row.get(3)?);
            if is_same {
                // A clock that was set back takes no listing back.
                last_listed_at = last_listed_at.max(last);
            }
        }
    }
    books
        .statement(
            "DELETE FROM listed_window WHERE stream = ?1 AND start_at >= ?2 AND start_at < ?3 AND end_at <= ?3",
        )?
        .execute([stream, start, end])?;
    books
        .statement(
            "INSERT INTO listed_window
                 (stream, start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            stream,
            start,
            end,
            stored_count(listing.blob_count),
            listing_count,
            first_listed_at,
            last_listed_at
        ])?;
    Ok(())
}

fn extend_stretch(books: &Books, stream: i64, start: i64, end: i64) -> Result<(), Failure> {
    let touching = "stream = ?1 AND start_at <= ?3 AND end_at >= ?2";
    // Without a row that touches, min and max give NULL.
    let (first, last) = books
        .statement(&format!(
            "SELECT min(start_at), max(end_at) FROM listed WHERE {touching}"
        ))?
        .query_row(params![stream, start, end], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
    let (merged_start, merged_end) = (
        first.map_or(start, |at| at.min(start)),
        last.map_or(end, |at| at.max(end)),
    );
    books
        .statement(&format!("DELETE FROM listed WHERE {touching}"))?
        .execute(params![stream, start, end])?;
    books
        .statement("INSERT INTO listed (stream, start_at, end_at) VALUES (?1, ?2, ?3)")?
        .execute(params![stream, merged_start, merged_end])?;
    books
        .statement(
            "UPDATE stream SET listed_until = ?3
             WHERE id = ?1 AND (listed_until IS NULL OR (listed_until >= ?2 AND listed_until < ?3))",
        )?
        .execute(params![stream, merged_start, merged_end])?;
    Ok(())
}

pub(super) fn note_unlistable(
    books: &mut Books,
    tenant: TenantId,
    content_type: ContentType,
    before: Timestamp,
) -> Result<(), Failure> {
    let Some(stream) = books.known_stream(tenant, content_type)? else {
        return Ok(());
    };
    // A stretch that reaches to `before` or over it is where listing continues from.
    books
        .statement(
            "UPDATE stream SET listed_until = coalesce(
                 (SELECT max(end_at) FROM listed WHERE stream = ?1 AND start_at <= ?2 AND end_at >= ?2), ?2)
             WHERE id = ?1 AND listed_until < ?2",
        )?
        .execute(params![stream, stored(before)])?;
    Ok(())
}

pub(super) fn listed_until(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Option<Timestamp>, Failure> {
    let found: Option<Option<i64>> = connection
        .prepare_cached("SELECT listed_until FROM stream WHERE tenant = ?1 AND content_type = ?2")?
        .query_row(params![tenant.to_string(), content_type.as_str()], |row| {
            row.get(0)
        })
        .optional()?;
    found.flatten().map(instant).transpose()
}

pub(super) fn listed_stretches(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Vec<ListedStretch>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT start_at, end_at FROM listed JOIN stream ON stream.id = listed.stream
         WHERE tenant = ?1 AND content_type = ?2 ORDER BY start_at",
    )?;
    let mut rows = statement.query(params![tenant.to_string(), content_type.as_str()])?;
    let mut stretches = Vec::new();
    while let Some(row) = rows.next()? {
        stretches.push(ListedStretch {
            start: instant(row.get(0)?)?,
            end: instant(row.get(1)?)?,
        });
    }
    Ok(stretches)
}
