//! Blobs that somebody asks for by name, and who waits to hear what came of each. Many may ask at once; one pass works
//! for all of them, so that a sink sees full batches and never two passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use activity_api::TenantId;
use ledger::{BlobName, LeaseKey};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// What came of asking for one blob. What became of the blob itself stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It was leased, and the lease has ended: it is delivered, settled otherwise, or due again later.
    Ended,
    /// It was not leased: somebody else has it, it is settled or not due, or its sinks or its tenant are not to be had.
    NotLeased,
    /// Nobody tried: the process is ending, or whoever asked has no more time.
    NotTried,
    /// The ledger did not answer, so nothing is known.
    LedgerFailed,
}

/// Whoever asked learns it here.
type Waiting = Vec<oneshot::Sender<Turn>>;

/// The blobs that were asked for and have not had their turn.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    state: Mutex<State>,
    /// Told when a blob is asked for.
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    untried: BTreeMap<BlobName, Waiting>,
    leased: BTreeMap<LeaseKey, Leased>,
    is_closed: bool,
}

#[derive(Debug)]
struct Leased {
    name: BlobName,
    waiting: Waiting,
    /// Set when nobody has any more time for this blob.
    give_up: CancellationToken,
}

impl Wanted {
    /// Asks for a blob. Whoever asks for one that was asked for already, or is under way, waits for the same turn.
    pub(crate) fn ask(&self, name: BlobName) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.is_closed {
            tell(vec![sender], Turn::NotTried);
            return receiver;
        }
        match state.leased.values_mut().find(|leased| leased.name == name) {
            Some(leased) => leased.waiting.push(sender),
            None => {
                state.untried.entry(name).or_default().push(sender);
                self.asked.notify_one();
            }
        }
        receiver
    }

    /// There is no more time for this blob: it is not begun any more, and given back where it was.
    pub(crate) fn give_up(&self, name: &BlobName) {
        let mut state = self.state();
        if let Some(waiting) = state.untried.remove(name) {
            tell(waiting, Turn::NotTried);
        }
        for leased in state.leased.values().filter(|leased| leased.name == *name) {
            leased.give_up.cancel();
        }
    }

    /// Waits until a blob is asked for that was not tried yet.
    pub(crate) async fn wait(&self) {
        while self.is_empty() {
            self.asked.notified().await;
        }
    }

    /// Waits until one more blob is asked for. May return once for a blob that was tried already.
    pub(super) async fn one_more(&self) {
        self.asked.notified().await;
    }

    /// Whether no blob waits for its turn.
    pub(super) fn is_empty(&self) -> bool {
        self.state().untried.is_empty()
    }

    /// Up to `max_count` of those to try, leaving out the tenants that have no place for more.
    pub(super) fn next(&self, max_count: usize, busy: &[TenantId]) -> Vec<BlobName> {
        let state = self.state();
        let free = state
            .untried
            .keys()
            .filter(|name| !busy.contains(&name.tenant));
        free.take(max_count).cloned().collect()
    }

    /// Of `tried` these were leased, and the others not.
    pub(super) fn leased(&self, tried: &[BlobName], leased: Vec<(LeaseKey, BlobName)>) {
        let mut state = self.state();
        for (key, name) in leased {
            let waiting = state.untried.remove(&name).unwrap_or_default();
            let give_up = CancellationToken::new();
            // All who asked have left, or given it up, while the ledger was asked.
            if waiting.iter().all(oneshot::Sender::is_closed) {
                give_up.cancel();
            }
            let leased = Leased {
                name,
                waiting,
                give_up,
            };
            state.leased.insert(key, leased);
        }
        tell_all(&mut state, tried, Turn::NotLeased);
    }

    /// The ledger did not say which of these may be had.
    pub(super) fn failed(&self, tried: &[BlobName]) {
        tell_all(&mut self.state(), tried, Turn::LedgerFailed);
    }

    /// When to give this blob up, if it was asked for by name.
    pub(super) fn give_up_of(&self, key: LeaseKey) -> Option<CancellationToken> {
        let state = self.state();
        state.leased.get(&key).map(|leased| leased.give_up.clone())
    }

    /// These leases are not ours any more.
    pub(super) fn ended(&self, keys: &[LeaseKey]) {
        let mut state = self.state();
        for key in keys {
            if let Some(leased) = state.leased.remove(key) {
                tell(leased.waiting, Turn::Ended);
            }
        }
    }

    /// A pass begins: what an earlier one, that was dropped, had under way has ended with it.
    pub(super) fn begin_pass(&self) {
        let keys: Vec<_> = self.state().leased.keys().copied().collect();
        self.ended(&keys);
    }

    /// Nothing more is begun. Whoever asks from here on is told so at once.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let untried: BTreeSet<_> = state.untried.keys().cloned().collect();
        tell_all(&mut state, &untried, Turn::NotTried);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_all<'n>(state: &mut State, names: impl IntoIterator<Item = &'n BlobName>, turn: Turn) {
    for name in names {
        if let Some(waiting) = state.untried.remove(name) {
            tell(waiting, turn);
        }
    }
}

fn tell(waiting: Waiting, turn: Turn) {
    for sender in waiting {
        if sender.send(turn).is_err() {
            tracing::debug!(?turn, "whoever asked for a blob has gone away");
        }
    }
}
