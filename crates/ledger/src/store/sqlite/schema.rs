//! The tables, and the ladder from every earlier format of the file to this one.

use rusqlite::{Connection, TransactionBehavior};

use crate::Error;

use super::failure::{Failure, meaning};

/// Stands in the file's header ("O365"), so that `file` and we ourselves can tell a ledger from any other database.
const APPLICATION_ID: i64 = 0x4F33_3635;

/// One step per format, each leading from the one before. A step that has been released is never edited, because
/// files made by it exist.
const STEPS: [&str; 6] = [FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5, FORMAT_6];

/// - `blob.state` is 0 when the blob may be leased at once, 1 when it is somebody's until `due_at`, 2 when it is nobody's
///   until `due_at`, 3 delivered, 4 quarantined, 5 expired. Below 3 it is unsettled. Queries spell the numbers out, as
///   SQLite uses a partial index only where the query says literally what the index says.
/// - `blob.token` names the current lease and grows whenever the blob changes hands, so that an older key fits no more.
/// - `blob.whole_sinks` has bit N set when sink N has every record: nearly every acknowledgement is of a whole blob,
///   and then costs no row of its own.
/// - `blob_ready` holds what may be leased, by stream and by who has it already, then in the order it is leased:
///   a lease reads the heads of these groups and never walks over blobs that it may not take.
/// - `blob_due` holds what is leased or waits, by when it becomes due. Both indexes end in what the summary reads, and
///   neither has an entry for a settled blob, however many there are.
/// - `quarantine.record_index` is -1 for a whole blob and `quarantine.sink` is -1 for no sink: NULLs would all be
///   different from each other in the UNIQUE constraint.
const FORMAT_1: &str = "
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    content_type TEXT NOT NULL,
    listed_until INTEGER,
    delivered_count INTEGER NOT NULL DEFAULT 0,
    quarantined_count INTEGER NOT NULL DEFAULT 0,
    expired_count INTEGER NOT NULL DEFAULT 0,
    delivered_record_count INTEGER NOT NULL DEFAULT 0,
    delivered_byte_count INTEGER NOT NULL DEFAULT 0,
    quarantined_record_count INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, content_type)
) STRICT;

CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream (id),
    state INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    whole_sinks INTEGER NOT NULL DEFAULT 0,
    seen_via INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    settled_at INTEGER,
    record_count INTEGER,
    byte_count INTEGER,
    quarantined_count INTEGER,
    content_id TEXT NOT NULL,
    uri TEXT,
    reason TEXT,
    UNIQUE (stream, content_id)
) STRICT;

CREATE INDEX blob_ready ON blob (stream, whole_sinks, expires_at, created_at) WHERE state = 0;
CREATE INDEX blob_due ON blob (due_at, state, stream, expires_at, created_at) WHERE state IN (1, 2);

CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    position TEXT
) STRICT;

CREATE TABLE part (
    blob INTEGER NOT NULL REFERENCES blob (id),
    sink INTEGER NOT NULL REFERENCES sink (id),
    first_record INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    PRIMARY KEY (blob, sink, first_record, record_count, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE listed (
    stream INTEGER NOT NULL REFERENCES stream (id),
    start_at INTEGER NOT NULL,
    end_at INTEGER NOT NULL,
    PRIMARY KEY (stream, start_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL REFERENCES stream (id),
    content_id TEXT NOT NULL,
    record_index INTEGER NOT NULL,
    sink INTEGER NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (stream, content_id, record_index, sink)
) STRICT;

CREATE TABLE fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Counters that others than the pipeline keep, by name.
const FORMAT_2: &str = "
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Coverage, compaction, and a quarantine that things leave.
///
/// - `blob.state` 6 is dropped by a person. `blob.item` is the item of `quarantine` that an unsettled blob retries, and
///   `blob.is_part` is 1 for one that was made to retry a record: it is in no total, as the record was counted with
///   the blob that it came in.
/// - `blob_created` finds the blobs of a range. It has no state in it, so that a blob's life does not write to it.
/// - `listed_window` has every window that was listed, `listed` (of format 1) the stretches that they make.
/// - `forgotten_day` has the totals of delivered blobs that have no row any more.
/// - `quarantine` is made anew for its bytes to come last: SQLite reads a row's chain of pages up to the column it wants.
///
/// Of an earlier ledger's stretches it is known that they were listed to their ends, and no more: they become windows
/// of an hour, each listed once and when it ended, so that all that can still be listed is listed again.
const FORMAT_3: &str = "
ALTER TABLE stream ADD COLUMN began_at INTEGER;
ALTER TABLE stream ADD COLUMN quarantined_byte_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN dropped_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN dropped_record_count INTEGER NOT NULL DEFAULT 0;

ALTER TABLE blob ADD COLUMN item INTEGER;
ALTER TABLE blob ADD COLUMN is_part INTEGER NOT NULL DEFAULT 0;
CREATE INDEX blob_created ON blob (stream, created_at);

CREATE TABLE listed_window (
    stream INTEGER NOT NULL REFERENCES stream (id),
    start_at INTEGER NOT NULL,
    end_at INTEGER NOT NULL,
    blob_count INTEGER NOT NULL,
    listing_count INTEGER NOT NULL,
    first_listed_at INTEGER NOT NULL,
    last_listed_at INTEGER NOT NULL,
    PRIMARY KEY (stream, start_at, end_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE forgotten_day (
    stream INTEGER NOT NULL REFERENCES stream (id),
    start_at INTEGER NOT NULL,
    blob_count INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    PRIMARY KEY (stream, start_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine_3 (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL REFERENCES stream (id),
    content_id TEXT NOT NULL,
    record_index INTEGER NOT NULL,
    sink INTEGER NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL,
    retried_at INTEGER,
    dropped_at INTEGER,
    byte_count INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (stream, content_id, record_index, sink)
) STRICT;
INSERT INTO quarantine_3 (id, stream, content_id, record_index, sink, reason, quarantined_at, byte_count, bytes)
    SELECT id, stream, content_id, record_index, sink, reason, quarantined_at, length(bytes), bytes FROM quarantine;
DROP TABLE quarantine;
ALTER TABLE quarantine_3 RENAME TO quarantine;

UPDATE stream SET
    began_at = (SELECT min(start_at) FROM listed WHERE stream = stream.id),
    quarantined_byte_count = (SELECT coalesce(sum(byte_count), 0) FROM quarantine WHERE stream = stream.id);

INSERT INTO listed_window
    WITH RECURSIVE hour (stream, start_at, end_at, last_at) AS (
        SELECT stream, start_at, min(end_at, (start_at / 3600000 + 1) * 3600000), end_at FROM listed
        UNION ALL
        SELECT stream, end_at, min(last_at, end_at + 3600000), last_at FROM hour WHERE end_at < last_at
    )
    SELECT hour.stream, start_at, end_at,
        (SELECT count(*) FROM blob
         WHERE blob.stream = hour.stream AND created_at >= hour.start_at AND created_at < hour.end_at),
        1, end_at, end_at
    FROM hour;
";

/// Which single records a sink has, where they are delivered once.
///
/// - `record_log` holds what was remembered lately, a row for each commit: its keys, 16 bytes each, one behind the other.
/// - `record_run` and `record_chunk` hold what was remembered before, sorted: the chunks of run N are those from N times
///   65536 on. They are written once and deleted together.
const FORMAT_4: &str = "
CREATE TABLE record_log (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink (id),
    remembered_at INTEGER NOT NULL,
    keys BLOB NOT NULL
) STRICT;

CREATE TABLE record_run (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink (id),
    remembered_until INTEGER NOT NULL,
    key_count INTEGER NOT NULL
) STRICT;

CREATE TABLE record_chunk (
    id INTEGER PRIMARY KEY,
    keys BLOB NOT NULL
) STRICT;
";

/// Blobs that expire in the same hour are leased in the order in which they were noted.
///
/// Rows of blobs that were noted together lie together. By the millisecond of their expiry, which for Microsoft's blobs is up
/// to an hour out of their order, each blob of a lease was on a page of its own, which was then read, changed and logged for
/// it alone, and once more when it was delivered.
const FORMAT_5: &str = "
ALTER TABLE blob ADD COLUMN expires_hour INTEGER GENERATED ALWAYS AS (expires_at / 3600000) VIRTUAL;
DROP INDEX blob_ready;
CREATE INDEX blob_ready ON blob (stream, whole_sinks, expires_hour, id, expires_at, created_at) WHERE state = 0;
";

/// `blob.uri` is what [`address`](super::address) makes of it. One that was kept as it is reads the same, unless it has
/// the beginning of a mark.
const FORMAT_6: &str = "
UPDATE blob SET uri = replace(uri, '{', '{{') WHERE instr(uri, '{') > 0;
";

/// Brings the file to the current format.
///
/// # If interrupted
/// Each step is one transaction together with its number: the next opening continues where this one was.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let found = format_of(connection)?;
    for (number, step) in (1_i64..).zip(STEPS).filter(|(number, _)| *number > found) {
        let climb = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", number)?;
            transaction.commit()
        };
        climb(connection).map_err(|error| meaning(error, "preparing the tables"))?;
    }
    Ok(())
}

/// Refuses a file that is not a ledger. One of an earlier format is none to be refused: it is read as it is, so that
/// `status` of a later program can be asked before that program's `run` has brought the file to the current format.
pub(super) fn check(connection: &Connection) -> Result<(), Error> {
    if format_of(connection)? == 0 {
        return Err(not_a_ledger());
    }
    Ok(())
}

/// Refuses a file that is not a ledger of the current format.
pub(super) fn check_current(connection: &Connection) -> Result<(), Error> {
    match format_of(connection)? {
        0 => Err(not_a_ledger()),
        found if found < latest() => Err(Error::OlderFormat { found }),
        _ => Ok(()),
    }
}

/// The format of a file that is a ledger.
pub(super) fn format_number(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// The format from which on there are coverage and a quarantine that things leave.
pub(super) const FIRST_WITH_COVERAGE: i64 = 3;

/// Refuses to answer from an earlier format what only later ones hold.
pub(super) fn need_coverage(connection: &Connection) -> Result<(), Failure> {
    let found = format_number(connection)?;
    if found < FIRST_WITH_COVERAGE {
        return Err(Error::OlderFormat { found }.into());
    }
    Ok(())
}

/// The file's format: 0 for a file that has no tables yet.
fn format_of(connection: &Connection) -> Result<i64, Error> {
    let number = |query: &str| {
        connection
            .query_row(query, [], |row| row.get::<_, i64>(0))
            .map_err(|error| meaning(error, "reading the file's format"))
    };
    let found = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let is_empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
    // A database that is somebody else's is refused before a table of ours is put into it.
    if !is_empty && application != APPLICATION_ID {
        return Err(not_a_ledger());
    }
    if found > latest() {
        return Err(Error::NewerFormat {
            found,
            known: latest(),
        });
    }
    Ok(if is_empty { 0 } else { found })
}

fn latest() -> i64 {
    i64::try_from(STEPS.len()).expect("the ladder has a handful of steps")
}

#[derive(Debug, thiserror::Error)]
#[error("it is not a ledger of this program")]
struct NotALedger;

fn not_a_ledger() -> Error {
    Error::Corrupt {
        what: "the file",
        source: std::sync::Arc::new(NotALedger),
    }
}
