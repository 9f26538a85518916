//! The ledger in memory, worked on by whoever calls: no file, no thread, no sync. For simulations, in which one seed is
//! one history: an operation is over when its future was polled once, and nothing of it goes on elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::SqliteLedger;
use super::books::Books;
use super::failure::Failure;
use super::open;
use super::reader::Reader;
use super::writer::Writer;
use crate::Error;

/// What the reader and the writer of such a ledger share.
#[derive(Clone)]
pub(super) struct Inline(Arc<Mutex<Books>>);

impl SqliteLedger {
    /// An empty ledger in memory, gone when it is dropped. Nothing in it survives a power cut, and each operation is a
    /// transaction of its own: for simulations and not for evidence.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn in_memory() -> Result<Self, Error> {
        Self::inline(open::in_memory()?)
    }

    /// The same ledger as the next process finds it when this one died: leases are freed, their attempts stay counted.
    /// Nothing, when it is a ledger in a file.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn reopened_in_memory(self) -> Option<Result<Self, Error>> {
        let Self { reader, writer, .. } = self;
        drop(reader);
        let Inline(books) = writer?.into_inline()?;
        let books = Arc::into_inner(books)?
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Self::inline(books.into_connection()))
    }

    fn inline(connection: Connection) -> Result<Self, Error> {
        let inline = Inline(Arc::new(Mutex::new(Books::open(connection)?)));
        Ok(Self {
            reader: Reader::inline(inline.clone()),
            writer: Some(Writer::inline(inline)),
            _lock: None,
        })
    }
}

impl Inline {
    /// Does the work in a transaction of its own.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut books = self.books();
        books.begin()?;
        let mut outcome = Err(Error::Stopped);
        books.run_apart(|books| {
            outcome = work(books).map_err(Error::from);
            outcome.as_ref().map(|_| ()).map_err(Clone::clone)
        })?;
        books.commit()?;
        outcome
    }

    /// Reads what is committed.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        work(self.books().connection()).map_err(Error::from)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
