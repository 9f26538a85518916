//! What is wrong with a configuration: every mistake at once, each with its key, its place, the reason and the mend.
//! Nothing here may hold a setting's value: it could be a secret typed in the wrong place.

use std::fmt;

/// All mistakes of one configuration, in reading order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) reason: String,
    pub(super) kind: Kind,
}

/// Where a mistake was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// No file was read and no variable is to blame.
    Nowhere,
    /// In the configuration file.
    File {
        /// The file's name as it was given.
        name: String,
        /// Counted from 1; nothing when the mistake is about the whole file.
        line: Option<usize>,
        /// In characters, counted from 1; only known for mistakes of syntax.
        column: Option<usize>,
    },
    /// In this environment variable.
    Variable(String),
    /// In this app setting of a function app.
    Setting(&'static str),
}

/// Decides which mistakes are worth telling when the file could not be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file is no TOML, or cannot be read at all.
    Unreadable,
    /// A value is there and wrong.
    Invalid,
    /// Something is not there, is there twice or should not be there: only true when everything has been read.
    Incomplete,
}

impl ConfigErrors {
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        debug_assert!(!errors.is_empty());
        Self(errors)
    }

    /// The mistakes, in reading order.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl ConfigError {
    /// The key as it would be typed, such as `sink[1].url`; empty for a mistake of the whole file.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the mistake was made.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong and how to mend it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 mistake in the configuration:")?,
            count => write!(f, "{count} mistakes in the configuration:")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Nowhere => {}
            place => write!(f, "{place}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File { name, line, column } => {
                f.write_str(name)?;
                [line, column]
                    .into_iter()
                    .flatten()
                    .try_for_each(|number| write!(f, ":{number}"))
            }
            Self::Variable(name) => f.write_str(name),
            Self::Setting(name) => f.write_str(name),
        }
    }
}

/// Longer than any key of ours; what is longer is not a key but a value that slipped into a key's place.
const MAX_SHOWN_NAME: usize = 48;

/// A key or variable name out of the user's hands, safe to print: one line, and not long enough for a pasted secret
/// to come out whole.
pub(super) fn shown_name(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(MAX_SHOWN_NAME)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(MAX_SHOWN_NAME).is_some() {
        shown.push('…');
    }
    shown
}

/// The candidate that `typed` is a slip of, when one is near enough that a person would have meant it.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (typed.len() / 3).clamp(1, 3);
    // A pasted text of any length could stand here; the distance takes time in proportion to its length.
    if typed.len() > 2 * MAX_SHOWN_NAME {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and exchanges of a character that lead from one text to the other, letter case aside.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_char) in from.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to_char) in row.iter_mut().skip(1).zip(&to) {
            let above = *cell;
            left = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(from_char != *to_char));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
