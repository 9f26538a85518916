//! The functions of the app: their names, what triggers each, and the folder that tells the Functions host so. A test
//! holds the folder's files against this.

use bytes::Bytes;

/// One function of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// Looks after the app: registration, subscriptions, health, check-in.
    Master,
    /// Puts a newer version in the place of this one.
    Updater,
    /// Takes notifications.
    WebHook,
    /// Lists what became available.
    Poll,
    /// Brings one blob to every sink.
    Deliver,
}

/// What calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// A schedule of six fields, or the app setting that holds it between percent signs.
    Timer { schedule: &'static str },
    /// A request, with no key asked for, to a path below `/api`.
    Http {
        route: &'static str,
        methods: [&'static str; 2],
    },
    /// A message of a queue in the app's own storage account.
    Queue { queue: &'static str },
}

/// The queue whose messages each name a blob that is due.
pub(crate) const DELIVER_QUEUE: &str = "o365-collector-deliver";
/// The program's name in the app's folder.
pub(crate) const EXECUTABLE: &str = "o365-collector";

impl Function {
    pub(crate) const ALL: [Self; 5] = [
        Self::Master,
        Self::Updater,
        Self::WebHook,
        Self::Poll,
        Self::Deliver,
    ];

    /// Its folder, its name in Azure, and its path in the host's requests to us. The first three are the original's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Master => "Master",
            Self::Updater => "Updater",
            Self::WebHook => "O365WebHook",
            Self::Poll => "Poll",
            Self::Deliver => "Deliver",
        }
    }

    /// The function that the host means with this path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let name = path.strip_prefix('/')?;
        Self::ALL
            .into_iter()
            .find(|function| function.name() == name)
    }

    /// What calls it.
    pub(crate) const fn trigger(self) -> Trigger {
        match self {
            // Settings, so that a deployment can spread a fleet over the clock.
            Self::Master => Trigger::Timer {
                schedule: "%MASTER_SCHEDULE%",
            },
            Self::Updater => Trigger::Timer {
                schedule: "%UPDATER_SCHEDULE%",
            },
            Self::WebHook => Trigger::Http {
                route: "o365/webhook",
                methods: ["post", "put"],
            },
            Self::Poll => Trigger::Timer {
                schedule: "0 * * * * *",
            },
            Self::Deliver => Trigger::Queue {
                queue: DELIVER_QUEUE,
            },
        }
    }

    /// The name of the binding that it is called through.
    pub(crate) const fn binding(self) -> &'static str {
        match self.trigger() {
            Trigger::Timer { .. } => "timer",
            Trigger::Http { .. } => "req",
            Trigger::Queue { .. } => "message",
        }
    }
}

/// The name of the binding through which a request is answered.
pub(crate) const RESPONSE: &str = "res";

/// A file of the app's folder.
#[derive(Debug, Clone)]
pub(crate) struct AppFile {
    /// Below the folder, with `/` between.
    pub(crate) path: String,
    pub(crate) bytes: Bytes,
}

/// host.json.
pub(crate) const HOST_JSON: &str = include_str!("../../../../deploy/azure/function-app/host.json");

/// Everything in the app's folder but the program itself.
pub(crate) fn files() -> Vec<AppFile> {
    let of = |function: Function, text: &'static str| AppFile {
        path: format!("{}/function.json", function.name()),
        bytes: Bytes::from_static(text.as_bytes()),
    };
    macro_rules! folder {
        ($function:expr, $name:literal) => {
            of(
                $function,
                include_str!(concat!(
                    "../../../../deploy/azure/function-app/",
                    $name,
                    "/function.json"
                )),
            )
        };
    }
    vec![
        AppFile {
            path: "host.json".to_owned(),
            bytes: Bytes::from_static(HOST_JSON.as_bytes()),
        },
        folder!(Function::Master, "Master"),
        folder!(Function::Updater, "Updater"),
        folder!(Function::WebHook, "O365WebHook"),
        folder!(Function::Poll, "Poll"),
        folder!(Function::Deliver, "Deliver"),
    ]
}

#[cfg(test)]
mod tests {
    //! The folder as it is, against the functions as they are.

    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::*;

    /// What every route begins with.
    const ROUTE_PREFIX: &str = "api";
    /// The setting with the connection of the app's own storage account.
    const STORAGE: &str = "AzureWebJobsStorage";
    /// The argument that makes the program a custom handler.
    const ARGUMENT: &str = "function";

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure/function-app")
    }

    /// What the host must be told of a function.
    fn function_json(function: Function) -> Value {
        let name = function.binding();
        let mut bindings = vec![match function.trigger() {
            Trigger::Timer { schedule } => json!({
                "name": name, "type": "timerTrigger", "direction": "in", "schedule": schedule,
                // A start is no reason to run: a fleet that is deployed at once would all check in at once.
                "runOnStartup": false,
                // What is missed while the app is down is made up for, but by the minute there is nothing to make up.
                "useMonitor": function != Function::Poll,
            }),
            Trigger::Http { route, methods } => json!({
                "name": name, "type": "httpTrigger", "direction": "in", "authLevel": "anonymous",
                "route": route, "methods": methods,
            }),
            Trigger::Queue { queue } => json!({
                "name": name, "type": "queueTrigger", "direction": "in", "queueName": queue,
                "connection": STORAGE,
            }),
        }];
        if matches!(function.trigger(), Trigger::Http { .. }) {
            bindings.push(json!({"name": RESPONSE, "type": "http", "direction": "out"}));
        }
        json!({ "bindings": bindings })
    }

    #[test]
    fn every_folder_is_a_function_and_every_function_has_its_folder() {
        let folders: BTreeSet<_> = fs::read_dir(folder())
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        let functions: BTreeSet<_> = Function::ALL
            .iter()
            .map(|function| function.name().to_owned())
            .collect();
        assert_eq!(folders, functions);
        for function in Function::ALL {
            let file = folder().join(function.name()).join("function.json");
            let told: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            assert_eq!(told, function_json(function), "{}", function.name());
            assert_eq!(
                Function::at(&format!("/{}", function.name())),
                Some(function)
            );
        }
        assert_eq!(Function::at("/Nothing"), None);
        assert_eq!(Function::at("Master"), None);
    }

    #[test]
    fn host_json_starts_this_program_as_a_custom_handler() {
        let host: Value = serde_json::from_str(HOST_JSON).unwrap();
        assert_eq!(
            host,
            json!({
                "version": "2.0",
                "functionTimeout": "00:10:00",
                "customHandler": {
                    "description": {
                        "defaultExecutablePath": EXECUTABLE,
                        "arguments": [ARGUMENT],
                        "workingDirectory": ""
                    },
                    "enableForwardingHttpRequest": true
                },
                "extensionBundle": {
                    "id": "Microsoft.Azure.Functions.ExtensionBundle",
                    "version": "[4.*, 5.0.0)"
                },
                "extensions": {
                    "http": {"routePrefix": ROUTE_PREFIX},
                    // The messages are JSON: in Base64 they would have to be decoded by whoever looks into the queue.
                    "queues": {
                        "messageEncoding": "none", "batchSize": 16, "newBatchThreshold": 8,
                        "maxDequeueCount": 5, "visibilityTimeout": "00:00:30"
                    }
                }
            })
        );
        // What is typed there is a command of this program.
        let command = <crate::args::Args as clap::CommandFactory>::command();
        assert_eq!(command.get_name(), EXECUTABLE);
        assert!(command.find_subcommand(ARGUMENT).is_some());
    }

    #[test]
    fn the_webhook_is_where_microsoft_is_told_to_post() {
        let Trigger::Http { route, methods } = Function::WebHook.trigger() else {
            panic!("it is called by requests");
        };
        assert_eq!(
            format!("/{ROUTE_PREFIX}/{route}"),
            collector::web::WEBHOOK_PATH
        );
        assert_eq!(methods, ["post", "put"]);
    }

    #[test]
    fn the_programs_copy_of_the_folder_is_whole() {
        let copies = files();
        assert_eq!(copies.len(), 1 + Function::ALL.len());
        for copy in copies {
            assert_eq!(fs::read(folder().join(&copy.path)).unwrap(), copy.bytes);
        }
    }

    #[test]
    fn the_example_of_local_settings_has_every_setting_that_the_folder_names() {
        let text = fs::read_to_string(folder().join("local.settings.json.example")).unwrap();
        let settings: Value = serde_json::from_str(&text).unwrap();
        for setting in ["MASTER_SCHEDULE", "UPDATER_SCHEDULE", STORAGE] {
            assert!(settings["Values"][setting].is_string(), "{setting}");
        }
        assert_eq!(settings["Values"]["FUNCTIONS_WORKER_RUNTIME"], "custom");
        let ignored = fs::read_to_string(folder().join(".funcignore")).unwrap();
        assert!(ignored.lines().any(|line| line == "local.settings.json"));
    }
}
