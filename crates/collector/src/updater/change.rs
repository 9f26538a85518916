//! Carries out a change that was begun: into the app settings, over the restart, until it is confirmed or taken back. Each
//! call goes on from what the ledger and the app settings say, whichever version of the program it finds itself in.

use secrecy::{ExposeSecret as _, SecretString};

use super::plan::{MAX_TRIES, Standing, Verdict, plan_confirmation, standing};
use super::site::Packages;
use super::state::{Change, Memory, MemoryError, Phase, Unsynced};
use super::{Sha256, SiteError, UpdateOutcome, UpdateSite, Updater};

/// The host finds out by itself at its next start, so this is soon given up.
const MAX_SYNC_TRIES: u32 = 5;

/// How one step of a change ended.
enum Step {
    /// Another phase begins.
    Next,
    /// This is all for now.
    Done(UpdateOutcome),
}

impl Updater {
    /// Goes on with the change under way. `is_healthy` is what a run of Master just found.
    ///
    /// # If interrupted
    /// Each phase is in the ledger before its work begins, and what the app settings say is asked before they are written:
    /// the next call finds out how far this one came.
    pub(super) async fn go_on(
        &self,
        memory: &mut Memory<'_>,
        is_healthy: Option<bool>,
    ) -> Result<UpdateOutcome, MemoryError> {
        let Some(site) = &self.site else {
            // A ledger that was moved here out of a function app.
            memory.state.change = None;
            memory.keep().await?;
            return Ok(UpdateOutcome::Idle);
        };
        loop {
            let Some(change) = memory.state.change.clone() else {
                return Ok(UpdateOutcome::Idle);
            };
            let step = match &change.phase {
                Phase::Preparing => self.swap(memory, &**site, change).await?,
                Phase::Swapped => {
                    self.await_health(memory, &**site, change, is_healthy)
                        .await?
                }
                Phase::TakingBack { why } => {
                    let why = why.clone();
                    self.take_back(memory, &**site, change, &why).await?
                }
            };
            if let Step::Done(outcome) = step {
                return Ok(outcome);
            }
        }
    }

    /// Has the app settings name the new package, and the previous one beside it.
    ///
    /// # If interrupted
    /// The settings name the new package or the previous one, and the next call asks which.
    async fn swap(
        &self,
        memory: &mut Memory<'_>,
        site: &dyn UpdateSite,
        change: Change,
    ) -> Result<Step, MemoryError> {
        // Where the new version runs already the settings were written, whatever the pause was for.
        if change.next_try_at > self.clock.now() && self.running != change.version {
            return Ok(waiting(&change));
        }
        let change = self.count_phase(memory, change).await?;
        let packages = match site.packages().await {
            Ok(packages) => packages,
            Err(error) => return self.phase_failed(memory, change, &error).await,
        };
        match standing(&change, &packages) {
            Standing::New => {}
            Standing::Previous if change.tries > MAX_TRIES => {
                let why = "the app settings could not be changed";
                return self.give_up(memory, &change, why).await;
            }
            Standing::Previous => {
                let new = SecretString::from(change.url.as_str());
                let written = site.set_packages(&new, packages.current.as_ref()).await;
                if let Err(error) = written {
                    return self.phase_failed(memory, change, &error).await;
                }
            }
            Standing::Other => {
                let why =
                    "the app settings name a third package, which somebody else must have set";
                return self.abandon(memory, &change, why).await;
            }
        }
        let version = &change.version;
        let state = &mut memory.state;
        state.trying = None;
        state.record(
            self.clock.now(),
            format_args!("{version}: the app settings name the new package"),
        );
        state.stands(format_args!(
            "changed to {version}, which has yet to show that it is healthy"
        ));
        let change = Change {
            swapped_at: Some(self.clock.now()),
            ..change
        };
        self.enter(memory, change, Phase::Swapped).await?;
        Ok(Step::Next)
    }

    /// Tells the Functions host of the change, and judges it once there is something to judge by.
    ///
    /// # If interrupted
    /// The next call does the same.
    async fn await_health(
        &self,
        memory: &mut Memory<'_>,
        site: &dyn UpdateSite,
        mut change: Change,
        is_healthy: Option<bool>,
    ) -> Result<Step, MemoryError> {
        let now = self.clock.now();
        let version = change.version.clone();
        if self.running == version && change.running_since.is_none() {
            change.running_since = Some(now);
            memory
                .state
                .record(now, format_args!("{version} has started"));
            memory.state.change = Some(change.clone());
            memory.keep().await?;
        }
        if !change.are_triggers_synced {
            match site.sync_triggers().await {
                Ok(()) => {
                    change.are_triggers_synced = true;
                    memory
                        .state
                        .record(now, format_args!("{version}: triggers synced"));
                }
                // No reason to wait, nor to go back: the host finds out at its next start.
                Err(error) => memory
                    .state
                    .record(now, format_args!("{version}: triggers not synced: {error}")),
            }
            memory.state.change = Some(change.clone());
            memory.keep().await?;
        }
        match plan_confirmation(&change, &self.running, is_healthy, now) {
            Verdict::Wait { until } => {
                if is_healthy == Some(false) {
                    memory.state.record(
                        now,
                        format_args!("{version}: Master does not find everything healthy"),
                    );
                    memory.keep().await?;
                }
                Ok(Step::Done(UpdateOutcome::AwaitsHealth { version, until }))
            }
            Verdict::Confirm => {
                let state = &mut memory.state;
                state.change = None;
                state.was_healthy = is_healthy;
                state.unsynced = (!change.are_triggers_synced).then(|| self.unsynced());
                state.record(now, format_args!("{version} runs and is confirmed"));
                state.stands(format_args!("{version} runs and is confirmed"));
                memory.keep().await?;
                Ok(Step::Done(UpdateOutcome::Confirmed { version }))
            }
            Verdict::TakeBack(why) => {
                let state = &mut memory.state;
                state.record(now, format_args!("{version} is taken back: {why}"));
                state.troubled(format_args!("{version} is being taken back: {why}"));
                self.enter(memory, change, Phase::TakingBack { why })
                    .await?;
                Ok(Step::Next)
            }
            Verdict::Abandon(why) => self.abandon(memory, &change, &why).await,
        }
    }

    /// Has the app settings name the previous package again. Tried for as long as it takes: it can only end in one way.
    ///
    /// # If interrupted
    /// The settings name the new package or the previous one, and the next call asks which.
    async fn take_back(
        &self,
        memory: &mut Memory<'_>,
        site: &dyn UpdateSite,
        change: Change,
        why: &str,
    ) -> Result<Step, MemoryError> {
        if change.next_try_at > self.clock.now() {
            return Ok(waiting(&change));
        }
        let change = self.count_phase(memory, change).await?;
        let packages = match site.packages().await {
            Ok(packages) => packages,
            Err(error) => return self.phase_failed(memory, change, &error).await,
        };
        match standing(&change, &packages) {
            Standing::Previous => {}
            Standing::New => {
                let Some(previous) = previous_of(&change, &packages) else {
                    let why = format!(
                        "{why}; and it cannot be taken back, as the app setting {} does not name the previous package \
                         any more: set {} by hand",
                        super::PREVIOUS_PACKAGE,
                        super::PACKAGE
                    );
                    return self.give_up(memory, &change, &why).await;
                };
                if let Err(error) = site.set_packages(previous, None).await {
                    return self.phase_failed(memory, change, &error).await;
                }
            }
            Standing::Other => {
                memory.state.refuse(&change.version, why, self.clock.now());
                let why = format!("{why}; the app settings name a third package meanwhile");
                return self.abandon(memory, &change, &why).await;
            }
        }
        let (now, version) = (self.clock.now(), change.version);
        let state = &mut memory.state;
        state.change = None;
        state.refuse(&version, why, now);
        state.unsynced = Some(Unsynced {
            tries: 0,
            next_try_at: now,
        });
        state.record(now, format_args!("{version}: the previous package is back"));
        state.troubled(format_args!("{version} was taken back: {why}"));
        memory.keep().await?;
        self.sync_triggers_late(memory).await?;
        let why = why.to_owned();
        Ok(Step::Done(UpdateOutcome::RolledBack { version, why }))
    }

    /// Tells the Functions host what it was not told yet, when that is due.
    ///
    /// # If interrupted
    /// It is told again: that changes nothing.
    pub(super) async fn sync_triggers_late(
        &self,
        memory: &mut Memory<'_>,
    ) -> Result<(), MemoryError> {
        let now = self.clock.now();
        let (Some(site), Some(unsynced)) = (&self.site, memory.state.unsynced.clone()) else {
            return Ok(());
        };
        if unsynced.next_try_at > now {
            return Ok(());
        }
        let tries = unsynced.tries.saturating_add(1);
        match site.sync_triggers().await {
            Ok(()) => {
                memory.state.unsynced = None;
                memory.state.record(now, "triggers synced");
            }
            Err(error) if tries < MAX_SYNC_TRIES => {
                let next_try_at = self.after_pause(tries, error.retry_after);
                memory.state.unsynced = Some(Unsynced { tries, next_try_at });
                memory
                    .state
                    .record(now, format_args!("triggers not synced: {error}"));
            }
            Err(error) => {
                memory.state.unsynced = None;
                memory.state.record(
                    now,
                    format_args!("triggers not synced, the next start does it: {error}"),
                );
            }
        }
        memory.keep().await
    }

    fn unsynced(&self) -> Unsynced {
        Unsynced {
            tries: 1,
            next_try_at: self.after_pause(1, None),
        }
    }

    /// Counts a try of the present phase before it begins.
    async fn count_phase(
        &self,
        memory: &mut Memory<'_>,
        mut change: Change,
    ) -> Result<Change, MemoryError> {
        change.tries = change.tries.saturating_add(1);
        change.next_try_at = self.after_pause(change.tries, None);
        memory.state.change = Some(change.clone());
        memory.keep().await?;
        Ok(change)
    }

    async fn phase_failed(
        &self,
        memory: &mut Memory<'_>,
        mut change: Change,
        error: &SiteError,
    ) -> Result<Step, MemoryError> {
        let (what, version) = (error.to_string(), &change.version);
        let now = self.clock.now();
        memory.state.record(now, format_args!("{version}: {what}"));
        memory.state.troubled(format_args!(
            "the change to {version} is held up and tried again: {what}"
        ));
        change.next_try_at = self.after_pause(change.tries, error.retry_after);
        let retry_at = Some(change.next_try_at);
        memory.state.change = Some(change);
        memory.keep().await?;
        Ok(Step::Done(UpdateOutcome::Failed { what, retry_at }))
    }

    async fn enter(
        &self,
        memory: &mut Memory<'_>,
        change: Change,
        phase: Phase,
    ) -> Result<(), MemoryError> {
        memory.state.change = Some(Change {
            phase,
            tries: 0,
            next_try_at: self.clock.now(),
            ..change
        });
        memory.keep().await
    }

    /// Ends a change that does not come to a good end, and never begins it again.
    async fn give_up(
        &self,
        memory: &mut Memory<'_>,
        change: &Change,
        why: &str,
    ) -> Result<Step, MemoryError> {
        let (now, version) = (self.clock.now(), &change.version);
        let state = &mut memory.state;
        state.change = None;
        state.refuse(version, why, now);
        state.record(now, format_args!("{version} is given up: {why}"));
        state.troubled(format_args!("{version} is given up: {why}"));
        memory.keep().await?;
        let what = format!("{version} is given up: {why}");
        let retry_at = None;
        Ok(Step::Done(UpdateOutcome::Failed { what, retry_at }))
    }

    /// Ends a change that somebody else overtook. What they set stays.
    async fn abandon(
        &self,
        memory: &mut Memory<'_>,
        change: &Change,
        why: &str,
    ) -> Result<Step, MemoryError> {
        let (now, version) = (self.clock.now(), change.version.clone());
        let state = &mut memory.state;
        state.change = None;
        state.record(now, format_args!("{version} is given up: {why}"));
        state.troubled(format_args!("{version} was given up: {why}"));
        memory.keep().await?;
        let why = why.to_owned();
        Ok(Step::Done(UpdateOutcome::Abandoned { version, why }))
    }
}

fn waiting(change: &Change) -> Step {
    Step::Done(UpdateOutcome::Waiting {
        until: Some(change.next_try_at),
        why: format!("the change to {} is held up", change.version),
    })
}

/// The package to go back to, if it is still the one that was replaced.
fn previous_of<'p>(change: &Change, packages: &'p Packages) -> Option<&'p SecretString> {
    packages
        .previous
        .as_ref()
        .filter(|previous| Sha256::of(previous.expose_secret().as_bytes()) == change.previous)
}
