//! The memory of records against a plain map, through folds, forgetting, failed commits and reopening.

use std::collections::BTreeMap;

use activity_api::ContentType;
use jiff::SignedDuration;

use super::*;
use crate::store::sqlite::tests::{now, place};
use crate::{AcknowledgedPart, Error, LeaseKey, Ledger as _, SinkCommit, SqliteLedger};

const KEEP: SignedDuration = SignedDuration::from_hours(8);

fn key(number: u64) -> RecordKey {
    let tenant = "bf8d32d3-1c13-4487-af02-80dba2236485".parse().unwrap();
    RecordKey::new(tenant, ContentType::Exchange, &number.to_string())
}

fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

fn commit(name: &str, keys: Vec<RecordKey>, duplicate_count: u64, at: Timestamp) -> SinkCommit {
    SinkCommit {
        sink: sink(name),
        position: None,
        acknowledged: Vec::new(),
        quarantined: Vec::new(),
        remembered: Some(RememberedRecords {
            keys,
            duplicate_count,
            forget_before: at - KEEP,
        }),
    }
}

async fn remember(ledger: &SqliteLedger, name: &str, numbers: std::ops::Range<u64>, at: Timestamp) {
    let commit = commit(name, numbers.map(key).collect(), 0, at);
    ledger.acknowledge(commit, at).await.unwrap();
}

async fn known(ledger: &SqliteLedger, name: &str, number: u64, at: Timestamp) -> bool {
    let answer = ledger
        .known_records(&sink(name), vec![key(number)], at - KEEP)
        .await;
    answer.unwrap() == [true]
}

#[tokio::test]
async fn a_record_is_known_to_the_sink_that_took_it_and_to_no_other() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    assert!(!known(&ledger, "file", 1, now()).await);
    remember(&ledger, "file", 1..3, now()).await;
    for _ in 0..2 {
        assert!(known(&ledger, "file", 1, now()).await);
        assert!(known(&ledger, "file", 2, now()).await);
        assert!(!known(&ledger, "file", 3, now()).await);
        assert!(!known(&ledger, "splunk", 1, now()).await);
    }
    drop(ledger);
    let ledger = SqliteLedger::open(&path).unwrap();
    assert!(known(&ledger, "file", 1, now()).await);
    assert!(!known(&ledger, "splunk", 1, now()).await);
}

#[tokio::test]
async fn a_failed_acknowledgement_remembers_nothing() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    remember(&ledger, "file", 0..1, now()).await;
    // It names a blob that there is not, and is taken back with all that it says.
    let nobody = LeaseKey {
        tenant: "bf8d32d3-1c13-4487-af02-80dba2236485".parse().unwrap(),
        blob: 77,
        token: 1,
    };
    let mut failing = commit("file", vec![key(1)], 5, now());
    failing.acknowledged = vec![(nobody, AcknowledgedPart::Whole)];
    let failed = ledger.acknowledge(failing, now()).await;
    assert!(matches!(failed, Err(Error::UnknownBlob)));
    assert!(!known(&ledger, "file", 1, now()).await);
    assert!(known(&ledger, "file", 0, now()).await);
    assert_eq!(ledger.counters("duplicates/").await.unwrap(), []);
}

#[tokio::test]
async fn what_fails_after_the_memory_was_changed_takes_the_change_back() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    remember(&ledger, "file", 0..1, now()).await;
    let failed: Result<(), Error> = ledger
        .write(|books| {
            let (name, sink) = (sink("file"), Sink { id: 0 });
            let remembered = commit("file", vec![key(1)], 0, now()).remembered.unwrap();
            remember_in(books, (&name, sink), &remembered)?;
            assert_eq!(known_in(books, &name, key(1)), [true]);
            Err(Error::LeaseLost.into())
        })
        .await;
    assert!(failed.is_err());
    assert!(!known(&ledger, "file", 1, now()).await);
    assert!(known(&ledger, "file", 0, now()).await);
}

fn remember_in(
    books: &mut Books,
    sink: (&SinkName, Sink),
    remembered: &RememberedRecords,
) -> Result<(), Failure> {
    super::remember(books, sink, remembered, now())
}

fn known_in(books: &mut Books, sink: &SinkName, key: RecordKey) -> Vec<bool> {
    super::known(books, sink, &[key], now() - KEEP).unwrap()
}

#[tokio::test]
async fn duplicates_are_counted_in_the_commit_that_left_them_out() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    for duplicate_count in [2, 0, 3] {
        let commit = commit("file", Vec::new(), duplicate_count, now());
        ledger.acknowledge(commit, now()).await.unwrap();
    }
    assert_eq!(
        ledger.counters(crate::DUPLICATES_PREFIX).await.unwrap(),
        [("duplicates/file".to_owned(), 5)]
    );
}

/// Every answer is that of a map from key to time: known while younger than the time it is kept, unknown when older than
/// that and one slice more, and either in between.
#[tokio::test]
async fn nothing_is_forgotten_early_and_nothing_is_kept_for_long() {
    let (_directory, path) = place();
    let mut ledger = SqliteLedger::open(&path).unwrap();
    // When it was given first, and last.
    let mut twin: BTreeMap<(&str, u64), (Timestamp, Timestamp)> = BTreeMap::new();
    let mut at = now();
    let mut next = 0;
    // A simple generator: what matters is that folds, forgetting and reopening meet in many orders.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..300 {
        at += SignedDuration::from_mins(random(40).cast_signed());
        let name = ["file", "splunk"][random(2) as usize];
        let numbers = next..next + random(600);
        for number in numbers.clone() {
            twin.entry((name, number)).or_insert((at, at)).1 = at;
        }
        remember(&ledger, name, numbers.clone(), at).await;
        // Half of the next ones are new to the other sink only.
        next += (numbers.end - numbers.start) / 2;
        if random(20) == 0 {
            drop(ledger);
            ledger = SqliteLedger::open(&path).unwrap();
        }
        let asked: Vec<u64> = (0..50).map(|_| random(next + 1_000)).collect();
        let keys = asked.iter().copied().map(key).collect();
        let answers = ledger.known_records(&sink(name), keys, at - KEEP).await;
        for (number, is_known) in asked.into_iter().zip(answers.unwrap()) {
            let given = twin.get(&(name, number));
            match given.map(|(first, last)| (at.duration_since(*first), at.duration_since(*last))) {
                None => assert!(!is_known, "{number} was never given"),
                Some((age, _)) if age <= KEEP => assert!(is_known, "{number} is kept at {age}"),
                Some((_, age)) if age > KEEP + KEEP / 8 => {
                    assert!(!is_known, "{number} is forgotten at {age}");
                }
                Some(_) => {}
            }
        }
    }
    let rows = |table: &'static str| {
        ledger.write(move |books| {
            let count = format!("SELECT count(*) FROM {table}");
            Ok(books
                .statement(&count)?
                .query_row([], |row| row.get::<_, i64>(0))?)
        })
    };
    let runs = rows("record_run").await.unwrap();
    assert!((8..=24).contains(&runs), "{runs} runs of two sinks");

    ledger.forget_records(at + KEEP).await.unwrap();
    for table in ["record_log", "record_run", "record_chunk"] {
        assert_eq!(rows(table).await.unwrap(), 0, "{table}");
    }
    assert!(!known(&ledger, "file", next, at).await);
}

#[tokio::test]
async fn a_log_that_is_full_becomes_a_run_whatever_the_time() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let keys = |from: u64, to: u64| {
        (from..to)
            .map(|number| {
                RecordKey(
                    u128::from(number)
                        .wrapping_mul(0x0123_4567_89AB_CDEF_1032_5476_98BA_DCFE_u128 | 1)
                        .to_be_bytes(),
                )
            })
            .collect::<Vec<_>>()
    };
    let (half, all) = (RUN_KEYS as u64 / 2, RUN_KEYS as u64);
    for (from, to) in [(0, half), (half, all), (all, all + 1)] {
        let commit = commit("file", keys(from, to), 0, now());
        ledger.acknowledge(commit, now()).await.unwrap();
    }
    let answers = ledger
        .known_records(&sink("file"), keys(0, all + 1), now() - KEEP)
        .await;
    assert!(answers.unwrap().into_iter().all(|is_known| is_known));
    let answers = ledger
        .known_records(&sink("file"), keys(all + 1, 2 * all), now() - KEEP)
        .await;
    assert!(!answers.unwrap().into_iter().any(|is_known| is_known));
    let counts = ledger.write(|books| {
        let count = |sql| {
            books
                .statement(sql)?
                .query_row([], |row| row.get::<_, i64>(0))
                .map_err(Failure::from)
        };
        Ok((
            count("SELECT sum(key_count) FROM record_run")?,
            count("SELECT count(*) FROM record_log")?,
        ))
    });
    assert_eq!(counts.await.unwrap(), (RUN_KEYS as i64, 1));
}

#[test]
fn a_sieve_that_is_made_coarser_still_has_every_key_and_is_seldom_mistaken() {
    let keys: Vec<_> = (0..20_000).map(key).collect();
    let mut sieve = Sieve::for_keys(10_000);
    let (within, without) = keys.split_at(10_000);
    for key in within {
        sieve.add(*key);
    }
    for most in [60, 600, 5_000, 10_000] {
        assert!(within.iter().all(|key| sieve.may_have(&Probe::of(*key))));
        let mistaken = without
            .iter()
            .filter(|key| sieve.may_have(&Probe::of(**key)))
            .count();
        assert!(
            mistaken <= most,
            "{mistaken} of 10000, {} bytes",
            sieve.bytes()
        );
        sieve.halve();
    }
    while sieve.bytes() > 64 {
        sieve.halve();
    }
    sieve.halve();
    assert_eq!(sieve.bytes(), 64);
    assert!(within.iter().all(|key| sieve.may_have(&Probe::of(*key))));
}
