//! One instance of the app: starts its handler, waits until it answers, restarts it when it ends, and gives up at the third
//! crash within half an hour.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::diary::LogSource;

/// How often the host looks whether the handler answers.
const READY_POLL: Duration = Duration::from_millis(25);

/// The third error within this time stops the host.
const CRASH_WINDOW: Duration = Duration::from_secs(30 * 60);
const MAX_CRASHES: usize = 3;

/// A handler that exits with 0 is not replaced, and one that exits with 200 is, without being held against it.
const RESTART_EXIT_CODE: i32 = 200;

/// How an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its handler does not answer yet, or not any more.
    Starting,
    /// Its handler answers at this port.
    Ready { port: u16, pid: u32 },
    /// Nothing starts it again but a restart.
    Stopped(String),
}

/// What is to be done with the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGTERM, then a new one with the settings as they are then. The crashes so far are forgotten with the old host.
    Restart,
    /// SIGKILL, which is a crash.
    Kill,
    /// SIGKILL and a new one, as after a function's timeout. No crash.
    Replace,
}

/// An instance of the app, which the platform scales.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) number: usize,
    id: String,
    state: watch::Sender<State>,
    orders: mpsc::UnboundedSender<Order>,
    pub(super) stop: CancellationToken,
}

/// Why a handler is no more.
enum End {
    Exited(Option<ExitStatus>),
    NeverReady(String),
    Asked(Order),
    Stopped,
}

impl Instance {
    pub(super) fn new(
        number: usize,
        stop: CancellationToken,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (orders, received) = mpsc::unbounded_channel();
        let instance = Self {
            number,
            id: uuid::Uuid::new_v4().to_string(),
            state: watch::Sender::new(State::Starting),
            orders,
            stop,
        };
        (Arc::new(instance), received)
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// An instance that has ended takes no orders, and needs none.
    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).ok();
    }

    /// Waits until the handler answers, or never will.
    pub(super) async fn settled(&self) -> State {
        let mut states = self.states();
        let settled = states.wait_for(|state| *state != State::Starting).await;
        settled.map_or_else(|_| self.state(), |state| state.clone())
    }

    fn become_(&self, state: State, inner: &Inner) {
        self.state.send_replace(state);
        inner.diary.touch();
    }
}

/// Keeps a handler running until the instance is stopped.
pub(super) async fn run(
    inner: Arc<Inner>,
    instance: Arc<Instance>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut crashes: Vec<Instant> = Vec::new();
    loop {
        instance.become_(State::Starting, &inner);
        let end = run_handler(&inner, &instance, &mut orders).await;
        instance.become_(State::Starting, &inner);
        let say = |text: String| inner.diary.log(instance.number, LogSource::Host, text);
        let stopped = match end {
            End::Stopped => {
                instance.become_(
                    State::Stopped("the instance was stopped".to_owned()),
                    &inner,
                );
                return;
            }
            End::Asked(Order::Restart) => {
                crashes.clear();
                continue;
            }
            End::Asked(_) => continue,
            End::Exited(Some(status)) if status.code() == Some(RESTART_EXIT_CODE) => continue,
            End::Exited(Some(status)) if status.success() => {
                "the handler exited with code 0, which the host takes for an end".to_owned()
            }
            End::Exited(_) | End::NeverReady(_) => {
                let reason = match end {
                    End::Exited(Some(status)) => format!("the handler ended: {status}"),
                    End::NeverReady(reason) => reason,
                    _ => "the handler is gone".to_owned(),
                };
                say(reason.clone());
                crashes.retain(|at| at.elapsed() < CRASH_WINDOW);
                crashes.push(Instant::now());
                if crashes.len() < MAX_CRASHES {
                    continue;
                }
                format!("the host stops after {MAX_CRASHES} errors: {reason}")
            }
        };
        say(stopped.clone());
        instance.become_(State::Stopped(stopped), &inner);
        loop {
            tokio::select! {
                () = instance.stop.cancelled() => return,
                order = orders.recv() => match order {
                    Some(Order::Restart) => break,
                    Some(_) => {}
                    None => return,
                },
            }
        }
        crashes.clear();
    }
}

/// One handler from its start to its end.
async fn run_handler(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> End {
    if let Some(reason) = inner.broken() {
        return End::NeverReady(reason);
    }
    let (mut child, port) = match spawn_patiently(inner, instance).await {
        Ok(started) => started,
        Err(error) => return End::NeverReady(format!("the handler cannot be started: {error}")),
    };
    let grace = inner.options.grace;
    let Some(pid) = child.id() else {
        return End::Exited(child.wait().await.ok());
    };
    tokio::select! {
        () = instance.stop.cancelled() => {
            end(&mut child, pid, grace).await;
            return End::Stopped;
        }
        Some(order) = orders.recv() => {
            return obey(&mut child, pid, grace, order).await;
        }
        status = child.wait() => return End::Exited(status.ok()),
        is_ready = answers(inner, port) => if !is_ready {
            drop(child.kill().await);
            return End::NeverReady("the handler did not answer on its port in time".to_owned());
        }
    }
    instance.become_(State::Ready { port, pid }, inner);
    tokio::select! {
        () = instance.stop.cancelled() => {
            instance.become_(State::Starting, inner);
            end(&mut child, pid, grace).await;
            End::Stopped
        }
        Some(order) = orders.recv() => {
            instance.become_(State::Starting, inner);
            obey(&mut child, pid, grace, order).await
        }
        status = child.wait() => End::Exited(status.ok()),
    }
}

async fn obey(child: &mut Child, pid: u32, grace: Duration, order: Order) -> End {
    match order {
        Order::Restart => {
            end(child, pid, grace).await;
            End::Asked(order)
        }
        Order::Kill => {
            drop(child.kill().await);
            End::Exited(child.wait().await.ok())
        }
        Order::Replace => {
            drop(child.kill().await);
            End::Asked(order)
        }
    }
}

/// SIGTERM, and SIGKILL when that was not heard.
async fn end(child: &mut Child, pid: u32, grace: Duration) {
    terminate(pid);
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

#[cfg(unix)]
fn terminate(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};

    // A process that is gone already needs no signal.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM).ok();
    }
}

#[cfg(not(unix))]
fn terminate(_: u32) {}

/// A file that was just written cannot be executed while some other process that is being started has yet to let go of it.
async fn spawn_patiently(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
) -> std::io::Result<(Child, u16)> {
    for _ in 0..100 {
        match spawn(inner, instance) {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(READY_POLL).await;
            }
            done => return done,
        }
    }
    spawn(inner, instance)
}

fn spawn(inner: &Arc<Inner>, instance: &Arc<Instance>) -> std::io::Result<(Child, u16)> {
    let app = inner.app();
    let settings = inner.settings();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port();
    let executable = match &inner.options.executable {
        Some(executable) => executable.clone(),
        None => app.root.join(&app.executable),
    };
    let directory: PathBuf = app.root.join(&app.working_directory);
    let mut command = Command::new(executable);
    command
        .args(
            app.arguments
                .iter()
                .map(|argument| super::expand(argument, &settings)),
        )
        .current_dir(directory)
        // Nothing of the test's own environment: what the handler needs, the app settings must say.
        .env_clear()
        .envs(&inner.environment)
        .envs(&settings)
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
        .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &instance.id)
        .env("FUNCTIONS_APP_ROOT_PATH", &app.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(stdout) = child.stdout.take() {
        inner.tasks.spawn(listen(
            Arc::clone(inner),
            instance.number,
            LogSource::Stdout,
            stdout,
        ));
    }
    if let Some(stderr) = child.stderr.take() {
        inner.tasks.spawn(listen(
            Arc::clone(inner),
            instance.number,
            LogSource::Stderr,
            stderr,
        ));
    }
    Ok((child, port))
}

/// Notes each line until the handler closes its end.
async fn listen(
    inner: Arc<Inner>,
    instance: usize,
    source: LogSource,
    stream: impl AsyncRead + Unpin,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        inner.diary.log(instance, source, line);
    }
}

/// Any HTTP answer counts; only an error of the socket means "not yet".
async fn answers(inner: &Inner, port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}/");
    let asking = async {
        while inner.client.get(&url).send().await.is_err() {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(inner.options.start_limit, asking)
        .await
        .is_ok()
}
