//! Leases given out, extended and given back.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::store::stored;
use crate::{AcknowledgedPart, Error, Lease, LeaseKey, LeaseRequest, PartKey, SinkName};

use super::failure::{
    Failure, content_id, count, get, instant, optional_text, to_count, to_instant,
};
use super::session::{Batch, Session, Sink};

/// Blobs past those that are wanted which are looked at, in case others are taking the first ones at this moment.
const SPARE: usize = 64;

/// Moves what has become due to where leases look, save what somebody is changing. Every blob makes this move once per
/// lease or wait, so that a lease reads nothing of those that are not due.
///
/// The token stays: the holder of a lease that ran out keeps it until someone else takes the blob.
const WAKE: &str = "
    UPDATE blob SET state = 0 WHERE id = ANY (ARRAY (
        SELECT id FROM blob WHERE state IN (1, 2) AND due_at <= $1
        ORDER BY due_at LIMIT 10000 FOR UPDATE SKIP LOCKED))";

/// The next blobs to lease, by expiry, then creation, then the order in which they were noted. Those that another lease
/// is taking are passed over and not waited for.
///
/// The obvious query, all due blobs by expiry less the excluded ones, would read past every blob of a throttled tenant
/// and every blob that only an unreachable sink lacks, at each lease, and those can be a hundred thousand. So the index
/// is ordered by (stream, sinks that have it wholly) first: `head` steps from group to group and reads the first of
/// each, and only those groups are read on of which a blob can be among the next.
const PICK: &str = "
    WITH RECURSIVE head AS (
        (SELECT stream, whole_sinks, expires_at, created_at, id FROM blob WHERE state = 0
         ORDER BY stream, whole_sinks, expires_at, created_at, id LIMIT 1)
        UNION ALL
        SELECT following.* FROM head CROSS JOIN LATERAL (
            SELECT stream, whole_sinks, expires_at, created_at, id FROM blob
            WHERE state = 0 AND (stream, whole_sinks) > (head.stream, head.whole_sinks)
            ORDER BY stream, whole_sinks, expires_at, created_at, id LIMIT 1) AS following
    ), due AS (
        SELECT stream, whole_sinks FROM head
        WHERE ($2::bigint IS NULL OR whole_sinks & $2 <> $2)
          AND (SELECT tenant FROM stream WHERE stream.id = head.stream) <> ALL ($3::text[])
        ORDER BY expires_at, created_at, id LIMIT $4
    ), candidate AS (
        SELECT next.id FROM due CROSS JOIN LATERAL (
            SELECT id, expires_at, created_at FROM blob
            WHERE state = 0 AND stream = due.stream AND whole_sinks = due.whole_sinks
            ORDER BY expires_at, created_at, id LIMIT $4) AS next
        ORDER BY next.expires_at, next.created_at, next.id LIMIT $4
    ), taken AS MATERIALIZED (
        SELECT id FROM blob WHERE id = ANY (ARRAY (SELECT id FROM candidate)) AND state = 0
        ORDER BY expires_at, created_at, id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    UPDATE blob SET state = 1, due_at = $1, token = token + 1, attempts = attempts + 1
    FROM taken WHERE blob.id = taken.id
    RETURNING blob.id, stream, content_id, uri, created_at, expires_at, attempts, token, whole_sinks, item";

/// Whether any sink has a part of any blob, and not the whole: only while a blob of several is under way.
const HAS_PARTS: &str = "SELECT EXISTS (SELECT FROM part)";

/// Those named blobs that may be leased. One look for each name, whatever else is due.
const PICK_NAMED: &str = "
    WITH candidate AS (
        SELECT blob.id FROM unnest($2::bigint[], $3::bytea[]) AS named (stream, content_id)
        JOIN blob ON blob.stream = named.stream AND sha256(blob.content_id) = sha256(named.content_id)
        WHERE state = 0 AND ($4::bigint IS NULL OR whole_sinks & $4 <> $4)
    ), taken AS MATERIALIZED (
        SELECT id FROM blob WHERE id = ANY (ARRAY (SELECT id FROM candidate)) AND state = 0
        ORDER BY expires_at, created_at, id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    UPDATE blob SET state = 1, due_at = $1, token = token + 1, attempts = attempts + 1
    FROM taken WHERE blob.id = taken.id
    RETURNING blob.id, stream, content_id, uri, created_at, expires_at, attempts, token, whole_sinks, item";

pub(super) async fn lease(
    session: &mut Session,
    request: &LeaseRequest,
    now: Timestamp,
) -> Result<Vec<Lease>, Failure> {
    if request.max_count == 0 {
        return Ok(Vec::new());
    }
    let until = SignedDuration::try_from(request.duration)
        .ok()
        .and_then(|duration| now.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX);
    let served = match request.for_sinks.is_empty() {
        true => None,
        false => session.all_of(&request.for_sinks).await?,
    };
    let (rows, has_parts) = match request.only.is_empty() {
        true => pick_due(session, request, served, now, until).await?,
        false => pick_named(session, request, served, now, until).await?,
    };
    let mut leases = Vec::with_capacity(rows.len());
    for row in &rows {
        let place: (i64, i64, i64) = (get(row, 5)?, get(row, 4)?, get(row, 0)?);
        let mut lease = leased(session, row, until).await?;
        let whole_sinks: i64 = get(row, 8)?;
        lease.acknowledged = whole(whole_sinks, session.sinks_by_name(whole_sinks).await?);
        leases.push((place, lease));
    }
    leases.sort_by_key(|(place, _)| *place);
    if has_parts {
        add_parts(session, &mut leases).await?;
    }
    Ok(leases.into_iter().map(|(_, lease)| lease).collect())
}

async fn pick_due(
    session: &mut Session,
    request: &LeaseRequest,
    served: Option<i64>,
    now: Timestamp,
    until: Timestamp,
) -> Result<(Vec<Row>, bool), Failure> {
    let except: Vec<String> = request
        .except_tenants
        .iter()
        .map(ToString::to_string)
        .collect();
    let spare = request.max_count.min(SPARE);
    let looked_at = limit(request.max_count.saturating_add(spare));
    let wanted = limit(request.max_count);
    let terms: Terms<'_> = [&stored(until), &served, &except, &looked_at, &wanted];
    take(session, PICK, now, terms).await
}

async fn pick_named(
    session: &mut Session,
    request: &LeaseRequest,
    served: Option<i64>,
    now: Timestamp,
    until: Timestamp,
) -> Result<(Vec<Row>, bool), Failure> {
    let is_wanted = |tenant| !request.except_tenants.contains(tenant);
    let names = request.only.iter().filter(|name| is_wanted(&name.tenant));
    let names: Vec<_> = names.collect();
    let known = session
        .known_streams(names.iter().map(|name| (name.tenant, name.content_type)))
        .await?;
    let (mut streams, mut ids) = (Vec::new(), Vec::new());
    for name in names {
        if let Some(stream) = known.get(&(name.tenant, name.content_type)) {
            streams.push(*stream);
            ids.push(name.content_id.as_str().as_bytes());
        }
    }
    let wanted = limit(request.max_count);
    let terms: Terms<'_> = [&stored(until), &streams, &ids, &served, &wanted];
    take(session, PICK_NAMED, now, terms).await
}

/// What [`PICK`] and [`PICK_NAMED`] are given.
type Terms<'a> = [&'a (dyn ToSql + Sync); 5];

/// Wakes what is due, leases what the query picks, and says whether any blob has parts: one way there and back.
///
/// # If interrupted
/// Blobs that nobody was told of are leased until their leases run out.
async fn take(
    session: &mut Session,
    pick: &'static str,
    now: Timestamp,
    terms: Terms<'_>,
) -> Result<(Vec<Row>, bool), Failure> {
    let (wake, pick) = (
        session.statement(WAKE).await?,
        session.statement(pick).await?,
    );
    let has_parts = session.statement(HAS_PARTS).await?;
    let now = stored(now);
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&wake, &[&now]).await });
    batch.add(async { client.query(&pick, &terms).await });
    batch.add(async { client.query(&has_parts, &[]).await });
    picked(batch.commit(client).await?)
}

/// The rows of the third statement, and the answer of the fourth.
fn picked(mut answers: Vec<Vec<Row>>) -> Result<(Vec<Row>, bool), Failure> {
    let has_parts = match answers.get(3).and_then(|rows| rows.first()) {
        Some(row) => get(row, 0)?,
        None => false,
    };
    Ok((answers.swap_remove(2), has_parts))
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The lease of a row that has just been leased, but for what sinks have of it.
async fn leased(session: &mut Session, row: &Row, until: Timestamp) -> Result<Lease, Failure> {
    let (tenant, content_type) = session.stream_name(get(row, 1)?).await?;
    let attempts: i32 = get(row, 6)?;
    Ok(Lease {
        key: LeaseKey {
            tenant,
            blob: count(row, 0)?.into(),
            token: count(row, 7)?,
        },
        tenant,
        content_type,
        content_id: content_id(row, 2)?,
        uri: optional_text(row, 3)?.unwrap_or_default(),
        created_at: instant(row, 4)?,
        expires_at: instant(row, 5)?,
        attempts: attempts.unsigned_abs(),
        leased_until: to_instant(stored(until))?,
        acknowledged: Vec::new(),
        item: get::<Option<i64>>(row, 9)?.map(to_count).transpose()?,
    })
}

/// The sinks that have a blob wholly, ordered by name.
fn whole(whole_sinks: i64, sinks: &[(SinkName, Sink)]) -> Vec<(SinkName, AcknowledgedPart)> {
    let have_it = |sink: &Sink| whole_sinks & sink.bit() != 0;
    let whole = sinks.iter().filter(|(_, sink)| have_it(sink));
    whole
        .map(|(name, _)| (name.clone(), AcknowledgedPart::Whole))
        .collect()
}

/// And those that have parts of it. Read when the leases are ours: there may be more parts by then, and no fewer.
async fn add_parts(
    session: &mut Session,
    leases: &mut [((i64, i64, i64), Lease)],
) -> Result<(), Failure> {
    let blobs: Vec<i64> = leases.iter().map(|((_, _, id), _)| *id).collect();
    let select = session
        .statement(
            "SELECT blob, name, first_record, record_count, fingerprint FROM part JOIN sink ON sink.id = part.sink
             WHERE blob = ANY ($1)",
        )
        .await?;
    for row in session.client.query(&select, &[&blobs]).await? {
        let blob: i64 = get(&row, 0)?;
        let part = PartKey {
            first_record: count(&row, 2)?,
            record_count: count(&row, 3)?,
            fingerprint: get::<i64>(&row, 4)?.cast_unsigned(),
        };
        let sink = super::session::sink_name(&row, 1)?;
        let lease = leases.iter_mut().find(|((_, _, id), _)| *id == blob);
        if let Some((_, lease)) = lease {
            // Between the lease and this it may have become whole.
            if !lease.is_acknowledged_wholly_by(&sink) {
                lease
                    .acknowledged
                    .push((sink, AcknowledgedPart::Part(part)));
            }
        }
    }
    for (_, lease) in leases {
        lease.acknowledged.sort();
    }
    Ok(())
}

pub(super) async fn renew(
    session: &mut Session,
    keys: &[LeaseKey],
    until: Timestamp,
) -> Result<Vec<LeaseKey>, Failure> {
    let update = session
        .statement(
            "WITH held AS MATERIALIZED (
                 SELECT blob.id FROM unnest($1::bigint[], $2::bigint[]) AS key (id, token)
                 JOIN blob ON blob.id = key.id AND blob.token = key.token
                 WHERE state < 3 ORDER BY blob.id FOR UPDATE OF blob
             )
             UPDATE blob SET state = 1, due_at = $3 FROM held WHERE blob.id = held.id
             RETURNING blob.id, token",
        )
        .await?;
    let (ids, tokens) = columns(keys);
    let rows = session
        .client
        .query(&update, &[&ids, &tokens, &stored(until)])
        .await?;
    let mut held = std::collections::HashSet::with_capacity(rows.len());
    for row in &rows {
        held.insert((get::<i64>(row, 0)?, get::<i64>(row, 1)?));
    }
    let is_lost = |key: &&LeaseKey| !held.contains(&(row_of(**key), token_of(**key)));
    Ok(keys.iter().filter(is_lost).copied().collect())
}

pub(super) async fn retry_later(
    session: &mut Session,
    lease: &Lease,
    not_before: Timestamp,
    reason: &str,
) -> Result<(), Failure> {
    let update = session
        .statement(
            "UPDATE blob SET state = 2, due_at = $3, token = token + 1, reason = $4
             WHERE id = $1 AND token = $2 AND state < 3",
        )
        .await?;
    let (id, token) = (row_of(lease.key), token_of(lease.key));
    let changed = session
        .client
        .execute(
            &update,
            &[&id, &token, &stored(not_before), &reason.as_bytes()],
        )
        .await?;
    match changed {
        0 => Err(Error::LeaseLost.into()),
        _ => Ok(()),
    }
}

pub(super) async fn release(session: &mut Session, leases: &[Lease]) -> Result<(), Failure> {
    let update = session
        .statement(
            "WITH held AS MATERIALIZED (
                 SELECT blob.id FROM unnest($1::bigint[], $2::bigint[]) AS key (id, token)
                 JOIN blob ON blob.id = key.id AND blob.token = key.token
                 WHERE state < 3 ORDER BY blob.id FOR UPDATE OF blob
             )
             UPDATE blob SET state = 0, token = token + 1, attempts = attempts - 1 FROM held WHERE blob.id = held.id",
        )
        .await?;
    let keys: Vec<LeaseKey> = leases.iter().map(Lease::key).collect();
    let (ids, tokens) = columns(&keys);
    session.client.execute(&update, &[&ids, &tokens]).await?;
    Ok(())
}

fn columns(keys: &[LeaseKey]) -> (Vec<i64>, Vec<i64>) {
    keys.iter()
        .map(|key| (row_of(*key), token_of(*key)))
        .unzip()
}

/// The row that a key speaks of.
pub(super) fn row_of(key: LeaseKey) -> i64 {
    // A key of another backend has a number that no row here has.
    i64::try_from(key.blob).unwrap_or(-1)
}

/// The token that the row must still have.
pub(super) fn token_of(key: LeaseKey) -> i64 {
    key.token.cast_signed()
}
