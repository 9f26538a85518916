//! The types of value that a key may have, and what happens to a key that is not set. A [`Field`] is one key about to be
//! read: `section.integer(…)` says what it is, `.required()`, `.optional(…)` or `.default(…)` reads it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use super::errors::nearest;
use super::files::read_file;
use super::keys::{Kind, Origin, Presence, Setting};
use super::node::{Node, Value, parse_list};
use super::reader::{Given, Section};

/// How a secret looks wherever settings are shown.
pub(super) const REDACTED: &str = "<redacted>";

/// More than any secret has; less than it takes to fill the memory when somebody names the wrong file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// From what was given to what it means, and how that is shown.
type Convert<'d, T> = Box<dyn Fn(&Given<'_>) -> Result<(T, toml::Value), String> + 'd>;

/// A key about to be read.
#[must_use]
pub(super) struct Field<'s, 'r, 'd, T> {
    section: &'s mut Section<'r, 'd>,
    name: &'static str,
    doc: &'static str,
    kind: Kind,
    convert: Convert<'d, T>,
}

impl<'s, 'r, 'd, T: 'd> Field<'s, 'r, 'd, T> {
    /// Reads a key without which nothing works.
    pub(super) fn required(self) -> Option<T> {
        self.read(Presence::Required, None)
    }

    /// Reads a key that may be left out; `otherwise` tells the user what happens then.
    pub(super) fn optional(self, otherwise: &'static str) -> Option<T> {
        self.read(Presence::Optional(otherwise), None)
    }

    /// Reads a key that has a fixed value when it is left out. Nothing only after a mistake.
    pub(super) fn default(self, value: impl Into<toml::Value>) -> Option<T> {
        let value = value.into();
        self.read(Presence::Default(value.clone()), Some(value))
    }

    /// Reads a key that follows from other settings when it is left out.
    pub(super) fn computed(
        self,
        otherwise: &'static str,
        value: impl Into<toml::Value>,
    ) -> Option<T> {
        self.read(Presence::Optional(otherwise), Some(value.into()))
    }

    /// The same key with a meaning drawn from its value.
    pub(super) fn map<U: 'd>(self, meaning: impl Fn(T) -> U + 'd) -> Field<'s, 'r, 'd, U> {
        let kind = self.kind.clone();
        self.try_map(kind, move |value| Ok(meaning(value)))
    }

    /// The same key with a meaning that not every value has. The reason of a refusal must not quote the value.
    pub(super) fn try_map<U: 'd>(
        self,
        kind: Kind,
        meaning: impl Fn(T) -> Result<U, String> + 'd,
    ) -> Field<'s, 'r, 'd, U> {
        let Self {
            section,
            name,
            doc,
            convert,
            ..
        } = self;
        let convert: Convert<'d, U> = Box::new(move |given| {
            let (value, shown) = convert(given)?;
            Ok((meaning(value)?, shown))
        });
        Field {
            section,
            name,
            doc,
            kind,
            convert,
        }
    }

    fn read(self, presence: Presence, otherwise: Option<toml::Value>) -> Option<T> {
        let Self {
            section,
            name,
            doc,
            kind,
            convert,
        } = self;
        let (given, origin) = match section.take(name, &kind) {
            Some((given, origin)) => (Some(given), origin),
            None => (None, Origin::Default),
        };
        let read = match (&given, otherwise) {
            (Some(given), _) => Some(convert(given)),
            (None, Some(otherwise)) => Some(convert(&Given::Node(&Node {
                value: Value::from(&otherwise),
                line: 0,
            }))),
            (None, None) => {
                if matches!(presence, Presence::Required) {
                    section.missing(name, "", "");
                }
                None
            }
        };
        if let (Kind::Secret, Some(variable)) =
            (&kind, given.as_ref().and_then(Given::secret_variable))
        {
            section.reader.note_secret_variable(variable);
        }
        let (meaning, value) = match read {
            Some(Ok((meaning, shown))) => (Some(meaning), Some(shown)),
            Some(Err(reason)) => {
                section.invalid(name, &origin, reason);
                (None, None)
            }
            None => (None, None),
        };
        section.note(
            name,
            doc,
            Setting {
                kind,
                presence,
                value,
                origin,
            },
        );
        meaning
    }
}

impl<'s, 'r, 'd> Field<'s, 'r, 'd, SecretString> {
    /// The same secret, refused when it cannot stand in a request's head as it is.
    pub(super) fn in_headers(self) -> Self {
        self.try_map(Kind::Secret, |secret| {
            match secret
                .expose_secret()
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
            {
                true => Ok(secret),
                false => Err(
                    "the secret must be ASCII characters without blanks: it travels in a header"
                        .to_owned(),
                ),
            }
        })
    }
}

impl Given<'_> {
    /// The variable that a secret is to be taken from.
    fn secret_variable(&self) -> Option<&str> {
        match self {
            Self::SecretVariable(name) => Some(name),
            Self::Node(Node {
                value: Value::Table(table),
                ..
            }) => match &table.get("env")?.value {
                Value::Text(name) => Some(name),
                _ => None,
            },
            Self::Node(_) | Self::Text(_) | Self::SecretFile(_) => None,
        }
    }
}

impl<'r, 'd> Section<'r, 'd> {
    fn field<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        kind: Kind,
        convert: impl Fn(&Given<'_>) -> Result<(T, toml::Value), String> + 'd,
    ) -> Field<'_, 'r, 'd, T> {
        Field {
            section: self,
            name,
            doc,
            kind,
            convert: Box::new(convert),
        }
    }

    /// Any text but the empty one.
    pub(super) fn text(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, String> {
        self.field(name, doc, Kind::Text, |given| {
            let text = text_of(given)?;
            check_text(&text)?;
            Ok((text.clone(), text.into()))
        })
    }

    /// A GUID, as one of the types that are made of one.
    pub(super) fn guid<T: FromStr + 'd>(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, T> {
        self.text(name, doc).try_map(Kind::Guid, |text| {
            text.parse().map_err(|_| {
                "must be a GUID: 32 hexadecimal digits in groups of 8-4-4-4-12, \
                 like 01234567-89ab-cdef-0123-456789abcdef"
                    .to_owned()
            })
        })
    }

    /// A path; a relative one begins at the folder of the configuration file.
    pub(super) fn path(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, PathBuf> {
        let base_dir = self.reader.base_dir;
        self.text(name, doc)
            .try_map(Kind::Path, move |text| Ok(base_dir.join(text)))
    }

    /// A whole number within limits.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        doc: &'static str,
        range: RangeInclusive<i64>,
    ) -> Field<'_, 'r, 'd, i64> {
        let kind = Kind::Integer {
            min: *range.start(),
            max: *range.end(),
        };
        self.field(name, doc, kind, move |given| {
            let must = format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            );
            let number = match given {
                Given::Node(Node {
                    value: Value::Integer(number),
                    ..
                }) => *number,
                Given::Node(node) => return Err(format!("{must}, not {}", node.value.kind())),
                Given::Text(text) => text.trim().parse().ok(),
                Given::SecretVariable(_) | Given::SecretFile(_) => None,
            };
            let number = number.filter(|number| range.contains(number)).ok_or(must)?;
            Ok((number, number.into()))
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, bool> {
        self.field(name, doc, Kind::Boolean, |given| {
            let claim = match given {
                Given::Node(Node {
                    value: Value::Boolean(claim),
                    ..
                }) => Ok(*claim),
                Given::Node(node) => {
                    Err(format!("must be true or false, not {}", node.value.kind()))
                }
                Given::Text(text) => text
                    .trim()
                    .parse()
                    .map_err(|_| "must be true or false".to_owned()),
                Given::SecretVariable(_) | Given::SecretFile(_) => {
                    Err("must be true or false".to_owned())
                }
            }?;
            Ok((claim, claim.into()))
        })
    }

    /// One of a few words.
    pub(super) fn choice(
        &mut self,
        name: &'static str,
        doc: &'static str,
        choices: &'static [&'static str],
    ) -> Field<'_, 'r, 'd, &'static str> {
        self.field(name, doc, Kind::Choice(choices), move |given| {
            let choice = choose(text_of(given)?.trim(), choices)?;
            Ok((choice, choice.into()))
        })
    }

    /// Some of a few words, each at most once, at least one.
    pub(super) fn choices(
        &mut self,
        name: &'static str,
        doc: &'static str,
        choices: &'static [&'static str],
    ) -> Field<'_, 'r, 'd, Vec<&'static str>> {
        self.field(name, doc, Kind::Choices(choices), move |given| {
            let mut chosen = Vec::new();
            for text in texts_of(given)? {
                let choice = choose(&text, choices)?;
                if chosen.contains(&choice) {
                    return Err(format!("names {choice} twice"));
                }
                chosen.push(choice);
            }
            if chosen.is_empty() {
                return Err(format!("must name at least one of {}", choices.join(", ")));
            }
            let shown: toml::value::Array = chosen
                .iter()
                .map(|choice| toml::Value::from(*choice))
                .collect();
            Ok((chosen, shown.into()))
        })
    }

    /// A secret of one line: text, `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, SecretString> {
        let field = self.secret_lines(name, doc);
        field.try_map(Kind::Secret, |secret| {
            check_text(secret.expose_secret()).map_err(|reason| format!("the secret {reason}"))?;
            Ok(secret)
        })
    }

    /// A secret of any number of lines, in the same forms.
    pub(super) fn secret_lines(
        &mut self,
        name: &'static str,
        doc: &'static str,
    ) -> Field<'_, 'r, 'd, SecretString> {
        let (env, base_dir) = (self.reader.env, self.reader.base_dir);
        let from_variable = move |name: &str| match env.get(name) {
            Some(text) => Ok(SecretString::from(text)),
            None => Err(match is_variable_name(name) {
                true => {
                    format!("the environment variable {name} is not set, or is no Unicode text")
                }
                // What is no variable's name may be the secret itself, typed in the wrong place.
                false => "`env` must be the name of an environment variable that is set: \
                          capitals, digits and underscores as a rule"
                    .to_owned(),
            }),
        };
        let from_file = move |path: &str| {
            // The path is not in the message, for the same reason.
            let text = read_file(&base_dir.join(path), MAX_SECRET_BYTES).map_err(|reason| {
                format!("the file that `file` names {reason}; a relative path begins at the configuration's folder")
            })?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(SecretString::from(line.strip_suffix('\r').unwrap_or(line)))
        };
        self.field(name, doc, Kind::Secret, move |given| {
            let secret = match given {
                Given::Text(text)
                | Given::Node(Node {
                    value: Value::Text(text),
                    ..
                }) => Ok(SecretString::from(text.as_str())),
                Given::SecretVariable(name) => from_variable(name),
                Given::SecretFile(path) => from_file(path),
                Given::Node(Node {
                    value: Value::Table(table),
                    ..
                }) => {
                    let mut entries = table.iter().map(|(key, node)| (key.as_str(), &node.value));
                    match (entries.next(), entries.next()) {
                        (Some(("env", Value::Text(name))), None) => from_variable(name),
                        (Some(("file", Value::Text(path))), None) => from_file(path),
                        _ => Err(
                            "must be text, or { env = \"NAME\" }, or { file = \"PATH\" }, \
                                  with nothing else between the braces"
                                .to_owned(),
                        ),
                    }
                }
                Given::Node(node) => Err(format!(
                    "must be text, or {{ env = \"NAME\" }}, or {{ file = \"PATH\" }}, not {}",
                    node.value.kind()
                )),
            }?;
            Ok((secret, REDACTED.into()))
        })
    }
}

impl<'r, 'd> Section<'r, 'd> {
    /// A secret of which a part may be seen: `show` says what settings are shown with.
    pub(super) fn partly_secret(
        &mut self,
        name: &'static str,
        doc: &'static str,
        show: fn(&str) -> String,
    ) -> Field<'_, 'r, 'd, SecretString> {
        let field = self.secret(name, doc);
        let convert = field.convert;
        Field {
            convert: Box::new(move |given| {
                let (secret, _) = convert(given)?;
                let shown = show(secret.expose_secret());
                Ok((secret, shown.into()))
            }),
            ..field
        }
    }
}

fn text_of(given: &Given<'_>) -> Result<String, String> {
    match given {
        Given::Text(text)
        | Given::Node(Node {
            value: Value::Text(text),
            ..
        }) => Ok(text.clone()),
        Given::Node(node) => Err(format!("must be text in quotes, not {}", node.value.kind())),
        Given::SecretVariable(_) | Given::SecretFile(_) => Err("must be text".to_owned()),
    }
}

/// A list of texts. A variable may hold it as TOML, or simply with commas in between.
fn texts_of(given: &Given<'_>) -> Result<Vec<String>, String> {
    let parsed;
    let items = match given {
        Given::Node(Node {
            value: Value::List(items),
            ..
        }) => items,
        Given::Node(node) => {
            return Err(format!(
                "must be a list in brackets, not {}",
                node.value.kind()
            ));
        }
        Given::Text(text) if text.trim_start().starts_with('[') => {
            parsed = parse_list(text.trim())
                .ok_or("must be a TOML list, or words with commas between them")?;
            &parsed
        }
        Given::Text(text) => {
            let words = text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            return Ok(words.map(str::to_owned).collect());
        }
        Given::SecretVariable(_) | Given::SecretFile(_) => return Err("must be a list".to_owned()),
    };
    let text = |item: &Node| match &item.value {
        Value::Text(text) => Ok(text.clone()),
        other => Err(format!(
            "must be a list of texts in quotes; one item is {}",
            other.kind()
        )),
    };
    items.iter().map(text).collect()
}

fn choose(text: &str, choices: &'static [&'static str]) -> Result<&'static str, String> {
    if let Some(choice) = choices.iter().find(|choice| **choice == text) {
        return Ok(choice);
    }
    let mut reason = format!("must be one of {}", choices.join(", "));
    if let Some(near) = nearest(text, choices.iter().copied()) {
        reason.push_str(&format!("; did you mean {near}?"));
    }
    Err(reason)
}

fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    // None of our settings is a text of several lines, and many end up in a request's head.
    if text.chars().any(char::is_control) {
        return Err("must be a single line without control characters".to_owned());
    }
    Ok(())
}

/// Whether it is so plainly the name of a variable that it may be printed. Small letters are left out because a key in
/// hexadecimal digits would pass otherwise.
fn is_variable_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.contains('_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
