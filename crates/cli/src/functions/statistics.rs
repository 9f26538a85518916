//! How often each function was called and how often it failed, for the check-in. Counted in the ledger, because the
//! platform starts and ends processes as it likes; gathered in memory first, because not every call is worth a write.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::Ledger;
use tracing::warn;

use super::manifest::Function;

/// Counts that are not in the ledger yet.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<BTreeMap<String, u64>>);

/// The ledger's counter of a function's calls.
pub(crate) fn invocations(function: Function) -> String {
    format!("invocations/{}", function.name())
}

/// The ledger's counter of those that failed.
pub(crate) fn errors(function: Function) -> String {
    format!("errors/{}", function.name())
}

impl Statistics {
    /// The function was called, and it went well or did not.
    pub(crate) fn count(&self, function: Function, is_error: bool) {
        let mut counts = self.counts();
        *counts.entry(invocations(function)).or_default() += 1;
        if is_error {
            *counts.entry(errors(function)).or_default() += 1;
        }
    }

    /// Writes down what was counted so far.
    ///
    /// # If interrupted
    /// What the ledger did not take is kept for the next time. Where it took it and could not say so, it is counted
    /// twice: these numbers are for people.
    pub(crate) async fn flush(&self, ledger: &dyn Ledger) {
        let counts = std::mem::take(&mut *self.counts());
        if counts.is_empty() {
            return;
        }
        let increments = counts.clone().into_iter().collect();
        if let Err(cause) = ledger.count(increments).await {
            warn!(
                cause = &cause as &dyn std::error::Error,
                "invocations could not be counted, will try again"
            );
            let mut kept = self.counts();
            for (name, count) in counts {
                *kept.entry(name).or_default() += count;
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! Counts that are kept until the ledger has them.

    use ledger::{Ledger as _, SqliteLedger};

    use super::*;

    #[tokio::test]
    async fn what_was_counted_is_in_the_ledger_once() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(folder.path().join("ledger.db")).unwrap();
        let statistics = Statistics::default();
        statistics.flush(&ledger).await;
        statistics.count(Function::Poll, false);
        statistics.count(Function::Poll, true);
        statistics.count(Function::WebHook, false);
        for _ in 0..2 {
            statistics.flush(&ledger).await;
        }
        let read = |prefix: &'static str| ledger.counters(prefix);
        assert_eq!(
            read("invocations/").await.unwrap(),
            [
                ("invocations/O365WebHook".to_owned(), 1),
                ("invocations/Poll".to_owned(), 2)
            ]
        );
        assert_eq!(
            read("errors/").await.unwrap(),
            [("errors/Poll".to_owned(), 1)]
        );
    }
}
