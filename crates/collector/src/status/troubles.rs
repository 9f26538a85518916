//! What a person should look at, read off the status as a whole.

use jiff::SignedDuration;

use super::{CheckinView, SinkStatus, StatusView, text};
use crate::token;

/// How near the expiry of a waiting blob may come before the page calls it trouble. A day is what a person needs to
/// hear of it and mend the cause.
const NEAR_EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// How old the end of what was listed may be before it is trouble in a ledger that is looked at alone. A listing follows
/// the other within minutes, unless somebody set it otherwise.
const LATE_LISTING: SignedDuration = SignedDuration::from_mins(15);

/// What a person should look at. Most urgent first: what is lost, what soon will be, what stands still, what waits
/// for a decision.
pub(super) fn troubles(view: &StatusView) -> Vec<String> {
    let mut troubles = Vec::new();
    // Before all: while it lasts nothing is collected, whatever else is well.
    if let Some(failing) = &view.ledger.failing {
        let since = text::relative(failing.since, view.taken_at);
        troubles.push(format!("the ledger fails, first {since}: {}", failing.what));
    }
    if let Some(error) = &view.ledger.error {
        troubles.push(format!("the ledger does not answer: {error}"));
    }
    if view.is_running == Some(false) {
        troubles.push("nothing is collected: the pipeline is not running".to_owned());
    }
    let streams = || {
        view.tenants
            .iter()
            .flat_map(|tenant| tenant.streams.iter().map(move |stream| (tenant, stream)))
    };
    if view.is_running.is_none() && view.ledger.is_answering {
        troubles.extend(standstill(view));
    }
    troubles.extend(view.quarantine.trouble());
    for (tenant, stream) in streams().filter(|(_, stream)| stream.expired_count > 0) {
        let count = text::counted(stream.expired_count, "blob");
        troubles.push(format!(
            "{count} of {} of tenant {} expired before delivery",
            stream.content_type, tenant.id
        ));
    }
    for (tenant, stream) in streams() {
        if let Some(at) = stream
            .nearest_expiry_at
            .filter(|at| at.duration_since(view.taken_at) < NEAR_EXPIRY)
        {
            let when = text::relative(at, view.taken_at);
            let verb = if at > view.taken_at {
                "expires"
            } else {
                "expired"
            };
            troubles.push(format!(
                "a blob of {} of tenant {} waits and {verb} {when}",
                stream.content_type, tenant.id
            ));
        }
    }
    for tenant in &view.tenants {
        let forecast = tenant.forecast.as_ref();
        troubles.extend(forecast.and_then(|forecast| forecast.trouble(&tenant.id, view.taken_at)));
    }
    for tenant in &view.tenants {
        if let Some(stopped) = &tenant.stopped {
            troubles.push(format!(
                "tenant {} is not collected: {}",
                tenant.id, stopped.what
            ));
        }
    }
    for tenant in &view.tenants {
        let ends_at = tenant.credential_ends_at;
        let ending = ends_at.and_then(|at| token::ending(at, view.taken_at));
        troubles.extend(ending.map(|ending| format!("tenant {}: {ending}", tenant.id)));
    }
    for sink in view
        .sinks
        .iter()
        .filter(|sink| sink.state == SinkStatus::Failing)
    {
        let what = sink
            .last_error
            .as_ref()
            .map_or("", |error| error.what.as_str());
        troubles.push(format!("sink {} fails: {what}", sink.name));
    }
    troubles.extend(view.checkins.iter().flat_map(CheckinView::troubles));
    for (tenant, stream) in streams() {
        if let Some(error) = &stream.listing_error {
            troubles.push(format!(
                "{} of tenant {} cannot be listed: {}",
                stream.content_type, tenant.id, error.what
            ));
        }
        // A blob that will be tried again is shown with its content type: only one that will not be wants a person.
        if let Some(error) = stream
            .blob_error
            .as_ref()
            .filter(|error| error.retry_at.is_none())
        {
            let when = text::relative(error.at, view.taken_at);
            troubles.push(format!(
                "{} of tenant {}, {when}: {}",
                stream.content_type, tenant.id, error.what
            ));
        }
    }
    if view.totals.quarantined_count + view.totals.quarantined_record_count > 0 {
        let blobs = text::counted(view.totals.quarantined_count, "blob");
        let records = text::counted(view.totals.quarantined_record_count, "record");
        troubles.push(format!("in quarantine: {blobs} and {records}"));
    }
    troubles
}

/// What points to an outage when nothing but the ledger is known: it holds no reasons, but it shows that something stands
/// still.
fn standstill(view: &StatusView) -> Vec<String> {
    let mut troubles = Vec::new();
    if view.tenants.is_empty() {
        troubles.push("nothing was ever listed".to_owned());
    }
    for tenant in &view.tenants {
        for stream in &tenant.streams {
            let (content_type, id) = (&stream.content_type, &tenant.id);
            match stream.listed_until {
                None => troubles.push(format!("{content_type} of tenant {id} was never listed")),
                Some(at) if view.taken_at.duration_since(at) > LATE_LISTING => {
                    let when = text::relative(at, view.taken_at);
                    troubles.push(format!(
                        "{content_type} of tenant {id} is listed without a gap only up to {when}"
                    ));
                }
                Some(_) => {}
            }
            let waiting_count = stream.pending_count.saturating_add(stream.leased_count);
            if waiting_count > 0 {
                let blobs = text::counted(waiting_count, "blob");
                let age = stream.oldest_pending_at.map_or_else(String::new, |at| {
                    let when = text::relative(at, view.taken_at);
                    format!(", the oldest made available {when}")
                });
                troubles.push(format!(
                    "waiting of {content_type} of tenant {id}: {blobs}{age}"
                ));
            }
        }
    }
    troubles
}
