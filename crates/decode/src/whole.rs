//! A blob whose text is there as a whole: it is read where it lies, and cut where it would be cut if it came in pieces.

use std::ops::Range;

use crate::elements::{Elements, Full};
use crate::{Broken, Limits, RecordSpan, Totals, Undecodable};

/// Consecutive records of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How many records of the blob came before it.
    pub first_record: u64,
    /// Where in the text they lie, with what stands between them: the text of a [`crate::RawPart`].
    pub text: Range<usize>,
    /// Where the records lie in that stretch, in order.
    pub spans: Vec<RecordSpan>,
}

/// Reads one text. Ask [`Whole::advance`] until there is nothing more, then [`Whole::finish`].
#[derive(Debug)]
pub struct Whole<'a> {
    limits: Limits,
    elements: Elements,
    text: &'a [u8],
    /// Where the window begins.
    start: usize,
    /// How long it is: where a buffer would be full.
    window_bytes: usize,
}

impl<'a> Whole<'a> {
    /// To read this text.
    #[must_use]
    pub fn new(limits: Limits, text: &'a [u8]) -> Self {
        Self {
            limits,
            elements: Elements::new(limits),
            text,
            start: 0,
            window_bytes: limits.part_bytes,
        }
    }

    /// The next part but the last.
    pub fn advance(&mut self) -> Option<Cut> {
        loop {
            let window = self.rest().get(..self.window_bytes)?;
            match self.elements.read_full(window) {
                Full::Part => {
                    // A buffer would go on with what was not read, and be full with it if that is a part's worth.
                    let unread = self.window_bytes - self.elements.read_bytes();
                    self.window_bytes = unread.max(self.limits.part_bytes);
                    return Some(self.cut());
                }
                Full::Dropped => {
                    self.start += self.elements.read_bytes();
                    self.elements.drop_read();
                }
                Full::TooShort => self.window_bytes *= 2,
                Full::Broken => return None,
            }
        }
    }

    /// The undecodable stretches found since the last call.
    pub fn take_undecodable(&mut self) -> Vec<Undecodable> {
        self.elements.take_undecodable()
    }

    /// Reads the rest. The last part (if it has records), the totals, and what is wrong with the array as a whole together
    /// with the bytes that could not be placed.
    pub fn finish(&mut self) -> (Option<Cut>, Totals, Option<Broken>) {
        let rest = self.rest();
        // Of what is no array nothing is looked at behind the window that showed it.
        let window = rest.get(..self.window_bytes).unwrap_or(rest);
        let (totals, broken) = self.elements.finish(window);
        let part = self.elements.has_records().then(|| self.cut());
        (part, totals, broken)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.start..).unwrap_or_default()
    }

    fn cut(&mut self) -> Cut {
        let start = self.start;
        self.start += self.elements.read_bytes();
        let (first_record, spans) = self.elements.cut();
        Cut {
            first_record,
            text: start..self.start,
            spans,
        }
    }
}
