//! What the host's parts share: the app as it is deployed, its settings, its instances, and how all of it is replaced.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app::App;
use super::diary::Diary;
use super::worker::{Instance, Order, State};
use super::{FunctionsHostError, FunctionsHostOptions, queue_trigger, setup, worker};
use crate::SiteChange;
use crate::tls::client_config;

/// The setting that names the package to run: a URL, or 1 for what is deployed.
const PACKAGE: &str = "WEBSITE_RUN_FROM_PACKAGE";

/// What the host's parts share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: FunctionsHostOptions,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) app: Mutex<Arc<App>>,
    pub(super) settings: Mutex<BTreeMap<String, String>>,
    /// Why the package that the settings name cannot be run.
    pub(super) broken: Mutex<Option<String>>,
    pub(super) instances: Mutex<Vec<Arc<Instance>>>,
    /// Counts up, so that no two instances have the same number.
    pub(super) made: AtomicUsize,
    pub(super) turn: AtomicUsize,
    pub(super) last_fired: Mutex<HashMap<String, Timestamp>>,
    pub(super) diary: Diary,
    /// For the handlers, on this machine.
    pub(super) client: reqwest::Client,
    pub(super) stop: CancellationToken,
    /// Nobody is left to settle what is under way.
    pub(super) lost: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Inner {
    pub(super) fn app(&self) -> Arc<App> {
        Arc::clone(&lock(&self.app))
    }

    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        lock(&self.settings).clone()
    }

    /// Why the package that the settings name cannot be run.
    pub(super) fn broken(&self) -> Option<String> {
        lock(&self.broken).clone()
    }

    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        lock(&self.instances).clone()
    }

    pub(super) fn function_timeout(&self) -> Duration {
        self.options
            .function_timeout
            .unwrap_or_else(|| self.app().function_timeout)
    }

    /// `AzureWebJobs.NAME.Disabled` among the app settings.
    pub(super) fn is_disabled(&self, function: &str) -> bool {
        let name = format!("AzureWebJobs.{function}.Disabled");
        lock(&self.settings)
            .get(&name)
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// Notes that a timer fires at this time; when it did before.
    pub(super) fn fired(&self, function: &str, now: Timestamp) -> Option<Timestamp> {
        lock(&self.last_fired).insert(function.to_owned(), now)
    }

    /// An instance whose handler answers.
    pub(super) fn ready_instance(&self) -> Option<Arc<Instance>> {
        let is_ready = |instance: &Arc<Instance>| matches!(instance.state(), State::Ready { .. });
        self.instances().into_iter().find(is_ready)
    }

    /// The first instance whose handler answers, waited for while one may come up.
    pub(super) async fn settled_instance(&self) -> Result<Arc<Instance>, FunctionsHostError> {
        let mut reason = "there is no instance".to_owned();
        for instance in self.instances() {
            match instance.settled().await {
                State::Stopped(why) => reason = why,
                _ => return Ok(instance),
            }
        }
        Err(FunctionsHostError::Stopped(reason))
    }

    /// The next instance in turn.
    pub(super) async fn next_instance(&self) -> Option<Arc<Instance>> {
        let instances = self.instances();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for offset in 0..instances.len() {
            let instance = instances.get((turn + offset) % instances.len())?;
            if !matches!(instance.settled().await, State::Stopped(_)) {
                return Some(Arc::clone(instance));
            }
        }
        None
    }

    pub(super) async fn ready(&self) -> Result<(), FunctionsHostError> {
        for instance in self.instances() {
            if let State::Stopped(reason) = instance.settled().await {
                return Err(FunctionsHostError::Stopped(reason));
            }
        }
        Ok(())
    }

    pub(super) fn scale_to(self: &Arc<Self>, count: usize) {
        let mut instances = lock(&self.instances);
        let kept = count.min(instances.len());
        for instance in instances.drain(kept..) {
            instance.stop.cancel();
        }
        while instances.len() < count {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let (instance, orders) = Instance::new(number, self.stop.child_token());
            self.tasks
                .spawn(worker::run(Arc::clone(self), Arc::clone(&instance), orders));
            if self.options.listen_to_queues {
                let listening = queue_trigger::run(Arc::clone(self), Arc::clone(&instance));
                let stop = instance.stop.clone();
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = listening => {}
                    }
                });
            }
            instances.push(instance);
        }
    }

    /// The new settings, the package that they name, and a new handler for each instance.
    pub(super) async fn restart_with(&self, settings: BTreeMap<String, String>) {
        match deployed(&self.client, &self.options.app, &settings).await {
            Ok(app) => {
                *lock(&self.app) = Arc::new(app);
                *lock(&self.broken) = None;
            }
            // Without its package the app does not run, as at the platform: what ran before is not started again.
            Err(error) => *lock(&self.broken) = Some(error.to_string()),
        }
        *lock(&self.settings) = settings;
        let mut waiting = Vec::new();
        for instance in self.instances() {
            let mut states = instance.states();
            states.mark_unchanged();
            instance.order(Order::Restart);
            waiting.push(states);
        }
        // Each has heard the order when its state has changed; whoever waits for `ready` then waits for the new handler.
        for mut states in waiting {
            drop(states.changed().await);
        }
    }

    /// Restarts when Azure Resource Manager is told to replace the app settings.
    pub(super) fn follow_site(self: &Arc<Self>) {
        let Some(site) = &self.options.site else {
            return;
        };
        let (changes, mut heard) = mpsc::unbounded_channel();
        // A host that has ended hears nothing, and need not.
        site.watch(move |change| drop(changes.send(change.clone())));
        let inner = Arc::clone(self);
        self.spawn_until_stop(async move {
            while let Some(change) = heard.recv().await {
                match change {
                    SiteChange::Settings(mut settings) => {
                        tokio::time::sleep(inner.options.restart_delay).await;
                        // Changes that follow at once make one restart.
                        while let Ok(next) = heard.try_recv() {
                            if let SiteChange::Settings(newer) = next {
                                settings = newer;
                            }
                        }
                        for (name, value) in &inner.options.settings {
                            settings
                                .entry(name.clone())
                                .or_insert_with(|| value.clone());
                        }
                        inner.restart_with(settings).await;
                    }
                    // The folder may hold something else by now.
                    SiteChange::RepositorySynced => inner.restart_with(inner.settings()).await,
                    SiteChange::TriggersSynced => {}
                }
            }
        });
    }

    pub(super) fn spawn_until_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without a limit of its own: each call has the function's.
pub(super) fn client(roots: Option<&str>) -> Result<reqwest::Client, FunctionsHostError> {
    let roots: Vec<&str> = roots.into_iter().collect();
    let tls = client_config(&roots).map_err(|error| setup("TLS", error))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| setup("the client", error))
}

/// The app as the settings say: the package that they name, fetched at each start as the platform does, else what is deployed.
pub(super) async fn deployed(
    client: &reqwest::Client,
    folder: &Path,
    settings: &BTreeMap<String, String>,
) -> Result<App, FunctionsHostError> {
    match settings.get(PACKAGE).filter(|url| url.starts_with("http")) {
        Some(url) => fetch_package(client, url).await,
        None => open_app(folder.to_owned()).await,
    }
}

async fn open_app(path: PathBuf) -> Result<App, FunctionsHostError> {
    tokio::task::spawn_blocking(move || App::open(&path))
        .await
        .map_err(|error| setup("the app", error))?
}

async fn fetch_package(client: &reqwest::Client, url: &str) -> Result<App, FunctionsHostError> {
    // The address may hold a signature that lets anyone in, so no error tells it.
    let failed = |error: reqwest::Error| FunctionsHostError::App {
        path: PathBuf::from(PACKAGE),
        reason: format!("the package cannot be fetched: {}", error.without_url()),
    };
    let response = client
        .get(url)
        .timeout(Duration::from_secs(60))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let bytes = response.bytes().await.map_err(failed)?;
    let file = tempfile::NamedTempFile::new().map_err(|error| setup("a file", error))?;
    std::fs::write(file.path(), &bytes).map_err(|error| setup("a file", error))?;
    open_app(file.path().to_owned()).await
}
