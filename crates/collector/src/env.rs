//! The one place that reads the environment. Settings are looked up through [`Lookup`], so that a test hands over a map.

use std::collections::BTreeMap;

/// What every variable of ours begins with; the rest is the setting's path in capitals, `__` between levels.
pub const PREFIX: &str = "O365_COLLECTOR_";
/// The configuration file's path, when no flag names it.
pub const CONFIG_FILE: &str = "O365_COLLECTOR_CONFIG";

/// The log filter, when no flag gives one.
pub const LOG: &str = "O365_COLLECTOR_LOG";

/// A set of environment variables.
pub trait Lookup {
    /// The variable's value, or nothing when it is unset or no Unicode.
    fn get(&self, name: &str) -> Option<String>;
    /// The names of all variables that begin with `prefix`, in order.
    fn names_with_prefix(&self, prefix: &str) -> Vec<String>;
}

/// The process's own environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnv;

impl Lookup for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that may read the environment"
        )]
        std::env::var(name).ok()
    }

    fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that may read the environment"
        )]
        let mut names: Vec<_> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        self.keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }
}
