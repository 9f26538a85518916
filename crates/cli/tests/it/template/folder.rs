//! The function app's folder: what its files take from the app settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::checks::app_settings;
use super::evaluate::Deployed;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure/function-app")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The names of the functions: their folders'.
pub(super) fn functions() -> BTreeSet<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Every `%NAME%` and every connection that a file names is an app setting that the template sets, and the time limit is
/// the host's.
pub(super) fn finds_its_settings(deployed: &Deployed) -> Vec<String> {
    let mut found = Vec::new();
    let settings = app_settings(deployed);
    for function in functions() {
        let bindings = json(&folder().join(&function).join("function.json"));
        for binding in bindings["bindings"].as_array().into_iter().flatten() {
            let text = binding.to_string();
            let named = text.split('%').skip(1).step_by(2);
            for name in named.filter(|name| !settings.contains_key(*name)) {
                found.push(format!("{function} takes %{name}%, which is not set"));
            }
            let connection = binding["connection"].as_str();
            let is_there = |connection: &str| {
                settings
                    .keys()
                    .any(|name| name == connection || name.starts_with(&format!("{connection}__")))
            };
            if let Some(connection) = connection.filter(|connection| !is_there(connection)) {
                found.push(format!(
                    "{function} connects by {connection}, which is not set"
                ));
            }
        }
    }
    let host = json(&folder().join("host.json"));
    if settings.get("AzureFunctionsJobHost__functionTimeout") != host.get("functionTimeout") {
        found.push("AzureFunctionsJobHost__functionTimeout is not what host.json has".to_owned());
    }
    found
}
