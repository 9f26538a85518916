//! What the queue is told, and when it is told again.

use std::time::Duration;

use azure::storage::queues::{self, Message};
use bytes::Bytes;
use http::Response;
use ledger::{BlobName, Ledger, SeenBlob, StorageTransport};

use super::account::{Fate, Network, Place, at, blob, request};

/// A quarter of an hour, after which a message is taken for lost.
const STALE: i64 = 15 * 60;
/// A minute, after which it is when the queue is empty.
const SPENT: i64 = 60;

async fn send(place: &Place, draft: &azure::storage::Draft) -> Response<Bytes> {
    let network = Network::new(place.http.clone(), |_| Fate::Answered);
    let request = place.account.sign(draft, network.now(), None).unwrap();
    network.send(request, usize::MAX).await.unwrap()
}

/// Takes all messages out of the queue.
async fn told(place: &Place) -> Vec<BlobName> {
    let queue = place.options.wake_queue.clone().unwrap();
    let mut names = Vec::new();
    loop {
        let draft = queues::get(&queue, 32, Duration::from_secs(30));
        let messages = queues::read_messages(&send(place, &draft).await).unwrap();
        if messages.is_empty() {
            names.sort();
            return names;
        }
        for message in messages {
            let Message { text, .. } = &message;
            names.push(text.parse().unwrap());
            let taken = send(place, &queues::delete(&queue, &message)).await;
            queues::read_done(&taken).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn the_queue_is_told_of_each_new_blob_once() {
    let place = Place::with_queue().await;
    let ledger = place.ledger();
    let awkward = SeenBlob {
        content_id: activity_api::ContentId::canonical("a<b>&\"c\" 'd' \u{e9}\u{1f600}"),
        ..blob(3)
    };
    let blobs = vec![blob(1), blob(2), awkward];
    let mut names: Vec<_> = blobs.iter().map(SeenBlob::name).collect();
    names.sort();
    ledger.note_seen(blobs.clone(), at(0)).await.unwrap();
    assert_eq!(told(&place).await, names);
    ledger.note_seen(blobs.clone(), at(1)).await.unwrap();
    // Another process does not know that they are known.
    place.ledger().note_seen(blobs, at(1)).await.unwrap();
    assert!(told(&place).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_blob_that_is_due_is_announced_again_when_its_message_led_to_nothing() {
    let place = Place::with_queue().await;
    let ledger = place.ledger();
    ledger
        .note_seen(vec![blob(1), blob(2)], at(0))
        .await
        .unwrap();
    let announce = async |seconds| ledger.announce_due(at(seconds)).await.unwrap();
    assert_eq!(announce(STALE - 1).await, 0, "the messages are still there");
    let both = [blob(1).name(), blob(2).name()];
    assert_eq!(told(&place).await, both);
    assert_eq!(
        announce(SPENT - 1).await,
        0,
        "the messages may still be on their way"
    );
    assert_eq!(announce(SPENT).await, 2, "an empty queue leads to nothing");
    assert_eq!(announce(SPENT + STALE - 1).await, 0, "they are there again");
    assert_eq!(announce(SPENT + STALE).await, 2);
    assert_eq!(told(&place).await.len(), 4);
    let sent_at = SPENT + STALE;

    let mut leases = ledger.lease(&request(2), at(sent_at)).await.unwrap();
    assert_eq!(announce(sent_at + 299).await, 0, "somebody has them");
    let waiting = leases.remove(0);
    ledger
        .retry_later(waiting, at(9_000), "not ready")
        .await
        .unwrap();
    assert_eq!(announce(sent_at + 300).await, 1, "a lease ran out");
    assert_eq!(told(&place).await, [blob(2).name()]);
    assert_eq!(announce(8_999).await, 1, "that one is stale again");
    assert_eq!(announce(9_000).await, 1, "the other is due");
    assert_eq!(told(&place).await, both);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn without_a_queue_nobody_is_told() {
    let place = Place::new().await;
    let ledger = place.ledger();
    ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
    assert_eq!(ledger.announce_due(at(9_000)).await.unwrap(), 0);
    assert_eq!(ledger.lease(&request(1), at(0)).await.unwrap().len(), 1);
}

/// The process dies after the rows are there and before a message is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_blob_whose_message_was_never_sent_is_announced_later() {
    let place = Place::with_queue().await;
    let silent = Place {
        options: ledger::AzureOptions {
            wake_queue: None,
            ..place.options.clone()
        },
        ..place.clone()
    };
    silent
        .ledger()
        .note_seen(vec![blob(1)], at(0))
        .await
        .unwrap();
    let ledger = place.ledger();
    assert_eq!(ledger.announce_due(at(0)).await.unwrap(), 1);
    assert_eq!(told(&place).await, [blob(1).name()]);
}
