//! A server that fails: connections that are cut in the middle of work, servers that are stopped, that lose their power,
//! or that become a standby.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ledger::{Error, Ledger, PostgresLedger, SeenBlob};

use super::server::{Database, OwnServer};
use crate::scene::{at, blob, deliver, request};

const BLOB_COUNT: i64 = 600;

/// How many of this database's sessions wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

fn all() -> Vec<SeenBlob> {
    (0..BLOB_COUNT).map(blob).collect()
}

/// What goes on between the workers and whoever cuts their connections.
#[derive(Default)]
struct Progress {
    /// Operations that were answered, and those that were not.
    answered: AtomicU64,
    failed: AtomicU64,
    /// Seconds into the scene: leases that nobody was told of run out as this goes on.
    second: AtomicI64,
}

impl Progress {
    /// The answer, or nothing after the only kind of failure that there may be here.
    fn note<T>(&self, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(answer) => {
                self.answered.fetch_add(1, Ordering::SeqCst);
                Some(answer)
            }
            Err(Error::Unavailable { .. }) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn now(&self) -> jiff::Timestamp {
        at(self.second.load(Ordering::SeqCst))
    }
}

async fn work(ledger: &PostgresLedger, progress: &Progress) {
    while progress
        .note(ledger.note_seen(all(), at(0)).await)
        .is_none()
    {}
    loop {
        let leases = progress.note(ledger.lease(&request(10), progress.now()).await);
        let leases = leases.unwrap_or_default();
        if !leases.is_empty() {
            // Whatever becomes of it, it is leased again, or was delivered.
            if let Some(answers) = progress.note(deliver(ledger, leases).await) {
                let is_expected =
                    |answer: &Result<(), Error>| matches!(answer, Ok(()) | Err(Error::LeaseLost));
                assert!(answers.iter().all(is_expected), "{answers:?}");
            }
            continue;
        }
        let Some(summary) = progress.note(ledger.summary(progress.now()).await) else {
            continue;
        };
        let stream = &summary.streams[0];
        if stream.pending_count + stream.leased_count == 0 {
            return;
        }
        progress.second.fetch_add(100, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn connections_that_are_cut_in_the_middle_of_work_lose_and_double_nothing() {
    let database = Database::new().await;
    let progress = Arc::new(Progress::default());
    let workers: Vec<_> = (0..2)
        .flat_map(|_| {
            let ledger = Arc::new(database.ledger());
            let progress = Arc::clone(&progress);
            (0..2).map(move |_| {
                let (ledger, progress) = (Arc::clone(&ledger), Arc::clone(&progress));
                tokio::spawn(async move { work(&ledger, &progress).await })
            })
        })
        .collect();
    let knife = database.client().await;
    let mut cuts = 0;
    let mut next = 3;
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        // Only after some more work, so that it goes on.
        if progress.answered.load(Ordering::SeqCst) < next {
            tokio::task::yield_now().await;
            continue;
        }
        next = progress.answered.load(Ordering::SeqCst) + 7;
        let cut = knife
            .query_one(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
                &[],
            )
            .await
            .unwrap();
        cuts += cut.get::<_, i64>(0);
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let failed = progress.failed.load(Ordering::SeqCst);
    assert!(
        cuts >= 10 && failed >= 5,
        "{cuts} connections were cut, {failed} operations failed"
    );

    let ledger = database.ledger();
    let summary = ledger.summary(progress.now()).await.unwrap();
    let stream = &summary.streams[0];
    let blob_count = BLOB_COUNT.unsigned_abs();
    assert_eq!(stream.delivered_count, blob_count);
    assert_eq!(stream.delivered_record_count, 3 * blob_count);
    let names: HashSet<_> = all().iter().map(SeenBlob::name).collect();
    let unknown = ledger.unknown(names.into_iter().collect()).await.unwrap();
    assert!(unknown.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_ledger_whose_server_comes_back_goes_on() {
    let mut server = OwnServer::start(None, &[]);
    let ledger = Database::on(&server.url()).await.ledger();
    ledger.note_seen(all(), at(0)).await.unwrap();
    server.stop("INT");
    for _ in 0..3 {
        let answer = ledger.lease(&request(1), at(0)).await;
        assert!(
            matches!(answer, Err(Error::Unavailable { .. })),
            "{answer:?}"
        );
        let answer = ledger.summary(at(0)).await;
        assert!(
            matches!(answer, Err(Error::Unavailable { .. })),
            "{answer:?}"
        );
    }
    server.go_on();
    let leases = ledger.lease(&request(1_000), at(0)).await.unwrap();
    assert_eq!(leases.len() as i64, BLOB_COUNT);
    assert_eq!(ledger.note_seen(all(), at(0)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_was_answered_survives_a_power_cut_whatever_the_server_is_set_to() {
    let mut server = OwnServer::start(None, &["synchronous_commit=off", "wal_writer_delay=10s"]);
    let database = Database::on(&server.url()).await;
    // With this setting the server answers first and writes later: what it says of itself would be lost.
    let careless = database.client().await;
    careless
        .batch_execute("CREATE TABLE careless (number int)")
        .await
        .unwrap();
    let ledger = database.ledger();
    ledger.note_seen(all(), at(0)).await.unwrap();
    let leases = ledger.lease(&request(10), at(0)).await.unwrap();
    deliver(&ledger, leases).await.unwrap();
    careless
        .batch_execute("INSERT INTO careless VALUES (1)")
        .await
        .unwrap();
    server.stop("QUIT");
    server.go_on();
    let stream = &ledger.summary(at(0)).await.unwrap().streams[0];
    assert_eq!(
        (stream.delivered_count, stream.pending_count),
        (10, BLOB_COUNT.unsigned_abs() - 10)
    );
    // That this is no accident of the server's.
    let rows = database
        .client()
        .await
        .query("SELECT FROM careless", &[])
        .await
        .unwrap();
    assert!(
        rows.is_empty(),
        "the server wrote by itself, and this test shows nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_server_that_takes_no_writes_is_left_for_another_connection() {
    let database = Database::new().await;
    let ledger = database.ledger();
    ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
    // As a primary server that has become a standby, and back.
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let set = |what: &str| format!("ALTER DATABASE {name} {what}");
    let administrator = database.client().await;
    let read_only = set("SET default_transaction_read_only = on");
    administrator.batch_execute(&read_only).await.unwrap();
    // A connection that was there before knows nothing of it.
    assert_eq!(ledger.note_seen(vec![blob(2)], at(0)).await.unwrap(), 1);
    let other = database.ledger();
    let answer = other.note_seen(vec![blob(3)], at(0)).await;
    assert!(
        matches!(answer, Err(Error::Unavailable { .. })),
        "{answer:?}"
    );
    assert_eq!(
        other.summary(at(0)).await.unwrap().streams[0].pending_count,
        2
    );
    let answer = other.note_seen(vec![blob(3)], at(0)).await;
    assert!(
        matches!(answer, Err(Error::Unavailable { .. })),
        "{answer:?}"
    );
    administrator
        .batch_execute("SET default_transaction_read_only = off")
        .await
        .unwrap();
    let reset = set("RESET default_transaction_read_only");
    administrator.batch_execute(&reset).await.unwrap();
    assert_eq!(other.note_seen(vec![blob(3)], at(0)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn an_operation_that_is_given_up_leaves_nothing_under_way() {
    let database = Database::new().await;
    let ledger = database.ledger();
    ledger.note_seen(all(), at(0)).await.unwrap();
    // Another holds the rows, so that the operation cannot end before it is given up.
    let mut other = database.client().await;
    let holding = other.transaction().await.unwrap();
    holding
        .batch_execute("LOCK TABLE o365_collector.blob IN EXCLUSIVE MODE")
        .await
        .unwrap();
    for _ in 0..20 {
        let leasing = request(10);
        let operation = ledger.lease(&leasing, at(0));
        let waited = async {
            // Until it is at the server and waits there.
            let watching = database.client().await;
            loop {
                let waiting = watching.query_one(WAITING, &[]).await.unwrap();
                if waiting.get::<_, i64>(0) > 0 {
                    return;
                }
            }
        };
        tokio::select! {
            _ = operation => panic!("it cannot have ended"),
            () = waited => {}
        }
    }
    holding.rollback().await.unwrap();
    // What had reached the server is done there all the same, for nobody.
    let watching = database.client().await;
    loop {
        let working = watching
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
                &[],
            )
            .await
            .unwrap();
        if working.get::<_, i64>(0) == 0 {
            break;
        }
    }
    // More were given up than there are connections, so all of those are free; and their leases run out.
    let leases = ledger.lease(&request(1_000), at(300)).await.unwrap();
    assert_eq!(leases.len() as i64, BLOB_COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn an_operation_that_the_server_takes_back_is_done_again() {
    let database = Database::new().await;
    let mut other = database.client().await;
    // Found out about by the ledger's side, which waits first, and after the other side has begun to wait too.
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let sooner = format!("ALTER DATABASE {name} SET deadlock_timeout = '3s'");
    other.batch_execute(&sooner).await.unwrap();
    other
        .batch_execute("SET deadlock_timeout = '10min'")
        .await
        .unwrap();
    let ledger = Arc::new(database.ledger());
    ledger
        .note_seen(vec![blob(1), blob(2)], at(0))
        .await
        .unwrap();
    let leases = ledger.lease(&request(2), at(0)).await.unwrap();

    let lock =
        |id: i64| format!("UPDATE o365_collector.blob SET seen_at = seen_at WHERE id = {id}");
    let holding = other.transaction().await.unwrap();
    holding.batch_execute(&lock(2)).await.unwrap();
    let delivering = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { deliver(&*ledger, leases).await }
    });
    let watching = database.client().await;
    loop {
        let waiting = watching.query_one(WAITING, &[]).await.unwrap();
        if waiting.get::<_, i64>(0) > 0 {
            break;
        }
    }
    // Now each waits for the other. That this ends says that the server has taken the ledger's side back.
    holding.batch_execute(&lock(1)).await.unwrap();
    holding.commit().await.unwrap();
    let answers = delivering.await.unwrap().unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let stream = &ledger.summary(at(3)).await.unwrap().streams[0];
    assert_eq!(
        (stream.delivered_count, stream.delivered_record_count),
        (2, 6)
    );
}
