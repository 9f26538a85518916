//! Making the ledger smaller: windows merged by the day, delivered blobs forgotten into their days' totals.
//!
//! What is freed is used again by what comes next, so that the file stays as large as its largest week; it is not
//! given back to the disk, which would take a rewriting of the file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;

use crate::store::{DAY, never, windows};
use crate::{Compacted, Totals};

use super::books::Books;
use super::failure::{Failure, count, stored, stored_count};
use super::listed::{insert_window, stored_window};

pub(super) fn compact(
    books: &mut Books,
    before: Timestamp,
    max_blobs: usize,
) -> Result<Compacted, Failure> {
    let before = stored(before);
    let mut streams: Vec<i64> = books.streams_by_id()?.keys().copied().collect();
    streams.sort_unstable();
    let mut done = Compacted {
        is_done: true,
        ..Compacted::default()
    };
    for stream in streams {
        let room =
            max_blobs.saturating_sub(usize::try_from(done.window_count).unwrap_or(usize::MAX));
        let (merged_count, is_done) = merge_windows(books, stream, before, room)?;
        done.window_count += merged_count;
        let room = max_blobs.saturating_sub(usize::try_from(done.blob_count).unwrap_or(usize::MAX));
        let forgotten_count = forget_blobs(books, stream, before, room)?;
        done.blob_count += forgotten_count;
        done.is_done &= is_done && forgotten_count < room as u64;
    }
    Ok(done)
}

/// Merges at most about so many windows, a day at a time. How many there are fewer, and whether all are merged.
fn merge_windows(
    books: &Books,
    stream: i64,
    before: i64,
    max_count: usize,
) -> Result<(u64, bool), Failure> {
    let mut windows = Vec::new();
    {
        let mut statement = books.statement(
            "SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
             WHERE stream = ?1 AND start_at < ?2 AND end_at <= ?2 ORDER BY start_at, end_at",
        )?;
        let mut rows = statement.query([stream, before])?;
        while let Some(row) = rows.next()? {
            windows.push(stored_window(row)?);
        }
    }
    let mut merged_count = 0;
    for run in windows::runs(windows) {
        if merged_count >= max_count {
            return Ok((merged_count as u64, false));
        }
        merged_count += run.len() - 1;
        for window in &run {
            books
                .statement(
                    "DELETE FROM listed_window WHERE stream = ?1 AND start_at = ?2 AND end_at = ?3",
                )?
                .execute([stream, window.start_at, window.end_at])?;
        }
        if let Some(merged) = windows::merged(&run) {
            insert_window(books, stream, &merged)?;
        }
    }
    Ok((merged_count as u64, true))
}

/// Forgets at most so many, oldest first.
///
/// Never the blob that was noted last: SQLite would give its number to the next one, and whoever still has a key of
/// the old would acknowledge the new.
fn forget_blobs(books: &Books, stream: i64, before: i64, max_count: usize) -> Result<u64, Failure> {
    let mut forgotten = Vec::new();
    let mut days: BTreeMap<i64, Totals> = BTreeMap::new();
    {
        let mut statement = books.statement(
            "SELECT id, created_at, record_count, byte_count, is_part FROM blob INDEXED BY blob_created
             WHERE stream = ?1 AND created_at < ?2 AND state = 3 AND (expires_at < ?2 OR expires_at = ?3)
               AND id < (SELECT max(id) FROM blob)
               AND NOT EXISTS (SELECT 1 FROM quarantine
                               WHERE quarantine.stream = ?1 AND quarantine.content_id = blob.content_id)
             ORDER BY created_at LIMIT ?4",
        )?;
        let limit = i64::try_from(max_count).unwrap_or(i64::MAX);
        let mut rows = statement.query([stream, before, never(), limit])?;
        while let Some(row) = rows.next()? {
            forgotten.push(row.get::<_, i64>(0)?);
            if row.get(4)? {
                continue;
            }
            let day = row.get::<_, i64>(1)?.div_euclid(DAY) * DAY;
            let totals = days.entry(day).or_default();
            *totals = totals.plus(Totals {
                blob_count: 1,
                record_count: count(row.get(2)?)?,
                byte_count: count(row.get(3)?)?,
            });
        }
    }
    for (day, totals) in days {
        books
            .statement(
                "INSERT INTO forgotten_day (stream, start_at, blob_count, record_count, byte_count)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (stream, start_at) DO UPDATE SET blob_count = blob_count + ?3,
                     record_count = record_count + ?4, byte_count = byte_count + ?5",
            )?
            .execute(params![
                stream,
                day,
                stored_count(totals.blob_count),
                stored_count(totals.record_count),
                stored_count(totals.byte_count)
            ])?;
    }
    let mut statement = books.statement("DELETE FROM blob WHERE id = ?1")?;
    for id in &forgotten {
        statement.execute([id])?;
    }
    Ok(forgotten.len() as u64)
}
