//! Which blobs are leased next: a merge over groups of due blobs, which never walks over those that may not be taken.
//!
//! The obvious query, all due blobs by expiry less the excluded ones, would read past every blob of a throttled
//! tenant and every blob that only an unreachable sink lacks, at each lease, and those can be a hundred thousand.
//! So the index is ordered by (stream, sinks that have it wholly) first: a group is taken or left as a whole, at the
//! cost of one seek, and the groups' heads are merged, by the hour of expiry and then as they were noted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet, VecDeque};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Rows, params};

use crate::LeaseRequest;

use super::books::Books;
use super::failure::{Failure, stored};

/// A due blob's place in the order of leasing: the hour of its expiry, then the order in which they were noted.
type Place = (i64, i64);

/// Due blobs of one stream that the same sinks have already.
struct Group {
    stream: i64,
    whole_sinks: i64,
    read: VecDeque<Place>,
    last: Place,
}

/// The rows of the next blobs to lease, in order.
pub(super) fn pick_due(
    books: &mut Books,
    request: &LeaseRequest,
    now: Timestamp,
) -> Result<Vec<i64>, Failure> {
    wake(books, now)?;
    if !request.only.is_empty() {
        return pick_named(books, request);
    }
    let mut groups = due_groups(books, request)?;
    // Enough for the groups' shares to be even, few enough not to read for every group what one of them will use.
    let chunk = (request.max_count / groups.len().max(1))
        .saturating_mul(2)
        .clamp(4, 256);
    let mut heads: BinaryHeap<Reverse<(Place, usize)>> = BinaryHeap::new();
    for (index, group) in groups.iter_mut().enumerate() {
        heads.extend(
            group
                .next(books, chunk)?
                .map(|place| Reverse((place, index))),
        );
    }
    let mut picked = Vec::new();
    while picked.len() < request.max_count
        && let Some(Reverse(((_, blob), index))) = heads.pop()
    {
        picked.push(blob);
        if let Some(group) = groups.get_mut(index) {
            heads.extend(
                group
                    .next(books, chunk)?
                    .map(|place| Reverse((place, index))),
            );
        }
    }
    Ok(picked)
}

/// The rows of those named blobs that may be leased, in order. One seek per name, whatever else is due.
fn pick_named(books: &mut Books, request: &LeaseRequest) -> Result<Vec<i64>, Failure> {
    let served = all_of(books, request)?;
    let mut places: BTreeSet<Place> = BTreeSet::new();
    for name in &request.only {
        if request.except_tenants.contains(&name.tenant) {
            continue;
        }
        let Some(stream) = books.known_stream(name.tenant, name.content_type)? else {
            continue;
        };
        let found: Option<(Place, i64)> = books
            .statement(
                "SELECT expires_hour, id, whole_sinks FROM blob
                 WHERE stream = ?1 AND content_id = ?2 AND state = 0",
            )?
            .query_row(params![stream, name.content_id.as_str()], |row| {
                Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
            })
            .optional()?;
        if let Some((place, whole_sinks)) = found
            && served.is_none_or(|served| whole_sinks & served != served)
        {
            places.insert(place);
        }
    }
    let picked = places.into_iter().map(|(_, blob)| blob);
    Ok(picked.take(request.max_count).collect())
}

/// Moves what has become due to where leases look. Every blob makes this move once per lease or wait, so that a
/// lease reads nothing of those that are not due.
///
/// The token stays: the holder of a lease that ran out keeps it until someone else takes the blob.
fn wake(books: &Books, now: Timestamp) -> Result<(), Failure> {
    books
        .statement(
            "UPDATE blob INDEXED BY blob_due SET state = 0 WHERE state IN (1, 2) AND due_at <= ?1",
        )?
        .execute([stored(now)])?;
    Ok(())
}

/// The groups that the request may take from, each with its first blob read.
fn due_groups(books: &mut Books, request: &LeaseRequest) -> Result<Vec<Group>, Failure> {
    let streams = books.streams_by_id()?;
    let except: HashSet<_> = request.except_tenants.iter().copied().collect();
    let is_excluded = |stream: &i64| {
        let name = streams.get(stream);
        name.is_some_and(|(tenant, _)| except.contains(tenant))
    };
    let served = all_of(books, request)?;
    let mut groups = Vec::new();
    let mut after = (i64::MIN, i64::MAX);
    while let Some((stream, whole_sinks, first)) = next_group(books, after)? {
        if is_excluded(&stream) {
            after = (stream, i64::MAX);
            continue;
        }
        after = (stream, whole_sinks);
        if served.is_none_or(|served| whole_sinks & served != served) {
            groups.push(Group {
                stream,
                whole_sinks,
                read: VecDeque::from([first]),
                last: first,
            });
        }
    }
    Ok(groups)
}

/// The group that comes after (stream, sinks) in the index, with its first blob.
///
/// Two queries, because one with `(stream, whole_sinks) > (?, ?)` would step over every blob of the group before:
/// SQLite seeks a pair of columns with `>=` and filters.
fn next_group(books: &Books, after: (i64, i64)) -> Result<Option<(i64, i64, Place)>, Failure> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?)));
    let of_stream = books
        .statement(
            "SELECT stream, whole_sinks, expires_hour, id FROM blob INDEXED BY blob_ready
             WHERE state = 0 AND stream = ?1 AND whole_sinks > ?2
             ORDER BY whole_sinks, expires_hour, id LIMIT 1",
        )?
        .query_row(params![after.0, after.1], read)
        .optional()?;
    if of_stream.is_some() {
        return Ok(of_stream);
    }
    let of_next_stream = books
        .statement(
            "SELECT stream, whole_sinks, expires_hour, id FROM blob INDEXED BY blob_ready
             WHERE state = 0 AND stream > ?1
             ORDER BY stream, whole_sinks, expires_hour, id LIMIT 1",
        )?
        .query_row([after.0], read)
        .optional()?;
    Ok(of_next_stream)
}

/// The bits of all the sinks that the request asks for: a blob that has them all is of no use to it. `None` when
/// no blob can have them all.
fn all_of(books: &mut Books, request: &LeaseRequest) -> Result<Option<i64>, Failure> {
    match request.for_sinks.is_empty() {
        true => Ok(None),
        false => books.all_of(&request.for_sinks),
    }
}

impl Group {
    fn next(&mut self, books: &Books, chunk: usize) -> Result<Option<Place>, Failure> {
        if self.read.is_empty() {
            self.read(books, chunk)?;
        }
        Ok(self.read.pop_front())
    }

    /// Reads on, by up to `chunk` blobs.
    ///
    /// Two queries, because in one with `(expires_hour, id) > (?, ?)` SQLite would seek the hour and step over all of it
    /// that was read before.
    fn read(&mut self, books: &Books, chunk: usize) -> Result<(), Failure> {
        let (hour, id) = self.last;
        let limit = |read: usize| i64::try_from(chunk - read).unwrap_or(i64::MAX);
        let mut of_hour = books.statement(
            "SELECT expires_hour, id FROM blob INDEXED BY blob_ready
             WHERE state = 0 AND stream = ?1 AND whole_sinks = ?2 AND expires_hour = ?3 AND id > ?4
             ORDER BY id LIMIT ?5",
        )?;
        let (stream, sinks) = (self.stream, self.whole_sinks);
        self.take(of_hour.query(params![stream, sinks, hour, id, limit(0)])?)?;
        if self.read.len() < chunk {
            let mut later = books.statement(
                "SELECT expires_hour, id FROM blob INDEXED BY blob_ready
                 WHERE state = 0 AND stream = ?1 AND whole_sinks = ?2 AND expires_hour > ?3
                 ORDER BY expires_hour, id LIMIT ?4",
            )?;
            let left = limit(self.read.len());
            self.take(later.query(params![stream, sinks, hour, left])?)?;
        }
        Ok(())
    }

    fn take(&mut self, mut rows: Rows<'_>) -> Result<(), Failure> {
        while let Some(row) = rows.next()? {
            self.last = (row.get(0)?, row.get(1)?);
            self.read.push_back(self.last);
        }
        Ok(())
    }
}
