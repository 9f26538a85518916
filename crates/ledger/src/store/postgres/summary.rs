//! The numbers. Settled blobs are counted as they settle; unsettled ones are read from the indexes that hold only them.

use activity_api::TenantId;
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::store::{never, stored};
use crate::{DeliveredTotals, StreamSummary, Summary};

use super::failure::{Failure, count, get, instant, to_instant};
use super::session::{Batch, Session, stream_name};

pub(super) async fn summary(session: &mut Session, now: Timestamp) -> Result<Summary, Failure> {
    let settled = session
        .statement(
            "SELECT id, tenant, content_type, listed_until, coalesce(delivered_count, 0), coalesce(quarantined_count, 0),
                 coalesce(expired_count, 0), coalesce(delivered_record_count, 0), coalesce(delivered_byte_count, 0),
                 coalesce(quarantined_record_count, 0), coalesce(quarantined_byte_count, 0), coalesce(dropped_count, 0),
                 coalesce(dropped_record_count, 0)
             FROM stream LEFT JOIN total ON total.stream = stream.id ORDER BY id",
        )
        .await?;
    let unsettled = session
        .statement(
            "SELECT stream, false, count(*), min(expires_at), min(created_at) FROM blob WHERE state = 0 GROUP BY stream
             UNION ALL
             SELECT stream, state = 1 AND due_at > $1 AS is_leased, count(*), min(expires_at), min(created_at)
             FROM blob WHERE state IN (1, 2) GROUP BY stream, is_leased",
        )
        .await?;
    let now = stored(now);
    let client = &session.client;
    let mut batch = Batch::reading(client);
    batch.add(async { client.query(&settled, &[]).await });
    batch.add(async { client.query(&unsettled, &[&now]).await });
    let answers = batch.commit(client).await?;
    let mut streams: Vec<(i64, StreamSummary)> = Vec::new();
    if let [_, settled, unsettled, _] = answers.as_slice() {
        for row in settled {
            streams.push((get(row, 0)?, settled_of(row)?));
        }
        for row in unsettled {
            let id: i64 = get(row, 0)?;
            let index = streams.binary_search_by_key(&id, |(id, _)| *id);
            if let Some((_, stream)) = index.ok().and_then(|index| streams.get_mut(index)) {
                add_unsettled(stream, row)?;
            }
        }
    }
    let mut streams: Vec<StreamSummary> = streams.into_iter().map(|(_, stream)| stream).collect();
    streams.sort_unstable_by_key(|stream| (stream.tenant, stream.content_type));
    Ok(Summary { streams })
}

pub(super) async fn delivered_totals(
    session: &mut Session,
    tenant: TenantId,
) -> Result<DeliveredTotals, Failure> {
    let select = session
        .statement(
            "SELECT delivered_record_count, delivered_byte_count FROM stream JOIN total ON total.stream = stream.id
             WHERE tenant = $1",
        )
        .await?;
    let mut totals = DeliveredTotals::default();
    for row in session
        .client
        .query(&select, &[&tenant.to_string()])
        .await?
    {
        totals.record_count = totals.record_count.saturating_add(count(&row, 0)?);
        totals.byte_count = totals.byte_count.saturating_add(count(&row, 1)?);
    }
    Ok(totals)
}

fn settled_of(row: &Row) -> Result<StreamSummary, Failure> {
    let (tenant, content_type) = stream_name(row, 1)?;
    Ok(StreamSummary {
        listed_until: get::<Option<i64>>(row, 3)?.map(to_instant).transpose()?,
        delivered_count: count(row, 4)?,
        quarantined_count: count(row, 5)?,
        expired_count: count(row, 6)?,
        delivered_record_count: count(row, 7)?,
        delivered_byte_count: count(row, 8)?,
        quarantined_record_count: count(row, 9)?,
        quarantined_byte_count: count(row, 10)?,
        dropped_count: count(row, 11)?,
        dropped_record_count: count(row, 12)?,
        ..StreamSummary::empty(tenant, content_type)
    })
}

fn add_unsettled(stream: &mut StreamSummary, row: &Row) -> Result<(), Failure> {
    let blob_count = count(row, 2)?;
    if get(row, 1)? {
        stream.leased_count += blob_count;
    } else {
        stream.pending_count += blob_count;
    }
    let sooner = |known: Option<Timestamp>, found: Timestamp| {
        Some(known.map_or(found, |known| known.min(found)))
    };
    if get::<i64>(row, 3)? < never() {
        stream.nearest_pending_expires_at =
            sooner(stream.nearest_pending_expires_at, instant(row, 3)?);
    }
    stream.oldest_pending_created_at = sooner(stream.oldest_pending_created_at, instant(row, 4)?);
    Ok(())
}
