//! How things leave the quarantine. Items are in one partition and blobs in another, so that each of these is two
//! transactions: the blob's comes first and decides, and whoever asks next brings the item's to its end.

use std::sync::Arc;

use activity_api::{ContentId, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::quarantine::{QUARANTINE_SCHEME, dropped_for, quarantine_uri};
use crate::store::never;
use crate::{AcknowledgedPart, Error, QuarantinedItem, SinkName};

use super::books::{Books, MAX_RACES, TooManyRaces};
use super::door::refused;
use super::names::{known_row, number_of, partition_of, random};
use super::quarantined;
use super::rows::{End, EndKind, Known, State, Unsettled, corrupt_by, to_instant};
use super::settling::{Counts, commit_counted};

/// What stands in the way of an item, or not.
enum Blob {
    /// No such blob.
    Missing,
    /// It waits, or a worker has it.
    Unsettled(Known),
    /// It ended so, in a row with this etag.
    Settled(Known, End, String),
}

async fn blob(books: &Books, tenant: TenantId, number: u128) -> Result<Blob, Error> {
    let partition = partition_of(tenant);
    let Some(row) = books.door.get(&partition, &known_row(number)).await? else {
        return Ok(Blob::Missing);
    };
    let known = Known::read(&row.entity)?;
    Ok(match &known.state {
        State::Unsettled { .. } => Blob::Unsettled(known),
        State::Settled(end) => {
            let end = end.clone();
            Blob::Settled(known, end, row.etag)
        }
    })
}

pub(super) async fn retry(books: &Books, id: u64, now: Timestamp) -> Result<bool, Error> {
    let Some(item) = quarantined::find(books, id).await? else {
        return Ok(false);
    };
    for _ in 0..MAX_RACES {
        let is_begun = if item.record_index.is_none() {
            revive(books, &item, now).await?
        } else {
            make_part(books, &item, now).await?
        };
        match is_begun {
            Step::Begun => {
                quarantined::note_retried(books, id, Some(now)).await?;
                return Ok(true);
            }
            Step::Over => {
                quarantined::take_out(books, id).await?;
                return Ok(false);
            }
            Step::Nothing => return Ok(false),
            Step::Again => {}
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

/// What came of a try to begin a retry.
enum Step {
    /// It waits or is under way.
    Begun,
    /// It has come to its end before, and the item has yet to leave.
    Over,
    /// There is nothing to retry.
    Nothing,
    /// Someone got ahead.
    Again,
}

/// Makes a whole blob pending again, with what sinks have of it wholly: what a sink has is a fact.
async fn revive(books: &Books, item: &QuarantinedItem, now: Timestamp) -> Result<Step, Error> {
    let number = number_of(item.content_type, &item.content_id);
    let (known, end, etag) = match blob(books, item.tenant, number).await? {
        Blob::Missing => return Ok(Step::Nothing),
        Blob::Unsettled(_) => return Ok(Step::Begun),
        Blob::Settled(known, end, etag) => match end.kind {
            EndKind::Quarantined => (known, end, etag),
            EndKind::Delivered | EndKind::Expired => return Ok(Step::Over),
            EndKind::Dropped => {
                quarantined::drop_bytes(books, item.id, "", now).await?;
                return Ok(Step::Nothing);
            }
        },
    };
    // Without bytes there is nothing to try but what Microsoft may still have.
    let expires_at = known.expires_at.unwrap_or(now);
    let has_bytes = quarantined::has_bytes(books, item.id).await?;
    let is_to_be_had = now < expires_at || !has_bytes;
    let is_microsofts = !end.uri.is_empty() && !end.uri.starts_with(QUARANTINE_SCHEME);
    let (uri, expires_at) = if is_to_be_had && is_microsofts {
        (end.uri.clone(), expires_at)
    } else {
        (quarantine_uri(item.id), to_instant(never())?)
    };
    let sinks = end.whole.split(',').filter(|name| !name.is_empty());
    let sinks: Result<Vec<SinkName>, _> = sinks.map(str::parse).collect();
    let sinks = sinks.map_err(|error| corrupt_by("a sink's name", error))?;
    let created_at = known.created_at.unwrap_or(item.quarantined_at);
    let next = pending(
        item,
        &known.content_id,
        uri,
        (created_at, expires_at),
        sinks,
        known.is_part,
    );
    reopen(books, known, &next, etag).await
}

/// Puts a settled blob among the unsettled, in one transaction with what that changes in the counts.
async fn reopen(
    books: &Books,
    known: Known,
    next: &Unsettled,
    etag: String,
) -> Result<Step, Error> {
    let is_set_aside =
        matches!(&known.state, State::Settled(end) if end.kind == EndKind::Quarantined);
    let left = Counts {
        left: u64::from(is_set_aside),
        ..Counts::default()
    };
    let known = Known {
        created_at: Some(next.created_at),
        expires_at: Some(next.expires_at),
        state: State::Unsettled {
            due_row: next.due_row(),
        },
        ..known
    };
    let changes = vec![
        Change::Replace {
            entity: known.to_entity(next.tenant, next.number),
            etag,
        },
        Change::Insert(next.to_entity()),
    ];
    let is_done = commit_counted(books, next.tenant, next.content_type, &left, changes).await?;
    Ok(if is_done { Step::Begun } else { Step::Again })
}

fn pending(
    item: &QuarantinedItem,
    content_id: &ContentId,
    uri: String,
    (created_at, expires_at): (Timestamp, Timestamp),
    whole: impl IntoIterator<Item = SinkName>,
    is_part: bool,
) -> Unsettled {
    let mut acknowledged: Vec<_> = whole
        .into_iter()
        .map(|sink| (sink, AcknowledgedPart::Whole))
        .collect();
    acknowledged.sort();
    Unsettled {
        tenant: item.tenant,
        number: number_of(item.content_type, content_id),
        content_type: item.content_type,
        content_id: content_id.clone(),
        noted_by: random(),
        uri,
        created_at,
        expires_at,
        attempts: 0,
        not_before: i64::MIN,
        leased_until: i64::MIN,
        // Told of within the minute, as what waits is.
        announced_until: i64::MIN,
        token: 0,
        reason: String::new(),
        acknowledged,
        item: Some(item.id),
        is_part,
        written_by: random(),
    }
}

/// Makes a blob of a single record.
async fn make_part(books: &Books, item: &QuarantinedItem, now: Timestamp) -> Result<Step, Error> {
    let parent = number_of(item.content_type, &item.content_id);
    let created_at = match blob(books, item.tenant, parent).await? {
        Blob::Missing => None,
        Blob::Unsettled(known) | Blob::Settled(known, ..) => known.created_at,
    };
    let sinks: Vec<_> = match &item.sink {
        None => Vec::new(),
        Some(refused_by) => {
            let sinks = books.all_sinks().await?.into_iter();
            sinks.filter(|sink| sink != refused_by).collect()
        }
    };
    let times = (created_at.unwrap_or(now), to_instant(never())?);
    let uri = quarantine_uri(item.id);
    let mut name = part_name(item);
    loop {
        let content_id = ContentId::canonical(&name);
        let next = pending(item, &content_id, uri.clone(), times, sinks.clone(), true);
        match blob(books, item.tenant, next.number).await? {
            Blob::Missing => return insert_part(books, &next).await,
            Blob::Unsettled(known) if known.is_part => return Ok(Step::Begun),
            Blob::Settled(known, end, etag) if known.is_part => {
                return match end.kind {
                    EndKind::Expired => reopen(books, known, &next, etag).await,
                    EndKind::Delivered | EndKind::Quarantined | EndKind::Dropped => Ok(Step::Over),
                };
            }
            // Somebody who may send notifications has thought of this name.
            Blob::Unsettled(_) | Blob::Settled(..) => name.push('~'),
        }
    }
}

fn part_name(item: &QuarantinedItem) -> String {
    format!("{}~{}", item.content_id.as_str(), item.id)
}

async fn insert_part(books: &Books, next: &Unsettled) -> Result<Step, Error> {
    books.register(next.tenant).await?;
    let known = Known {
        content_type: next.content_type,
        content_id: next.content_id.clone(),
        noted_by: next.noted_by,
        is_listed: true,
        created_at: Some(next.created_at),
        expires_at: Some(next.expires_at),
        is_part: true,
        state: State::Unsettled {
            due_row: next.due_row(),
        },
    };
    let changes = [
        Change::Insert(known.to_entity(next.tenant, next.number)),
        Change::Insert(next.to_entity()),
    ];
    match books.door.batch(&changes).await? {
        Ok(_) => Ok(Step::Begun),
        Err(StorageError::AlreadyExists | StorageError::Changed) => Ok(Step::Again),
        Err(error) => Err(refused("retrying a record", error)),
    }
}

pub(super) async fn drop_item(
    books: &Books,
    id: u64,
    why: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let why = dropped_for(why);
    let Some(item) = quarantined::find(books, id).await? else {
        return Ok(false);
    };
    if item.record_index.is_some() {
        return drop_record(books, &item, &why, now).await;
    }
    let number = number_of(item.content_type, &item.content_id);
    for _ in 0..MAX_RACES {
        let (known, end, etag) = match blob(books, item.tenant, number).await? {
            Blob::Missing | Blob::Unsettled(_) => return Ok(false),
            Blob::Settled(known, end, etag) => (known, end, etag),
        };
        match end.kind {
            EndKind::Delivered | EndKind::Expired => {
                quarantined::take_out(books, id).await?;
                return Ok(false);
            }
            EndKind::Dropped => return quarantined::drop_bytes(books, id, &why, now).await,
            EndKind::Quarantined => {}
        }
        let dropped = Known {
            state: State::Settled(End {
                kind: EndKind::Dropped,
                reason: format!("{why}{}", end.reason),
                uri: String::new(),
                ..end
            }),
            ..known
        };
        let added = Counts {
            left: 1,
            dropped: 1,
            ..Counts::default()
        };
        let replace = Change::Replace {
            entity: dropped.to_entity(item.tenant, number),
            etag,
        };
        let changes = vec![replace];
        if commit_counted(books, item.tenant, item.content_type, &added, changes).await? {
            return quarantined::drop_bytes(books, id, &why, now).await;
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

async fn drop_record(
    books: &Books,
    item: &QuarantinedItem,
    why: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut name = part_name(item);
    loop {
        let number = number_of(item.content_type, &ContentId::canonical(&name));
        match blob(books, item.tenant, number).await? {
            Blob::Unsettled(known) if known.is_part => return Ok(false),
            Blob::Settled(known, end, _) if known.is_part && end.kind != EndKind::Expired => {
                quarantined::take_out(books, item.id).await?;
                return Ok(false);
            }
            Blob::Unsettled(known) | Blob::Settled(known, ..) if !known.is_part => name.push('~'),
            _ => return quarantined::drop_bytes(books, item.id, why, now).await,
        }
    }
}
