//! A storm while it blows: which request meets what. Each answer depends on the seed, the fault's place in the file, and
//! the number of the request, blob or listing; the time only decides whether a fault is in force.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::FaultAction;
use super::storm::{Class, Storm, StormFault, What, draw};
use crate::RequestKind;

/// The storm's state.
#[derive(Debug)]
pub(crate) struct Weather {
    seed: u64,
    start_ms: i64,
    faults: Vec<StormFault>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests of each kind so far.
    ordinals: HashMap<RequestKind, u64>,
    /// How often each fault was met.
    met: HashMap<usize, u64>,
    /// How often each blob or listing met each fault.
    times: HashMap<(usize, u64), u32>,
}

/// What a request meets.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Waited before anything else, in real time.
    pub(crate) delay: Duration,
    pub(crate) harm: Option<Harm>,
}

/// What happens to a request or its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Harm {
    /// Answered with this, and not carried out.
    Refusal(FaultAction, Option<u32>),
    /// Not carried out; the connection is closed after this long without an answer.
    Silence(Duration),
    /// Carried out, but the answer never leaves.
    AnswerLost,
    /// Carried out, but the answer's body comes otherwise.
    Body(BodyHarm, u64),
    /// The listing's next page is not what it should be.
    Listing(ListingHarm, u64),
}

/// What becomes of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BodyHarm {
    Truncated,
    Reset,
    Drip(Duration),
    Garbage,
    Html(u16),
    BrokenGzip,
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListingHarm {
    /// At an address that no token may be sent to.
    Hostile,
    /// At the page that was just given.
    Repeated,
    /// At the page that was asked for, of which nothing was given.
    Empty,
    /// At the first page.
    Circle,
}

impl Harm {
    /// Whether the request is carried out without its sender learning of it.
    pub(crate) fn loses_answer(&self) -> bool {
        match self {
            Self::AnswerLost => true,
            Self::Body(harm, _) => !matches!(harm, BodyHarm::Drip(_)),
            Self::Refusal(..) | Self::Silence(_) | Self::Listing(..) => false,
        }
    }

    /// Whether a sink is to refuse the batch for what is in it. Such a refusal of one single record is believed, so it
    /// is only given to more.
    pub(crate) fn refuses_batch(&self) -> bool {
        matches!(
            self,
            Self::Refusal(FaultAction::Status { status: 400 | 413 }, _)
        )
    }
}

impl Weather {
    pub(crate) fn new(storm: &Storm, seed: u64, start_ms: i64) -> Self {
        Self {
            seed: storm.seed.unwrap_or(seed),
            start_ms,
            faults: storm.faults.clone(),
            state: Mutex::default(),
        }
    }

    /// What the next request of this kind meets. `key` is the number of the blob or listing that it asks for. The first
    /// harm in the file's order wins; delays add up.
    pub(crate) fn meet(&self, kind: RequestKind, key: Option<u64>, now_ms: i64) -> Met {
        let mut met = Met::default();
        if self.faults.is_empty() {
            return met;
        }
        let mut state = self.state();
        let ordinal = state.ordinals.entry(kind).or_default();
        let at = *ordinal;
        *ordinal += 1;
        for (number, fault) in self.faults.iter().enumerate() {
            let is_kind = fault.kinds.contains(&kind);
            if !is_kind || !fault.is_time(now_ms.saturating_sub(self.start_ms)) {
                continue;
            }
            let key = key.filter(|_| fault.in_a_row.is_none());
            let of = key.unwrap_or_else(|| at / fault.in_a_row.unwrap_or(1));
            // Requests of different kinds have numbers of their own.
            let drawn = draw(self.seed, number, of ^ ((kind as u64) << 56));
            let Some(what) = fault.pick(drawn).filter(|_| fault.is_drawn(drawn)) else {
                continue;
            };
            let harm = harm_of(what, drawn);
            if harm.is_some() && met.harm.is_some() {
                continue;
            }
            if !state.takes(number, fault, key) {
                continue;
            }
            match what {
                What::Slow(secs) => met.delay += secs,
                _ => met.harm = harm,
            }
        }
        met
    }

    /// Whether a listing names this blob with an address that no token may be sent to; a drawn number, to choose which.
    pub(crate) fn hostile_uri(&self, blob: u64, now_ms: i64) -> Option<u64> {
        let mut state = None;
        for (number, fault) in self.faults.iter().enumerate() {
            if !fault.is_time(now_ms.saturating_sub(self.start_ms)) {
                continue;
            }
            let drawn = draw(self.seed, number, blob);
            if fault.pick(drawn) != Some(What::HostileUri) || !fault.is_drawn(drawn) {
                continue;
            }
            let state = state.get_or_insert_with(|| self.state());
            if state.takes(number, fault, Some(blob)) {
                return Some(drawn);
            }
        }
        None
    }

    /// How far the services' clock is off at present.
    pub(crate) fn skew_ms(&self, now_ms: i64) -> i64 {
        let skew = self
            .faults
            .iter()
            .filter_map(|fault| match fault.whats.first() {
                Some(What::ClockSkew(ms))
                    if fault.is_time(now_ms.saturating_sub(self.start_ms)) =>
                {
                    Some(*ms)
                }
                _ => None,
            });
        skew.sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts that a fault is met, unless it was met as often as it may be.
    fn takes(&mut self, number: usize, fault: &StormFault, key: Option<u64>) -> bool {
        let met = self.met.get(&number).copied().unwrap_or(0);
        if fault.at_most.is_some_and(|most| met >= most) {
            return false;
        }
        if let Some(key) = key {
            let times = self.times.entry((number, key)).or_default();
            if *times >= fault.times {
                return false;
            }
            *times += 1;
        }
        self.met.insert(number, met + 1);
        true
    }
}

fn harm_of(what: What, drawn: u64) -> Option<Harm> {
    debug_assert!(matches!(what.class(), Class::Request | Class::Listing));
    Some(match what {
        What::Status(status, retry_after) => {
            Harm::Refusal(FaultAction::Status { status }, retry_after)
        }
        What::Throttled(status, retry_after) => {
            Harm::Refusal(FaultAction::Throttled { status }, retry_after)
        }
        What::Hangup => Harm::Silence(Duration::ZERO),
        What::Hang(secs) => Harm::Silence(secs),
        What::AnswerLost => Harm::AnswerLost,
        What::Truncated => Harm::Body(BodyHarm::Truncated, drawn),
        What::Reset => Harm::Body(BodyHarm::Reset, drawn),
        What::Drip(secs) => Harm::Body(BodyHarm::Drip(secs), drawn),
        What::Garbage => Harm::Body(BodyHarm::Garbage, drawn),
        What::Html(status) => Harm::Body(BodyHarm::Html(status), drawn),
        What::BrokenGzip => Harm::Body(BodyHarm::BrokenGzip, drawn),
        What::HostilePage => Harm::Listing(ListingHarm::Hostile, drawn),
        What::RepeatedPage => Harm::Listing(ListingHarm::Repeated, drawn),
        What::EmptyPage => Harm::Listing(ListingHarm::Empty, drawn),
        What::Circle => Harm::Listing(ListingHarm::Circle, drawn),
        _ => return None,
    })
}
