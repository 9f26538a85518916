//! The stdout sink: records as NDJSON to a pipe or a terminal. The reader is trusted to keep what it has read; a pipe
//! says no more.

mod config;
mod encode;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use ledger::SinkName;

pub use config::StdoutConfig;

use super::{Error, Failure, Receipt, Sink};
use crate::record::Batch;

/// A reader that follows wants records soon, so a batch is small.
const BATCH_BYTES: usize = 256 * 1024;

/// Writes records to standard output.
pub struct StdoutSink {
    name: SinkName,
    out: Arc<Mutex<Out>>,
}

struct Out {
    writer: Box<dyn Write + Send>,
    /// The line that a failed write broke off in, and how much of it is out. A pipe takes nothing back, so the line is
    /// finished when the record comes again.
    broken_off: Option<(Vec<u8>, usize)>,
}

impl StdoutSink {
    /// A sink that writes to the process's standard output.
    ///
    /// # Errors
    /// [`Error::Io`] when standard output is closed.
    pub fn build(config: StdoutConfig) -> Result<Self, Error> {
        let what = format!("sink {}: cannot open standard output", config.name);
        let writer = unbuffered_stdout().map_err(|source| Error::Io { what, source })?;
        Ok(Self::build_on(config, Box::new(writer)))
    }

    /// The same, for any other writer. It must not buffer: what it counts as written is taken to be out.
    #[must_use]
    pub fn build_on(config: StdoutConfig, writer: Box<dyn Write + Send>) -> Self {
        Self {
            name: config.name,
            out: Arc::new(Mutex::new(Out {
                writer,
                broken_off: None,
            })),
        }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    fn max_in_flight(&self) -> usize {
        1
    }

    async fn probe(&self) -> Result<String, Error> {
        Ok("records go to standard output".to_owned())
    }

    /// A pipe has no place to go back to.
    async fn resume(&self, _position: Option<&str>) -> Result<(), Error> {
        Ok(())
    }

    /// Writes the batch and flushes.
    ///
    /// # Errors
    /// [`Error::Io`] when the reader is gone; the whole lines that it got count as delivered.
    ///
    /// # If interrupted
    /// The reader has a part of the batch, maybe of a line, and the next process writes the batch again from its beginning.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let (batch, out) = (batch.clone(), Arc::clone(&self.out));
        let what = format!("sink {}: cannot write to standard output", self.name);
        // A reader that does not read makes the write wait, for which only such a thread is good.
        let written = tokio::task::spawn_blocking(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_batch(&batch)
        });
        match written.await {
            Ok(Ok(())) => Ok(Receipt::default()),
            Ok(Err((delivered_count, source))) => Err(Failure {
                delivered_count,
                refused: Vec::new(),
                error: Error::Io { what, source },
            }),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that is being torn down cancels blocking work; whoever awaits is dropped next.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

impl Out {
    /// On an error, tells how many records are out as whole lines.
    fn write_batch(&mut self, batch: &Batch) -> Result<(), (usize, io::Error)> {
        let mut lines = Vec::with_capacity(batch.text_bytes() + batch.record_count());
        let mut ends = Vec::with_capacity(batch.record_count());
        for record in batch.records() {
            encode::push_line(&mut lines, &record);
            ends.push(lines.len());
        }
        let mut written = match self.broken_off.take() {
            Some((line, count)) if ends.first().is_some_and(|end| lines[..*end] == line) => count,
            // Another record comes first: the piece that is out gets a line to itself, which is the best left to do.
            Some((line, count)) => match self.writer.write_all(b"\n") {
                Ok(()) => 0,
                Err(error) => {
                    self.broken_off = Some((line, count));
                    return Err((0, error));
                }
            },
            None => 0,
        };
        // Not `write_all`, which does not tell how far it came.
        let mut write = || {
            while written < lines.len() {
                match self.writer.write(&lines[written..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.writer.flush()
        };
        let result = write();
        result.map_err(|error| {
            let whole = ends.partition_point(|end| *end <= written);
            let start = whole.checked_sub(1).map_or(0, |last| ends[last]);
            if written > start
                && let Some(end) = ends.get(whole)
            {
                self.broken_off = Some((lines[start..*end].to_vec(), written - start));
            }
            (whole, error)
        })
    }
}

/// Standard output without the buffer that [`io::stdout`] puts before it: a write that fails must not leave bytes behind that
/// come out later, after their records were written again.
fn unbuffered_stdout() -> io::Result<std::fs::File> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;
        Ok(io::stdout().as_handle().try_clone_to_owned()?.into())
    }
}
