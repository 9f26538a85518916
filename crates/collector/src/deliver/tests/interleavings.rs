//! Every order in which a blob's pieces may come together, and many threads at once.

use ledger::{AcknowledgedPart, PartKey, SinkCommit};

use super::super::in_flight::Outcome;
use super::*;
use crate::testing::{large_records, seen};
use decode::Totals;

/// A repeatable source of choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    HandOut,
    End,
    Arrive(usize),
}

fn key(index: usize) -> PartKey {
    PartKey {
        first_record: index as u64 * 10,
        record_count: 10,
        fingerprint: index as u64,
    }
}

/// Drives one blob through random orders of handing out, arriving (in batches, well or badly) and ending.
#[tokio::test]
async fn a_blob_is_settled_once_and_by_its_last_piece_in_whatever_order_they_come() {
    let scene = Scene::new();
    let blobs = (0..400)
        .map(|number| seen(tenant(), &format!("blob-{number}")))
        .collect();
    scene.ledger.note_seen(blobs, scene.now()).await.unwrap();
    let request = LeaseRequest {
        max_count: 400,
        duration: LEASE,
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    };
    let leases = scene.ledger.lease(&request, scene.now()).await.unwrap();
    assert_eq!(leases.len(), 400);
    let names: Vec<ledger::SinkName> = ["one", "two", "three"]
        .map(|name| name.parse().unwrap())
        .to_vec();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut complete_count, mut retried_count) = (0, 0);

    for lease in leases {
        let part_count = dice.below(5);
        let fails = dice.below(2) == 0;
        let ends_well = dice.below(4) > 0;
        let in_flight = InFlight::new(lease, &names);
        let mut on_the_way: Vec<Vec<PartKey>> = vec![Vec::new(); names.len()];
        let (mut handed_out, mut is_ended, mut has_failed) = (0, false, false);
        let mut settled = Vec::new();
        loop {
            let mut moves = Vec::new();
            if handed_out < part_count {
                moves.push(Move::HandOut);
            } else if !is_ended {
                moves.push(Move::End);
            }
            moves.extend(
                (0..names.len())
                    .filter(|index| !on_the_way[*index].is_empty())
                    .map(Move::Arrive),
            );
            if moves.is_empty() {
                break;
            }
            assert_eq!(
                settled.len(),
                0,
                "settled while something was still to come"
            );
            match moves[dice.below(moves.len())] {
                Move::HandOut => {
                    let part = key(handed_out);
                    handed_out += 1;
                    for index in in_flight.hand_out(part) {
                        on_the_way[index].push(part);
                    }
                    // As the carrier does: the last part is handed out and the end is said without anybody in between.
                    if handed_out == part_count && dice.below(2) == 0 {
                        is_ended = true;
                        settled.extend(end(&in_flight, ends_well));
                    }
                }
                Move::End => {
                    is_ended = true;
                    settled.extend(end(&in_flight, ends_well));
                }
                Move::Arrive(index) => {
                    let count = 1 + dice.below(on_the_way[index].len());
                    let parts: Vec<_> = on_the_way[index].drain(..count).collect();
                    if fails && dice.below(3) == 0 {
                        has_failed = true;
                        settled.extend(in_flight.failed(index, count, scene.now()));
                        continue;
                    }
                    let planned = in_flight.plan_acknowledgement(index, &parts);
                    let says_whole = planned == [AcknowledgedPart::Whole];
                    let commit = SinkCommit {
                        sink: names[index].clone(),
                        position: None,
                        acknowledged: planned
                            .into_iter()
                            .map(|part| (in_flight.key(), part))
                            .collect(),
                        quarantined: Vec::new(),
                        remembered: None,
                    };
                    let proofs = scene.ledger.acknowledge(commit, scene.now()).await.unwrap();
                    assert_eq!(proofs.len(), usize::from(says_whole));
                    assert!(
                        !says_whole || on_the_way[index].is_empty(),
                        "whole, and parts are still on the way"
                    );
                    settled.extend(in_flight.acknowledged(index, count, proofs.into_iter().next()));
                }
            }
        }
        let [settled] = <[_; 1]>::try_from(settled).expect("settled once");
        match settled.outcome {
            Outcome::Complete { proofs, .. } => {
                assert!(ends_well && !has_failed);
                // Each sink is known to have the whole blob, or is about to be.
                assert_eq!(proofs.len() + settled.lacking.len(), names.len());
                complete_count += 1;
            }
            Outcome::Ended(ending) => {
                assert!(has_failed || !ends_well, "{ending:?}");
                retried_count += 1;
            }
        }
        assert!(
            in_flight.ended(Ending::Release).is_none(),
            "a blob that is settled stays settled"
        );
        scene.ledger.release(vec![settled.lease]).await.unwrap();
    }
    assert!(
        complete_count > 50 && retried_count > 50,
        "{complete_count} {retried_count}"
    );
}

fn end(in_flight: &Arc<InFlight>, ends_well: bool) -> Option<super::super::in_flight::Settled> {
    match ends_well {
        true => in_flight.fetched(Totals::default()),
        false => in_flight.ended(Ending::Quarantine {
            reason: "bad".to_owned(),
            bytes: Vec::new(),
        }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_deliver_every_record_once() {
    let scene = Scene::new();
    let mut expected = Vec::new();
    for number in 0..40 {
        // From no part to five.
        let records = large_records(expected.len(), (number % 6) * 120);
        scene.add_blob(&format!("blob-{number}"), &records).await;
        expected.extend(records);
    }
    let sinks = [
        FakeSink::by_parts("parts-1", 1),
        FakeSink::by_parts("parts-8", 8),
        FakeSink::new("batches"),
        FakeSink::with_position("file"),
    ];
    let deliverer = deliverer_with(&scene, &sinks.each_ref(), 8, 16 * MIB);
    let counts = pass(&deliverer).await;
    assert_eq!(
        (counts.delivered_blobs, counts.delivered_records),
        (40, expected.len() as u64)
    );
    assert_eq!(
        (
            scene.stream().await.delivered_count,
            scene.stream().await.leased_count
        ),
        (40, 0)
    );
    expected.sort();
    for sink in sinks {
        assert!(sink.taken_sorted() == expected, "{}", sink.name());
    }
    assert_eq!(scene.microsoft.blob_count(), 40);
}
