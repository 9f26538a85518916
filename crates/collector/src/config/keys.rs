//! What the reader notes about every key it reads. `config print` and `config schema` are drawn from these notes and
//! from nothing else, so they cannot drift from what is really read.

/// One key of a table, in reading order.
pub(super) struct Key {
    pub(super) name: String,
    /// For the schema: full sentences.
    pub(super) doc: &'static str,
    pub(super) item: Item,
}

pub(super) enum Item {
    Setting(Setting),
    Table {
        is_present: bool,
        keys: Vec<Key>,
    },
    /// `[[name]]`, once per element. When the reader describes: one element, or one per variant.
    Tables {
        tag: Option<&'static str>,
        elements: Vec<Element>,
    },
}

/// One `[[name]]`.
pub(super) struct Element {
    /// What its tag says it is, when the table has a tag and it says something that we know.
    pub(super) variant: Option<&'static str>,
    pub(super) keys: Vec<Key>,
}

/// A key that has a value and not keys of its own.
pub(super) struct Setting {
    pub(super) kind: Kind,
    pub(super) presence: Presence,
    /// What it comes to, as TOML; a secret's text is not in here. Nothing when it is not set and has no default.
    pub(super) value: Option<toml::Value>,
    pub(super) origin: Origin,
}

/// Where a value came from.
#[derive(Clone)]
pub(super) enum Origin {
    Default,
    File {
        line: usize,
    },
    Variable(String),
    /// The layer below the file, under this name.
    Setting(&'static str),
}

/// What happens when the key is not set.
#[derive(Clone)]
pub(super) enum Presence {
    /// Nothing works.
    Required,
    /// This instead, in the user's words.
    Optional(&'static str),
    /// This value.
    Default(toml::Value),
}

/// Which values a key takes.
#[derive(Clone)]
pub(super) enum Kind {
    Text,
    Guid,
    /// An absolute url.
    Url,
    Path,
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    Choice(&'static [&'static str]),
    Choices(&'static [&'static str]),
    Secret,
}
