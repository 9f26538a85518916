//! What is SQLite's own: its files, its one writer, group commit, a full disk, and that no query walks a table.

mod beside;
mod formats;
mod pages;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use activity_api::{ContentId, ContentType};
use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::failure::Failure;
use crate::{
    AcknowledgedPart, Error, LeaseKey, LeaseRequest, Ledger, SeenBlob, SeenVia, SinkCommit,
    SinkName, SqliteLedger,
};

pub(super) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    (directory, path)
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap()
}

fn sink(number: usize) -> SinkName {
    format!("sink-{number}").parse().unwrap()
}

fn blob(number: usize) -> SeenBlob {
    SeenBlob {
        tenant: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical(&format!("20251009$blob-{number}$na0018")),
        uri: format!("https://manage.office.com/{number}"),
        created_at: now(),
        expires_at: now(),
        seen_via: SeenVia::Listing,
    }
}

fn request() -> LeaseRequest {
    LeaseRequest {
        max_count: usize::MAX,
        duration: Duration::from_secs(300),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    }
}

fn commit(sink: SinkName, acknowledged: Vec<(LeaseKey, AcknowledgedPart)>) -> SinkCommit {
    SinkCommit {
        sink,
        position: Some("here".into()),
        acknowledged,
        quarantined: Vec::new(),
        remembered: None,
    }
}

async fn pending_count(ledger: &SqliteLedger) -> u64 {
    ledger
        .summary(now())
        .await
        .unwrap()
        .streams
        .iter()
        .map(|stream| stream.pending_count)
        .sum()
}

fn commit_count(ledger: &SqliteLedger) -> u64 {
    ledger.writer.as_ref().unwrap().commit_count()
}

/// Runs a PRAGMA on the writer's connection and returns its answer.
async fn pragma(ledger: &SqliteLedger, name: &'static str) -> String {
    ledger
        .write(move |books| {
            let mut statement = books.statement(&format!("PRAGMA {name}"))?;
            let mut rows = statement.query([])?;
            let value: Option<rusqlite::types::Value> =
                rows.next()?.map(|row| row.get(0)).transpose()?;
            Ok(format!("{value:?}"))
        })
        .await
        .unwrap()
}

/// Keeps the writer busy until the returned sender is dropped, so that whatever is asked meanwhile is one group.
async fn hold(
    ledger: &SqliteLedger,
) -> (
    mpsc::Sender<()>,
    impl Future<Output = Result<(), Error>> + use<'_>,
) {
    let (gate, opened) = mpsc::channel::<()>();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let mut held = Box::pin(ledger.write(move |_| {
        started.send(()).unwrap();
        assert!(opened.recv().is_err(), "opened by being dropped");
        Ok(())
    }));
    tokio::select! {
        biased;
        _ = &mut held => panic!("it was to wait"),
        begun = has_started => begun.unwrap(),
    }
    (gate, held)
}

#[tokio::test]
async fn what_many_tasks_note_at_once_shares_one_commit() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let before = commit_count(&ledger);
    let (gate, held) = hold(&ledger).await;
    let notes = futures_of(64, |number| ledger.note_seen(vec![blob(number)], now()));
    let (held, noted, ()) = tokio::join!(biased; held, notes, async { drop(gate) });
    held.unwrap();
    assert!(noted.into_iter().all(|answer| answer.unwrap() == 1));
    assert_eq!(
        commit_count(&ledger) - before,
        2,
        "one for what held the writer up, one for all 64"
    );
    assert_eq!(pending_count(&ledger).await, 64);
}

#[tokio::test]
async fn what_was_notified_overtakes_other_operations() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let (gate, held) = hold(&ledger).await;
    let note = async |number, seen_via| {
        let seen = vec![SeenBlob {
            seen_via,
            ..blob(number)
        }];
        assert_eq!(ledger.note_new(seen, now()).await.unwrap().len(), 1);
    };
    let (held, (), (), ()) = tokio::join!(
        biased;
        held,
        note(1, SeenVia::Listing),
        note(2, SeenVia::Notification),
        async { drop(gate) },
    );
    held.unwrap();
    let ids = "SELECT content_id FROM blob ORDER BY id";
    let connection = Connection::open(&path).unwrap();
    let mut statement = connection.prepare(ids).unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    let ids: Vec<String> = ids.map(Result::unwrap).collect();
    let expected = [blob(2), blob(1)].map(|blob| blob.content_id.as_str().to_owned());
    assert_eq!(ids, expected);
}

/// Polls every future once before any other, then waits for all.
async fn futures_of<F: Future>(count: usize, make: impl Fn(usize) -> F) -> Vec<F::Output> {
    let mut futures: Vec<_> = (0..count).map(|number| Box::pin(make(number))).collect();
    let mut outputs: Vec<Option<F::Output>> = (0..count).map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_operation_that_fails_takes_back_its_own_work_and_no_other() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let (gate, held) = hold(&ledger).await;
    let nobodys = LeaseKey {
        tenant: blob(1).tenant,
        blob: 99,
        token: 1,
    };
    // The failing one is the first to use its sink: the number given out for it must be forgotten with it.
    let failing = commit(sink(0), vec![(nobodys, AcknowledgedPart::Whole)]);
    let (held, first, failed, second, last, ()) = tokio::join!(
        biased;
        held,
        ledger.note_seen(vec![blob(1)], now()),
        ledger.acknowledge(failing, now()),
        ledger.acknowledge(commit(sink(1), Vec::new()), now()),
        ledger.note_seen(vec![blob(2)], now()),
        async { drop(gate) },
    );
    held.unwrap();
    assert_eq!((first.unwrap(), last.unwrap()), (1, 1));
    assert!(matches!(failed, Err(Error::UnknownBlob)), "{failed:?}");
    second.unwrap();
    assert_eq!(ledger.position(&sink(0)).await.unwrap(), None);
    assert_eq!(
        ledger.position(&sink(1)).await.unwrap().as_deref(),
        Some("here")
    );
    assert_eq!(pending_count(&ledger).await, 2);
}

#[tokio::test]
async fn the_first_operation_of_a_group_that_fails_takes_back_its_own_work_and_no_other() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let (gate, held) = hold(&ledger).await;
    let failing = || {
        ledger.write(|books| {
            books.remember("what", "fails")?;
            Err::<(), _>(Error::UnknownBlob.into())
        })
    };
    let (held, first, second, third, last, ()) = tokio::join!(
        biased;
        held,
        failing(),
        failing(),
        ledger.note_seen(vec![blob(1)], now()),
        failing(),
        async { drop(gate) },
    );
    held.unwrap();
    for failed in [first, second, last] {
        assert!(matches!(failed, Err(Error::UnknownBlob)), "{failed:?}");
    }
    assert_eq!(third.unwrap(), 1);
    assert_eq!(ledger.recall("what").await.unwrap(), None);
    assert_eq!(pending_count(&ledger).await, 1);
}

#[tokio::test]
async fn a_commit_that_fails_is_the_answer_to_all_who_shared_it() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let (gate, held) = hold(&ledger).await;
    // A reference to nothing that is looked at only when the transaction is to be committed.
    let poison = ledger.write(|books| {
        books
            .statement("PRAGMA defer_foreign_keys = ON")?
            .execute([])?;
        books
            .statement("INSERT INTO listed (stream, start_at, end_at) VALUES (999, 1, 2)")?
            .execute([])?;
        Ok(())
    });
    let (held, first, poisoned, second, ()) = tokio::join!(
        biased;
        held,
        ledger.note_seen(vec![blob(1)], now()),
        poison,
        ledger.acknowledge(commit(sink(1), Vec::new()), now()),
        async { drop(gate) },
    );
    held.unwrap();
    assert!(matches!(first, Err(Error::Unavailable { .. })), "{first:?}");
    assert!(
        matches!(poisoned, Err(Error::Unavailable { .. })),
        "{poisoned:?}"
    );
    assert!(
        matches!(second, Err(Error::Unavailable { .. })),
        "{second:?}"
    );
    assert_eq!(pending_count(&ledger).await, 0);
    assert_eq!(
        ledger.note_seen(vec![blob(1)], now()).await.unwrap(),
        1,
        "the next group is a fresh one"
    );
    ledger
        .acknowledge(commit(sink(1), Vec::new()), now())
        .await
        .unwrap();
    assert_eq!(
        ledger.position(&sink(1)).await.unwrap().as_deref(),
        Some("here")
    );
}

#[tokio::test]
async fn a_transaction_that_sqlite_drops_fails_those_before_and_spares_those_after() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let (gate, held) = hold(&ledger).await;
    // As SQLite does of its own accord when the disk fails under it.
    let dropping = ledger.write(|books| -> Result<(), Failure> {
        books.statement("ROLLBACK")?.execute([])?;
        Err(Error::LeaseLost.into())
    });
    let (held, before, dropped, after, ()) = tokio::join!(
        biased;
        held,
        ledger.note_seen(vec![blob(1)], now()),
        dropping,
        ledger.note_seen(vec![blob(2), blob(3)], now()),
        async { drop(gate) },
    );
    held.unwrap();
    assert!(before.is_err(), "{before:?}");
    assert!(dropped.is_err());
    assert_eq!(after.unwrap(), 2);
    assert_eq!(pending_count(&ledger).await, 2);
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    pragma(&ledger, "max_page_count = 60").await;
    let mut kept_count = 0;
    let error = loop {
        let batch = (kept_count..kept_count + 50).map(blob).collect();
        match ledger.note_seen(batch, now()).await {
            Ok(new_count) => kept_count += usize::try_from(new_count).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert!(kept_count > 0);
    assert_eq!(
        pending_count(&ledger).await,
        u64::try_from(kept_count).unwrap(),
        "nothing of the failed batch"
    );
    // In one group with operations that need room, one that needs none is answered as it deserves.
    let one = LeaseRequest {
        max_count: 1,
        ..request()
    };
    let (gate, held) = hold(&ledger).await;
    let (held, full, leased, ()) = tokio::join!(
        biased;
        held,
        ledger.note_seen((10_000..11_000).map(blob).collect(), now()),
        ledger.lease(&one, now()),
        async { drop(gate) },
    );
    drop(held);
    assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
    let leases = leased.unwrap();
    assert_eq!(leases.len(), 1);
    ledger.release(leases).await.unwrap();

    pragma(&ledger, "max_page_count = 1000000").await;
    assert_eq!(
        ledger
            .note_seen(vec![blob(kept_count)], now())
            .await
            .unwrap(),
        1
    );
    drop(ledger);
    let ledger = SqliteLedger::open(&path).unwrap();
    assert_eq!(
        ledger.lease(&request(), now()).await.unwrap().len(),
        kept_count + 1
    );
}

#[tokio::test]
async fn whoever_keeps_the_file_locked_is_named_busy_and_waited_out() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    pragma(&ledger, "busy_timeout = 1").await;
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = ledger.note_seen(vec![blob(1)], now()).await;
    assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ledger.note_seen(vec![blob(1)], now()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_is_gone() {
    let (_directory, path) = place();
    let first = SqliteLedger::open(&path).unwrap();
    let Err(error) = SqliteLedger::open(&path) else {
        panic!("two writers")
    };
    let Error::AlreadyOpen { lock_path } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*lock_path, path.with_extension("db.lock"));
    drop(first);
    SqliteLedger::open(&path).unwrap();
}

#[tokio::test]
async fn a_reader_sees_what_a_running_writer_commits_and_writes_nothing() {
    let (_directory, path) = place();
    let writer = SqliteLedger::open(&path).unwrap();
    let reader = SqliteLedger::open_read_only(&path).unwrap();
    for number in 1..4 {
        writer.note_seen(vec![blob(number)], now()).await.unwrap();
        assert_eq!(pending_count(&reader).await, u64::try_from(number).unwrap());
    }
    let answer = reader.note_seen(vec![blob(9)], now()).await;
    assert!(matches!(answer, Err(Error::ReadOnly)), "{answer:?}");
    drop(writer);
    assert_eq!(pending_count(&reader).await, 3);
    drop(reader);
    let alone = SqliteLedger::open_read_only(&path).unwrap();
    assert_eq!(pending_count(&alone).await, 3);
}

#[tokio::test]
async fn leases_of_a_dead_holder_are_freed_and_their_attempts_counted() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    ledger
        .note_seen(vec![blob(1), blob(2)], now())
        .await
        .unwrap();
    let mut leases = ledger.lease(&request(), now()).await.unwrap();
    let later = now() + jiff::SignedDuration::from_secs(60);
    ledger
        .retry_later(leases.pop().unwrap(), later, "not ready")
        .await
        .unwrap();
    let held = leases.pop().unwrap();
    drop(ledger);
    let ledger = SqliteLedger::open(&path).unwrap();
    let lost = ledger.renew(&[held.key()], later).await.unwrap();
    assert_eq!(lost, [held.key()]);
    let leases = ledger.lease(&request(), now()).await.unwrap();
    let found: Vec<_> = leases
        .iter()
        .map(|lease| (lease.content_id(), lease.attempts()))
        .collect();
    assert_eq!(
        found,
        [(held.content_id(), 2)],
        "the one that waits still does"
    );
}

#[tokio::test]
async fn commits_are_set_to_survive_a_power_cut() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    assert_eq!(pragma(&ledger, "journal_mode").await, "Some(Text(\"wal\"))");
    assert_eq!(pragma(&ledger, "synchronous").await, "Some(Integer(2))");
    assert_eq!(pragma(&ledger, "foreign_keys").await, "Some(Integer(1))");
}

#[cfg(unix)]
#[tokio::test]
async fn every_file_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    ledger.remember("registration", "secret").await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.file_name()
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "ledger.db",
            "ledger.db-shm",
            "ledger.db-wal",
            "ledger.db.lock"
        ]
    );
}

#[tokio::test]
async fn one_sink_too_many_is_refused_and_the_others_go_on() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    ledger.note_seen(vec![blob(1)], now()).await.unwrap();
    let leases = ledger.lease(&request(), now()).await.unwrap();
    let whole = |number| {
        commit(
            sink(number),
            vec![(leases[0].key(), AcknowledgedPart::Whole)],
        )
    };
    for number in 0..63 {
        ledger.acknowledge(whole(number), now()).await.unwrap();
    }
    let answer = ledger.acknowledge(whole(63), now()).await;
    assert!(
        matches!(answer, Err(Error::TooManySinks { limit: 63 })),
        "{answer:?}"
    );
    ledger.acknowledge(whole(62), now()).await.unwrap();
    ledger.release(leases).await.unwrap();
    let leases = ledger.lease(&request(), now()).await.unwrap();
    assert_eq!(leases[0].acknowledged().len(), 63);
}

/// Every query that runs per blob or per lease, as SQLite plans it: each must find its rows by an index, and none may
/// sort, or its cost would grow with what the ledger remembers.
#[test]
fn no_query_of_the_daily_work_walks_a_table_or_sorts() {
    let (_directory, path) = place();
    drop(SqliteLedger::open(&path).unwrap());
    let sources = [
        include_str!("compact.rs"),
        include_str!("counted.rs"),
        include_str!("discover.rs"),
        include_str!("leasing.rs"),
        include_str!("pick.rs"),
        include_str!("settling.rs"),
        include_str!("quarantined.rs"),
        include_str!("retried.rs"),
    ];
    let connection = Connection::open(&path).unwrap();
    let mut checked_count = 0;
    for text in sources
        .iter()
        .flat_map(|source| source.split('"').skip(1).step_by(2))
    {
        if !["SELECT ", "UPDATE ", "INSERT ", "DELETE "]
            .iter()
            .any(|verb| text.starts_with(verb))
        {
            continue;
        }
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {text}"))
            .unwrap();
        for parameter in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(parameter, 1).unwrap();
        }
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let plan: String = row.get(3).unwrap();
            assert!(
                !plan.starts_with("SCAN") && !plan.contains("TEMP B-TREE"),
                "{plan}, in {text}"
            );
        }
        checked_count += 1;
    }
    assert!(
        checked_count >= 20,
        "{checked_count} queries found in the sources"
    );
}

#[test]
fn a_file_name_is_not_read_as_a_uri() {
    let (directory, _) = place();
    let path: &Path = &directory.path().join("ledger.db?mode=memory");
    drop(SqliteLedger::open(path).unwrap());
    assert!(path.metadata().unwrap().len() > 0);
}
