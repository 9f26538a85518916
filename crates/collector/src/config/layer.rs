//! A layer of settings below the file and the environment: what a host says under names of its own. Each is known by the
//! variable that the same key has, and named in messages as the user knows it.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// Settings by the variables of their keys.
#[derive(Default)]
pub(super) struct Layer(BTreeMap<String, Entry>);

struct Entry {
    /// What the user calls it.
    name: &'static str,
    /// Nothing when it is not set, and would be the place to set it.
    text: Option<SecretString>,
}

impl Layer {
    /// The key of this variable is this text, unless something above says otherwise.
    pub(super) fn set(&mut self, variable: String, name: &'static str, text: SecretString) {
        let text = Some(text);
        self.0.insert(variable, Entry { name, text });
    }

    /// The key of this variable would be set under this name.
    pub(super) fn miss(&mut self, variable: String, name: &'static str) {
        self.0.insert(variable, Entry { name, text: None });
    }

    /// The name and the text of a key that is set here.
    pub(super) fn get(&self, variable: &str) -> Option<(&'static str, String)> {
        let entry = self.0.get(variable)?;
        let text = entry.text.as_ref()?;
        Some((entry.name, text.expose_secret().to_owned()))
    }

    /// Under which name a key would be set here.
    pub(super) fn name_of(&self, variable: &str) -> Option<&'static str> {
        self.0.get(variable).map(|entry| entry.name)
    }

    /// The variables of all keys, set or not.
    pub(super) fn variables(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}
