//! Which single records each sink has, kept for as long as the configuration says: a small log that grows with every
//! acknowledgement, and runs of sorted keys that are written once, read page by page, and dropped whole.
//!
//! Measured against the plain way, an index with a row per key: ids are random, so that each new one dirties a page of
//! its own, and a commit writes as many pages as it has records. Here a commit writes its keys one behind the other.
//!
//! What is held in memory is a copy of what the tables say, and is dropped when a transaction that changed it was taken
//! back. A key that is known though it was never committed would cost a record; one that is forgotten, a repetition.

mod sieve;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::{RecordKey, RememberedRecords, SinkName, duplicates_counter};

use super::books::{Books, Sink};
use super::counted;
use super::failure::{Failure, corrupt, stored, stored_count};
use sieve::{Probe, Sieve};

/// How many keys a sink's log holds before they become a run: what a hash table of 2^18 places takes without growing,
/// which are 4.5 MB. More makes fewer runs to look at and costs that much memory for each sink.
const RUN_KEYS: usize = 229_376;
/// Keys in a row of a run: the row fills one page of SQLite's, so that to look a key up is to read one page.
const CHUNK_KEYS: usize = 252;
/// A chunk's row is its run's number times this, and its own.
const CHUNKS_PER_RUN: i64 = 1 << 16;
/// What is remembered is forgotten by eighths of the time that it is kept, or by the day when that is shorter.
const SLICES: i64 = 8;
const LONGEST_SLICE_MILLIS: i64 = 24 * 3600 * 1000;
/// What all sieves together may hold in memory: 19 bits a key for the first 14 million keys. Beyond, they get coarser.
const SIEVE_BYTES: usize = 32 << 20;

/// What is held in memory of the record tables.
#[derive(Default)]
pub(super) struct Records {
    /// Nothing: the tables were not read yet, or what was read may not be true any more.
    sinks: Option<HashMap<i64, SinkRecords>>,
    /// How often it was changed, to tell whether an operation that is taken back changed it.
    change_count: u64,
    /// Whether what it says is of the open transaction and not committed.
    is_uncommitted: bool,
}

#[derive(Default)]
struct SinkRecords {
    log: HashSet<RecordKey, BuildHasherDefault<KeyHasher>>,
    /// When the first and the last key of the log were remembered.
    log_span: Option<(i64, i64)>,
    /// Oldest first.
    runs: Vec<Run>,
}

struct Run {
    id: i64,
    /// When its last key was remembered.
    until: i64,
    /// The first key of each chunk.
    fences: Vec<RecordKey>,
    sieve: Sieve,
}

impl Records {
    pub(super) fn change_count(&self) -> u64 {
        self.change_count
    }

    /// What was changed since `change_count` was so much, is taken back.
    pub(super) fn taken_back(&mut self, change_count: u64) {
        if self.change_count != change_count {
            self.sinks = None;
        }
    }

    /// The whole transaction is taken back.
    pub(super) fn rolled_back(&mut self) {
        if std::mem::take(&mut self.is_uncommitted) {
            self.sinks = None;
        }
    }

    pub(super) fn committed(&mut self) {
        self.is_uncommitted = false;
    }

    fn changes(&mut self) {
        self.change_count += 1;
        self.is_uncommitted = true;
    }

    /// Makes the sieves coarser until they fit.
    fn fit_sieves(sinks: &mut HashMap<i64, SinkRecords>) {
        let all = |sinks: &HashMap<i64, SinkRecords>| -> usize {
            let runs = sinks.values().flat_map(|sink| &sink.runs);
            runs.map(|run| run.sieve.bytes()).sum()
        };
        while all(sinks) > SIEVE_BYTES {
            let before = all(sinks);
            for run in sinks.values_mut().flat_map(|sink| &mut sink.runs) {
                run.sieve.halve();
            }
            if all(sinks) == before {
                return;
            }
        }
    }
}

/// Which of `keys` the sink was given since `since`.
pub(super) fn known(
    books: &mut Books,
    sink: &SinkName,
    keys: &[RecordKey],
    since: Timestamp,
) -> Result<Vec<bool>, Failure> {
    let Some(sink) = books.known_sink(sink)? else {
        return Ok(vec![false; keys.len()]);
    };
    let since = stored(since);
    let sinks = load(books)?;
    let found = look_up(books, sinks.get(&sink.id), keys, since);
    books.records().sinks = Some(sinks);
    found
}

fn look_up(
    books: &Books,
    records: Option<&SinkRecords>,
    keys: &[RecordKey],
    since: i64,
) -> Result<Vec<bool>, Failure> {
    let mut known = vec![false; keys.len()];
    let Some(records) = records else {
        return Ok(known);
    };
    if records.log_span.is_some_and(|(_, until)| until >= since) {
        for (known, key) in known.iter_mut().zip(keys) {
            *known = records.log.contains(key);
        }
    }
    let probes: Vec<_> = keys.iter().copied().map(Probe::of).collect();
    let mut statement = books.statement("SELECT keys FROM record_chunk WHERE id = ?1")?;
    // Run by run, so that a sieve is in the processor's cache for all keys.
    for run in records.runs.iter().filter(|run| run.until >= since) {
        for ((known, key), probe) in known.iter_mut().zip(keys).zip(&probes) {
            if *known || !run.sieve.may_have(probe) {
                continue;
            }
            let Some(chunk) = run
                .fences
                .partition_point(|fence| fence <= key)
                .checked_sub(1)
            else {
                continue;
            };
            let id = run.id * CHUNKS_PER_RUN + i64::try_from(chunk).unwrap_or(CHUNKS_PER_RUN);
            *known = statement
                .query_row([id], |row| {
                    let (keys, _) = row
                        .get_ref(0)?
                        .as_blob()?
                        .as_chunks::<{ RecordKey::BYTES }>();
                    Ok(keys.binary_search(&key.0).is_ok())
                })
                .optional()?
                .unwrap_or_default();
        }
    }
    Ok(known)
}

/// Writes down what a sink took, and forgets what has been kept for long enough.
pub(super) fn remember(
    books: &mut Books,
    sink: (&SinkName, Sink),
    remembered: &RememberedRecords,
    now: Timestamp,
) -> Result<(), Failure> {
    let (name, sink) = sink;
    let (now, forget_before) = (stored(now), stored(remembered.forget_before));
    let mut sinks = load(books)?;
    // Before the first write: from here on, what is in memory is dropped if this fails.
    books.records().changes();
    let records = sinks.entry(sink.id).or_default();
    let slice = (now.saturating_sub(forget_before) / SLICES).clamp(1, LONGEST_SLICE_MILLIS);
    let is_due = |(from, _): (i64, i64)| now.saturating_sub(from) >= slice;
    // Before the new keys are added: a run is forgotten as a whole, so none may reach over more than a slice.
    if records.log_span.is_some_and(is_due) {
        fold(books, sink, records)?;
    }
    append(books, sink, records, &remembered.keys, now)?;
    if records.log.len() >= RUN_KEYS {
        fold(books, sink, records)?;
    }
    Records::fit_sieves(&mut sinks);
    forget_runs(books, &mut sinks, forget_before)?;
    books.records().sinks = Some(sinks);
    if remembered.duplicate_count > 0 {
        let count = (duplicates_counter(name), remembered.duplicate_count);
        counted::count(books, &[count])?;
    }
    Ok(())
}

fn append(
    books: &Books,
    sink: Sink,
    records: &mut SinkRecords,
    keys: &[RecordKey],
    now: i64,
) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(keys.len() * RecordKey::BYTES);
    for key in keys {
        if records.log.insert(*key) {
            bytes.extend_from_slice(&key.0);
        }
    }
    if bytes.is_empty() {
        return Ok(());
    }
    books
        .statement("INSERT INTO record_log (sink, remembered_at, keys) VALUES (?1, ?2, ?3)")?
        .execute(params![sink.id, now, bytes])?;
    records.note_logged(now);
    Ok(())
}

/// Makes a run of the log.
fn fold(books: &Books, sink: Sink, records: &mut SinkRecords) -> Result<(), Failure> {
    let mut keys: Vec<RecordKey> = records.log.iter().copied().collect();
    let Some((_, until)) = records.log_span.filter(|_| !keys.is_empty()) else {
        return Ok(());
    };
    keys.sort_unstable();
    let id: i64 = books
        .statement("SELECT coalesce(max(id), 0) + 1 FROM record_run")?
        .query_row([], |row| row.get(0))?;
    books
        .statement("INSERT INTO record_run (id, sink, remembered_until, key_count) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, sink.id, until, stored_count(keys.len() as u64)])?;
    let mut run = Run::empty(id, until, keys.len());
    let mut statement = books.statement("INSERT INTO record_chunk (id, keys) VALUES (?1, ?2)")?;
    let mut bytes = Vec::with_capacity(CHUNK_KEYS * RecordKey::BYTES);
    for (number, chunk) in (id * CHUNKS_PER_RUN..).zip(keys.chunks(CHUNK_KEYS)) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|key| key.0));
        statement.execute(params![number, bytes])?;
        run.add(chunk);
    }
    books
        .statement("DELETE FROM record_log WHERE sink = ?1")?
        .execute([sink.id])?;
    // Its room is kept: the log grows to the same size again.
    records.log.clear();
    records.log_span = None;
    records.runs.push(run);
    Ok(())
}

/// Drops the runs of all sinks whose last key is older than `before`.
fn forget_runs(
    books: &Books,
    sinks: &mut HashMap<i64, SinkRecords>,
    before: i64,
) -> Result<(), Failure> {
    for records in sinks.values_mut() {
        for run in records.runs.iter().filter(|run| run.until < before) {
            let first = run.id * CHUNKS_PER_RUN;
            books
                .statement("DELETE FROM record_chunk WHERE id >= ?1 AND id < ?2")?
                .execute([first, first + CHUNKS_PER_RUN])?;
            books
                .statement("DELETE FROM record_run WHERE id = ?1")?
                .execute([run.id])?;
        }
        records.runs.retain(|run| run.until >= before);
    }
    Ok(())
}

/// Forgets what every sink was given before `before`.
pub(super) fn forget(books: &mut Books, before: Timestamp) -> Result<(), Failure> {
    let before = stored(before);
    let mut sinks = load(books)?;
    books.records().changes();
    forget_runs(books, &mut sinks, before)?;
    books
        .statement("DELETE FROM record_log WHERE remembered_at < ?1")?
        .execute([before])?;
    // What is left of the logs is read again when it is asked for.
    Ok(())
}

/// What is in memory, taken out of the books so that both can be used; read from the tables when there is none. Whoever
/// took it puts it back, or it is read again.
fn load(books: &mut Books) -> Result<HashMap<i64, SinkRecords>, Failure> {
    if let Some(sinks) = books.records().sinks.take() {
        return Ok(sinks);
    }
    // What is read here may be of the open transaction.
    books.records().is_uncommitted = true;
    let mut sinks: HashMap<i64, SinkRecords> = HashMap::new();
    let mut statement =
        books.statement("SELECT sink, remembered_at, keys FROM record_log ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let records = sinks.entry(row.get(0)?).or_default();
        records.log.extend(keys_of(row.get_ref(2)?.as_blob()?)?);
        records.note_logged(row.get(1)?);
    }
    let mut statement = books
        .statement("SELECT id, sink, remembered_until, key_count FROM record_run ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut chunks =
        books.statement("SELECT keys FROM record_chunk WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let key_count = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(RUN_KEYS);
        let mut run = Run::empty(id, row.get(2)?, key_count);
        let first = id
            .checked_mul(CHUNKS_PER_RUN)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, id))?;
        let mut rows = chunks.query([first, first.saturating_add(CHUNKS_PER_RUN)])?;
        while let Some(row) = rows.next()? {
            run.add(&keys_of(row.get_ref(0)?.as_blob()?)?);
        }
        sinks.entry(row.get(1)?).or_default().runs.push(run);
        Records::fit_sieves(&mut sinks);
    }
    Ok(sinks)
}

fn keys_of(bytes: &[u8]) -> Result<Vec<RecordKey>, Failure> {
    match bytes.as_chunks::<{ RecordKey::BYTES }>() {
        (keys, []) => Ok(keys.iter().copied().map(RecordKey).collect()),
        _ => Err(corrupt("the keys of records", TornKeys)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("their bytes do not come out even")]
struct TornKeys;

impl SinkRecords {
    fn note_logged(&mut self, at: i64) {
        let (from, until) = self.log_span.unwrap_or((at, at));
        self.log_span = Some((from.min(at), until.max(at)));
    }
}

impl Run {
    fn empty(id: i64, until: i64, key_count: usize) -> Self {
        Self {
            id,
            until,
            fences: Vec::with_capacity(key_count.min(RUN_KEYS) / CHUNK_KEYS + 1),
            sieve: Sieve::for_keys(key_count.min(RUN_KEYS)),
        }
    }

    /// Takes in its next chunk.
    fn add(&mut self, keys: &[RecordKey]) {
        self.fences.extend(keys.first());
        for key in keys {
            self.sieve.add(*key);
        }
    }
}

/// Keys are the heads of hashes already: eight bytes of one are as good as any hash of it.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
