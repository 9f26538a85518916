//! The numbers. Settled blobs are counted as they settle; unsettled ones have rows of their own, and only those are read.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;

use crate::store::{never, stored};
use crate::{DeliveredTotals, Error, StreamSummary, Summary};

use super::books::Books;
use super::listed::Listed;
use super::names::{between, partition_of};
use super::quarantined;
use super::rows::{content_type, instant, to_instant};
use super::settling::Counts;

/// The properties that are counted by, of all three kinds of rows.
const SELECT: &str = "PartitionKey,RowKey,Type,CreatedAt,ExpiresAt,LeasedUntil,\
    Delivered,Quarantined,Expired,Records,Bytes,Left,Dropped,Until,Stretches,\
    Stretches1,Stretches2,Stretches3,Stretches4,Stretches5,Stretches6,\
    Stretches7,Stretches8,Stretches9,Stretches10,Stretches11";

type Streams = BTreeMap<(TenantId, ContentType), StreamSummary>;

pub(super) async fn summary(books: &Books, now: Timestamp) -> Result<Summary, Error> {
    let now = stored(now);
    let mut streams = Streams::new();
    // One process may count in what another set aside, so that only the sums are of use.
    let mut set_aside: BTreeMap<(TenantId, ContentType), (u64, u64)> = BTreeMap::new();
    for tenant in books.tenants(true).await? {
        // Counts (c-), unsettled blobs (d-) and what was listed (l-) lie together, and known blobs (b-) before them.
        let filter = between(&partition_of(tenant), "c-", "m-");
        for row in books.door.all(filter, SELECT, usize::MAX).await? {
            let entity = row.entity;
            let stream = stream(&mut streams, tenant, content_type(&entity)?);
            match entity.row.get(..2) {
                Some("c-") => {
                    let counts = Counts::read(&entity)?;
                    stream.delivered_count += counts.delivered;
                    let ever_and_left = set_aside.entry((tenant, stream.content_type)).or_default();
                    ever_and_left.0 += counts.quarantined;
                    ever_and_left.1 += counts.left;
                    stream.dropped_count += counts.dropped;
                    stream.expired_count += counts.expired;
                    stream.delivered_record_count += counts.records;
                    stream.delivered_byte_count += counts.bytes;
                }
                Some("d-") => {
                    let leased_until = entity.int64("LeasedUntil").unwrap_or(i64::MIN);
                    let (created_at, expires_at) = (
                        instant(&entity, "CreatedAt")?,
                        instant(&entity, "ExpiresAt")?,
                    );
                    add_unsettled(stream, leased_until > now, created_at, expires_at);
                }
                _ => {
                    let listed = Listed::read(&entity)?;
                    stream.listed_until = listed.until.map(to_instant).transpose()?;
                }
            }
        }
    }
    for ((tenant, content_type), (ever, left)) in set_aside {
        stream(&mut streams, tenant, content_type).quarantined_count = ever.saturating_sub(left);
    }
    for (tenant, content_type, count) in quarantined::counts(books).await? {
        let stream = stream(&mut streams, tenant, content_type);
        stream.quarantined_record_count += count.records;
        stream.quarantined_byte_count += count.bytes;
        stream.dropped_record_count += count.dropped;
    }
    Ok(Summary {
        streams: streams.into_values().collect(),
    })
}

pub(super) async fn delivered_totals(
    books: &Books,
    tenant: TenantId,
) -> Result<DeliveredTotals, Error> {
    let filter = between(&partition_of(tenant), "c-", "d-");
    let mut totals = DeliveredTotals::default();
    for row in books.door.all(filter, SELECT, usize::MAX).await? {
        let counts = Counts::read(&row.entity)?;
        totals.record_count += counts.records;
        totals.byte_count += counts.bytes;
    }
    Ok(totals)
}

fn stream(
    streams: &mut Streams,
    tenant: TenantId,
    content_type: ContentType,
) -> &mut StreamSummary {
    streams
        .entry((tenant, content_type))
        .or_insert_with(|| StreamSummary::empty(tenant, content_type))
}

fn add_unsettled(
    stream: &mut StreamSummary,
    is_leased: bool,
    created_at: Timestamp,
    expires_at: Timestamp,
) {
    if is_leased {
        stream.leased_count += 1;
    } else {
        stream.pending_count += 1;
    }
    let sooner = |known: Option<Timestamp>, found: Timestamp| {
        Some(known.map_or(found, |known| known.min(found)))
    };
    if stored(expires_at) < never() {
        stream.nearest_pending_expires_at = sooner(stream.nearest_pending_expires_at, expires_at);
    }
    stream.oldest_pending_created_at = sooner(stream.oldest_pending_created_at, created_at);
}
