//! Leases given out, extended and given back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use activity_api::TenantId;
use azure::storage::Error as StorageError;
use azure::storage::batch::MAX_CHANGES;
use azure::storage::tables::{Change, Continuation, MAX_PAGE, Query, quoted};
use jiff::{SignedDuration, Timestamp};

use crate::store::stored;
use crate::{Error, Lease, LeaseKey, LeaseRequest};

use super::books::{Amended, Books, Found, MAX_RACES, TooManyRaces, together};
use super::door::refused;
use super::names::{between, number_of, partition_of, random};
use super::rows::{DueRow, Unsettled, to_instant, whole_sinks};

/// What every blob of one request gets.
struct Terms<'a> {
    request: &'a LeaseRequest,
    now: i64,
    until: i64,
}

impl Terms<'_> {
    /// Whether the blob may be leased by the request.
    fn fit(&self, blob: &Unsettled) -> bool {
        let sinks = &self.request.for_sinks;
        let is_served = !sinks.is_empty() && sinks.iter().all(|sink| blob.has_whole(sink));
        blob.is_due(self.now) && !is_served && !self.request.except_tenants.contains(&blob.tenant)
    }
}

pub(super) async fn lease(
    books: &Books,
    request: &LeaseRequest,
    now: Timestamp,
) -> Result<Vec<Lease>, Error> {
    if request.max_count == 0 {
        return Ok(Vec::new());
    }
    let until = SignedDuration::try_from(request.duration)
        .ok()
        .and_then(|duration| now.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX);
    let terms = Terms {
        request,
        now: stored(now),
        until: stored(until),
    };
    let mut rows = if request.only.is_empty() {
        let _alone = books.leasing.lock().await;
        let rows = lease_any(books, &terms, false).await?;
        // Perhaps another process has noted the first blobs of a tenant that this one has not heard of.
        if rows.is_empty() && has_new_tenants(books).await? {
            lease_any(books, &terms, true).await?
        } else {
            rows
        }
    } else {
        lease_named(books, &terms).await?
    };
    rows.sort_by_key(|row| row.blob.place());
    rows.into_iter()
        .map(|row| {
            let lease = leased(&row.blob);
            books.hold(row);
            lease
        })
        .collect()
}

async fn has_new_tenants(books: &Books) -> Result<bool, Error> {
    let before = books.tenants(false).await?.len();
    Ok(books.tenants(true).await?.len() > before)
}

fn leased(blob: &Unsettled) -> Result<Lease, Error> {
    Ok(Lease {
        key: key_of(blob),
        tenant: blob.tenant,
        content_type: blob.content_type,
        content_id: blob.content_id.clone(),
        uri: blob.uri.clone(),
        created_at: blob.created_at,
        expires_at: blob.expires_at,
        attempts: blob.attempts,
        leased_until: to_instant(blob.leased_until)?,
        acknowledged: blob.acknowledged.clone(),
        item: blob.item,
    })
}

fn key_of(blob: &Unsettled) -> LeaseKey {
    LeaseKey {
        tenant: blob.tenant,
        blob: blob.number,
        token: blob.token,
    }
}

/// One after the other: what is named is one blob, as a rule.
async fn lease_named(books: &Books, terms: &Terms<'_>) -> Result<Vec<DueRow>, Error> {
    let names: BTreeSet<_> = terms
        .request
        .only
        .iter()
        .filter(|name| !terms.request.except_tenants.contains(&name.tenant))
        .map(|name| (name.tenant, number_of(name.content_type, &name.content_id)))
        .collect();
    let finds = names
        .into_iter()
        .map(|(tenant, number)| books.find(tenant, number));
    let found = together(finds.collect()).await?;
    let mut due: Vec<DueRow> = found
        .into_iter()
        .filter_map(|found| match found {
            Found::Unsettled(row) if terms.fit(&row.blob) => Some(row),
            _ => None,
        })
        .collect();
    due.sort_by_key(|row| row.blob.place());
    let mut due = VecDeque::from(due);
    let mut taken = Vec::new();
    while taken.len() < terms.request.max_count && !due.is_empty() {
        let want = (terms.request.max_count - taken.len()).min(due.len());
        taken.extend(take(books, due.drain(..want).collect(), terms).await?);
    }
    Ok(taken)
}

/// The due blobs of one tenant, read page by page.
struct Cursor {
    tenant: TenantId,
    query: Query,
    read: VecDeque<DueRow>,
    is_done: bool,
}

impl Cursor {
    fn new(tenant: TenantId, terms: &Terms<'_>) -> Self {
        let now = terms.now;
        let mut filter = format!(
            "{} and NotBefore le {now}L and LeasedUntil le {now}L",
            between(&partition_of(tenant), "d-", "d.")
        );
        // What exactly these sinks have is left out by storage itself: when another sink cannot be reached for a day,
        // that is nearly all there is. What more sinks have than these is left out here.
        if !terms.request.for_sinks.is_empty() {
            let whole = whole_sinks(terms.request.for_sinks.iter());
            filter.push_str(&format!(" and Whole ne {}", quoted(&whole)));
        }
        Self {
            tenant,
            query: Query {
                filter,
                max_count: terms.request.max_count.saturating_mul(2).clamp(8, MAX_PAGE),
                select: "",
                continuation: None,
            },
            read: VecDeque::new(),
            is_done: false,
        }
    }

    /// Reads on until there is a blob or the end.
    async fn fill(&mut self, books: &Books, terms: &Terms<'_>) -> Result<(), Error> {
        while self.read.is_empty() && !self.is_done {
            let (rows, continuation): (_, Option<Continuation>) =
                books.door.page(&self.query).await?;
            self.is_done = continuation.is_none();
            self.query.continuation = continuation;
            for row in rows {
                let row = DueRow::read(self.tenant, row)?;
                if terms.fit(&row.blob) {
                    self.read.push_back(row);
                }
            }
        }
        Ok(())
    }
}

/// Nearest expiry first over all tenants: their heads are merged.
async fn lease_any(books: &Books, terms: &Terms<'_>, fresh: bool) -> Result<Vec<DueRow>, Error> {
    let tenants = books.tenants(fresh).await?;
    let mut cursors: Vec<_> = tenants
        .into_iter()
        .filter(|tenant| !terms.request.except_tenants.contains(tenant))
        .map(|tenant| Cursor::new(tenant, terms))
        .collect();
    let mut taken: Vec<DueRow> = Vec::new();
    while taken.len() < terms.request.max_count {
        let want = terms.request.max_count - taken.len();
        let mut picked = Vec::new();
        while picked.len() < want {
            let fills = cursors.iter_mut().map(|cursor| cursor.fill(books, terms));
            together(fills.collect()).await?;
            let heads = cursors.iter_mut().filter(|cursor| !cursor.read.is_empty());
            let nearest =
                heads.min_by_key(|cursor| cursor.read.front().map(|row| row.blob.place()));
            let Some(row) = nearest.and_then(|cursor| cursor.read.pop_front()) else {
                break;
            };
            picked.push(row);
        }
        if picked.is_empty() {
            break;
        }
        // Those that others got meanwhile are made up for by the next round.
        taken.extend(take(books, picked, terms).await?);
    }
    Ok(taken)
}

/// Leases those that can still be had, many in one request where nobody is in the way.
async fn take(books: &Books, rows: Vec<DueRow>, terms: &Terms<'_>) -> Result<Vec<DueRow>, Error> {
    let mut by_tenant: BTreeMap<TenantId, Vec<(DueRow, Unsettled)>> = BTreeMap::new();
    for row in rows {
        let next = leased_state(&row.blob, random(), terms);
        by_tenant
            .entry(row.blob.tenant)
            .or_default()
            .push((row, next));
    }
    let chunks = by_tenant.into_values().flat_map(|rows| {
        let mut rows = rows.into_iter().peekable();
        let mut chunks: Vec<Vec<_>> = Vec::new();
        while rows.peek().is_some() {
            // A row is far smaller than a hundredth of what a transaction holds, save for one with thousands of
            // acknowledged parts. Should many such meet, the transaction is refused and each is taken by itself.
            chunks.push(rows.by_ref().take(MAX_CHANGES).collect());
        }
        chunks
    });
    let taken = chunks.map(|chunk| take_chunk(books, chunk, terms));
    let taken = together(taken.collect()).await?;
    Ok(taken.into_iter().flatten().collect())
}

fn leased_state(blob: &Unsettled, token: u64, terms: &Terms<'_>) -> Unsettled {
    Unsettled {
        token,
        leased_until: terms.until,
        // The lease stands in the place of a message; when it runs out, the queue may be told again.
        announced_until: i64::MIN,
        attempts: blob.attempts.saturating_add(1),
        written_by: token,
        ..blob.clone()
    }
}

async fn take_chunk(
    books: &Books,
    chunk: Vec<(DueRow, Unsettled)>,
    terms: &Terms<'_>,
) -> Result<Vec<DueRow>, Error> {
    if chunk.len() > 1 {
        let changes: Vec<_> = chunk
            .iter()
            .map(|(row, next)| Change::Replace {
                entity: next.to_entity(),
                etag: row.etag.clone(),
            })
            .collect();
        match books.door.batch(&changes).await? {
            Ok(etags) if etags.iter().all(Option::is_some) => {
                let rows = chunk.into_iter().zip(etags);
                return Ok(rows
                    .filter_map(|((_, blob), etag)| etag.map(|etag| DueRow { blob, etag }))
                    .collect());
            }
            // Taken by others, or too large, or taken by an earlier try: each for itself tells.
            Ok(_)
            | Err(
                StorageError::Changed
                | StorageError::NotFound
                | StorageError::TooLarge { .. }
                | StorageError::Refused { .. },
            ) => {}
            Err(error) => return Err(refused("leasing blobs", error)),
        }
    }
    let taken = chunk
        .into_iter()
        .map(|(row, next)| take_one(books, row, next.token, terms));
    let taken = together(taken.collect()).await?;
    Ok(taken.into_iter().flatten().collect())
}

/// Leases the blob, unless somebody else does.
async fn take_one(
    books: &Books,
    mut row: DueRow,
    token: u64,
    terms: &Terms<'_>,
) -> Result<Option<DueRow>, Error> {
    for _ in 0..MAX_RACES {
        // Taken by an earlier try whose answer did not come.
        if row.blob.token == token {
            return Ok(Some(row));
        }
        if !terms.fit(&row.blob) {
            return Ok(None);
        }
        let next = leased_state(&row.blob, token, terms);
        let replace = Change::Replace {
            entity: next.to_entity(),
            etag: row.etag,
        };
        let (tenant, number) = (next.tenant, next.number);
        match books.door.change(&replace).await? {
            Ok(Some(etag)) => return Ok(Some(DueRow { blob: next, etag })),
            Ok(None) | Err(StorageError::Changed | StorageError::NotFound) => {}
            Err(error) => return Err(refused("leasing a blob", error)),
        }
        row = match books.find(tenant, number).await? {
            Found::Unsettled(row) => row,
            Found::Settled(_) | Found::Unknown => return Ok(None),
        };
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

pub(super) async fn renew(
    books: &Books,
    keys: &[LeaseKey],
    until: Timestamp,
) -> Result<Vec<LeaseKey>, Error> {
    let amended = books
        .amend_all(keys, |index, blob| {
            blob.leased_until = stored(until);
            keys.get(index).is_some_and(|key| key.token == blob.token)
        })
        .await?;
    let mut lost = Vec::new();
    for (key, amended) in keys.iter().zip(amended) {
        match amended {
            Amended::Done(row) => books.hold(*row),
            _ => lost.push(*key),
        }
    }
    Ok(lost)
}

pub(super) async fn retry_later(
    books: &Books,
    lease: &Lease,
    not_before: Timestamp,
    reason: &str,
) -> Result<(), Error> {
    let keys = [lease.key];
    let amended = books
        .amend_all(&keys, |_, blob| {
            let is_mine = blob.token == lease.key.token;
            give_back(blob);
            blob.not_before = stored(not_before);
            blob.reason = reason.to_owned();
            is_mine
        })
        .await?;
    books.let_go(lease.key.tenant, lease.key.blob);
    match amended.first() {
        Some(Amended::Done(_)) => Ok(()),
        _ => Err(Error::LeaseLost),
    }
}

pub(super) async fn release(books: &Books, leases: &[Lease]) -> Result<(), Error> {
    let keys: Vec<_> = leases.iter().map(|lease| lease.key).collect();
    let amended = books
        .amend_all(&keys, |index, blob| {
            let is_mine = keys.get(index).is_some_and(|key| key.token == blob.token);
            give_back(blob);
            blob.not_before = i64::MIN;
            blob.attempts = blob.attempts.saturating_sub(1);
            is_mine
        })
        .await;
    for key in keys {
        books.let_go(key.tenant, key.blob);
    }
    amended.map(|_| ())
}

fn give_back(blob: &mut Unsettled) {
    blob.token = 0;
    blob.leased_until = i64::MIN;
    blob.announced_until = i64::MIN;
}
