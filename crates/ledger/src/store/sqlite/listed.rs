//! Which windows were listed, and the stretches that they make, merged where they touch.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::windows::StoredWindow;
use crate::{ListedStretch, Listing};

use super::books::Books;
use super::failure::{Failure, count, instant, stored, stored_count};

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
    note_window(books, stream, StoredWindow::new(listing, stored(now)))?;
    extend_stretch(books, stream, start, end)
}

/// Keeps the window in the place of those that lie within it.
fn note_window(books: &Books, stream: i64, mut window: StoredWindow) -> Result<(), Failure> {
    let (start, end) = window.bounds();
    let mut is_known = false;
    {
        let mut statement = books.statement(
            "SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
             WHERE stream = ?1 AND start_at >= ?2 AND start_at < ?3 AND end_at <= ?3",
        )?;
        let mut rows = statement.query([stream, start, end])?;
        while let Some(row) = rows.next()? {
            window.absorb(&stored_window(row)?);
            is_known = true;
        }
    }
    if is_known {
        books
            .statement(
                "DELETE FROM listed_window WHERE stream = ?1 AND start_at >= ?2 AND start_at < ?3 AND end_at <= ?3",
            )?
            .execute([stream, start, end])?;
    }
    insert_window(books, stream, &window)
}

pub(super) fn insert_window(
    books: &Books,
    stream: i64,
    window: &StoredWindow,
) -> Result<(), Failure> {
    books
        .statement(
            "INSERT INTO listed_window
                 (stream, start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            stream,
            window.start_at,
            window.end_at,
            stored_count(window.blob_count),
            stored_count(window.listing_count),
            window.first_listed_at,
            window.last_listed_at
        ])?;
    Ok(())
}

/// The window that a row's first columns hold.
pub(super) fn stored_window(row: &Row<'_>) -> Result<StoredWindow, Failure> {
    Ok(StoredWindow {
        start_at: row.get(0)?,
        end_at: row.get(1)?,
        blob_count: count(row.get(2)?)?,
        listing_count: count(row.get(3)?)?,
        first_listed_at: row.get(4)?,
        last_listed_at: row.get(5)?,
    })
}

fn extend_stretch(books: &Books, stream: i64, start: i64, end: i64) -> Result<(), Failure> {
    // Without a row that touches, min and max give NULL.
    let (first, last, count) = books
        .statement(
            "SELECT min(start_at), max(end_at), count(*) FROM listed
             WHERE stream = ?1 AND start_at <= ?3 AND end_at >= ?2",
        )?
        .query_row(params![stream, start, end], |row| {
            Ok((
                row.get::<_, Option<i64>>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })?;
    let (merged_start, merged_end) = (
        first.map_or(start, |at| at.min(start)),
        last.map_or(end, |at| at.max(end)),
    );
    match (first, last) {
        // Nearly always: listing goes on where it was, or an hour is listed again.
        (Some(first), Some(last)) if count == 1 && first <= start => {
            if last >= end {
                // What was listed without a gap never ends within a stretch, so that does not change either.
                return Ok(());
            }
            books
                .statement("UPDATE listed SET end_at = ?3 WHERE stream = ?1 AND start_at = ?2")?
                .execute([stream, first, end])?;
        }
        _ => {
            books
                .statement(
                    "DELETE FROM listed WHERE stream = ?1 AND start_at <= ?3 AND end_at >= ?2",
                )?
                .execute(params![stream, start, end])?;
            books
                .statement("INSERT INTO listed (stream, start_at, end_at) VALUES (?1, ?2, ?3)")?
                .execute(params![stream, merged_start, merged_end])?;
        }
    }
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
