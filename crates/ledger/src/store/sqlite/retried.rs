//! How things leave the quarantine: tried again and settled, or dropped by a person.

use activity_api::ContentId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::quarantine::{GONE_BUT_KEPT, QUARANTINE_SCHEME, dropped_for, quarantine_uri};
use crate::store::never;
use crate::{Error, Lease};

use super::books::Books;
use super::failure::{Failure, stored, stored_count};
use super::leasing::{row_of, token_of};
use super::quarantined::{NO_SINK, WHOLE_BLOB};

/// A row of `quarantine` without its bytes.
struct Item {
    id: i64,
    stream: i64,
    content_id: String,
    record_index: i64,
    sink: i64,
    byte_count: i64,
    is_retried: bool,
    is_dropped: bool,
}

pub(super) fn retry(books: &mut Books, id: u64, now: Timestamp) -> Result<bool, Failure> {
    let Some(item) = find(books, stored_count(id))?.filter(|item| !item.is_dropped) else {
        return Ok(false);
    };
    if item.is_retried {
        return Ok(true);
    }
    let is_begun = if item.record_index == WHOLE_BLOB {
        revive_blob(books, &item, now)?
    } else {
        make_part(books, &item, now)?;
        true
    };
    if is_begun {
        books
            .statement("UPDATE quarantine SET retried_at = ?2 WHERE id = ?1")?
            .execute([item.id, stored(now)])?;
    }
    Ok(is_begun)
}

/// Makes a whole blob pending again. Its sinks' acknowledgements are as they were: what a sink has is a fact.
fn revive_blob(books: &Books, item: &Item, now: Timestamp) -> Result<bool, Failure> {
    let found: Option<(i64, Option<String>, i64)> = books
        .statement(
            "SELECT id, uri, expires_at FROM blob WHERE stream = ?1 AND content_id = ?2 AND state = 4",
        )?
        .query_row(params![item.stream, item.content_id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((blob, uri, expires_at)) = found else {
        return Ok(false);
    };
    // Without bytes there is nothing to try but what Microsoft may still have.
    let is_to_be_had = stored(now) < expires_at || item.byte_count == 0;
    let (uri, expires_at) = match uri {
        Some(uri) if is_to_be_had && !uri.starts_with(QUARANTINE_SCHEME) => (uri, expires_at),
        _ => (quarantine_uri(item.id.cast_unsigned()), never()),
    };
    books
        .statement(
            "UPDATE blob SET state = 0, due_at = 0, token = token + 1, attempts = 0, reason = NULL, settled_at = NULL,
                 uri = ?2, expires_at = ?3, item = ?4
             WHERE id = ?1",
        )?
        .execute(params![blob, uri, expires_at, item.id])?;
    books
        .statement("UPDATE stream SET quarantined_count = quarantined_count - 1 WHERE id = ?1")?
        .execute([item.stream])?;
    Ok(true)
}

/// Makes a blob of a single record.
fn make_part(books: &mut Books, item: &Item, now: Timestamp) -> Result<(), Failure> {
    let created_at: Option<i64> = books
        .statement("SELECT created_at FROM blob WHERE stream = ?1 AND content_id = ?2")?
        .query_row(params![item.stream, item.content_id], |row| row.get(0))
        .optional()?;
    let whole_sinks = if item.sink == NO_SINK {
        0
    } else {
        let sinks = books.sinks_by_name()?;
        let others = sinks.iter().filter(|(_, sink)| sink.id != item.sink);
        others.fold(0, |bits, (_, sink)| bits | sink.bit())
    };
    let mut name = format!("{}~{}", item.content_id, item.id);
    loop {
        let there: Option<bool> = books
            .statement("SELECT is_part FROM blob WHERE stream = ?1 AND content_id = ?2")?
            .query_row(params![item.stream, name], |row| row.get(0))
            .optional()?;
        match there {
            // Somebody who may send notifications has thought of this name.
            Some(false) => name.push('~'),
            // Of an earlier retry that came to nothing, as this item is still here.
            Some(true) => {
                books
                    .statement(
                        "UPDATE blob SET state = 0, due_at = 0, token = token + 1, attempts = 0, reason = NULL,
                             settled_at = NULL, whole_sinks = ?3, uri = ?4, item = ?5
                         WHERE stream = ?1 AND content_id = ?2",
                    )?
                    .execute(params![
                        item.stream,
                        name,
                        whole_sinks,
                        quarantine_uri(item.id.cast_unsigned()),
                        item.id
                    ])?;
                return Ok(());
            }
            None => break,
        }
    }
    books
        .statement(
            "INSERT INTO blob (stream, content_id, uri, seen_via, created_at, expires_at, seen_at, whole_sinks, item, is_part)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, 1)",
        )?
        .execute(params![
            item.stream,
            ContentId::canonical(&name).as_str(),
            quarantine_uri(item.id.cast_unsigned()),
            created_at.unwrap_or(stored(now)),
            never(),
            stored(now),
            whole_sinks,
            item.id
        ])?;
    Ok(())
}

pub(super) fn drop_item(
    books: &Books,
    id: u64,
    why: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    let found = find(books, stored_count(id))?;
    let Some(item) = found.filter(|item| !item.is_dropped && !item.is_retried) else {
        return Ok(false);
    };
    let dropped = dropped_for(why);
    books
        .statement(
            "UPDATE quarantine SET bytes = x'', byte_count = 0, dropped_at = ?2, reason = ?3 || reason WHERE id = ?1",
        )?
        .execute(params![item.id, stored(now), dropped])?;
    if item.record_index == WHOLE_BLOB {
        books
            .statement(
                "UPDATE blob SET state = 6, uri = NULL, reason = ?3 || reason
                 WHERE stream = ?1 AND content_id = ?2 AND state = 4",
            )?
            .execute(params![item.stream, item.content_id, dropped])?;
        books
            .statement(
                "UPDATE stream SET quarantined_count = quarantined_count - 1, dropped_count = dropped_count + 1,
                     quarantined_byte_count = quarantined_byte_count - ?2
                 WHERE id = ?1",
            )?
            .execute([item.stream, item.byte_count])?;
    } else {
        books
            .statement(
                "UPDATE stream SET quarantined_record_count = quarantined_record_count - 1,
                     dropped_record_count = dropped_record_count + 1,
                     quarantined_byte_count = quarantined_byte_count - ?2
                 WHERE id = ?1",
            )?
            .execute([item.stream, item.byte_count])?;
    }
    Ok(true)
}

/// The retry of an item was delivered: the item leaves. Gives whether it was that of a record.
pub(super) fn end_delivered(
    books: &Books,
    stream: i64,
    lease: &Lease,
    item: u64,
) -> Result<bool, Failure> {
    take_out(books, stream, item, false)?;
    books
        .statement("UPDATE blob SET item = NULL WHERE id = ?1")?
        .execute([row_of(lease.key)])?;
    is_part(books, lease)
}

fn is_part(books: &Books, lease: &Lease) -> Result<bool, Failure> {
    let is_part = books
        .statement("SELECT is_part FROM blob WHERE id = ?1")?
        .query_row([row_of(lease.key)], |row| row.get(0))?;
    Ok(is_part)
}

/// Takes an item out of the quarantine whose retry is settled, and gives its bytes if they are wanted.
pub(super) fn take_out(
    books: &Books,
    stream: i64,
    item: u64,
    wants_bytes: bool,
) -> Result<Vec<u8>, Failure> {
    let Some(item) = find(books, stored_count(item))? else {
        return Ok(Vec::new());
    };
    let bytes = if wants_bytes {
        books
            .statement("SELECT bytes FROM quarantine WHERE id = ?1")?
            .query_row([item.id], |row| row.get(0))?
    } else {
        Vec::new()
    };
    books
        .statement("DELETE FROM quarantine WHERE id = ?1")?
        .execute([item.id])?;
    let record_count = i64::from(item.record_index != WHOLE_BLOB);
    books
        .statement(
            "UPDATE stream SET quarantined_record_count = quarantined_record_count - ?2,
                 quarantined_byte_count = quarantined_byte_count - ?3
             WHERE id = ?1",
        )?
        .execute([stream, record_count, item.byte_count])?;
    Ok(bytes)
}

/// Microsoft no longer has a blob that is retried: it goes back to where its bytes are. Gives false when there are none.
pub(super) fn put_back(
    books: &Books,
    stream: i64,
    lease: &Lease,
    item: u64,
    reason: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    let Some(item) = find(books, stored_count(item))?.filter(|item| item.byte_count > 0) else {
        return Ok(false);
    };
    // The blob that was made of a record is over, whatever is said of it: the record is where it was.
    let is_part = is_part(books, lease)?;
    let changed = books
        .statement(
            "UPDATE blob SET state = ?3, uri = ?4, reason = ?5, settled_at = ?6, item = NULL
             WHERE id = ?1 AND token = ?2 AND state < 3",
        )?
        .execute(params![
            row_of(lease.key),
            token_of(lease.key),
            if is_part { 5 } else { 4 },
            quarantine_uri(item.id.cast_unsigned()),
            format!("{GONE_BUT_KEPT}{reason}"),
            stored(now)
        ])?;
    if changed == 0 {
        return Err(Error::LeaseLost.into());
    }
    books
        .statement("UPDATE quarantine SET retried_at = NULL WHERE id = ?1")?
        .execute([item.id])?;
    books
        .statement("UPDATE stream SET quarantined_count = quarantined_count + ?2 WHERE id = ?1")?
        .execute([stream, i64::from(!is_part)])?;
    Ok(true)
}

fn find(books: &Books, id: i64) -> Result<Option<Item>, Failure> {
    let item = books
        .statement(
            "SELECT id, stream, content_id, record_index, sink, byte_count, retried_at IS NOT NULL, dropped_at IS NOT NULL
             FROM quarantine WHERE id = ?1",
        )?
        .query_row([id], |row| {
            Ok(Item {
                id: row.get(0)?,
                stream: row.get(1)?,
                content_id: row.get(2)?,
                record_index: row.get(3)?,
                sink: row.get(4)?,
                byte_count: row.get(5)?,
                is_retried: row.get(6)?,
                is_dropped: row.get(7)?,
            })
        })
        .optional()?;
    Ok(item)
}
