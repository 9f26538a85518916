//! One connection, with what is known on it: prepared statements, and the numbers of streams and sinks.
//!
//! What is known is known of this connection only. After a failover another server answers at the same address, and it
//! may lack the last transactions of the old one: a number that was given out in one of them may name another stream
//! there. Connections do not outlive such a moment, so neither do the numbers.

use std::collections::{BTreeSet, HashMap};

use activity_api::{ContentType, TenantId};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use tokio_postgres::{Client, Error as SqlError, Row, Statement};

use crate::{Error, SinkName};

use super::failure::{Failure, NoSuchRow, corrupt, get};
use super::schema::Access;

/// One bit of `blob.whole_sinks` per sink. The sign bit is left out.
const MAX_SINKS: u32 = 63;

/// Tries to give a sink a number that others take first. Each of them made progress, so this ends; the bound is for
/// defects.
const MAX_RACES: u32 = 100;

/// A tenant and content type.
pub(super) type StreamName = (TenantId, ContentType);

/// A connection that nobody else uses at the moment.
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    streams: HashMap<StreamName, i64>,
    streams_by_id: HashMap<i64, StreamName>,
    sinks: Vec<(SinkName, Sink)>,
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

impl Session {
    /// A session on a fresh connection.
    ///
    /// - A commit is on the server's disk before it is answered, whatever the server's default is: what was acknowledged
    ///   must survive a power cut. Where the server waits for a standby to have applied it, it goes on doing so.
    /// - Nothing waits for ever: not a statement, not for a lock, and a transaction whose process is frozen lets go of
    ///   its locks.
    /// - Each query is written for an index. Without this, one planned while the tables were small reads all of them
    ///   until they are next analyzed. Bitmaps are left out too: a plain scan of an index marks the entries of rows that
    ///   are no more, so that the next one steps over them; blobs come and go at the heads of these indexes, and are
    ///   vacuumed away much later.
    pub(super) async fn begin(client: Client, access: Access) -> Result<Self, SqlError> {
        client
            .batch_execute(
                "SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit') <> 'remote_apply';
                 SET statement_timeout = '50s';
                 SET lock_timeout = '20s';
                 SET idle_in_transaction_session_timeout = '60s';
                 SET default_transaction_isolation = 'read committed';
                 SET client_min_messages = 'error';
                 SET search_path = o365_collector;
                 SET enable_seqscan = off;
                 SET enable_bitmapscan = off;
                 SET jit = off",
            )
            .await?;
        if access != Access::Write {
            client
                .batch_execute("SET default_transaction_read_only = on")
                .await?;
        }
        Ok(Self {
            client,
            statements: HashMap::new(),
            streams: HashMap::new(),
            streams_by_id: HashMap::new(),
            sinks: Vec::new(),
        })
    }

    /// A statement, prepared once for the life of the connection.
    pub(super) async fn statement(&mut self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Takes back what is open of a transaction.
    pub(super) async fn roll_back(&self) -> Result<(), SqlError> {
        self.client.batch_execute("ROLLBACK").await
    }

    /// The number of a tenant and content type, given out on first use.
    pub(super) async fn stream(&mut self, name: StreamName) -> Result<i64, Failure> {
        self.ensure_streams([name]).await?;
        self.streams
            .get(&name)
            .copied()
            .ok_or_else(|| corrupt("a stream", NoSuchRow))
    }

    /// Gives all of them numbers that have none. Not part of any transaction: a number without a blob harms nothing.
    pub(super) async fn ensure_streams(
        &mut self,
        names: impl IntoIterator<Item = StreamName>,
    ) -> Result<(), Failure> {
        let missing = self.look_up(names).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let (tenants, types) = columns(&missing);
        let insert = self
            .statement(
                "INSERT INTO stream (tenant, content_type)
                 SELECT tenant, content_type FROM unnest($1::text[], $2::text[]) AS new (tenant, content_type)
                 ORDER BY tenant, content_type ON CONFLICT DO NOTHING",
            )
            .await?;
        self.client.execute(&insert, &[&tenants, &types]).await?;
        self.look_up(missing).await?;
        Ok(())
    }

    /// The number of a tenant and content type, if it was ever used.
    pub(super) async fn known_stream(&mut self, name: StreamName) -> Result<Option<i64>, Failure> {
        self.look_up([name]).await?;
        Ok(self.streams.get(&name).copied())
    }

    /// The numbers of those that were ever used.
    pub(super) async fn known_streams(
        &mut self,
        names: impl IntoIterator<Item = StreamName>,
    ) -> Result<&HashMap<StreamName, i64>, Failure> {
        self.look_up(names).await?;
        Ok(&self.streams)
    }

    /// What a stream's number stands for, of one that the last queries have named.
    pub(super) async fn stream_name(&mut self, id: i64) -> Result<StreamName, Failure> {
        if let Some(name) = self.streams_by_id.get(&id) {
            return Ok(*name);
        }
        let select = self
            .statement("SELECT id, tenant, content_type FROM stream WHERE id = $1")
            .await?;
        let row = self.client.query_opt(&select, &[&id]).await?;
        let row = row.ok_or_else(|| corrupt("a stream", NoSuchRow))?;
        self.learn_stream(&row)?;
        stream_name(&row, 1)
    }

    /// Learns the numbers of these, and gives those that have none.
    async fn look_up(
        &mut self,
        names: impl IntoIterator<Item = StreamName>,
    ) -> Result<BTreeSet<StreamName>, Failure> {
        let is_unknown = |name: &StreamName| !self.streams.contains_key(name);
        let mut missing: BTreeSet<StreamName> = names.into_iter().filter(is_unknown).collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        let (tenants, types) = columns(&missing);
        let select = self
            .statement(
                "SELECT id, tenant, content_type FROM stream
                 JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, content_type) USING (tenant, content_type)",
            )
            .await?;
        for row in self.client.query(&select, &[&tenants, &types]).await? {
            missing.remove(&self.learn_stream(&row)?);
        }
        Ok(missing)
    }

    fn learn_stream(&mut self, row: &Row) -> Result<StreamName, Failure> {
        let (id, name) = (get(row, 0)?, stream_name(row, 1)?);
        self.streams.insert(name, id);
        self.streams_by_id.insert(id, name);
        Ok(name)
    }

    /// A sink's number, given out on first use. Not part of any transaction, as nobody may take the same meanwhile.
    pub(super) async fn sink(&mut self, name: &SinkName) -> Result<Sink, Failure> {
        for _ in 0..MAX_RACES {
            if let Some(sink) = self.known_sink(name).await? {
                return Ok(sink);
            }
            let id = i64::try_from(self.sinks.len()).unwrap_or(i64::MAX);
            if id >= i64::from(MAX_SINKS) {
                return Err(Error::TooManySinks { limit: MAX_SINKS }.into());
            }
            // Whoever is first has the number and the name; all others look again.
            let insert = self
                .statement("INSERT INTO sink (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .await?;
            self.client.execute(&insert, &[&id, &name.as_str()]).await?;
        }
        Err(corrupt("the list of sinks", NoSuchRow))
    }

    /// A sink's number, if it ever acknowledged anything.
    pub(super) async fn known_sink(&mut self, name: &SinkName) -> Result<Option<Sink>, Failure> {
        if let Some(sink) = self.remembered_sink(name) {
            return Ok(Some(sink));
        }
        self.learn_sinks().await?;
        Ok(self.remembered_sink(name))
    }

    fn remembered_sink(&self, name: &SinkName) -> Option<Sink> {
        let found = self.sinks.iter().find(|(known, _)| known == name);
        found.map(|(_, sink)| *sink)
    }

    /// The bits of all these sinks. Nothing when one of them never acknowledged anything: it has no number, and no blob.
    pub(super) async fn all_of(&mut self, sinks: &[SinkName]) -> Result<Option<i64>, Failure> {
        let mut bits = 0;
        for name in sinks {
            let Some(sink) = self.known_sink(name).await? else {
                return Ok(None);
            };
            bits |= sink.bit();
        }
        Ok(Some(bits))
    }

    /// Every sink, ordered by name; surely those that have a bit in `needed`.
    pub(super) async fn sinks_by_name(
        &mut self,
        needed: i64,
    ) -> Result<&[(SinkName, Sink)], Failure> {
        let known = self
            .sinks
            .iter()
            .fold(0, |bits, (_, sink)| bits | sink.bit());
        if needed & !known != 0 {
            self.learn_sinks().await?;
        }
        Ok(&self.sinks)
    }

    async fn learn_sinks(&mut self) -> Result<(), Failure> {
        let select = self.statement("SELECT id, name FROM sink").await?;
        let mut sinks = Vec::new();
        for row in self.client.query(&select, &[]).await? {
            let id: i64 = get(&row, 0)?;
            // A number that has no bit cannot be one that was given out here.
            if !(0..i64::from(MAX_SINKS)).contains(&id) {
                return Err(corrupt("the list of sinks", NoSuchRow));
            }
            sinks.push((sink_name(&row, 1)?, Sink { id }));
        }
        sinks.sort_by(|one, other| one.0.cmp(&other.0));
        self.sinks = sinks;
        Ok(())
    }
}

/// Statements that go to the server together, in the order in which they were added: one way there and back for all.
/// When one fails, the server does none of those behind it, and makes a rollback of their commit.
pub(super) struct Batch<'a> {
    steps: Vec<BoxFuture<'a, Result<Vec<Row>, SqlError>>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// One that begins a transaction.
    pub(super) fn begin(client: &'a Client) -> Self {
        let mut batch = Self::new();
        batch.command(client, "BEGIN");
        batch
    }

    /// One that begins a transaction in which every query sees the same moment.
    pub(super) fn reading(client: &'a Client) -> Self {
        let mut batch = Self::new();
        batch.command(client, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        batch
    }

    pub(super) fn add(
        &mut self,
        step: impl Future<Output = Result<Vec<Row>, SqlError>> + Send + 'a,
    ) {
        self.steps.push(step.boxed());
    }

    fn command(&mut self, client: &'a Client, sql: &'static str) {
        let step = async move { client.batch_execute(sql).await.map(|()| Vec::new()) };
        self.add(step);
    }

    /// Sends all of it. Gives the rows of each, in order.
    pub(super) async fn run(self) -> Result<Vec<Vec<Row>>, SqlError> {
        // Each sends when it is first polled, and they are polled in order: there are too few for the other way in which
        // this waits for many.
        try_join_all(self.steps).await
    }

    /// Sends all of it, and a commit.
    pub(super) async fn commit(mut self, client: &'a Client) -> Result<Vec<Vec<Row>>, SqlError> {
        self.command(client, "COMMIT");
        self.run().await
    }
}

fn columns(names: &BTreeSet<StreamName>) -> (Vec<String>, Vec<&'static str>) {
    names
        .iter()
        .map(|(tenant, content_type)| (tenant.to_string(), content_type.as_str()))
        .unzip()
}

/// The tenant and content type that a row names in two columns, the first being `column`.
pub(super) fn stream_name(row: &Row, column: usize) -> Result<StreamName, Failure> {
    let tenant = get::<&str>(row, column)?
        .parse()
        .map_err(|error| corrupt("a tenant's id", error))?;
    let content_type = get::<&str>(row, column + 1)?
        .parse()
        .map_err(|error| corrupt("a content type", error))?;
    Ok((tenant, content_type))
}

/// The sink that a row names.
pub(super) fn sink_name(row: &Row, column: usize) -> Result<SinkName, Failure> {
    get::<&str>(row, column)?
        .parse()
        .map_err(|error| corrupt("a sink's name", error))
}
