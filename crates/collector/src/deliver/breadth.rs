//! How many blobs are fetched at once: as many as it takes to have Microsoft's answers come without a gap, and no more.
//! A long way to Microsoft wants many; where this machine is the slow one, more would only be more connections, each with
//! its handshake and its buffers.

use std::time::Duration;

/// As many are always allowed. Enough where answers come in a few milliseconds.
const LEAST: usize = 16;
/// Of this part of its way an answer may have stood in a line, here or there, and more at once still bring more.
const FEW: f64 = 0.25;
/// From here on fewer at once bring as many.
const MANY: f64 = 0.6;
/// A fetch that spends less of its time than this on its way to Microsoft waits for memory, and that for the sinks: more at
/// once would only be more that wait.
const MOST_OF_IT: f64 = 0.5;

/// How many blobs may be fetched at once, by what the last answers took.
#[derive(Debug)]
pub(super) struct Breadth {
    most: usize,
    now: usize,
    /// Whether all of them were in use since the last change.
    was_full: bool,
    count: usize,
    took: Duration,
    needed: Duration,
    carried: Duration,
}

impl Breadth {
    /// Never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            now: most.min(LEAST),
            was_full: false,
            count: 0,
            took: Duration::ZERO,
            needed: Duration::ZERO,
            carried: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// All are in use.
    pub(super) fn is_full(&mut self) {
        self.was_full = true;
    }

    /// `count` answers took so long together, and would have taken `needed` if each had come as fast as the fastest. The
    /// fetch of a blob, from its beginning to its end, was `carried` long.
    pub(super) fn note(
        &mut self,
        count: usize,
        took: Duration,
        needed: Duration,
        carried: Duration,
    ) {
        self.count += count;
        self.took += took;
        self.needed += needed;
        self.carried += carried;
        // A round, so that a change shows before the next one.
        if self.count < self.now {
            return;
        }
        let waited = self.took.saturating_sub(self.needed);
        // Answers that take no time stand in no line.
        let part = match self.took.is_zero() {
            true => 0.0,
            false => waited.as_secs_f64() / self.took.as_secs_f64(),
        };
        let is_way = self.took.as_secs_f64() >= MOST_OF_IT * self.carried.as_secs_f64();
        if part < FEW && is_way && self.was_full {
            self.now = (self.now * 2).min(self.most);
        } else if part > MANY {
            self.now = (self.now - self.now / 4).max(self.most.min(LEAST));
        }
        self.was_full = false;
        self.count = 0;
        self.took = Duration::ZERO;
        self.needed = Duration::ZERO;
        self.carried = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// So many rounds of answers that take `of(at once)`, the fastest of them `fastest`.
    fn after(rounds: usize, fastest: Duration, of: impl Fn(u32) -> Duration) -> usize {
        let mut breadth = Breadth::new(128);
        for _ in 0..rounds {
            breadth.is_full();
            for _ in 0..breadth.now() {
                let took = of(u32::try_from(breadth.now()).unwrap());
                breadth.note(1, took, fastest, took);
            }
        }
        breadth.now()
    }

    #[test]
    fn a_long_way_to_microsoft_has_more_fetched_at_once() {
        assert_eq!(after(0, 150 * MS, |_| 152 * MS), LEAST);
        assert_eq!(after(3, 150 * MS, |_| 152 * MS), 128);
    }

    #[test]
    fn a_busy_machine_has_no_more_fetched_than_keep_it_busy() {
        // Each answer keeps the machine for half a millisecond, and stands in line behind all others.
        assert_eq!(after(50, MS, |at_once| MS * at_once / 2), LEAST);
        // The same, far from Microsoft.
        let far = after(50, 20 * MS, |at_once| (20 * MS).max(MS * at_once));
        assert!((20..=64).contains(&far), "{far}");
    }

    #[test]
    fn no_more_are_fetched_than_there_are_or_than_is_allowed() {
        let mut breadth = Breadth::new(128);
        for _ in 0..1_000 {
            breadth.note(1, 150 * MS, 150 * MS, 150 * MS);
        }
        assert_eq!(breadth.now(), LEAST);
        let mut breadth = Breadth::new(4);
        for _ in 0..1_000 {
            breadth.is_full();
            breadth.note(1, Duration::ZERO, Duration::ZERO, Duration::ZERO);
        }
        assert_eq!(breadth.now(), 4);
    }

    #[test]
    fn a_slow_sink_has_no_more_fetched() {
        let mut breadth = Breadth::new(128);
        for _ in 0..1_000 {
            breadth.is_full();
            breadth.note(1, 150 * MS, 150 * MS, 400 * MS);
        }
        assert_eq!(breadth.now(), LEAST);
    }
}
