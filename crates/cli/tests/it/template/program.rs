//! What the program itself makes of the app settings that the template sets: which of them it asks for, and whether they
//! are a configuration.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use collector::config::load_app_settings;
use collector::env::{Lookup, PREFIX};
use serde_json::Value;

use super::checks::app_settings;
use super::evaluate::Deployed;
use super::scenarios::Scenario;
use super::settings::{APP_SETTINGS, ReadBy};

/// An environment that notes what it is asked for.
struct Recording {
    variables: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

impl Lookup for Recording {
    fn get(&self, name: &str) -> Option<String> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.variables.get(name).cloned()
    }

    fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        self.variables.names_with_prefix(prefix)
    }
}

/// Each scenario's app settings are a configuration; and of the settings listed as the program's it asks for each, and
/// for no other that is set.
pub(super) fn understands(scenarios: &[Scenario]) -> Vec<String> {
    let mut found = Vec::new();
    let mut asked = BTreeSet::new();
    let nowhere = tempfile::tempdir().unwrap();
    for scenario in scenarios {
        let env = Recording {
            variables: environment(&scenario.deployed),
            asked: RefCell::default(),
        };
        if let Err(errors) = load_app_settings(nowhere.path(), &env) {
            let errors = errors.errors().iter().map(ToString::to_string);
            found.extend(errors.map(|error| format!("{}: {error}", scenario.name)));
        }
        asked.append(&mut env.asked.borrow_mut());
    }
    // The names of old are asked for where the newer ones are not set.
    let empty = Recording {
        variables: BTreeMap::new(),
        asked: RefCell::default(),
    };
    drop(load_app_settings(nowhere.path(), &empty));
    asked.append(&mut empty.asked.borrow_mut());
    for (name, _, read_by) in APP_SETTINGS {
        let is_asked = asked.contains(*name);
        match read_by {
            ReadBy::Configuration if !is_asked => {
                found.push(format!("the configuration never asks for {name}"));
            }
            ReadBy::Host if is_asked => {
                found.push(format!("the configuration asks for {name} as well"));
            }
            _ => {}
        }
    }
    let code = code();
    for (name, _, read_by) in APP_SETTINGS {
        if *read_by == ReadBy::Program && !code.contains(&format!("\"{name}\"")) {
            found.push(format!("no code of the program's names {name}"));
        }
    }
    // Variables of our own are looked for under the names of all keys that there are; one that is no key is refused.
    let listed = |name: &String| APP_SETTINGS.iter().any(|(known, ..)| known == name);
    for name in asked.iter().filter(|name| !name.starts_with(PREFIX)) {
        if !listed(name) {
            found.push(format!(
                "the configuration asks for {name}, which is not listed"
            ));
        }
    }
    found
}

/// The text of the program's own crates, without their tests.
fn code() -> String {
    let mut text = String::new();
    for name in ["azure", "collector", "cli"] {
        let folder = format!("{}/../{name}/src", env!("CARGO_MANIFEST_DIR"));
        read_into(Path::new(&folder), &mut text);
    }
    text
}

fn read_into(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("test") {
            continue;
        }
        if path.is_dir() {
            read_into(&path, text);
        } else if name.ends_with(".rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What the platform makes of the settings: connection strings under a prefix, and what it adds of its own.
fn environment(deployed: &Deployed) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = [
        ("WEBSITE_SITE_NAME", "contoso-o365"),
        ("WEBSITE_HOSTNAME", "contoso-o365.azurewebsites.net"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token"),
        ("IDENTITY_HEADER", "a-header"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "41234"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (name, value) in app_settings(deployed) {
        environment.insert(name, text(&value));
    }
    for strings in deployed.find("Microsoft.Web/sites/config", "/connectionstrings") {
        for (name, entry) in strings["properties"].as_object().into_iter().flatten() {
            environment.insert(format!("CUSTOMCONNSTR_{name}"), text(&entry["value"]));
        }
    }
    environment
}
