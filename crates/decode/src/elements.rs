//! The walk along the array: which bytes are a record, which are none. It reads *windows*: stretches of the text that begin
//! where the part at hand begins. Where the text is held is for [`crate::Decoder`] and [`crate::Whole`].

use crate::json::{self, Walk};
use crate::skip::Skipper;
use crate::{Broken, Error, Limits, RecordSpan, Totals, Undecodable};

/// Where in the array the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// Behind `[`: a record or the end.
    First,
    /// Behind a comma: a record.
    Element,
    /// Behind a record: a comma or the end.
    Between,
    End,
}

/// What a record takes, about: few take less.
const RECORD_BYTES: usize = 1024;
/// For no more of them room is made before they are read: one record may be longer than many parts.
const MOST_SPANS: usize = 512;

/// How far the array is read.
#[derive(Debug)]
pub(super) struct Elements {
    limits: Limits,
    /// Bytes of the window that were read.
    read: usize,
    spans: Vec<RecordSpan>,
    place: Place,
    skipping: Option<Skipping>,
    /// Records read so far. Undecodable stretches have no number here, so that a part's records are numbered without gaps.
    record_count: u64,
    /// Index of the first record in `spans`.
    first_record: u64,
    /// Undecodable stretches found so far.
    undecodable_count: u64,
    undecodable: Vec<Undecodable>,
    error: Option<Error>,
    record_bytes: u64,
    #[cfg(target_arch = "x86_64")]
    scanning: Scanning,
}

/// When the scan is asked. It reads ahead, which is lost where it does not go on from record to record; so in a text in
/// which it never does, as one with white space, it is asked ever more seldom.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Default)]
struct Scanning {
    /// Elements that are walked before it is asked again.
    walk: u32,
    /// How many that was the last time.
    walked: u32,
}

#[cfg(target_arch = "x86_64")]
impl Scanning {
    /// The most elements that are walked before the scan is asked again.
    const LONGEST_WALK: u32 = 63;

    fn is_due(&mut self) -> bool {
        let is_due = self.walk == 0;
        self.walk = self.walk.saturating_sub(1);
        is_due
    }

    fn ended(&mut self, found: usize) {
        self.walked = match found {
            0 | 1 => (2 * self.walked + 1).min(Self::LONGEST_WALK),
            _ => 0,
        };
        self.walk = self.walked;
    }
}

#[derive(Debug)]
struct Skipping {
    skipper: Skipper,
    reason: String,
    kept: Vec<u8>,
    total_bytes: u64,
}

/// What a full window comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The records up to [`Elements::read_bytes`] are a part: [`Elements::cut`].
    Part,
    /// No record, but bytes that need not be kept: [`Elements::drop_read`].
    Dropped,
    /// Nothing can be said before the window is longer.
    TooShort,
    /// The bytes are no array.
    Broken,
}

impl Elements {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            read: 0,
            spans: Vec::new(),
            place: Place::Start,
            skipping: None,
            record_count: 0,
            first_record: 0,
            undecodable_count: 0,
            undecodable: Vec::new(),
            error: None,
            record_bytes: 0,
            #[cfg(target_arch = "x86_64")]
            scanning: Scanning::default(),
        }
    }

    /// Reads a full window. This is the rule by which parts are cut: a part is what was read of a window, and the window has
    /// [`Limits::part_bytes`], or more for as long as it takes to read one record.
    pub(super) fn read_full(&mut self, window: &[u8]) -> Full {
        self.read_elements(window, false);
        if self.error.is_some() {
            Full::Broken
        } else if !self.spans.is_empty() {
            Full::Part
        } else if self.read > 0 {
            Full::Dropped
        } else {
            Full::TooShort
        }
    }

    /// Reads the last window. What there was, and what is wrong with the array as a whole together with the bytes that could
    /// not be placed. Records that were read are still to be [cut](Elements::cut).
    pub(super) fn finish(&mut self, window: &[u8]) -> (Totals, Option<Broken>) {
        self.read_elements(window, true);
        let broken = match (self.error.take(), self.place) {
            (Some(error), _) => Some(error),
            (None, Place::End) => None,
            (None, _) => Some(Error::Truncated),
        };
        let broken = broken.map(|error| {
            let rest = match self.skipping.take() {
                Some(skipping) => skipping.kept,
                None => window.get(self.read..).unwrap_or_default().to_vec(),
            };
            (
                error,
                rest.into_iter().take(self.limits.kept_bytes).collect(),
            )
        });
        let totals = Totals {
            record_count: self.record_count,
            undecodable_count: self.undecodable_count,
            byte_count: self.record_bytes,
        };
        (totals, broken)
    }

    /// The records that were read, and the number of the first; the next window begins behind them.
    pub(super) fn cut(&mut self) -> (u64, Vec<RecordSpan>) {
        self.read = 0;
        let first_record = std::mem::replace(&mut self.first_record, self.record_count);
        (first_record, std::mem::take(&mut self.spans))
    }

    /// The next window begins behind what was read.
    pub(super) fn drop_read(&mut self) {
        self.read = 0;
    }

    /// Bytes of the window that were read.
    pub(super) fn read_bytes(&self) -> usize {
        self.read
    }

    pub(super) fn has_records(&self) -> bool {
        !self.spans.is_empty()
    }

    /// Whether a part was cut already.
    pub(super) fn is_behind_first_part(&self) -> bool {
        self.first_record > 0
    }

    pub(super) fn take_undecodable(&mut self) -> Vec<Undecodable> {
        std::mem::take(&mut self.undecodable)
    }

    fn read_elements(&mut self, window: &[u8], at_end: bool) {
        while self.error.is_none() {
            if self.skipping.is_some() {
                if !self.skip_on(window) {
                    return;
                }
                continue;
            }
            let rest = window.get(self.read..).unwrap_or_default();
            let space = rest
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            self.read += space;
            let Some(&byte) = rest.get(space) else { return };
            match (self.place, byte) {
                (Place::Start, b'[') => self.step(Place::First),
                (Place::Start, 0xef) => {
                    // A byte order mark, which some gateways put before JSON.
                    let mark = window.get(self.read..).unwrap_or_default();
                    if mark.starts_with(&[0xef, 0xbb, 0xbf]) {
                        self.read += 3;
                    } else if mark.len() < 3 && !at_end {
                        return;
                    } else {
                        self.error = Some(Error::NotAnArray);
                    }
                }
                (Place::Start, _) => self.error = Some(Error::NotAnArray),
                (Place::First, b']') | (Place::Between, b']') => self.step(Place::End),
                (Place::Between, b',') => self.step(Place::Element),
                #[cfg(target_arch = "x86_64")]
                (Place::First | Place::Element, b'{') if self.scan(window) => {}
                (Place::First | Place::Element, _) => {
                    if !self.read_element(window) {
                        return;
                    }
                }
                (Place::Between, _) => {
                    self.skip_from_here("a comma or the array's end was expected".to_owned())
                }
                (Place::End, _) => self.error = Some(Error::TrailingBytes),
            }
        }
    }

    fn step(&mut self, place: Place) {
        self.read += 1;
        self.place = place;
    }

    /// Reads the records that begin here, as many as are easily read. False when there is none.
    #[cfg(target_arch = "x86_64")]
    fn scan(&mut self, window: &[u8]) -> bool {
        if !self.scanning.is_due() {
            return false;
        }
        let known = self.spans.len();
        if known == 0 {
            // In one go what they will about take: for a short text, to grow step by step is a part of the work.
            let rest = window.len().saturating_sub(self.read);
            self.spans
                .reserve((rest / RECORD_BYTES + 1).min(MOST_SPANS));
        }
        self.read = crate::scan::scan(window, self.read, &mut self.spans);
        for span in &self.spans[known..] {
            self.record_bytes += u64::from(span.len);
            self.record_count += 1;
            self.place = Place::Between;
        }
        let found = self.spans.len() - known;
        self.scanning.ended(found);
        found > 0
    }

    /// Reads the element that begins here. False when more bytes are needed.
    fn read_element(&mut self, window: &[u8]) -> bool {
        let start = self.read;
        let rest = window.get(start..).unwrap_or_default();
        match json::walk(rest) {
            Walk::Unfinished if rest.len() >= self.limits.record_bytes => {
                self.skip_from_here(format!(
                    "longer than the {} bytes that a record may have",
                    self.limits.record_bytes
                ));
            }
            Walk::Unfinished => return false,
            Walk::Malformed { at, what } => {
                self.skip_from_here(format!("not JSON at byte {at}: {what}"))
            }
            Walk::Whole(value) if !value.is_object => {
                self.skip_from_here(
                    "a record must be a JSON object, this is another kind of value".to_owned(),
                );
            }
            Walk::Whole(value) => match std::str::from_utf8(&rest[..value.len]) {
                Err(error) => {
                    self.skip_from_here(format!("not UTF-8 at byte {}", error.valid_up_to()))
                }
                Ok(_) => {
                    self.spans.push(RecordSpan {
                        start: start as u32,
                        len: value.len as u32,
                        id: value.id,
                        creation_time: value.creation_time,
                        record_type: value.record_type,
                        is_compact: value.is_compact,
                    });
                    self.read += value.len;
                    self.record_bytes += value.len as u64;
                    self.record_count += 1;
                    self.place = Place::Between;
                }
            },
        }
        true
    }

    fn skip_from_here(&mut self, reason: String) {
        self.skipping = Some(Skipping {
            skipper: Skipper::default(),
            reason,
            kept: Vec::new(),
            total_bytes: 0,
        });
    }

    /// Goes on to the end of the undecodable stretch. False when more bytes are needed.
    fn skip_on(&mut self, window: &[u8]) -> bool {
        let Some(mut skipping) = self.skipping.take() else {
            return true;
        };
        let rest = window.get(self.read..).unwrap_or_default();
        let (taken, ended) = skipping.skipper.skip(rest);
        let keep = taken.min(self.limits.kept_bytes - skipping.kept.len());
        skipping.kept.extend_from_slice(&rest[..keep]);
        skipping.total_bytes += taken as u64;
        self.read += taken;
        if !ended {
            self.skipping = Some(skipping);
            return false;
        }
        let mut reason = skipping.reason;
        if skipping.total_bytes > skipping.kept.len() as u64 {
            reason.push_str(&format!(
                " (the first {} of {} bytes are kept)",
                skipping.kept.len(),
                skipping.total_bytes
            ));
        }
        let index_in_array = self.record_count + self.undecodable_count;
        self.undecodable.push(Undecodable {
            index_in_array,
            reason,
            bytes: skipping.kept,
        });
        self.undecodable_count += 1;
        self.place = Place::Between;
        true
    }
}
