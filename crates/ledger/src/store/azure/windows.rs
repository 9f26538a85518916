//! The windows that were listed: a row each, until they are merged by the day.

use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::batch::MAX_CHANGES;
use azure::storage::entity::{Entity, Stored, Value};
use azure::storage::tables::Change;

use crate::Error;
use crate::store::windows::{self, StoredWindow};

use super::books::{Books, MAX_RACES, TooManyRaces};
use super::door::refused;
use super::names::{between, partition_of, window_row, windows_from, windows_of};
use super::rows::{corrupt, number, set_number};

/// Puts the window in the place of those that lie within it.
pub(super) async fn note(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    window: StoredWindow,
) -> Result<(), Error> {
    let (start, end) = window.bounds();
    for _ in 0..MAX_RACES {
        let (from, to) = (
            windows_from(content_type, start),
            windows_from(content_type, end),
        );
        let rows = books
            .door
            .all(between(&partition_of(tenant), &from, &to), "", usize::MAX)
            .await?;
        let mut absorbing = window;
        let mut within = Vec::new();
        for row in rows {
            let there = read(&row.entity)?;
            if there.end_at <= end {
                absorbing.absorb(&there);
                within.push((there, row));
            }
        }
        if replace(books, tenant, content_type, absorbing, within).await? {
            return Ok(());
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// Puts one window in the place of others. Gives false when someone got ahead.
///
/// In one transaction, save when there are more than that holds: those left over lie within the new one, and say nothing
/// that is wrong.
async fn replace(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    window: StoredWindow,
    others: Vec<(StoredWindow, Stored)>,
) -> Result<bool, Error> {
    let entity = to_entity(tenant, content_type, &window);
    let mut own = Some(Change::Insert(entity.clone()));
    let mut changes = Vec::new();
    for (other, row) in others {
        if other.bounds() == window.bounds() {
            // As it is already, it need not be written: by an earlier try whose answer did not come, perhaps.
            own = (other != window).then(|| Change::Replace {
                entity: entity.clone(),
                etag: row.etag,
            });
        } else {
            changes.push(Change::Delete {
                partition: row.entity.partition,
                row: row.entity.row,
                etag: row.etag,
            });
        }
    }
    let changes: Vec<_> = own.into_iter().chain(changes).collect();
    for chunk in changes.chunks(MAX_CHANGES) {
        match books.door.batch(chunk).await? {
            Ok(_) => {}
            Err(StorageError::Changed | StorageError::NotFound | StorageError::AlreadyExists) => {
                return Ok(false);
            }
            Err(error) => return Err(refused("noting what was listed", error)),
        }
    }
    Ok(true)
}

/// Those that have a part in the range, oldest first.
pub(super) async fn in_range(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    (start, end): (i64, i64),
) -> Result<Vec<StoredWindow>, Error> {
    let (from, to) = (windows_of(content_type), windows_from(content_type, end));
    let filter = format!(
        "{} and EndAt gt {start}L",
        between(&partition_of(tenant), &from, &to)
    );
    let rows = books.door.all(filter, "", usize::MAX).await?;
    rows.iter().map(|row| read(&row.entity)).collect()
}

/// Merges at most about so many that end by `before`, a day at a time. How many there are fewer, and whether all are
/// merged.
pub(super) async fn merge(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    before: i64,
    max_count: usize,
) -> Result<(u64, bool), Error> {
    let (from, to) = (windows_of(content_type), windows_from(content_type, before));
    let filter = format!(
        "{} and EndAt le {before}L",
        between(&partition_of(tenant), &from, &to)
    );
    let mut rows = Vec::new();
    for row in books.door.all(filter, "", usize::MAX).await? {
        rows.push((read(&row.entity)?, row));
    }
    let mut merged_count = 0;
    for run in windows::runs(rows.iter().map(|(window, _)| *window)) {
        if merged_count >= max_count {
            return Ok((merged_count as u64, false));
        }
        let Some(merged) = windows::merged(&run) else {
            continue;
        };
        let of_run = rows.iter().filter(|(window, _)| run.contains(window));
        if !replace(
            books,
            tenant,
            content_type,
            merged,
            of_run.cloned().collect(),
        )
        .await?
        {
            return Ok((merged_count as u64, false));
        }
        merged_count += run.len() - 1;
    }
    Ok((merged_count as u64, true))
}

fn to_entity(tenant: TenantId, content_type: ContentType, window: &StoredWindow) -> Entity {
    let name = window_row(content_type, window.bounds());
    let mut entity = Entity::new(partition_of(tenant), name);
    entity.set("StartAt", Value::Int64(window.start_at));
    entity.set("EndAt", Value::Int64(window.end_at));
    set_number(&mut entity, "Blobs", window.blob_count);
    set_number(&mut entity, "Listings", window.listing_count);
    entity.set("FirstAt", Value::Int64(window.first_listed_at));
    entity.set("LastAt", Value::Int64(window.last_listed_at));
    entity
}

fn read(entity: &Entity) -> Result<StoredWindow, Error> {
    let time = |name| entity.int64(name).ok_or_else(|| corrupt("a listed window"));
    Ok(StoredWindow {
        start_at: time("StartAt")?,
        end_at: time("EndAt")?,
        blob_count: number(entity, "Blobs")?,
        listing_count: number(entity, "Listings")?,
        first_listed_at: time("FirstAt")?,
        last_listed_at: time("LastAt")?,
    })
}
