//! The bound on the quarantine. Nothing is ever dropped to keep it: what finds no room waits, and says why.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ledger::{Ledger, Summary};
use tracing::{error, info, warn};

use crate::status::Live;
use crate::telemetry;

/// How full it is when a person is told, in percent: early enough to look before anything has to wait.
const ALARM_PERCENT: u64 = 80;

/// How long a measurement is believed while there is no room: somebody may have made some, and each look reads the
/// ledger's numbers.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// How long what found no room waits before it is tried again: a person has to act first, and a blob that waits is fetched
/// again for nothing each time.
pub(crate) const ROOM_AGAIN: Duration = Duration::from_secs(60);

/// How full the quarantine is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is room.
    #[default]
    Fine,
    /// Over four fifths are used.
    Filling,
    /// Something found no room, or nothing would.
    Full,
}

impl Level {
    /// The level at which `held` of `max_bytes` bytes are used.
    #[must_use]
    pub fn of(held: u64, max_bytes: u64) -> Self {
        if held >= max_bytes {
            Self::Full
        } else if u128::from(held) * 100 >= u128::from(max_bytes) * u128::from(ALARM_PERCENT) {
            Self::Filling
        } else {
            Self::Fine
        }
    }
}

/// There is no room in quarantine for what should go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quarantine is full ({held} of {max_bytes} bytes): decide with `quarantine retry` or `quarantine drop`, or raise quarantine.max_mib"
)]
pub struct Full {
    /// Bytes in it.
    pub held: u64,
    /// Bytes that may be in it.
    pub max_bytes: u64,
}

/// Why nothing can be set aside now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error(transparent)]
    Full(#[from] Full),
    /// How much is there is not known.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// Counts what goes into quarantine, by all that set aside in this process.
///
/// Others may set aside too, and a person takes out: so the ledger is asked at the start, with each look at its numbers,
/// and before anything is told to wait. Between two looks the bound may be passed by what other processes add.
pub(crate) struct Bound {
    max_bytes: u64,
    live: Live,
    state: Mutex<State>,
}

/// When the ledger is asked: how much had been taken by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look(u64);

#[derive(Debug, Default)]
struct State {
    held: Option<u64>,
    /// All that was ever taken.
    taken: u64,
    measured_at: Option<Timestamp>,
    /// How much was there when something found no room.
    refused_at: Option<u64>,
    level: Level,
}

impl Bound {
    pub(crate) fn new(max_bytes: u64, live: Live) -> Self {
        live.set_quarantine_bound(max_bytes);
        telemetry::quarantine_bound(max_bytes);
        Self {
            max_bytes,
            live,
            state: Mutex::default(),
        }
    }

    /// Counts `bytes` more as held. What is then not set aside after all is corrected by the next look.
    ///
    /// # Errors
    /// When they do not fit, or it cannot be known whether they do.
    ///
    /// # If interrupted
    /// Nothing is counted, or what is counted is corrected by the next look.
    pub(crate) async fn take(
        &self,
        bytes: u64,
        ledger: &dyn Ledger,
        now: Timestamp,
    ) -> Result<(), NoRoom> {
        if !self.is_known() {
            self.measure(ledger, now).await?;
        }
        if self.reserve(bytes) {
            return Ok(());
        }
        if self.is_stale(now) {
            self.measure(ledger, now).await?;
            if self.reserve(bytes) {
                return Ok(());
            }
        }
        let mut state = self.state();
        let held = state.held.unwrap_or_default();
        state.refused_at = Some(held);
        self.note(&mut state);
        Err(Full {
            held,
            max_bytes: self.max_bytes,
        }
        .into())
    }

    /// To be called before the ledger is asked for the numbers that [`Bound::measured`] is told of.
    pub(crate) fn look(&self) -> Look {
        Look(self.state().taken)
    }

    /// What the ledger says, which does not know of what was taken since it was asked.
    pub(crate) fn measured(&self, look: Look, summary: &Summary, now: Timestamp) {
        let mut state = self.state();
        let since = state.taken.saturating_sub(look.0);
        let held = held(summary).saturating_add(since);
        state.held = Some(held);
        state.measured_at = Some(now);
        if state.refused_at.is_some_and(|refused_at| held < refused_at) {
            state.refused_at = None;
        }
        self.note(&mut state);
    }

    async fn measure(&self, ledger: &dyn Ledger, now: Timestamp) -> Result<(), ledger::Error> {
        let look = self.look();
        self.measured(look, &ledger.summary(now).await?, now);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> bool {
        let mut state = self.state();
        let held = state.held.unwrap_or_default().saturating_add(bytes);
        if held > self.max_bytes {
            return false;
        }
        state.held = Some(held);
        state.taken = state.taken.saturating_add(bytes);
        self.note(&mut state);
        true
    }

    fn is_known(&self) -> bool {
        self.state().held.is_some()
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        // Also when the clock was set back: an age that cannot be is none.
        self.state()
            .measured_at
            .is_none_or(|at| now.duration_since(at).abs() >= LOOK_AGAIN)
    }

    /// Tells of a level once, when it is reached.
    fn note(&self, state: &mut State) {
        let held = state.held.unwrap_or_default();
        telemetry::quarantine_held(held);
        let level = match state.refused_at {
            Some(_) => Level::Full,
            None => Level::of(held, self.max_bytes),
        };
        let before = std::mem::replace(&mut state.level, level);
        if before == level {
            return;
        }
        let max_bytes = self.max_bytes;
        self.live.set_quarantine_level(level);
        match level {
            Level::Full => error!(
                held_bytes = held,
                max_bytes, "the quarantine is full, what should go there waits"
            ),
            Level::Filling if before == Level::Fine => {
                warn!(held_bytes = held, max_bytes, "the quarantine fills up");
            }
            Level::Filling | Level::Fine => {
                info!(
                    held_bytes = held,
                    max_bytes, "the quarantine has room again"
                );
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in quarantine, of all tenants.
pub(crate) fn held(summary: &Summary) -> u64 {
    let streams = summary.streams.iter();
    streams.fold(0, |held, stream| {
        held.saturating_add(stream.quarantined_byte_count)
    })
}
