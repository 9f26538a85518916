//! Making the ledger smaller: windows merged by the day, delivered blobs forgotten into their days' totals.
//!
//! Rows that are deleted leave room that is used again once the server has vacuumed, which it does by itself.

use jiff::Timestamp;

use crate::Compacted;
use crate::store::{DAY, never, stored, windows};

use super::failure::{Failure, get, stored_count, to_count};
use super::listed::{ADD_WINDOW, LOCK_STREAM, WindowColumns, stored_window};
use super::session::{Batch, Session};

pub(super) async fn compact(
    session: &mut Session,
    before: Timestamp,
    max_blobs: usize,
) -> Result<Compacted, Failure> {
    let before = stored(before);
    let (window_count, has_windows) = merge_windows(session, before, max_blobs).await?;
    let (blob_count, has_blobs) = forget_blobs(session, before, max_blobs).await?;
    Ok(Compacted {
        window_count,
        blob_count,
        is_done: !has_windows && !has_blobs,
    })
}

/// Merges at most about so many windows, each stream in a transaction of its own. How many there are fewer, and whether
/// there may be more to merge.
///
/// # If interrupted
/// Each stream's windows are merged, or as they were.
async fn merge_windows(
    session: &mut Session,
    before: i64,
    max_count: usize,
) -> Result<(u64, bool), Failure> {
    // Days with more than one window, of which all but those with a gap can be merged.
    let find = session
        .statement(
            "SELECT stream FROM (
                 SELECT stream FROM listed_window WHERE start_at < $1 AND end_at <= $1
                 GROUP BY stream, start_at - ((start_at % $2) + $2) % $2 HAVING count(*) > 1
             ) AS day GROUP BY stream ORDER BY stream",
        )
        .await?;
    let mut merged_count = 0;
    for row in session.client.query(&find, &[&before, &DAY]).await? {
        if merged_count >= max_count {
            return Ok((merged_count as u64, true));
        }
        let room = max_count - merged_count;
        let (count, is_done) = merge_stream(session, get(&row, 0)?, before, room).await?;
        merged_count += count;
        if !is_done {
            return Ok((merged_count as u64, true));
        }
    }
    Ok((merged_count as u64, false))
}

async fn merge_stream(
    session: &mut Session,
    stream: i64,
    before: i64,
    max_count: usize,
) -> Result<(usize, bool), Failure> {
    let lock = session.statement(LOCK_STREAM).await?;
    let select = session
        .statement(
            "SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
             WHERE stream = $1 AND start_at < $2 AND end_at <= $2 ORDER BY start_at, end_at",
        )
        .await?;
    let delete = session
        .statement(
            "DELETE FROM listed_window USING unnest($2::bigint[], $3::bigint[]) AS old (start_at, end_at)
             WHERE stream = $1 AND listed_window.start_at = old.start_at AND listed_window.end_at = old.end_at",
        )
        .await?;
    let add = session.statement(ADD_WINDOW).await?;
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&lock, &[&stream]).await });
    batch.add(async { client.query(&select, &[&stream, &before]).await });
    let found = batch.run().await?.swap_remove(2);
    let found = found.iter().map(|row| stored_window(row, 0));
    let found = found.collect::<Result<Vec<_>, _>>()?;

    let (mut merged_count, mut is_done) = (0, true);
    let (mut starts, mut ends, mut new) = (Vec::new(), Vec::new(), WindowColumns::default());
    for run in windows::runs(found) {
        if merged_count >= max_count {
            is_done = false;
            break;
        }
        merged_count += run.len() - 1;
        starts.extend(run.iter().map(|window| window.start_at));
        ends.extend(run.iter().map(|window| window.end_at));
        if let Some(merged) = windows::merged(&run) {
            new.push(stream, &merged);
        }
    }
    let mut batch = Batch::new();
    if merged_count > 0 {
        batch.add(async { client.query(&delete, &[&stream, &starts, &ends]).await });
        batch.add(new.add(client, &add));
    }
    batch.commit(client).await?;
    Ok((merged_count, is_done))
}

/// Forgets at most so many blobs. How many, and whether there may be more.
///
/// In one statement, so that each is forgotten and counted or neither: two collectors that do this at once forget
/// different ones, as whoever comes second passes over what the first has locked.
async fn forget_blobs(
    session: &mut Session,
    before: i64,
    max_count: usize,
) -> Result<(u64, bool), Failure> {
    let forget = session
        .statement(
            "WITH gone AS MATERIALIZED (
                 SELECT blob.id FROM stream CROSS JOIN LATERAL (
                     SELECT id FROM blob
                     WHERE blob.stream = stream.id AND created_at < $1 AND state = 3
                       AND (expires_at < $1 OR expires_at = $2)
                       AND NOT EXISTS (SELECT FROM quarantine WHERE quarantine.stream = blob.stream
                                       AND sha256(quarantine.content_id) = sha256(blob.content_id))
                     ORDER BY created_at LIMIT $3
                     FOR UPDATE SKIP LOCKED
                 ) AS blob LIMIT $3
             ), forgotten AS (
                 DELETE FROM blob USING gone WHERE blob.id = gone.id
                 RETURNING stream, created_at, record_count, byte_count, is_part
             ), day AS (
                 INSERT INTO forgotten_day (stream, start_at, blob_count, record_count, byte_count)
                 SELECT stream, created_at - ((created_at % $4) + $4) % $4 AS start_at, count(*),
                     coalesce(sum(record_count), 0)::bigint, coalesce(sum(byte_count), 0)::bigint
                 FROM forgotten WHERE NOT is_part GROUP BY stream, start_at ORDER BY stream, start_at
                 ON CONFLICT (stream, start_at) DO UPDATE SET
                     blob_count = forgotten_day.blob_count + excluded.blob_count,
                     record_count = forgotten_day.record_count + excluded.record_count,
                     byte_count = forgotten_day.byte_count + excluded.byte_count
             )
             SELECT count(*) FROM forgotten",
        )
        .await?;
    let limit = stored_count(max_count as u64);
    let row = session
        .client
        .query_one(&forget, &[&before, &never(), &limit, &DAY])
        .await?;
    let count = to_count(get(&row, 0)?)?;
    Ok((count, count >= max_count as u64))
}
