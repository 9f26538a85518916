//! A release's version, ordered as Semantic Versioning orders them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// More than any version has. It ends up in a state that must stay small.
const MAX_LENGTH: usize = 64;

/// `1.2.3` or `1.2.3-rc.1`. Build metadata (`+…`) is not taken: two builds of one version could not be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    /// What stands behind the hyphen; empty in a final release.
    pre_release: Vec<Identifier>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    // In this order: a number is older than a word.
    Number(u64),
    Word(String),
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version: three numbers with dots between, such as 1.2.3 or 1.2.3-rc.1")]
pub struct InvalidVersion;

impl Version {
    /// The version of this program.
    #[must_use]
    pub fn running() -> Self {
        env!("CARGO_PKG_VERSION")
            .parse()
            .expect("cargo takes no other version")
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidVersion);
        }
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, rest)) => (
                numbers,
                rest.split('.')
                    .map(identifier)
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            None => (text, Vec::new()),
        };
        let numbers: Vec<u64> = numbers
            .split('.')
            .map(number)
            .collect::<Result<_, InvalidVersion>>()?;
        Ok(Self {
            numbers: numbers.try_into().map_err(|_| InvalidVersion)?,
            pre_release,
        })
    }
}

/// A number as it is written: two spellings of one version would be two versions to whoever compares texts.
fn number(text: &str) -> Result<u64, InvalidVersion> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (text.len() > 1 && text.starts_with('0')) {
        return Err(InvalidVersion);
    }
    text.parse().map_err(|_| InvalidVersion)
}

fn identifier(text: &str) -> Result<Identifier, InvalidVersion> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Identifier::Number);
    }
    let is_word = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_word
        .then(|| Identifier::Word(text.to_owned()))
        .ok_or(InvalidVersion)
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                // The final release comes behind all that led to it.
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self.pre_release.cmp(&other.pre_release),
            }
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (index, identifier) in self.pre_release.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => write!(f, "{number}")?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
