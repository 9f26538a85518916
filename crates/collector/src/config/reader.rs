//! Walks the settings once. Each call names a key, and thereby reads it, refuses what is wrong with it and notes what it
//! is: there is no second list of keys anywhere. A mistake never stops the walk, so that all come out together.

use std::collections::BTreeSet;
use std::path::Path;

use super::RESERVED_VARIABLES;
use super::errors::{ConfigError, Kind as ErrorKind, Place, nearest, shown_name};
use super::keys::{Item, Key, Kind, Origin, Setting};
use super::layer::Layer;
use super::node::{Node, Table};
use crate::env::{self, Lookup};

/// What the whole walk shares.
pub(super) struct Reader<'d> {
    pub(super) env: &'d dyn Lookup,
    /// What holds where neither the file nor the environment says anything.
    pub(super) layer: &'d Layer,
    /// Relative paths begin here.
    pub(super) base_dir: &'d Path,
    /// What the file is called in messages; nothing when there is none.
    pub(super) file_name: Option<&'d str>,
    /// Our variables that are set and not read so far.
    pub(super) unread: BTreeSet<String>,
    /// Every variable that a key of this configuration could have come from.
    known: BTreeSet<String>,
    /// Variables of any name that a secret was taken from.
    taken_for_secrets: BTreeSet<String>,
    pub(super) errors: Vec<ConfigError>,
    /// Every kind of element of every list of tables is walked once, though nothing is set.
    pub(super) is_describing: bool,
}

/// One table during the walk.
pub(super) struct Section<'r, 'd> {
    pub(super) reader: &'r mut Reader<'d>,
    pub(super) table: Option<&'d Table>,
    /// `sink[1]`; empty at the root.
    path: String,
    /// `O365_COLLECTOR_SINK__1__`
    prefix: String,
    /// Of the table's header.
    line: Option<usize>,
    pub(super) keys: Vec<Key>,
    /// Nobody knows which keys it may have.
    pub(super) is_unknown_kind: bool,
}

/// A value as it was given.
pub(super) enum Given<'n> {
    Node(&'n Node),
    /// A variable's text, not yet of any type.
    Text(String),
    /// `…__ENV`: a secret's variable is this one.
    SecretVariable(String),
    /// `…__FILE`: a secret's file is this one.
    SecretFile(String),
}

impl<'d> Reader<'d> {
    pub(super) fn new(
        file_name: Option<&'d str>,
        base_dir: &'d Path,
        env: &'d dyn Lookup,
        layer: &'d Layer,
    ) -> Self {
        let is_reserved = |name: &String| RESERVED_VARIABLES.contains(&name.as_str());
        let unread = env
            .names_with_prefix(env::PREFIX)
            .into_iter()
            .filter(|name| !is_reserved(name))
            .collect();
        Self {
            env,
            layer,
            base_dir,
            file_name,
            unread,
            known: BTreeSet::new(),
            taken_for_secrets: BTreeSet::new(),
            errors: Vec::new(),
            is_describing: false,
        }
    }

    /// A reader that finds nothing set, for the sake of its notes.
    pub(super) fn describing(env: &'d dyn Lookup, layer: &'d Layer) -> Self {
        Self {
            is_describing: true,
            ..Self::new(None, Path::new(""), env, layer)
        }
    }

    /// Walks from the root; returns what was read, what was noted, and all mistakes.
    pub(super) fn walk<T>(
        mut self,
        root: &'d Table,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> (T, Vec<Key>, Vec<ConfigError>) {
        let mut section = Section::new(
            &mut self,
            Some(root),
            String::new(),
            env::PREFIX.to_owned(),
            None,
        );
        let value = read(&mut section);
        let keys = section.finish();
        for name in self.unread.difference(&self.taken_for_secrets) {
            let mut reason = "no setting has this variable".to_owned();
            if let Some(near) = nearest(name, self.known.iter().map(String::as_str)) {
                reason.push_str(&format!("; did you mean {near}?"));
            }
            let place = Place::Variable(shown_name(name));
            self.errors.push(ConfigError {
                place,
                key: String::new(),
                reason,
                kind: ErrorKind::Incomplete,
            });
        }
        (value, keys, self.errors)
    }

    fn place(&self, origin: &Origin) -> Place {
        let in_file = |line| match self.file_name {
            Some(name) => Place::File {
                name: name.to_owned(),
                line,
                column: None,
            },
            None => Place::Nowhere,
        };
        match origin {
            Origin::Default => in_file(None),
            Origin::File { line } => in_file(Some(*line)),
            Origin::Variable(name) => Place::Variable(name.clone()),
            Origin::Setting(name) => Place::Setting(name),
        }
    }

    /// Notes that a variable has been put to use as a secret, whatever its name.
    pub(super) fn note_secret_variable(&mut self, name: &str) {
        self.taken_for_secrets.insert(name.to_owned());
    }

    /// The variable's text, when it is set. From here on it counts as read.
    fn variable(&mut self, name: &str) -> Option<Result<String, &'static str>> {
        self.known.insert(name.to_owned());
        self.unread
            .remove(name)
            .then(|| self.env.get(name).ok_or("must be Unicode text"))
    }
}

impl<'r, 'd> Section<'r, 'd> {
    pub(super) fn new(
        reader: &'r mut Reader<'d>,
        table: Option<&'d Table>,
        path: String,
        prefix: String,
        line: Option<usize>,
    ) -> Self {
        Self {
            reader,
            table,
            path,
            prefix,
            line,
            keys: Vec::new(),
            is_unknown_kind: false,
        }
    }

    /// `sink[1].url`, for a key of this table.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The variable that a key of this table can come from.
    pub(super) fn variable_of(&self, name: &str) -> String {
        format!("{}{}", self.prefix, name.to_ascii_uppercase())
    }

    /// Notes a mistake in the value of `name`.
    pub(super) fn invalid(&mut self, name: &str, origin: &Origin, reason: impl Into<String>) {
        self.error(name, origin, reason.into(), ErrorKind::Invalid);
    }

    /// Notes that something about `name` is missing, or said twice.
    pub(super) fn incomplete(&mut self, name: &str, reason: impl Into<String>) {
        let origin = self.origin_of(name);
        self.error(name, &origin, reason.into(), ErrorKind::Incomplete);
    }

    pub(super) fn error(&mut self, name: &str, origin: &Origin, reason: String, kind: ErrorKind) {
        let place = self.reader.place(origin);
        let key = self.path_of(name);
        self.reader.errors.push(ConfigError {
            place,
            key,
            reason,
            kind,
        });
    }

    /// Where `name` came from, when it has been read and was set.
    pub(super) fn origin_if_set(&self, name: &str) -> Option<Origin> {
        match self.origin_noted(name) {
            Some(Origin::Default) | None => None,
            origin => origin,
        }
    }

    /// Where `name` came from, once it has been read; where it belongs, when it is not set.
    fn origin_of(&self, name: &str) -> Origin {
        let header = || {
            self.line
                .map_or(Origin::Default, |line| Origin::File { line })
        };
        self.origin_if_set(name).unwrap_or_else(header)
    }

    fn origin_noted(&self, name: &str) -> Option<Origin> {
        self.keys
            .iter()
            .find(|key| key.name == name)
            .and_then(|key| match &key.item {
                Item::Setting(setting) => Some(setting.origin.clone()),
                Item::Table { .. } | Item::Tables { .. } => None,
            })
    }

    /// The value of `name` out of the file or, before it, the environment. Mistakes that can be told without knowing
    /// the key's type are noted here.
    pub(super) fn take(&mut self, name: &'static str, kind: &Kind) -> Option<(Given<'d>, Origin)> {
        let variable = self.variable_of(name);
        let mut given = Vec::new();
        self.take_variable(name, variable.clone(), Given::Text, &mut given);
        if matches!(kind, Kind::Secret) {
            self.take_variable(
                name,
                format!("{variable}__ENV"),
                Given::SecretVariable,
                &mut given,
            );
            self.take_variable(
                name,
                format!("{variable}__FILE"),
                Given::SecretFile,
                &mut given,
            );
        }
        if let [
            (_, Origin::Variable(first)),
            (_, Origin::Variable(second)),
            ..,
        ] = given.as_slice()
        {
            let (origin, reason) = (
                Origin::Variable(second.clone()),
                format!("{first} is set too; keep one of them"),
            );
            self.invalid(name, &origin, reason);
        }
        let in_file = || {
            let node = self.table?.get(name)?;
            Some((Given::Node(node), Origin::File { line: node.line }))
        };
        let in_layer = || {
            let (name, text) = self.reader.layer.get(&variable)?;
            Some((Given::Text(text), Origin::Setting(name)))
        };
        given.into_iter().next().or_else(in_file).or_else(in_layer)
    }

    /// Notes that nothing works without `name`, which is not set. `or` tells of another way, and `or_app` of one that a
    /// function app has.
    pub(super) fn missing(&mut self, name: &str, or: &str, or_app: &str) {
        let variable = self.variable_of(name);
        match self.reader.layer.name_of(&variable) {
            Some(setting) => self.error(
                name,
                &Origin::Setting(setting),
                format!("missing: set this app setting{or_app}"),
                ErrorKind::Incomplete,
            ),
            None => self.incomplete(
                name,
                format!("missing: write it here, or set {variable}{or}"),
            ),
        }
    }

    fn take_variable(
        &mut self,
        name: &str,
        variable: String,
        given: impl FnOnce(String) -> Given<'d>,
        all: &mut Vec<(Given<'d>, Origin)>,
    ) {
        match self.reader.variable(&variable) {
            None => {}
            Some(Ok(text)) => all.push((given(text), Origin::Variable(variable))),
            Some(Err(reason)) => self.invalid(name, &Origin::Variable(variable), reason),
        }
    }

    /// Notes what a key is and what it came to.
    pub(super) fn note(&mut self, name: &'static str, doc: &'static str, setting: Setting) {
        self.keys.push(Key {
            name: name.to_owned(),
            doc,
            item: Item::Setting(setting),
        });
    }

    /// Refuses what was not asked for and hands over the notes.
    pub(super) fn finish(self) -> Vec<Key> {
        if self.is_unknown_kind {
            // Without its kind nobody knows which keys a table may have; its wrong tag is error enough.
            let prefix = &self.prefix;
            self.reader
                .unread
                .retain(|variable| !variable.starts_with(prefix.as_str()));
            return self.keys;
        }
        let is_known = |name: &str| self.keys.iter().any(|key| key.name == name);
        let unknown = self
            .table
            .into_iter()
            .flatten()
            .filter(|(name, _)| !is_known(name));
        let mut unknown: Vec<_> = unknown
            .map(|(name, node)| (node.line, name.as_str()))
            .collect();
        unknown.sort_unstable();
        for (line, name) in unknown {
            let mut reason = "unknown key".to_owned();
            match nearest(name, self.keys.iter().map(|key| key.name.as_str())) {
                Some(near) => reason.push_str(&format!("; did you mean `{near}`?")),
                None => {
                    let known: Vec<_> = self.keys.iter().map(|key| key.name.as_str()).collect();
                    reason.push_str(&format!("; the keys here are {}", known.join(", ")));
                }
            }
            let place = self.reader.place(&Origin::File { line });
            let key = self.path_of(&shown_name(name));
            self.reader.errors.push(ConfigError {
                place,
                key,
                reason,
                kind: ErrorKind::Incomplete,
            });
        }
        self.keys
    }
}
