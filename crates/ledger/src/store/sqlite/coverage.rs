//! What a range of `contentCreated` holds: read on the reader's connection, of one moment.

use std::collections::BTreeMap;

use activity_api::{ContentId, ContentType, TenantId, Window};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::{DAY, HOUR, never};
use crate::{
    Coverage, Error, ExpiryBucket, ListedWindow, ListedWindows, Totals, UndeliveredBlob,
    UndeliveredPlace, UndeliveredState,
};

use super::books::{sink_name, stream_name};
use super::failure::{Failure, count, instant, stored};
use super::listed::stored_window;
use super::quarantined::WHOLE_BLOB;
use super::schema::need_coverage;

/// A range of one stream, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Range {
    stream: i64,
    start: i64,
    end: i64,
}

pub(super) fn coverage(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<Coverage, Failure> {
    need_coverage(connection)?;
    let Some((range, began_at)) = range_of(connection, tenant, content_type, range)? else {
        return Ok(Coverage::default());
    };
    let mut coverage = Coverage {
        began_at: began_at.map(instant).transpose()?,
        windows: windows(connection, range)?,
        ..Coverage::default()
    };
    add_blobs(connection, range, &mut coverage)?;
    add_forgotten(connection, range, &mut coverage)?;
    add_records(connection, range, &mut coverage)?;
    Ok(coverage)
}

pub(super) fn listed_windows(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<ListedWindows, Failure> {
    need_coverage(connection)?;
    let Some((range, began_at)) = range_of(connection, tenant, content_type, range)? else {
        return Ok(ListedWindows::default());
    };
    Ok(ListedWindows {
        began_at: began_at.map(instant).transpose()?,
        windows: windows(connection, range)?,
    })
}

/// The range with its stream's number, and where listing began; nothing for a stream that was never noted.
fn range_of(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<Option<(Range, Option<i64>)>, Failure> {
    let found = connection
        .prepare_cached("SELECT id, began_at FROM stream WHERE tenant = ?1 AND content_type = ?2")?
        .query_row(params![tenant.to_string(), content_type.as_str()], |row| {
            let range = Range {
                stream: row.get(0)?,
                start: stored(range.start()),
                end: stored(range.end()),
            };
            Ok((range, row.get(1)?))
        })
        .optional()?;
    Ok(found)
}

fn windows(connection: &Connection, range: Range) -> Result<Vec<ListedWindow>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
         WHERE stream = ?1 AND start_at < ?3 AND end_at > ?2 ORDER BY start_at, end_at",
    )?;
    let mut rows = statement.query([range.stream, range.start, range.end])?;
    let mut windows = Vec::new();
    while let Some(row) = rows.next()? {
        let to_instant = |stored| instant(stored).map_err(Error::from);
        windows.push(stored_window(row)?.listed(to_instant)?);
    }
    Ok(windows)
}

/// The blobs that have rows. What was made of a record counts while it waits and when it is in quarantine itself, and
/// never among those that are over.
fn add_blobs(
    connection: &Connection,
    range: Range,
    coverage: &mut Coverage,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE state = 3 AND NOT is_part),
             coalesce(sum(record_count) FILTER (WHERE state = 3 AND NOT is_part), 0),
             coalesce(sum(byte_count) FILTER (WHERE state = 3 AND NOT is_part), 0),
             count(*) FILTER (WHERE state < 3),
             count(*) FILTER (WHERE state = 4),
             count(*) FILTER (WHERE state = 5 AND NOT is_part),
             count(*) FILTER (WHERE state = 6)
         FROM blob INDEXED BY blob_created WHERE stream = ?1 AND created_at >= ?2 AND created_at < ?3",
    )?;
    let mut rows = statement.query([range.stream, range.start, range.end])?;
    while let Some(row) = rows.next()? {
        coverage.delivered = Totals {
            blob_count: count(row.get(0)?)?,
            record_count: count(row.get(1)?)?,
            byte_count: count(row.get(2)?)?,
        };
        coverage.pending_count = count(row.get(3)?)?;
        coverage.quarantined_count = count(row.get(4)?)?;
        coverage.expired_count = count(row.get(5)?)?;
        coverage.dropped_count = count(row.get(6)?)?;
    }
    Ok(())
}

/// The delivered blobs that have no rows any more.
fn add_forgotten(
    connection: &Connection,
    range: Range,
    coverage: &mut Coverage,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT start_at, blob_count, record_count, byte_count FROM forgotten_day
         WHERE stream = ?1 AND start_at > ?2 AND start_at < ?3",
    )?;
    let mut rows = statement.query([range.stream, range.start.saturating_sub(DAY), range.end])?;
    while let Some(row) = rows.next()? {
        let start: i64 = row.get(0)?;
        coverage.has_whole_days |= start < range.start || start.saturating_add(DAY) > range.end;
        coverage.delivered = coverage.delivered.plus(Totals {
            blob_count: count(row.get(1)?)?,
            record_count: count(row.get(2)?)?,
            byte_count: count(row.get(3)?)?,
        });
    }
    Ok(())
}

fn add_records(
    connection: &Connection,
    range: Range,
    coverage: &mut Coverage,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE dropped_at IS NULL), count(*) FILTER (WHERE dropped_at IS NOT NULL)
         FROM quarantine CROSS JOIN blob
             ON blob.stream = quarantine.stream AND blob.content_id = quarantine.content_id
         WHERE quarantine.stream = ?1 AND record_index <> ?4 AND created_at >= ?2 AND created_at < ?3",
    )?;
    let mut rows = statement.query([range.stream, range.start, range.end, WHOLE_BLOB])?;
    while let Some(row) = rows.next()? {
        coverage.quarantined_record_count = count(row.get(0)?)?;
        coverage.dropped_record_count = count(row.get(1)?)?;
    }
    Ok(())
}

pub(super) fn undelivered(
    connection: &Connection,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
    after: Option<UndeliveredPlace>,
    max_count: usize,
) -> Result<Vec<UndeliveredBlob>, Failure> {
    need_coverage(connection)?;
    let Some((mut range, _)) = range_of(connection, tenant, content_type, range)? else {
        return Ok(Vec::new());
    };
    let after = after.map_or((i64::MIN, -1, 0), |place| {
        let blob = i64::try_from(place.blob).unwrap_or(i64::MAX);
        (place.created_at, blob, place.item.cast_signed())
    });
    range.start = range.start.max(after.0);
    let limit = i64::try_from(max_count).unwrap_or(i64::MAX);
    let mut found = undelivered_blobs(connection, range, after, limit)?;
    found.extend(undelivered_records(connection, range, after, limit)?);
    found.sort_by_key(|blob| blob.place);
    found.truncate(max_count);
    Ok(found)
}

fn undelivered_blobs(
    connection: &Connection,
    range: Range,
    after: (i64, i64, i64),
    limit: i64,
) -> Result<Vec<UndeliveredBlob>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT created_at, id, 0, content_id, state, expires_at, attempts, reason
         FROM blob INDEXED BY blob_created
         WHERE stream = ?1 AND created_at >= ?2 AND created_at < ?3 AND (created_at, id) > (?4, ?5)
           AND (state IN (0, 1, 2, 4, 6) OR (state = 5 AND NOT is_part))
         ORDER BY created_at, id LIMIT ?6",
    )?;
    let mut rows = statement.query([
        range.stream,
        range.start,
        range.end,
        after.0,
        after.1,
        limit,
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let state = match row.get(4)? {
            1 => UndeliveredState::Leased,
            4 => UndeliveredState::Quarantined,
            5 => UndeliveredState::Expired,
            6 => UndeliveredState::Dropped,
            _ => UndeliveredState::Pending,
        };
        found.push(undelivered_of(row, state)?);
    }
    Ok(found)
}

fn undelivered_records(
    connection: &Connection,
    range: Range,
    after: (i64, i64, i64),
    limit: i64,
) -> Result<Vec<UndeliveredBlob>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT created_at, blob.id, quarantine.id, quarantine.content_id, dropped_at IS NOT NULL, expires_at, attempts,
             quarantine.reason, record_index, name
         FROM quarantine CROSS JOIN blob
             ON blob.stream = quarantine.stream AND blob.content_id = quarantine.content_id
         LEFT JOIN sink ON sink.id = quarantine.sink
         WHERE quarantine.stream = ?1 AND record_index <> ?8 AND created_at >= ?2 AND created_at < ?3
           AND (created_at, blob.id, quarantine.id) > (?4, ?5, ?6)
         ORDER BY created_at, blob.id, quarantine.id LIMIT ?7",
    )?;
    let mut rows = statement.query([
        range.stream,
        range.start,
        range.end,
        after.0,
        after.1,
        after.2,
        limit,
        WHOLE_BLOB,
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let state = if row.get(4)? {
            UndeliveredState::Dropped
        } else {
            UndeliveredState::Quarantined
        };
        let has_sink = row.get_ref(9)? != rusqlite::types::ValueRef::Null;
        found.push(UndeliveredBlob {
            record_index: Some(count(row.get(8)?)?),
            sink: has_sink.then(|| sink_name(row, 9)).transpose()?,
            ..undelivered_of(row, state)?
        });
    }
    Ok(found)
}

fn undelivered_of(row: &Row<'_>, state: UndeliveredState) -> Result<UndeliveredBlob, Failure> {
    let created_at: i64 = row.get(0)?;
    Ok(UndeliveredBlob {
        place: UndeliveredPlace {
            created_at,
            blob: count(row.get(1)?)?.into(),
            item: count(row.get(2)?)?,
        },
        content_id: ContentId::canonical(row.get_ref(3)?.as_str()?),
        record_index: None,
        sink: None,
        state,
        created_at: instant(created_at)?,
        expires_at: instant(row.get(5)?)?,
        attempts: row.get(6)?,
        reason: row.get(7)?,
    })
}

pub(super) fn unsettled_by_expiry(connection: &Connection) -> Result<Vec<ExpiryBucket>, Failure> {
    let mut buckets: BTreeMap<(TenantId, Timestamp), u64> = BTreeMap::new();
    // Both indexes hold all that is read. The hour is the same for times before 1970.
    let mut statement = connection.prepare_cached(
        "SELECT tenant, content_type, hour, sum(blob_count) FROM (
             SELECT stream, expires_at - ((expires_at % ?2) + ?2) % ?2 AS hour, count(*) AS blob_count
             FROM blob INDEXED BY blob_ready WHERE state = 0 AND expires_at < ?1 GROUP BY 1, 2
             UNION ALL
             SELECT stream, expires_at - ((expires_at % ?2) + ?2) % ?2, count(*)
             FROM blob INDEXED BY blob_due WHERE state IN (1, 2) AND expires_at < ?1 GROUP BY 1, 2
         ) JOIN stream ON stream.id = stream GROUP BY stream, hour",
    )?;
    let mut rows = statement.query([never(), HOUR])?;
    while let Some(row) = rows.next()? {
        let (tenant, _) = stream_name(row, 0)?;
        let bucket = buckets.entry((tenant, instant(row.get(2)?)?)).or_default();
        *bucket = bucket.saturating_add(count(row.get(3)?)?);
    }
    let buckets = buckets.into_iter();
    Ok(buckets
        .map(|((tenant, expires_from), blob_count)| ExpiryBucket {
            tenant,
            expires_from,
            blob_count,
        })
        .collect())
}
