//! Files that are not of the current format: earlier ones, later ones, and what is no ledger.

use activity_api::{ContentType, Window};
use jiff::Timestamp;
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
                    known: 6
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
    assert_eq!(pragma(&ledger, "user_version").await, "Some(Integer(6))");
    let leases = ledger.lease(&request(), now()).await.unwrap();
    assert_eq!(leases[0].content_id().as_str(), "20251009$waiting$na0018");
    let recalled = ledger.recall("registration").await.unwrap();
    assert_eq!(recalled.as_deref(), Some("kept"));
}

/// A ledger of before there were coverage and a quarantine that things leave.
#[tokio::test]
async fn what_an_earlier_program_listed_and_set_aside_is_there_after_the_upgrade() {
    let (_directory, path) = place();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../../../test-data/format-2.sql"))
        .unwrap();
    drop(old);
    let tenant = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
    let range = Window::new(at(1_759_900_000_000), at(1_760_100_000_000)).unwrap();
    let coverage = async |ledger: &SqliteLedger| {
        let asked = ledger.coverage(tenant, ContentType::Exchange, range);
        asked.await
    };

    let reading = SqliteLedger::open_read_only(&path).unwrap();
    let summary = reading.summary(now()).await.unwrap();
    assert_eq!(summary.streams[0].quarantined_count, 1);
    for refused in [
        coverage(&reading).await.err(),
        reading.quarantined(0, 10).await.err(),
        reading.quarantined_bytes(7).await.err(),
    ] {
        assert!(
            matches!(refused, Some(Error::OlderFormat { found: 2 })),
            "{refused:?}"
        );
    }
    drop(reading);

    let ledger = SqliteLedger::open(&path).unwrap();
    let covered = coverage(&ledger).await.unwrap();
    assert_eq!(covered.began_at, Some(at(1_759_980_000_000)));
    let spans: Vec<_> = covered
        .windows
        .iter()
        .map(|listed| {
            assert_eq!(listed.last_listed_at, listed.window.end());
            assert_eq!(listed.listing_count, 1);
            let span = (listed.window.start(), listed.window.end());
            let seconds = |time: Timestamp| time.as_second() - 1_759_978_800;
            (seconds(span.0), seconds(span.1), listed.blob_count)
        })
        .collect();
    // Hours on the grid, and what there is of the first and the last.
    let expected = [
        (1_200, 3_600, 0),
        (3_600, 4_800, 0),
        (11_200, 14_400, 0),
        (14_400, 18_000, 0),
        (18_000, 21_200, 1),
    ];
    assert_eq!(spans, expected);
    let totals = (covered.delivered.blob_count, covered.pending_count);
    assert_eq!((totals, covered.quarantined_count), ((1, 1), 1));
    assert_eq!(covered.quarantined_record_count, 1);

    let items = ledger.quarantined(0, 10).await.unwrap();
    let found: Vec<_> = items
        .iter()
        .map(|item| (item.id, item.record_index, item.byte_count))
        .collect();
    assert_eq!(found, [(7, None, 6), (8, Some(2), 2)]);
    let bytes = ledger.quarantined_bytes(7).await.unwrap();
    assert_eq!(bytes.as_deref(), Some(&b"<html>"[..]));
    let summary = ledger.summary(now()).await.unwrap();
    assert_eq!(summary.streams[0].quarantined_byte_count, 8);
    // Its address was not kept then, so that there are only the bytes to try.
    assert!(ledger.retry_quarantined(7, now()).await.unwrap());
    let leases = ledger.lease(&request(), now()).await.unwrap();
    let uris: Vec<_> = leases.iter().map(crate::Lease::uri).collect();
    assert_eq!(uris, ["https://manage.office.com/2", "quarantine:7"]);
    // Numbers go on where they were.
    let bad = leases.into_iter().last().unwrap();
    ledger
        .quarantine(bad, "still not", Vec::new(), now())
        .await
        .unwrap();
    let last = ledger.quarantined(8, 10).await.unwrap();
    assert_eq!(last[0].id, 9);
}

/// A ledger of before addresses were kept with marks in them.
#[tokio::test]
async fn an_address_that_an_earlier_program_kept_whole_is_read_as_it_was() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    let blobs = vec![super::blob(1), super::blob(2)];
    ledger.note_seen(blobs, now()).await.unwrap();
    drop(ledger);
    let whole = [
        "https://manage.office.com/1?a={t}&b={id}",
        "https://manage.office.com/2",
    ];
    let old = Connection::open(&path).unwrap();
    for (id, uri) in (1..).zip(whole) {
        let changed = old.execute("UPDATE blob SET uri = ?2 WHERE id = ?1", (id, uri));
        assert_eq!(changed.unwrap(), 1);
    }
    old.pragma_update(None, "user_version", 5).unwrap();
    drop(old);

    let ledger = SqliteLedger::open(&path).unwrap();
    let leases = ledger.lease(&request(), now()).await.unwrap();
    let uris: Vec<_> = leases.iter().map(crate::Lease::uri).collect();
    assert_eq!(uris, whole);
}
