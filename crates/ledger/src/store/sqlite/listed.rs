//! Which stretches of time were listed, merged where they touch.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::ListedStretch;

use super::books::Books;
use super::failure::{Failure, instant, stored};

pub(super) fn note_listed(
    books: &mut Books,
    tenant: TenantId,
    content_type: ContentType,
    stretch: ListedStretch,
) -> Result<(), Failure> {
    let stream = books.stream(tenant, content_type)?;
    let (start, end) = (stored(stretch.start), stored(stretch.end));
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
