//! The file sink: records as NDJSON, appended to one file that is rotated by size and age. The length that the ledger
//! committed is part of the acknowledgement, so that a crash leaves neither a repeated nor a torn line.
//!
//! Beside `audit.ndjson` lie `audit.ndjson.lock` (one collector at a time), while a file has no committed record yet
//! `audit.ndjson.begun`, and the rotated files, such as `audit-000001-20260929T101500Z.ndjson.gz`.

mod archive;
mod config;
mod direct;
mod disk;
mod encode;
mod names;
mod note;
mod plan;
mod position;
mod probe;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use ledger::SinkName;

pub use config::{Compression, FileConfig};
pub(super) use encode::push_line;

use self::{disk::Disk, names::Names, writer::Writer};
use super::{Error, Failure, Receipt, Sink};
use crate::{clock::Clock, record::Batch};

/// Each batch costs one `fdatasync` and one commit of the ledger's, so a batch wants to be large; it also holds this much of
/// `fetch.max_memory_mib`.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Appends records to a file.
pub struct FileSink {
    name: SinkName,
    names: Names,
    writer: Arc<Mutex<Writer>>,
    /// Numbers the calls. Work on the disk goes on when its caller was dropped, and may even begin only then; by its
    /// number it is told from the work of a later call.
    calls: AtomicU64,
    /// The latest delivery whose caller has the receipt. What any other wrote is taken back, for its records come again.
    handed_over: AtomicU64,
}

impl FileSink {
    /// A sink that has touched nothing yet; [`Sink::resume`] opens the file.
    ///
    /// # Errors
    /// [`Error::Refused`] when `path` does not name a file.
    pub fn build(config: FileConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::build_on(config, clock, Box::new(disk::RealDisk))
    }

    fn build_on(
        config: FileConfig,
        clock: Arc<dyn Clock>,
        disk: Box<dyn Disk>,
    ) -> Result<Self, Error> {
        let names = Names::of(&config.path).ok_or_else(|| Error::Refused {
            what: format!(
                "sink {}: `path` does not end in the name of a file",
                config.name
            ),
        })?;
        let name = config.name.clone();
        let writer = Writer::new(config, names.clone(), clock, disk);
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self {
            name,
            names,
            writer,
            calls: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
        })
    }

    /// Runs `work` on a thread that may wait for the disk, one call at a time. A call that a later one has overtaken does
    /// nothing: the contract of [`Sink`] lets that happen only when its caller is gone.
    async fn on_disk<T: Send + 'static>(
        &self,
        call: u64,
        work: impl FnOnce(&mut Writer) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let writer = Arc::clone(&self.writer);
        blocking(move || {
            // A panic in the middle leaves the file marked as dirty, and the next call cuts it back.
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.start_call(call)?;
            work(&mut writer)
        })
        .await
    }

    /// The number of the call that begins.
    fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Runs `work` on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being torn down cancels blocking work; whoever awaits is dropped next.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    fn max_in_flight(&self) -> usize {
        1
    }

    /// Looks at the folder and the file, and at whether they may be written to.
    async fn probe(&self) -> Result<String, Error> {
        let (name, names) = (self.name.clone(), self.names.clone());
        blocking(move || probe::probe(&name, &names)).await
    }

    /// Opens the file and cuts it back to what the ledger committed. May be called again at any time between
    /// deliveries, and must be after an acknowledgement that the ledger did not commit.
    ///
    /// # Errors
    /// [`Error::Refused`] when another collector writes the file, when it holds what this ledger knows nothing of, or
    /// less than this ledger committed; [`Error::Io`] when it cannot be opened.
    ///
    /// # If interrupted
    /// Each step leaves a state that the next call understands; see `plan.rs`.
    async fn resume(&self, position: Option<&str>) -> Result<(), Error> {
        let position = position.map(str::to_owned);
        self.on_disk(self.next_call(), move |writer| {
            writer.resume(position.as_deref())
        })
        .await
    }

    /// Appends the batch, syncs the file and answers with the length to commit.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or failing: the file is cut back to its last whole batch, and the next try
    /// goes on there. `delivered_count` is always 0: a batch is in the file as a whole or not at all.
    ///
    /// # If interrupted
    /// What was written lies behind the committed length, and [`FileSink::resume`] cuts it off.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let (call, batch) = (self.next_call(), batch.clone());
        let handed_over = self.handed_over.load(Ordering::Acquire);
        let position = self
            .on_disk(call, move |writer| {
                writer.settle(handed_over)?;
                writer.append(&batch)
            })
            .await?;
        // Nothing is awaited from here on, so that the caller has the receipt unless it was dropped before.
        self.handed_over.store(call, Ordering::Release);
        Ok(Receipt {
            position: Some(position),
            refused: Vec::new(),
        })
    }

    /// Rotates a file whose time has come, and takes up compression that failed. Must not be called between an
    /// acknowledgement that the ledger did not commit and [`FileSink::resume`].
    async fn tick(&self) -> Result<(), Error> {
        let handed_over = self.handed_over.load(Ordering::Acquire);
        let done = self.on_disk(self.next_call(), move |writer| {
            writer.settle(handed_over)?;
            writer.tick()
        });
        done.await
    }
}
