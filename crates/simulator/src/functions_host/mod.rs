//! A stand-in for the Azure Functions host: it drives a real handler process by the documented protocol of custom handlers.
//!
//! The real host cannot be run everywhere. What this one does is written from Microsoft's documents and from what the real
//! one was seen to do; that the two agree is not shown by any test.

mod app;
mod cron;
mod diary;
mod front;
mod inner;
mod invoke;
mod options;
mod queue_trigger;
mod storage;
mod timers;
mod worker;

pub use diary::{Invocation, LogLine, LogSource, Outcome};
pub use options::FunctionsHostOptions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::diary::Diary;
use self::inner::Inner;
use self::worker::{Instance, Order, State};

/// Why a host could not be started, or did not get there.
#[derive(Debug, thiserror::Error)]
pub enum FunctionsHostError {
    /// The deployed app is not one that a host can run.
    #[error("{path}: {reason}", path = path.display())]
    App {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The host's own parts could not be set up.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// The part.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The handler does not run.
    #[error("the handler does not run: {0}")]
    Stopped(String),
}

/// A running host. It works on threads of its own; dropping it ends it and every handler.
#[derive(Debug)]
pub struct FunctionsHost {
    inner: Arc<Inner>,
    origin: String,
    /// Taken when it is dropped: a runtime must not be dropped by blocking inside another one.
    runtime: Option<Runtime>,
}

impl FunctionsHost {
    /// Starts the host and its instances, and waits until each handler answers.
    ///
    /// # Errors
    /// An app that cannot be read or fetched, a port that cannot be opened, a handler that does not come up.
    pub async fn start(options: FunctionsHostOptions) -> Result<Self, FunctionsHostError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("functions-host")
            .enable_all()
            .build()
            .map_err(|error| setup("the runtime", error))?;
        let started = runtime.spawn(Self::start_here(options)).await;
        match started.map_err(|error| setup("the host", error)) {
            Ok(Ok(mut host)) => {
                host.runtime = Some(runtime);
                Ok(host)
            }
            Ok(Err(error)) | Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    async fn start_here(options: FunctionsHostOptions) -> Result<Self, FunctionsHostError> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(|error| setup("the listener", error))?;
        let port = listener
            .local_addr()
            .map_err(|error| setup("the listener", error))?
            .port();
        let client = inner::client(options.roots_pem.as_deref())?;
        let mut settings = options.settings.clone();
        if let Some(site) = &options.site {
            settings.extend(site.settings());
        }
        let mut environment = options.environment.clone();
        environment
            .entry("WEBSITE_HOSTNAME".to_owned())
            .or_insert_with(|| format!("localhost:{port}"));
        let app = inner::deployed(&client, &options.app, &settings).await?;
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let tls = options
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        let count = options.instances;
        let inner = Arc::new(Inner {
            options,
            environment,
            app: Mutex::new(Arc::new(app)),
            settings: Mutex::new(settings),
            broken: Mutex::default(),
            instances: Mutex::default(),
            made: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            last_fired: Mutex::default(),
            diary: Diary::new(),
            client,
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let host = Self {
            inner,
            origin: format!("{scheme}://localhost:{port}"),
            runtime: None,
        };
        let inner = &host.inner;
        inner
            .tasks
            .spawn(front::serve(Arc::clone(inner), listener, tls));
        if inner.options.run_schedules {
            inner.spawn_until_stop(timers::run(Arc::clone(inner)));
        }
        inner.follow_site();
        inner.scale_to(count);
        host.ready().await?;
        Ok(host)
    }

    /// The app's address: `http://localhost:PORT`, or `https://…`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The names of the deployed functions.
    pub fn functions(&self) -> Vec<String> {
        self.inner.app().functions.keys().cloned().collect()
    }

    /// The app settings that the next handler gets.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.inner.settings()
    }

    /// Fires a timer's function and waits for its end.
    ///
    /// # Errors
    /// No handler runs, or there is no such timer.
    pub async fn fire(&self, function: &str) -> Result<Invocation, FunctionsHostError> {
        let (inner, name) = (Arc::clone(&self.inner), function.to_owned());
        let fired = self.on_own_threads(async move {
            let instance = inner.settled_instance().await?;
            let invocation = timers::fire(&inner, &instance, &name).await;
            invocation.ok_or_else(|| FunctionsHostError::App {
                path: inner.app().root.join(&name),
                reason: "no function with a timer".to_owned(),
            })
        });
        fired.await
    }

    /// Runs this many instances, each with a handler of its own. The newest go first. Waits until the new ones answer.
    ///
    /// # Errors
    /// A handler that does not come up.
    pub async fn scale_to(&self, count: usize) -> Result<(), FunctionsHostError> {
        {
            let _entered = self.runtime.as_ref().map(Runtime::enter);
            self.inner.scale_to(count);
        }
        self.ready().await
    }

    /// Ends an instance's handler with SIGKILL, which the host sees as a crash. Counted from 0, the oldest first.
    pub fn kill(&self, instance: usize) {
        if let Some(instance) = self.inner.instances().get(instance) {
            instance.order(Order::Kill);
        }
    }

    /// The process ids of the handlers that answer.
    pub fn pids(&self) -> Vec<u32> {
        let pid = |instance: &Arc<Instance>| match instance.state() {
            State::Ready { pid, .. } => Some(pid),
            _ => None,
        };
        self.inner.instances().iter().filter_map(pid).collect()
    }

    /// Replaces the app settings and restarts every handler with them; waits until the new ones answer.
    ///
    /// # Errors
    /// A handler that does not come up.
    pub async fn change_settings(
        &self,
        settings: BTreeMap<String, String>,
    ) -> Result<(), FunctionsHostError> {
        let inner = Arc::clone(&self.inner);
        self.on_own_threads(async move {
            inner.restart_with(settings).await;
            inner.ready().await
        })
        .await
    }

    /// Reads or fetches the app again and restarts every handler, those that stopped for good too, as the platform does when
    /// it is asked to; waits until the new ones answer.
    ///
    /// # Errors
    /// A handler that does not come up.
    pub async fn restart(&self) -> Result<(), FunctionsHostError> {
        self.change_settings(self.settings()).await
    }

    /// Waits until the handler of each instance answers.
    ///
    /// # Errors
    /// One of them has stopped for good.
    pub async fn ready(&self) -> Result<(), FunctionsHostError> {
        self.inner.ready().await
    }

    /// Why the host has stopped, if it has: the three-crash rule, or a handler that exited with 0.
    pub fn stopped(&self) -> Option<String> {
        self.inner
            .instances()
            .iter()
            .find_map(|instance| match instance.state() {
                State::Stopped(reason) => Some(reason),
                _ => None,
            })
    }

    /// The invocations that have ended, in the order in which they did.
    pub fn invocations(&self) -> Vec<Invocation> {
        self.inner.diary.invocations()
    }

    /// What was logged by the handlers and by the host.
    pub fn logs(&self) -> Vec<LogLine> {
        self.inner.diary.logs()
    }

    /// Waits until `is_there` says so of the host, which it is asked after each invocation, each logged line and each
    /// change of a handler's state; false when it did not within `limit`.
    pub async fn wait_until(&self, limit: Duration, is_there: impl Fn(&Self) -> bool) -> bool {
        let mut changes = self.inner.diary.changes();
        let waiting = async {
            while !is_there(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }

    /// Ends the host in order: SIGTERM to each handler, then SIGKILL; messages under way become visible again.
    pub async fn stop(self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Ends the host as if its machine had lost power: SIGKILL to each handler, and nothing under way is settled.
    pub async fn lose_power(self) {
        self.inner.lost.cancel();
        for instance in self.inner.instances() {
            instance.order(Order::Kill);
            let mut states = instance.states();
            let gone = |state: &State| !matches!(state, State::Ready { .. });
            drop(states.wait_for(gone).await);
        }
        self.stop().await;
    }

    /// Runs work where the host's own tasks run, so that a paused or busy runtime of the caller does not matter.
    async fn on_own_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, FunctionsHostError>> + Send + 'static,
    ) -> Result<T, FunctionsHostError> {
        let Some(runtime) = &self.runtime else {
            return Err(FunctionsHostError::Stopped("the host has ended".to_owned()));
        };
        let done = runtime.spawn(work).await;
        done.map_err(|error| setup("a task", error))?
    }
}

impl Drop for FunctionsHost {
    fn drop(&mut self) {
        self.inner.lost.cancel();
        self.inner.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // The handlers are ended with their tasks.
            runtime.shutdown_background();
        }
    }
}

fn setup(what: &'static str, reason: impl std::fmt::Display) -> FunctionsHostError {
    FunctionsHostError::Setup {
        what,
        reason: reason.to_string(),
    }
}

/// Replaces each `%NAME%` by the app setting of that name; what names none stays as it is.
fn expand(text: &str, settings: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        expanded.push_str(before);
        match after.split_once('%') {
            Some((name, after)) if settings.contains_key(name) => {
                expanded.push_str(settings.get(name).map_or("", String::as_str));
                rest = after;
            }
            _ => {
                expanded.push('%');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_expanded_where_they_are_named() {
        let settings = BTreeMap::from([("A".to_owned(), "0 * * * * *".to_owned())]);
        assert_eq!(expand("%A%", &settings), "0 * * * * *");
        assert_eq!(expand("x%A%y%B%%", &settings), "x0 * * * * *y%B%%");
        assert_eq!(expand("100%", &settings), "100%");
    }
}
