//! The thread that writes, and group commit: many operations, one transaction, one sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::Error;

use super::books::Books;
use super::failure::Failure;
use super::inline::Inline;

/// How many operations may wait. Whoever comes later waits to hand over, which is how a slow disk reaches the
/// pipeline's back-pressure.
const QUEUE_LENGTH: usize = 1024;

/// Operations that share a commit at most, so that the first of them does not wait for an endless stream of others.
const MAX_GROUP: usize = 256;

/// The writer thread's handle.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Operation>>>,
    /// Instead of a thread, in a simulation.
    inline: Option<Inline>,
    thread: Option<JoinHandle<()>>,
    commit_count: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(books: Books) -> Result<Self, Error> {
        let (queue, operations) = mpsc::channel(QUEUE_LENGTH);
        let commit_count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&commit_count);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || run(books, operations, &counter))
            .map_err(|error| Error::Unavailable {
                what: "starting a thread",
                source: Arc::new(error),
            })?;
        Ok(Self {
            queue: Some(queue),
            inline: None,
            thread: Some(thread),
            commit_count,
        })
    }

    /// A writer that has no thread.
    pub(super) fn inline(inline: Inline) -> Self {
        Self {
            queue: None,
            inline: Some(inline),
            thread: None,
            commit_count: Arc::default(),
        }
    }

    /// What a writer without a thread works on.
    pub(super) fn into_inline(mut self) -> Option<Inline> {
        self.inline.take()
    }

    /// Runs the work in the next group and returns when it is committed.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books) -> Result<T, Failure> + Send + 'static,
    {
        if let Some(inline) = &self.inline {
            return inline.write(work);
        }
        let (answer, answered) = oneshot::channel();
        let operation = Box::new(Waiting {
            work: Some(work),
            outcome: None,
            answer,
        });
        let queue = self.queue.as_ref().ok_or(Error::Stopped)?;
        queue.send(operation).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }

    /// How many transactions were committed.
    #[cfg(test)]
    pub(super) fn commit_count(&self) -> u64 {
        self.commit_count.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(
                commit_count = self.commit_count.load(Ordering::Relaxed),
                "the ledger's writer panicked"
            );
        }
    }
}

/// One operation from being handed over to being answered.
trait Operation: Send {
    /// Does the work inside the open transaction and keeps the outcome.
    ///
    /// # Errors
    /// What the work gave; it is then answered with that, whatever becomes of the commit.
    fn run(&mut self, books: &mut Books) -> Result<(), Error>;

    /// Answers with the outcome, or with the error that took it back.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Waiting<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Operation for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&mut Books) -> Result<T, Failure> + Send,
{
    fn run(&mut self, books: &mut Books) -> Result<(), Error> {
        let work = self.work.take().expect("an operation is run once");
        let outcome = work(books).map_err(Error::from);
        let result = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        result
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let answer = match (self.outcome, committed) {
            // Its own error says more than that of a commit which it had no part in.
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(Error::Stopped),
        };
        // The caller may have gone away; what it asked for is done all the same.
        drop(self.answer.send(answer));
    }
}

fn run(
    mut books: Books,
    mut operations: mpsc::Receiver<Box<dyn Operation>>,
    commit_count: &AtomicU64,
) {
    let mut waiting = Vec::with_capacity(MAX_GROUP);
    // Ends when the ledger is dropped and what it was given is done.
    while operations.blocking_recv_many(&mut waiting, MAX_GROUP) > 0 {
        let mut group = waiting.drain(..).peekable();
        while group.peek().is_some() {
            commit_some(&mut books, &mut group, commit_count);
        }
    }
}

/// Runs operations in one transaction until there are no more or the transaction is gone, and answers those it ran.
fn commit_some(
    books: &mut Books,
    operations: &mut dyn Iterator<Item = Box<dyn Operation>>,
    commit_count: &AtomicU64,
) {
    if let Err(error) = books.begin() {
        // All of them, and not one by one: to begin takes as long as the database is locked by someone else.
        for operation in operations {
            operation.answer(Err(error.clone()));
        }
        return;
    }
    let mut ran = Vec::new();
    let mut state = Ok(());
    for mut operation in operations {
        state = books.run_apart(|books| operation.run(books));
        ran.push(operation);
        if state.is_err() {
            // A full or failing disk made SQLite drop the transaction, and the work of those before with it. Those
            // after get a transaction of their own.
            break;
        }
    }
    let committed = state.and_then(|()| books.commit());
    if committed.is_ok() {
        commit_count.fetch_add(1, Ordering::Relaxed);
    }
    for operation in ran {
        operation.answer(committed.clone());
    }
}
