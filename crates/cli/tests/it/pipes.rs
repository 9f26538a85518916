//! What the program does when whoever reads its output goes away, as `head -1` does after a line.

use std::io::{BufRead as _, BufReader, Read as _, pipe};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use crate::support::{PATIENCE, Simulation, describe, program};

/// Waits for the program's end. Its exit code, and what it said on standard error.
fn end_of(mut child: Child) -> (Option<i32>, String) {
    let mut stderr = child.stderr.take().unwrap();
    let (sender, said) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        drop(sender.send(text));
    });
    let Ok(said) = said.recv_timeout(PATIENCE) else {
        child.kill().unwrap();
        panic!("the program did not end");
    };
    (child.wait().unwrap().code(), said)
}

/// Runs it with a standard output that nobody reads, from the first byte on.
fn run_unread(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    end_of(child)
}

fn assert_quiet(command: &mut Command) {
    let end = run_unread(command);
    assert_eq!(end, (Some(0), String::new()), "{command:?}");
}

#[test]
fn a_document_that_nobody_reads_is_no_failure() {
    for arguments in [
        &["config", "default"][..],
        &["config", "schema"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["man"],
        &["--help"],
        &["--version"],
    ] {
        assert_quiet(program().args(arguments));
    }
}

#[test]
fn an_answer_that_nobody_reads_is_no_failure() {
    let simulation = Simulation::start(&["--records", "100"]);
    assert_eq!(simulation.run_once().status.code(), Some(0));
    for arguments in [&["config", "print"], &["subscriptions", "list"]] {
        let mut command = program();
        command.args(arguments).arg("--config");
        assert_quiet(command.arg(simulation.config()));
    }
    for format in ["text", "json"] {
        let mut command = program();
        command.args(["status", "--format", format, "--config"]);
        let (code, said) = run_unread(command.arg(simulation.config()));
        assert_eq!(code, Some(0), "{said}");
    }
    let stopped = ["subscriptions", "stop", "DLP.All", "Audit.General"];
    let mut command = program();
    command.args(stopped).arg("--config");
    assert_quiet(command.arg(simulation.config()));
    let listed = program()
        .args(["subscriptions", "list", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(text.matches("enabled ").count(), 3, "{text}");
}

#[test]
fn a_demo_that_nobody_watches_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["demo", "--dir"]).arg(dir.path());
    assert_quiet(&mut command);
}

#[test]
fn a_demo_whose_watcher_leaves_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(["demo", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("records delivered")));
    drop(lines);
    assert_eq!(end_of(child), (Some(0), String::new()));
    let file = std::fs::read_to_string(dir.path().join("audit.ndjson")).unwrap();
    assert!(
        file.is_empty() || file.ends_with('\n'),
        "the last line is torn"
    );
}

#[test]
fn a_collector_whose_log_nobody_reads_goes_on_collecting() {
    let simulation = Simulation::start(&["--records", "300"]);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let output = simulation
        .run()
        .arg("--once")
        .stderr(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    simulation.assert_clean();
}
