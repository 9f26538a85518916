//! Named counters. Each is several rows, of which a process writes one, and each row remembers the last writes to it:
//! a write that is tried again after its answer did not come is counted once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use azure::storage::Error as StorageError;
use azure::storage::batch::MAX_CHANGES;
use azure::storage::entity::{Entity, Stored};
use azure::storage::tables::Change;

use crate::Error;

use super::books::{Books, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{FACTS, between, escaped, random};
use super::rows::{number, set_number, set_text, text};

/// Writes remembered per row: as many as other processes could make between two tries of one.
const REMEMBERED_WRITES: usize = 32;

/// Names are of this program; one so long is a defect.
const LONGEST_NAME: usize = 300;

pub(super) async fn count(books: &Books, increments: &[(String, u64)]) -> Result<(), Error> {
    let mut added: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, increment) in increments {
        let sum = added.entry(name).or_default();
        *sum = sum.saturating_add(*increment);
    }
    if added.keys().any(|name| name.len() > LONGEST_NAME) {
        return Err(Error::Unavailable {
            what: "counting",
            source: Arc::new(NameTooLong),
        });
    }
    let added: Vec<_> = added.into_iter().collect();
    for chunk in added.chunks(MAX_CHANGES) {
        count_chunk(books, chunk).await?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("the name of a counter is longer than {LONGEST_NAME} bytes")]
struct NameTooLong;

/// Counts all of them or none.
async fn count_chunk(books: &Books, chunk: &[(&str, u64)]) -> Result<(), Error> {
    let written_by = format!("{:016x}", random());
    let mut rows = books.counts.lock().await;
    for _ in 0..MAX_RACES {
        let lacking: Vec<String> = chunk
            .iter()
            .map(|(name, _)| row_of(name, books.shard))
            .filter(|row| !rows.contains_key(&key(row)))
            .collect();
        let reads = lacking.iter().map(|row| books.door.get(FACTS, row));
        let read = together(reads.collect()).await?;
        for stored in read.into_iter().flatten() {
            // All were counted together, so one that was counted tells of all.
            if writes(&stored.entity).any(|write| write == written_by) {
                return Ok(());
            }
            rows.insert(key(&stored.entity.row), stored);
        }
        let mut changes = Vec::new();
        let mut entities = Vec::new();
        for (name, increment) in chunk {
            let (change, entity) = added_to(&rows, name, books.shard, *increment, &written_by)?;
            changes.push(change);
            entities.push(entity);
        }
        for entity in &entities {
            rows.remove(&key(&entity.row));
        }
        match books.door.batch(&changes).await? {
            Ok(etags) => {
                for (entity, etag) in entities.into_iter().zip(etags) {
                    if let Some(etag) = etag {
                        rows.insert(key(&entity.row), Stored { entity, etag });
                    }
                }
                return Ok(());
            }
            Err(StorageError::Changed | StorageError::NotFound | StorageError::AlreadyExists) => {}
            Err(error) => return Err(refused("counting", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

fn key(row: &str) -> (String, String) {
    (FACTS.to_owned(), row.to_owned())
}

fn row_of(name: &str, shard: u64) -> String {
    // A sign that no escaped name has, and that sorts before all that it can have.
    format!("n-{}!{shard}", escaped(name))
}

fn writes(entity: &Entity) -> impl Iterator<Item = &str> {
    entity.text("Writes").unwrap_or_default().split(',')
}

fn added_to(
    rows: &HashMap<(String, String), Stored>,
    name: &str,
    shard: u64,
    increment: u64,
    written_by: &str,
) -> Result<(Change, Entity), Error> {
    let row = row_of(name, shard);
    let known = rows.get(&key(&row));
    let (before, earlier) = match known {
        None => (0, Vec::new()),
        Some(stored) => (
            number(&stored.entity, "Value")?,
            writes(&stored.entity).map(str::to_owned).collect(),
        ),
    };
    let mut remembered: Vec<String> = vec![written_by.to_owned()];
    remembered.extend(earlier);
    remembered.truncate(REMEMBERED_WRITES);
    let mut entity = Entity::new(FACTS, row);
    set_text(&mut entity, "Name", name);
    set_number(&mut entity, "Value", before.saturating_add(increment));
    set_text(&mut entity, "Writes", &remembered.join(","));
    let change = match known {
        Some(stored) => Change::Replace {
            entity: entity.clone(),
            etag: stored.etag.clone(),
        },
        None => Change::Insert(entity.clone()),
    };
    Ok((change, entity))
}

pub(super) async fn counters(books: &Books, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
    let from = format!("n-{}", escaped(prefix));
    let filter = between(FACTS, &from, &format!("{from}~"));
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for row in books.door.all(filter, "", usize::MAX).await? {
        let name = text(&row.entity, "Name").unwrap_or_default();
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(number(&row.entity, "Value")?);
    }
    Ok(sums.into_iter().collect())
}
