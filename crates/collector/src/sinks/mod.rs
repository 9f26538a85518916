//! Where records go. Each sink is a folder with the same four files: `mod.rs` (delivery), `config.rs` (its settings),
//! `encode.rs` (records to bytes, pure) and `tests.rs`. `deliver` drives them through one trait and knows no more of them.

pub mod alertlogic;
#[cfg(test)]
pub(crate) mod conformance;
pub mod file;
pub mod splunk_hec;
pub mod stdout;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use async_trait::async_trait;
use ledger::SinkName;

use crate::record::Batch;

/// A way out of the building.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The name that the ledger, the metrics and the status page know it by.
    fn name(&self) -> &SinkName;

    /// How much text one [`Batch`] should hold, in bytes. A batch is never split below one part, so the sink must
    /// cope with more.
    fn batch_bytes(&self) -> usize;

    /// Whether no batch may hold records of several tenants: what becomes of a record depends on whose it is. Otherwise
    /// fifty tenants with little to say make one batch, not fifty.
    fn keeps_tenants_apart(&self) -> bool {
        false
    }

    /// How many batches may be under way at once. A sink whose position is part of its acknowledgement says 1:
    /// only then does "committed up to here" mean that all before it is committed.
    fn max_in_flight(&self) -> usize;

    /// After how long a delivery that has not ended counts as failed: the sink hangs. Far longer than it ever takes, because
    /// what was given up may be delivered all the same, and again.
    fn answers_within(&self) -> Duration {
        Duration::from_secs(30 * 60)
    }

    /// Called once, before the first delivery, with the position that the ledger committed last.
    ///
    /// # Errors
    /// When the sink cannot work as configured; the program does not start then.
    async fn resume(&self, position: Option<&str>) -> Result<(), Error>;

    /// Asks whether deliveries would be taken as things stand, for a person who sets it up, and says what was found. Delivers
    /// nothing, leaves nothing at the other side, and is in nobody's way: a collector may be at work with the same sink. What
    /// the sink learns on the way it may remember in the ledger that it was built with.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    async fn probe(&self) -> Result<String, Error>;

    /// Delivers the whole batch and returns once every record of it is safe at the other side.
    ///
    /// # Errors
    /// [`Failure`] says how many records at the head of the batch are safe all the same.
    ///
    /// # If interrupted
    /// Nothing was acknowledged, so the records come again. A sink with a position takes back what it wrote past the
    /// committed one (in [`Sink::resume`]); any other may see these records twice, never zero times.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure>;

    /// Whether [`Sink::deliver_and_let_go`] may let go of a batch's text.
    fn may_let_go(&self) -> bool {
        false
    }

    /// As [`Sink::deliver`], by a sink that may hold what it made of the records in place of their text: `Batch::let_go`
    /// says that it does. What it then fails to deliver is fetched again, so it should do that only while deliveries
    /// succeed, and only of a batch that arrives as a whole or not at all: what had arrived of it would come again. And it
    /// cannot refuse records of it any more.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    ///
    /// # If interrupted
    /// As [`Sink::deliver`].
    async fn deliver_and_let_go(&self, batch: Batch) -> Result<Receipt, Failure> {
        self.deliver(&batch).await
    }

    /// Called now and then while nothing is being delivered, for work that time makes due (rotation by age).
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    async fn tick(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A sink's yes to a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Committed by the ledger in the same transaction as the acknowledgement, and handed back to
    /// [`Sink::resume`] at the next start.
    pub position: Option<String>,
    /// Records that this sink can never take. They are quarantined with their bytes, by this acknowledgement. A sink with a
    /// position refuses none: a part waits while there is no room for its refused records, and a position that has gone on
    /// meanwhile would take in what was written of that part, which then comes again after a restart.
    pub refused: Vec<Refused>,
}

/// A record that a sink can never take.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of [`Batch::records`] it is, from 0.
    pub index_in_batch: usize,
    /// Why, for a person; never the record's text.
    pub reason: String,
}

/// A delivery that did not go all the way.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// How many records at the head of the batch are safe. The next try starts behind them. Always 0 for a sink with
    /// a position: without a receipt its position is not committed, so nothing of the batch is safe.
    pub delivered_count: usize,
    /// Those among them that the sink can never take.
    pub refused: Vec<Refused>,
    /// What stopped the rest.
    #[source]
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            delivered_count: 0,
            refused: Vec::new(),
            error,
        }
    }
}

/// Why a sink could not deliver. Whatever it is, the records stay in the ledger's care.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side is down, slow or busy.
    #[error("{what}")]
    Unavailable {
        /// Which request failed and how, for a person.
        what: String,
        /// How long the other side asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The other side does not accept our credentials or settings; trying again soon cannot help, a person must act.
    #[error("{what}")]
    Refused {
        /// What was refused, the reason and the mend.
        what: String,
    },
    /// The local disk or pipe failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The ledger did not keep, or did not say, what the sink has to know between two runs. Not the other side's fault, and
    /// not said to be.
    #[error("the ledger failed")]
    Ledger(#[source] ledger::Error),
}
