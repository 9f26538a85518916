//! The real ledgers that the twin is held against, and how each is closed, crashed and opened again.

use std::path::PathBuf;

use ledger::{Ledger, PostgresLedger, SqliteLedger};
use tempfile::TempDir;

use crate::postgres::server::Database;

/// A ledger of either engine.
pub(super) enum Real {
    /// In a file, which one process has for itself.
    Sqlite {
        directory: TempDir,
        path: PathBuf,
        /// Nothing only while it is opened again.
        ledger: Option<SqliteLedger>,
        crash_count: u32,
    },
    /// On a server, where others may hold leases.
    Postgres {
        database: Database,
        ledger: Box<PostgresLedger>,
    },
}

impl Real {
    pub(super) fn in_a_file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = Some(SqliteLedger::open(&path).unwrap());
        Self::Sqlite {
            directory,
            path,
            ledger,
            crash_count: 0,
        }
    }

    pub(super) async fn on_a_server() -> Self {
        let database = Database::new().await;
        let ledger = Box::new(database.ledger());
        Self::Postgres { database, ledger }
    }

    pub(super) fn ledger(&self) -> &dyn Ledger {
        match self {
            Self::Sqlite { ledger, .. } => ledger.as_ref().unwrap(),
            Self::Postgres { ledger, .. } => &**ledger,
        }
    }

    /// Whether the last blob of all keeps its row when it could be forgotten, as its number would be given to another.
    pub(super) fn keeps_the_last(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Closed as at a shutdown, and opened again. Says whether that freed all leases.
    pub(super) fn restart(&mut self) -> bool {
        match self {
            Self::Sqlite { path, ledger, .. } => {
                *ledger = None;
                *ledger = Some(SqliteLedger::open(path).unwrap());
                true
            }
            Self::Postgres { database, ledger } => {
                **ledger = database.ledger();
                false
            }
        }
    }

    /// As it is at this moment, opened by another process: what a kill leaves behind. Says whether that freed all leases.
    pub(super) fn crash(&mut self) -> bool {
        if let Self::Sqlite {
            directory,
            path,
            crash_count,
            ..
        } = self
        {
            *crash_count += 1;
            let copy = directory.path().join(format!("crashed-{crash_count}.db"));
            for ending in ["", "-wal"] {
                let side = |path: &PathBuf| PathBuf::from(format!("{}{ending}", path.display()));
                std::fs::copy(side(path), side(&copy)).unwrap();
            }
            *path = copy;
        }
        self.restart()
    }
}
