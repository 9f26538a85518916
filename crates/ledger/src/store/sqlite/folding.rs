//! The log folded back into the file by a thread beside the one that writes, so that no commit waits while thousands of pages
//! are copied and synced.
//!
//! The log can begin anew only when all of it was copied, and whoever writes meanwhile makes it longer. So the thread copies
//! until it has caught up, or nearly so, and the writer copies what little came since, between two commits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode};
use tracing::{error, warn};

use crate::Error;

use super::failure::meaning;
use super::open;

/// From so many pages on, 16 MB, the log is folded back. With fewer, pages that change again soon are copied more often; with
/// more, a start after a crash has more to read.
const FOLD_FROM_PAGES: i32 = 4_000;
/// From so many on the writer folds it by itself, whatever keeps the thread: as long as the log may be left on the disk.
const FOLD_AT_LAST_FROM_PAGES: i32 = 4 * FOLD_FROM_PAGES;
/// How often the thread copies what was added while it copied. The last time it finds next to nothing, unless a reader holds on
/// to an old state, and then it would find nothing to do.
const PASSES: usize = 5;

/// What the writer knows of its log.
pub(super) struct Folding {
    path: PathBuf,
    /// How long the log was after the last commit, in pages.
    pages: Arc<AtomicI32>,
    /// How much of that was copied, as far as the writer knows.
    folded_pages: i32,
    fold_from_pages: i32,
    /// Once it was needed.
    helper: Option<Helper>,
    is_under_way: bool,
    /// The writer's own folding fails, which was told.
    is_failing: bool,
}

impl Folding {
    /// Watches the log of this connection to the file at `path`. From here on SQLite folds nothing back by itself.
    pub(super) fn watch(connection: &mut Connection, path: &Path) -> Result<Self, Error> {
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        connection
            .wal_hook(Some(move |_: &mut Wal, pages| {
                seen.store(pages, Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|error| meaning(error, "setting up the database"))?;
        Ok(Self {
            path: path.to_owned(),
            pages,
            folded_pages: 0,
            fold_from_pages: FOLD_FROM_PAGES,
            helper: None,
            is_under_way: false,
            is_failing: false,
        })
    }

    /// To be called between two transactions of the connection.
    ///
    /// # If interrupted
    /// What is committed is in the log until all of it is in the file and synced.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.folded_pages {
            // It began anew.
            self.folded_pages = 0;
        }
        if self.is_under_way {
            match self.helper.as_ref().map(|helper| helper.done.try_recv()) {
                Some(Err(TryRecvError::Empty)) => {}
                _ => {
                    self.is_under_way = false;
                    self.fold(connection);
                }
            }
        } else if pages - self.folded_pages >= self.fold_from_pages {
            self.is_under_way = self.ask();
        }
        let at_last = FOLD_AT_LAST_FROM_PAGES / FOLD_FROM_PAGES * self.fold_from_pages;
        if pages - self.folded_pages >= at_last {
            self.fold(connection);
        }
    }

    /// Has the thread copy what there is. Whether it does.
    fn ask(&mut self) -> bool {
        if self.helper.is_none() {
            match Helper::start(&self.path) {
                Ok(helper) => self.helper = Some(helper),
                Err(cause) => {
                    warn!(
                        cause = &cause as &dyn std::error::Error,
                        "nobody folds the ledger's log back beside the writer"
                    );
                    return false;
                }
            }
        }
        let asked = self
            .helper
            .as_ref()
            .and_then(|helper| helper.asked.as_ref());
        asked.is_some_and(|asked| asked.send(()).is_ok())
    }

    /// Copies what is left. What fails is told once, and tried again when the log is longer.
    fn fold(&mut self, connection: &Connection) {
        match connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
            Ok((_, copied)) => {
                self.folded_pages = copied.max(0);
                self.is_failing = false;
            }
            // The thread is at it.
            Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(cause) if !std::mem::replace(&mut self.is_failing, true) => {
                warn!(
                    cause = &cause as &dyn std::error::Error,
                    "the ledger's log could not be folded back and grows, will retry"
                );
            }
            Err(_told) => {}
        }
    }

    /// Waits until the thread has done what it was asked for.
    #[cfg(test)]
    fn wait(&mut self, connection: &Connection) {
        let helper = self.helper.as_ref().unwrap();
        helper.done.recv().unwrap();
        self.is_under_way = false;
        self.fold(connection);
    }
}

/// The thread, on a connection of its own.
struct Helper {
    asked: Option<Sender<()>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    fn start(path: &Path) -> Result<Self, Error> {
        let connection = open::for_folding(path)?;
        let (asked, questions) = channel();
        let (answers, done) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger-folding".into())
            .spawn(move || run(&connection, &questions, &answers))
            .map_err(|error| Error::Unavailable {
                what: "starting a thread",
                source: Arc::new(error),
            })?;
        Ok(Self {
            asked: Some(asked),
            done,
            thread: Some(thread),
        })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread that folds the ledger's log back panicked");
        }
    }
}

fn run(connection: &Connection, asked: &Receiver<()>, done: &Sender<()>) {
    while asked.recv().is_ok() {
        for _ in 0..PASSES {
            match connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
                Ok((pages, copied)) if copied < pages => {}
                Ok(_) => break,
                Err(cause) => {
                    warn!(
                        cause = &cause as &dyn std::error::Error,
                        "the ledger's log could not be folded back, will retry"
                    );
                    break;
                }
            }
        }
        if done.send(()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts warnings.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn ledger(dir: &Path) -> (Connection, Folding) {
        let path = dir.join("ledger.db");
        let mut connection = open::for_writing(&path).unwrap();
        let mut folding = Folding::watch(&mut connection, &path).unwrap();
        folding.fold_from_pages = 20;
        (connection, folding)
    }

    /// Commits some pages; how long the log is then.
    fn commit(connection: &Connection, folding: &mut Folding) -> i32 {
        connection
            .execute(
                "INSERT INTO fact VALUES (hex(randomblob(8)), hex(zeroblob(4000)))",
                [],
            )
            .unwrap();
        folding.after_commit(connection);
        folding.pages.load(Ordering::Relaxed)
    }

    #[test]
    fn a_log_that_the_thread_has_copied_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, mut folding) = ledger(dir.path());
        for _ in 0..3 {
            let mut longest = 0;
            while !folding.is_under_way {
                longest = commit(&connection, &mut folding);
            }
            assert!(longest >= 20);
            folding.wait(&connection);
            assert!(commit(&connection, &mut folding) < 20);
        }
        let facts = "SELECT count(*) FROM fact";
        let count: i64 = connection.query_row(facts, [], |row| row.get(0)).unwrap();
        drop((folding, connection));
        let read = open::for_reading(&dir.path().join("ledger.db")).unwrap();
        assert_eq!(read.query_row(facts, [], |row| row.get(0)), Ok(count));
    }

    #[test]
    fn a_log_that_the_thread_cannot_copy_is_copied_by_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, mut folding) = ledger(dir.path());
        folding.path = dir.path().join("elsewhere.db");
        let (mut longest, mut pages) = (0, 0);
        while longest <= pages {
            longest = pages;
            pages = commit(&connection, &mut folding);
        }
        assert!((80..100).contains(&longest), "{longest}");
    }

    #[test]
    fn a_reader_that_holds_on_to_an_old_state_ends_no_folding_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, mut folding) = ledger(dir.path());
        commit(&connection, &mut folding);
        let read = open::for_reading(&dir.path().join("ledger.db")).unwrap();
        let old = read.unchecked_transaction().unwrap();
        old.query_row("SELECT count(*) FROM fact", [], |row| row.get::<_, i64>(0))
            .unwrap();
        while !folding.is_under_way {
            commit(&connection, &mut folding);
        }
        folding.wait(&connection);
        assert!(commit(&connection, &mut folding) > 20);
        drop(old);
        let mut longest = 0;
        while !folding.is_under_way {
            longest = commit(&connection, &mut folding);
        }
        folding.wait(&connection);
        assert!(commit(&connection, &mut folding) < longest);
    }

    #[test]
    fn a_folding_that_fails_is_told_once_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, mut folding) = ledger(dir.path());
        // Nobody but the test asks for it.
        folding.fold_from_pages = 1_000_000;
        let warnings = Warnings::default();
        // With one subscriber in the process, the thread that comes first by a line would say for all of them whether anybody
        // wants it.
        let _second = tracing::Dispatch::new(Warnings::default());
        let _listening = tracing::subscriber::set_default(warnings.clone());
        let told = || warnings.0.load(Ordering::Relaxed);
        for failed in 1..3 {
            commit(&connection, &mut folding);
            // Within a transaction of its own a connection may not.
            let open = connection.unchecked_transaction().unwrap();
            open.execute("DELETE FROM counter", []).unwrap();
            for _ in 0..3 {
                folding.fold(&connection);
                assert_eq!(told(), failed);
            }
            assert_eq!(folding.folded_pages, 0);
            // Taken back.
            drop(open);
            folding.fold(&connection);
            assert!(folding.folded_pages > 0);
            assert_eq!(told(), failed);
            folding.folded_pages = 0;
        }
    }
}
