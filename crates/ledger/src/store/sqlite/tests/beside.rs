//! A few writes beside the collector that has the ledger.

use crate::QuarantinedRecord;

use super::*;

fn record(index: u64) -> QuarantinedRecord {
    let SeenBlob {
        tenant,
        content_type,
        content_id,
        ..
    } = blob(0);
    QuarantinedRecord {
        tenant,
        content_type,
        content_id,
        record_index: index,
        sink: None,
        reason: "not JSON".to_owned(),
        bytes: b"{".to_vec().into(),
    }
}

#[tokio::test]
async fn what_is_written_beside_a_running_collector_is_found_by_it_and_its_leases_stay() {
    let (_directory, path) = place();
    let collector = SqliteLedger::open(&path).unwrap();
    collector
        .note_seen(vec![blob(0), blob(1)], now())
        .await
        .unwrap();
    let held = collector.lease(&request(), now()).await.unwrap();
    assert_eq!(held.len(), 2);
    let set_aside = collector.quarantine_records(vec![record(0)], now());
    set_aside.await.unwrap();

    let beside = SqliteLedger::open_beside(&path).unwrap();
    assert!(beside.retry_quarantined(1, now()).await.unwrap());
    // A stream that the collector has not heard of, which both then name.
    let other = SeenBlob {
        content_type: ContentType::General,
        ..blob(2)
    };
    assert_eq!(
        beside.note_seen(vec![other.clone()], now()).await.unwrap(),
        1
    );
    let again = SeenBlob {
        content_id: ContentId::canonical("another"),
        ..other
    };
    assert_eq!(collector.note_seen(vec![again], now()).await.unwrap(), 1);
    drop(beside);

    let taken = collector.lease(&request(), now()).await.unwrap();
    let uris: Vec<_> = taken.iter().map(|lease| lease.uri().to_owned()).collect();
    assert_eq!(uris.len(), 3, "{uris:?}");
    assert!(uris.contains(&"quarantine:1".to_owned()), "{uris:?}");
    // Those of before are good still: they were not freed.
    let keys: Vec<_> = held.iter().map(crate::Lease::key).collect();
    let lost = collector.renew(&keys, now() + Duration::from_secs(900));
    assert_eq!(lost.await.unwrap(), []);
}

#[tokio::test]
async fn both_may_write_at_once_and_nothing_is_refused() {
    let (_directory, path) = place();
    let collector = SqliteLedger::open(&path).unwrap();
    let beside = SqliteLedger::open_beside(&path).unwrap();
    let write = async |ledger: &SqliteLedger, first: usize| {
        for number in first..first + 200 {
            ledger.note_seen(vec![blob(number)], now()).await.unwrap();
        }
    };
    tokio::join!(write(&collector, 0), write(&beside, 100));
    assert_eq!(pending_count(&collector).await, 300);
}

#[tokio::test]
async fn a_ledger_of_another_format_or_none_is_left_alone() {
    let (directory, path) = place();
    assert!(SqliteLedger::open_beside(&path).is_err());
    assert!(!path.exists());
    drop(SqliteLedger::open(&path).unwrap());
    drop(SqliteLedger::open_beside(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    let refused = SqliteLedger::open_beside(&path).err();
    assert!(
        matches!(refused, Some(Error::OlderFormat { found: 2 })),
        "{refused:?}"
    );
    drop(directory);
}
