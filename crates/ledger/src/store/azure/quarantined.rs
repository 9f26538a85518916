//! What is set aside, with its bytes.
//!
//! All of it is in one partition: `s` has the last number that was given out, `q-NUMBER` an item, `i-HASH` says that
//! what it names is there already, and `n-TENANT-TYPE` counts records. One transaction adds to all four, so that the
//! numbers grow in the order in which items appear, and a reader who goes on after the last that it has misses none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::entity::{Entity, Stored, Value};
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::{Error, QuarantinedItem, QuarantinedRecord};

use super::books::{Books, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{QUARANTINED, between, hash};
use super::rows::{
    content_id, content_type, corrupt, corrupt_by, instant, number, set_instant, set_number,
    set_text, text,
};

/// Items added in one transaction: with their bytes far below its 4 MiB.
const BATCH: usize = 20;

/// More bytes than this are kept outside of the row, which holds 64 KiB of them.
const MAX_INLINE: usize = 48 * 1024;

/// The longest reason that is kept: it is for a person.
const MAX_REASON: usize = 8 * 1024;

/// Something to be set aside.
struct Item {
    record: QuarantinedRecord,
    is_whole_blob: bool,
    identity: u128,
}

pub(super) async fn set_aside(
    books: &Books,
    records: Vec<QuarantinedRecord>,
    now: Timestamp,
) -> Result<(), Error> {
    let items = records.into_iter().map(|record| Item::new(record, false));
    set_items_aside(books, items.collect(), now).await
}

/// Sets a whole blob aside: the record's index means nothing.
pub(super) async fn set_blob_aside(
    books: &Books,
    record: QuarantinedRecord,
    now: Timestamp,
) -> Result<(), Error> {
    set_items_aside(books, vec![Item::new(record, true)], now).await
}

impl Item {
    fn new(record: QuarantinedRecord, is_whole_blob: bool) -> Self {
        let sink = record.sink.as_ref().map_or("", |sink| sink.as_str());
        let index = if is_whole_blob {
            String::new()
        } else {
            record.record_index.to_string()
        };
        let identity = hash(&[
            record.tenant.to_string().as_bytes(),
            record.content_type.as_str().as_bytes(),
            record.content_id.as_str().as_bytes(),
            index.as_bytes(),
            sink.as_bytes(),
        ]);
        Self {
            record,
            is_whole_blob,
            identity,
        }
    }

    fn identity_row(&self) -> String {
        format!("i-{:032x}", self.identity)
    }
}

async fn set_items_aside(books: &Books, items: Vec<Item>, now: Timestamp) -> Result<(), Error> {
    let mut seen = HashSet::new();
    // The first of each stays, as if they had come one after the other.
    let items: Vec<_> = items
        .into_iter()
        .filter(|item| seen.insert(item.identity))
        .collect();
    for chunk in items.chunks(BATCH) {
        set_chunk_aside(books, chunk.iter().collect(), now).await?;
    }
    Ok(())
}

async fn set_chunk_aside(
    books: &Books,
    mut chunk: Vec<&Item>,
    now: Timestamp,
) -> Result<(), Error> {
    let has_large = chunk
        .iter()
        .any(|item| item.record.bytes.len() > MAX_INLINE);
    if has_large {
        chunk = without_known(books, chunk).await?;
        keep_large_bytes(books, &chunk).await?;
    }
    let mut rows = books.counts.lock().await;
    for _ in 0..MAX_RACES {
        if chunk.is_empty() {
            return Ok(());
        }
        let mut counted: BTreeMap<String, (TenantId, ContentType, u64)> = BTreeMap::new();
        for item in chunk.iter().filter(|item| !item.is_whole_blob) {
            let (tenant, content_type) = (item.record.tenant, item.record.content_type);
            let entry = counted.entry(count_row(tenant, content_type));
            entry.or_insert((tenant, content_type, 0)).2 += 1;
        }
        let mut names: Vec<&str> = counted.keys().map(String::as_str).collect();
        names.push(SEQUENCE);
        for name in names {
            let key = (QUARANTINED.to_owned(), name.to_owned());
            if !rows.contains_key(&key)
                && let Some(stored) = books.door.get(QUARANTINED, name).await?
            {
                rows.insert(key, stored);
            }
        }
        let known = |name: &str| rows.get(&(QUARANTINED.to_owned(), name.to_owned()));
        let mut last = known(SEQUENCE).map_or(Ok(0), |row| number(&row.entity, "Last"))?;
        let mut changes = Vec::new();
        for item in &chunk {
            last += 1;
            changes.push(Change::Insert(item.to_entity(last, now)));
            let mut identity = Entity::new(QUARANTINED, item.identity_row());
            set_number(&mut identity, "Item", last);
            changes.push(Change::Insert(identity));
        }
        let mut kept = Vec::new();
        let mut sequence = Entity::new(QUARANTINED, SEQUENCE);
        set_number(&mut sequence, "Last", last);
        changes.push(replaced(known(SEQUENCE), &sequence));
        kept.push(sequence);
        for (name, (tenant, content_type, added)) in &counted {
            let before = known(name).map_or(Ok(0), |row| number(&row.entity, "Count"))?;
            let mut entity = Entity::new(QUARANTINED, name);
            set_text(&mut entity, "Tenant", &tenant.to_string());
            set_text(&mut entity, "Type", content_type.as_str());
            set_number(&mut entity, "Count", before.saturating_add(*added));
            changes.push(replaced(known(name), &entity));
            kept.push(entity);
        }
        for entity in &kept {
            rows.remove(&(QUARANTINED.to_owned(), entity.row.clone()));
        }
        let first = changes.len() - kept.len();
        match books.door.batch(&changes).await? {
            Ok(etags) => {
                for (entity, etag) in kept.into_iter().zip(etags.into_iter().skip(first)) {
                    if let Some(etag) = etag {
                        let key = (QUARANTINED.to_owned(), entity.row.clone());
                        rows.insert(key, Stored { entity, etag });
                    }
                }
                return Ok(());
            }
            // One of them is there already, by an earlier try perhaps, or another process gave out a number.
            Err(StorageError::AlreadyExists | StorageError::Changed | StorageError::NotFound) => {
                chunk = without_known(books, chunk).await?;
            }
            Err(error) => return Err(refused("setting records aside", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// The row with the last number that was given out.
const SEQUENCE: &str = "s";

fn count_row(tenant: TenantId, content_type: ContentType) -> String {
    format!("n-{tenant}-{}", content_type.as_str())
}

fn replaced(known: Option<&Stored>, entity: &Entity) -> Change {
    match known {
        None => Change::Insert(entity.clone()),
        Some(stored) => Change::Replace {
            entity: entity.clone(),
            etag: stored.etag.clone(),
        },
    }
}

/// Those that are not set aside yet.
async fn without_known<'a>(books: &Books, chunk: Vec<&'a Item>) -> Result<Vec<&'a Item>, Error> {
    let finds = chunk.into_iter().map(|item| async move {
        let row = books.door.get(QUARANTINED, &item.identity_row()).await?;
        Ok::<_, Error>(row.is_none().then_some(item))
    });
    let left = together(finds.collect()).await?;
    Ok(left.into_iter().flatten().collect())
}

/// Before the rows that point to them. What no row points to in the end is a name that nobody reads.
async fn keep_large_bytes(books: &Books, chunk: &[&Item]) -> Result<(), Error> {
    for item in chunk {
        if item.record.bytes.len() > MAX_INLINE {
            let bytes = item.record.bytes.clone();
            books.door.put_bytes(&item.bytes_name(), bytes).await?;
        }
    }
    Ok(())
}

impl Item {
    /// By what they are, so that other bytes of the same record have another name.
    fn bytes_name(&self) -> String {
        let digest = hash(&[&self.record.bytes]);
        format!("{:032x}/{digest:032x}", self.identity)
    }

    fn to_entity(&self, id: u64, now: Timestamp) -> Entity {
        let record = &self.record;
        let mut entity = Entity::new(QUARANTINED, item_row(id));
        set_number(&mut entity, "Number", id);
        set_text(&mut entity, "Tenant", &record.tenant.to_string());
        set_text(&mut entity, "Type", record.content_type.as_str());
        set_text(&mut entity, "Id", record.content_id.as_str());
        if !self.is_whole_blob {
            set_number(&mut entity, "Index", record.record_index);
        }
        if let Some(sink) = &record.sink {
            set_text(&mut entity, "Sink", sink.as_str());
        }
        let reason = &record.reason;
        set_text(
            &mut entity,
            "Reason",
            &reason[..reason.floor_char_boundary(MAX_REASON)],
        );
        set_instant(&mut entity, "At", now);
        if record.bytes.len() > MAX_INLINE {
            set_text(&mut entity, "BytesAt", &self.bytes_name());
        } else {
            entity.set("Bytes", Value::Binary(record.bytes.clone()));
        }
        entity
    }
}

fn item_row(id: u64) -> String {
    format!("q-{id:020}")
}

pub(super) async fn list(
    books: &Books,
    after: u64,
    max_count: usize,
) -> Result<Vec<QuarantinedItem>, Error> {
    if max_count == 0 {
        return Ok(Vec::new());
    }
    let from = item_row(after.saturating_add(1));
    let rows = books
        .door
        .all(between(QUARANTINED, &from, "q."), "", max_count)
        .await?;
    rows.iter().map(|row| read_item(&row.entity)).collect()
}

fn read_item(entity: &Entity) -> Result<QuarantinedItem, Error> {
    let sink = text(entity, "Sink")
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| corrupt_by("a sink's name", error))?;
    Ok(QuarantinedItem {
        id: number(entity, "Number")?,
        tenant: tenant(entity)?,
        content_type: content_type(entity)?,
        content_id: content_id(entity)?,
        record_index: entity.int64("Index").map(i64::cast_unsigned),
        sink,
        reason: text(entity, "Reason").unwrap_or_default(),
        byte_count: entity.binary("Bytes").map_or(0, <[u8]>::len) as u64,
        quarantined_at: instant(entity, "At")?,
        is_retried: false,
    })
}

pub(super) async fn bytes(books: &Books, id: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(row) = books.door.get(QUARANTINED, &item_row(id)).await? else {
        return Ok(None);
    };
    match (row.entity.binary("Bytes"), text(&row.entity, "BytesAt")) {
        (Some(bytes), _) => Ok(Some(bytes.to_vec())),
        (None, Some(name)) => {
            let bytes = books.door.get_bytes(&name).await?;
            bytes.map(Some).ok_or_else(|| corrupt("quarantined bytes"))
        }
        (None, None) => Err(corrupt("a quarantined item without bytes")),
    }
}

fn tenant(entity: &Entity) -> Result<TenantId, Error> {
    let text = text(entity, "Tenant").unwrap_or_default();
    text.parse()
        .map_err(|error| corrupt_by("a tenant's id", error))
}

/// How many records of each tenant and content type are set aside.
pub(super) async fn record_counts(
    books: &Books,
) -> Result<Vec<(TenantId, ContentType, u64)>, Error> {
    let rows = books
        .door
        .all(between(QUARANTINED, "n-", "n."), "", usize::MAX)
        .await?;
    rows.iter()
        .map(|row| {
            let entity = &row.entity;
            Ok((
                tenant(entity)?,
                content_type(entity)?,
                number(entity, "Count")?,
            ))
        })
        .collect()
}
