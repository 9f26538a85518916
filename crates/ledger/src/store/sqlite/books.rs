//! What the writer thread works on: the connection, its transaction, and the few small tables it knows by heart.

use std::collections::HashMap;
use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::{Error, SinkName};

use super::failure::{Failure, corrupt, meaning};
use super::records::Records;

/// One bit of `blob.whole_sinks` per sink. The sign bit is left out.
const MAX_SINKS: u32 = 63;

/// What each stream's number stands for.
pub(super) type StreamNames = HashMap<i64, (TenantId, ContentType)>;

/// The writer's connection and its memory of stream and sink numbers.
pub(super) struct Books {
    connection: Connection,
    /// Whether nothing was done yet in the open transaction.
    is_untouched: bool,
    knows_names: bool,
    streams: HashMap<(TenantId, ContentType), i64>,
    /// The same, by number; made anew when it is asked for and there are more.
    streams_by_id: Arc<StreamNames>,
    sinks: HashMap<SinkName, Sink>,
    records: Records,
}

/// A sink's number and, from it, its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sink {
    pub(super) id: i64,
}

impl Sink {
    /// Its bit in `blob.whole_sinks`.
    pub(super) fn bit(self) -> i64 {
        1 << self.id
    }
}

impl Books {
    /// Frees what a dead holder had leased: with the lock in our hands, nobody can still be at work on it.
    pub(super) fn open(connection: Connection) -> Result<Self, Error> {
        step(
            &connection,
            "UPDATE blob INDEXED BY blob_due SET state = 0, token = token + 1 WHERE state IN (1, 2) AND state = 1",
            "freeing old leases",
        )?;
        Ok(Self::beside(connection))
    }

    /// Frees nothing: somebody else may be the holder.
    pub(super) fn beside(connection: Connection) -> Self {
        Self {
            connection,
            is_untouched: false,
            knows_names: false,
            streams: HashMap::new(),
            streams_by_id: Arc::default(),
            sinks: HashMap::new(),
            records: Records::default(),
        }
    }

    /// The connection, to read what is committed.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, when no more is to be written by these books.
    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Begins the transaction of a group.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        step(
            &self.connection,
            "BEGIN IMMEDIATE",
            "beginning a transaction",
        )?;
        self.is_untouched = true;
        Ok(())
    }

    /// Runs one operation so that its failure takes back its own work and nobody else's.
    ///
    /// # Errors
    /// When the whole transaction is gone. The operation's own failure is no error here: it keeps that itself.
    pub(super) fn run_apart(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if std::mem::take(&mut self.is_untouched) {
            return self.run_first(operation);
        }
        step(
            &self.connection,
            "SAVEPOINT operation",
            "beginning an operation",
        )
        .inspect_err(|_| self.roll_back())?;
        let change_count = self.records.change_count();
        let Err(failure) = operation(self) else {
            return step(&self.connection, "RELEASE operation", "ending an operation")
                .inspect_err(|_| self.roll_back());
        };
        self.forget_names();
        self.records.taken_back(change_count);
        if self.connection.is_autocommit() {
            self.records.rolled_back();
            return Err(failure);
        }
        step(
            &self.connection,
            "ROLLBACK TO operation",
            "taking an operation back",
        )
        .and_then(|()| step(&self.connection, "RELEASE operation", "ending an operation"))
        .inspect_err(|_| self.roll_back())
    }

    /// The first operation of a transaction, which is taken back with all of it. A savepoint of its own would have SQLite
    /// keep a copy of every page that it changes.
    fn run_first(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Err(failure) = operation(self) else {
            return Ok(());
        };
        let is_gone = self.connection.is_autocommit();
        self.roll_back();
        if is_gone {
            return Err(failure);
        }
        self.begin()
    }

    /// Commits, durably. When that fails, everything since [`begin`](Self::begin) is taken back.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        step(&self.connection, "COMMIT", "committing").inspect_err(|_| self.roll_back())?;
        self.records.committed();
        Ok(())
    }

    /// A statement, prepared once for the life of the connection.
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, Failure> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// The number of a tenant and content type, given out on first use.
    pub(super) fn stream(
        &mut self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<i64, Failure> {
        if let Some(id) = self.known_stream(tenant, content_type)? {
            return Ok(id);
        }
        // A number may have been given out meanwhile by whoever writes beside us.
        let name = params![tenant.to_string(), content_type.as_str()];
        self.statement(
            "INSERT INTO stream (tenant, content_type) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(name)?;
        let id = self
            .statement("SELECT id FROM stream WHERE tenant = ?1 AND content_type = ?2")?
            .query_row(name, |row| row.get(0))?;
        self.streams.insert((tenant, content_type), id);
        Ok(id)
    }

    /// The number of a tenant and content type, if it was ever used.
    pub(super) fn known_stream(
        &mut self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<i64>, Failure> {
        self.learn_names_if_forgotten()?;
        Ok(self.streams.get(&(tenant, content_type)).copied())
    }

    /// Every stream by number.
    pub(super) fn streams_by_id(&mut self) -> Result<Arc<StreamNames>, Failure> {
        self.learn_names_if_forgotten()?;
        // Numbers are given out and never taken back, but with all that is known.
        if self.streams_by_id.len() != self.streams.len() {
            let by_id = self.streams.iter().map(|(&name, &id)| (id, name));
            self.streams_by_id = Arc::new(by_id.collect());
        }
        Ok(Arc::clone(&self.streams_by_id))
    }

    /// A sink's number, given out on first use.
    pub(super) fn sink(&mut self, name: &SinkName) -> Result<Sink, Failure> {
        if let Some(sink) = self.known_sink(name)? {
            return Ok(sink);
        }
        let id = i64::try_from(self.sinks.len()).unwrap_or(i64::MAX);
        if id >= i64::from(MAX_SINKS) {
            return Err(Error::TooManySinks { limit: MAX_SINKS }.into());
        }
        self.statement("INSERT INTO sink (id, name) VALUES (?1, ?2)")?
            .execute(params![id, name.as_str()])?;
        self.sinks.insert(name.clone(), Sink { id });
        Ok(Sink { id })
    }

    /// A sink's number, if it ever acknowledged anything.
    pub(super) fn known_sink(&mut self, name: &SinkName) -> Result<Option<Sink>, Failure> {
        self.learn_names_if_forgotten()?;
        Ok(self.sinks.get(name).copied())
    }

    /// The bits of all these sinks. Nothing when one of them never acknowledged anything: it has no number, and no blob.
    pub(super) fn all_of(&mut self, sinks: &[SinkName]) -> Result<Option<i64>, Failure> {
        let mut bits = 0;
        for name in sinks {
            let Some(sink) = self.known_sink(name)? else {
                return Ok(None);
            };
            bits |= sink.bit();
        }
        Ok(Some(bits))
    }

    /// What is held in memory of the record tables.
    pub(super) fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Every sink, ordered by name.
    pub(super) fn sinks_by_name(&mut self) -> Result<Vec<(SinkName, Sink)>, Failure> {
        self.learn_names_if_forgotten()?;
        let mut sinks: Vec<_> = self
            .sinks
            .iter()
            .map(|(name, &sink)| (name.clone(), sink))
            .collect();
        sinks.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(sinks)
    }

    /// Keeps a small fact.
    pub(super) fn remember(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        self.statement(
            "INSERT INTO fact (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute([key, value])?;
        Ok(())
    }

    /// What is kept of a blob whose row no lease fits: whether it exists at all.
    pub(super) fn has_blob(&self, id: i64) -> Result<bool, Failure> {
        let found = self
            .statement("SELECT 1 FROM blob WHERE id = ?1")?
            .query_row([id], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(found.is_some())
    }

    /// Whether any sink has a part of any blob, and not the whole. Asked once by an operation on many blobs: there are parts
    /// while a blob of several is under way and at no other time, and to look for each blob's would take as long as the rest.
    pub(super) fn has_parts(&self) -> Result<bool, Failure> {
        let mut statement = self.statement("SELECT 1 FROM part LIMIT 1")?;
        Ok(statement.exists([])?)
    }

    fn learn_names_if_forgotten(&mut self) -> Result<(), Failure> {
        if self.knows_names {
            return Ok(());
        }
        let mut streams = HashMap::new();
        let mut sinks = HashMap::new();
        {
            let mut statement = self.statement("SELECT id, tenant, content_type FROM stream")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                streams.insert(stream_name(row, 1)?, row.get(0)?);
            }
            let mut statement = self.statement("SELECT id, name FROM sink")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                // A number that has no bit cannot be one that was given out here.
                if !(0..i64::from(MAX_SINKS)).contains(&id) {
                    return Err(rusqlite::Error::IntegralValueOutOfRange(0, id).into());
                }
                sinks.insert(sink_name(row, 1)?, Sink { id });
            }
        }
        self.streams = streams;
        self.streams_by_id = Arc::default();
        self.sinks = sinks;
        self.knows_names = true;
        Ok(())
    }

    /// What was taken back may have included a number just given out.
    fn forget_names(&mut self) {
        self.knows_names = false;
    }

    fn roll_back(&mut self) {
        self.forget_names();
        self.records.rolled_back();
        // Fails only when SQLite has rolled back already, which is what is wanted.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the ledger could not roll back"
            );
        }
    }
}

/// The tenant and content type that a row names in two columns, the first being `column`.
pub(super) fn stream_name(
    row: &Row<'_>,
    column: usize,
) -> Result<(TenantId, ContentType), Failure> {
    let tenant = row
        .get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|error| corrupt("a tenant's id", error))?;
    let content_type = row
        .get_ref(column + 1)?
        .as_str()?
        .parse()
        .map_err(|error| corrupt("a content type", error))?;
    Ok((tenant, content_type))
}

/// The sink that a row names.
pub(super) fn sink_name(row: &Row<'_>, column: usize) -> Result<SinkName, Failure> {
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|error| corrupt("a sink's name", error))
}

fn step(connection: &Connection, sql: &str, what: &'static str) -> Result<(), Error> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map(|_| ())
        .map_err(|error| meaning(error, what))
}
