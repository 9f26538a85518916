//! One walk over one JSON value: where it ends, whether it is well-formed, and the three fields of a record that
//! routing needs. Written for `decode`, which must find record after record in a stream without building a tree:
//! a parser that makes values, or that wants to know the end beforehand, would read every byte twice.

use crate::FieldSpan;

/// How deep a record may nest. Real ones stay under ten; the limit keeps the walk's stack in one machine word pair.
const MAX_DEPTH: u32 = 128;

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Walk {
    /// A whole, well-formed value.
    Whole(Value),
    /// The bytes end before the value does.
    Unfinished,
    /// Not JSON, whatever may follow.
    Malformed {
        /// Offset of the offending byte.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// A whole value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) len: usize,
    pub(super) is_object: bool,
    /// No white space between the tokens.
    pub(super) is_compact: bool,
    pub(super) id: FieldSpan,
    pub(super) creation_time: FieldSpan,
    pub(super) record_type: Option<i64>,
}

/// Walks the value at the start of `text`, which begins with its first byte (no white space before it).
pub(super) fn walk(text: &[u8]) -> Walk {
    let mut walker = Walker {
        text,
        at: 0,
        containers: 0,
        depth: 0,
        is_compact: true,
    };
    match walker.value() {
        Ok(value) => Walk::Whole(value),
        Err(Stop::Unfinished) => Walk::Unfinished,
        Err(Stop::Malformed(what)) => Walk::Malformed {
            at: walker.at,
            what,
        },
    }
}

enum Stop {
    Unfinished,
    Malformed(&'static str),
}

/// A top-level member that a record's routing needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    No,
    Id,
    CreationTime,
    RecordType,
}

struct Walker<'a> {
    text: &'a [u8],
    at: usize,
    /// One bit a level, the innermost lowest: 1 for an object, 0 for an array.
    containers: u128,
    depth: u32,
    is_compact: bool,
}

impl Walker<'_> {
    fn value(&mut self) -> Result<Value, Stop> {
        let mut found = Value {
            is_object: self.peek()? == b'{',
            ..Value::default()
        };
        let mut wanted = Wanted::No;
        loop {
            let start = self.at;
            match self.peek()? {
                b'{' => {
                    self.enter(true)?;
                    self.skip_space();
                    if self.peek()? == b'}' {
                        self.leave();
                    } else {
                        wanted = self.key(&mut found)?;
                        continue;
                    }
                }
                b'[' => {
                    self.enter(false)?;
                    self.skip_space();
                    if self.peek()? == b']' {
                        self.leave();
                    } else {
                        wanted = Wanted::No;
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                    let span = FieldSpan {
                        start: to_u32(start + 1),
                        len: to_u32(self.at - start - 2),
                    };
                    match wanted {
                        Wanted::Id => found.id = span,
                        Wanted::CreationTime => found.creation_time = span,
                        Wanted::RecordType | Wanted::No => {}
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                    if wanted == Wanted::RecordType {
                        found.record_type = std::str::from_utf8(&self.text[start..self.at])
                            .ok()
                            .and_then(|text| text.parse().ok());
                    }
                }
                _ => return Err(Stop::Malformed("a value was expected")),
            }
            // A value ended; close what ends with it, then go on to the next one.
            loop {
                if self.depth == 0 {
                    found.len = self.at;
                    found.is_compact = self.is_compact;
                    return Ok(found);
                }
                self.skip_space();
                let in_object = self.containers & 1 == 1;
                match (self.peek()?, in_object) {
                    (b',', true) => {
                        self.at += 1;
                        self.skip_space();
                        wanted = self.key(&mut found)?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        self.skip_space();
                        wanted = Wanted::No;
                        break;
                    }
                    (b'}', true) | (b']', false) => self.leave(),
                    _ => {
                        return Err(Stop::Malformed(
                            "a comma or the container's end was expected",
                        ));
                    }
                }
            }
        }
    }

    /// A member's name and colon, up to its value. Of a name that comes twice the last value counts, as in every
    /// parser that builds objects, so an earlier one is forgotten here.
    fn key(&mut self, found: &mut Value) -> Result<Wanted, Stop> {
        let start = self.at;
        if self.peek()? != b'"' {
            return Err(Stop::Malformed("a member's name was expected"));
        }
        self.string()?;
        let wanted = if self.depth == 1 {
            match &self.text[start + 1..self.at - 1] {
                b"Id" => {
                    found.id = FieldSpan::default();
                    Wanted::Id
                }
                b"CreationTime" => {
                    found.creation_time = FieldSpan::default();
                    Wanted::CreationTime
                }
                b"RecordType" => {
                    found.record_type = None;
                    Wanted::RecordType
                }
                _ => Wanted::No,
            }
        } else {
            Wanted::No
        };
        self.skip_space();
        if self.peek()? != b':' {
            return Err(Stop::Malformed("a colon was expected"));
        }
        self.at += 1;
        self.skip_space();
        Ok(wanted)
    }

    fn enter(&mut self, is_object: bool) -> Result<(), Stop> {
        if self.depth == MAX_DEPTH {
            return Err(Stop::Malformed("it nests deeper than 128 levels"));
        }
        self.depth += 1;
        self.containers = self.containers << 1 | u128::from(is_object);
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.containers >>= 1;
        self.at += 1;
    }

    #[inline]
    fn peek(&self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::Unfinished)
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
            self.is_compact = false;
        }
    }

    /// From the opening quote to behind the closing one.
    #[inline]
    fn string(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            self.at += plain_len(&self.text[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err(Stop::Malformed("a control character stands in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        match self.text.get(self.at + 1) {
            None => Err(Stop::Unfinished),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                for offset in 2..6 {
                    match self.text.get(self.at + offset) {
                        None => return Err(Stop::Unfinished),
                        Some(digit) if digit.is_ascii_hexdigit() => {}
                        Some(_) => {
                            return Err(Stop::Malformed("four hexadecimal digits were expected"));
                        }
                    }
                }
                self.at += 6;
                Ok(())
            }
            Some(_) => Err(Stop::Malformed("no such escape in a string")),
        }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), Stop> {
        let rest = &self.text[self.at..];
        if rest.starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else if literal.starts_with(rest) {
            Err(Stop::Unfinished)
        } else {
            Err(Stop::Malformed("a value was expected"))
        }
    }

    fn number(&mut self) -> Result<(), Stop> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        // The byte behind a number must be there, or the number might go on in the next piece.
        if self.peek()? == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek()?, b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        self.peek().map(|_| ())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while self.peek()?.is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            Err(Stop::Malformed("a digit was expected"))
        } else {
            Ok(())
        }
    }
}

/// A value longer than 4 GiB never gets here: `decode` keeps no more than its record limit in one buffer.
fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// How many bytes at the start of `text` are neither a quote, a backslash nor a control character.
/// Eight at a time: strings are most of a record, and a byte at a time was the slowest part of decoding.
#[inline]
pub(super) fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some((word, _)) = text[at..].split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // The top bit of each byte that is zero (or below a space, in the third term). A borrow can set a bit
        // above a true one, never below, and only the lowest is read.
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let special = special & TOPS;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + text[at..]
        .iter()
        .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20))
        .count()
}
