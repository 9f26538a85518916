//! Blobs that discovery found.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::store::{DAY, stored};
use crate::{BlobName, SeenBlob, SeenVia};

use super::failure::{Failure, content_id, get};
use super::session::{Session, StreamName};

/// Blobs in one statement: enough for a listing's page several times over, few enough for its locks to be short.
const MAX_AT_ONCE: usize = 2_000;

/// Each of them is noted wholly or not at all, and a call is several statements.
pub(super) async fn note_new(
    session: &mut Session,
    seen: &[SeenBlob],
    now: Timestamp,
) -> Result<Vec<BlobName>, Failure> {
    session.ensure_streams(seen.iter().map(stream_of)).await?;
    let mut new = Vec::new();
    for seen in seen.chunks(MAX_AT_ONCE) {
        note_some(session, seen, now, &mut new).await?;
    }
    Ok(new)
}

fn stream_of(blob: &SeenBlob) -> StreamName {
    (blob.tenant, blob.content_type)
}

/// The columns of what was seen, each blob once, in one order: two who note the same blobs wait for each other in that
/// order, and never in a ring.
#[derive(Default)]
struct Columns<'a> {
    stream: Vec<i64>,
    content_id: Vec<&'a [u8]>,
    uri: Vec<&'a [u8]>,
    is_listed: Vec<bool>,
    created_at: Vec<i64>,
    created_on: Vec<i64>,
    expires_at: Vec<i64>,
}

async fn note_some(
    session: &mut Session,
    seen: &[SeenBlob],
    now: Timestamp,
    new: &mut Vec<BlobName>,
) -> Result<(), Failure> {
    let streams = session.known_streams(seen.iter().map(stream_of)).await?;
    let mut once: BTreeMap<(i64, &[u8]), &SeenBlob> = BTreeMap::new();
    for blob in seen {
        let Some(&stream) = streams.get(&stream_of(blob)) else {
            continue;
        };
        once.entry((stream, blob.content_id.as_str().as_bytes()))
            .and_modify(|first| {
                // As if they had come one after the other.
                if first.seen_via == SeenVia::Notification && blob.seen_via == SeenVia::Listing {
                    *first = blob;
                }
            })
            .or_insert(blob);
    }
    let mut columns = Columns::default();
    for ((stream, id), blob) in once {
        let created_at = stored(blob.created_at);
        columns.stream.push(stream);
        columns.content_id.push(id);
        columns.uri.push(blob.uri.as_bytes());
        columns.is_listed.push(blob.seen_via == SeenVia::Listing);
        columns.created_at.push(created_at);
        columns.created_on.push(created_at.div_euclid(DAY) * DAY);
        columns.expires_at.push(stored(blob.expires_at));
    }
    // An expired blob whose day has forgotten blobs, and whose time was listed, is taken for one of those: noted as new it
    // would only be asked for, found gone, and be counted as lost. One of a time that was never listed is noted all the
    // same: nothing says that it was ever had.
    //
    // Those that are there are left out before they can conflict, as each conflict would use up a number.
    let insert = session
        .statement(
            "INSERT INTO blob (stream, content_id, uri, is_listed, created_at, expires_at, seen_at)
             SELECT stream, content_id, uri, is_listed, created_at, expires_at, $8
             FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bigint[])
                 WITH ORDINALITY AS seen (stream, content_id, uri, is_listed, created_at, created_on, expires_at, place)
             WHERE NOT EXISTS (SELECT FROM blob
                               WHERE blob.stream = seen.stream AND sha256(blob.content_id) = sha256(seen.content_id))
               AND NOT (expires_at <= $8
                        AND EXISTS (SELECT FROM forgotten_day
                                    WHERE forgotten_day.stream = seen.stream AND start_at = created_on)
                        AND EXISTS (SELECT FROM listed
                                    WHERE listed.stream = seen.stream AND start_at <= created_at AND end_at > created_at))
             ORDER BY place
             ON CONFLICT DO NOTHING
             RETURNING stream, content_id",
        )
        .await?;
    let inserted = session
        .client
        .query(
            &insert,
            &[
                &columns.stream,
                &columns.content_id,
                &columns.uri,
                &columns.is_listed,
                &columns.created_at,
                &columns.created_on,
                &columns.expires_at,
                &stored(now),
            ],
        )
        .await?;
    let mut fresh = HashSet::new();
    for row in &inserted {
        let (stream, id): (i64, &[u8]) = (get(row, 0)?, get(row, 1)?);
        fresh.insert((stream, id));
        let (tenant, content_type) = session.stream_name(stream).await?;
        new.push(BlobName {
            tenant,
            content_type,
            content_id: content_id(row, 1)?,
        });
    }
    let is_old = |index: &usize| {
        let blob = (columns.stream.get(*index), columns.content_id.get(*index));
        matches!(blob, (Some(stream), Some(id)) if !fresh.contains(&(*stream, *id)))
    };
    let listed = columns.is_listed.iter().enumerate();
    let old: Vec<usize> = listed
        .filter_map(|(index, is_listed)| is_listed.then_some(index))
        .filter(is_old)
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    replace_notified(session, &columns, &old).await
}

/// A listing's word replaces that of a notification, which anyone could have imitated.
async fn replace_notified(
    session: &mut Session,
    columns: &Columns<'_>,
    old: &[usize],
) -> Result<(), Failure> {
    let update = session
        .statement(
            "WITH seen AS MATERIALIZED (
                 SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
                     AS seen (stream, content_id, uri, created_at, expires_at)
             ), notified AS MATERIALIZED (
                 SELECT blob.id, seen.uri, seen.created_at, seen.expires_at FROM seen
                 JOIN blob ON blob.stream = seen.stream AND sha256(blob.content_id) = sha256(seen.content_id)
                 WHERE blob.state < 3 AND NOT blob.is_listed
                 ORDER BY blob.id FOR UPDATE OF blob
             )
             UPDATE blob SET uri = notified.uri, is_listed = true, created_at = notified.created_at,
                 expires_at = notified.expires_at
             FROM notified WHERE blob.id = notified.id",
        )
        .await?;
    let of = |column: &[i64]| -> Vec<i64> {
        let at = |index: &usize| column.get(*index).copied();
        old.iter().filter_map(at).collect()
    };
    let bytes_of = |column: &'_ [&'_ [u8]]| -> Vec<Vec<u8>> {
        let at = |index: &usize| column.get(*index).map(|bytes| bytes.to_vec());
        old.iter().filter_map(at).collect()
    };
    session
        .client
        .execute(
            &update,
            &[
                &of(&columns.stream),
                &bytes_of(&columns.content_id),
                &bytes_of(&columns.uri),
                &of(&columns.created_at),
                &of(&columns.expires_at),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn unknown(
    session: &mut Session,
    names: &[BlobName],
) -> Result<Vec<BlobName>, Failure> {
    let select = session
        .statement(
            "SELECT place FROM unnest($1::text[], $2::text[], $3::bytea[])
                 WITH ORDINALITY AS wanted (tenant, content_type, content_id, place)
             WHERE NOT EXISTS (
                 SELECT FROM stream
                 JOIN blob ON blob.stream = stream.id AND sha256(blob.content_id) = sha256(wanted.content_id)
                 WHERE stream.tenant = wanted.tenant AND stream.content_type = wanted.content_type)
             ORDER BY place",
        )
        .await?;
    let mut unknown = Vec::new();
    for names in names.chunks(MAX_AT_ONCE) {
        let tenants: Vec<String> = names.iter().map(|name| name.tenant.to_string()).collect();
        let types: Vec<&str> = names
            .iter()
            .map(|name| name.content_type.as_str())
            .collect();
        let ids: Vec<&[u8]> = names
            .iter()
            .map(|name| name.content_id.as_str().as_bytes())
            .collect();
        let rows = session
            .client
            .query(&select, &[&tenants, &types, &ids])
            .await?;
        for row in &rows {
            let place: i64 = get(row, 0)?;
            let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
            unknown.extend(names.get(index).cloned());
        }
    }
    Ok(unknown)
}
