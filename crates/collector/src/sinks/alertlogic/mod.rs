//! The `alertlogic` sink: one registered log source per tenant; packs records by compressed size and posts them to ingest.
//!
//! Ingest has no idempotency key. A payload whose answer is lost is sent again, so records can arrive twice, never not
//! at all; what is safe is counted payload by payload, so that a failure repeats no payload that got its yes.

mod account;
mod bisect;
mod config;
mod encode;
mod service;
mod statistics;

#[cfg(test)]
mod tests;

pub use account::{Account, Tally};
pub use config::{
    AlertLogicConfig, DEFAULT_API, DEFAULT_PAYLOAD_BYTES, LARGEST_PAYLOAD_BYTES, TenantIdentity,
};

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use activity_api::TenantId;
use alertlogic::{
    Error as ServiceError, NextStep,
    aims::Token,
    ingest::{self, Envelope, Packed, Packer, Payload},
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use ledger::{Ledger, SinkName};
use tokio::sync::Semaphore;
use tracing::debug;

use self::{
    account::Source,
    bisect::Progress,
    service::{CallError, Service},
    statistics::Statistics,
};
use super::{Error, Failure, Receipt, Sink};
use crate::{clock::Clock, http::Transport, record::Batch};

/// Text of one batch however well it compresses: this is what each delivery under way holds in memory.
const MAX_BATCH_BYTES: usize = 3 << 20;
/// Below this a request is all overhead.
const MIN_BATCH_BYTES: usize = 64 << 10;
/// So many keep a line with some delay busy while the next are compressed.
const MAX_IN_FLIGHT: usize = 16;
/// Text that is packed where it is; for more, the packing goes to a thread that may block.
const MAX_INLINE_BYTES: usize = 32 << 10;
/// What a payload is sent by, in messages.
const POST: &str = "post to ingest";
/// For how long a yes shows that the service takes this tenant's payloads, so that a no is about one record.
const TELLING: SignedDuration = SignedDuration::from_mins(10);

/// Alert Logic as a sink.
pub struct AlertLogicSink {
    name: SinkName,
    account: Arc<Account>,
    service: Arc<Service>,
    packer: Arc<Packer>,
    /// Batches that are packed at a time: more than there are cores would only be more that are half done.
    packing: Semaphore,
    tenants: BTreeMap<TenantId, Arc<Statistics>>,
    /// The last payload was taken. As long as that is so, text is let go of when it is packed: far away, a batch is under way
    /// for many times as long as its packing takes, and its payload takes a fifth of the memory.
    is_smooth: AtomicBool,
}

impl AlertLogicSink {
    /// A sink for these tenants. Nothing is sent until there is something to deliver.
    ///
    /// # Errors
    /// [`Error::Refused`] when `api`, `azcollect` or `ingest` is no address.
    pub fn build(
        config: AlertLogicConfig,
        tenants: Vec<TenantIdentity>,
        http: Arc<dyn Transport>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Ok(Self::of_account(Arc::new(Account::build(
            config, tenants, http, ledger, clock,
        )?)))
    }

    /// A sink for the tenants of this account, which it shares with whoever looks after their registration.
    #[must_use]
    pub fn of_account(account: Arc<Account>) -> Self {
        let service = account.service();
        let config = service.config();
        Self {
            name: config.name.clone(),
            packer: Arc::new(Packer::new(
                config.max_payload_bytes,
                config.compression_level,
            )),
            packing: Semaphore::new(cores()),
            tenants: account
                .tenants()
                .map(|tenant| (tenant, Arc::default()))
                .collect(),
            service: Arc::clone(service),
            account,
            is_smooth: AtomicBool::new(false),
        }
    }

    async fn deliver_records(&self, batch: Batch, progress: &mut Progress) -> Result<(), Error> {
        if batch.record_count() == 0 {
            return Ok(());
        }
        let tenant = batch.tenant().ok_or_else(|| Error::Refused {
            what: format!(
                "sink {}: a batch is not of one tenant, by a defect",
                self.name
            ),
        })?;
        let statistics = self.tenants.get(&tenant).ok_or_else(|| Error::Refused {
            what: format!("sink {}: tenant {tenant} is not configured", self.name),
        })?;
        let source = self.account.source(tenant).await?;
        let mut text = Some(batch);
        while let Some(stretch) = progress.next_stretch() {
            let Some(batch) = &text else {
                break;
            };
            // Before the room, so that none is held by who waits for the others' packing.
            let packing = self.packing.acquire().await;
            let mut room = batch
                .reserve(self.packer.packing_bytes(batch.text_bytes()))
                .await;
            let packed = self
                .pack(batch, stretch.start, stretch.len(), &source)
                .await?;
            drop(packing);
            let payload = match packed {
                Some(Packed::Payload(payload)) => payload,
                Some(Packed::TooLarge { .. }) => {
                    progress.refuse("larger than max_payload_bytes, even alone and compressed");
                    continue;
                }
                None => return Ok(()),
            };
            if let Some(room) = &mut room {
                room.shrink(payload.held_bytes);
            }
            // Of a batch in several payloads some would be sent again that had got their yes.
            if payload.message_count == stretch.len()
                && progress.is_all(&stretch)
                && self.is_smooth.load(Ordering::Relaxed)
                && let Some(batch) = text.take_if(|batch| batch.is_kept())
            {
                batch.let_go();
            }
            let posted = self.post(&payload).await;
            self.is_smooth
                .store(matches!(posted, Ok(None)), Ordering::Relaxed);
            match posted? {
                None => {
                    progress.accept(payload.message_count);
                    self.packer.note_accepted(payload.body.len());
                    statistics.note_delivered(
                        payload.message_count,
                        payload.text_bytes,
                        self.service.now(),
                    );
                    self.report(statistics, &source);
                }
                Some(refusal) if text.is_none() => {
                    return Err(self.refused_without_text(&payload, &refusal));
                }
                Some(refusal) => self.split(&payload, &refusal, progress)?,
            }
        }
        let has_accepted_lately = statistics.has_accepted_since(self.service.now() - TELLING);
        progress
            .settle(has_accepted_lately)
            .map_err(|reason| self.refused_all(&reason))
    }

    /// Compresses as many records as fit one payload.
    async fn pack(
        &self,
        batch: &Batch,
        from: usize,
        count: usize,
        source: &Arc<Source>,
    ) -> Result<Option<Packed>, Error> {
        let now = self.service.now();
        let batch = batch.clone().skip(from);
        if batch.text_bytes() <= MAX_INLINE_BYTES {
            return Ok(pack(&self.packer, &batch, count, source, now));
        }
        let (packer, source) = (Arc::clone(&self.packer), Arc::clone(source));
        let packing =
            tokio::task::spawn_blocking(move || pack(&packer, &batch, count, &source, now));
        packing.await.map_err(|error| Error::Unavailable {
            what: format!("sink {}: packing stopped: {error}", self.name),
            retry_after: None,
        })
    }

    /// Posts a payload; returns why, when the service does not take it but may take less of it.
    async fn post(&self, payload: &Payload) -> Result<Option<ServiceError>, Error> {
        let ingest = self.service.ingest().await?;
        let make = |token: &Token| ingest::logmsgs_request(&ingest, token, payload.body.clone());
        let reply = match self.service.call(POST, make).await {
            Ok(reply) => reply,
            Err(CallError::Unreached(error)) => {
                self.service.note_ingest_reached(false);
                return Err(error);
            }
            Err(CallError::NoToken(error)) => return Err(error),
        };
        self.service.note_ingest_reached(true);
        match reply.check(self.service.now()) {
            Ok(()) => Ok(None),
            Err(error) if error.next_step() == NextStep::Split => Ok(Some(error)),
            Err(error) => Err(self.service.describe(POST, &error)),
        }
    }

    fn split(
        &self,
        payload: &Payload,
        refusal: &ServiceError,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        debug!(sink = %self.name, records = payload.message_count, bytes = payload.body.len(), %refusal, "payload refused");
        let is_for_size = *refusal == ServiceError::TooLarge;
        if payload.message_count > 1 {
            if is_for_size {
                self.packer.note_refused(payload.body.len());
            }
            progress.split(payload.message_count);
            return Ok(());
        }
        let reason = format!("refused by ingest: {refusal}");
        // A small request refused for its size is a fault on the way, not the record's.
        if is_for_size && payload.body.len() >= MIN_BATCH_BYTES {
            progress.refuse(&reason);
            return Ok(());
        }
        progress
            .suspect(&reason)
            .map_err(|reason| self.refused_all(&reason))
    }

    /// Which record it is about cannot be looked for now. The next time the text will be there, as this was no success.
    fn refused_without_text(&self, payload: &Payload, refusal: &ServiceError) -> Error {
        if payload.message_count > 1 && *refusal == ServiceError::TooLarge {
            self.packer.note_refused(payload.body.len());
        }
        Error::Unavailable {
            what: format!(
                "sink {}: ingest refused a payload ({refusal}); its blobs are fetched again to find out why",
                self.name
            ),
            retry_after: None,
        }
    }

    fn refused_all(&self, reason: &str) -> Error {
        Error::Refused {
            what: format!(
                "sink {}: {reason}, record after record: it takes nothing as it is set up; check source_id, host_id and \
                 the account's state",
                self.name
            ),
        }
    }

    /// Tells the service how much it got, behind the delivery's back: nothing depends on it.
    fn report(&self, statistics: &Arc<Statistics>, source: &Arc<Source>) {
        let Some(mut report) = statistics.begin_report() else {
            return;
        };
        let (service, source, name) = (
            Arc::clone(&self.service),
            Arc::clone(source),
            self.name.clone(),
        );
        tokio::spawn(async move {
            while let Some(counts) = report.next() {
                let outcome = async {
                    let ingest = service.ingest().await?;
                    let now = service.now();
                    let make = |token: &Token| {
                        let (events, bytes) = (counts.events, counts.bytes);
                        ingest::lmcstats_request(
                            &ingest,
                            token,
                            &source.registered,
                            events,
                            bytes,
                            now,
                        )
                    };
                    let reply = service
                        .call("report to ingest", make)
                        .await
                        .map_err(CallError::into_inner)?;
                    reply
                        .check(now)
                        .map_err(|error| service.describe("report to ingest", &error))
                };
                if let Err(error) = outcome.await {
                    debug!(sink = %name, %error, "volume not reported");
                }
            }
        });
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn pack(
    packer: &Packer,
    batch: &Batch,
    count: usize,
    source: &Source,
    now: Timestamp,
) -> Option<Packed> {
    let envelope = Envelope {
        source_id: &source.registered.source_id,
        metadata: &source.metadata,
        now,
    };
    packer.pack_first(envelope, encode::messages(batch, count, now))
}

#[async_trait]
impl Sink for AlertLogicSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        self.packer
            .text_bytes_per_payload()
            .clamp(MIN_BATCH_BYTES, MAX_BATCH_BYTES)
    }

    /// Each tenant has a log source of its own.
    fn keeps_tenants_apart(&self) -> bool {
        true
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    /// Signs in and asks for the addresses. Registers nothing.
    async fn probe(&self) -> Result<String, Error> {
        let account = self.account.service().account_id().await?;
        let (azcollect, ingest) = self.account.endpoints().await?;
        Ok(format!(
            "the access key is good for account {account}; azcollect is {azcollect}, ingest is {ingest}"
        ))
    }

    /// Nothing to take back: the service keeps what it took.
    async fn resume(&self, _position: Option<&str>) -> Result<(), Error> {
        Ok(())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        self.deliver_and_let_go(batch.clone()).await
    }

    fn may_let_go(&self) -> bool {
        true
    }

    /// Lets go of the text once all of it is packed into one payload.
    ///
    /// # If interrupted
    /// Payloads that got their yes, and one whose yes was under way, are sent again with the batch: the service has
    /// those records twice.
    async fn deliver_and_let_go(&self, batch: Batch) -> Result<Receipt, Failure> {
        let mut progress = Progress::new(batch.record_count());
        match self.deliver_records(batch, &mut progress).await {
            Ok(()) => Ok(Receipt {
                position: None,
                refused: progress.into_safe().1,
            }),
            Err(error) => {
                let (delivered_count, refused) = progress.into_safe();
                Err(Failure {
                    delivered_count,
                    refused,
                    error,
                })
            }
        }
    }
}

impl std::fmt::Debug for AlertLogicSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertLogicSink")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
