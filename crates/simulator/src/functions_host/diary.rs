//! What happened in the host: each invocation with its end, and each line that was logged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// One call of a function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The id that the host gave it.
    pub id: String,
    /// The function's folder.
    pub function: String,
    /// The instance whose handler was called.
    pub instance: usize,
    /// The HTTP status of the handler's answer; none when there was none.
    pub status: Option<u16>,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The text of the message, for a function that a queue starts.
    pub message: Option<String>,
    /// The handler's answer, for a call in the wrapped form.
    pub answer: Option<serde_json::Value>,
}

impl Invocation {
    /// Whether the host counts it as a success.
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Succeeded
    }
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the protocol wants it.
    Succeeded,
    /// Not so; why.
    Failed(String),
    /// It was not over after the function timeout, and the handler was ended for it.
    TimedOut,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// The handler's standard output.
    Stdout,
    /// The handler's standard error.
    Stderr,
    /// `Logs` in the handler's answer.
    Function,
    /// The host itself.
    Host,
}

/// One logged line.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The instance it belongs to.
    pub instance: usize,
    /// Where it comes from.
    pub source: LogSource,
    /// The line.
    pub text: String,
}

/// Where it is all noted.
#[derive(Debug)]
pub(super) struct Diary {
    pages: Mutex<Pages>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pages {
    invocations: Vec<Invocation>,
    logs: Vec<LogLine>,
}

impl Diary {
    pub(super) fn new() -> Self {
        Self {
            pages: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn note(&self, invocation: Invocation) {
        self.pages().invocations.push(invocation);
        self.changed.send_replace(());
    }

    pub(super) fn log(&self, instance: usize, source: LogSource, text: impl Into<String>) {
        self.pages().logs.push(LogLine {
            instance,
            source,
            text: text.into(),
        });
        self.changed.send_replace(());
    }

    /// To be told that an instance is in another state, so that whoever waits for one looks again.
    pub(super) fn touch(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn invocations(&self) -> Vec<Invocation> {
        self.pages().invocations.clone()
    }

    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.pages().logs.clone()
    }

    /// Learns of each entry from here on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
