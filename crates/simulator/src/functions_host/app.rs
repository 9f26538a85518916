//! A deployed function app as it lies on disk: host.json, and a folder with a function.json for each function.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::FunctionsHostError;

/// What host.json and the folders say.
#[derive(Debug)]
pub(super) struct App {
    pub(super) root: PathBuf,
    pub(super) executable: String,
    pub(super) arguments: Vec<String>,
    pub(super) working_directory: String,
    pub(super) forwards_http: bool,
    pub(super) function_timeout: Duration,
    pub(super) route_prefix: String,
    pub(super) queues: QueueRules,
    pub(super) functions: BTreeMap<String, Trigger>,
    /// Keeps the unpacked zip for as long as it runs from there.
    _unpacked: Option<tempfile::TempDir>,
}

/// `extensions.queues` of host.json, with the host's defaults.
#[derive(Clone, Debug)]
pub(super) struct QueueRules {
    pub(super) batch_size: usize,
    pub(super) new_batch_threshold: usize,
    pub(super) max_dequeue_count: u64,
    /// How long a message stays hidden after a failure.
    pub(super) visibility_timeout: Duration,
    pub(super) is_base64: bool,
}

/// What starts a function.
#[derive(Clone, Debug)]
pub(super) enum Trigger {
    Timer {
        binding: String,
        schedule: String,
    },
    Http {
        /// In small letters; empty stands for all.
        methods: Vec<String>,
        route: String,
        is_anonymous: bool,
        /// One http binding in, one out, no other: only these are forwarded.
        is_plain: bool,
    },
    Queue {
        binding: String,
        queue: String,
        /// The app setting with the connection string.
        connection: String,
    },
}

impl App {
    /// Reads a folder, or a zip, which is unpacked to a folder of its own first.
    pub(super) fn open(path: &Path) -> Result<Self, FunctionsHostError> {
        if path.is_dir() {
            return Self::read(path.to_owned(), None);
        }
        let folder = tempfile::tempdir().map_err(|error| bad(path, &error.to_string()))?;
        unpack(path, folder.path()).map_err(|error| bad(path, &error.to_string()))?;
        Self::read(folder.path().to_owned(), Some(folder))
    }

    fn read(
        root: PathBuf,
        unpacked: Option<tempfile::TempDir>,
    ) -> Result<Self, FunctionsHostError> {
        let host = read_json(&root.join("host.json"))?;
        let custom = &host["customHandler"];
        let description = &custom["description"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let executable = text(&description["defaultExecutablePath"]);
        if host["version"] != "2.0" || executable.is_empty() {
            return Err(bad(
                &root.join("host.json"),
                "version is not 2.0, or customHandler names no executable",
            ));
        }
        let queues = &host["extensions"]["queues"];
        let number = |name: &str, default: u64| queues[name].as_u64().unwrap_or(default);
        let batch_size = number("batchSize", 16).clamp(1, 32);
        let at = |value: &Value, default: Duration| {
            value
                .as_str()
                .map_or(Some(default), time_span)
                .ok_or_else(|| bad(&root.join("host.json"), "a time is not written as hh:mm:ss"))
        };
        let mut functions = BTreeMap::new();
        let entries = std::fs::read_dir(&root).map_err(|error| bad(&root, &error.to_string()))?;
        for entry in entries.filter_map(Result::ok) {
            let file = entry.path().join("function.json");
            if !file.is_file() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let trigger = trigger(&name, &read_json(&file)?)
                .ok_or_else(|| bad(&file, "no trigger of a kind that is known here"))?;
            functions.insert(name, trigger);
        }
        Ok(Self {
            executable,
            arguments: description["arguments"]
                .as_array()
                .map(|list| list.iter().map(text).collect())
                .unwrap_or_default(),
            working_directory: text(&description["workingDirectory"]),
            forwards_http: custom["enableForwardingHttpRequest"] == true
                || custom["enableProxyingHttpRequest"] == true,
            function_timeout: at(&host["functionTimeout"], Duration::from_secs(300))?,
            route_prefix: host["extensions"]["http"]["routePrefix"]
                .as_str()
                .unwrap_or("api")
                .trim_matches('/')
                .to_owned(),
            queues: QueueRules {
                batch_size: usize::try_from(batch_size).unwrap_or(16),
                new_batch_threshold: usize::try_from(number("newBatchThreshold", batch_size / 2))
                    .unwrap_or(8),
                max_dequeue_count: number("maxDequeueCount", 5),
                visibility_timeout: at(&queues["visibilityTimeout"], Duration::ZERO)?,
                is_base64: queues["messageEncoding"] != "none",
            },
            functions,
            root,
            _unpacked: unpacked,
        })
    }
}

fn trigger(name: &str, file: &Value) -> Option<Trigger> {
    let bindings = file["bindings"].as_array()?;
    let binding = bindings.iter().find(|binding| {
        binding["type"]
            .as_str()
            .is_some_and(|kind| kind.to_ascii_lowercase().ends_with("trigger"))
    })?;
    let text = |name: &str| binding[name].as_str().unwrap_or_default().to_owned();
    match binding["type"].as_str()?.to_ascii_lowercase().as_str() {
        "timertrigger" => Some(Trigger::Timer {
            binding: text("name"),
            schedule: text("schedule"),
        }),
        "httptrigger" => Some(Trigger::Http {
            methods: binding["methods"]
                .as_array()
                .map(|list| {
                    let method = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
                    list.iter().filter_map(method).collect()
                })
                .unwrap_or_default(),
            route: binding["route"].as_str().unwrap_or(name).to_owned(),
            is_anonymous: binding["authLevel"]
                .as_str()
                .is_some_and(|level| level.eq_ignore_ascii_case("anonymous")),
            is_plain: bindings.len() == 2
                && bindings
                    .iter()
                    .any(|other| other["type"] == "http" && other["direction"] == "out"),
        }),
        "queuetrigger" => Some(Trigger::Queue {
            binding: text("name"),
            queue: text("queueName"),
            connection: match text("connection") {
                name if name.is_empty() => "AzureWebJobsStorage".to_owned(),
                name => name,
            },
        }),
        _ => None,
    }
}

/// `hh:mm:ss`, or `d.hh:mm:ss`, as .NET writes a span of time.
fn time_span(text: &str) -> Option<Duration> {
    let (days, clock) = text.split_once('.').unwrap_or(("0", text));
    let mut seconds = days.parse::<u64>().ok()?.checked_mul(24)?;
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, secs] = parts.as_slice() else {
        return None;
    };
    seconds = seconds.checked_add(hours.parse().ok()?)?.checked_mul(60)?;
    seconds = seconds
        .checked_add(minutes.parse().ok()?)?
        .checked_mul(60)?;
    Some(Duration::from_secs(
        seconds.checked_add(secs.parse().ok()?)?,
    ))
}

/// Unpacks a zip with each file's mode, so that what is executable there is executable here, and what is not is not.
fn unpack(path: &Path, into: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(path)?).map_err(io::Error::other)?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(io::Error::other)?;
        let name = entry
            .enclosed_name()
            .ok_or_else(|| io::Error::other("an entry leads out of the zip"))?;
        let target = into.join(name);
        if entry.is_dir() {
            std::fs::create_dir_all(&target)?;
            continue;
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mode = entry.unix_mode();
        io::copy(&mut entry, &mut File::create(&target)?)?;
        set_mode(&target, mode)?;
    }
    Ok(())
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    // A zip without modes gives none that can be executed.
    let mode = mode.map_or(0o644, |mode| mode & 0o777);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: Option<u32>) -> io::Result<()> {
    Ok(())
}

fn read_json(path: &Path) -> Result<Value, FunctionsHostError> {
    let text = std::fs::read_to_string(path).map_err(|error| bad(path, &error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| bad(path, &error.to_string()))
}

fn bad(path: &Path, reason: &str) -> FunctionsHostError {
    FunctionsHostError::App {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read_as_dotnet_writes_them() {
        assert_eq!(time_span("00:10:00"), Some(Duration::from_secs(600)));
        assert_eq!(time_span("1.00:00:01"), Some(Duration::from_secs(86_401)));
        assert_eq!(time_span("ten"), None);
        assert_eq!(time_span("10:00"), None);
    }
}
