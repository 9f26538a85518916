//! Random steps, restarts and crashes, on a real ledger and on a twin in memory that is too simple to be wrong.
//!
//! After every step both must say the same: the answer to the step, the summary, what was listed, and every position.

mod real;
mod step;
mod twin;

use std::time::Duration;

use activity_api::Window;
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Completion, Delivery, Error, Lease, LeaseKey, LeaseRequest, Ledger,
    ListedStretch, Listing, PartKey, QuarantinedRecord, SeenVia, SinkCommit,
};
use proptest::prelude::*;

use real::Real;
use step::{SINK_COUNT, Step, step};
use twin::{Twin, Wanted, number_of, sink_of, stream_of};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_and_its_twin_agree_through_steps_and_crashes(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Pair::new(Real::in_a_file()).take_all(steps));
    }
}

proptest! {
    // Each asks the server some thousand times.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn the_ledger_in_postgresql_and_its_twin_agree_through_steps_and_new_connections(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Pair::new(Real::on_a_server().await).take_all(steps).await });
    }
}

/// The two, the time, and the leases of the process that is supposed to be running.
struct Pair {
    real: Real,
    twin: Twin,
    leases: Vec<Lease>,
    now: Timestamp,
}

impl Pair {
    fn new(real: Real) -> Self {
        let now = twin::at(0);
        Self {
            real,
            twin: Twin::default(),
            leases: Vec::new(),
            now,
        }
    }

    async fn take_all(mut self, steps: Vec<Step>) {
        for step in steps {
            self.take(step.clone()).await;
            self.assert_agreement(&step).await;
        }
    }

    fn real(&self) -> &dyn Ledger {
        self.real.ledger()
    }

    fn later(&self, seconds: u8) -> Timestamp {
        self.now + SignedDuration::from_secs(seconds.into())
    }

    /// One of the leases at hand, if there are any; it may have been lost.
    fn pick(&self, number: u8) -> Option<usize> {
        usize::from(number).checked_rem(self.leases.len())
    }

    fn give_up(&mut self, number: u8) -> Option<Lease> {
        self.pick(number)
            .map(|index| self.leases.swap_remove(index))
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::NoteSeen { blobs, via_listing } => {
                let via = if via_listing {
                    SeenVia::Listing
                } else {
                    SeenVia::Notification
                };
                let seen = blobs
                    .iter()
                    .map(|number| twin::seen(*number, via))
                    .collect();
                let expected = self.twin.note_seen(&blobs, via, self.now);
                assert_eq!(
                    self.real().note_seen(seen, self.now).await.unwrap(),
                    expected
                );
            }
            Step::NoteListed {
                stream,
                start_minute,
                minutes,
            } => {
                let (tenant, content_type) = stream_of(stream);
                let end_minute = start_minute + minutes;
                let window =
                    Window::new(twin::minute(start_minute), twin::minute(end_minute)).unwrap();
                self.twin.note_listed(stream, start_minute, end_minute);
                let listing = Listing {
                    tenant,
                    content_type,
                    window,
                    blob_count: 0,
                };
                self.real().note_listed(listing, self.now).await.unwrap();
            }
            Step::NoteUnlistable {
                stream,
                before_minute,
            } => {
                let (tenant, content_type) = stream_of(stream);
                self.twin.note_unlistable(stream, before_minute);
                self.real()
                    .note_unlistable(tenant, content_type, twin::minute(before_minute))
                    .await
                    .unwrap();
            }
            Step::Lease {
                max_count,
                except_tenant,
                for_sinks,
                only,
                seconds,
            } => {
                let wanted = Wanted {
                    max_count,
                    except_tenant,
                    for_sinks,
                    only,
                };
                self.lease(wanted, seconds).await;
            }
            Step::Renew { lease, seconds } => {
                let Some(index) = self.pick(lease) else {
                    return;
                };
                let key = self.leases[index].key();
                let until = self.later(seconds);
                let lost = self.real().renew(&[key], until).await.unwrap();
                assert_eq!(lost.is_empty(), self.twin.renew(key, until));
            }
            Step::Acknowledge {
                lease,
                sink,
                part,
                position,
                quarantined,
            } => {
                self.acknowledge(lease, sink, part, position, quarantined)
                    .await;
            }
            Step::AcknowledgeLast {
                lease,
                sink,
                required,
            } => self.acknowledge_last(lease, sink, &required).await,
            Step::Deliver {
                lease,
                required,
                proofs,
            } => self.deliver(lease, required, proofs).await,
            Step::RetryLater { lease, seconds } => {
                let not_before = self.later(seconds);
                let Some(lease) = self.give_up(lease) else {
                    return;
                };
                let expected = self.twin.retry_later(lease.key(), not_before);
                assert_kept(
                    self.real().retry_later(lease, not_before, "later").await,
                    expected,
                );
            }
            Step::Release { lease } => {
                let Some(lease) = self.give_up(lease) else {
                    return;
                };
                self.twin.release(lease.key());
                self.real().release(vec![lease]).await.unwrap();
            }
            Step::Quarantine { lease } => {
                let Some(lease) = self.give_up(lease) else {
                    return;
                };
                let expected = self.twin.quarantine(lease.key());
                assert_kept(
                    self.real()
                        .quarantine(lease, "bad", b"bytes".to_vec(), self.now)
                        .await,
                    expected,
                );
            }
            Step::Expire { lease } => {
                let Some(lease) = self.give_up(lease) else {
                    return;
                };
                let expected = self.twin.expire(lease.key());
                assert_kept(self.real().expire(lease, "gone", self.now).await, expected);
            }
            Step::Count { counter, increment } => {
                self.twin.count(counter, increment);
                let increments = vec![(twin::counter_of(counter), increment.into())];
                self.real().count(increments).await.unwrap();
            }
            Step::Compact { max_blobs } => {
                let mut forgotten_count = 0;
                loop {
                    let step = self.real().compact(self.now, max_blobs.into());
                    let done = step.await.unwrap();
                    forgotten_count += done.blob_count;
                    if done.is_done {
                        break;
                    }
                }
                assert_eq!(
                    forgotten_count,
                    self.twin.compact(self.now, self.real.keeps_the_last())
                );
                // Nobody holds on to a lease for the week that this takes.
                let twin = &self.twin;
                self.leases.retain(|lease| twin.remembers(lease.key()));
            }
            Step::Wait { seconds } => self.now = self.later(seconds),
            Step::Restart => {
                let freed = self.real.restart();
                self.reopened(freed);
            }
            Step::Crash => {
                let freed = self.real.crash();
                self.reopened(freed);
            }
        }
    }

    fn reopened(&mut self, freed_leases: bool) {
        if freed_leases {
            self.leases.clear();
            self.twin.reopen();
        }
    }

    async fn lease(&mut self, wanted: Wanted, seconds: u8) {
        let request = LeaseRequest {
            max_count: wanted.max_count.into(),
            duration: Duration::from_secs(seconds.into()),
            except_tenants: wanted
                .except_tenant
                .map(|number| stream_of(number).0)
                .into_iter()
                .collect(),
            for_sinks: wanted.for_sinks.iter().map(|sink| sink_of(*sink)).collect(),
            only: wanted
                .only
                .iter()
                .map(|number| twin::seen(*number, SeenVia::Listing).name())
                .collect(),
        };
        let leases = self.real().lease(&request, self.now).await.unwrap();
        let numbers: Vec<_> = leases
            .iter()
            .map(|lease| number_of(lease.content_id()))
            .collect();
        self.twin.judge_lease(&numbers, &wanted, self.now);
        for (number, lease) in numbers.into_iter().zip(&leases) {
            self.twin.hand_over(number, lease, self.later(seconds));
        }
        self.leases.extend(leases);
    }

    async fn acknowledge(
        &mut self,
        lease: u8,
        sink: u8,
        part: Option<u8>,
        position: Option<u8>,
        quarantined: Option<u8>,
    ) {
        let Some(index) = self.pick(lease) else {
            return;
        };
        let lease = &self.leases[index];
        let part = part.map_or(AcknowledgedPart::Whole, |number| {
            let first_record = u64::from(number) * 10;
            AcknowledgedPart::Part(PartKey {
                first_record,
                record_count: 10,
                fingerprint: u64::MAX - first_record,
            })
        });
        let commit = SinkCommit {
            sink: sink_of(sink),
            position: position.map(|number| number.to_string()),
            acknowledged: vec![(lease.key(), part)],
            quarantined: quarantined
                .map(|record_index| QuarantinedRecord {
                    tenant: lease.tenant(),
                    content_type: lease.content_type(),
                    content_id: lease.content_id().clone(),
                    record_index: record_index.into(),
                    sink: Some(sink_of(sink)),
                    reason: "too large".into(),
                    bytes: bytes::Bytes::new(),
                })
                .into_iter()
                .collect(),
            remembered: None,
        };
        let proofs = self.real().acknowledge(commit, self.now).await.unwrap();
        assert_eq!(proofs.len(), usize::from(part == AcknowledgedPart::Whole));
        self.twin
            .acknowledge(lease.key(), sink, part, position, quarantined);
    }

    async fn acknowledge_last(&mut self, lease: u8, sink: u8, required: &[u8]) {
        let Some(index) = self.pick(lease) else {
            return;
        };
        let key = self.leases[index].key();
        let commit = whole(sink, key);
        let completions = Vec::from_iter(Completion::of(&self.leases[index], 3, 99, 0));
        let names: Vec<_> = required.iter().map(|sink| sink_of(*sink)).collect();
        let (proofs, delivered) = self
            .real()
            .acknowledge_and_deliver(commit, completions, &names, self.now)
            .await
            .unwrap();
        assert_eq!(proofs.len(), 1);
        let whole = AcknowledgedPart::Whole;
        self.twin.acknowledge(key, sink, whole, None, None);
        let is_delivered = self.twin.deliver_complete(key, required);
        assert_eq!(delivered, Vec::from_iter(is_delivered.then_some(key)));
        if is_delivered {
            drop(self.leases.swap_remove(index));
        }
    }

    async fn deliver(&mut self, lease: u8, required: Vec<u8>, proofs: bool) {
        if required.is_empty() {
            return;
        }
        let Some(lease) = self.give_up(lease) else {
            return;
        };
        let key = lease.key();
        let mut acknowledgements = Vec::new();
        for sink in required.iter().filter(|_| proofs) {
            let commit = whole(*sink, key);
            acknowledgements.extend(self.real().acknowledge(commit, self.now).await.unwrap());
            self.twin
                .acknowledge(key, *sink, AcknowledgedPart::Whole, None, None);
        }
        let expected = self.twin.deliver(&lease, &required, proofs);
        let delivery = Delivery {
            lease,
            acknowledgements,
            record_count: 3,
            byte_count: 99,
            quarantined_count: 0,
        };
        let required: Vec<_> = required.iter().map(|sink| sink_of(*sink)).collect();
        let answers = self
            .real()
            .mark_delivered(vec![delivery], &required, self.now)
            .await
            .unwrap();
        let answered = match &answers[..] {
            [Ok(())] => Ok(()),
            [Err(Error::LeaseLost)] => Err("lost".to_owned()),
            [Err(Error::MissingAcknowledgement { sink })] => Err(sink.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(answered, expected);
    }

    async fn assert_agreement(&self, step: &Step) {
        let summary = self.real().summary(self.now).await.unwrap();
        assert_eq!(summary, self.twin.summary(self.now), "after {step:?}");
        for stream in 0..4 {
            let (tenant, content_type) = stream_of(stream);
            let stretches = self
                .real()
                .listed_stretches(tenant, content_type)
                .await
                .unwrap();
            assert_eq!(stretches, self.twin.stretches(stream), "after {step:?}");
            self.assert_coverage(stream, &stretches, step).await;
        }
        for sink in 0..SINK_COUNT {
            let position = self.real().position(&sink_of(sink)).await.unwrap();
            assert_eq!(position, self.twin.position(sink), "after {step:?}");
        }
        let counters = self.real().counters("").await.unwrap();
        assert_eq!(counters, self.twin.counters(), "after {step:?}");
        let quarantined = self.real().quarantined(0, 1_000).await.unwrap();
        let mut named: Vec<_> = quarantined
            .into_iter()
            .map(|item| (item.content_id, item.record_index, item.sink))
            .collect();
        named.sort();
        assert_eq!(named, self.twin.quarantined(), "after {step:?}");
    }
}

impl Pair {
    /// The counts are those of the blobs' states, and the windows make the stretches, no more and no less.
    async fn assert_coverage(&self, stream: u8, stretches: &[ListedStretch], step: &Step) {
        let (tenant, content_type) = stream_of(stream);
        let range = Window::new(twin::at(-86_400), twin::at(2 * 86_400)).unwrap();
        let coverage = self.real().coverage(tenant, content_type, range);
        let coverage = coverage.await.unwrap();
        let counts = [
            coverage.delivered.blob_count,
            coverage.pending_count,
            coverage.quarantined_count,
            coverage.expired_count,
            coverage.quarantined_record_count,
        ];
        assert_eq!(counts, self.twin.coverage(stream), "after {step:?}");
        let mut union: Vec<ListedStretch> = Vec::new();
        for listed in &coverage.windows {
            let (start, end) = (listed.window.start(), listed.window.end());
            match union.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => union.push(ListedStretch { start, end }),
            }
        }
        assert_eq!(union, stretches, "after {step:?}");
        let undelivered = self
            .real()
            .undelivered(tenant, content_type, range, None, 1_000);
        let [_, others @ ..] = counts;
        assert_eq!(
            undelivered.await.unwrap().len() as u64,
            others.iter().sum::<u64>(),
            "after {step:?}"
        );
    }
}

fn assert_kept(answer: Result<(), Error>, is_kept: bool) {
    match answer {
        Ok(()) => assert!(is_kept, "the twin had lost the lease"),
        Err(Error::LeaseLost) => assert!(!is_kept, "the twin still had the lease"),
        Err(other) => panic!("{other:?}"),
    }
}

/// A sink's yes to a whole blob.
fn whole(sink: u8, key: LeaseKey) -> SinkCommit {
    SinkCommit {
        sink: sink_of(sink),
        position: None,
        acknowledged: vec![(key, AcknowledgedPart::Whole)],
        quarantined: Vec::new(),
        remembered: None,
    }
}
