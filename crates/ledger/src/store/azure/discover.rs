//! Blobs that discovery found.

use std::collections::BTreeMap;

use activity_api::TenantId;
use azure::storage::Error as StorageError;
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::store::stored;
use crate::{BlobName, Error, SeenBlob, SeenVia};

use super::books::{Books, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{known_row, number_of, partition_of, random};
use super::rows::{DueRow, Known, State, Unsettled};
use super::{announce, compact};

/// Blobs added in one transaction, each with two rows.
const BATCH: usize = 40;

/// A blob that is to be noted, with its number.
struct Noted {
    number: u128,
    seen: SeenBlob,
}

pub(super) async fn note_new(
    books: &Books,
    seen: Vec<SeenBlob>,
    now: Timestamp,
) -> Result<Vec<BlobName>, Error> {
    let noted_by = random();
    let mut by_tenant: BTreeMap<TenantId, Vec<Noted>> = BTreeMap::new();
    let mut later = Vec::new();
    let mut named = std::collections::HashSet::new();
    for seen in seen {
        let number = number_of(seen.content_type, &seen.content_id);
        if books.is_known(seen.tenant, number, seen.seen_via == SeenVia::Listing) {
            continue;
        }
        if seen.expires_at <= now && compact::is_forgotten(books, &seen, number).await? {
            continue;
        }
        let noted = Noted { number, seen };
        // Named twice in one call: the second time it is known.
        if named.insert((noted.seen.tenant, number)) {
            by_tenant.entry(noted.seen.tenant).or_default().push(noted);
        } else {
            later.push(noted);
        }
    }
    let mut new = Vec::new();
    for (tenant, blobs) in by_tenant {
        books.register(tenant).await?;
        new.extend(note_of_tenant(books, blobs, noted_by, now).await?);
    }
    for noted in later {
        note_one(books, &noted, noted_by, now).await?;
    }
    announce::announce_new(books, &new).await;
    let name = |blob: Unsettled| BlobName {
        tenant: blob.tenant,
        content_type: blob.content_type,
        content_id: blob.content_id,
    };
    Ok(new.into_iter().map(name).collect())
}

pub(super) async fn unknown(books: &Books, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
    let looks = names.into_iter().map(async |name| {
        let number = number_of(name.content_type, &name.content_id);
        let partition = partition_of(name.tenant);
        let row = books.door.get(&partition, &known_row(number)).await?;
        Ok(row.is_none().then_some(name))
    });
    let unknown = together(looks.collect()).await?;
    Ok(unknown.into_iter().flatten().collect())
}

/// Notes blobs of one tenant and returns those that are new, as they are stored.
///
/// They are added in large transactions as long as all in one are new. From the first that is not, each is added by
/// itself: where one blob of a listing is known, most are.
async fn note_of_tenant(
    books: &Books,
    blobs: Vec<Noted>,
    noted_by: u64,
    now: Timestamp,
) -> Result<Vec<Unsettled>, Error> {
    let mut new = Vec::new();
    let mut all_new = true;
    for chunk in blobs.chunks(BATCH) {
        if chunk.len() > 1 && all_new {
            if let Some(added) = add_together(books, chunk, noted_by, now).await? {
                new.extend(added);
                continue;
            }
            all_new = false;
        }
        let singly = chunk
            .iter()
            .map(|noted| note_one(books, noted, noted_by, now));
        new.extend(together(singly.collect()).await?.into_iter().flatten());
    }
    Ok(new)
}

/// Adds them all if none is known.
async fn add_together(
    books: &Books,
    chunk: &[Noted],
    noted_by: u64,
    now: Timestamp,
) -> Result<Option<Vec<Unsettled>>, Error> {
    let mut changes = Vec::new();
    let mut new = Vec::new();
    for noted in chunk {
        let blob = unsettled(books, noted, noted_by, now);
        changes.extend(additions(noted, &blob, noted_by));
        new.push(blob);
    }
    match books.door.batch(&changes).await? {
        Ok(_) => {
            for noted in chunk {
                remember(books, noted);
            }
            Ok(Some(new))
        }
        // One is known, or they were added by an earlier try whose answer did not come.
        Err(StorageError::AlreadyExists | StorageError::Changed) => Ok(None),
        Err(error) => Err(refused("noting blobs", error)),
    }
}

/// Notes one blob; gives it back if it is new.
async fn note_one(
    books: &Books,
    noted: &Noted,
    noted_by: u64,
    now: Timestamp,
) -> Result<Option<Unsettled>, Error> {
    let blob = unsettled(books, noted, noted_by, now);
    let changes = additions(noted, &blob, noted_by);
    match books.door.batch(&changes).await? {
        Ok(_) => {
            remember(books, noted);
            return Ok(Some(blob));
        }
        Err(StorageError::AlreadyExists) => {}
        Err(error) => return Err(refused("noting a blob", error)),
    }
    let via_listing = noted.seen.seen_via == SeenVia::Listing;
    let partition = partition_of(noted.seen.tenant);
    for _ in 0..MAX_RACES {
        let Some(row) = books.door.get(&partition, &known_row(noted.number)).await? else {
            continue;
        };
        let known = Known::read(&row.entity)?;
        // Added by an earlier try of this very call, alone or with others, whose answer did not come.
        let is_new = known.noted_by == noted_by;
        let is_over = known.is_settled();
        if !via_listing || known.is_listed || is_over {
            books.remember_known(noted.seen.tenant, noted.number, known.is_listed || is_over);
            return Ok(is_new.then_some(blob));
        }
        if believe_listing(books, noted, known, row.etag).await? {
            remember(books, noted);
            return Ok(is_new.then_some(blob));
        }
    }
    Err(Error::Busy(std::sync::Arc::new(TooManyRaces)))
}

/// Puts a listing's uri and times in the place of a notification's. Gives false when someone got ahead.
async fn believe_listing(
    books: &Books,
    noted: &Noted,
    mut known: Known,
    known_etag: String,
) -> Result<bool, Error> {
    let State::Unsettled { due_row } = &known.state else {
        return Ok(false);
    };
    let partition = partition_of(noted.seen.tenant);
    let Some(row) = books.door.get(&partition, due_row).await? else {
        return Ok(false);
    };
    let row = DueRow::read(noted.seen.tenant, row)?;
    let mut blob = row.blob.clone();
    blob.uri.clone_from(&noted.seen.uri);
    blob.created_at = noted.seen.created_at;
    blob.expires_at = noted.seen.expires_at;
    blob.written_by = random();
    let mut changes = if blob.due_row() == *due_row {
        vec![Change::Replace {
            entity: blob.to_entity(),
            etag: row.etag,
        }]
    } else {
        vec![
            Change::Delete {
                partition,
                row: due_row.clone(),
                etag: row.etag,
            },
            Change::Insert(blob.to_entity()),
        ]
    };
    known.is_listed = true;
    known.created_at = Some(blob.created_at);
    known.expires_at = Some(blob.expires_at);
    known.state = State::Unsettled {
        due_row: blob.due_row(),
    };
    changes.push(Change::Replace {
        entity: known.to_entity(noted.seen.tenant, noted.number),
        etag: known_etag,
    });
    books.let_go(noted.seen.tenant, noted.number);
    match books.door.batch(&changes).await? {
        Ok(_) => Ok(true),
        Err(StorageError::Changed | StorageError::NotFound | StorageError::AlreadyExists) => {
            Ok(false)
        }
        Err(error) => Err(refused("believing a listing", error)),
    }
}

fn remember(books: &Books, noted: &Noted) {
    let is_listed = noted.seen.seen_via == SeenVia::Listing;
    books.remember_known(noted.seen.tenant, noted.number, is_listed);
}

fn unsettled(books: &Books, noted: &Noted, noted_by: u64, now: Timestamp) -> Unsettled {
    let seen = &noted.seen;
    let is_announced = books.door.options.wake_queue.is_some();
    Unsettled {
        tenant: seen.tenant,
        number: noted.number,
        content_type: seen.content_type,
        content_id: seen.content_id.clone(),
        noted_by,
        uri: seen.uri.clone(),
        created_at: seen.created_at,
        expires_at: seen.expires_at,
        attempts: 0,
        not_before: i64::MIN,
        leased_until: i64::MIN,
        announced_until: if is_announced {
            stored(now).saturating_add(announce::STALE_AFTER)
        } else {
            i64::MIN
        },
        token: 0,
        reason: String::new(),
        acknowledged: Vec::new(),
        item: None,
        is_part: false,
        written_by: noted_by,
    }
}

fn additions(noted: &Noted, blob: &Unsettled, noted_by: u64) -> [Change; 2] {
    let known = Known {
        content_type: noted.seen.content_type,
        content_id: noted.seen.content_id.clone(),
        noted_by,
        is_listed: noted.seen.seen_via == SeenVia::Listing,
        created_at: Some(blob.created_at),
        expires_at: Some(blob.expires_at),
        is_part: false,
        state: State::Unsettled {
            due_row: blob.due_row(),
        },
    };
    [
        Change::Insert(known.to_entity(noted.seen.tenant, noted.number)),
        Change::Insert(blob.to_entity()),
    ]
}
