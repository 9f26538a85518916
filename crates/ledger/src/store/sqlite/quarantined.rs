//! What is set aside, with its bytes. How it leaves is in [`retried`](super::retried).

use activity_api::ContentId;
use jiff::Timestamp;
use rusqlite::{Connection, MAIN_DB, OptionalExtension, ToSql, blob::ZeroBlob, params};

use crate::{QuarantinedItem, QuarantinedRecord};

use super::books::{Books, Sink, sink_name, stream_name};
use super::failure::{Failure, count, instant, stored, stored_count};
use super::schema::need_coverage;

/// `quarantine.record_index` of a blob that is set aside whole.
pub(super) const WHOLE_BLOB: i64 = -1;

/// `quarantine.sink` of what no sink was asked to take.
pub(super) const NO_SINK: i64 = -1;

/// From this length on, bytes are written into their row and not handed over with it: SQLite would copy them, and copy
/// them once more when it puts the row together. In between they are zeros, within the same transaction.
const LONG_BYTES: usize = 256 << 10;

pub(super) fn set_aside(
    books: &mut Books,
    records: &[QuarantinedRecord],
    now: Timestamp,
) -> Result<(), Failure> {
    for record in records {
        let stream = books.stream(record.tenant, record.content_type)?;
        let sink = record
            .sink
            .as_ref()
            .map(|name| books.sink(name))
            .transpose()?;
        let index = stored_count(record.record_index);
        let is_new = insert(
            books,
            stream,
            &record.content_id,
            index,
            sink,
            &record.reason,
            &record.bytes,
            now,
        )?;
        if is_new {
            books
                .statement(
                    "UPDATE stream SET quarantined_record_count = quarantined_record_count + 1 WHERE id = ?1",
                )?
                .execute([stream])?;
        }
    }
    Ok(())
}

/// Returns whether it was not in quarantine yet.
#[expect(
    clippy::too_many_arguments,
    reason = "the columns of one row, named by the two callers above each other"
)]
pub(super) fn insert(
    books: &Books,
    stream: i64,
    content_id: &ContentId,
    record_index: i64,
    sink: Option<Sink>,
    reason: &str,
    bytes: &[u8],
    now: Timestamp,
) -> Result<bool, Failure> {
    let is_long = bytes.len() >= LONG_BYTES;
    let zeros = ZeroBlob(bytes.len() as u64);
    let value: &dyn ToSql = match is_long {
        true => &zeros,
        false => &bytes,
    };
    let inserted = books
        .statement(
            "INSERT INTO quarantine (stream, content_id, record_index, sink, reason, byte_count, bytes, quarantined_at)
             VALUES (?1, ?2, ?3, ?4, ?5, length(?6), ?6, ?7) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            stream,
            content_id.as_str(),
            record_index,
            sink.map_or(NO_SINK, |sink| sink.id),
            reason,
            value,
            stored(now)
        ])?;
    if inserted > 0 && is_long {
        let connection = books.connection();
        let item = connection.last_insert_rowid();
        let mut blob = connection.blob_open(MAIN_DB, "quarantine", "bytes", item, false)?;
        blob.write_all_at(bytes, 0)?;
        blob.close()?;
    }
    if inserted > 0 {
        books
            .statement("UPDATE stream SET quarantined_byte_count = quarantined_byte_count + ?2 WHERE id = ?1")?
            .execute([stream, stored_count(bytes.len() as u64)])?;
    }
    Ok(inserted > 0)
}

pub(super) fn list(
    connection: &Connection,
    after: u64,
    max_count: usize,
) -> Result<Vec<QuarantinedItem>, Failure> {
    need_coverage(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT quarantine.id, tenant, content_type, content_id, record_index, name, reason, byte_count, quarantined_at,
             retried_at IS NOT NULL
         FROM quarantine JOIN stream ON stream.id = quarantine.stream LEFT JOIN sink ON sink.id = quarantine.sink
         WHERE quarantine.id > ?1 AND dropped_at IS NULL ORDER BY quarantine.id LIMIT ?2",
    )?;
    let limit = i64::try_from(max_count).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![stored_count(after), limit])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let (tenant, content_type) = stream_name(row, 1)?;
        let record_index: i64 = row.get(4)?;
        let has_sink = row.get_ref(5)? != rusqlite::types::ValueRef::Null;
        items.push(QuarantinedItem {
            id: count(row.get(0)?)?,
            tenant,
            content_type,
            content_id: ContentId::canonical(row.get_ref(3)?.as_str()?),
            record_index: if record_index == WHOLE_BLOB {
                None
            } else {
                Some(count(record_index)?)
            },
            sink: if has_sink {
                Some(sink_name(row, 5)?)
            } else {
                None
            },
            reason: row.get(6)?,
            byte_count: count(row.get(7)?)?,
            quarantined_at: instant(row.get(8)?)?,
            is_retried: row.get(9)?,
        });
    }
    Ok(items)
}

pub(super) fn bytes(connection: &Connection, id: u64) -> Result<Option<Vec<u8>>, Failure> {
    need_coverage(connection)?;
    let bytes = connection
        .prepare_cached("SELECT bytes FROM quarantine WHERE id = ?1 AND dropped_at IS NULL")?
        .query_row([stored_count(id)], |row| row.get(0))
        .optional()?;
    Ok(bytes)
}
