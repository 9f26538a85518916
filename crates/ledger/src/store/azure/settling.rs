//! How a blob ends: what sinks have of it, and then delivered, quarantined or expired.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::entity::{Entity, Stored};
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::quarantine::{GONE_BUT_KEPT, quarantine_uri};
use crate::{
    AcknowledgedPart, Acknowledgement, Delivery, Error, Lease, LeaseKey, QuarantinedRecord,
    SinkCommit, SinkName,
};

use super::books::{Amended, Books, Found, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{counts_row, partition_of};
use super::rows::{
    DueRow, End, EndKind, Known, State, later_number, number, set_number, set_text, whole_sinks,
};
use super::{facts, quarantined};

/// Blobs settled in one transaction, each with two rows, besides five rows of counts.
const BATCH: usize = 40;

pub(super) async fn acknowledge(
    books: &Books,
    commit: SinkCommit,
    now: Timestamp,
) -> Result<Vec<Acknowledgement>, Error> {
    // It would cost a row for each record, and none of them in one transaction with the blobs'.
    if commit.remembered.is_some() {
        return Err(Error::NoRecordMemory);
    }
    let mut keys: Vec<LeaseKey> = Vec::new();
    let mut parts: HashMap<(TenantId, u128), Vec<AcknowledgedPart>> = HashMap::new();
    for (key, part) in &commit.acknowledged {
        let of_blob = parts.entry((key.tenant, key.blob)).or_default();
        if of_blob.is_empty() {
            keys.push(*key);
        }
        of_blob.push(*part);
    }
    let keys = unsettled_of(books, keys).await?;
    books.register_sink(&commit.sink).await?;
    quarantined::set_aside(books, commit.quarantined, now).await?;
    if let Some(position) = &commit.position {
        facts::set_position(books, &commit.sink, position).await?;
    }
    let amended = books
        .amend_all(&keys, |index, blob| {
            let of_blob = keys
                .get(index)
                .and_then(|key| parts.get(&(key.tenant, key.blob)));
            for part in of_blob.into_iter().flatten() {
                blob.acknowledge(&commit.sink, *part);
            }
            true
        })
        .await?;
    for amended in amended {
        // Of what is settled meanwhile nothing is kept, as nobody will ask for it again.
        if let Amended::Done(row) = amended {
            books.hold(*row);
        }
    }
    let whole = commit
        .acknowledged
        .iter()
        .filter(|(_, part)| *part == AcknowledgedPart::Whole);
    Ok(whole
        .map(|(key, _)| Acknowledgement {
            key: *key,
            sink: commit.sink.clone(),
        })
        .collect())
}

/// Those of the blobs that are not settled.
async fn unsettled_of(books: &Books, keys: Vec<LeaseKey>) -> Result<Vec<LeaseKey>, Error> {
    let finds = keys.into_iter().map(|key| async move {
        if books.held(key.tenant, key.blob).is_some() {
            return Ok(Some(key));
        }
        match books.find(key.tenant, key.blob).await? {
            Found::Unknown => Err(Error::UnknownBlob),
            Found::Settled(_) => Ok(None),
            Found::Unsettled(row) => {
                books.hold(row);
                Ok(Some(key))
            }
        }
    });
    let found = together(finds.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

/// A blob that is to be settled, and how.
struct Settlement<'a> {
    lease: &'a Lease,
    end: End,
}

pub(super) async fn mark_delivered(
    books: &Books,
    deliveries: Vec<Delivery>,
    required: &[SinkName],
    now: Timestamp,
) -> Result<Vec<Result<(), Error>>, Error> {
    let mut answers: Vec<Result<(), Error>> = Vec::with_capacity(deliveries.len());
    let mut proved = Vec::new();
    for (index, delivery) in deliveries.iter().enumerate() {
        answers.push(match delivery.missing_sink(required) {
            Some(sink) => Err(Error::MissingAcknowledgement { sink: sink.clone() }),
            None => {
                let end = End {
                    kind: EndKind::Delivered,
                    token: delivery.lease.key.token,
                    at: now,
                    reason: String::new(),
                    record_count: delivery.record_count,
                    byte_count: delivery.byte_count,
                    quarantined_count: delivery.quarantined_count,
                    attempts: delivery.lease.attempts,
                    uri: String::new(),
                    whole: String::new(),
                };
                let lease = &delivery.lease;
                proved.push((index, Settlement { lease, end }));
                Ok(())
            }
        });
    }
    let mut by_tenant: BTreeMap<TenantId, Vec<(usize, Settlement<'_>)>> = BTreeMap::new();
    for (index, settlement) in proved {
        let of_tenant = by_tenant.entry(settlement.lease.tenant).or_default();
        of_tenant.push((index, settlement));
    }
    for of_tenant in by_tenant.values() {
        for chunk in of_tenant.chunks(BATCH) {
            if chunk.len() > 1 && settle_together(books, chunk).await? {
                continue;
            }
            for (index, settlement) in chunk {
                let settled = match settle(books, settlement).await {
                    Err(Error::LeaseLost) => Err(Error::LeaseLost),
                    other => Ok(other?),
                };
                if let (Some(item), Ok(())) = (settlement.lease.item, &settled) {
                    quarantined::take_out(books, item).await?;
                }
                if let Some(answer) = answers.get_mut(*index) {
                    *answer = settled;
                }
            }
        }
    }
    Ok(answers)
}

pub(super) async fn quarantine(
    books: &Books,
    lease: &Lease,
    reason: &str,
    bytes: Vec<u8>,
    now: Timestamp,
) -> Result<(), Error> {
    // Asked before anything is set aside: what another worker has is that worker's to judge.
    match books.find(lease.tenant, lease.key.blob).await? {
        Found::Unsettled(row) if row.blob.token == lease.key.token => {}
        _ => return Err(Error::LeaseLost),
    }
    let item = QuarantinedRecord {
        tenant: lease.tenant,
        content_type: lease.content_type,
        content_id: lease.content_id.clone(),
        record_index: 0,
        sink: None,
        reason: reason.to_owned(),
        bytes: bytes.into(),
    };
    match lease.item {
        Some(old) => quarantined::replace_blob(books, old, item, now).await?,
        None => quarantined::set_blob_aside(books, item, now).await?,
    }
    settle_unfetched(books, lease, EndKind::Quarantined, reason, &lease.uri, now).await
}

pub(super) async fn expire(
    books: &Books,
    lease: &Lease,
    reason: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(item) = lease.item else {
        return settle_unfetched(books, lease, EndKind::Expired, reason, "", now).await;
    };
    if !quarantined::has_bytes(books, item).await? {
        settle_unfetched(books, lease, EndKind::Expired, reason, "", now).await?;
        return quarantined::take_out(books, item).await;
    }
    // The blob that was made of a record is over, whatever is said of it: the record is where it was.
    let is_part = match books.find(lease.tenant, lease.key.blob).await? {
        Found::Unsettled(row) => row.blob.is_part,
        Found::Settled(known) => known.is_part,
        Found::Unknown => return Err(Error::LeaseLost),
    };
    let kind = if is_part {
        EndKind::Expired
    } else {
        EndKind::Quarantined
    };
    let reason = format!("{GONE_BUT_KEPT}{reason}");
    settle_unfetched(books, lease, kind, &reason, &quarantine_uri(item), now).await?;
    quarantined::note_retried(books, item, None).await
}

async fn settle_unfetched(
    books: &Books,
    lease: &Lease,
    kind: EndKind,
    reason: &str,
    uri: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let whole = lease.acknowledged.iter();
    let whole = whole.filter(|(_, part)| *part == AcknowledgedPart::Whole);
    let end = End {
        kind,
        token: lease.key.token,
        at: now,
        reason: reason.to_owned(),
        record_count: 0,
        byte_count: 0,
        quarantined_count: 0,
        attempts: lease.attempts,
        uri: uri.to_owned(),
        whole: whole_sinks(whole.map(|(sink, _)| sink)),
    };
    settle(books, &Settlement { lease, end }).await
}

/// Settles many of one tenant in one transaction; gives false when that cannot be done, or is not known to be.
async fn settle_together(books: &Books, chunk: &[(usize, Settlement<'_>)]) -> Result<bool, Error> {
    let mut counts = books.counts.lock().await;
    let mut changes = Vec::new();
    let mut by_type: BTreeMap<ContentType, Counts> = BTreeMap::new();
    for (_, settlement) in chunk {
        let lease = settlement.lease;
        let row = books.held(lease.tenant, lease.key.blob);
        let Some(row) = row.filter(|row| row.blob.token == lease.key.token) else {
            return Ok(false);
        };
        // What is retried from quarantine is settled by itself.
        if row.blob.item.is_some() {
            return Ok(false);
        }
        by_type
            .entry(lease.content_type)
            .or_default()
            .add(&settlement.end);
        changes.extend(endings(&row, settlement));
    }
    let Some((first, _)) = chunk.first().map(|(_, first)| (first.lease.tenant, first)) else {
        return Ok(true);
    };
    let mut counted = Vec::new();
    for (content_type, added) in &by_type {
        let row = counts_row(*content_type, books.shard);
        let (change, entity) = count(books, &mut counts, first, &row, added).await?;
        changes.push(change);
        counted.push(entity);
    }
    let done = commit(books, &mut counts, changes, counted).await?;
    for (_, settlement) in chunk {
        books.let_go(settlement.lease.tenant, settlement.lease.key.blob);
        if done {
            books.remember_known(settlement.lease.tenant, settlement.lease.key.blob, true);
        }
    }
    Ok(done)
}

/// Settles one blob, if the lease is still good.
async fn settle(books: &Books, settlement: &Settlement<'_>) -> Result<(), Error> {
    let lease = settlement.lease;
    let (tenant, blob) = (lease.tenant, lease.key.blob);
    for _ in 0..MAX_RACES {
        let held = books.held(tenant, blob);
        let row = match held.filter(|row| row.blob.token == lease.key.token) {
            Some(row) => row,
            None => match books.find(tenant, blob).await? {
                Found::Unsettled(row) if row.blob.token == lease.key.token => row,
                // By an earlier try whose answer did not come.
                Found::Settled(known) if is_by(&known, lease.key.token) => {
                    books.remember_known(tenant, blob, true);
                    return Ok(());
                }
                _ => return Err(Error::LeaseLost),
            },
        };
        let mut counts = books.counts.lock().await;
        let mut added = Counts::default();
        // What was made of a single record is counted only where it is set aside itself.
        if !row.blob.is_part || settlement.end.kind == EndKind::Quarantined {
            added.add(&settlement.end);
        }
        let name = counts_row(lease.content_type, books.shard);
        let (change, entity) = count(books, &mut counts, tenant, &name, &added).await?;
        let mut changes = Vec::from(endings(&row, settlement));
        changes.push(change);
        let done = commit(books, &mut counts, changes, vec![entity]).await?;
        books.let_go(tenant, blob);
        if done {
            books.remember_known(tenant, blob, true);
            return Ok(());
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

fn is_by(known: &Known, token: u64) -> bool {
    matches!(&known.state, State::Settled(end) if end.token == token)
}

/// What settles a blob: its unsettled row taken away, and its end noted.
fn endings(row: &DueRow, settlement: &Settlement<'_>) -> [Change; 2] {
    let blob = &row.blob;
    let known = Known {
        content_type: blob.content_type,
        content_id: blob.content_id.clone(),
        noted_by: blob.noted_by,
        is_listed: true,
        created_at: Some(blob.created_at),
        expires_at: Some(blob.expires_at),
        is_part: blob.is_part,
        state: State::Settled(settlement.end.clone()),
    };
    [
        Change::Delete {
            partition: partition_of(blob.tenant),
            row: blob.due_row(),
            etag: row.etag.clone(),
        },
        // Whatever its etag: while the unsettled row is as it was, nobody has changed this one either, save to say
        // that a listing has confirmed it.
        Change::Replace {
            entity: known.to_entity(blob.tenant, blob.number),
            etag: "*".into(),
        },
    ]
}

/// What one transaction adds to the counts of a tenant and content type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) quarantined: u64,
    pub(super) expired: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Of the quarantined ones, those that are no more: retried or dropped.
    pub(super) left: u64,
    pub(super) dropped: u64,
}

impl Counts {
    fn add(&mut self, end: &End) {
        match end.kind {
            EndKind::Delivered => self.delivered += 1,
            EndKind::Quarantined => self.quarantined += 1,
            EndKind::Expired => self.expired += 1,
            EndKind::Dropped => self.dropped += 1,
        }
        self.records = self.records.saturating_add(end.record_count);
        self.bytes = self.bytes.saturating_add(end.byte_count);
    }

    pub(super) fn read(entity: &Entity) -> Result<Self, Error> {
        Ok(Self {
            delivered: number(entity, "Delivered")?,
            quarantined: number(entity, "Quarantined")?,
            expired: number(entity, "Expired")?,
            records: number(entity, "Records")?,
            bytes: number(entity, "Bytes")?,
            left: later_number(entity, "Left"),
            dropped: later_number(entity, "Dropped"),
        })
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            delivered: self.delivered.saturating_add(other.delivered),
            quarantined: self.quarantined.saturating_add(other.quarantined),
            expired: self.expired.saturating_add(other.expired),
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
            left: self.left.saturating_add(other.left),
            dropped: self.dropped.saturating_add(other.dropped),
        }
    }
}

/// The rows that count, as this process last saw them.
type CountRows = HashMap<(String, String), Stored>;

/// The change that adds to a row of counts, and the row as it then is.
async fn count(
    books: &Books,
    rows: &mut CountRows,
    tenant: TenantId,
    row: &str,
    added: &Counts,
) -> Result<(Change, Entity), Error> {
    let partition = partition_of(tenant);
    let key = (partition.clone(), row.to_owned());
    if !rows.contains_key(&key)
        && let Some(stored) = books.door.get(&partition, row).await?
    {
        rows.insert(key.clone(), stored);
    }
    let known = rows.get(&key);
    let before = known
        .map(|stored| Counts::read(&stored.entity))
        .transpose()?
        .unwrap_or_default();
    let after = before.plus(added);
    let mut entity = Entity::new(partition, row);
    let content_type = row
        .strip_prefix("c-")
        .and_then(|rest| rest.split('!').next())
        .unwrap_or_default();
    set_text(&mut entity, "Type", content_type);
    set_number(&mut entity, "Delivered", after.delivered);
    set_number(&mut entity, "Quarantined", after.quarantined);
    set_number(&mut entity, "Expired", after.expired);
    set_number(&mut entity, "Records", after.records);
    set_number(&mut entity, "Bytes", after.bytes);
    set_number(&mut entity, "Left", after.left);
    set_number(&mut entity, "Dropped", after.dropped);
    let change = match known {
        Some(stored) => Change::Replace {
            entity: entity.clone(),
            etag: stored.etag.clone(),
        },
        None => Change::Insert(entity.clone()),
    };
    Ok((change, entity))
}

/// Makes changes to one tenant's rows together with what they add to the counts; gives false when something was in the
/// way.
pub(super) async fn commit_counted(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    added: &Counts,
    mut changes: Vec<Change>,
) -> Result<bool, Error> {
    let mut counts = books.counts.lock().await;
    let row = counts_row(content_type, books.shard);
    let (change, entity) = count(books, &mut counts, tenant, &row, added).await?;
    changes.push(change);
    commit(books, &mut counts, changes, vec![entity]).await
}

/// Makes the changes, of which the last are those of the rows that count. Gives false when something was in the way,
/// or when an earlier try may have been done: reading tells.
async fn commit(
    books: &Books,
    rows: &mut CountRows,
    changes: Vec<Change>,
    counted: Vec<Entity>,
) -> Result<bool, Error> {
    let first = changes.len().saturating_sub(counted.len());
    for entity in &counted {
        rows.remove(&(entity.partition.clone(), entity.row.clone()));
    }
    match books.door.batch(&changes).await? {
        Ok(etags) => {
            for (entity, etag) in counted.into_iter().zip(etags.into_iter().skip(first)) {
                if let Some(etag) = etag {
                    let key = (entity.partition.clone(), entity.row.clone());
                    rows.insert(key, Stored { entity, etag });
                }
            }
            Ok(true)
        }
        Err(StorageError::Changed | StorageError::NotFound | StorageError::AlreadyExists) => {
            Ok(false)
        }
        Err(error) => Err(refused("settling blobs", error)),
    }
}
