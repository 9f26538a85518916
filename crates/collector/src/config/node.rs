//! The TOML text as a tree whose every node knows its line, free of the parser's types.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A value out of the file. Not `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Of the key, or, inside a list, of the value. Counted from 1.
    pub(super) line: usize,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// Nothing when the number does not fit 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Node>;

impl Value {
    /// What it is, for the sentence "must be …, not …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl From<&toml::Value> for Value {
    /// For built-in defaults, which have no place in a file.
    fn from(value: &toml::Value) -> Self {
        let node = |value: &toml::Value| Node {
            value: Value::from(value),
            line: 0,
        };
        match value {
            toml::Value::String(text) => Self::Text(text.clone()),
            toml::Value::Integer(number) => Self::Integer(Some(*number)),
            toml::Value::Float(_) => Self::Float,
            toml::Value::Boolean(boolean) => Self::Boolean(*boolean),
            toml::Value::Datetime(_) => Self::Datetime,
            toml::Value::Array(list) => Self::List(list.iter().map(node).collect()),
            toml::Value::Table(table) => Self::Table(
                table
                    .iter()
                    .map(|(key, value)| (key.clone(), node(value)))
                    .collect(),
            ),
        }
    }
}

/// Where the text stops being TOML.
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
}

/// The text as a tree, or every mistake of its syntax.
pub(super) fn parse(text: &str) -> Result<Table, Vec<SyntaxError>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table_node(table.get_ref(), &lines));
    }
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| {
            let start = error.span().map_or(text.len(), |span| span.start);
            // The parser's own `Display` quotes the line, and with it any secret on it; `message` never does.
            SyntaxError {
                line: lines.line(start),
                column: lines.column(text, start),
                what: error.message().to_owned(),
            }
        })
        .collect();
    errors.sort_by_key(|error| (error.line, error.column));
    // One slip often makes the parser stumble several times on the same line; the first stumble is the slip.
    errors.dedup_by_key(|error| error.line);
    Err(errors)
}

/// A list as an environment variable may spell it: the items of a TOML array.
pub(super) fn parse_list(text: &str) -> Option<Vec<Node>> {
    let value = DeValue::parse(text).ok()?;
    match value_of(value.get_ref(), &Lines::of(text)) {
        Value::List(list) => Some(list),
        _ => None,
    }
}

fn table_node(table: &DeTable<'_>, lines: &Lines) -> Table {
    let node = |key: Range<usize>, value| Node {
        value: value_of(value, lines),
        line: lines.line(key.start),
    };
    table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), node(key.span(), value.get_ref())))
        .collect()
}

fn value_of(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|item| Node {
                    value: value_of(item.get_ref(), lines),
                    line: lines.line(item.span().start),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(table_node(table, lines)),
    }
}

/// Where each line of a text begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(
            std::iter::once(0)
                .chain(text.match_indices('\n').map(|(at, _)| at + 1))
                .collect(),
        )
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }

    fn column(&self, text: &str, at: usize) -> usize {
        let start = self.0.get(self.line(at) - 1).copied().unwrap_or_default();
        text.get(start..at)
            .map_or(0, |before| before.chars().count())
            + 1
    }
}
