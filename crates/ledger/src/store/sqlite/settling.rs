//! How a blob ends: what sinks have of it, and then delivered, quarantined or expired.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use rusqlite::params;

use crate::{
    AcknowledgedPart, Acknowledgement, Completion, Delivery, Error, Lease, LeaseKey, SinkCommit,
    SinkName,
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
    let (acknowledgements, _) = acknowledge_and_deliver(books, commit, &[], &[], now)?;
    Ok(acknowledgements)
}

pub(super) fn acknowledge_and_deliver(
    books: &mut Books,
    commit: &SinkCommit,
    completions: &[Completion],
    required: &[SinkName],
    now: Timestamp,
) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Failure> {
    let sink = books.sink(&commit.sink)?;
    let completions = match books.all_of(required)? {
        Some(bits) if !required.is_empty() => Completions::new(completions, bits, now),
        // No blob is delivered that nobody was asked to take, or that a sink lacks which never acknowledged anything.
        _ => Completions::new(&[], 0, now),
    };
    let delivered = acknowledge_parts(books, sink, &commit.acknowledged, completions)?;
    let mut acknowledgements = Vec::with_capacity(commit.acknowledged.len());
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
    Ok((acknowledgements, delivered))
}

/// The claims that go with acknowledgements, and what came of them.
struct Completions<'a> {
    left: std::iter::Peekable<std::slice::Iter<'a, Completion>>,
    /// The bits of all required sinks.
    required: i64,
    now: Timestamp,
    delivered: Vec<LeaseKey>,
    totals: BTreeMap<(TenantId, ContentType), Totals>,
}

impl<'a> Completions<'a> {
    fn new(completions: &'a [Completion], required: i64, now: Timestamp) -> Self {
        Self {
            left: completions.iter().peekable(),
            required,
            now,
            delivered: Vec::with_capacity(completions.len()),
            totals: BTreeMap::new(),
        }
    }

    /// Acknowledges a whole blob and settles it as delivered; whether it is claimed, and its row says that it is so.
    fn deliver(
        &mut self,
        books: &Books,
        sink: Sink,
        key: LeaseKey,
        has_parts: bool,
    ) -> Result<bool, Failure> {
        let Some(completion) = self.left.next_if(|completion| completion.key == key) else {
            return Ok(false);
        };
        let changed = books
            .statement(
                "UPDATE blob SET state = 3, uri = NULL, reason = NULL, whole_sinks = whole_sinks | ?3, settled_at = ?5,
                     record_count = ?6, byte_count = ?7, quarantined_count = ?8
                 WHERE id = ?1 AND token = ?2 AND state < 3 AND item IS NULL
                   AND (whole_sinks | ?3) & ?4 = ?4",
            )?
            .execute(params![
                row_of(key),
                token_of(key),
                sink.bit(),
                self.required,
                stored(self.now),
                stored_count(completion.record_count),
                stored_count(completion.byte_count),
                stored_count(completion.quarantined_count)
            ])?;
        if changed == 0 {
            return Ok(false);
        }
        if has_parts {
            forget_parts(books, key)?;
        }
        let stream = (key.tenant, completion.content_type);
        let totals = self.totals.entry(stream).or_default();
        totals.add(completion.record_count, completion.byte_count);
        self.delivered.push(key);
        Ok(true)
    }

    /// Counts them, and names them.
    fn finish(self, books: &mut Books) -> Result<Vec<LeaseKey>, Failure> {
        for ((tenant, content_type), totals) in self.totals {
            let stream = books.stream(tenant, content_type)?;
            totals.count(books, stream)?;
        }
        Ok(self.delivered)
    }
}

/// Records what a sink has of some blobs, and which are delivered by it. Of a settled one nothing is kept, as nobody will ask
/// for it again.
fn acknowledge_parts(
    books: &mut Books,
    sink: Sink,
    acknowledged: &[(LeaseKey, AcknowledgedPart)],
    mut completions: Completions<'_>,
) -> Result<Vec<LeaseKey>, Failure> {
    let mut has_parts = books.has_parts()?;
    {
        let books = &*books;
        let mut whole = books.statement(
            "UPDATE blob SET whole_sinks = whole_sinks | ?2 WHERE id = ?1 AND state < 3",
        )?;
        for &(key, part) in acknowledged {
            let blob = row_of(key);
            let changed = match part {
                AcknowledgedPart::Whole => {
                    if completions.deliver(books, sink, key, has_parts)? {
                        continue;
                    }
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
    }
    completions.finish(books)
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
            forget_parts(books, lease.key)?;
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
        totals.add(delivery.record_count, delivery.byte_count);
        answers.push(Ok(()));
    }
    for (stream, totals) in totals {
        totals.count(books, stream)?;
    }
    Ok(answers)
}

/// Delivered blobs of a stream.
#[derive(Default)]
struct Totals {
    blob_count: i64,
    record_count: u64,
    byte_count: u64,
}

impl Totals {
    fn add(&mut self, record_count: u64, byte_count: u64) {
        self.blob_count += 1;
        self.record_count = self.record_count.saturating_add(record_count);
        self.byte_count = self.byte_count.saturating_add(byte_count);
    }

    fn count(&self, books: &Books, stream: i64) -> Result<(), Failure> {
        books
            .statement(
                "UPDATE stream SET delivered_count = delivered_count + ?2,
                     delivered_record_count = delivered_record_count + ?3,
                     delivered_byte_count = delivered_byte_count + ?4
                 WHERE id = ?1",
            )?
            .execute(params![
                stream,
                self.blob_count,
                stored_count(self.record_count),
                stored_count(self.byte_count)
            ])?;
        Ok(())
    }
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
        return forget_parts(books, lease.key);
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
    forget_parts(books, lease.key)
}

fn forget_parts(books: &Books, key: LeaseKey) -> Result<(), Failure> {
    books
        .statement("DELETE FROM part WHERE blob = ?1")?
        .execute([row_of(key)])?;
    Ok(())
}
