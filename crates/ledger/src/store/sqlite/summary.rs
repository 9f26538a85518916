//! The numbers. Settled blobs are counted as they settle; unsettled ones are read from the indexes that hold only them.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use rusqlite::{Connection, Row};

use crate::store::never;
use crate::{DeliveredTotals, StreamSummary, Summary};

use super::books::stream_name;
use super::failure::{Failure, count, instant, stored};
use super::schema::{FIRST_WITH_COVERAGE, format_number};

pub(super) fn summary(connection: &Connection, now: Timestamp) -> Result<Summary, Failure> {
    // By number, which is the order of the table.
    let mut streams: Vec<(i64, StreamSummary)> = Vec::new();
    // A ledger of an earlier format can be read, and nothing was dropped from its quarantine.
    let since_coverage = if format_number(connection)? < FIRST_WITH_COVERAGE {
        "0, 0, 0"
    } else {
        "quarantined_byte_count, dropped_count, dropped_record_count"
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, tenant, content_type, listed_until, delivered_count, quarantined_count, expired_count,
             delivered_record_count, delivered_byte_count, quarantined_record_count, {since_coverage}
         FROM stream ORDER BY id"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (tenant, content_type) = stream_name(row, 1)?;
        streams.push((row.get(0)?, settled(row, tenant, content_type)?));
    }

    let mut statement = connection.prepare_cached(
        "SELECT stream, 0, count(*), min(expires_at), min(created_at) FROM blob INDEXED BY blob_ready
         WHERE state = 0 AND ?1 = ?1 GROUP BY stream
         UNION ALL
         SELECT stream, state = 1 AND due_at > ?1, count(*), min(expires_at), min(created_at)
         FROM blob INDEXED BY blob_due WHERE state IN (1, 2) GROUP BY 1, 2",
    )?;
    let mut rows = statement.query([stored(now)])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let index = streams.binary_search_by_key(&id, |(id, _)| *id);
        if let Some((_, stream)) = index.ok().and_then(|index| streams.get_mut(index)) {
            add_unsettled(stream, row)?;
        }
    }

    // In place: there can be tens of thousands, each minute.
    let mut streams: Vec<StreamSummary> = streams.into_iter().map(|(_, stream)| stream).collect();
    streams.sort_unstable_by_key(|stream| (stream.tenant, stream.content_type));
    Ok(Summary { streams })
}

pub(super) fn delivered_totals(
    connection: &Connection,
    tenant: TenantId,
) -> Result<DeliveredTotals, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT delivered_record_count, delivered_byte_count FROM stream WHERE tenant = ?1",
    )?;
    let mut rows = statement.query([tenant.to_string()])?;
    let mut totals = DeliveredTotals::default();
    while let Some(row) = rows.next()? {
        totals.record_count += count(row.get(0)?)?;
        totals.byte_count += count(row.get(1)?)?;
    }
    Ok(totals)
}

fn settled(
    row: &Row<'_>,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<StreamSummary, Failure> {
    Ok(StreamSummary {
        listed_until: row.get::<_, Option<i64>>(3)?.map(instant).transpose()?,
        delivered_count: count(row.get(4)?)?,
        quarantined_count: count(row.get(5)?)?,
        expired_count: count(row.get(6)?)?,
        delivered_record_count: count(row.get(7)?)?,
        delivered_byte_count: count(row.get(8)?)?,
        quarantined_record_count: count(row.get(9)?)?,
        quarantined_byte_count: count(row.get(10)?)?,
        dropped_count: count(row.get(11)?)?,
        dropped_record_count: count(row.get(12)?)?,
        ..StreamSummary::empty(tenant, content_type)
    })
}

fn add_unsettled(stream: &mut StreamSummary, row: &Row<'_>) -> Result<(), Failure> {
    let is_leased: bool = row.get(1)?;
    let blob_count = count(row.get(2)?)?;
    if is_leased {
        stream.leased_count += blob_count;
    } else {
        stream.pending_count += blob_count;
    }
    let expires_at: i64 = row.get(3)?;
    let created_at = instant(row.get(4)?)?;
    let sooner = |known: Option<Timestamp>, found: Timestamp| {
        Some(known.map_or(found, |known| known.min(found)))
    };
    if expires_at < never() {
        let expires_at = instant(expires_at)?;
        stream.nearest_pending_expires_at = sooner(stream.nearest_pending_expires_at, expires_at);
    }
    stream.oldest_pending_created_at = sooner(stream.oldest_pending_created_at, created_at);
    Ok(())
}
