//! Files that are not of the current format: earlier ones, later ones, and what is no ledger.

use rusqlite::Connection;

use super::{now, place, pragma, request};
use crate::{Error, Ledger, SqliteLedger};

fn refusal(opened: Result<SqliteLedger, Error>) -> Error {
    opened.err().expect("refused")
}

#[test]
fn what_is_no_ledger_is_refused_and_left_as_it_is() {
    let (directory, path) = place();
    assert!(matches!(
        refusal(SqliteLedger::open_read_only(&path)),
        Error::Unavailable { .. }
    ));
    assert!(!path.exists(), "reading creates nothing");

    let text = directory.path().join("text");
    std::fs::write(
        &text,
        "not a database, but long enough to be taken for the header of one".repeat(20),
    )
    .unwrap();
    assert!(matches!(
        refusal(SqliteLedger::open(&text)),
        Error::Corrupt { .. }
    ));
    assert!(matches!(
        refusal(SqliteLedger::open_read_only(&text)),
        Error::Corrupt { .. }
    ));

    let foreign = directory.path().join("foreign");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    assert!(matches!(
        refusal(SqliteLedger::open(&foreign)),
        Error::Corrupt { .. }
    ));
    let tables: i64 = Connection::open(&foreign)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);

    let nowhere = directory.path().join("no such directory").join("ledger.db");
    assert!(matches!(
        refusal(SqliteLedger::open(nowhere)),
        Error::Unavailable { .. }
    ));
}

#[test]
fn a_ledger_of_a_later_program_is_refused() {
    let (_directory, path) = place();
    drop(SqliteLedger::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 1_000)
        .unwrap();
    for opened in [
        SqliteLedger::open(&path),
        SqliteLedger::open_read_only(&path),
    ] {
        let error = refusal(opened);
        assert!(
            matches!(
                error,
                Error::NewerFormat {
                    found: 1_000,
                    known: 4
                }
            ),
            "{error:?}"
        );
    }
}

/// A ledger as an earlier program left it, with one blob that waits and one that was delivered.
#[tokio::test]
async fn a_ledger_of_an_earlier_program_is_read_as_it_is_and_upgraded_when_opened() {
    let (_directory, path) = place();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../../../test-data/format-1.sql"))
        .unwrap();
    drop(old);
    let counts = async |ledger: &SqliteLedger| {
        let summary = ledger.summary(now()).await.unwrap();
        let stream = &summary.streams[0];
        (stream.pending_count, stream.delivered_count)
    };

    let reading = SqliteLedger::open_read_only(&path).unwrap();
    assert_eq!(counts(&reading).await, (1, 1));
    assert!(reading.counters("").await.unwrap().is_empty());
    drop(reading);

    let ledger = SqliteLedger::open(&path).unwrap();
    assert_eq!(counts(&ledger).await, (1, 1));
    ledger.count(vec![("calls".into(), 2)]).await.unwrap();
    let counters = ledger.counters("").await.unwrap();
    assert_eq!(counters, [("calls".to_owned(), 2)]);
    assert_eq!(pragma(&ledger, "user_version").await, "Some(Integer(4))");
    let leases = ledger.lease(&request(), now()).await.unwrap();
    assert_eq!(leases[0].content_id().as_str(), "20251009$waiting$na0018");
    let recalled = ledger.recall("registration").await.unwrap();
    assert_eq!(recalled.as_deref(), Some("kept"));
}
