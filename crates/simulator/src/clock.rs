//! The simulated time: the real time, shifted and sped up at will. All services of one simulator share one clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A clock that starts at the real or a chosen time, runs at the real speed or another, and can be set forward.
#[derive(Debug)]
pub struct SimClock {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    simulated: Timestamp,
    real: Instant,
    speed: f64,
}

impl State {
    fn now(&self) -> Timestamp {
        let passed = self.real.elapsed().mul_f64(self.speed);
        self.simulated
            .checked_add(signed(passed))
            .unwrap_or(Timestamp::MAX)
    }
}

impl SimClock {
    pub(crate) fn new(start_at: Option<Timestamp>) -> Self {
        let simulated = start_at.unwrap_or_else(real_now);
        Self {
            state: Mutex::new(State {
                simulated,
                real: Instant::now(),
                speed: 1.0,
            }),
        }
    }

    /// The simulated time.
    pub fn now(&self) -> Timestamp {
        self.lock().now()
    }

    /// Sets the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.simulated = state
            .simulated
            .checked_add(signed(by))
            .unwrap_or(Timestamp::MAX);
    }

    /// Sets the clock to a time, which may be in its past: a server's clock can jump back.
    pub fn set(&self, now: Timestamp) {
        let mut state = self.lock();
        state.simulated = now;
        state.real = Instant::now();
    }

    /// Makes simulated time pass `speed` times as fast as real time; 0 stops it. Negative and infinite speeds count as 0.
    pub fn set_speed(&self, speed: f64) {
        let mut state = self.lock();
        state.simulated = state.now();
        state.real = Instant::now();
        state.speed = if speed.is_finite() {
            speed.clamp(0.0, 1e9)
        } else {
            0.0
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator is a server of its own and so has the real time to start from"
)]
pub(crate) fn real_now() -> Timestamp {
    Timestamp::now()
}
