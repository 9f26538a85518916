//! A process that dies at a chosen step: what was written stays, and nothing after it happens.

use std::sync::Mutex;

use tokio::sync::Notify;

/// Counts steps down to the one that is the last.
#[derive(Debug, Default)]
pub(crate) struct Death {
    steps_left: Mutex<Option<u32>>,
    has_come: Notify,
}

impl Death {
    /// The process dies right after this many more steps.
    pub(crate) fn after(&self, steps: u32) {
        *self.steps_left.lock().unwrap() = Some(steps);
    }

    /// Whether it is still to come.
    pub(crate) fn is_ahead(&self) -> bool {
        self.steps_left.lock().unwrap().is_some()
    }

    /// To be called after each durable write. Never returns when it was the last one.
    pub(crate) async fn step(&self) {
        let is_last = {
            let mut left = self.steps_left.lock().unwrap();
            let steps = left.map(|steps| steps.saturating_sub(1));
            let is_last = steps == Some(0);
            *left = steps.filter(|_| !is_last);
            is_last
        };
        if is_last {
            self.has_come.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// What `work` came to; nothing when death came first, and `work` was dropped where it stood.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.has_come.notified() => None,
        }
    }
}
