//! Leases given out, extended and given back. Which blobs are due is decided in [`pick`](super::pick).

use std::collections::HashMap;

use activity_api::{ContentId, ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Row, params};

use crate::{AcknowledgedPart, Error, Lease, LeaseKey, LeaseRequest, PartKey, SinkName};

use super::address::unfold;
use super::books::{Books, Sink};
use super::failure::{Failure, count, instant, stored};
use super::pick::pick_due;

pub(super) fn lease(
    books: &mut Books,
    request: &LeaseRequest,
    now: Timestamp,
) -> Result<Vec<Lease>, Failure> {
    let until = SignedDuration::try_from(request.duration)
        .ok()
        .and_then(|duration| now.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX);
    let names = books.streams_by_id()?;
    let sinks = books.sinks_by_name()?;
    let picked = pick_due(books, request, now)?;
    let has_parts = books.has_parts()?;
    let mut update = books.statement(
        "UPDATE blob SET state = 1, due_at = ?2, token = token + 1, attempts = attempts + 1 WHERE id = ?1",
    )?;
    // Read by a query of its own and not by RETURNING: inside a savepoint that makes SQLite keep a journal per statement,
    // whose cost grows with the square of the number of blobs.
    let mut select = books.statement(
        "SELECT stream, content_id, uri, created_at, expires_at, attempts, token, whole_sinks, item
         FROM blob WHERE id = ?1",
    )?;
    let mut leases = Vec::with_capacity(picked.len());
    for blob in picked {
        update.execute(params![blob, stored(until)])?;
        let mut rows = select.query([blob])?;
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let mut lease = leased(row, blob, until, &names)?;
        lease.acknowledged = whole(row.get(7)?, &sinks);
        if has_parts {
            add_parts(books, blob, &sinks, &mut lease.acknowledged)?;
        }
        leases.push(lease);
    }
    Ok(leases)
}

/// The lease of a row that has just been leased, but for what sinks have of it.
fn leased(
    row: &Row<'_>,
    blob: i64,
    until: Timestamp,
    names: &HashMap<i64, (TenantId, ContentType)>,
) -> Result<Lease, Failure> {
    let &(tenant, content_type) = names
        .get(&row.get(0)?)
        .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let content_id = ContentId::canonical(row.get_ref(1)?.as_str()?);
    let uri = unfold(row.get_ref(2)?.as_str()?, tenant, &content_id);
    Ok(Lease {
        key: LeaseKey {
            tenant,
            blob: count(blob)?.into(),
            token: count(row.get(6)?)?,
        },
        tenant,
        content_type,
        content_id,
        uri,
        created_at: instant(row.get(3)?)?,
        expires_at: instant(row.get(4)?)?,
        attempts: row.get(5)?,
        leased_until: instant(stored(until))?,
        acknowledged: Vec::new(),
        item: row.get::<_, Option<i64>>(8)?.map(count).transpose()?,
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

/// And those that have parts of it.
fn add_parts(
    books: &Books,
    blob: i64,
    sinks: &[(SinkName, Sink)],
    acknowledged: &mut Vec<(SinkName, AcknowledgedPart)>,
) -> Result<(), Failure> {
    let mut statement = books.statement(
        "SELECT sink, first_record, record_count, fingerprint FROM part WHERE blob = ?1",
    )?;
    let mut rows = statement.query([blob])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if let Some((name, _)) = sinks.iter().find(|(_, sink)| sink.id == id) {
            let part = PartKey {
                first_record: count(row.get(1)?)?,
                record_count: count(row.get(2)?)?,
                fingerprint: row.get::<_, i64>(3)?.cast_unsigned(),
            };
            acknowledged.push((name.clone(), AcknowledgedPart::Part(part)));
        }
    }
    acknowledged.sort();
    Ok(())
}

pub(super) fn renew(
    books: &mut Books,
    keys: &[LeaseKey],
    until: Timestamp,
) -> Result<Vec<LeaseKey>, Failure> {
    let mut statement = books.statement(
        "UPDATE blob SET state = 1, due_at = ?3 WHERE id = ?1 AND token = ?2 AND state < 3",
    )?;
    let mut lost = Vec::new();
    for key in keys {
        if statement.execute(params![row_of(*key), token_of(*key), stored(until)])? == 0 {
            lost.push(*key);
        }
    }
    Ok(lost)
}

pub(super) fn retry_later(
    books: &mut Books,
    lease: &Lease,
    not_before: Timestamp,
    reason: &str,
) -> Result<(), Failure> {
    let changed = books
        .statement(
            "UPDATE blob SET state = 2, due_at = ?3, token = token + 1, reason = ?4
             WHERE id = ?1 AND token = ?2 AND state < 3",
        )?
        .execute(params![
            row_of(lease.key),
            token_of(lease.key),
            stored(not_before),
            reason
        ])?;
    if changed == 0 {
        Err(Error::LeaseLost.into())
    } else {
        Ok(())
    }
}

pub(super) fn release(books: &mut Books, leases: &[Lease]) -> Result<(), Failure> {
    let mut statement = books.statement(
        "UPDATE blob SET state = 0, token = token + 1, attempts = attempts - 1
         WHERE id = ?1 AND token = ?2 AND state < 3",
    )?;
    for lease in leases {
        statement.execute(params![row_of(lease.key), token_of(lease.key)])?;
    }
    Ok(())
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
