//! Telling a queue which blobs wait. The ledger is the truth and a message a hint: one that is lost, doubled or
//! forged loses nothing and doubles nothing.

use azure::storage::tables::{MAX_PAGE, Query};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tracing::warn;

use crate::store::stored;
use crate::{BlobName, Error, LeaseKey};

use super::books::{Amended, Books, CONCURRENT};
use super::names::{between, partition_of};
use super::rows::{DueRow, Unsettled};

/// A message that has led to nothing for so long, in milliseconds, is sent again. Longer than a queue hides a message
/// from the others while one instance works on it.
pub(super) const STALE_AFTER: i64 = 15 * 60 * 1000;

/// An empty queue holds nothing that could still lead to a delivery. Then a message sent this long ago, in milliseconds,
/// is taken for spent: it was read while its blob could not be delivered, as when no sink was to be had. Longer than it
/// takes to send a message once its row says so.
const SPENT_AFTER: i64 = 60 * 1000;

/// Where the queue holds so many messages, its readers have enough to do: more would only lie there longer.
const ENOUGH_MESSAGES: u64 = 2_000;

/// Told of in one call at most, per tenant. The next call, a minute later, goes on.
const MAX_ANNOUNCED: usize = 2_000;

/// Tells of blobs just noted, whose rows say so already. What the queue does not take is told of a quarter of an hour
/// later, by [`announce_due`].
pub(super) async fn announce_new(books: &Books, blobs: &[Unsettled]) {
    tell(books, blobs.iter().map(name_of).collect()).await;
}

pub(super) async fn announce_due(books: &Books, now: Timestamp) -> Result<u64, Error> {
    let Some(queue) = &books.door.options.wake_queue else {
        return Ok(0);
    };
    let message_count = books.door.message_count(queue).await?;
    if message_count >= ENOUGH_MESSAGES {
        return Ok(0);
    }
    let at = stored(now);
    // Those announced until then are announced again.
    let stale_until = match message_count {
        0 => at.saturating_add(STALE_AFTER - SPENT_AFTER),
        _ => at,
    };
    let mut told_count = 0;
    for tenant in books.tenants(false).await? {
        let partition = partition_of(tenant);
        let mut query = Query {
            filter: format!(
                "{} and NotBefore le {at}L and LeasedUntil le {at}L and AnnouncedUntil le {stale_until}L",
                between(&partition, "d-", "d.")
            ),
            max_count: MAX_PAGE,
            ..Query::default()
        };
        let mut seen_count = 0;
        loop {
            let (rows, continuation) = books.door.page(&query).await?;
            seen_count += rows.len();
            let mut keys = Vec::with_capacity(rows.len());
            for row in rows {
                let row = DueRow::read(tenant, row)?;
                keys.push(LeaseKey {
                    tenant,
                    blob: row.blob.number,
                    token: row.blob.token,
                });
                books.hold(row);
            }
            told_count += announce(books, &keys, at, stale_until).await?;
            match continuation {
                Some(continuation) if seen_count < MAX_ANNOUNCED => {
                    query.continuation = Some(continuation);
                }
                _ => break,
            }
        }
    }
    Ok(told_count)
}

/// Notes that the blobs are told of, then tells: two who do this at once tell of each once.
async fn announce(
    books: &Books,
    keys: &[LeaseKey],
    now: i64,
    stale_until: i64,
) -> Result<u64, Error> {
    let amended = books
        .amend_all(keys, |_, blob| {
            let wants = blob.is_due(now) && blob.announced_until <= stale_until;
            blob.announced_until = now.saturating_add(STALE_AFTER);
            wants
        })
        .await;
    // Nobody here works on them; what is in memory would only be old when somebody does.
    for key in keys {
        books.let_go(key.tenant, key.blob);
    }
    let names: Vec<_> = amended?
        .iter()
        .filter_map(|amended| match amended {
            Amended::Done(row) => Some(name_of(&row.blob)),
            _ => None,
        })
        .collect();
    let count = names.len() as u64;
    tell(books, names).await;
    Ok(count)
}

async fn tell(books: &Books, names: Vec<BlobName>) {
    let Some(queue) = &books.door.options.wake_queue else {
        return;
    };
    let tellings: Vec<_> = names
        .iter()
        .map(|name| async move {
            let told = books.door.wake(queue, &name.to_string()).await;
            if let Err(error) = &told {
                warn!(tenant = %name.tenant, content_id = %name.content_id, %error, "blob not announced, will be later");
            }
            told.is_err()
        })
        .collect();
    let failures: Vec<bool> = stream::iter(tellings).buffered(CONCURRENT).collect().await;
    let failed_count = failures.into_iter().filter(|failed| *failed).count();
    if failed_count > 0 {
        warn!(failed_count, "the queue was not told of every blob");
    }
}

fn name_of(blob: &Unsettled) -> BlobName {
    BlobName {
        tenant: blob.tenant,
        content_type: blob.content_type,
        content_id: blob.content_id.clone(),
    }
}
