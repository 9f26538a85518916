//! Tables inside tables: `[poll]`, `[webhook]`, `[[tenant]]`, `[[sink]]`.

use std::collections::BTreeSet;

use super::errors::{Kind, shown_name};
use super::keys::{Element, Item, Key, Origin};
use super::node::{Table, Value};
use super::reader::Section;

/// One `[[name]]` before it is read: its table in the file and the line of its header, its path, its variables' prefix.
type Unread<'d> = (Option<&'d Table>, Option<usize>, String, String);

impl<'d> Section<'_, 'd> {
    /// A table that is always there, if only with its defaults.
    pub(super) fn table<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'_, 'd>) -> T,
    ) -> T {
        let node = self.table.and_then(|table| table.get(name));
        let table = match node.map(|node| (&node.value, node.line)) {
            Some((Value::Table(table), _)) => Some(table),
            Some((other, line)) => {
                let reason = format!("must be a table, written [{name}], not {}", other.kind());
                self.invalid(name, &Origin::File { line }, reason);
                None
            }
            None => None,
        };
        let is_present = node.is_some() || self.has_variables_below(name);
        let (path, prefix) = (self.path_of(name), format!("{}__", self.variable_of(name)));
        let mut section =
            Section::new(self.reader, table, path, prefix, node.map(|node| node.line));
        let value = read(&mut section);
        let keys = section.finish();
        self.keys.push(Key {
            name: name.to_owned(),
            doc,
            item: Item::Table { is_present, keys },
        });
        value
    }

    /// A table whose absence means something.
    pub(super) fn optional_table<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'_, 'd>) -> Option<T>,
    ) -> Option<T> {
        let is_in_file = self.table.is_some_and(|table| table.contains_key(name));
        let is_present = is_in_file || self.has_variables_below(name) || self.reader.is_describing;
        if is_present {
            return self.table(name, doc, read);
        }
        self.keys.push(Key {
            name: name.to_owned(),
            doc,
            item: Item::Table {
                is_present,
                keys: Vec::new(),
            },
        });
        None
    }

    /// `[[name]]`, of which there must be at least one. `read` is handed each in turn.
    pub(super) fn tables<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'd>) -> Option<T>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        let elements = self.elements(name);
        let keys = elements.into_iter().map(|(table, line, path, prefix)| {
            let mut section = Section::new(self.reader, table, path, prefix, line);
            values.extend(read(&mut section));
            Element {
                variant: None,
                keys: section.finish(),
            }
        });
        let elements = keys.collect();
        self.keys.push(Key {
            name: name.to_owned(),
            doc,
            item: Item::Tables {
                tag: None,
                elements,
            },
        });
        values
    }

    /// `[[name]]` whose key `tag` says which other keys there are.
    pub(super) fn tagged_tables<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        tag: (&'static str, &'static str, &'static [&'static str]),
        mut read: impl FnMut(&mut Section<'_, 'd>, &'static str) -> Option<T>,
    ) -> Vec<T> {
        let (tag, tag_doc, variants) = tag;
        let mut values = Vec::new();
        let mut notes = Vec::new();
        for (table, line, path, prefix) in self.elements(name) {
            // Nothing is set while describing, so that each variant has its turn.
            let turns: Vec<_> = match self.reader.is_describing {
                true => variants.iter().copied().map(Some).collect(),
                false => vec![None],
            };
            for turn in turns {
                let mut section =
                    Section::new(self.reader, table, path.clone(), prefix.clone(), line);
                let variant = section.choice(tag, tag_doc, variants).required().or(turn);
                section.is_unknown_kind = variant.is_none();
                values.extend(variant.and_then(|variant| read(&mut section, variant)));
                notes.push(Element {
                    variant,
                    keys: section.finish(),
                });
            }
        }
        self.keys.push(Key {
            name: name.to_owned(),
            doc,
            item: Item::Tables {
                tag: Some(tag),
                elements: notes,
            },
        });
        values
    }

    /// The elements of a list of tables, in the file and behind them in the environment.
    fn elements(&mut self, name: &'static str) -> Vec<Unread<'d>> {
        let mut tables = Vec::new();
        if let Some(node) = self.table.and_then(|table| table.get(name)) {
            let wrong = match &node.value {
                Value::List(list) => list.iter().find_map(|item| match &item.value {
                    Value::Table(table) => {
                        tables.push((Some(table), Some(item.line)));
                        None
                    }
                    other => Some((other.kind(), item.line)),
                }),
                other => Some((other.kind(), node.line)),
            };
            if let Some((kind, line)) = wrong {
                let reason =
                    format!("must be a list of tables, each written [[{name}]], not {kind}");
                self.invalid(name, &Origin::File { line }, reason);
            }
        }
        let below = format!("{}__", self.variable_of(name));
        let mut number_of = BTreeSet::new();
        for variable in self
            .reader
            .unread
            .iter()
            .chain(self.reader.layer.variables())
        {
            let number = variable
                .strip_prefix(&below)
                .and_then(|rest| rest.split_once("__"))
                .map(|(number, _)| number);
            // Not `007`: two spellings of a number would be two variables for one setting.
            number_of.extend(
                number
                    .filter(|number| *number == "0" || !number.starts_with('0'))
                    .map(str::to_owned),
            );
        }
        while number_of.contains(&tables.len().to_string()) {
            tables.push((None, None));
        }
        let next = tables.len();
        self.refuse_gaps(name, &below, next);
        if tables.is_empty() && self.reader.is_describing {
            tables.push((None, None));
        } else if tables.is_empty()
            && !self
                .reader
                .errors
                .iter()
                .any(|error| error.key == self.path_of(name))
        {
            let what = match self.reader.file_name {
                Some(_) => format!("missing: write at least one [[{name}]]"),
                None => format!(
                    "missing: there must be at least one [[{name}]], and no configuration file was read; \
                     `o365-collector config default` prints one to start from"
                ),
            };
            self.incomplete(name, what);
        }
        let path = self.path_of(name);
        let numbered = tables.into_iter().enumerate();
        numbered
            .map(|(i, (table, line))| {
                (table, line, format!("{path}[{i}]"), format!("{below}{i}__"))
            })
            .collect()
    }

    /// Variables of an element that does not follow on: a slip of the number, and an element in between would be empty.
    fn refuse_gaps(&mut self, name: &'static str, below: &str, next: usize) {
        let is_gap = |variable: &&String| {
            let number = variable
                .strip_prefix(below)
                .and_then(|rest| rest.split_once("__"))
                .map(|(number, _)| number);
            number.is_some_and(|number| number.parse::<usize>().is_ok_and(|number| number > next))
        };
        let gaps: Vec<String> = self.reader.unread.iter().filter(is_gap).cloned().collect();
        for variable in gaps {
            self.reader.unread.remove(&variable);
            let reason = format!("the numbers must follow on: the next {name} is {below}{next}__…");
            self.error(
                name,
                &Origin::Variable(shown_name(&variable)),
                reason,
                Kind::Incomplete,
            );
        }
    }

    fn has_variables_below(&self, name: &str) -> bool {
        let below = format!("{}__", self.variable_of(name));
        let mut all = self
            .reader
            .unread
            .iter()
            .chain(self.reader.layer.variables());
        all.any(|variable| variable.starts_with(&below))
    }
}
