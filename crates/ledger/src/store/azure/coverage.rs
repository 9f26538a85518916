//! What a range of `contentCreated` holds. Tables have no index but their keys, so each question reads through a tenant's
//! rows at storage's side, which sends only those that fit: a request for a few thousand rows. Compaction keeps them few.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId, Window};
use azure::storage::entity::Entity;
use azure::storage::tables::quoted;
use jiff::Timestamp;

use crate::store::{DAY, HOUR, never, stored};
use crate::{
    Coverage, Error, ExpiryBucket, ListedWindows, Totals, UndeliveredBlob, UndeliveredPlace,
    UndeliveredState,
};

use super::books::{Books, together};
use super::names::{began_row, between, day_row, expiry_of, known_row, number_of, partition_of};
use super::quarantined;
use super::rows::{
    DueRow, EndKind, Known, State, instant, is_set, later_number, number, text, to_instant,
};
use super::windows;

/// What is counted of a known blob.
const SELECT: &str = "PartitionKey,RowKey,End,Records,Bytes,IsPart";

/// A range of one tenant's content type, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Range {
    tenant: TenantId,
    content_type: ContentType,
    start: i64,
    end: i64,
}

impl Range {
    fn new(tenant: TenantId, content_type: ContentType, range: Window) -> Self {
        Self {
            tenant,
            content_type,
            start: stored(range.start()),
            end: stored(range.end()),
        }
    }

    /// A filter for those of its blobs that have rows between these two.
    fn blobs(&self, from: &str, to: &str) -> String {
        format!(
            "{} and Type eq {} and CreatedAt ge {}L and CreatedAt lt {}L",
            between(&partition_of(self.tenant), from, to),
            quoted(self.content_type.as_str()),
            self.start,
            self.end
        )
    }

    fn has(&self, at: Timestamp) -> bool {
        (self.start..self.end).contains(&stored(at))
    }
}

pub(super) async fn coverage(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<Coverage, Error> {
    let ListedWindows { began_at, windows } =
        listed_windows(books, tenant, content_type, range).await?;
    let range = Range::new(tenant, content_type, range);
    let mut coverage = Coverage {
        began_at,
        windows,
        ..Coverage::default()
    };
    for row in books
        .door
        .all(range.blobs("b-", "b."), SELECT, usize::MAX)
        .await?
    {
        add_blob(&mut coverage, &row.entity)?;
    }
    add_forgotten(books, range, &mut coverage).await?;
    for record in records(books, range).await? {
        match record.state {
            UndeliveredState::Dropped => coverage.dropped_record_count += 1,
            _ => coverage.quarantined_record_count += 1,
        }
    }
    Ok(coverage)
}

pub(super) async fn listed_windows(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
) -> Result<ListedWindows, Error> {
    let range = Range::new(tenant, content_type, range);
    let began = books
        .door
        .get(&partition_of(tenant), &began_row(content_type))
        .await?;
    let began_at = began
        .map(|row| instant(&row.entity, "BeganAt"))
        .transpose()?;
    let windows = windows::in_range(books, tenant, content_type, (range.start, range.end)).await?;
    let windows = windows.iter().map(|window| window.listed(to_instant));
    Ok(ListedWindows {
        began_at,
        windows: windows.collect::<Result<_, _>>()?,
    })
}

/// What was made of a record counts while it waits and when it is in quarantine itself, and never among those that are
/// over.
fn add_blob(coverage: &mut Coverage, entity: &Entity) -> Result<(), Error> {
    let is_part = is_set(entity, "IsPart");
    match text(entity, "End").as_deref().and_then(EndKind::parse) {
        None => coverage.pending_count += 1,
        Some(EndKind::Quarantined) => coverage.quarantined_count += 1,
        Some(EndKind::Dropped) => coverage.dropped_count += 1,
        Some(EndKind::Delivered | EndKind::Expired) if is_part => {}
        Some(EndKind::Expired) => coverage.expired_count += 1,
        Some(EndKind::Delivered) => {
            coverage.delivered = coverage.delivered.plus(Totals {
                blob_count: 1,
                record_count: number(entity, "Records")?,
                byte_count: number(entity, "Bytes")?,
            });
        }
    }
    Ok(())
}

/// The totals that a day's row has.
pub(super) fn totals(entity: &Entity) -> Totals {
    Totals {
        blob_count: later_number(entity, "Blobs"),
        record_count: later_number(entity, "Records"),
        byte_count: later_number(entity, "Bytes"),
    }
}

async fn add_forgotten(books: &Books, range: Range, coverage: &mut Coverage) -> Result<(), Error> {
    let first = day_row(range.content_type, range.start.div_euclid(DAY) * DAY);
    let filter = between(
        &partition_of(range.tenant),
        &first,
        &day_row(range.content_type, range.end),
    );
    for row in books.door.all(filter, "", usize::MAX).await? {
        let start = stored(instant(&row.entity, "Day")?);
        coverage.has_whole_days |= start < range.start || start.saturating_add(DAY) > range.end;
        coverage.delivered = coverage.delivered.plus(totals(&row.entity));
    }
    Ok(())
}

/// The single records in quarantine, or dropped from it, whose blobs are in the range. A request for each.
async fn records(books: &Books, range: Range) -> Result<Vec<UndeliveredBlob>, Error> {
    let items = quarantined::all_of(books, range.tenant, range.content_type).await?;
    let of_records = items
        .into_iter()
        .filter(|found| found.item.record_index.is_some());
    let partition = partition_of(range.tenant);
    let partition = &partition;
    let finds = of_records.map(|found| async move {
        let number = number_of(range.content_type, &found.item.content_id);
        let Some(row) = books.door.get(partition, &known_row(number)).await? else {
            return Ok(None);
        };
        let known = Known::read(&row.entity)?;
        let Some(created_at) = known.created_at.filter(|at| range.has(*at)) else {
            return Ok(None);
        };
        let attempts = match &known.state {
            State::Settled(end) => end.attempts,
            State::Unsettled { .. } => 0,
        };
        let item = found.item;
        Ok(Some(UndeliveredBlob {
            place: UndeliveredPlace {
                created_at: stored(created_at),
                blob: number,
                item: item.id,
            },
            content_id: item.content_id,
            record_index: item.record_index,
            sink: item.sink,
            state: if found.is_dropped {
                UndeliveredState::Dropped
            } else {
                UndeliveredState::Quarantined
            },
            created_at,
            expires_at: known.expires_at.unwrap_or(created_at),
            attempts,
            reason: Some(item.reason),
        }))
    });
    let found = together(finds.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

pub(super) async fn undelivered(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    range: Window,
    after: Option<UndeliveredPlace>,
    max_count: usize,
) -> Result<Vec<UndeliveredBlob>, Error> {
    let mut range = Range::new(tenant, content_type, range);
    if let Some(after) = after {
        range.start = range.start.max(after.created_at);
    }
    let mut found = records(books, range).await?;
    for row in books
        .door
        .all(range.blobs("d-", "d."), "", usize::MAX)
        .await?
    {
        found.push(unsettled(DueRow::read(tenant, row)?));
    }
    let ends = [EndKind::Quarantined, EndKind::Expired, EndKind::Dropped];
    let ends = ends.map(|kind| format!("End eq {}", quoted(kind.as_str())));
    let filter = format!("{} and ({})", range.blobs("b-", "b."), ends.join(" or "));
    for row in books.door.all(filter, "", usize::MAX).await? {
        found.extend(settled(Known::read(&row.entity)?));
    }
    found.retain(|blob| after.is_none_or(|after| blob.place > after));
    found.sort_by_key(|blob| blob.place);
    found.truncate(max_count);
    Ok(found)
}

fn unsettled(row: DueRow) -> UndeliveredBlob {
    let blob = row.blob;
    UndeliveredBlob {
        place: UndeliveredPlace {
            created_at: stored(blob.created_at),
            blob: blob.number,
            item: 0,
        },
        content_id: blob.content_id,
        record_index: None,
        sink: None,
        state: if blob.token == 0 {
            UndeliveredState::Pending
        } else {
            UndeliveredState::Leased
        },
        created_at: blob.created_at,
        expires_at: blob.expires_at,
        attempts: blob.attempts,
        reason: Some(blob.reason).filter(|reason| !reason.is_empty()),
    }
}

fn settled(known: Known) -> Option<UndeliveredBlob> {
    let State::Settled(end) = known.state else {
        return None;
    };
    let state = match end.kind {
        EndKind::Quarantined => UndeliveredState::Quarantined,
        EndKind::Dropped => UndeliveredState::Dropped,
        EndKind::Expired if !known.is_part => UndeliveredState::Expired,
        EndKind::Expired | EndKind::Delivered => return None,
    };
    let created_at = known.created_at?;
    Some(UndeliveredBlob {
        place: UndeliveredPlace {
            created_at: stored(created_at),
            blob: number_of(known.content_type, &known.content_id),
            item: 0,
        },
        content_id: known.content_id,
        record_index: None,
        sink: None,
        state,
        created_at,
        expires_at: known.expires_at.unwrap_or(created_at),
        attempts: end.attempts,
        reason: Some(end.reason),
    })
}

/// Their expiry is in the rows' names, which are all that is sent.
pub(super) async fn unsettled_by_expiry(books: &Books) -> Result<Vec<ExpiryBucket>, Error> {
    let mut buckets: BTreeMap<(TenantId, i64), u64> = BTreeMap::new();
    for tenant in books.tenants(true).await? {
        let filter = between(&partition_of(tenant), "d-", "d.");
        for row in books
            .door
            .all(filter, "PartitionKey,RowKey", usize::MAX)
            .await?
        {
            let expiry = expiry_of(&row.entity.row).filter(|expiry| *expiry < never());
            if let Some(expiry) = expiry {
                let hour = expiry.div_euclid(HOUR) * HOUR;
                *buckets.entry((tenant, hour)).or_default() += 1;
            }
        }
    }
    let buckets = buckets.into_iter().map(|((tenant, hour), blob_count)| {
        Ok(ExpiryBucket {
            tenant,
            expires_from: to_instant(hour)?,
            blob_count,
        })
    });
    buckets.collect()
}
