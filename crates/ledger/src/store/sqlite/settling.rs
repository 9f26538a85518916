//! How a blob ends: what sinks have of it, and then delivered, quarantined or expired.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;

use crate::{
    AcknowledgedPart, Acknowledgement, Delivery, Error, Lease, LeaseKey, SinkCommit, SinkName,
};

use super::books::{Books, Sink};
use super::failure::{Failure, stored, stored_count};
use super::leasing::{row_of, token_of};
use super::quarantined::{self, WHOLE_BLOB};
use super::records;
use super::retried;

pub(super) fn acknowledge(
    books: &mut Books,
    commit: &SinkCommit,
    now: Timestamp,
) -> Result<Vec<Acknowledgement>, Failure> {
    let sink = books.sink(&commit.sink)?;
    let mut acknowledgements = Vec::new();
    acknowledge_parts(books, sink, &commit.acknowledged)?;
    for &(key, part) in &commit.acknowledged {
        if part == AcknowledgedPart::Whole {
            acknowledgements.push(Acknowledgement {
                key,
                sink: commit.sink.clone(),
            });
        }
    }
    quarantined::set_aside(books, &commit.quarantined, now)?;
    if let Some(position) = &commit.position {
        books
            .statement("UPDATE sink SET position = ?2 WHERE id = ?1")?
            .execute(params![sink.id, position])?;
    }
    if let Some(remembered) = &commit.remembered {
        records::remember(books, (&commit.sink, sink), remembered, now)?;
    }
    Ok(acknowledgements)
}

/// Records what a sink has of some blobs. Of a settled one nothing is kept, as nobody will ask for it again.
fn acknowledge_parts(
    books: &Books,
    sink: Sink,
    acknowledged: &[(LeaseKey, AcknowledgedPart)],
) -> Result<(), Failure> {
    let mut has_parts = books.has_parts()?;
    let mut whole = books
        .statement("UPDATE blob SET whole_sinks = whole_sinks | ?2 WHERE id = ?1 AND state < 3")?;
    for &(key, part) in acknowledged {
        let blob = row_of(key);
        let changed = match part {
            AcknowledgedPart::Whole => {
                if has_parts {
                    books
                        .statement("DELETE FROM part WHERE blob = ?1 AND sink = ?2")?
                        .execute(params![blob, sink.id])?;
                }
                whole.execute(params![blob, sink.bit()])?
            }
            AcknowledgedPart::Part(part) => {
                has_parts = true;
                books
                    .statement(
                        "INSERT INTO part (blob, sink, first_record, record_count, fingerprint)
                         SELECT id, ?2, ?4, ?5, ?6 FROM blob WHERE id = ?1 AND state < 3 AND whole_sinks & ?3 = 0
                         ON CONFLICT DO NOTHING",
                    )?
                    .execute(params![
                        blob,
                        sink.id,
                        sink.bit(),
                        stored_count(part.first_record),
                        stored_count(part.record_count),
                        part.fingerprint.cast_signed()
                    ])?
            }
        };
        if changed == 0 && !books.has_blob(blob)? {
            return Err(Error::UnknownBlob.into());
        }
    }
    Ok(())
}

pub(super) fn mark_delivered(
    books: &mut Books,
    deliveries: &[Delivery],
    required: &[SinkName],
    now: Timestamp,
) -> Result<Vec<Result<(), Error>>, Failure> {
    let mut totals: BTreeMap<i64, Totals> = BTreeMap::new();
    let mut answers = Vec::with_capacity(deliveries.len());
    let has_parts = books.has_parts()?;
    for delivery in deliveries {
        if let Some(sink) = delivery.missing_sink(required) {
            answers.push(Err(Error::MissingAcknowledgement { sink: sink.clone() }));
            continue;
        }
        let lease = &delivery.lease;
        let changed = books
            .statement(
                "UPDATE blob SET state = 3, uri = NULL, reason = NULL, settled_at = ?3,
                     record_count = ?4, byte_count = ?5, quarantined_count = ?6
                 WHERE id = ?1 AND token = ?2 AND state < 3",
            )?
            .execute(params![
                row_of(lease.key),
                token_of(lease.key),
                stored(now),
                stored_count(delivery.record_count),
                stored_count(delivery.byte_count),
                stored_count(delivery.quarantined_count)
            ])?;
        if changed == 0 {
            answers.push(Err(Error::LeaseLost));
            continue;
        }
        if has_parts {
            forget_parts(books, lease)?;
        }
        let stream = books.stream(lease.tenant, lease.content_type)?;
        if let Some(item) = lease.item
            && retried::end_delivered(books, stream, lease, item)?
        {
            // Of a record, which is counted with the blob that it came in.
            answers.push(Ok(()));
            continue;
        }
        let totals = totals.entry(stream).or_default();
        totals.blob_count += 1;
        totals.record_count = totals.record_count.saturating_add(delivery.record_count);
        totals.byte_count = totals.byte_count.saturating_add(delivery.byte_count);
        answers.push(Ok(()));
    }
    for (stream, totals) in totals {
        books
            .statement(
                "UPDATE stream SET delivered_count = delivered_count + ?2,
                     delivered_record_count = delivered_record_count + ?3,
                     delivered_byte_count = delivered_byte_count + ?4
                 WHERE id = ?1",
            )?
            .execute(params![
                stream,
                totals.blob_count,
                stored_count(totals.record_count),
                stored_count(totals.byte_count)
            ])?;
    }
    Ok(answers)
}

#[derive(Default)]
struct Totals {
    blob_count: i64,
    record_count: u64,
    byte_count: u64,
}

pub(super) fn quarantine(
    books: &mut Books,
    lease: &Lease,
    reason: &str,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    settle_unfetched(
        books,
        lease,
        "UPDATE blob SET state = 4, reason = ?4, settled_at = ?3, item = NULL
         WHERE id = ?1 AND token = ?2 AND state < 3",
        reason,
        now,
    )?;
    let stream = books.stream(lease.tenant, lease.content_type)?;
    let kept = match lease.item {
        Some(item) => retried::take_out(books, stream, item, bytes.is_empty())?,
        None => Vec::new(),
    };
    quarantined::insert(
        books,
        stream,
        &lease.content_id,
        WHOLE_BLOB,
        None,
        reason,
        if bytes.is_empty() { &kept } else { bytes },
        now,
    )?;
    books
        .statement("UPDATE stream SET quarantined_count = quarantined_count + 1 WHERE id = ?1")?
        .execute([stream])?;
    Ok(())
}

pub(super) fn expire(
    books: &mut Books,
    lease: &Lease,
    reason: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let stream = books.stream(lease.tenant, lease.content_type)?;
    if let Some(item) = lease.item
        && retried::put_back(books, stream, lease, item, reason, now)?
    {
        return forget_parts(books, lease);
    }
    settle_unfetched(
        books,
        lease,
        "UPDATE blob SET state = 5, uri = NULL, reason = ?4, settled_at = ?3, item = NULL
         WHERE id = ?1 AND token = ?2 AND state < 3",
        reason,
        now,
    )?;
    if let Some(item) = lease.item {
        retried::take_out(books, stream, item, false)?;
    }
    books
        .statement("UPDATE stream SET expired_count = expired_count + 1 WHERE id = ?1")?
        .execute([stream])?;
    Ok(())
}

fn settle_unfetched(
    books: &Books,
    lease: &Lease,
    update: &str,
    reason: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let changed = books.statement(update)?.execute(params![
        row_of(lease.key),
        token_of(lease.key),
        stored(now),
        reason
    ])?;
    if changed == 0 {
        return Err(Error::LeaseLost.into());
    }
    forget_parts(books, lease)
}

fn forget_parts(books: &Books, lease: &Lease) -> Result<(), Failure> {
    books
        .statement("DELETE FROM part WHERE blob = ?1")?
        .execute([row_of(lease.key)])?;
    Ok(())
}
