//! How a blob ends: what sinks have of it, and then delivered, quarantined or expired.
//!
//! Locks are always taken in one order: blobs by their number, then what is in quarantine, then the totals. So two
//! operations wait for each other and never in a ring.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::store::stored;
use crate::{
    AcknowledgedPart, Acknowledgement, Completion, Delivery, Error, Lease, LeaseKey, PartKey,
    SinkCommit, SinkName,
};

use super::failure::{Failure, get, stored_count};
use super::leasing::{row_of, token_of};
use super::quarantined::{self, Aside, WHOLE_BLOB};
use super::retried;
use super::session::{Batch, Session, Sink};
use super::totals::{self, Changes};

/// What is to be known of a blob to settle it, with its row locked.
pub(super) struct Held {
    pub(super) state: i16,
    pub(super) token: i64,
    pub(super) whole_sinks: i64,
    pub(super) has_item: bool,
    pub(super) is_part: bool,
    has_parts: bool,
}

impl Held {
    fn fits(&self, token: i64) -> bool {
        self.state < 3 && self.token == token
    }
}

/// Begins a transaction and locks these blobs. Gives those that exist.
pub(super) async fn hold(
    session: &mut Session,
    ids: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, Held>, Failure> {
    let select = session
        .statement(
            "SELECT id, state, token, whole_sinks, item IS NOT NULL, is_part FROM blob
             WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
        )
        .await?;
    // Of its own, when the rows are locked: it sees what those had committed who were waited for.
    let parts = session
        .statement("SELECT DISTINCT blob FROM part WHERE blob = ANY ($1)")
        .await?;
    let ids: Vec<i64> = ids
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&select, &[&ids]).await });
    batch.add(async { client.query(&parts, &[&ids]).await });
    let mut answers = batch.run().await?;
    let (with_parts, rows) = (answers.swap_remove(2), answers.swap_remove(1));
    let mut held = HashMap::with_capacity(rows.len());
    for row in &rows {
        let blob = Held {
            state: get(row, 1)?,
            token: get(row, 2)?,
            whole_sinks: get(row, 3)?,
            has_item: get(row, 4)?,
            is_part: get(row, 5)?,
            has_parts: false,
        };
        held.insert(get(row, 0)?, blob);
    }
    for row in &with_parts {
        if let Some(blob) = held.get_mut(&get(row, 0)?) {
            blob.has_parts = true;
        }
    }
    Ok(held)
}

/// The rows of blobs that are delivered, column by column.
#[derive(Default)]
struct Delivered {
    ids: Vec<i64>,
    record_counts: Vec<i64>,
    byte_counts: Vec<i64>,
    quarantined_counts: Vec<i64>,
}

impl Delivered {
    fn push(&mut self, id: i64, record_count: u64, byte_count: u64, quarantined_count: u64) {
        self.ids.push(id);
        self.record_counts.push(stored_count(record_count));
        self.byte_counts.push(stored_count(byte_count));
        self.quarantined_counts
            .push(stored_count(quarantined_count));
    }
}

const DELIVER: &str = "
    UPDATE blob SET state = 3, uri = NULL, reason = NULL, item = NULL, settled_at = $5, whole_sinks = whole_sinks | $6,
        record_count = done.record_count, byte_count = done.byte_count, quarantined_count = done.quarantined_count
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
        AS done (id, record_count, byte_count, quarantined_count)
    WHERE blob.id = done.id";

const FORGET_PARTS: &str = "DELETE FROM part WHERE blob = ANY ($1)";

/// What an acknowledgement changes, worked out with the rows locked.
#[derive(Default)]
struct Yes {
    whole: BTreeSet<i64>,
    parts: BTreeMap<i64, Vec<PartKey>>,
    /// Blobs of whose parts by this sink nothing is kept.
    without_parts: Vec<i64>,
    delivered: Delivered,
    /// Blobs of whose parts by any sink nothing is kept.
    ended: Vec<i64>,
    keys: Vec<LeaseKey>,
    changes: Changes,
}

pub(super) async fn acknowledge_and_deliver(
    session: &mut Session,
    commit: &SinkCommit,
    completions: &[Completion],
    required: &[SinkName],
    now: Timestamp,
) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Failure> {
    if commit.remembered.is_some() {
        return Err(Error::NoRecordMemory.into());
    }
    // A sink is given its number before the transaction begins, and is not to be given one by a commit that is refused.
    if session.known_sink(&commit.sink).await?.is_none() {
        need_blobs(session, commit).await?;
    }
    let sink = session.sink(&commit.sink).await?;
    let mut asides = Vec::with_capacity(commit.quarantined.len());
    for record in &commit.quarantined {
        asides.push(Aside::of(session, record).await?);
    }
    // No blob is delivered that nobody was asked to take, or that a sink lacks which never acknowledged anything.
    let required = match required.is_empty() {
        true => None,
        false => session.all_of(required).await?,
    };
    session
        .ensure_streams(
            completions
                .iter()
                .map(|claim| (claim.key.tenant, claim.content_type)),
        )
        .await?;
    let deliver = session.statement(DELIVER).await?;
    let forget_parts = session.statement(FORGET_PARTS).await?;
    let acknowledge_whole = session
        .statement("UPDATE blob SET whole_sinks = whole_sinks | $2 WHERE id = ANY ($1)")
        .await?;
    let take_parts = session
        .statement("DELETE FROM part WHERE blob = ANY ($1) AND sink = $2")
        .await?;
    let add_parts = session
        .statement(
            "INSERT INTO part (blob, sink, first_record, record_count, fingerprint)
             SELECT blob, $2, first_record, record_count, fingerprint
             FROM unnest($1::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                 AS new (blob, first_record, record_count, fingerprint)
             ON CONFLICT DO NOTHING",
        )
        .await?;
    let keep_position = session
        .statement("UPDATE sink SET position = $2 WHERE id = $1")
        .await?;
    let add_totals = totals::statement(session).await?;

    let blobs = commit.acknowledged.iter().map(|(key, _)| row_of(*key));
    let held = hold(session, blobs).await?;
    let completions = required.map(|bits| (completions, bits));
    let mut yes = plan(session, commit, sink, held, completions).await?;
    // Together with what follows, but for how many there turn out to be.
    quarantined::set_aside_all(session, &asides, now, &mut yes.changes).await?;

    let whole: Vec<i64> = yes.whole.iter().copied().collect();
    let parts = PartColumns::of(&yes.parts);
    let client = &session.client;
    let mut batch = Batch::new();
    if let Some(position) = &commit.position {
        let position = position.as_bytes();
        batch.add(async move { client.query(&keep_position, &[&sink.id, &position]).await });
    }
    if !whole.is_empty() {
        let whole = &whole;
        batch.add(async move {
            client
                .query(&acknowledge_whole, &[whole, &sink.bit()])
                .await
        });
    }
    if !yes.without_parts.is_empty() {
        let blobs = &yes.without_parts;
        batch.add(async move { client.query(&take_parts, &[blobs, &sink.id]).await });
    }
    if !parts.blobs.is_empty() {
        let parts = &parts;
        batch.add(async move {
            client
                .query(
                    &add_parts,
                    &[
                        &parts.blobs,
                        &sink.id,
                        &parts.first_records,
                        &parts.record_counts,
                        &parts.fingerprints,
                    ],
                )
                .await
        });
    }
    if !yes.delivered.ids.is_empty() {
        let done = &yes.delivered;
        batch.add(async move {
            client
                .query(
                    &deliver,
                    &[
                        &done.ids,
                        &done.record_counts,
                        &done.byte_counts,
                        &done.quarantined_counts,
                        &stored(now),
                        &sink.bit(),
                    ],
                )
                .await
        });
    }
    if !yes.ended.is_empty() {
        let ended = &yes.ended;
        batch.add(async move { client.query(&forget_parts, &[ended]).await });
    }
    if !yes.changes.is_empty() {
        batch.add(yes.changes.add(client, &add_totals));
    }
    batch.commit(client).await?;

    let is_whole = |part: &AcknowledgedPart| *part == AcknowledgedPart::Whole;
    let acknowledged = commit
        .acknowledged
        .iter()
        .filter(|(_, part)| is_whole(part));
    let acknowledgements = acknowledged
        .map(|(key, _)| Acknowledgement {
            key: *key,
            sink: commit.sink.clone(),
        })
        .collect();
    Ok((acknowledgements, yes.keys))
}

/// Refuses a commit that speaks of a blob which is not there.
async fn need_blobs(session: &mut Session, commit: &SinkCommit) -> Result<(), Failure> {
    let select = session
        .statement(
            "SELECT FROM unnest($1::bigint[]) AS named (id)
             WHERE NOT EXISTS (SELECT FROM blob WHERE blob.id = named.id) LIMIT 1",
        )
        .await?;
    let blobs = commit.acknowledged.iter().map(|(key, _)| row_of(*key));
    let blobs: Vec<i64> = blobs.collect();
    match session.client.query_opt(&select, &[&blobs]).await? {
        Some(_) => Err(Error::UnknownBlob.into()),
        None => Ok(()),
    }
}

/// Works out what becomes of each blob, one acknowledgement after the other. Of a settled one nothing is kept, as nobody
/// will ask for it again.
async fn plan(
    session: &mut Session,
    commit: &SinkCommit,
    sink: Sink,
    mut held: HashMap<i64, Held>,
    completions: Option<(&[Completion], i64)>,
) -> Result<Yes, Failure> {
    let (completions, required) = completions.unwrap_or_default();
    let mut claims = completions.iter().peekable();
    let mut yes = Yes::default();
    for &(key, part) in &commit.acknowledged {
        let id = row_of(key);
        let blob = held.get_mut(&id).ok_or(Error::UnknownBlob)?;
        match part {
            AcknowledgedPart::Part(part) => {
                if blob.state < 3 && blob.whole_sinks & sink.bit() == 0 {
                    yes.parts.entry(id).or_default().push(part);
                }
            }
            AcknowledgedPart::Whole => {
                let has_all = (blob.whole_sinks | sink.bit()) & required == required;
                let claim = claims.next_if(|claim| claim.key == key);
                if blob.state < 3 {
                    yes.parts.remove(&id);
                }
                if let Some(claim) = claim
                    && blob.fits(token_of(key))
                    && !blob.has_item
                    && has_all
                {
                    blob.state = 3;
                    // Its row says so in one go.
                    yes.whole.remove(&id);
                    let (records, bytes) = (claim.record_count, claim.byte_count);
                    yes.delivered
                        .push(id, records, bytes, claim.quarantined_count);
                    if blob.has_parts {
                        yes.ended.push(id);
                    }
                    yes.keys.push(key);
                    let stream = session.stream((key.tenant, claim.content_type)).await?;
                    yes.changes.of(stream).deliver(records, bytes);
                } else if blob.state < 3 {
                    blob.whole_sinks |= sink.bit();
                    yes.whole.insert(id);
                    if blob.has_parts {
                        yes.without_parts.push(id);
                    }
                }
            }
        }
    }
    Ok(yes)
}

/// The rows of parts, column by column.
#[derive(Default)]
struct PartColumns {
    blobs: Vec<i64>,
    first_records: Vec<i64>,
    record_counts: Vec<i64>,
    fingerprints: Vec<i64>,
}

impl PartColumns {
    fn of(parts: &BTreeMap<i64, Vec<PartKey>>) -> Self {
        let mut columns = Self::default();
        for (blob, parts) in parts {
            for part in parts {
                columns.blobs.push(*blob);
                columns.first_records.push(stored_count(part.first_record));
                columns.record_counts.push(stored_count(part.record_count));
                columns.fingerprints.push(part.fingerprint.cast_signed());
            }
        }
        columns
    }
}

pub(super) async fn mark_delivered(
    session: &mut Session,
    deliveries: &[Delivery],
    required: &[SinkName],
    now: Timestamp,
) -> Result<Vec<Result<(), Error>>, Failure> {
    let streams = deliveries
        .iter()
        .map(|delivery| (delivery.lease.tenant, delivery.lease.content_type));
    session.ensure_streams(streams).await?;
    let deliver = session.statement(DELIVER).await?;
    let forget_parts = session.statement(FORGET_PARTS).await?;
    let add_totals = totals::statement(session).await?;
    let blobs = deliveries.iter().map(|delivery| row_of(delivery.lease.key));
    let mut held = hold(session, blobs).await?;

    let mut answers = Vec::with_capacity(deliveries.len());
    let mut changes = Changes::default();
    let mut delivered = Delivered::default();
    let mut ended = Vec::new();
    for delivery in deliveries {
        if let Some(sink) = delivery.missing_sink(required) {
            answers.push(Err(Error::MissingAcknowledgement { sink: sink.clone() }));
            continue;
        }
        let lease = &delivery.lease;
        let id = row_of(lease.key);
        let found = held.get_mut(&id);
        let Some(blob) = found.filter(|blob| blob.fits(token_of(lease.key))) else {
            answers.push(Err(Error::LeaseLost));
            continue;
        };
        blob.state = 3;
        if blob.has_parts {
            ended.push(id);
        }
        let (records, bytes) = (delivery.record_count, delivery.byte_count);
        delivered.push(id, records, bytes, delivery.quarantined_count);
        let stream = session.stream((lease.tenant, lease.content_type)).await?;
        if let Some(item) = lease.item {
            retried::take_out(session, stream, item, false, &mut changes).await?;
        }
        // What was made of a record is counted with the blob that the record came in.
        if lease.item.is_none() || !blob.is_part {
            changes.of(stream).deliver(records, bytes);
        }
        answers.push(Ok(()));
    }
    let client = &session.client;
    let mut batch = Batch::new();
    if !delivered.ids.is_empty() {
        let done = &delivered;
        batch.add(async move {
            client
                .query(
                    &deliver,
                    &[
                        &done.ids,
                        &done.record_counts,
                        &done.byte_counts,
                        &done.quarantined_counts,
                        &stored(now),
                        &0_i64,
                    ],
                )
                .await
        });
    }
    if !ended.is_empty() {
        let ended = &ended;
        batch.add(async move { client.query(&forget_parts, &[ended]).await });
    }
    if !changes.is_empty() {
        batch.add(changes.add(client, &add_totals));
    }
    batch.commit(client).await?;
    Ok(answers)
}

pub(super) async fn quarantine(
    session: &mut Session,
    lease: &Lease,
    reason: &str,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    let stream = session.stream((lease.tenant, lease.content_type)).await?;
    let settle = session
        .statement(
            "UPDATE blob SET state = 4, reason = $2, settled_at = $3, item = NULL WHERE id = $1",
        )
        .await?;
    hold_lease(session, lease).await?;
    let mut changes = Changes::default();
    let kept = match lease.item {
        Some(item) => {
            retried::take_out(session, stream, item, bytes.is_empty(), &mut changes).await?
        }
        None => Vec::new(),
    };
    let id = row_of(lease.key);
    session
        .client
        .execute(&settle, &[&id, &reason.as_bytes(), &stored(now)])
        .await?;
    let aside = Aside {
        stream,
        content_id: &lease.content_id,
        record_index: WHOLE_BLOB,
        sink: None,
        reason,
        bytes: if bytes.is_empty() { &kept } else { bytes },
    };
    quarantined::set_aside_all(session, &[aside], now, &mut changes).await?;
    changes.of(stream).quarantined_count += 1;
    end(session, id, &changes).await
}

pub(super) async fn expire(
    session: &mut Session,
    lease: &Lease,
    reason: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let stream = session.stream((lease.tenant, lease.content_type)).await?;
    let settle = session
        .statement(
            "UPDATE blob SET state = 5, uri = NULL, reason = $2, settled_at = $3, item = NULL WHERE id = $1",
        )
        .await?;
    let blob = hold_lease(session, lease).await?;
    let id = row_of(lease.key);
    let mut changes = Changes::default();
    if let Some(item) = lease.item
        && retried::put_back(session, (id, blob.is_part), item, reason, now).await?
    {
        changes.of(stream).quarantined_count += i64::from(!blob.is_part);
        return end(session, id, &changes).await;
    }
    session
        .client
        .execute(&settle, &[&id, &reason.as_bytes(), &stored(now)])
        .await?;
    if let Some(item) = lease.item {
        retried::take_out(session, stream, item, false, &mut changes).await?;
    }
    changes.of(stream).expired_count += 1;
    end(session, id, &changes).await
}

/// Begins a transaction with the blob locked, if the lease is still good.
async fn hold_lease(session: &mut Session, lease: &Lease) -> Result<Held, Failure> {
    let id = row_of(lease.key);
    let held = hold(session, [id]).await?.remove(&id);
    let held = held.filter(|blob| blob.fits(token_of(lease.key)));
    held.ok_or(Failure::Ledger(Error::LeaseLost))
}

/// What every settled blob ends with.
async fn end(session: &mut Session, blob: i64, changes: &Changes) -> Result<(), Failure> {
    let forget_parts = session.statement(FORGET_PARTS).await?;
    let add_totals = totals::statement(session).await?;
    let client = &session.client;
    let blobs = [blob];
    let mut batch = Batch::new();
    batch.add(async { client.query(&forget_parts, &[&blobs.as_slice()]).await });
    if !changes.is_empty() {
        batch.add(changes.add(client, &add_totals));
    }
    batch.commit(client).await?;
    Ok(())
}
