//! Everything outside of the process, which its deaths do not touch: the time, what Microsoft and the sinks have, what
//! happened, and what was found wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chance::Chance;
use super::history::History;
use super::microsoft::Listings;
use super::plan::{Fault, PART_BYTES, Plan, beginning};
use super::sink::Taken;
use super::truth::Truth;
use crate::clock::Clock;
use crate::memory::Memory;
use crate::record::Batch;
use crate::status::Live;

/// One record at a time may be larger than a part, on top of the bound: so large is the longest part with such a record.
const LONGEST_PART: usize = 4 * PART_BYTES;

pub(crate) struct World {
    pub(crate) plan: Plan,
    state: Mutex<State>,
    death: Notify,
}

pub(crate) struct State {
    /// Delays, faults, and whatever else is decided on the way.
    pub(crate) chance: Chance,
    pub(crate) history: History,
    /// Since when the present life has been going, in both times.
    life: Option<(Timestamp, Instant)>,
    /// When the last life ended.
    ended_at: Timestamp,
    life_count: u32,
    /// Nothing goes wrong any more, and nothing takes long.
    is_calm: bool,
    /// Of a hundred steps, how many take time, and how many take long.
    slowness: (usize, usize),
    pub(crate) truth: Truth,
    pub(crate) listings: Listings,
    /// What each sink has.
    pub(crate) taken: Vec<Taken>,
    /// The parts in sinks' hands, by where they are in memory: how often, and their text.
    hands: BTreeMap<usize, (u32, usize)>,
    memory: Option<Memory>,
    live: Option<Live>,
    /// When the status first had an alarm that blobs will be lost.
    pub(crate) alarmed_at: Option<Timestamp>,
    violations: Vec<String>,
}

enum Pause {
    Death,
    None,
    Yield,
    Sleep(Duration),
}

impl World {
    pub(crate) fn new(plan: Plan, keeps_lines: bool) -> Self {
        let state = State {
            chance: Chance::apart(plan.seed, 2),
            history: History::new(keeps_lines),
            life: None,
            ended_at: beginning(),
            life_count: 0,
            is_calm: false,
            slowness: (
                plan.roughness.slow_percent,
                plan.roughness.very_slow_percent,
            ),
            truth: Truth::new(&plan),
            listings: Listings::new(&plan),
            taken: plan.sinks.iter().map(|_| Taken::default()).collect(),
            hands: BTreeMap::new(),
            memory: None,
            live: None,
            alarmed_at: None,
            violations: Vec::new(),
        };
        Self {
            plan,
            state: Mutex::new(state),
            death: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts at `at`. To be called inside of its runtime.
    pub(crate) fn begin_life(&self, at: Timestamp, dies_in: Option<usize>) {
        let mut state = self.state();
        state.life = Some((at, Instant::now()));
        state.life_count += 1;
        let count = state.life_count;
        state.history.begin_life(dies_in);
        state.history.note(&format!("{at} life {count}"));
        state.truth.begin_life();
        state.listings.begin_life();
    }

    /// The store that bounds the text in flight of the present life.
    pub(crate) fn watch(&self, memory: Memory, live: Live) {
        let mut state = self.state();
        state.live = Some(live);
        state.hands.clear();
        state.memory = Some(memory);
    }

    /// The process is gone, and its memory with it. The time stands still until the next one starts.
    pub(crate) fn end_life(&self, at: Timestamp) {
        let mut state = self.state();
        state.memory = None;
        state.live = None;
        state.life = None;
        state.ended_at = at;
    }

    /// Looks at the status, as a person might.
    pub(crate) fn look_at_status(&self) {
        let mut state = self.state();
        if state.live.as_ref().is_some_and(Live::has_alarm) {
            let now = state.now();
            state.alarmed_at.get_or_insert(now);
        }
    }

    /// A sink takes a batch into its hands, or lets go of it. No more text may be in all hands than the memory's bound.
    pub(crate) fn hold(&self, batch: &Batch, is_held: bool) {
        let mut state = self.state();
        for part in batch.parts() {
            let at = Arc::as_ptr(part).addr();
            let entry = state.hands.entry(at).or_insert((0, part.text_bytes()));
            entry.0 = if is_held {
                entry.0 + 1
            } else {
                entry.0.saturating_sub(1)
            };
        }
        state.hands.retain(|_, (count, _)| *count > 0);
        let in_hands: usize = state.hands.values().map(|(_, bytes)| bytes).sum();
        let bound = state.memory.as_ref().map_or(0, Memory::total_bytes);
        if in_hands > bound + LONGEST_PART {
            state.violate(format!(
                "{in_hands} bytes are in sinks' hands and {bound} may be"
            ));
        }
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn calm_down(&self) {
        self.state().is_calm = true;
    }

    /// Waits until the process is to die.
    pub(crate) async fn death(&self) {
        // A permit may be left over from an earlier life, at whose end several tasks asked for death.
        while !self.state().history.is_dead() {
            self.death.notified().await;
        }
    }

    /// A moment at which the process meets the outside: it may take time, others may go first, and the process may die
    /// here, after which nothing that it does reaches anybody.
    pub(crate) async fn step(&self, what: impl FnOnce() -> String) {
        let pause = self.state().step(what);
        match pause {
            Pause::Death => {
                self.death.notify_one();
                std::future::pending().await
            }
            Pause::None => return,
            Pause::Yield => tokio::task::yield_now().await,
            Pause::Sleep(time) => tokio::time::sleep(time).await,
        }
        if self.state().history.is_dead() {
            std::future::pending().await
        }
    }

    /// Whether this fault happens now.
    pub(crate) fn goes_wrong(&self, fault: Fault) -> bool {
        let rough = &self.plan.roughness;
        if !rough.faults.contains(&fault) {
            return false;
        }
        let percent = match fault {
            Fault::LedgerFails
            | Fault::LedgerFailsButWrote
            | Fault::LedgerFull
            | Fault::SlowLease => rough.ledger_percent,
            Fault::SinkDown
            | Fault::SinkTakesAndFails
            | Fault::SinkTakesSome
            | Fault::SinkSlow
            | Fault::SinkLocked
            | Fault::SinkPanics => rough.sink_percent,
            _ => rough.microsoft_percent,
        };
        let mut state = self.state();
        !state.is_calm && state.chance.percent(percent)
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        let mut state = self.state();
        let line = format!("{} {}", state.now(), what());
        state.history.note(&line);
    }

    /// Something is not as it must be.
    pub(crate) fn violate(&self, what: impl Into<String>) {
        self.state().violate(what);
    }
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        self.life
            .map_or(self.ended_at, |(at, since)| at + since.elapsed())
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn life_count(&self) -> u32 {
        self.life_count
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let what = format!("{} {}", self.now(), what.into());
        self.history.note(&format!("WRONG: {what}"));
        self.violations.push(what);
    }

    fn step(&mut self, what: impl FnOnce() -> String) -> Pause {
        if self.history.is_dead() {
            return Pause::Death;
        }
        let line = format!("{} {}", self.now(), what());
        if self.history.step(&line) {
            return Pause::Death;
        }
        let (slow, very_slow) = match self.is_calm {
            true => (0, 0),
            false => self.slowness,
        };
        if self.chance.percent(very_slow) {
            Pause::Sleep(self.chance.secs(5..90))
        } else if self.chance.percent(slow) {
            match self.chance.below(4) {
                0 => Pause::Sleep(self.chance.millis(1..30)),
                1 => Pause::Sleep(self.chance.millis(30..3_000)),
                _ => Pause::Yield,
            }
        } else {
            Pause::None
        }
    }
}

/// The time as the present life's process sees it.
#[derive(Debug)]
pub(crate) struct LifeClock {
    pub(crate) start: Timestamp,
    pub(crate) started: Instant,
}

impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        self.start + self.started.elapsed()
    }
}
