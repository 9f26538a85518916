//! Making the ledger smaller: windows merged by the day, rows of delivered blobs taken away with their day's totals
//! added to, up to a hundred in a transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::entity::{Entity, Stored};
use azure::storage::tables::{Change, quoted};
use jiff::Timestamp;

use crate::store::{DAY, never, stored};
use crate::{Compacted, Error, SeenBlob, Totals};

use super::books::{Books, MAX_RACES, TooManyRaces};
use super::coverage::totals;
use super::door::refused;
use super::names::{between, day_row, known_row, number_of, partition_of};
use super::rows::{EndKind, Known, State, set_instant, set_number, to_instant};
use super::{listed, quarantined, windows};

/// Rows taken away in one transaction, besides the one that counts them.
const BATCH: usize = 90;

/// A delivered blob that is to be forgotten.
struct Old {
    known: Known,
    row: Stored,
}

pub(super) async fn compact(
    books: &Books,
    before: Timestamp,
    max_blobs: usize,
) -> Result<Compacted, Error> {
    let before = stored(before);
    let mut done = Compacted {
        is_done: true,
        ..Compacted::default()
    };
    let kept = quarantined::blobs_with_items(books).await?;
    for tenant in books.tenants(true).await? {
        for content_type in ContentType::ALL {
            let merged_count = usize::try_from(done.window_count).unwrap_or(usize::MAX);
            let room = max_blobs.saturating_sub(merged_count);
            let (count, is_done) =
                windows::merge(books, tenant, content_type, before, room).await?;
            done.window_count += count;
            done.is_done &= is_done;
        }
        let forgotten_count = usize::try_from(done.blob_count).unwrap_or(usize::MAX);
        let room = max_blobs.saturating_sub(forgotten_count);
        let filter = format!(
            "{} and End eq {} and CreatedAt lt {before}L and (ExpiresAt lt {before}L or ExpiresAt eq {}L)",
            between(&partition_of(tenant), "b-", "b."),
            quoted(EndKind::Delivered.as_str()),
            never()
        );
        // Those that stay are read as well.
        let rows = books
            .door
            .all(
                filter,
                "",
                room.saturating_add(kept.len()).saturating_add(1),
            )
            .await?;
        let mut old = Vec::new();
        for row in rows {
            let known = Known::read(&row.entity)?;
            let number = number_of(known.content_type, &known.content_id);
            if !kept.contains(&(tenant, number)) {
                old.push(Old { known, row });
            }
        }
        done.is_done &= old.len() <= room;
        old.truncate(room);
        let count = old.len();
        done.blob_count += count as u64;
        forget(books, tenant, old).await?;
    }
    Ok(done)
}

async fn forget(books: &Books, tenant: TenantId, old: Vec<Old>) -> Result<(), Error> {
    let mut by_day: BTreeMap<(ContentType, i64), Vec<Old>> = BTreeMap::new();
    for old in old {
        let Some(created_at) = old.known.created_at else {
            continue;
        };
        let day = stored(created_at).div_euclid(DAY) * DAY;
        let of_day = by_day.entry((old.known.content_type, day)).or_default();
        of_day.push(old);
    }
    for ((content_type, day), old) in by_day {
        for chunk in old.chunks(BATCH) {
            forget_chunk(books, tenant, content_type, day, chunk).await?;
        }
    }
    Ok(())
}

/// Takes the rows away and adds to the day's totals, at once. Of a try whose answer did not come the rows are gone.
async fn forget_chunk(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    day: i64,
    chunk: &[Old],
) -> Result<(), Error> {
    let partition = partition_of(tenant);
    let name = day_row(content_type, day);
    let added = chunk
        .iter()
        .filter(|old| !old.known.is_part)
        .filter_map(|old| match &old.known.state {
            State::Settled(end) => Some(Totals {
                blob_count: 1,
                record_count: end.record_count,
                byte_count: end.byte_count,
            }),
            State::Unsettled { .. } => None,
        })
        .fold(Totals::default(), Totals::plus);
    for _ in 0..MAX_RACES {
        let mut changes: Vec<_> = chunk
            .iter()
            .map(|old| Change::Delete {
                partition: partition.clone(),
                row: old.row.entity.row.clone(),
                etag: old.row.etag.clone(),
            })
            .collect();
        if added.blob_count > 0 {
            let known = books.door.get(&partition, &name).await?;
            let before = known.as_ref().map(|row| totals(&row.entity));
            let sum = before.unwrap_or_default().plus(added);
            let mut entity = Entity::new(partition.clone(), name.clone());
            set_instant(&mut entity, "Day", to_instant(day)?);
            set_number(&mut entity, "Blobs", sum.blob_count);
            set_number(&mut entity, "Records", sum.record_count);
            set_number(&mut entity, "Bytes", sum.byte_count);
            changes.push(match known {
                None => Change::Insert(entity),
                Some(row) => Change::Replace {
                    entity,
                    etag: row.etag,
                },
            });
        }
        match books.door.batch(&changes).await? {
            Ok(_) => return Ok(()),
            // By an earlier try, or by another process: the next step reads what is left.
            Err(StorageError::NotFound) => return Ok(()),
            Err(StorageError::Changed | StorageError::AlreadyExists) => {}
            Err(error) => return Err(refused("forgetting delivered blobs", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// Whether an expired blob is to be taken for one that was delivered and forgotten: its day has forgotten blobs, and
/// its time was listed. Noted as new it would only be asked for, found gone, and be counted as lost.
///
/// One of a time that was never listed is noted all the same: nothing says that it was ever had.
pub(super) async fn is_forgotten(
    books: &Books,
    blob: &SeenBlob,
    number: u128,
) -> Result<bool, Error> {
    let partition = partition_of(blob.tenant);
    let created_at = stored(blob.created_at);
    let day = created_at.div_euclid(DAY) * DAY;
    let row = day_row(blob.content_type, day);
    Ok(books.door.get(&partition, &row).await?.is_some()
        && books
            .door
            .get(&partition, &known_row(number))
            .await?
            .is_none()
        && listed::is_listed(books, blob.tenant, blob.content_type, created_at).await?)
}
