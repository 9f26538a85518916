//! What is set aside, with its bytes. How it leaves is in [`retried`](super::retried).

use activity_api::ContentId;
use jiff::Timestamp;

use crate::store::stored;
use crate::{QuarantinedItem, QuarantinedRecord};

use super::failure::{Failure, content_id, count, get, instant, stored_count, text, to_count};
use super::session::{Batch, Session, Sink, sink_name, stream_name};
use super::totals::{self, Changes};

/// `quarantine.record_index` of a blob that is set aside whole.
pub(super) const WHOLE_BLOB: i64 = -1;

/// `quarantine.sink` of what no sink was asked to take.
pub(super) const NO_SINK: i64 = -1;

/// Bytes in one statement: each may be tens of megabytes long, and all of one statement are in memory once more.
const MAX_BYTES_AT_ONCE: usize = 8 << 20;

/// Rows in one statement.
const MAX_AT_ONCE: usize = 1_000;

/// Something that is set aside.
pub(super) struct Aside<'a> {
    pub(super) stream: i64,
    pub(super) content_id: &'a ContentId,
    pub(super) record_index: i64,
    pub(super) sink: Option<Sink>,
    pub(super) reason: &'a str,
    pub(super) bytes: &'a [u8],
}

impl<'a> Aside<'a> {
    /// A single record, with the numbers of its stream and its sink.
    pub(super) async fn of(
        session: &mut Session,
        record: &'a QuarantinedRecord,
    ) -> Result<Self, Failure> {
        let sink = match &record.sink {
            Some(name) => Some(session.sink(name).await?),
            None => None,
        };
        Ok(Self {
            stream: session.stream((record.tenant, record.content_type)).await?,
            content_id: &record.content_id,
            record_index: stored_count(record.record_index),
            sink,
            reason: &record.reason,
            bytes: &record.bytes,
        })
    }

    /// What tells it from all others, in the order in which they are written by everybody.
    fn place(&self) -> (i64, &str, i64, i64) {
        let sink = self.sink.map_or(NO_SINK, |sink| sink.id);
        (
            self.stream,
            self.content_id.as_str(),
            self.record_index,
            sink,
        )
    }
}

pub(super) async fn set_aside(
    session: &mut Session,
    records: &[QuarantinedRecord],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut asides = Vec::with_capacity(records.len());
    for record in records {
        asides.push(Aside::of(session, record).await?);
    }
    let add_totals = totals::statement(session).await?;
    session.client.batch_execute("BEGIN").await?;
    let mut changes = Changes::default();
    set_aside_all(session, &asides, now, &mut changes).await?;
    let client = &session.client;
    let mut batch = Batch::new();
    if !changes.is_empty() {
        batch.add(changes.add(client, &add_totals));
    }
    batch.commit(client).await?;
    Ok(())
}

/// Sets aside those that are not in quarantine yet, within a transaction, and notes the change to the totals. Of a whole
/// blob only its bytes are noted.
pub(super) async fn set_aside_all(
    session: &mut Session,
    asides: &[Aside<'_>],
    now: Timestamp,
    changes: &mut Changes,
) -> Result<(), Failure> {
    if asides.is_empty() {
        return Ok(());
    }
    // In the order in which they came, as that is the order of their numbers. Two who set aside the same records of the
    // same blob do it in the same order as well; of any other order the server makes one of them begin again.
    let mut once = std::collections::HashSet::new();
    let asides: Vec<&Aside<'_>> = asides
        .iter()
        .filter(|aside| once.insert(aside.place()))
        .collect();
    let insert = session
        .statement(
            "INSERT INTO quarantine (stream, content_id, record_index, sink, reason, byte_count, bytes, quarantined_at)
             SELECT stream, content_id, record_index, sink, reason, length(bytes), bytes, $7
             FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[])
                 WITH ORDINALITY AS new (stream, content_id, record_index, sink, reason, bytes, place)
             WHERE NOT EXISTS (
                 SELECT FROM quarantine AS old
                 WHERE old.stream = new.stream AND sha256(old.content_id) = sha256(new.content_id)
                   AND old.record_index = new.record_index AND old.sink = new.sink)
             ORDER BY place
             ON CONFLICT DO NOTHING
             RETURNING stream, record_index, byte_count",
        )
        .await?;
    let mut rest = asides.as_slice();
    while !rest.is_empty() {
        let (some, others) = rest.split_at(some_of(rest));
        rest = others;
        let ids: Vec<&[u8]> = some
            .iter()
            .map(|aside| aside.content_id.as_str().as_bytes())
            .collect();
        let reasons: Vec<&[u8]> = some.iter().map(|aside| aside.reason.as_bytes()).collect();
        let bytes: Vec<&[u8]> = some.iter().map(|aside| aside.bytes).collect();
        let column =
            |of: fn(&Aside<'_>) -> i64| some.iter().map(|aside| of(aside)).collect::<Vec<_>>();
        let rows = session
            .client
            .query(
                &insert,
                &[
                    &column(|aside| aside.stream),
                    &ids,
                    &column(|aside| aside.record_index),
                    &column(|aside| aside.sink.map_or(NO_SINK, |sink| sink.id)),
                    &reasons,
                    &bytes,
                    &stored(now),
                ],
            )
            .await?;
        for row in &rows {
            let change = changes.of(get(row, 0)?);
            change.quarantined_byte_count += get::<i64>(row, 2)?;
            if get::<i64>(row, 1)? != WHOLE_BLOB {
                change.quarantined_record_count += 1;
            }
        }
    }
    Ok(())
}

/// How many go into one statement: at least one.
fn some_of(asides: &[&Aside<'_>]) -> usize {
    let mut byte_count = 0_usize;
    let fits = asides.iter().take(MAX_AT_ONCE).take_while(|aside| {
        byte_count = byte_count.saturating_add(aside.bytes.len());
        byte_count <= MAX_BYTES_AT_ONCE
    });
    fits.count().max(1)
}

pub(super) async fn list(
    session: &mut Session,
    after: u64,
    max_count: usize,
) -> Result<Vec<QuarantinedItem>, Failure> {
    let select = session
        .statement(
            "SELECT quarantine.id, tenant, content_type, content_id, record_index, name, reason, byte_count, quarantined_at,
                 retried_at IS NOT NULL
             FROM quarantine JOIN stream ON stream.id = quarantine.stream LEFT JOIN sink ON sink.id = quarantine.sink
             WHERE quarantine.id > $1 AND dropped_at IS NULL ORDER BY quarantine.id LIMIT $2",
        )
        .await?;
    let limit = i64::try_from(max_count).unwrap_or(i64::MAX);
    let rows = session
        .client
        .query(&select, &[&stored_count(after), &limit])
        .await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let (tenant, content_type) = stream_name(row, 1)?;
        let record_index: i64 = get(row, 4)?;
        let has_sink = get::<Option<&str>>(row, 5)?.is_some();
        items.push(QuarantinedItem {
            id: count(row, 0)?,
            tenant,
            content_type,
            content_id: content_id(row, 3)?,
            record_index: match record_index {
                WHOLE_BLOB => None,
                index => Some(to_count(index)?),
            },
            sink: has_sink.then(|| sink_name(row, 5)).transpose()?,
            reason: text(row, 6)?,
            byte_count: count(row, 7)?,
            quarantined_at: instant(row, 8)?,
            is_retried: get(row, 9)?,
        });
    }
    Ok(items)
}

pub(super) async fn bytes(session: &mut Session, id: u64) -> Result<Option<Vec<u8>>, Failure> {
    let select = session
        .statement("SELECT bytes FROM quarantine WHERE id = $1 AND dropped_at IS NULL")
        .await?;
    let row = session
        .client
        .query_opt(&select, &[&stored_count(id)])
        .await?;
    row.map(|row| get(&row, 0)).transpose()
}
