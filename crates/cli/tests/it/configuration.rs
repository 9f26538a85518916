//! Bad configuration and bad command lines: all that is wrong in one answer, the right exit code, and never a secret.

use std::fs;
use std::process::Output;

use crate::support::{describe, program};

const CANARY: &str = "canary-7f3a-do-not-print";

fn run_with(toml: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, toml).unwrap();
    let output = program()
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        !describe(&output).contains(CANARY),
        "a secret was printed:\n{}",
        describe(&output)
    );
    assert!(
        !dir.path().join("o365-collector.db").exists(),
        "a ledger was made before the configuration was right"
    );
    output
}

fn tenant() -> String {
    format!(
        "[[tenant]]\nid = \"bf8d32d3-1c13-4487-af02-80dba2236485\"\nclient_id = \"a261478c-84fb-42f9-84c2-de050a4babe3\"\nclient_secret = \"{CANARY}\"\n"
    )
}

#[test]
fn each_mistake_is_named_and_the_exit_code_is_78() {
    let sink = "[[sink]]\ntype = \"file\"\npath = \"audit.ndjson\"\n";
    for (toml, wanted) in [
        (format!("colour = 1\n{}{sink}", tenant()), "colour"),
        (
            format!("{}{sink}[poll]\ninterval_secs = \"often\"\n", tenant()),
            "poll.interval_secs",
        ),
        (
            format!(
                "{}[[sink]]\ntype = \"splunk_hec\"\nurl = \"https://splunk.example.net:8088\"\n",
                tenant()
            ),
            "token",
        ),
        (
            tenant().replace("bf8d32d3", "not-a-guid") + sink,
            "tenant[0].id",
        ),
        (
            tenant().replace(&format!("\"{CANARY}\""), "{ file = \"no-such-file\" }") + sink,
            "tenant[0].client_secret",
        ),
        (
            tenant().replace(&format!("\"{CANARY}\""), "{ env = \"NO_SUCH_VARIABLE\" }") + sink,
            "NO_SUCH_VARIABLE",
        ),
        (tenant(), "sink"),
        (sink.to_owned(), "tenant"),
        (
            format!("{}{sink}[tls]\nca_file = \"no-such.pem\"\n", tenant()),
            "tls.ca_file",
        ),
        (
            format!(
                "{}{sink}[webhook]\npublic_url = \"https://collector.example.net/api/o365/webhook\"\n",
                tenant()
            ),
            "webhook.auth_id",
        ),
        ("[[tenant\n".to_owned(), "config.toml:1"),
    ] {
        let output = run_with(&toml);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{toml}\n{}",
            describe(&output)
        );
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(wanted), "{toml}\n{text}");
    }
}

#[test]
fn a_secrets_variable_that_is_not_set_is_named() {
    let secret = format!("\"{CANARY}\"");
    let output = run_with(
        &(tenant().replace(&secret, "{ env = \"O365_CLIENT_SECRET\" }")
            + "[[sink]]\ntype = \"stdout\"\n"),
    );
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("tenant[0].client_secret") && text.contains("O365_CLIENT_SECRET is not set"),
        "{text}"
    );
}

#[test]
fn a_file_variable_that_is_set_to_nothing_is_as_good_as_unset() {
    let dir = tempfile::tempdir().unwrap();
    let text = tenant() + "[[sink]]\ntype = \"stdout\"\n";
    let here = dir.path().join("o365-collector.toml");
    fs::write(&here, &text).unwrap();
    let there = dir.path().join("there.toml");
    fs::write(&there, text + "[poll]\ninterval_secs = 34\n").unwrap();
    let print = |arguments: &[&str], variable: &str| {
        let output = program()
            .args(["config", "print"])
            .args(arguments)
            .current_dir(dir.path())
            .env("O365_COLLECTOR_CONFIG", variable)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let is_there = |text: &str| text.contains("interval_secs = 34");
    assert!(!is_there(&print(&[], "")));
    assert!(is_there(&print(&["--config", "there.toml"], "")));
    assert!(is_there(&print(&[], "there.toml")));
    // The flag goes before the variable.
    let flag = ["--config", "o365-collector.toml"];
    assert!(!is_there(&print(&flag, "there.toml")));
    // A subcommand's subcommand takes the same flag.
    let output = program()
        .args(["subscriptions", "list", "--config", "no-such.toml"])
        .current_dir(dir.path())
        .env("O365_COLLECTOR_CONFIG", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
}

#[test]
fn an_unknown_content_type_is_a_bad_command_line_and_the_names_are_listed() {
    for action in ["start", "stop"] {
        let output = program()
            .args(["subscriptions", action, "Audit.Everything"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", describe(&output));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for name in [
            "Audit.AzureActiveDirectory",
            "Audit.Exchange",
            "Audit.SharePoint",
            "Audit.General",
            "DLP.All",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}

#[test]
fn two_mistakes_come_in_one_answer() {
    let output = run_with(&format!(
        "colour = 1\n{}[[sink]]\ntype = \"file\"\n[poll]\ninterval_secs = 1\n",
        tenant()
    ));
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for wanted in ["3 mistakes", "colour", "sink[0].path", "poll.interval_secs"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn an_unreadable_file_is_a_configuration_error() {
    let output = program()
        .args(["run", "--config", "no/such/file.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/file.toml"));
}

#[test]
fn a_bad_command_line_exits_with_64_and_help_with_0() {
    for arguments in [
        &["collect"][..],
        &["run", "--twice"],
        &["demo", "--records", "none"],
        &[],
    ] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?} {}",
            describe(&output)
        );
    }
    for arguments in [&["--help"][..], &["--version"], &["demo", "--help"]] {
        assert_eq!(
            program().args(arguments).output().unwrap().status.code(),
            Some(0),
            "{arguments:?}"
        );
    }
}

#[test]
fn print_shows_where_values_come_from_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, tenant() + "[[sink]]\ntype = \"stdout\"\n").unwrap();
    let output = program()
        .args(["config", "print", "--config"])
        .arg(&path)
        .env("O365_COLLECTOR_POLL__INTERVAL_SECS", "33")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("O365_COLLECTOR_POLL__INTERVAL_SECS") && text.contains("33"),
        "{text}"
    );
    assert!(!text.contains(CANARY), "{text}");
}

#[test]
fn documents_are_made() {
    for (arguments, wanted) in [
        (&["config", "default"][..], "[[tenant]]"),
        (&["config", "schema"], "$schema"),
        (&["completions", "bash"], "complete"),
        (&["man"], ".TH"),
    ] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(wanted),
            "{arguments:?}"
        );
    }
}
