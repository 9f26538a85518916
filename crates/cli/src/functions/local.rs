//! Settings for a function that is run once on somebody's own machine: `local.settings.json`, as the tools of Azure
//! Functions write it, and the environment over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use collector::config::{self, Config};
use collector::env::{Lookup, ProcessEnv};
use serde_json::Value;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "local.settings.json";
/// Far more than any such file has.
const MAX_BYTES: u64 = 1024 * 1024;

/// The settings of a function app that runs here.
pub(crate) struct LocalSettings<E = ProcessEnv> {
    values: BTreeMap<String, String>,
    env: E,
    folder: PathBuf,
}

/// Why the file cannot be used. Says nothing of any value.
#[derive(Debug)]
pub(crate) struct SettingsError {
    file: PathBuf,
    reason: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for SettingsError {}

impl LocalSettings {
    /// Those in `file`, or else in `./local.settings.json`, or else only the environment's.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::read_over(file, Path::new(DEFAULT_FILE), ProcessEnv)
    }
}

impl<E: Lookup> LocalSettings<E> {
    fn read_over(named: Option<&Path>, default: &Path, env: E) -> Result<Self, SettingsError> {
        let file = named.unwrap_or(default);
        let refuse = |reason: String| SettingsError {
            file: file.to_path_buf(),
            reason,
        };
        let mut bytes = Vec::new();
        let read =
            File::open(file).and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        let values = match read {
            Ok(length) if length as u64 > MAX_BYTES => {
                return Err(refuse(
                    "is longer than 1 MiB, so it is no settings file".to_owned(),
                ));
            }
            Ok(_) => parse(&bytes).map_err(refuse)?,
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => BTreeMap::new(),
            Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
        };
        Ok(Self {
            values,
            env,
            folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
        })
    }

    /// The configuration that the function app would have.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(config::load_app_settings(&self.folder, self)?)
    }
}

impl<E: Lookup> Lookup for LocalSettings<E> {
    fn get(&self, name: &str) -> Option<String> {
        self.env
            .get(name)
            .or_else(|| self.values.get(name).cloned())
    }

    fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        let mut names: BTreeSet<_> = self.env.names_with_prefix(prefix).into_iter().collect();
        names.extend(Lookup::names_with_prefix(&self.values, prefix));
        names.into_iter().collect()
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    // Editors of one large system begin a UTF-8 file with this mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let file: Value = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "is no JSON: see line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    if file.get("IsEncrypted").and_then(Value::as_bool) == Some(true) {
        return Err(
            "its values are encrypted for one machine's tools; make them readable with `func settings decrypt` in its folder"
                .to_owned(),
        );
    }
    let Some(values) = file.get("Values").and_then(Value::as_object) else {
        return Err(
            "has no `Values`: it must look like {\"IsEncrypted\": false, \"Values\": {…}}"
                .to_owned(),
        );
    };
    let mut settings = BTreeMap::new();
    for (name, value) in values {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(claim) => claim.to_string(),
            Value::Null => continue,
            // The name is the user's own, and no value.
            Value::Array(_) | Value::Object(_) => {
                let name: String = name.chars().take(48).flat_map(char::escape_debug).collect();
                return Err(format!(
                    "the value of {name} must be text in quotes, JSON in it too"
                ));
            }
        };
        settings.insert(name.clone(), text);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    //! Files as they are written, and as they go wrong.

    use std::fs;

    use super::*;

    type Environment = BTreeMap<String, String>;

    fn read(
        text: &[u8],
        env: &[(&str, &str)],
    ) -> Result<LocalSettings<Environment>, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        fs::write(&file, text).unwrap();
        let env = env
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        LocalSettings::read_over(Some(&file), Path::new(DEFAULT_FILE), env.collect())
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let text = br#"{"IsEncrypted":false,"Values":{"A":"of the file","B":"of the file","N":5,"T":true,"Z":null},
            "Host":{"LocalHttpPort":7071}}"#;
        let mut with_mark = b"\xef\xbb\xbf".to_vec();
        with_mark.extend(text);
        for text in [text.to_vec(), with_mark] {
            let settings = read(&text, &[("B", "of the environment"), ("C", "too")]).unwrap();
            let get = |name: &str| settings.get(name).unwrap_or_default();
            assert_eq!(
                (get("A"), get("B"), get("C")),
                (
                    "of the file".into(),
                    "of the environment".into(),
                    "too".into()
                )
            );
            assert_eq!(
                (get("N"), get("T"), get("Z")),
                ("5".into(), "true".into(), String::new())
            );
            assert_eq!(settings.names_with_prefix(""), ["A", "B", "C", "N", "T"]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_with_its_mend() {
        for (text, told) in [
            (
                &br#"{"IsEncrypted":true,"Values":{"A":"marker"}}"#[..],
                "func settings decrypt",
            ),
            (br#"{"A":"marker"}"#, "has no `Values`"),
            (
                br#"{"Values":{"O365_CONTENT_STREAMS":["marker"]}}"#,
                "O365_CONTENT_STREAMS must be text",
            ),
            (b"marker", "is no JSON: see line 1"),
        ] {
            let error = read(text, &[]).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("marker"), "{error}");
        }
    }

    #[test]
    fn only_a_file_that_was_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.json");
        let settings = LocalSettings::read_over(None, &absent, Environment::new());
        assert!(settings.unwrap().values.is_empty());
        let error = LocalSettings::read_over(Some(&absent), &absent, Environment::new());
        assert!(error.err().unwrap().to_string().contains("cannot be read"));
    }
}
