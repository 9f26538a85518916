//! The Splunk HTTP Event Collector sink: records as events, gzip, and the indexers' acknowledgement where the token has it.

mod acks;
mod config;
mod door;
mod encode;
mod reply;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ledger::SinkName;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

pub use config::SplunkHecConfig;

use self::{
    acks::{Acks, Pending, Post},
    door::Door,
    encode::Encoder,
    reply::Outcome,
};
use super::{Error, Failure, Receipt, Refused, Sink};
use crate::{clock::Clock, http::Transport, record::Batch};

/// Batches that are posted or wait for the indexers. Waiting for an indexer must not hold up the next batch; those that do
/// hold no text as a rule. As many may be sent again when an answer is lost.
const MAX_IN_FLIGHT: usize = 128;
/// Requests with events at one time. More only queue up at Splunk's side.
const MAX_POSTS: usize = 8;

/// Posts records to a Splunk HTTP Event Collector.
pub struct SplunkHecSink {
    door: Arc<Door>,
    acks: Acks,
    encoder: Arc<Encoder>,
    posts: Semaphore,
    acknowledge_within: Duration,
    max_batch_bytes: usize,
    /// The last batch was acknowledged. As long as that is so, text is let go of when Splunk has taken it: indexers take
    /// seconds, and what is kept for them is room that nothing else has.
    is_smooth: AtomicBool,
}

/// A stretch of a batch that Splunk has taken, or that it never will.
struct Taken {
    records: Range<usize>,
    /// What the indexers are asked for; nothing when there is nothing to wait for.
    pending: Option<Pending>,
    refused: Option<String>,
}

impl SplunkHecSink {
    /// A sink with a channel of its own, as Splunk asks of each client process.
    ///
    /// # Errors
    /// [`Error::Refused`] when `url` is no http(s) address or the token cannot stand in a header.
    pub fn build(
        config: SplunkHecConfig,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let door = Arc::new(Door::build(&config, http, clock)?);
        Ok(Self {
            acks: Acks::new(Arc::clone(&door)),
            door,
            encoder: Arc::new(Encoder::new(&config)),
            posts: Semaphore::new(MAX_POSTS),
            acknowledge_within: config.acknowledge_within,
            max_batch_bytes: config.max_batch_bytes.max(1),
            is_smooth: AtomicBool::new(false),
        })
    }

    /// Posts the batch in requests of `max_batch_bytes`, one after the other so that the order is kept. A request that
    /// Splunk cannot read is cut in two until the record is found that is to blame. What was taken before an error is in
    /// `taken`.
    async fn post_all(&self, batch: &Batch, taken: &mut Vec<Taken>) -> Result<(), Error> {
        let mut todo: VecDeque<_> = encode::plan_requests(batch, self.max_batch_bytes).into();
        while let Some(records) = todo.pop_front() {
            let (outcome, post) = self.post(batch, records.clone()).await?;
            match outcome {
                Outcome::Taken { ack_id } => taken.push(Taken {
                    records,
                    // Asked for from here on, also while the rest of the batch is posted.
                    pending: ack_id.map(|id| self.acks.taken(id)),
                    refused: None,
                }),
                Outcome::Unreadable { reason, .. } if records.len() == 1 => {
                    taken.push(Taken {
                        records,
                        pending: None,
                        refused: Some(reason),
                    });
                }
                Outcome::Unreadable { invalid_event, .. } => {
                    debug!(sink = %self.door.name, records = records.len(), "splunk cannot read a request, it is cut up");
                    for part in split(&records, invalid_event).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
            }
            post.answered();
        }
        Ok(())
    }

    async fn post(&self, batch: &Batch, records: Range<usize>) -> Result<(Outcome, Post), Error> {
        let _permit = self.posts.acquire().await;
        let text_bytes = batch.text_bytes().min(self.max_batch_bytes);
        let longest = batch.records().skip(records.start).take(records.len());
        let longest = longest.map(|record| record.text().len()).max();
        let mut room = batch.reserve(text_bytes.max(longest.unwrap_or(0))).await;
        let (batch, encoder) = (batch.clone(), Arc::clone(&self.encoder));
        // Compression of half a mebibyte takes milliseconds, too long for a thread that others share.
        let body = tokio::task::spawn_blocking(move || encoder.encode(&batch, records));
        let body = match body.await {
            Ok(body) => body,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => std::future::pending().await,
            },
        };
        if let Some(room) = &mut room {
            room.shrink(body.len());
        }
        let post = self.acks.post();
        let posted = self.door.post(body).await;
        match posted.outcome {
            Ok(outcome) => Ok((outcome, post)),
            Err(error) => {
                if posted.is_answered {
                    post.answered();
                }
                Err(error)
            }
        }
    }

    /// Waits until the indexers have all of `taken` or the time is up; what they have loses its `pending`.
    ///
    /// # Errors
    /// When the time is up, or Splunk refuses to answer at all.
    async fn confirm(&self, taken: &mut [Taken]) -> Result<(), Error> {
        let deadline = Instant::now() + self.acknowledge_within;
        let mut result = Ok(());
        for taken in taken {
            let Some(pending) = &mut taken.pending else {
                continue;
            };
            match tokio::time::timeout_at(deadline, pending.indexed()).await {
                Ok(Ok(())) => taken.pending = None,
                Ok(Err(error)) => result = result.and(Err(error)),
                Err(_elapsed) => {
                    let waited = self.acknowledge_within.as_secs();
                    let what = format!(
                        "splunk has not acknowledged a batch within {waited} s; it is sent again"
                    );
                    result = result.and(Err(Error::Unavailable {
                        what: self.door.say(&what),
                        retry_after: None,
                    }));
                }
            }
        }
        result
    }
}

#[async_trait]
impl Sink for SplunkHecSink {
    fn name(&self) -> &SinkName {
        &self.door.name
    }

    fn batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn answers_within(&self) -> Duration {
        self.acknowledge_within + Duration::from_secs(30 * 60)
    }

    /// Posts no event at all: Splunk looks at the token before it misses them. An index that the token may not write to shows
    /// only with an event.
    async fn probe(&self) -> Result<String, Error> {
        self.door.probe().await?;
        Ok("splunk answers and accepts the token".to_owned())
    }

    /// Splunk keeps no place for us, so there is nothing to take up.
    async fn resume(&self, _position: Option<&str>) -> Result<(), Error> {
        Ok(())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        self.deliver_and_let_go(batch.clone()).await
    }

    fn may_let_go(&self) -> bool {
        true
    }

    /// Posts the batch and waits until the indexers have it, where the token has indexer acknowledgement; without, that
    /// Splunk took it is all that it ever says.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Splunk is down, busy or does not acknowledge in time, [`Error::Refused`] when it does
    /// not accept the token, the index or the address.
    ///
    /// # If interrupted
    /// Splunk may have the batch, or the head of it, and gets it again.
    async fn deliver_and_let_go(&self, batch: Batch) -> Result<Receipt, Failure> {
        let mut taken = Vec::new();
        let posted = self.post_all(&batch, &mut taken).await;
        // What is refused is set aside with its text. And of several requests some would be sent again that are indexed.
        let is_taken = posted.is_ok() && matches!(&*taken, [taken] if taken.refused.is_none());
        if is_taken && self.is_smooth.load(Ordering::Relaxed) && batch.is_kept() {
            batch.let_go();
        }
        let confirmed = self.confirm(&mut taken).await;
        // The first error is the one that matters; the other is most often its consequence.
        let result = posted.and(confirmed);
        self.is_smooth.store(result.is_ok(), Ordering::Relaxed);
        let safe = taken.iter().take_while(|taken| taken.pending.is_none());
        let (mut delivered_count, mut refused) = (0, Vec::new());
        for taken in safe {
            delivered_count = taken.records.end;
            if let Some(reason) = &taken.refused {
                refused.push(Refused {
                    index_in_batch: taken.records.start,
                    reason: reason.clone(),
                });
            }
        }
        match result {
            Ok(()) => Ok(Receipt {
                position: None,
                refused,
            }),
            Err(error) => Err(Failure {
                delivered_count,
                refused,
                error,
            }),
        }
    }
}

/// Cuts out the record that Splunk named, or halves. The named one is sent alone before it is given up on: the number is a
/// hint, and it counts for nothing when Splunk takes the record after all.
fn split(records: &Range<usize>, invalid_event: Option<usize>) -> Vec<Range<usize>> {
    let named = invalid_event
        .and_then(|index| records.start.checked_add(index))
        .filter(|index| records.contains(index));
    let parts = match named {
        Some(index) => vec![
            records.start..index,
            index..index + 1,
            index + 1..records.end,
        ],
        None => {
            let middle = records.start + records.len() / 2;
            vec![records.start..middle, middle..records.end]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}
