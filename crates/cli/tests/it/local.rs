//! One function run once, on somebody's own machine, with the settings in a `local.settings.json`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::functions::FunctionApp;
use crate::support::{describe, program};

/// Writes the settings down as the tools of Azure Functions do.
fn settings_file(app: &FunctionApp) -> PathBuf {
    let file = app.simulation.dir.path().join("local.settings.json");
    let settings = json!({"IsEncrypted": false, "Values": app.settings});
    fs::write(&file, settings.to_string()).unwrap();
    file
}

fn run(command: &mut Command, input: &Value) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn webhook(settings: &Path) -> Command {
    let mut command = program();
    command.arg("webhook").arg("--settings").arg(settings);
    command
}

#[test]
fn one_notification_is_taken_and_what_it_names_is_delivered() {
    let app = FunctionApp::new(&["--records", "50"]);
    let settings = settings_file(&app);
    let notification = app.notification(&app.list_blobs()[0]);
    for _ in 0..2 {
        let output = run(&mut webhook(&settings), &notification);
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    }
    let sink = app.alertlogic();
    assert!(sink["delivered_once"].as_u64().unwrap() > 0, "{sink:#}");
    assert_eq!(sink["repeated"], json!([]), "{sink:#}");
    // The same in a file, and of a place that nothing is to be fetched from.
    let file = app.simulation.dir.path().join("notification.json");
    let mut forged = notification;
    forged[0]["contentUri"] = json!("https://collector.example.net/blob");
    forged[0]["contentId"] = json!("forged");
    fs::write(&file, forged.to_string()).unwrap();
    let output = webhook(&settings).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
}

#[test]
fn master_and_updater_run_once() {
    let app = FunctionApp::new(&["--records", "50"]);
    let settings = settings_file(&app);
    let run = |command: &str| {
        let mut program = program();
        program.arg(command).arg("--settings").arg(&settings);
        program.output().unwrap()
    };
    // Nobody reaches the webhook of an app that runs nowhere, and the check-in says so.
    let output = run("master");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("checked in with error O365000001"),
        "{}",
        describe(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    let output = run("updater");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(output.stdout, b"no updates are configured\n");
}

#[test]
fn settings_that_cannot_be_used_are_told_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("local.settings.json");
    for (text, told) in [
        (
            r#"{"IsEncrypted": true, "Values": {}}"#,
            vec!["func settings decrypt"],
        ),
        (
            r#"{"IsEncrypted": false, "Values": {"APP_TENANT_ID": "marker"}}"#,
            vec![
                "APP_TENANT_ID: ",
                "APP_RESOURCE_GROUP: missing",
                "AzureWebJobsStorage: missing",
            ],
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(&mut webhook(&file), &json!([]));
        assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.iter().all(|told| stderr.contains(told)), "{stderr}");
        assert!(!stderr.contains("marker"), "{stderr}");
    }
}
