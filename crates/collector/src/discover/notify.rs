//! A notification comes in: the blobs that it names go to the ledger, and that is all. Nothing is fetched here, and
//! nothing that a notification says is believed beyond "look at this blob": anyone who learns the webhook's address
//! and auth id can send one.

use std::collections::BTreeMap;

use activity_api::{
    ContentType, Feed, NotificationError, NotifiedBlob, TenantId, read_notification,
};
use futures::future::try_join_all;
use jiff::Timestamp;
use ledger::{Ledger, SeenBlob, SeenVia};

use crate::telemetry;

/// Refused entries of one notification that get a log line each. The rest are counted: whoever can send one such
/// entry can send thousands in a body.
const MAX_LOGGED_REFUSALS: usize = 5;

/// The tenants and content types that are configured: a notification for any other is not for us.
#[derive(Debug, Default)]
pub struct Feeds(BTreeMap<TenantId, (Feed, Vec<ContentType>)>);

impl FromIterator<(Feed, Vec<ContentType>)> for Feeds {
    fn from_iter<I: IntoIterator<Item = (Feed, Vec<ContentType>)>>(feeds: I) -> Self {
        Self(
            feeds
                .into_iter()
                .map(|(feed, content_types)| (feed.tenant(), (feed, content_types)))
                .collect(),
        )
    }
}

/// What became of a notification's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// Blobs that the ledger had not known.
    pub new_count: u64,
    /// Blobs that it had, or that the notification named twice.
    pub known_count: u64,
    /// Entries of a content type that does not exist or is not configured. Right, but not for us.
    pub ignored_count: u64,
    /// Entries that name a tenant we do not collect, or an address that is not Microsoft's for it.
    pub refused_count: u64,
}

/// Why nothing of a notification was noted, or not for certain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is no notification. Nothing of it was noted.
    #[error("not a notification")]
    Malformed(#[source] NotificationError),
    /// The ledger did not take it. Whoever sent the notification must send it again.
    #[error("the ledger did not take the notification")]
    Ledger(#[source] ledger::Error),
}

/// Notes every blob that the notification names and that concerns us, and returns once the ledger has them durably.
/// An entry that is refused does not keep the others from being noted.
///
/// # Errors
/// [`Error::Malformed`] when the body has not the shape of a notification, [`Error::Ledger`] when the ledger fails.
///
/// # If interrupted
/// Some, all or none of the blobs are noted. The sender got no 200 and sends the notification again, or gives up and
/// polling finds the blobs; those that were noted are known then.
pub async fn note_notification(
    body: &[u8],
    feeds: &Feeds,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<Noted, Error> {
    let mut noted = Noted::default();
    // One write per tenant and content type, so that each can be counted. They wait for the same commit.
    let mut seen: BTreeMap<(TenantId, ContentType), Vec<SeenBlob>> = BTreeMap::new();
    for (index, entry) in read_notification(body)
        .map_err(Error::Malformed)?
        .into_iter()
        .enumerate()
    {
        match judge(entry, feeds) {
            Verdict::Ours(blob) => seen
                .entry((blob.tenant, blob.content_type))
                .or_default()
                .push(blob),
            Verdict::Ignored => noted.ignored_count += 1,
            Verdict::Refused { tenant, why } => {
                noted.refused_count += 1;
                if noted.refused_count <= MAX_LOGGED_REFUSALS as u64 {
                    tracing::warn!(%tenant, index, why, "an entry of a notification was refused");
                }
            }
        }
    }
    if noted.refused_count > MAX_LOGGED_REFUSALS as u64 {
        tracing::warn!(
            refused_count = noted.refused_count,
            "more entries of the notification were refused"
        );
    }
    let writes = seen
        .into_iter()
        .map(async |((tenant, content_type), blobs)| {
            let count = blobs.len() as u64;
            let new_count = ledger.note_seen(blobs, now).await?;
            telemetry::blobs_seen(tenant, content_type, SeenVia::Notification, new_count);
            tracing::debug!(%tenant, %content_type, count, new_count, "notified of blobs");
            Ok::<_, ledger::Error>((count, new_count))
        });
    for (count, new_count) in try_join_all(writes).await.map_err(Error::Ledger)? {
        noted.new_count += new_count;
        noted.known_count += count.saturating_sub(new_count);
    }
    Ok(noted)
}

enum Verdict {
    Ours(SeenBlob),
    Ignored,
    Refused { tenant: TenantId, why: String },
}

fn judge(entry: NotifiedBlob, feeds: &Feeds) -> Verdict {
    let tenant = entry.tenant;
    let Some((feed, content_types)) = feeds.0.get(&tenant) else {
        return Verdict::Refused {
            tenant,
            why: "this tenant is not configured".to_owned(),
        };
    };
    let Some(content_type) = entry
        .content_type
        .filter(|content_type| content_types.contains(content_type))
    else {
        return Verdict::Ignored;
    };
    match entry.trust(feed) {
        Ok(blob) => Verdict::Ours(SeenBlob {
            tenant,
            content_type,
            content_id: blob.id,
            uri: blob.uri.as_str().to_owned(),
            created_at: blob.created_at,
            expires_at: blob.expires_at,
            seen_via: SeenVia::Notification,
        }),
        Err(untrusted) => Verdict::Refused {
            tenant,
            why: untrusted.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
