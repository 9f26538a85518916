//! Opening the files: the lock that keeps a second collector out, and connections set so that a commit is durable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::Error;

use super::failure::meaning;
use super::schema;

/// How long to wait for somebody who has the database locked, such as a backup or a database shell. Collectors keep
/// each other out by the lock file and never meet here.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements kept per connection: more than there are in the code, so that none is ever prepared twice.
const STATEMENT_COUNT: usize = 128;

/// The lock that only one collector at a time can have. It goes with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, and not left to the file's closing: a process that is started at this moment has the file open too, until
        // it becomes another program. Should this fail, the closing does it.
        let _unlocked = self.0.unlock();
    }
}

/// Takes the lock.
pub(super) fn take_lock(path: &Path) -> Result<Lock, Error> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let file =
        create_private(&lock_path).map_err(|error| unavailable("creating the lock file", error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::AlreadyOpen { lock_path }),
        Err(TryLockError::Error(error)) => Err(unavailable("locking the lock file", error)),
    }
}

/// A connection whose commits survive a power cut, to a file of the current format, created if need be.
pub(super) fn for_writing(path: &Path) -> Result<Connection, Error> {
    // Created here and not by SQLite, which would let everyone read it; SQLite gives its side files the same rights.
    create_private(path)
        .and_then(|_| sync_directory(path))
        .map_err(|error| unavailable("creating the file", error))?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // FULL and not NORMAL: in WAL mode NORMAL syncs only at checkpoints, and a power cut would take back commits
    // that have been answered. When the log is folded back into the file is decided in `folding`.
    // No mmap: a failing disk must give an error, not a signal.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA mmap_size = 0;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -8000;
             PRAGMA temp_store = MEMORY;",
        )
        .map_err(|error| meaning(error, "setting up the database"))?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// A connection for a few writes to a file of the current format, which somebody else may have open. The other settings of
/// [`for_writing`] are in the file, or are for those who write much.
pub(super) fn for_writing_beside(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::check_current(&connection)?;
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;",
        )
        .map_err(|error| meaning(error, "setting up the database"))?;
    Ok(connection)
}

/// A connection that only folds the log back, to a file that the writer has open.
pub(super) fn for_folding(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA cache_size = -64;")
        .map_err(|error| meaning(error, "setting up the database"))?;
    // Only who has read knows that there is a log.
    schema::check_current(&connection)?;
    Ok(connection)
}

/// A connection to an empty database in memory, of the current format.
pub(super) fn in_memory() -> Result<Connection, Error> {
    let mut connection =
        Connection::open_in_memory().map_err(|error| meaning(error, "opening memory"))?;
    connection
        .execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")
        .map_err(|error| meaning(error, "setting up the database"))?;
    keep_statements(&connection)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// A connection that can only read, to a file of the current format.
pub(super) fn for_reading(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    schema::check(&connection)?;
    Ok(connection)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, Error> {
    // Without SQLITE_OPEN_URI: a file name that begins with `file:` is a file name.
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| meaning(error, "opening the file"))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(|error| meaning(error, "setting up the database"))?;
    keep_statements(&connection)?;
    Ok(connection)
}

/// Has a statement prepared once and no more. Without the stability guarantee, SQLite prepares one that meets a partial
/// index anew for every value that is bound to it: it might decide otherwise, which ours forbid it by naming their index.
fn keep_statements(connection: &Connection) -> Result<(), Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_COUNT);
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(|_| ())
        .map_err(|error| meaning(error, "setting up the database"))
}

fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes the file's name durable, not only its content. SQLite does so for files that it creates.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn unavailable(what: &'static str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Error::Full(Arc::new(error));
    }
    Error::Unavailable {
        what,
        source: Arc::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_up_is_free_though_a_new_process_has_its_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let lock = take_lock(&path).unwrap();
        // What a child has from being forked on.
        let inherited = lock.0.try_clone().unwrap();
        take_lock(&path).unwrap_err();
        drop(lock);
        take_lock(&path).unwrap();
        drop(inherited);
    }
}
