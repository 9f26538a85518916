//! What a process knows of the ledger without asking, and changes to unsettled blobs under their etags.
//!
//! Everything here is a memory that may be wrong and is never believed: a write that relies on it carries the etag it
//! was read with, and when that fits no more, the row is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use activity_api::TenantId;
use azure::storage::Error as StorageError;
use azure::storage::batch::{MAX_BYTES, MAX_CHANGES};
use azure::storage::entity::{Entity, Stored};
use azure::storage::tables::Change;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::{Error, LeaseKey, SinkName};

use super::door::{Door, refused};
use super::names::{FACTS, SHARDS, between, known_row, partition_of, random, sink_row};
use super::rows::{DueRow, Known, State, Unsettled, corrupt, corrupt_by, set_text, text};

/// Rows of leased blobs kept in memory. More than any pipeline holds at once; what is forgotten is read again.
const MAX_HELD: usize = 20_000;

/// Blobs remembered as known, per generation. A tenant's trailing hour, listed every minute, is a few thousand.
const MAX_KNOWN: usize = 50_000;

/// How long the list of tenants is believed: what another process notes of a tenant that is new to all waits so long.
const TENANTS_AGE: Duration = Duration::from_secs(10);

/// Tries of one change that others get ahead of. Each of them made progress, so this ends; the bound is for defects.
pub(super) const MAX_RACES: u32 = 200;

/// Requests of one operation under way at once.
pub(super) const CONCURRENT: usize = 16;

/// The door, and what was seen through it.
pub(super) struct Books {
    pub(super) door: Door,
    /// Which of the rows that count this process writes.
    pub(super) shard: u64,
    held: Mutex<HashMap<(TenantId, u128), DueRow>>,
    known: Mutex<KnownBlobs>,
    tenants: Mutex<Tenants>,
    /// Sinks that this process has put on the list.
    sinks: Mutex<BTreeSet<SinkName>>,
    /// One lease at a time in a process: two would want the same blobs.
    pub(super) leasing: tokio::sync::Mutex<()>,
    /// Rows that only those of one shard write, with their etags. Held while they are written.
    pub(super) counts: tokio::sync::Mutex<HashMap<(String, String), Stored>>,
}

/// Blobs that are known to be known, in two generations: the older is dropped when the younger is full.
#[derive(Default)]
struct KnownBlobs {
    young: HashMap<(TenantId, u128), bool>,
    old: HashMap<(TenantId, u128), bool>,
}

#[derive(Default)]
struct Tenants {
    registered: BTreeSet<TenantId>,
    all: BTreeSet<TenantId>,
    read_at: Option<Instant>,
}

/// What is stored of a blob.
pub(super) enum Found {
    /// Nothing.
    Unknown,
    /// It is over.
    Settled(Known),
    /// It is not.
    Unsettled(DueRow),
}

/// What came of a change to an unsettled blob.
pub(super) enum Amended {
    /// It was made, and this is the row with it.
    Done(Box<DueRow>),
    /// The change did not want to be made to the row as it is.
    Declined,
    /// The blob is settled.
    Settled,
    /// There is no such blob.
    Unknown,
}

/// Changes of one transaction, each with its number among what was asked for and the row as it will be.
type Batch = Vec<(usize, Unsettled, Change)>;

impl Books {
    pub(super) fn new(door: Door) -> Self {
        Self {
            door,
            shard: random() % SHARDS,
            held: Mutex::default(),
            known: Mutex::default(),
            tenants: Mutex::default(),
            sinks: Mutex::default(),
            leasing: tokio::sync::Mutex::default(),
            counts: tokio::sync::Mutex::default(),
        }
    }

    /// Keeps the row of a blob that this process works on.
    pub(super) fn hold(&self, row: DueRow) {
        let mut held = self.held.lock().expect("nothing panics while it has it");
        if held.len() >= MAX_HELD {
            held.clear();
        }
        held.insert((row.blob.tenant, row.blob.number), row);
    }

    pub(super) fn let_go(&self, tenant: TenantId, number: u128) {
        let mut held = self.held.lock().expect("nothing panics while it has it");
        held.remove(&(tenant, number));
    }

    pub(super) fn held(&self, tenant: TenantId, number: u128) -> Option<DueRow> {
        let held = self.held.lock().expect("nothing panics while it has it");
        held.get(&(tenant, number)).cloned()
    }

    /// Whether nothing need be done when this blob is seen again, in a listing or not.
    pub(super) fn is_known(&self, tenant: TenantId, number: u128, in_listing: bool) -> bool {
        let known = self.known.lock().expect("nothing panics while it has it");
        let blob = (tenant, number);
        let is_listed = known.young.get(&blob).or_else(|| known.old.get(&blob));
        is_listed.is_some_and(|is_listed| *is_listed || !in_listing)
    }

    /// Remembers that a blob is known, and whether from a listing.
    pub(super) fn remember_known(&self, tenant: TenantId, number: u128, is_listed: bool) {
        let mut known = self.known.lock().expect("nothing panics while it has it");
        if known.young.len() >= MAX_KNOWN {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert((tenant, number), is_listed);
    }

    /// Adds a tenant to the list, before anything of it is written: what is in no listed tenant's partition would not
    /// be found.
    pub(super) async fn register(&self, tenant: TenantId) -> Result<(), Error> {
        {
            let tenants = self.tenants.lock().expect("nothing panics while it has it");
            if tenants.registered.contains(&tenant) {
                return Ok(());
            }
        }
        let row = Entity::new(FACTS, format!("t-{tenant}"));
        self.put(row).await?;
        let mut tenants = self.tenants.lock().expect("nothing panics while it has it");
        tenants.registered.insert(tenant);
        tenants.all.insert(tenant);
        Ok(())
    }

    /// Every tenant there is, read again when `fresh` or when it was read a while ago.
    pub(super) async fn tenants(&self, fresh: bool) -> Result<BTreeSet<TenantId>, Error> {
        {
            let tenants = self.tenants.lock().expect("nothing panics while it has it");
            let is_young = tenants
                .read_at
                .is_some_and(|read_at| read_at.elapsed() < TENANTS_AGE);
            if is_young && !fresh {
                return Ok(tenants.all.clone());
            }
        }
        let rows = self
            .door
            .all(
                between(FACTS, "t-", "t."),
                "PartitionKey,RowKey",
                usize::MAX,
            )
            .await?;
        let mut all = BTreeSet::new();
        for row in rows {
            let text = row.entity.row.strip_prefix("t-").unwrap_or_default();
            let tenant: TenantId = text.parse().map_err(|_| corrupt("a tenant's id"))?;
            all.insert(tenant);
        }
        let mut tenants = self.tenants.lock().expect("nothing panics while it has it");
        tenants.all.extend(all);
        tenants.read_at = Some(Instant::now());
        Ok(tenants.all.clone())
    }

    /// Adds a sink to the list of those that ever acknowledged anything: a record that is retried is not for them all.
    pub(super) async fn register_sink(&self, sink: &SinkName) -> Result<(), Error> {
        {
            let sinks = self.sinks.lock().expect("nothing panics while it has it");
            if sinks.contains(sink) {
                return Ok(());
            }
        }
        let mut row = Entity::new(FACTS, sink_row(sink.as_str()));
        set_text(&mut row, "Name", sink.as_str());
        self.put(row).await?;
        let mut sinks = self.sinks.lock().expect("nothing panics while it has it");
        sinks.insert(sink.clone());
        Ok(())
    }

    /// Every sink that ever acknowledged anything, in order.
    pub(super) async fn all_sinks(&self) -> Result<BTreeSet<SinkName>, Error> {
        let rows = self.door.all(between(FACTS, "k-", "k."), "", usize::MAX);
        let mut sinks = BTreeSet::new();
        for row in rows.await? {
            let name = text(&row.entity, "Name").unwrap_or_default();
            sinks.insert(
                name.parse()
                    .map_err(|error| corrupt_by("a sink's name", error))?,
            );
        }
        Ok(sinks)
    }

    /// Puts a row, whatever is there.
    pub(super) async fn put(&self, row: Entity) -> Result<(), Error> {
        let answer = self.door.change(&Change::Put(row)).await?;
        answer
            .map(|_| ())
            .map_err(|error| refused("putting a row", error))
    }

    /// Reads what is stored of a blob.
    pub(super) async fn find(&self, tenant: TenantId, number: u128) -> Result<Found, Error> {
        let partition = partition_of(tenant);
        // The second row may be taken away, or put elsewhere, after the first was read.
        for _ in 0..MAX_RACES {
            let Some(known) = self.door.get(&partition, &known_row(number)).await? else {
                return Ok(Found::Unknown);
            };
            let known = Known::read(&known.entity)?;
            let State::Unsettled { due_row } = &known.state else {
                return Ok(Found::Settled(known));
            };
            if let Some(row) = self.door.get(&partition, due_row).await? {
                return DueRow::read(tenant, row).map(Found::Unsettled);
            }
        }
        Err(corrupt("an unsettled blob without its row"))
    }

    /// Changes one unsettled blob, however often others change it meanwhile. `change` says whether it wants to; it may
    /// be asked several times, each time with the row as it then is.
    pub(super) async fn amend(
        &self,
        tenant: TenantId,
        number: u128,
        written_by: u64,
        change: impl Fn(&mut Unsettled) -> bool,
    ) -> Result<Amended, Error> {
        for _ in 0..MAX_RACES {
            let row = match self.held(tenant, number) {
                Some(row) => row,
                None => match self.find(tenant, number).await? {
                    Found::Unknown => return Ok(Amended::Unknown),
                    Found::Settled(_) => return Ok(Amended::Settled),
                    Found::Unsettled(row) => row,
                },
            };
            // An earlier try whose answer did not come.
            if row.blob.written_by == written_by {
                return Ok(Amended::Done(Box::new(row)));
            }
            let Some(next) = next_state(&row, written_by, &change) else {
                self.let_go(tenant, number);
                // What is in memory may be old. What is stored decides.
                match self.find(tenant, number).await? {
                    Found::Unsettled(fresh) if fresh.etag != row.etag => {
                        self.hold(fresh);
                        continue;
                    }
                    _ => return Ok(Amended::Declined),
                }
            };
            let replace = Change::Replace {
                entity: next.to_entity(),
                etag: row.etag,
            };
            match self.door.change(&replace).await? {
                Ok(Some(etag)) => return Ok(Amended::Done(Box::new(DueRow { blob: next, etag }))),
                // Written, under an etag that was not said; or changed by someone else meanwhile. Reading tells.
                Ok(None) | Err(StorageError::Changed | StorageError::NotFound) => {
                    self.let_go(tenant, number);
                }
                Err(error) => return Err(refused("changing a blob's row", error)),
            }
        }
        Err(Error::Busy(std::sync::Arc::new(TooManyRaces)))
    }

    /// Changes many unsettled blobs, each wholly or not at all, and answers for each in order. Those whose rows are in
    /// memory are changed a hundred at a time; where that fails for one, each for itself.
    pub(super) async fn amend_all(
        &self,
        keys: &[LeaseKey],
        change: impl Fn(usize, &mut Unsettled) -> bool,
    ) -> Result<Vec<Amended>, Error> {
        let written_by = random();
        let mut answers: Vec<Option<Amended>> = keys.iter().map(|_| None).collect();
        let batches = self.batches(keys, written_by, &change);
        if keys.len() > 1 {
            let done = batches.into_iter().map(|batch| self.amend_batch(batch));
            let done = together(done.collect()).await?;
            for (index, row) in done.into_iter().flatten() {
                if let Some(answer) = answers.get_mut(index) {
                    *answer = Some(Amended::Done(Box::new(row)));
                }
            }
        }
        let change = &change;
        let left = keys.iter().enumerate().filter(|(index, _)| {
            let answer = answers.get(*index);
            answer.is_some_and(Option::is_none)
        });
        let singly = left.map(|(index, key)| async move {
            let change = |blob: &mut Unsettled| change(index, blob);
            let amended = self.amend(key.tenant, key.blob, written_by, change).await?;
            Ok::<_, Error>((index, amended))
        });
        let singly = together(singly.collect()).await?;
        for (index, amended) in singly {
            if let Some(answer) = answers.get_mut(index) {
                *answer = Some(amended);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Of the keys whose rows are in memory and whose change wants to be made, groups that fit one transaction each.
    fn batches(
        &self,
        keys: &[LeaseKey],
        written_by: u64,
        change: &impl Fn(usize, &mut Unsettled) -> bool,
    ) -> Vec<Batch> {
        let mut open: BTreeMap<TenantId, (usize, Batch)> = BTreeMap::new();
        let mut full = Vec::new();
        let mut taken = BTreeSet::new();
        for (index, key) in keys.iter().enumerate() {
            let Some(row) = self.held(key.tenant, key.blob) else {
                continue;
            };
            let Some(next) = next_state(&row, written_by, &|blob| change(index, blob)) else {
                continue;
            };
            if !taken.insert((key.tenant, key.blob)) {
                continue;
            }
            let replace = Change::Replace {
                entity: next.to_entity(),
                etag: row.etag,
            };
            let size = replace.size();
            let (bytes, batch) = open.entry(key.tenant).or_default();
            if batch.len() >= MAX_CHANGES || *bytes + size > MAX_BYTES {
                full.push(std::mem::take(batch));
                *bytes = 0;
            }
            *bytes += size;
            batch.push((index, next, replace));
        }
        full.extend(open.into_values().map(|(_, batch)| batch));
        full.retain(|batch| batch.len() > 1);
        full
    }

    /// The rows of those that were changed: all of them, or none.
    async fn amend_batch(&self, batch: Batch) -> Result<Vec<(usize, DueRow)>, Error> {
        let changes: Vec<_> = batch.iter().map(|(.., change)| change.clone()).collect();
        let answer = self.door.batch(&changes).await?;
        match answer {
            Ok(etags) => {
                let rows = batch.into_iter().zip(etags);
                let with_etags = rows.filter_map(|((index, blob, _), etag)| {
                    etag.map(|etag| (index, DueRow { blob, etag }))
                });
                let done: Vec<_> = with_etags.collect();
                if done.len() < changes.len() {
                    self.let_go_of(&changes);
                }
                Ok(done)
            }
            Err(StorageError::Changed | StorageError::NotFound) => {
                for (_, blob, _) in &batch {
                    // Only if in doubt or changed; a read each is the price of a race.
                    self.let_go(blob.tenant, blob.number);
                }
                Ok(Vec::new())
            }
            Err(error) => Err(refused("changing blobs' rows", error)),
        }
    }

    /// Without their etags the rows in memory are of no use.
    fn let_go_of(&self, changes: &[Change]) {
        let mut held = self.held.lock().expect("nothing panics while it has it");
        held.retain(|_, row| {
            let name = row.blob.due_row();
            !changes.iter().any(
                |change| matches!(change, Change::Replace { entity, .. } if entity.row == name),
            )
        });
    }
}

/// All of the work, some at a time, and its outcomes in order; the first failure ends it.
pub(super) async fn together<T>(
    work: Vec<impl Future<Output = Result<T, Error>>>,
) -> Result<Vec<T>, Error> {
    stream::iter(work).buffered(CONCURRENT).try_collect().await
}

/// The row with the change, if it wants to be made.
fn next_state(
    row: &DueRow,
    written_by: u64,
    change: &impl Fn(&mut Unsettled) -> bool,
) -> Option<Unsettled> {
    let mut next = row.blob.clone();
    change(&mut next).then(|| {
        next.written_by = written_by;
        next
    })
}

#[derive(Debug, thiserror::Error)]
#[error("others changed the same row again and again")]
pub(super) struct TooManyRaces;
