//! The tables, and the ladder from every earlier format of them to this one.

use std::sync::Arc;

use tokio_postgres::Client;

use crate::Error;

use super::failure::Failure;

/// One step per format, each leading from the one before. A step that has been released is never edited, because
/// ledgers made by it exist.
const STEPS: [&str; 1] = [FORMAT_1];

/// Everything is in a schema of its own, so that the database may be somebody else's as well.
///
/// - What others write (ids, addresses, reasons) is `bytea`, in UTF-8: PostgreSQL's text has no NUL character, and one in
///   such a text would keep it from being written for ever. A database of any encoding will do.
/// - Names are unique by their SHA-256: an index has no room for a text of more than 2,700 bytes, and how long they are
///   is for others to say.
/// - `blob.state` is 0 when the blob may be leased at once, 1 when it is somebody's until `due_at`, 2 when it is nobody's
///   until `due_at`, 3 delivered, 4 quarantined, 5 expired, 6 dropped by a person. Below 3 it is unsettled. Queries spell
///   the numbers out, as a partial index is used only where the query says what the index says.
/// - `blob.token` names the current lease and grows whenever the blob changes hands, so that an older key fits no more.
/// - `blob.whole_sinks` has bit N set when sink N has every record: nearly every acknowledgement is of a whole blob,
///   and then costs no row of its own.
/// - `blob_ready` holds what may be leased, by stream and by who has it already, then in the order it is leased: a lease
///   reads the heads of these groups and never walks over blobs that it may not take. `blob_due` holds what is leased or
///   waits, by when it becomes due. Both end in what the summary reads, and neither has an entry for a settled blob.
/// - `blob_created` finds the blobs of a range. It has no state in it, so that a blob's life does not write to it.
/// - `total` is apart from `stream`, because every settled blob writes to the one and listing locks the other.
/// - `quarantine.record_index` is -1 for a whole blob and `quarantine.sink` is -1 for no sink: NULLs would all be
///   different from each other in the unique index.
/// - There are no foreign keys: streams and sinks are never deleted, a blob's parts go before it does, and each check would
///   write a lock into the row referred to.
/// - A row changes a few times in its life, and the statistics of last week say nothing of which: the tables that change
///   are vacuumed and analyzed sooner than by default.
const FORMAT_1: &str = "
CREATE TABLE stream (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE \"C\" NOT NULL,
    content_type text COLLATE \"C\" NOT NULL,
    began_at bigint,
    listed_until bigint,
    UNIQUE (tenant, content_type)
);

CREATE TABLE total (
    stream bigint PRIMARY KEY,
    delivered_count bigint NOT NULL,
    delivered_record_count bigint NOT NULL,
    delivered_byte_count bigint NOT NULL,
    quarantined_count bigint NOT NULL,
    quarantined_record_count bigint NOT NULL,
    quarantined_byte_count bigint NOT NULL,
    expired_count bigint NOT NULL,
    dropped_count bigint NOT NULL,
    dropped_record_count bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE blob (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream bigint NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    due_at bigint NOT NULL DEFAULT 0,
    whole_sinks bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    settled_at bigint,
    record_count bigint,
    byte_count bigint,
    quarantined_count bigint,
    item bigint,
    attempts integer NOT NULL DEFAULT 0,
    state smallint NOT NULL DEFAULT 0,
    is_listed boolean NOT NULL,
    is_part boolean NOT NULL DEFAULT false,
    content_id bytea NOT NULL,
    uri bytea,
    reason bytea
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

CREATE UNIQUE INDEX blob_named ON blob (stream, sha256(content_id));
CREATE INDEX blob_ready ON blob (stream, whole_sinks, expires_at, created_at, id) WHERE state = 0;
CREATE INDEX blob_due ON blob (due_at) INCLUDE (state, stream, expires_at, created_at) WHERE state IN (1, 2);
CREATE INDEX blob_created ON blob (stream, created_at, id);

CREATE TABLE sink (
    id bigint PRIMARY KEY,
    name text COLLATE \"C\" NOT NULL UNIQUE,
    position bytea
) WITH (fillfactor = 50);

CREATE TABLE part (
    blob bigint NOT NULL,
    sink bigint NOT NULL,
    first_record bigint NOT NULL,
    record_count bigint NOT NULL,
    fingerprint bigint NOT NULL,
    PRIMARY KEY (blob, sink, first_record, record_count, fingerprint)
);

CREATE TABLE listed (
    stream bigint NOT NULL,
    start_at bigint NOT NULL,
    end_at bigint NOT NULL,
    PRIMARY KEY (stream, start_at)
);

CREATE TABLE listed_window (
    stream bigint NOT NULL,
    start_at bigint NOT NULL,
    end_at bigint NOT NULL,
    blob_count bigint NOT NULL,
    listing_count bigint NOT NULL,
    first_listed_at bigint NOT NULL,
    last_listed_at bigint NOT NULL,
    PRIMARY KEY (stream, start_at, end_at)
);

CREATE TABLE forgotten_day (
    stream bigint NOT NULL,
    start_at bigint NOT NULL,
    blob_count bigint NOT NULL,
    record_count bigint NOT NULL,
    byte_count bigint NOT NULL,
    PRIMARY KEY (stream, start_at)
);

CREATE TABLE quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream bigint NOT NULL,
    record_index bigint NOT NULL,
    sink bigint NOT NULL,
    quarantined_at bigint NOT NULL,
    retried_at bigint,
    dropped_at bigint,
    byte_count bigint NOT NULL,
    content_id bytea NOT NULL,
    reason bytea NOT NULL,
    bytes bytea NOT NULL
);

CREATE UNIQUE INDEX quarantine_named ON quarantine (stream, sha256(content_id), record_index, sink);

CREATE TABLE fact (
    key bytea NOT NULL,
    value bytea NOT NULL
);

CREATE UNIQUE INDEX fact_named ON fact (sha256(key));

CREATE TABLE counter (
    name bytea NOT NULL,
    value bigint NOT NULL
) WITH (fillfactor = 50);

CREATE UNIQUE INDEX counter_named ON counter (sha256(name));
";

/// The schema. Spelled out in queries that come before it is on the search path.
pub(super) const SCHEMA: &str = "o365_collector";

/// Held by whoever changes the format, so that collectors that start together do not do it together. The number is
/// "O365LEDG" in ASCII: one that no other program is likely to lock.
const MIGRATION_LOCK: i64 = 0x4F33_3635_4C45_4447;

/// What a session may do about the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Bring them to the current format.
    Write,
    /// Nothing; they have to be there.
    Read,
    /// Nothing, whether they are there or not.
    Look,
}

/// What is found at a server, before a ledger is opened there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresState {
    /// Whether the tables of a ledger are there.
    pub has_ledger: bool,
    /// Whether the user may read and write them, or make them where they are not there.
    pub may_write: bool,
    /// Whether the server is the primary one, and not a standby.
    pub takes_writes: bool,
}

/// The first version that knows all that our statements say.
const OLDEST_SERVER: i32 = 120_000;

/// Sees to it that the tables are of the current format. Asked of every new session, and not once for all: behind the
/// same address there may be another server than the last time, restored to an earlier day.
///
/// # If interrupted
/// Each step is one transaction together with its number: the next session continues where this one was.
pub(super) async fn prepare(client: &Client, access: Access) -> Result<(), Failure> {
    let version = client
        .query_one("SELECT current_setting('server_version_num')::integer", &[])
        .await?;
    if version.try_get::<_, i32>(0)? < OLDEST_SERVER {
        return Err(Error::Unavailable {
            what: "preparing the tables",
            source: Arc::new(TooOld),
        }
        .into());
    }
    if access == Access::Look {
        return Ok(());
    }
    let mut found = format_of(client).await?;
    if access == Access::Write {
        while found < latest() {
            client.batch_execute("BEGIN").await?;
            found = climb(client).await?;
            client.batch_execute("COMMIT").await?;
        }
    }
    match found {
        found if found > latest() => Err(Error::NewerFormat {
            found,
            known: latest(),
        }
        .into()),
        0 => Err(Error::Unavailable {
            what: "the database holds no ledger",
            source: Arc::new(NoLedger),
        }
        .into()),
        found if found < latest() => Err(Error::OlderFormat { found }.into()),
        _ => Ok(()),
    }
}

/// Goes one step up, unless somebody else has gone there meanwhile. Gives the format that is then there.
async fn climb(client: &Client) -> Result<i64, Failure> {
    client
        .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])
        .await?;
    let found = format_of(client).await?;
    let index = usize::try_from(found).unwrap_or(usize::MAX);
    let Some(step) = STEPS.get(index) else {
        return Ok(found);
    };
    if found == 0 {
        // Made only where it is missing: who may not make one may have been given one.
        let has_schema = client
            .query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&SCHEMA])
            .await?;
        if !has_schema.try_get::<_, bool>(0)? {
            client
                .batch_execute(&format!("CREATE SCHEMA {SCHEMA}"))
                .await?;
        }
        client
            .batch_execute(&format!(
                "CREATE TABLE {SCHEMA}.format (number bigint NOT NULL); INSERT INTO {SCHEMA}.format VALUES (0)"
            ))
            .await?;
    }
    client
        .batch_execute(&format!(
            "SET LOCAL search_path = {SCHEMA}; {step}; UPDATE format SET number = {}",
            found + 1
        ))
        .await?;
    Ok(found + 1)
}

/// The format of the tables: 0 where there are none yet.
async fn format_of(client: &Client) -> Result<i64, Failure> {
    let found = client
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE tablename = 'format') FROM pg_tables WHERE schemaname = $1",
            &[&SCHEMA],
        )
        .await?;
    match (found.try_get::<_, i64>(0)?, found.try_get::<_, i64>(1)?) {
        (0, _) => Ok(0),
        // A schema that is somebody else's is refused before a table of ours is put into it.
        (_, 0) => Err(not_a_ledger()),
        _ => {
            let row = client
                .query_opt(&format!("SELECT number FROM {SCHEMA}.format"), &[])
                .await?;
            let row = row.ok_or_else(not_a_ledger)?;
            Ok(row.try_get(0)?)
        }
    }
}

/// What is there, and what the user may do with it.
pub(super) async fn look(client: &Client) -> Result<PostgresState, Failure> {
    let found = format_of(client).await?;
    let takes_writes = client
        .query_one("SELECT NOT pg_is_in_recovery()", &[])
        .await?;
    let rights = match found {
        0 => {
            "SELECT CASE WHEN to_regnamespace('o365_collector') IS NULL
                 THEN has_database_privilege(current_database(), 'CREATE')
                 ELSE has_schema_privilege('o365_collector', 'CREATE')
                     AND has_schema_privilege('o365_collector', 'USAGE') END"
        }
        _ => {
            "SELECT has_schema_privilege('o365_collector', 'USAGE')
                 AND bool_and(has_table_privilege(format('%I.%I', schemaname, tablename), kind))
             FROM pg_tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind
             WHERE schemaname = 'o365_collector'"
        }
    };
    let may_write = client.query_one(rights, &[]).await?;
    Ok(PostgresState {
        has_ledger: found > 0,
        may_write: may_write.try_get::<_, Option<bool>>(0)?.unwrap_or(false),
        takes_writes: takes_writes.try_get(0)?,
    })
}

fn latest() -> i64 {
    i64::try_from(STEPS.len()).expect("the ladder has a handful of steps")
}

#[derive(Debug, thiserror::Error)]
#[error(
    "there are no tables in the schema o365_collector; the collector makes them when it first starts"
)]
struct NoLedger;

#[derive(Debug, thiserror::Error)]
#[error("the server is older than PostgreSQL 12")]
struct TooOld;

#[derive(Debug, thiserror::Error)]
#[error("the tables in the schema o365_collector are not a ledger of this program")]
struct NotALedger;

fn not_a_ledger() -> Failure {
    Failure::Ledger(Error::Corrupt {
        what: "the schema",
        source: Arc::new(NotALedger),
    })
}
