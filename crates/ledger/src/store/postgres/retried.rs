//! How things leave the quarantine: tried again and settled, or dropped by a person.

use activity_api::ContentId;
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::quarantine::{GONE_BUT_KEPT, QUARANTINE_SCHEME, dropped_for, quarantine_uri};
use crate::store::{never, stored};

use super::failure::{Failure, get, optional_text, stored_count, text};
use super::quarantined::{NO_SINK, WHOLE_BLOB};
use super::session::{Batch, Session};
use super::totals::{self, Changes};

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

const FIND: &str = "
    SELECT id, stream, content_id, record_index, sink, byte_count, retried_at IS NOT NULL, dropped_at IS NOT NULL
    FROM quarantine WHERE id = $1 FOR UPDATE";

/// The blob that an item is of, which is locked before the item: see [`settling`](super::settling).
const LOCK_BLOB: &str = "
    SELECT id, uri, expires_at, created_at, state FROM blob
    WHERE (stream, sha256(content_id)) IN (SELECT stream, sha256(content_id) FROM quarantine WHERE id = $1)
    FOR UPDATE";

/// Begins a transaction, and locks a blob and its item. Gives both, where they are there.
async fn hold(session: &mut Session, id: u64) -> Result<(Option<Row>, Option<Item>), Failure> {
    let (lock, find) = (
        session.statement(LOCK_BLOB).await?,
        session.statement(FIND).await?,
    );
    let id = stored_count(id);
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&lock, &[&id]).await });
    batch.add(async { client.query(&find, &[&id]).await });
    let mut answers = batch.run().await?;
    let (item, blob) = (answers.swap_remove(2).pop(), answers.swap_remove(1).pop());
    Ok((blob, item.as_ref().map(item_of).transpose()?))
}

pub(super) async fn retry(session: &mut Session, id: u64, now: Timestamp) -> Result<bool, Failure> {
    let (blob, item) = hold(session, id).await?;
    let mut changes = Changes::default();
    let answer = match item.filter(|item| !item.is_dropped) {
        None => false,
        Some(item) if item.is_retried => true,
        Some(item) => {
            let is_begun = if item.record_index == WHOLE_BLOB {
                revive_blob(session, blob.as_ref(), &item, now, &mut changes).await?
            } else {
                make_part(session, blob.as_ref(), &item, now).await?;
                true
            };
            if is_begun {
                let update = session
                    .statement("UPDATE quarantine SET retried_at = $2 WHERE id = $1")
                    .await?;
                session
                    .client
                    .execute(&update, &[&item.id, &stored(now)])
                    .await?;
            }
            is_begun
        }
    };
    end(session, &changes).await?;
    Ok(answer)
}

/// Makes a whole blob pending again. Its sinks' acknowledgements are as they were: what a sink has is a fact.
async fn revive_blob(
    session: &mut Session,
    blob: Option<&Row>,
    item: &Item,
    now: Timestamp,
    changes: &mut Changes,
) -> Result<bool, Failure> {
    let Some(blob) = blob else {
        return Ok(false);
    };
    if get::<i16>(blob, 4)? != 4 {
        return Ok(false);
    }
    let (uri, expires_at): (_, i64) = (optional_text(blob, 1)?, get(blob, 2)?);
    // Without bytes there is nothing to try but what Microsoft may still have.
    let is_to_be_had = stored(now) < expires_at || item.byte_count == 0;
    let (uri, expires_at) = match uri {
        Some(uri) if is_to_be_had && !uri.starts_with(QUARANTINE_SCHEME) => (uri, expires_at),
        _ => (quarantine_uri(item.id.cast_unsigned()), never()),
    };
    let update = session
        .statement(
            "UPDATE blob SET state = 0, due_at = 0, token = token + 1, attempts = 0, reason = NULL, settled_at = NULL,
                 uri = $2, expires_at = $3, item = $4
             WHERE id = $1",
        )
        .await?;
    session
        .client
        .execute(
            &update,
            &[
                &get::<i64>(blob, 0)?,
                &uri.as_bytes(),
                &expires_at,
                &item.id,
            ],
        )
        .await?;
    changes.of(item.stream).quarantined_count -= 1;
    Ok(true)
}

/// Makes a blob of a single record.
async fn make_part(
    session: &mut Session,
    blob: Option<&Row>,
    item: &Item,
    now: Timestamp,
) -> Result<(), Failure> {
    let created_at = match blob {
        Some(blob) => get(blob, 3)?,
        None => stored(now),
    };
    let uri = quarantine_uri(item.id.cast_unsigned());
    // A blob with a part of an earlier retry that came to nothing, as this item is still here, is used again. One that
    // is of somebody who may send notifications, and who has thought of this name, is left alone.
    let insert = session
        .statement(
            "INSERT INTO blob (stream, content_id, uri, is_listed, created_at, expires_at, seen_at, whole_sinks, item, is_part)
             SELECT $1::bigint, $2::bytea, $3::bytea, true, $4::bigint, $5::bigint, $6::bigint,
                 CASE $8::bigint WHEN -1 THEN 0
                      ELSE (SELECT coalesce(bit_or(1::bigint << id::integer), 0) FROM sink WHERE id <> $8) END,
                 $7::bigint, true
             ON CONFLICT (stream, sha256(content_id)) DO UPDATE SET state = 0, due_at = 0, token = blob.token + 1,
                 attempts = 0, reason = NULL, settled_at = NULL, whole_sinks = excluded.whole_sinks, uri = excluded.uri,
                 item = excluded.item
             WHERE blob.is_part
             RETURNING id",
        )
        .await?;
    const { assert!(NO_SINK == -1, "the query spells it out") };
    let mut name = format!("{}~{}", item.content_id, item.id);
    loop {
        let id = ContentId::canonical(&name);
        let made = session
            .client
            .query_opt(
                &insert,
                &[
                    &item.stream,
                    &id.as_str().as_bytes(),
                    &uri.as_bytes(),
                    &created_at,
                    &never(),
                    &stored(now),
                    &item.id,
                    &item.sink,
                ],
            )
            .await?;
        if made.is_some() {
            return Ok(());
        }
        name.push('~');
    }
}

pub(super) async fn drop_item(
    session: &mut Session,
    id: u64,
    why: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    let (blob, item) = hold(session, id).await?;
    let mut changes = Changes::default();
    let item = item.filter(|item| !item.is_dropped && !item.is_retried);
    let is_dropped = item.is_some();
    if let Some(item) = item {
        let dropped = dropped_for(why);
        let update = session
            .statement(
                "UPDATE quarantine SET bytes = '', byte_count = 0, dropped_at = $2, reason = $3 || reason WHERE id = $1",
            )
            .await?;
        session
            .client
            .execute(&update, &[&item.id, &stored(now), &dropped.as_bytes()])
            .await?;
        let change = changes.of(item.stream);
        change.quarantined_byte_count -= item.byte_count;
        if item.record_index == WHOLE_BLOB {
            change.quarantined_count -= 1;
            change.dropped_count += 1;
            if let Some(blob) = blob {
                let update = session
                    .statement(
                        "UPDATE blob SET state = 6, uri = NULL, reason = $2 || reason WHERE id = $1 AND state = 4",
                    )
                    .await?;
                session
                    .client
                    .execute(&update, &[&get::<i64>(&blob, 0)?, &dropped.as_bytes()])
                    .await?;
            }
        } else {
            change.quarantined_record_count -= 1;
            change.dropped_record_count += 1;
        }
    }
    end(session, &changes).await?;
    Ok(is_dropped)
}

/// Adds to the totals, and commits.
async fn end(session: &mut Session, changes: &Changes) -> Result<(), Failure> {
    let add_totals = totals::statement(session).await?;
    let client = &session.client;
    let mut batch = Batch::new();
    if !changes.is_empty() {
        batch.add(changes.add(client, &add_totals));
    }
    batch.commit(client).await?;
    Ok(())
}

/// Takes an item out of the quarantine whose retry is settled, and gives its bytes if they are wanted. Within a
/// transaction that has the blob.
pub(super) async fn take_out(
    session: &mut Session,
    stream: i64,
    item: u64,
    wants_bytes: bool,
    changes: &mut Changes,
) -> Result<Vec<u8>, Failure> {
    let delete = session
        .statement(
            "DELETE FROM quarantine WHERE id = $1
             RETURNING record_index, byte_count, CASE WHEN $2 THEN bytes ELSE '' END",
        )
        .await?;
    let item = stored_count(item);
    let row = session
        .client
        .query_opt(&delete, &[&item, &wants_bytes])
        .await?;
    let Some(row) = row else {
        return Ok(Vec::new());
    };
    let change = changes.of(stream);
    change.quarantined_record_count -= i64::from(get::<i64>(&row, 0)? != WHOLE_BLOB);
    change.quarantined_byte_count -= get::<i64>(&row, 1)?;
    get(&row, 2)
}

/// Microsoft no longer has a blob that is retried: it goes back to where its bytes are. Gives false when there are none.
/// Within a transaction that has the blob, whose row's number is given, and whether it was made of a record.
pub(super) async fn put_back(
    session: &mut Session,
    (blob, is_part): (i64, bool),
    item: u64,
    reason: &str,
    now: Timestamp,
) -> Result<bool, Failure> {
    let find = session.statement(FIND).await?;
    let item = session
        .client
        .query_opt(&find, &[&stored_count(item)])
        .await?;
    let item = item.as_ref().map(item_of).transpose()?;
    let Some(item) = item.filter(|item| item.byte_count > 0) else {
        return Ok(false);
    };
    // The blob that was made of a record is over, whatever is said of it: the record is where it was.
    let state: i16 = if is_part { 5 } else { 4 };
    let update = session
        .statement(
            "UPDATE blob SET state = $2, uri = $3, reason = $4, settled_at = $5, item = NULL WHERE id = $1",
        )
        .await?;
    let uri = quarantine_uri(item.id.cast_unsigned());
    let reason = format!("{GONE_BUT_KEPT}{reason}");
    session
        .client
        .execute(
            &update,
            &[
                &blob,
                &state,
                &uri.as_bytes(),
                &reason.as_bytes(),
                &stored(now),
            ],
        )
        .await?;
    let update = session
        .statement("UPDATE quarantine SET retried_at = NULL WHERE id = $1")
        .await?;
    session.client.execute(&update, &[&item.id]).await?;
    Ok(true)
}

fn item_of(row: &Row) -> Result<Item, Failure> {
    Ok(Item {
        id: get(row, 0)?,
        stream: get(row, 1)?,
        content_id: text(row, 2)?,
        record_index: get(row, 3)?,
        sink: get(row, 4)?,
        byte_count: get(row, 5)?,
        is_retried: get(row, 6)?,
        is_dropped: get(row, 7)?,
    })
}
