//! What a range of `contentCreated` holds: read in one transaction, of one moment.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId, Window};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::store::{DAY, HOUR, never, stored};
use crate::{
    Coverage, Error, ExpiryBucket, ListedWindow, ListedWindows, Totals, UndeliveredBlob,
    UndeliveredPlace, UndeliveredState,
};

use super::failure::{
    Failure, content_id, count, get, instant, optional_text, to_count, to_instant,
};
use super::listed::stored_window;
use super::quarantined::WHOLE_BLOB;
use super::session::{Batch, Session, sink_name, stream_name};

const BEGAN: &str = "SELECT began_at FROM stream WHERE id = $1";

const WINDOWS: &str = "
    SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
    WHERE stream = $1 AND start_at < $3 AND end_at > $2 ORDER BY start_at, end_at";

/// The blobs that have rows. What was made of a record counts while it waits and when it is in quarantine itself, and
/// never among those that are over.
const BLOBS: &str = "
    SELECT count(*) FILTER (WHERE state = 3 AND NOT is_part),
        coalesce(sum(record_count) FILTER (WHERE state = 3 AND NOT is_part), 0)::bigint,
        coalesce(sum(byte_count) FILTER (WHERE state = 3 AND NOT is_part), 0)::bigint,
        count(*) FILTER (WHERE state < 3),
        count(*) FILTER (WHERE state = 4),
        count(*) FILTER (WHERE state = 5 AND NOT is_part),
        count(*) FILTER (WHERE state = 6)
    FROM blob WHERE stream = $1 AND created_at >= $2 AND created_at < $3";

/// The delivered blobs that have no rows any more.
const FORGOTTEN: &str = "
    SELECT start_at, blob_count, record_count, byte_count FROM forgotten_day
    WHERE stream = $1 AND start_at > $2 AND start_at < $3";

const RECORDS: &str = "
    SELECT count(*) FILTER (WHERE dropped_at IS NULL), count(*) FILTER (WHERE dropped_at IS NOT NULL)
    FROM quarantine
    JOIN blob ON blob.stream = quarantine.stream AND sha256(blob.content_id) = sha256(quarantine.content_id)
    WHERE quarantine.stream = $1 AND record_index <> -1 AND created_at >= $2 AND created_at < $3";

const _: () = assert!(WHOLE_BLOB == -1, "queries spell it out");

pub(super) async fn coverage(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<Coverage, Failure> {
    let Some(stream) = session.known_stream((tenant, content_type)).await? else {
        return Ok(Coverage::default());
    };
    let (start, end) = (stored(range.start()), stored(range.end()));
    let began = session.statement(BEGAN).await?;
    let windows = session.statement(WINDOWS).await?;
    let blobs = session.statement(BLOBS).await?;
    let forgotten = session.statement(FORGOTTEN).await?;
    let records = session.statement(RECORDS).await?;
    let day_before = start.saturating_sub(DAY);
    let client = &session.client;
    let mut batch = Batch::reading(client);
    batch.add(async { client.query(&began, &[&stream]).await });
    batch.add(async { client.query(&windows, &[&stream, &start, &end]).await });
    batch.add(async { client.query(&blobs, &[&stream, &start, &end]).await });
    batch.add(async {
        client
            .query(&forgotten, &[&stream, &day_before, &end])
            .await
    });
    batch.add(async { client.query(&records, &[&stream, &start, &end]).await });
    let answers = batch.commit(client).await?;
    let mut coverage = Coverage::default();
    if let [_, began, windows, blobs, forgotten, records, _] = answers.as_slice() {
        coverage.began_at = began_at(began)?;
        coverage.windows = listed(windows)?;
        add_blobs(blobs, &mut coverage)?;
        add_forgotten(forgotten, (start, end), &mut coverage)?;
        for row in records {
            coverage.quarantined_record_count = count(row, 0)?;
            coverage.dropped_record_count = count(row, 1)?;
        }
    }
    Ok(coverage)
}

pub(super) async fn listed_windows(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<ListedWindows, Failure> {
    let Some(stream) = session.known_stream((tenant, content_type)).await? else {
        return Ok(ListedWindows::default());
    };
    let (start, end) = (stored(range.start()), stored(range.end()));
    let began = session.statement(BEGAN).await?;
    let windows = session.statement(WINDOWS).await?;
    let client = &session.client;
    let mut batch = Batch::reading(client);
    batch.add(async { client.query(&began, &[&stream]).await });
    batch.add(async { client.query(&windows, &[&stream, &start, &end]).await });
    let answers = batch.commit(client).await?;
    let mut found = ListedWindows::default();
    if let [_, began, windows, _] = answers.as_slice() {
        found.began_at = began_at(began)?;
        found.windows = listed(windows)?;
    }
    Ok(found)
}

fn began_at(rows: &[Row]) -> Result<Option<Timestamp>, Failure> {
    let began_at: Option<i64> = match rows.first() {
        Some(row) => get(row, 0)?,
        None => None,
    };
    began_at.map(to_instant).transpose()
}

fn listed(rows: &[Row]) -> Result<Vec<ListedWindow>, Failure> {
    let to_instant = |stored| to_instant(stored).map_err(Failure::meaning);
    let window = |row: &Row| {
        let listed: Result<_, Error> = stored_window(row, 0)?.listed(to_instant);
        Ok(listed?)
    };
    rows.iter().map(window).collect()
}

fn add_blobs(rows: &[Row], coverage: &mut Coverage) -> Result<(), Failure> {
    for row in rows {
        coverage.delivered = Totals {
            blob_count: count(row, 0)?,
            record_count: count(row, 1)?,
            byte_count: count(row, 2)?,
        };
        coverage.pending_count = count(row, 3)?;
        coverage.quarantined_count = count(row, 4)?;
        coverage.expired_count = count(row, 5)?;
        coverage.dropped_count = count(row, 6)?;
    }
    Ok(())
}

fn add_forgotten(
    rows: &[Row],
    (start, end): (i64, i64),
    coverage: &mut Coverage,
) -> Result<(), Failure> {
    for row in rows {
        let day: i64 = get(row, 0)?;
        coverage.has_whole_days |= day < start || day.saturating_add(DAY) > end;
        coverage.delivered = coverage.delivered.plus(Totals {
            blob_count: count(row, 1)?,
            record_count: count(row, 2)?,
            byte_count: count(row, 3)?,
        });
    }
    Ok(())
}

pub(super) async fn undelivered(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
    after: Option<UndeliveredPlace>,
    max_count: usize,
) -> Result<Vec<UndeliveredBlob>, Failure> {
    let Some(stream) = session.known_stream((tenant, content_type)).await? else {
        return Ok(Vec::new());
    };
    let after = after.map_or((i64::MIN, -1, 0), |place| {
        let blob = i64::try_from(place.blob).unwrap_or(i64::MAX);
        (place.created_at, blob, place.item.cast_signed())
    });
    let (start, end) = (stored(range.start()).max(after.0), stored(range.end()));
    let limit = i64::try_from(max_count).unwrap_or(i64::MAX);
    let blobs = session
        .statement(
            "SELECT created_at, id, 0::bigint, content_id, state, expires_at, attempts, reason FROM blob
             WHERE stream = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) > ($4, $5)
               AND (state IN (0, 1, 2, 4, 6) OR (state = 5 AND NOT is_part))
             ORDER BY created_at, id LIMIT $6",
        )
        .await?;
    let records = session
        .statement(
            "SELECT created_at, blob.id, quarantine.id, quarantine.content_id,
                 CASE WHEN dropped_at IS NULL THEN 4 ELSE 6 END::smallint, expires_at, attempts, quarantine.reason,
                 record_index, name
             FROM quarantine
             JOIN blob ON blob.stream = quarantine.stream AND sha256(blob.content_id) = sha256(quarantine.content_id)
             LEFT JOIN sink ON sink.id = quarantine.sink
             WHERE quarantine.stream = $1 AND record_index <> -1 AND created_at >= $2 AND created_at < $3
               AND (created_at, blob.id, quarantine.id) > ($4, $5, $7)
             ORDER BY created_at, blob.id, quarantine.id LIMIT $6",
        )
        .await?;
    let client = &session.client;
    let mut batch = Batch::reading(client);
    batch.add(async {
        client
            .query(&blobs, &[&stream, &start, &end, &after.0, &after.1, &limit])
            .await
    });
    batch.add(async {
        client
            .query(
                &records,
                &[&stream, &start, &end, &after.0, &after.1, &limit, &after.2],
            )
            .await
    });
    let answers = batch.commit(client).await?;
    let mut found = Vec::new();
    if let [_, blobs, records, _] = answers.as_slice() {
        for row in blobs {
            found.push(undelivered_of(row)?);
        }
        for row in records {
            let has_sink = get::<Option<&str>>(row, 9)?.is_some();
            found.push(UndeliveredBlob {
                record_index: Some(count(row, 8)?),
                sink: has_sink.then(|| sink_name(row, 9)).transpose()?,
                ..undelivered_of(row)?
            });
        }
    }
    found.sort_by_key(|blob| blob.place);
    found.truncate(max_count);
    Ok(found)
}

fn undelivered_of(row: &Row) -> Result<UndeliveredBlob, Failure> {
    let state = match get::<i16>(row, 4)? {
        1 => UndeliveredState::Leased,
        4 => UndeliveredState::Quarantined,
        5 => UndeliveredState::Expired,
        6 => UndeliveredState::Dropped,
        _ => UndeliveredState::Pending,
    };
    Ok(UndeliveredBlob {
        place: UndeliveredPlace {
            created_at: get(row, 0)?,
            blob: count(row, 1)?.into(),
            item: count(row, 2)?,
        },
        content_id: content_id(row, 3)?,
        record_index: None,
        sink: None,
        state,
        created_at: instant(row, 0)?,
        expires_at: instant(row, 5)?,
        attempts: get::<i32>(row, 6)?.unsigned_abs(),
        reason: optional_text(row, 7)?,
    })
}

pub(super) async fn unsettled_by_expiry(
    session: &mut Session,
) -> Result<Vec<ExpiryBucket>, Failure> {
    // The hour is the same for times before 1970.
    let select = session
        .statement(
            "SELECT tenant, content_type, hour, blob_count FROM (
                 SELECT stream, expires_at - ((expires_at % $2) + $2) % $2 AS hour, count(*) AS blob_count FROM (
                     SELECT stream, expires_at FROM blob WHERE state = 0 AND expires_at < $1
                     UNION ALL
                     SELECT stream, expires_at FROM blob WHERE state IN (1, 2) AND expires_at < $1
                 ) AS unsettled GROUP BY stream, hour
             ) AS bucket JOIN stream ON stream.id = bucket.stream",
        )
        .await?;
    let rows = session.client.query(&select, &[&never(), &HOUR]).await?;
    let mut buckets: BTreeMap<(TenantId, Timestamp), u64> = BTreeMap::new();
    for row in &rows {
        let (tenant, _) = stream_name(row, 0)?;
        let bucket = buckets.entry((tenant, instant(row, 2)?)).or_default();
        *bucket = bucket.saturating_add(to_count(get(row, 3)?)?);
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
