//! How items leave: changed or taken away in one transaction with the counts, and never without what takes their place.

use std::sync::Arc;

use azure::storage::Error as StorageError;
use azure::storage::entity::Entity;
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::{Error, QuarantinedItem, QuarantinedRecord};

use super::super::books::{Books, MAX_RACES, TooManyRaces};
use super::super::door::refused;
use super::super::names::QUARANTINED;
use super::super::rows::{content_type, number, set_instant, set_number, set_text, text};
use super::{
    Added, Item, MAX_INLINE, SEQUENCE, bytes, count_entity, count_row, find, identity_row,
    item_row, keep_large_bytes, read_item, replaced, set_items_aside, tenant,
};

/// Notes since when an item is being retried, or that it no longer is. One that is gone is let be.
pub(in crate::store::azure) async fn note_retried(
    books: &Books,
    id: u64,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    for _ in 0..MAX_RACES {
        let Some(row) = books.door.get(QUARANTINED, &item_row(id)).await? else {
            return Ok(());
        };
        let mut entity = without_timestamp(row.entity);
        if since.is_some() == entity.int64("RetriedAt").is_some() {
            return Ok(());
        }
        entity.properties.remove("RetriedAt");
        if let Some(since) = since {
            set_instant(&mut entity, "RetriedAt", since);
        }
        let replace = Change::Replace {
            entity,
            etag: row.etag,
        };
        match books.door.change(&replace).await? {
            Ok(_) => return Ok(()),
            Err(StorageError::Changed | StorageError::NotFound) => {}
            Err(error) => return Err(refused("noting a retry", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// The service's own property is not to be written.
fn without_timestamp(mut entity: Entity) -> Entity {
    entity.properties.remove("Timestamp");
    entity
}

/// Takes an item out whose retry is settled. One that is gone is gone.
pub(in crate::store::azure) async fn take_out(books: &Books, id: u64) -> Result<(), Error> {
    change_item(books, id, |entity| {
        let item = read_item(&entity)?.item;
        let identity = Item::identity_of(&item);
        let changes = vec![Change::Delete {
            partition: QUARANTINED.to_owned(),
            row: identity_row(identity),
            etag: "*".into(),
        }];
        Ok(Some((None, changes, removal(&item, 0))))
    })
    .await
    .map(|_| ())
}

/// Leaves of an item that it was there and why, behind what is said of its being dropped; gives false when that was done
/// before.
pub(in crate::store::azure) async fn drop_bytes(
    books: &Books,
    id: u64,
    dropped: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    change_item(books, id, |mut entity| {
        let found = read_item(&entity)?;
        if found.is_dropped {
            return Ok(None);
        }
        for name in ["Bytes", "BytesAt", "RetriedAt"] {
            entity.properties.remove(name);
        }
        set_number(&mut entity, "ByteCount", 0);
        set_instant(&mut entity, "DroppedAt", now);
        let reason = format!("{dropped}{}", found.item.reason);
        set_text(&mut entity, "Reason", &reason);
        Ok(Some((Some(entity), Vec::new(), removal(&found.item, 1))))
    })
    .await
}

/// What the counts lose with an item.
fn removal(item: &QuarantinedItem, dropped: i64) -> Added {
    let record = i64::from(item.record_index.is_some());
    Added {
        records: -record,
        bytes: -i64::try_from(item.byte_count).unwrap_or(i64::MAX),
        dropped: record * dropped,
    }
}

/// An item's next state, or none when it goes; further changes; and what the counts gain.
type ItemChange = Option<(Option<Entity>, Vec<Change>, Added)>;

/// Changes an item's row and the counts in one transaction, and deletes bytes that no row has any more. Gives false when
/// there is no such item, or nothing to change.
async fn change_item(
    books: &Books,
    id: u64,
    change: impl Fn(Entity) -> Result<ItemChange, Error>,
) -> Result<bool, Error> {
    let mut rows = books.counts.lock().await;
    for _ in 0..MAX_RACES {
        let Some(row) = books.door.get(QUARANTINED, &item_row(id)).await? else {
            return Ok(false);
        };
        let bytes_at = text(&row.entity, "BytesAt");
        let (tenant, content_type) = (tenant(&row.entity)?, content_type(&row.entity)?);
        let Some((next, mut changes, added)) = change(without_timestamp(row.entity))? else {
            return Ok(false);
        };
        let keeps_bytes = next
            .as_ref()
            .is_some_and(|next| next.properties.contains_key("BytesAt"));
        changes.push(match next {
            Some(entity) => Change::Replace {
                entity,
                etag: row.etag,
            },
            None => Change::Delete {
                partition: QUARANTINED.to_owned(),
                row: item_row(id),
                etag: row.etag,
            },
        });
        let name = count_row(tenant, content_type);
        // Read anew: what is in memory belongs to those who add.
        rows.remove(&(QUARANTINED.to_owned(), name.clone()));
        let known = books.door.get(QUARANTINED, &name).await?;
        let counted = count_entity(known.as_ref(), tenant, content_type, added)?;
        changes.push(replaced(known.as_ref(), &counted));
        match books.door.batch(&changes).await? {
            Ok(_) => {
                if let Some(name) = bytes_at.filter(|_| !keeps_bytes) {
                    books.door.delete_bytes(&name).await?;
                }
                return Ok(true);
            }
            Err(StorageError::AlreadyExists | StorageError::Changed | StorageError::NotFound) => {}
            Err(error) => return Err(refused("changing what is set aside", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// Sets a blob aside again that was being retried: the new item takes the old one's place, with its bytes where there
/// are no new ones.
pub(in crate::store::azure) async fn replace_blob(
    books: &Books,
    old: u64,
    record: QuarantinedRecord,
    now: Timestamp,
) -> Result<(), Error> {
    let mut record = record;
    if record.bytes.is_empty() {
        record.bytes = bytes(books, old).await?.unwrap_or_default().into();
    }
    let item = Item::new(record, true);
    if let Some(found) = find(books, old).await?
        && Item::identity_of(&found) == item.identity
    {
        let large = item.record.bytes.len() > MAX_INLINE;
        if large {
            keep_large_bytes(books, &[&item]).await?;
        }
        return replace_same(books, &found, &item, now).await;
    }
    // The record that it was made of leaves when there is something in its place.
    set_items_aside(books, vec![item], now).await?;
    take_out(books, old).await
}

/// One transaction, in which the old item goes and the new one comes: they have one name.
async fn replace_same(
    books: &Books,
    old: &QuarantinedItem,
    item: &Item,
    now: Timestamp,
) -> Result<(), Error> {
    let mut rows = books.counts.lock().await;
    for _ in 0..MAX_RACES {
        let Some(row) = books.door.get(QUARANTINED, &item_row(old.id)).await? else {
            // By an earlier try.
            return Ok(());
        };
        let (tenant, content_type) = (old.tenant, old.content_type);
        let name = count_row(tenant, content_type);
        for row in [SEQUENCE, &name] {
            rows.remove(&(QUARANTINED.to_owned(), row.to_owned()));
        }
        let sequence = books.door.get(QUARANTINED, SEQUENCE).await?;
        let last = sequence
            .as_ref()
            .map_or(Ok(0), |row| number(&row.entity, "Last"))?;
        let known = books.door.get(QUARANTINED, &name).await?;
        let mut next = Entity::new(QUARANTINED, SEQUENCE);
        set_number(&mut next, "Last", last + 1);
        let added = Added {
            bytes: item.byte_count() - i64::try_from(old.byte_count).unwrap_or(i64::MAX),
            ..Added::default()
        };
        let mut identity = Entity::new(QUARANTINED, item.identity_row());
        set_number(&mut identity, "Item", last + 1);
        let counted = count_entity(known.as_ref(), tenant, content_type, added)?;
        let entity = item.to_entity(last + 1, now);
        let bytes_at = text(&row.entity, "BytesAt");
        let is_kept = bytes_at == text(&entity, "BytesAt");
        let changes = [
            Change::Delete {
                partition: QUARANTINED.to_owned(),
                row: item_row(old.id),
                etag: row.etag,
            },
            Change::Insert(entity),
            Change::Put(identity),
            replaced(sequence.as_ref(), &next),
            replaced(known.as_ref(), &counted),
        ];
        match books.door.batch(&changes).await? {
            Ok(_) => {
                if let Some(name) = bytes_at.filter(|_| !is_kept) {
                    books.door.delete_bytes(&name).await?;
                }
                return Ok(());
            }
            Err(StorageError::AlreadyExists | StorageError::Changed | StorageError::NotFound) => {}
            Err(error) => return Err(refused("setting a blob aside", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}
