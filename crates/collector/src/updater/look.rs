//! Looks for a release: fetches the manifest, verifies it, decides, and has what it names verified and tried. What comes out
//! of it is a change, which `change` carries out.

use jiff::Timestamp;
use url::Url;

use super::manifest::{MAX_ENVELOPE_BYTES, verify};
use super::package::{PackageError, TryError, download, fetch_manifest, try_out};
use super::plan::{MAX_TRIES, Plan, pause_after, plan_update};
use super::state::{Change, Memory, MemoryError, Phase, Trying};
use super::{
    Begin, Manifest, PublicKey, Sha256, SiteError, TrialError, UpdateOutcome, UpdateSite, Updater,
};

impl Updater {
    /// One run in the mode `package`.
    ///
    /// # If interrupted
    /// A try was counted before it began; the next one is due after its pause.
    pub(super) async fn update(
        &self,
        begin: Begin,
        manifest_url: &Url,
        keys: &[PublicKey],
    ) -> Result<UpdateOutcome, MemoryError> {
        let mut memory = Memory::recall(&*self.ledger).await?;
        if memory.state.change.is_some() {
            return self.go_on(&mut memory, None).await;
        }
        self.sync_triggers_late(&mut memory).await?;
        if let Some(outcome) = self.not_yet(&memory, begin) {
            return Ok(outcome);
        }
        let fetched = fetch_manifest(&*self.http, manifest_url, MAX_ENVELOPE_BYTES).await;
        let envelope = match fetched {
            Ok(envelope) => envelope,
            Err(error) => {
                self.count(&mut memory, None);
                return self.failed(&mut memory, &error.to_string(), None).await;
            }
        };
        let digest = Sha256::of(&envelope);
        if let Some(trying) = &memory.state.trying {
            if trying.manifest != Some(digest) {
                // Another manifest starts afresh.
                memory.state.trying = None;
            } else if trying.next_try_at.is_none() {
                let (what, retry_at) = (trying.what.clone(), None);
                return Ok(UpdateOutcome::Failed { what, retry_at });
            }
        }
        match verify(&envelope, keys) {
            Ok(manifest) => self.consider(&mut memory, &manifest, digest).await,
            Err(error) => {
                self.count(&mut memory, Some(digest));
                self.failed(&mut memory, &error.to_string(), None).await
            }
        }
    }

    /// Nothing when something is to be done now.
    fn not_yet(&self, memory: &Memory<'_>, begin: Begin) -> Option<UpdateOutcome> {
        match (&memory.state.trying, begin) {
            (Some(trying), _) if trying.next_try_at.is_some_and(|at| at > self.clock.now()) => {
                Some(UpdateOutcome::Waiting {
                    until: trying.next_try_at,
                    why: trying.what.clone(),
                })
            }
            (Some(trying), Begin::WhenDue) if trying.next_try_at.is_some() => None,
            (_, Begin::WhenDue) => Some(UpdateOutcome::Idle),
            (_, Begin::Always) => None,
        }
    }

    async fn consider(
        &self,
        memory: &mut Memory<'_>,
        manifest: &Manifest,
        digest: Sha256,
    ) -> Result<UpdateOutcome, MemoryError> {
        let now = self.clock.now();
        let version = manifest.version.clone();
        if memory.state.newest.as_ref() != Some(&version) {
            memory.state.newest = Some(version.clone());
            memory
                .state
                .record(now, format_args!("the manifest names {version}"));
        }
        let Some(site) = &self.site else {
            return self.tell_only(memory, manifest).await;
        };
        let plan = plan_update(
            &memory.state,
            manifest,
            &self.running,
            &site.identity(),
            now,
        );
        let outcome = match plan {
            Plan::Update => return self.begin(memory, &**site, manifest, digest).await,
            Plan::UpToDate => {
                memory
                    .state
                    .stands(format_args!("up to date, {} runs", self.running));
                UpdateOutcome::UpToDate
            }
            Plan::Wait { until, why } => {
                memory
                    .state
                    .stands(format_args!("{version} is out and not taken yet: {why}"));
                UpdateOutcome::Waiting { until, why }
            }
            Plan::Refuse(why) => {
                memory
                    .state
                    .troubled(format_args!("{version} is out and not taken: {why}"));
                UpdateOutcome::Refused { version, why }
            }
        };
        memory.state.trying = None;
        memory.keep().await?;
        Ok(outcome)
    }

    /// On a host that does not replace itself.
    async fn tell_only(
        &self,
        memory: &mut Memory<'_>,
        manifest: &Manifest,
    ) -> Result<UpdateOutcome, MemoryError> {
        let version = manifest.version.clone();
        memory.state.trying = None;
        let outcome = if version > self.running {
            memory.state.stands(format_args!(
                "version {version} is out, {} runs; this host does not replace itself",
                self.running
            ));
            UpdateOutcome::NewerExists { version }
        } else {
            memory
                .state
                .stands(format_args!("up to date, {} runs", self.running));
            UpdateOutcome::UpToDate
        };
        memory.keep().await?;
        Ok(outcome)
    }

    /// Verifies the package, tries it, and begins the change.
    ///
    /// # If interrupted
    /// Nothing was changed. The try is counted, and the next one is due after its pause.
    async fn begin(
        &self,
        memory: &mut Memory<'_>,
        site: &dyn UpdateSite,
        manifest: &Manifest,
        digest: Sha256,
    ) -> Result<UpdateOutcome, MemoryError> {
        self.count(memory, Some(digest));
        memory.keep().await?;
        let version = &manifest.version;
        let current = match self.swappable(site).await {
            Ok(Ok(current)) => current,
            Ok(Err(why)) => return self.cannot_swap(memory, manifest, why).await,
            Err(error) => return self.failed_at_site(memory, &error).await,
        };
        if current == manifest.url.as_str() {
            // Set already, by a person as a rule, and the app has not been started from it.
            let why = format!(
                "the app settings name {version} already, and {} still runs",
                self.running
            );
            memory.state.trying = None;
            memory.state.stands(&why);
            memory.keep().await?;
            return Ok(UpdateOutcome::Waiting { until: None, why });
        }
        let package = match download(&*self.http, manifest).await {
            Ok(package) => package,
            Err(error) => return self.failed(memory, &error.to_string(), None).await,
        };
        match try_out(&*self.trial, package, manifest).await {
            Ok(()) => {}
            Err(
                error @ (TryError::Trial(TrialError::DoesNotStart(_))
                | TryError::Package(PackageError::Unfit(_))),
            ) => {
                return self.refuse(memory, manifest, &error.to_string()).await;
            }
            Err(error) => return self.failed(memory, &error.to_string(), None).await,
        }
        let now = self.clock.now();
        let state = &mut memory.state;
        state.record(
            now,
            format_args!("{version}: the package is verified and its program starts here"),
        );
        state.stands(format_args!("changing to {version}"));
        state.change = Some(Change {
            version: version.clone(),
            replaces: self.running.clone(),
            url: manifest.url.to_string(),
            previous: Sha256::of(current.as_bytes()),
            manifest: digest,
            phase: Phase::Preparing,
            begun_at: now,
            tries: 0,
            next_try_at: now,
            swapped_at: None,
            running_since: None,
            are_triggers_synced: false,
            was_healthy: state.was_healthy,
        });
        memory.keep().await?;
        self.go_on(memory, None).await
    }

    /// The url that the app runs from, if another can take its place; or why none can.
    async fn swappable(&self, site: &dyn UpdateSite) -> Result<Result<String, String>, SiteError> {
        if site.is_flex().await? {
            return Ok(Err(
                "the app is on a Flex Consumption plan, which takes its package from a blob container of its own: \
                 deploy the new package there (az functionapp deployment source config-zip)"
                    .to_owned(),
            ));
        }
        let packages = site.packages().await?;
        Ok(match packages.current_url() {
            Some(url) => Ok(url.to_owned()),
            None => Err(format!(
                "the app does not run from a package url: set the app setting {} to the url of the package once, or \
                 set update.mode to repository if it is deployed from source control",
                super::PACKAGE
            )),
        })
    }

    async fn cannot_swap(
        &self,
        memory: &mut Memory<'_>,
        manifest: &Manifest,
        why: String,
    ) -> Result<UpdateOutcome, MemoryError> {
        let version = &manifest.version;
        let state = &mut memory.state;
        state.trying = None;
        state.record(
            self.clock.now(),
            format_args!("{version} is not installed: {why}"),
        );
        state.troubled(format_args!(
            "{version} is out and cannot be installed: {why}"
        ));
        memory.keep().await?;
        Ok(UpdateOutcome::CannotSwap { why })
    }

    async fn refuse(
        &self,
        memory: &mut Memory<'_>,
        manifest: &Manifest,
        why: &str,
    ) -> Result<UpdateOutcome, MemoryError> {
        let (now, version) = (self.clock.now(), manifest.version.clone());
        let state = &mut memory.state;
        state.trying = None;
        state.refuse(&version, why, now);
        state.record(now, format_args!("{version} is refused: {why}"));
        state.troubled(format_args!("{version} is out and not taken: {why}"));
        memory.keep().await?;
        let why = why.to_owned();
        Ok(UpdateOutcome::Refused { version, why })
    }

    /// One run in the mode `repository`.
    ///
    /// # If interrupted
    /// The app may have been told; telling it again changes nothing.
    pub(super) async fn sync_repository(&self, begin: Begin) -> Result<UpdateOutcome, MemoryError> {
        let mut memory = Memory::recall(&*self.ledger).await?;
        if let Some(outcome) = self.not_yet(&memory, begin) {
            return Ok(outcome);
        }
        let Some(site) = &self.site else {
            let what = "update.mode is repository, which is for a function app only".to_owned();
            let retry_at = None;
            return Ok(UpdateOutcome::Failed { what, retry_at });
        };
        self.count(&mut memory, None);
        memory.keep().await?;
        match site.sync_repository().await {
            Ok(()) => {
                let state = &mut memory.state;
                state.trying = None;
                let what = "the app was told to fetch its source repository";
                state.record(self.clock.now(), what);
                state.stands(what);
                memory.keep().await?;
                Ok(UpdateOutcome::RepositorySynced)
            }
            Err(error) => self.failed_at_site(&mut memory, &error).await,
        }
    }

    /// Counts a try. Durable with the next [`Memory::keep`], which comes before the work.
    fn count(&self, memory: &mut Memory<'_>, manifest: Option<Sha256>) {
        let before = memory
            .state
            .trying
            .take()
            .filter(|trying| trying.manifest == manifest && trying.next_try_at.is_some())
            .map_or(0, |trying| trying.tries);
        let tries = before.saturating_add(1);
        memory.state.trying = Some(Trying {
            manifest,
            tries,
            next_try_at: self.next_try_at(tries, None),
            what: "the last try was interrupted".to_owned(),
        });
    }

    async fn failed_at_site(
        &self,
        memory: &mut Memory<'_>,
        error: &SiteError,
    ) -> Result<UpdateOutcome, MemoryError> {
        self.failed(memory, &error.what, error.retry_after).await
    }

    /// Records that the try that was counted failed.
    async fn failed(
        &self,
        memory: &mut Memory<'_>,
        what: &str,
        retry_after: Option<std::time::Duration>,
    ) -> Result<UpdateOutcome, MemoryError> {
        let now = self.clock.now();
        let state = &mut memory.state;
        let mut retry_at = None;
        if let Some(trying) = &mut state.trying {
            trying.what = super::state::short(what);
            trying.next_try_at = self.next_try_at(trying.tries, retry_after);
            retry_at = trying.next_try_at;
        }
        state.record(now, what);
        match retry_at {
            Some(_) => state.troubled(format_args!("the update fails and is tried again: {what}")),
            None => state.troubled(format_args!(
                "the update failed {MAX_TRIES} times and waits for another manifest: {what}"
            )),
        }
        memory.keep().await?;
        let what = what.to_owned();
        Ok(UpdateOutcome::Failed { what, retry_at })
    }

    /// Nothing after the last try.
    fn next_try_at(
        &self,
        tries: u32,
        retry_after: Option<std::time::Duration>,
    ) -> Option<Timestamp> {
        (tries < MAX_TRIES).then(|| self.after_pause(tries, retry_after))
    }

    /// When it is time for another try: after a growing pause, or as much later as was asked for.
    pub(super) fn after_pause(
        &self,
        tries: u32,
        retry_after: Option<std::time::Duration>,
    ) -> Timestamp {
        let asked = retry_after
            .and_then(|wait| wait.try_into().ok())
            .unwrap_or_default();
        let pause = pause_after(tries).max(asked);
        self.clock
            .now()
            .checked_add(pause)
            .unwrap_or(Timestamp::MAX)
    }
}
