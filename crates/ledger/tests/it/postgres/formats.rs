//! What is in the database when it is first connected to: nothing, a ledger of another format, or somebody else's tables.

use std::sync::Arc;

use ledger::{Error, Ledger, PostgresLedger};

use super::server::Database;
use crate::scene::{at, blob, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn collectors_that_start_together_make_the_tables_once() {
    let database = Database::new().await;
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let ledger = database.ledger();
            tokio::spawn(async move { ledger.note_seen(vec![blob(number)], at(0)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_ledger_of_a_later_program_is_refused_and_left_as_it_is() {
    let database = Database::new().await;
    database.ledger().connect().await.unwrap();
    let administrator = database.client().await;
    let set = |number| format!("UPDATE o365_collector.format SET number = {number}");
    administrator.batch_execute(&set(99)).await.unwrap();
    for ledger in [
        database.ledger(),
        PostgresLedger::read_only(database.server(), None),
    ] {
        let answer = ledger.connect().await;
        let is_refused = matches!(
            answer,
            Err(Error::NewerFormat {
                found: 99,
                known: 1
            })
        );
        assert!(is_refused, "{answer:?}");
    }
    administrator.batch_execute(&set(1)).await.unwrap();
    database.ledger().connect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_schema_that_is_somebody_elses_is_refused_and_an_empty_one_is_used() {
    let database = Database::new().await;
    let administrator = database.client().await;
    administrator
        .batch_execute("CREATE SCHEMA o365_collector; CREATE TABLE o365_collector.theirs ()")
        .await
        .unwrap();
    let answer = database.ledger().connect().await;
    assert!(
        matches!(
            answer,
            Err(Error::Corrupt {
                what: "the schema",
                ..
            })
        ),
        "{answer:?}"
    );
    let look = PostgresLedger::look(database.server(), None).await;
    assert!(matches!(look, Err(Error::Corrupt { .. })), "{look:?}");

    // Beside others in the same database, and made by an administrator for a user who may make none.
    administrator
        .batch_execute(
            "DROP TABLE o365_collector.theirs; CREATE TABLE public.blob (theirs int);
             DROP ROLE IF EXISTS plain_collector; CREATE ROLE plain_collector LOGIN;",
        )
        .await
        .unwrap();
    let url = database.url.replace("postgres@", "plain_collector@");
    let server = super::server::parse(&url);
    let look = PostgresLedger::look(server.clone(), None).await.unwrap();
    assert!(
        !look.has_ledger && !look.may_write && look.takes_writes,
        "{look:?}"
    );
    let refused = PostgresLedger::new(server.clone(), None).connect().await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    administrator
        .batch_execute("ALTER SCHEMA o365_collector OWNER TO plain_collector")
        .await
        .unwrap();
    let look = PostgresLedger::look(server.clone(), None).await.unwrap();
    assert!(!look.has_ledger && look.may_write, "{look:?}");
    let ledger = PostgresLedger::new(server.clone(), None);
    assert_eq!(ledger.note_seen(vec![blob(1)], at(0)).await.unwrap(), 1);
    let look = PostgresLedger::look(server, None).await.unwrap();
    assert!(look.has_ledger && look.may_write, "{look:?}");
    administrator
        .batch_execute("DROP OWNED BY plain_collector; DROP ROLE plain_collector")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_ledger_for_reading_makes_and_changes_nothing() {
    let database = Database::new().await;
    let reading = Arc::new(PostgresLedger::read_only(database.server(), None));
    let answer = reading.summary(at(0)).await;
    assert!(
        matches!(answer, Err(Error::Unavailable { .. })),
        "{answer:?}"
    );
    let ledger = database.ledger();
    ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
    let stream = &reading.summary(at(0)).await.unwrap().streams[0];
    assert_eq!(stream.pending_count, 1);
    let answer = reading.lease(&request(1), at(0)).await;
    assert!(matches!(answer, Err(Error::ReadOnly)), "{answer:?}");
    let answer = reading.remember("key", "value").await;
    assert!(matches!(answer, Err(Error::ReadOnly)), "{answer:?}");
    let stream = &reading.summary(at(0)).await.unwrap().streams[0];
    assert_eq!((stream.pending_count, stream.leased_count), (1, 0));
}
