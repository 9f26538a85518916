//! Microsoft's side, listed anew: is there a blob that Microsoft lists and the ledger does not have? Notes nothing, so that
//! looking changes nothing; `backfill` is what collects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use activity_api::{ContentBlob, ContentType, TenantId, Window};
use jiff::Timestamp;
use ledger::{BlobName, Ledger};

use super::judge::{FARTHEST_BACK, hours};
use super::view::{AgainView, Piece, StretchView, UnknownView};
use crate::discover::listing::{Page, Pages};
use crate::microsoft::Microsoft;
use crate::telemetry::chain;

/// Each configured tenant's door to Microsoft.
pub type Doors = HashMap<TenantId, Arc<Microsoft>>;

pub(super) async fn compare(
    ledger: &dyn Ledger,
    doors: &Doors,
    (tenant, content_type): (TenantId, ContentType),
    range: Option<Window>,
    now: Timestamp,
    tell: &mut (dyn FnMut(Piece) + Send),
) -> Result<AgainView, ledger::Error> {
    let mut again = AgainView {
        range: None,
        listed_blob_count: 0,
        unknown_count: 0,
        error: None,
    };
    let Some(microsoft) = doors.get(&tenant) else {
        again.error = Some("the tenant is not configured".to_owned());
        return Ok(again);
    };
    let listable = range.and_then(|range| {
        let horizon = now.checked_sub(FARTHEST_BACK).unwrap_or(Timestamp::MIN);
        Window::new(range.start().max(horizon), range.end().min(now)).ok()
    });
    let Some(listable) = listable else {
        return Ok(again);
    };
    again.range = Some(StretchView {
        from: listable.start(),
        to: listable.end(),
    });
    for hour in hours(listable) {
        let mut seen = HashSet::new();
        let mut pages = Pages::patient(microsoft, content_type, hour);
        loop {
            match pages.next().await {
                Ok(None) => break,
                Ok(Some(Page { blobs, refused })) => {
                    // One that cannot be read may be one that is not known, so nobody can say that all are.
                    if let Some(entry) = refused.first() {
                        again.error = Some(format!(
                            "an entry of the listing cannot be used: {}",
                            entry.why
                        ));
                        return Ok(again);
                    }
                    // The same blob may be on several pages.
                    let new = blobs
                        .into_iter()
                        .filter(|blob| seen.insert(blob.id.clone()));
                    tell_unknown(ledger, tenant, new.collect(), &mut again, tell).await?;
                }
                Err(error) => {
                    again.error = Some(chain(&error));
                    return Ok(again);
                }
            }
        }
    }
    Ok(again)
}

async fn tell_unknown(
    ledger: &dyn Ledger,
    tenant: TenantId,
    blobs: Vec<ContentBlob>,
    again: &mut AgainView,
    tell: &mut (dyn FnMut(Piece) + Send),
) -> Result<(), ledger::Error> {
    if blobs.is_empty() {
        return Ok(());
    }
    again.listed_blob_count += blobs.len() as u64;
    let name = |blob: &ContentBlob| BlobName {
        tenant,
        content_type: blob.content_type,
        content_id: blob.id.clone(),
    };
    let unknown = ledger.unknown(blobs.iter().map(name).collect()).await?;
    let unknown: HashSet<_> = unknown.into_iter().collect();
    again.unknown_count += unknown.len() as u64;
    for blob in blobs.iter().filter(|blob| unknown.contains(&name(blob))) {
        tell(Piece::Unknown(UnknownView {
            content_id: blob.id.to_string(),
            created_at: blob.created_at,
            expires_at: blob.expires_at,
        }));
    }
    Ok(())
}
