//! What is set aside, with its bytes.
//!
//! All of it is in one partition: `s` has the last number that was given out, `q-NUMBER` an item, `i-HASH` says that
//! what it names is there already, and `n-TENANT-TYPE` counts records. One transaction adds to all four, so that the
//! numbers grow in the order in which items appear, and a reader who goes on after the last that it has misses none.

mod leaving;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use activity_api::{ContentId, ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::entity::{Entity, Stored, Value};
use azure::storage::tables::{Change, MAX_PAGE, Query, quoted};
use jiff::Timestamp;

use crate::{Error, QuarantinedItem, QuarantinedRecord, SinkName};

use super::books::{Books, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{QUARANTINED, between, hash, number_of};
use super::rows::{
    content_id, content_type, corrupt, corrupt_by, instant, later_number, number, set_instant,
    set_number, set_text, text,
};

pub(super) use leaving::{drop_bytes, note_retried, replace_blob, take_out};

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
        let identity = identity(
            record.tenant,
            record.content_type,
            &record.content_id,
            (!is_whole_blob).then_some(record.record_index),
            record.sink.as_ref(),
        );
        Self {
            record,
            is_whole_blob,
            identity,
        }
    }

    fn identity_row(&self) -> String {
        identity_row(self.identity)
    }

    fn identity_of(item: &QuarantinedItem) -> u128 {
        let sink = item.sink.as_ref();
        identity(
            item.tenant,
            item.content_type,
            &item.content_id,
            item.record_index,
            sink,
        )
    }
}

fn identity(
    tenant: TenantId,
    content_type: ContentType,
    content_id: &ContentId,
    record_index: Option<u64>,
    sink: Option<&SinkName>,
) -> u128 {
    let index = record_index.map_or(String::new(), |index| index.to_string());
    hash(&[
        tenant.to_string().as_bytes(),
        content_type.as_str().as_bytes(),
        content_id.as_str().as_bytes(),
        index.as_bytes(),
        sink.map_or("", |sink| sink.as_str()).as_bytes(),
    ])
}

fn identity_row(identity: u128) -> String {
    format!("i-{identity:032x}")
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
        let mut counted: BTreeMap<String, (TenantId, ContentType, Added)> = BTreeMap::new();
        for item in &chunk {
            let (tenant, content_type) = (item.record.tenant, item.record.content_type);
            let entry = counted.entry(count_row(tenant, content_type));
            let (.., added) = entry.or_insert((tenant, content_type, Added::default()));
            added.records += i64::from(!item.is_whole_blob);
            added.bytes += item.byte_count();
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
            let entity = count_entity(known(name), *tenant, *content_type, *added)?;
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

/// What a transaction adds to the counts of a tenant and content type, or takes from them.
#[derive(Debug, Clone, Copy, Default)]
struct Added {
    records: i64,
    bytes: i64,
    dropped: i64,
}

/// What is in quarantine of a tenant and content type.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Single records.
    pub(super) records: u64,
    /// Bytes of records and blobs.
    pub(super) bytes: u64,
    /// Single records that a person dropped.
    pub(super) dropped: u64,
}

impl Counts {
    fn read(entity: &Entity) -> Result<Self, Error> {
        Ok(Self {
            records: number(entity, "Count")?,
            bytes: later_number(entity, "Bytes"),
            dropped: later_number(entity, "Dropped"),
        })
    }
}

fn count_entity(
    known: Option<&Stored>,
    tenant: TenantId,
    content_type: ContentType,
    added: Added,
) -> Result<Entity, Error> {
    let before = known.map_or(Ok(Counts::default()), |row| Counts::read(&row.entity))?;
    let mut entity = Entity::new(QUARANTINED, count_row(tenant, content_type));
    set_text(&mut entity, "Tenant", &tenant.to_string());
    set_text(&mut entity, "Type", content_type.as_str());
    let plus = |before: u64, added: i64| before.saturating_add_signed(added);
    set_number(&mut entity, "Count", plus(before.records, added.records));
    set_number(&mut entity, "Bytes", plus(before.bytes, added.bytes));
    set_number(&mut entity, "Dropped", plus(before.dropped, added.dropped));
    Ok(entity)
}

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

    fn byte_count(&self) -> i64 {
        i64::try_from(self.record.bytes.len()).unwrap_or(i64::MAX)
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
        set_number(&mut entity, "ByteCount", record.bytes.len() as u64);
        if record.bytes.len() > MAX_INLINE {
            set_text(&mut entity, "BytesAt", &self.bytes_name());
        } else {
            entity.set("Bytes", Value::Binary(record.bytes.to_vec()));
        }
        entity
    }
}

fn item_row(id: u64) -> String {
    format!("q-{id:020}")
}

/// All of an item but its bytes.
const SELECT: &str =
    "PartitionKey,RowKey,Number,Tenant,Type,Id,Index,Sink,Reason,At,ByteCount,RetriedAt,DroppedAt";

/// An item without its bytes.
pub(super) struct Found {
    pub(super) item: QuarantinedItem,
    pub(super) is_dropped: bool,
}

pub(super) async fn list(
    books: &Books,
    after: u64,
    max_count: usize,
) -> Result<Vec<QuarantinedItem>, Error> {
    let mut items: Vec<QuarantinedItem> = Vec::new();
    let mut query = Query {
        filter: between(QUARANTINED, &item_row(after.saturating_add(1)), "q."),
        select: SELECT,
        max_count: max_count.clamp(1, MAX_PAGE),
        continuation: None,
    };
    while items.len() < max_count {
        let (rows, continuation) = books.door.page(&query).await?;
        for row in rows {
            let found = read_item(&row.entity)?;
            if !found.is_dropped && items.len() < max_count {
                items.push(found.item);
            }
        }
        if continuation.is_none() {
            break;
        }
        query.continuation = continuation;
    }
    Ok(items)
}

/// Everything that is or was set aside of a tenant and content type, dropped items included.
pub(super) async fn all_of(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Vec<Found>, Error> {
    let filter = format!(
        "{} and Tenant eq {} and Type eq {}",
        between(QUARANTINED, "q-", "q."),
        quoted(&tenant.to_string()),
        quoted(content_type.as_str())
    );
    let rows = books.door.all(filter, SELECT, usize::MAX).await?;
    rows.iter().map(|row| read_item(&row.entity)).collect()
}

/// The blobs of which something is or was set aside.
pub(super) async fn blobs_with_items(books: &Books) -> Result<HashSet<(TenantId, u128)>, Error> {
    let filter = between(QUARANTINED, "q-", "q.");
    let rows = books.door.all(filter, SELECT, usize::MAX).await?;
    let named = rows.iter().map(|row| {
        let entity = &row.entity;
        let number = number_of(content_type(entity)?, &content_id(entity)?);
        Ok((tenant(entity)?, number))
    });
    named.collect()
}

fn read_item(entity: &Entity) -> Result<Found, Error> {
    let sink = text(entity, "Sink")
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| corrupt_by("a sink's name", error))?;
    let item = QuarantinedItem {
        id: number(entity, "Number")?,
        tenant: tenant(entity)?,
        content_type: content_type(entity)?,
        content_id: content_id(entity)?,
        record_index: entity.int64("Index").map(i64::cast_unsigned),
        sink,
        reason: text(entity, "Reason").unwrap_or_default(),
        byte_count: later_number(entity, "ByteCount"),
        quarantined_at: instant(entity, "At")?,
        is_retried: entity.int64("RetriedAt").is_some(),
    };
    Ok(Found {
        item,
        is_dropped: entity.int64("DroppedAt").is_some(),
    })
}

/// An item that was not dropped.
pub(super) async fn find(books: &Books, id: u64) -> Result<Option<QuarantinedItem>, Error> {
    let row = books.door.get(QUARANTINED, &item_row(id)).await?;
    let found = row.map(|row| read_item(&row.entity)).transpose()?;
    Ok(found
        .filter(|found| !found.is_dropped)
        .map(|found| found.item))
}

pub(super) async fn has_bytes(books: &Books, id: u64) -> Result<bool, Error> {
    let row = books.door.get(QUARANTINED, &item_row(id)).await?;
    Ok(row.is_some_and(|row| has_any(&row.entity)))
}

fn has_any(entity: &Entity) -> bool {
    entity.properties.contains_key("BytesAt")
        || entity
            .binary("Bytes")
            .is_some_and(|bytes| !bytes.is_empty())
}

pub(super) async fn bytes(books: &Books, id: u64) -> Result<Option<Vec<u8>>, Error> {
    let row = books.door.get(QUARANTINED, &item_row(id)).await?;
    let Some(row) = row.filter(|row| row.entity.int64("DroppedAt").is_none()) else {
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

/// What is in quarantine of each tenant and content type.
pub(super) async fn counts(books: &Books) -> Result<Vec<(TenantId, ContentType, Counts)>, Error> {
    let filter = between(QUARANTINED, "n-", "n.");
    let rows = books.door.all(filter, "", usize::MAX).await?;
    let counts = rows.iter().map(|row| {
        let entity = &row.entity;
        Ok((
            tenant(entity)?,
            content_type(entity)?,
            Counts::read(entity)?,
        ))
    });
    counts.collect()
}
