//! The thread that reads, on a connection of its own: it sees what is committed and nothing else.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{Error, SinkName};

use super::failure::Failure;
use super::inline::Inline;

/// How many readings may wait.
const QUEUE_LENGTH: usize = 64;

type Reading = Box<dyn FnOnce(&Connection) + Send>;

/// The reader thread's handle.
pub(super) struct Reader {
    queue: Option<mpsc::Sender<Reading>>,
    /// Instead of a thread, in a simulation.
    inline: Option<Inline>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(connection: Connection) -> Result<Self, Error> {
        let (queue, mut readings) = mpsc::channel::<Reading>(QUEUE_LENGTH);
        let thread = std::thread::Builder::new()
            .name("ledger-reader".into())
            .spawn(move || {
                while let Some(reading) = readings.blocking_recv() {
                    reading(&connection);
                }
            })
            .map_err(|error| Error::Unavailable {
                what: "starting a thread",
                source: Arc::new(error),
            })?;
        Ok(Self {
            queue: Some(queue),
            inline: None,
            thread: Some(thread),
        })
    }

    /// A reader that has no thread.
    pub(super) fn inline(inline: Inline) -> Self {
        Self {
            queue: None,
            inline: Some(inline),
            thread: None,
        }
    }

    /// Runs the work in one read transaction, so that all it reads is of the same moment.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        if let Some(inline) = &self.inline {
            return inline.read(work);
        }
        let (answer, answered) = oneshot::channel();
        let reading: Reading = Box::new(move |connection| {
            let outcome = connection
                .unchecked_transaction()
                .map_err(Failure::from)
                .and_then(|transaction| work(&transaction))
                .map_err(Error::from);
            // The caller may have gone away, and then nobody wants to know.
            drop(answer.send(outcome));
        });
        let queue = self.queue.as_ref().ok_or(Error::Stopped)?;
        queue.send(reading).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the ledger's reader panicked");
        }
    }
}

pub(super) fn position(
    connection: &Connection,
    sink: &SinkName,
) -> Result<Option<String>, Failure> {
    let position = connection
        .prepare_cached("SELECT position FROM sink WHERE name = ?1")?
        .query_row([sink.as_str()], |row| row.get(0))
        .optional()?;
    Ok(position.flatten())
}

pub(super) fn recall(connection: &Connection, key: &str) -> Result<Option<String>, Failure> {
    let value = connection
        .prepare_cached("SELECT value FROM fact WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(value)
}
