//! The thread that writes, and group commit: many operations, one transaction, one sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::Error;

use super::books::Books;
use super::failure::Failure;
use super::folding::Folding;
use super::inline::Inline;

/// How many operations may wait. Whoever comes later waits to hand over, which is how a slow disk reaches the
/// pipeline's back-pressure.
const QUEUE_LENGTH: usize = 1024;

/// Operations that share a commit at most, so that the first of them does not wait for an endless stream of others.
const MAX_GROUP: usize = 256;

/// How long a group goes on that holds an urgent operation. Some milliseconds of others' work would be what its caller waits
/// for; less than the sync that follows is not worth a sync of its own.
const URGENT_GROUP: Duration = Duration::from_millis(1);

/// The writer thread's handle.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Handed>>,
    /// Instead of a thread, in a simulation.
    inline: Option<Inline>,
    thread: Option<JoinHandle<()>>,
    commit_count: Arc<AtomicU64>,
}

impl Writer {
    /// `folding` is of the books' connection; without it SQLite folds the log back by itself.
    pub(super) fn start(books: Books, folding: Option<Folding>) -> Result<Self, Error> {
        let (queue, operations) = mpsc::channel(QUEUE_LENGTH);
        let commit_count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&commit_count);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || run(books, folding, operations, &counter))
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
        self.hand_over(work, false).await
    }

    /// The same before all that is not urgent, in a group that ends soon: somebody outside waits for the answer, and takes
    /// a late one for none.
    pub(super) async fn write_soon<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books) -> Result<T, Failure> + Send + 'static,
    {
        self.hand_over(work, true).await
    }

    async fn hand_over<T, F>(&self, work: F, is_urgent: bool) -> Result<T, Error>
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
        let handed = Handed {
            operation,
            is_urgent,
        };
        queue.send(handed).await.map_err(|_| Error::Stopped)?;
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

/// An operation on its way to the thread.
struct Handed {
    operation: Box<dyn Operation>,
    is_urgent: bool,
}

/// What waits for its turn.
struct Line {
    handed: mpsc::Receiver<Handed>,
    urgent: VecDeque<Box<dyn Operation>>,
    others: VecDeque<Box<dyn Operation>>,
}

impl Line {
    /// Waits until there is an operation. False when none will come any more.
    fn wait(&mut self) -> bool {
        if self.urgent.is_empty()
            && self.others.is_empty()
            && let Some(handed) = self.handed.blocking_recv()
        {
            self.queue(handed);
        }
        !self.urgent.is_empty() || !self.others.is_empty()
    }

    /// Takes in what was handed over. No more than a queue's length, or the queue would bound nothing.
    fn fill(&mut self) {
        while self.others.len() < QUEUE_LENGTH
            && let Ok(handed) = self.handed.try_recv()
        {
            self.queue(handed);
        }
    }

    /// The next one: an urgent one, which overtakes what was handed over before, or one of the first `left` others.
    fn next(&mut self, left: &mut usize) -> Option<(Box<dyn Operation>, bool)> {
        self.fill();
        if let Some(operation) = self.urgent.pop_front() {
            return Some((operation, true));
        }
        Some((self.next_other(left)?, false))
    }

    fn next_other(&mut self, left: &mut usize) -> Option<Box<dyn Operation>> {
        *left = left.checked_sub(1)?;
        self.others.pop_front()
    }

    fn queue(&mut self, handed: Handed) {
        match handed.is_urgent {
            true => self.urgent.push_back(handed.operation),
            false => self.others.push_back(handed.operation),
        }
    }
}

fn run(
    mut books: Books,
    mut folding: Option<Folding>,
    handed: mpsc::Receiver<Handed>,
    commit_count: &AtomicU64,
) {
    let mut line = Line {
        handed,
        urgent: VecDeque::new(),
        others: VecDeque::new(),
    };
    // Ends when the ledger is dropped and what it was given is done.
    while line.wait() {
        commit_some(&mut books, &mut line, commit_count);
        if let Some(folding) = &mut folding {
            folding.after_commit(books.connection());
        }
    }
    // So that the writer is the last to close the database, and folds back what is left.
    drop(folding);
}

/// Runs operations in one transaction until there are no more, it has held an urgent one for long enough or is gone, and
/// answers those it ran. However many are urgent, one that is not is among them: an endless line of notifications must not
/// keep acknowledgements waiting.
fn commit_some(books: &mut Books, line: &mut Line, commit_count: &AtomicU64) {
    line.fill();
    // Those that are here. Others have a group of their own, so that the first does not wait for a stream of them.
    let mut left = line.others.len().min(MAX_GROUP);
    if let Err(error) = books.begin() {
        // All of them, and not one by one: to begin takes as long as the database is locked by someone else.
        while let Some((operation, _)) = line.next(&mut left) {
            operation.answer(Err(error.clone()));
        }
        return;
    }
    let mut ran = Vec::new();
    let mut state = Ok(());
    let (began, mut holds_urgent, mut holds_other) = (Instant::now(), false, false);
    loop {
        let is_over = ran.len() + 1 >= MAX_GROUP || holds_urgent && began.elapsed() > URGENT_GROUP;
        let next = match (is_over, holds_other) {
            (false, _) => line.next(&mut left),
            (true, false) => line.next_other(&mut left).map(|other| (other, false)),
            (true, true) => None,
        };
        let Some((mut operation, is_urgent)) = next else {
            break;
        };
        holds_urgent |= is_urgent;
        holds_other |= !is_urgent;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands over another of its kind whenever it runs.
    struct Endless(mpsc::Sender<Handed>);

    impl Operation for Endless {
        fn run(&mut self, _: &mut Books) -> Result<(), Error> {
            let next = Self(self.0.clone());
            let handed = Handed {
                operation: Box::new(next),
                is_urgent: true,
            };
            assert!(self.0.try_send(handed).is_ok());
            Ok(())
        }

        fn answer(self: Box<Self>, committed: Result<(), Error>) {
            committed.unwrap();
        }
    }

    #[test]
    fn an_endless_line_of_urgent_operations_keeps_no_other_waiting_for_more_than_a_commit() {
        let mut books = Books::beside(rusqlite::Connection::open_in_memory().unwrap());
        let (queue, handed) = mpsc::channel(QUEUE_LENGTH);
        let mut line = Line {
            handed,
            urgent: VecDeque::from([Box::new(Endless(queue)) as Box<dyn Operation>]),
            others: VecDeque::new(),
        };
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (answer, answered) = oneshot::channel();
            let work = |_: &mut Books| Ok(());
            line.others.push_back(Box::new(Waiting {
                work: Some(work),
                outcome: None,
                answer,
            }));
            answers.push(answered);
        }
        for (number, mut answered) in answers.into_iter().enumerate() {
            assert_eq!(line.others.len(), 3 - number);
            commit_some(&mut books, &mut line, &AtomicU64::new(0));
            answered.try_recv().unwrap().unwrap();
        }
    }
}
