//! The updater's decisions, as pure functions: whether a release is for us and now, whether what was put in place proved
//! itself, and how long to wait after a failure.

use jiff::{SignedDuration, Timestamp};

use super::site::Packages;
use super::state::{Change, State};
use super::{Manifest, Sha256, Version};

/// How long a new version has to show that it is healthy, and the app to start it.
pub(super) const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(60);
/// Tries of one manifest: about four hours of them. What fails for longer is not mended by trying.
pub(super) const MAX_TRIES: u32 = 10;

/// What to do about a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// It names what runs, or something older.
    UpToDate,
    /// Nothing, for a reason that the manifest must change for.
    Refuse(String),
    /// Nothing yet.
    Wait {
        /// When it will be different; nothing when that depends on another manifest.
        until: Option<Timestamp>,
        why: String,
    },
    /// Replace what runs.
    Update,
}

/// Whether, and when, the release is for this site. Never a downgrade, never the same version again, never one that was
/// refused, and only one change at a time.
pub(super) fn plan_update(
    state: &State,
    manifest: &Manifest,
    running: &Version,
    site: &str,
    now: Timestamp,
) -> Plan {
    let version = &manifest.version;
    if let Some(change) = &state.change {
        let why = format!("the change to {} is under way", change.version);
        return Plan::Wait { until: None, why };
    }
    if version <= running {
        return Plan::UpToDate;
    }
    if let Some(refused) = state.refusal_of(version) {
        return Plan::Refuse(refused.why.clone());
    }
    if *running < manifest.minimum_version {
        let minimum = &manifest.minimum_version;
        return Plan::Refuse(format!(
            "it replaces no version before {minimum}, and {running} runs here; install {minimum} first"
        ));
    }
    if now < manifest.due_at() {
        let why = "it is not old enough yet".to_owned();
        let until = Some(manifest.due_at());
        return Plan::Wait { until, why };
    }
    if !is_in_rollout(site, version, manifest.rollout_percent) {
        let percent = manifest.rollout_percent;
        let why = format!("this site is not among the {percent} % that may have it so far");
        return Plan::Wait { until: None, why };
    }
    Plan::Update
}

/// Whether a site is among the first `percent` of a hundred. The same at every run, another order of sites for every
/// version, and whoever was in stays in when the share grows.
fn is_in_rollout(site: &str, version: &Version, percent: u8) -> bool {
    // The name of a site is the same in any case of its letters.
    let name = format!("{}\n{version}", site.to_ascii_lowercase());
    let Sha256(digest) = Sha256::of(name.as_bytes());
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d]) % 100 < u32::from(percent)
}

/// The pause after so many tries: 1, 2, 4, 8 … minutes.
pub(super) fn pause_after(tries: u32) -> SignedDuration {
    let doublings = tries.saturating_sub(1).min(6);
    SignedDuration::from_mins(1_i64 << doublings).min(LONGEST_PAUSE)
}

/// What the app settings say, seen from a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The new package.
    New,
    /// The one before.
    Previous,
    /// A third: somebody else changed it meanwhile.
    Other,
}

pub(super) fn standing(change: &Change, packages: &Packages) -> Standing {
    match packages.current_url() {
        Some(url) if url == change.url => Standing::New,
        Some(url) if Sha256::of(url.as_bytes()) == change.previous => Standing::Previous,
        _ => Standing::Other,
    }
}

/// What became of a change that is in the app settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not known yet.
    Wait { until: Timestamp },
    /// The new version is good.
    Confirm,
    /// It is not.
    TakeBack(String),
    /// The app runs a third version: somebody else decides here.
    Abandon(String),
}

/// `is_healthy` is what a run of Master found; nothing when none just ended.
pub(super) fn plan_confirmation(
    change: &Change,
    running: &Version,
    is_healthy: Option<bool>,
    now: Timestamp,
) -> Verdict {
    let is_new = *running == change.version;
    if !is_new && *running != change.replaces {
        return Verdict::Abandon(format!(
            "{running} runs here, which is neither the old version nor the new one"
        ));
    }
    // What was not well before is not held against the new version, which may even have come to mend it.
    let is_good_enough = match is_healthy {
        Some(true) => true,
        Some(false) => change.was_healthy == Some(false),
        None => false,
    };
    if is_new && is_good_enough {
        return Verdict::Confirm;
    }
    // Counted from when the new version first ran: before that it had no chance to show anything.
    let since = match change.running_since {
        Some(since) if is_new => since,
        // Not from when the change was begun: Azure may have refused it for an hour.
        _ => change.swapped_at.unwrap_or(change.begun_at),
    };
    let until = since.checked_add(CONFIRM_WITHIN).unwrap_or(Timestamp::MAX);
    if now < until {
        return Verdict::Wait { until };
    }
    let minutes = CONFIRM_WITHIN.as_mins();
    Verdict::TakeBack(if is_new {
        format!("it was not healthy within {minutes} minutes of its start")
    } else {
        format!("the app still ran {running} {minutes} minutes after the change")
    })
}

#[cfg(test)]
mod tests;
