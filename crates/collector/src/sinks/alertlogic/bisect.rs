//! How far into a batch a delivery is, and the search for records that the service refuses. Pure.
//!
//! A payload that is refused is halved, down to one record. That one is only *suspected*: a service that is set up wrong
//! refuses every record, and all of them in quarantine would help nobody. The suspects are refused for good when
//! the service takes something after them, or took something lately and the batch ends; they go back when nothing speaks
//! for the service, or when too many of them follow each other.

use std::ops::Range;

use crate::sinks::Refused;

#[cfg(test)]
mod tests;

/// Suspects in a row before the whole is taken for the service's fault. Each costs a request or two in vain.
const MAX_SUSPECTS: usize = 32;

#[derive(Debug)]
pub(super) struct Progress {
    /// The next record to send.
    position: usize,
    /// Where payloads must end, the nearest last. Halving puts marks in; without marks a payload that was refused for
    /// its first record would be followed by all the others one by one.
    ends: Vec<usize>,
    refused: Vec<Refused>,
    /// Records whose guilt is open. Nothing was accepted since the first of them.
    suspects: Vec<Refused>,
}

impl Progress {
    pub(super) fn new(record_count: usize) -> Self {
        Self {
            position: 0,
            ends: vec![record_count],
            refused: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// The records that may go into the next payload; nothing when all have had their turn.
    pub(super) fn next_stretch(&mut self) -> Option<Range<usize>> {
        while let Some(&end) = self.ends.last() {
            if self.position < end {
                return Some(self.position..end);
            }
            self.ends.pop();
        }
        None
    }

    /// Whether this stretch is the whole batch, of which nothing is delivered or refused yet.
    pub(super) fn is_all(&self, stretch: &Range<usize>) -> bool {
        stretch.start == 0 && self.ends.first() == Some(&stretch.end)
    }

    /// The service took the next `count` records.
    pub(super) fn accept(&mut self, count: usize) {
        self.refused.append(&mut self.suspects);
        self.position += count;
    }

    /// The next `count` records, two or more, were refused together.
    pub(super) fn split(&mut self, count: usize) {
        self.ends.push(self.position + count);
        self.ends.push(self.position + count / 2);
    }

    /// The next record can never be taken, for a reason that is its own.
    pub(super) fn refuse(&mut self, reason: &str) {
        self.refused.push(Refused {
            index_in_batch: self.position,
            reason: reason.to_owned(),
        });
        self.position += 1;
    }

    /// The next record was refused alone.
    ///
    /// # Errors
    /// The reason once more, when too many were refused in a row.
    pub(super) fn suspect(&mut self, reason: &str) -> Result<(), String> {
        self.suspects.push(Refused {
            index_in_batch: self.position,
            reason: reason.to_owned(),
        });
        self.position += 1;
        if self.suspects.len() > MAX_SUSPECTS {
            Err(reason.to_owned())
        } else {
            Ok(())
        }
    }

    /// All records had their turn.
    ///
    /// # Errors
    /// A suspect's reason, when the service has taken nothing lately that would show the fault to be the record's.
    pub(super) fn settle(&mut self, has_accepted_lately: bool) -> Result<(), String> {
        match self.suspects.last() {
            Some(suspect) if !has_accepted_lately => Err(suspect.reason.clone()),
            _ => {
                self.refused.append(&mut self.suspects);
                Ok(())
            }
        }
    }

    /// How many records at the head are safe, and those among them that are refused, in order.
    pub(super) fn into_safe(self) -> (usize, Vec<Refused>) {
        let safe = self
            .suspects
            .first()
            .map_or(self.position, |suspect| suspect.index_in_batch);
        let mut refused = self.refused;
        refused.retain(|refused| refused.index_in_batch < safe);
        refused.sort_unstable_by_key(|refused| refused.index_in_batch);
        (safe, refused)
    }
}
