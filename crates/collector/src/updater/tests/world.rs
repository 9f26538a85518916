//! A function app to keep up to date: its app settings, the server that releases come from, a clock that is set by hand, and
//! a process that runs whichever version the settings name and may die at any step.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::manifest::tests::{key, manifest};
use super::super::package::tests::{FakeServer, package_of};
use super::super::*;
use crate::testing::{Death, TestLedger};

pub(super) const MANIFEST_URL: &str = "https://releases.example.net/manifest.json";
pub(super) const NEW_URL: &str = "https://releases.example.net/o365-collector-0.2.0.zip";
/// Opened by a signature, as a package in a storage account is: a secret.
pub(super) const OLD_URL: &str =
    "https://account.example.net/packages/0.1.0.zip?sig=CANARY-of-the-package";

/// A clock that stands still.
#[derive(Debug)]
pub(super) struct HandClock(Mutex<Timestamp>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// What the trial of a program comes to.
#[derive(Debug, Clone)]
pub(super) enum Trying {
    Prints(&'static str),
    DoesNotStart,
    Undecided,
}

pub(super) struct FakeTrial(pub(super) Mutex<Trying>);

#[async_trait]
impl Trial for FakeTrial {
    async fn version_of(&self, executable: &Path) -> Result<String, TrialError> {
        assert!(executable.exists());
        match self.0.lock().unwrap().clone() {
            Trying::Prints(text) => Ok(text.to_owned()),
            Trying::DoesNotStart => Err(TrialError::DoesNotStart("exit status: 127".to_owned())),
            Trying::Undecided => Err(TrialError::Undecided("no room".to_owned())),
        }
    }
}

/// What Azure answers to one write.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// Nothing is written.
    Refused(&'static str, Option<u64>),
    /// It is written, and the answer gets lost.
    Lost,
}

pub(super) struct AppSettings {
    pub(super) current: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) is_flex: bool,
    pub(super) answers: VecDeque<Write>,
    pub(super) write_count: u32,
    pub(super) sync_count: u32,
    pub(super) repository_sync_count: u32,
    /// The app is not started anew when its settings change.
    pub(super) is_stuck: bool,
    pub(super) running: String,
}

pub(super) struct FakeSite {
    pub(super) settings: Mutex<AppSettings>,
    death: Arc<Death>,
}

impl FakeSite {
    fn answer(&self) -> Option<Write> {
        self.settings.lock().unwrap().answers.pop_front()
    }
}

fn error(what: &str, retry_after: Option<u64>) -> SiteError {
    SiteError {
        what: what.to_owned(),
        retry_after: retry_after.map(std::time::Duration::from_secs),
    }
}

#[async_trait]
impl UpdateSite for FakeSite {
    fn identity(&self) -> String {
        "subscription/group/site".to_owned()
    }

    async fn is_flex(&self) -> Result<bool, SiteError> {
        Ok(self.settings.lock().unwrap().is_flex)
    }

    async fn packages(&self) -> Result<Packages, SiteError> {
        let settings = self.settings.lock().unwrap();
        Ok(Packages {
            current: settings.current.clone().map(SecretString::from),
            previous: settings.previous.clone().map(SecretString::from),
        })
    }

    async fn set_packages(
        &self,
        current: &SecretString,
        previous: Option<&SecretString>,
    ) -> Result<(), SiteError> {
        let answer = self.answer();
        if let Some(Write::Refused(what, retry_after)) = answer {
            return Err(error(what, retry_after));
        }
        {
            let mut settings = self.settings.lock().unwrap();
            let current = current.expose_secret().to_owned();
            if !settings.is_stuck {
                settings.running.clone_from(&current);
            }
            settings.current = Some(current);
            if let Some(previous) = previous {
                settings.previous = Some(previous.expose_secret().to_owned());
            }
            settings.write_count += 1;
        }
        self.death.step().await;
        match answer {
            Some(Write::Lost) => Err(error("no answer in time", None)),
            _ => Ok(()),
        }
    }

    async fn sync_triggers(&self) -> Result<(), SiteError> {
        if let Some(Write::Refused(what, retry_after)) = self.answer() {
            return Err(error(what, retry_after));
        }
        self.settings.lock().unwrap().sync_count += 1;
        self.death.step().await;
        Ok(())
    }

    async fn sync_repository(&self) -> Result<(), SiteError> {
        if let Some(Write::Refused(what, retry_after)) = self.answer() {
            return Err(error(what, retry_after));
        }
        self.settings.lock().unwrap().repository_sync_count += 1;
        Ok(())
    }
}

pub(super) struct World {
    pub(super) ledger: Arc<TestLedger>,
    pub(super) site: Arc<FakeSite>,
    pub(super) server: Arc<FakeServer>,
    pub(super) clock: Arc<HandClock>,
    pub(super) trial: Arc<FakeTrial>,
    pub(super) death: Arc<Death>,
    pub(super) package: Vec<u8>,
    _folder: tempfile::TempDir,
}

impl World {
    /// 0.1.0 runs from a package, and 0.2.0 is out and good.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = TestLedger::open(&folder.path().join("ledger.db"));
        let death = ledger.death();
        let settings = AppSettings {
            current: Some(OLD_URL.to_owned()),
            previous: None,
            is_flex: false,
            answers: VecDeque::new(),
            write_count: 0,
            sync_count: 0,
            repository_sync_count: 0,
            is_stuck: false,
            running: OLD_URL.to_owned(),
        };
        let world = Self {
            site: Arc::new(FakeSite {
                settings: Mutex::new(settings),
                death: Arc::clone(&death),
            }),
            ledger,
            server: Arc::default(),
            clock: Arc::new(HandClock(Mutex::new(
                "2026-08-01T00:00:00Z".parse().unwrap(),
            ))),
            trial: Arc::new(FakeTrial(Mutex::new(Trying::Prints(
                "o365-collector 0.2.0\n",
            )))),
            death,
            package: package_of("the program"),
            _folder: folder,
        };
        world.server.put(NEW_URL, 200, world.package.clone());
        world.publish(&world.release());
        world
    }

    /// The manifest of the release that is out.
    pub(super) fn release(&self) -> Manifest {
        Manifest {
            sha256: Sha256::of(&self.package),
            size: self.package.len() as u64,
            ..manifest()
        }
    }

    pub(super) fn publish(&self, manifest: &Manifest) {
        self.server
            .put(MANIFEST_URL, 200, sign(manifest, &[key(1)]));
    }

    /// The process as it starts now: the version that the app was last started from.
    pub(super) fn updater(&self) -> Updater {
        let running = self.settings(|settings| settings.running.clone());
        let config = UpdateConfig::Package {
            manifest_url: MANIFEST_URL.parse().unwrap(),
            public_keys: vec![key(1).public()],
        };
        let site: Arc<dyn UpdateSite> = Arc::<FakeSite>::clone(&self.site);
        let mut updater = self.build(config, Some(site));
        let version = if running == OLD_URL { "0.1.0" } else { "0.2.0" };
        updater.running = version.parse().unwrap();
        updater
    }

    pub(super) fn build(&self, config: UpdateConfig, site: Option<Arc<dyn UpdateSite>>) -> Updater {
        Updater::build(
            config,
            site,
            Arc::<TestLedger>::clone(&self.ledger),
            Arc::<FakeServer>::clone(&self.server),
            Arc::<HandClock>::clone(&self.clock),
            Arc::<FakeTrial>::clone(&self.trial),
        )
    }

    pub(super) async fn run_once(&self) -> UpdateOutcome {
        self.updater().run_once(&CancellationToken::new()).await
    }

    pub(super) async fn run_due(&self) -> UpdateOutcome {
        self.updater().run_due(&CancellationToken::new()).await
    }

    pub(super) async fn after_master(&self, is_healthy: bool) -> UpdateOutcome {
        self.updater().after_master(is_healthy).await
    }

    pub(super) fn pass(&self, minutes: i64) {
        let mut now = self.clock.0.lock().unwrap();
        *now += SignedDuration::from_mins(minutes);
    }

    pub(super) fn settings<T>(&self, look: impl FnOnce(&mut AppSettings) -> T) -> T {
        look(&mut self.site.settings.lock().unwrap())
    }

    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Write>) {
        self.settings(|settings| settings.answers.extend(answers));
    }

    pub(super) fn current(&self) -> String {
        self.settings(|settings| settings.current.clone().unwrap_or_default())
    }

    pub(super) fn write_count(&self) -> u32 {
        self.settings(|settings| settings.write_count)
    }

    pub(super) async fn view(&self) -> UpdateView {
        self.updater().view().await.expect("there was a run")
    }

    pub(super) async fn events(&self) -> Vec<String> {
        let view = self.view().await;
        view.events.into_iter().map(|event| event.what).collect()
    }

    /// As the function app lives: Poll calls every minute, and Master runs when it is asked for. The process dies where it
    /// is told to, and a new one goes on.
    pub(super) async fn live(&self, minutes: i64, is_healthy: bool) {
        for minute in 0..minutes {
            let updater = self.updater();
            let stop = CancellationToken::new();
            let work = async {
                let outcome = match minute {
                    0 => updater.run_once(&stop).await,
                    _ => updater.run_due(&stop).await,
                };
                if matches!(outcome, UpdateOutcome::AwaitsHealth { .. }) {
                    // Whichever version runs by now is asked.
                    self.updater().after_master(is_healthy).await;
                }
            };
            // Dead or not, the next minute comes.
            self.death.or(work).await;
            self.pass(1);
        }
    }
}
