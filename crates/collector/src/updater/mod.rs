//! Keeps a function app's package up to date: a signed manifest names a release, and what it names is verified, tried,
//! put in place, confirmed by the next run of Master, or taken back.

mod change;
mod keys;
mod look;
mod manifest;
mod outcome;
mod package;
mod plan;
mod site;
mod state;
mod version;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use ledger::Ledger;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::{Host, Url};

use self::state::{Memory, MemoryError};
use crate::clock::Clock;
use crate::config::UpdateConfig;
use crate::http::Transport;
use crate::status::{UpdateEventView, UpdateView};

pub use keys::{InvalidPublicKey, InvalidSigningKey, PublicKey, SigningKey};
pub use manifest::{Manifest, ManifestError, sign, verify};
pub use outcome::UpdateOutcome;
pub use package::{PackageError, Trial, TrialError, check_version, measure, unpack_executable};
pub use site::{OwnSite, Packages, SiteError, UpdateSite};
pub use version::{InvalidVersion, Version};

/// The app setting that names the package which the app runs from.
pub const PACKAGE: &str = "WEBSITE_RUN_FROM_PACKAGE";
/// The app setting in which the address of the replaced package is kept. Not in the ledger: such an address may carry
/// a signature that opens it, and the app settings are where this app keeps its secrets.
pub const PREVIOUS_PACKAGE: &str = "O365_COLLECTOR_PREVIOUS_PACKAGE";

/// How often a long-running host looks for a release; a function app's timer says so itself.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(12);
/// How often a long-running host sees whether something failed is due again.
const SEE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Keeps the program up to date, one bounded run at a time.
///
/// Its state is one fact in the ledger, and the ledger has no way to change a fact only if nobody else did. Within a
/// process one run goes on at a time. In a function app the functions that call this are timers, each of which runs on
/// one instance only; should two of them meet, they set the same two app settings to what the state says, and the later
/// write of the state stands.
pub struct Updater {
    config: UpdateConfig,
    running: Version,
    site: Option<Arc<dyn UpdateSite>>,
    ledger: Arc<dyn Ledger>,
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    trial: Arc<dyn Trial>,
    alone: Mutex<()>,
}

/// Whether a run may begin something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Always,
    /// Only go on with what was begun, or try again what failed and is due.
    WhenDue,
}

impl Updater {
    /// Puts the parts together. Without a `site` it never changes anything, and only tells of newer versions.
    #[must_use]
    pub fn build(
        config: UpdateConfig,
        site: Option<Arc<dyn UpdateSite>>,
        ledger: Arc<dyn Ledger>,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        trial: Arc<dyn Trial>,
    ) -> Self {
        Self {
            config,
            running: Version::running(),
            site,
            ledger,
            http,
            clock,
            trial,
            alone: Mutex::default(),
        }
    }

    /// The same, as if another version of the program were this process: an update has two versions in it, and only one
    /// can be built at a time. For tests of what comes after the change.
    #[must_use]
    pub fn running_as(mut self, version: Version) -> Self {
        self.running = version;
        self
    }

    /// One run, as the Updater's timer starts it: goes on with what is under way, or else looks for a release.
    ///
    /// # If interrupted
    /// Every step is in the ledger before the next begins; the next run, of whichever version, goes on from there.
    pub async fn run_once(&self, stop: &CancellationToken) -> UpdateOutcome {
        self.run(Begin::Always, stop).await
    }

    /// To be called every minute: goes on with what is under way, tries again what failed and is due, and takes back
    /// what did not prove itself in time. Begins nothing, and costs one read of the ledger when there is nothing to do.
    /// On [`UpdateOutcome::AwaitsHealth`] the host runs Master, and tells [`Updater::after_master`] what it found.
    ///
    /// # If interrupted
    /// As [`Updater::run_once`].
    pub async fn run_due(&self, stop: &CancellationToken) -> UpdateOutcome {
        self.run(Begin::WhenDue, stop).await
    }

    /// To be called when a run of Master has come to its end: confirms a change that awaits it.
    ///
    /// # If interrupted
    /// The next run of Master confirms it, or nobody does in time and it is taken back.
    pub async fn after_master(&self, is_healthy: bool) -> UpdateOutcome {
        if matches!(self.config, UpdateConfig::Repository) {
            return UpdateOutcome::Idle;
        }
        let _alone = self.alone.lock().await;
        let work = async {
            let mut memory = Memory::recall(&*self.ledger).await?;
            if memory.state.change.is_some() {
                return self.go_on(&mut memory, Some(is_healthy)).await;
            }
            memory.state.was_healthy = Some(is_healthy);
            memory.keep().await?;
            Ok(UpdateOutcome::Idle)
        };
        told(work.await)
    }

    /// Runs until `stop`, for a host without timers: looks for a release twice a day.
    ///
    /// # If interrupted
    /// As [`Updater::run_once`].
    pub async fn run_until(&self, stop: &CancellationToken) {
        let mut look_at = self.clock.now();
        while !stop.is_cancelled() {
            let now = self.clock.now();
            if now >= look_at {
                look_at = now.checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
                self.run_once(stop).await;
            } else {
                self.run_due(stop).await;
            }
            tokio::select! {
                () = tokio::time::sleep(SEE_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Where things stand. Nothing before the first run, or when the ledger does not say.
    pub async fn view(&self) -> Option<UpdateView> {
        view(&*self.ledger).await
    }

    async fn run(&self, begin: Begin, stop: &CancellationToken) -> UpdateOutcome {
        let _alone = self.alone.lock().await;
        let work = async {
            match &self.config {
                UpdateConfig::Repository => self.sync_repository(begin).await,
                UpdateConfig::Package {
                    manifest_url,
                    public_keys,
                } => self.update(begin, manifest_url, public_keys).await,
            }
        };
        tokio::select! {
            outcome = work => told(outcome),
            () = stop.cancelled() => UpdateOutcome::Interrupted,
        }
    }
}

impl fmt::Debug for Updater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updater")
            .field("config", &self.config)
            .field("running", &self.running)
            .field("has_site", &self.site.is_some())
            .finish_non_exhaustive()
    }
}

/// What the ledger says of the updater's doings. Nothing before its first run, or when the ledger does not say.
pub async fn view(ledger: &dyn Ledger) -> Option<UpdateView> {
    let state = Memory::recall(ledger).await.ok()?.state;
    // What Master found is remembered before the first run of the updater, and says nothing of updates.
    if state.situation.is_empty() {
        return None;
    }
    let trying = state.trying.as_ref().and_then(|trying| trying.next_try_at);
    let changing = state.change.as_ref().map(|change| change.next_try_at);
    Some(UpdateView {
        summary: state.situation,
        is_trouble: state.is_trouble,
        newest_version: state.newest.as_ref().map(ToString::to_string),
        changing_to: state
            .change
            .as_ref()
            .map(|change| change.version.to_string()),
        next_try_at: changing.or(trying),
        refused: state
            .refused
            .iter()
            .map(|refused| format!("{}: {}", refused.version, refused.why))
            .collect(),
        events: state
            .events
            .into_iter()
            .map(|event| UpdateEventView {
                at: event.at,
                what: event.what,
            })
            .collect(),
    })
}

/// Logs an outcome that is one.
fn told(outcome: Result<UpdateOutcome, MemoryError>) -> UpdateOutcome {
    let outcome = outcome.unwrap_or_else(|error| {
        let what = match &error {
            MemoryError::Ledger(cause) => format!("{error}: {cause}"),
            MemoryError::Unreadable => error.to_string(),
        };
        UpdateOutcome::Failed {
            what,
            retry_at: None,
        }
    });
    match &outcome {
        UpdateOutcome::Idle => {}
        outcome if outcome.is_trouble() => warn!(%outcome, "update"),
        outcome => info!(%outcome, "update"),
    }
    outcome
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: 64 hexadecimal digits")]
pub struct InvalidSha256;

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        ring::digest::digest(&ring::digest::SHA256, bytes).into()
    }
}

impl From<ring::digest::Digest> for Sha256 {
    fn from(digest: ring::digest::Digest) -> Self {
        Self(
            digest
                .as_ref()
                .try_into()
                .expect("every SHA-256 has 32 bytes"),
        )
    }
}

impl FromStr for Sha256 {
    type Err = InvalidSha256;

    fn from_str(text: &str) -> Result<Self, InvalidSha256> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidSha256);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or(InvalidSha256)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidSha256)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address that a release may come from: `https`, or `http` on this machine itself; no user name or password.
#[must_use]
pub fn public_url(text: &str) -> Option<Url> {
    // The parser takes blanks and backslashes for something else; no address has them.
    if !text.chars().all(|c| c.is_ascii_graphic() && c != '\\') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_this_machine = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_this_machine);
    let is_bare = url.username().is_empty() && url.password().is_none();
    (is_safe && is_bare && url.fragment().is_none()).then_some(url)
}

#[cfg(test)]
mod tests;
