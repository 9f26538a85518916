//! `alertlogic access-key`, driven through standard input as a program would drive it, against a simulated AIMS.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;
use simulator::{Options, Simulator};

use crate::support::{describe, program};

/// Of the simulated user.
const PASSWORD: &str = "CANARY: a pass word ";
const CODE: &str = "424242";

struct Aims {
    simulator: Simulator,
    runtime: tokio::runtime::Runtime,
}

impl Aims {
    fn start(edit: impl FnOnce(&mut Options)) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut options = Options::default();
        PASSWORD.clone_into(&mut options.alertlogic.user_password);
        edit(&mut options);
        let simulator = runtime.block_on(Simulator::start(options)).unwrap();
        Self { simulator, runtime }
    }

    /// Runs the command with these lines on standard input. Neither the password nor the code is in anything it says.
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let mut child = program()
            .current_dir(folder.path())
            .args(["alertlogic", "access-key"])
            .args(arguments)
            .args(["--api", &self.simulator.alertlogic_origin()])
            .args(["--log", "trace"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = describe(&output);
        assert!(!said.contains("CANARY") && !said.contains(CODE), "{said}");
        output
    }

    /// As the administrator whose name is a flag.
    fn run_as_admin(&self, arguments: &[&str], more_input: &str) -> Output {
        let user = ["--user", "admin@contoso.example"];
        let input = format!("{PASSWORD}\n\n{more_input}");
        self.run(&[arguments, &user].concat(), &input)
    }

    fn ids(&self) -> Vec<String> {
        let output = self.run_as_admin(&["list"], "");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let ids = stdout.lines().map(|line| line.split(' ').next().unwrap());
        ids.map(str::to_owned).collect()
    }

    fn end(self) {
        drop(self.simulator);
        drop(self.runtime);
    }
}

fn fails_with(output: &Output, what: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", describe(output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(what), "{}", describe(output));
    assert!(output.stdout.is_empty(), "{}", describe(output));
}

#[test]
fn an_access_key_is_made_listed_and_deleted() {
    let aims = Aims::start(|_| {});
    let output = aims.run(
        &["create", "--format", "json"],
        &format!("admin@contoso.example\n{PASSWORD}\n\n"),
    );
    assert!(output.status.success(), "{}", describe(&output));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (id, secret) = (
        made["access_key_id"].as_str().unwrap(),
        made["secret_key"].as_str().unwrap(),
    );
    // The secret half is data and in no talk, where it would end up in a log.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains(secret), "{stderr}");
    assert!(stderr.contains("shown this once"), "{stderr}");
    assert_eq!(aims.ids(), ["712c0b413eef41f6", id]);

    let text = aims.run_as_admin(&["create"], "");
    let stdout = String::from_utf8(text.stdout).unwrap();
    assert!(
        stdout.starts_with("access_key_id ") && stdout.contains("\nsecret_key    "),
        "{stdout}"
    );

    fails_with(
        &aims.run_as_admin(&["delete", id], ""),
        "nothing was deleted",
    );
    fails_with(
        &aims.run_as_admin(&["delete", id], "no\n"),
        "nothing was deleted",
    );
    assert_eq!(aims.ids().len(), 3);
    assert!(aims.run_as_admin(&["delete", id], "yes\n").status.success());
    let unknown = aims.run_as_admin(&["delete", id, "--yes"], "");
    fails_with(&unknown, "has no access key");
    assert_eq!(aims.ids().len(), 2);
    aims.end();
}

#[test]
fn a_sixth_access_key_is_made_in_the_place_of_one_that_is_named() {
    let aims = Aims::start(|_| {});
    for _ in 0..4 {
        assert!(aims.run_as_admin(&["create"], "").status.success());
    }
    let before = aims.ids();
    assert_eq!(before.len(), 5);
    for (answer, told) in [
        ("", "no access key was made"),
        ("\n", "no access key was made"),
        ("0000000000000000\n", "none of these has that id"),
    ] {
        let refused = aims.run_as_admin(&["create"], answer);
        fails_with(&refused, told);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(
            stderr.contains("as many access keys as there may be (5)"),
            "{stderr}"
        );
        assert!(
            before.iter().all(|id| stderr.contains(id.as_str())),
            "{stderr}"
        );
        assert_eq!(aims.ids(), before);
    }
    let made = aims.run_as_admin(&["create", "--format", "json"], &format!("{}\n", before[2]));
    assert!(made.status.success(), "{}", describe(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let after = aims.ids();
    assert_eq!(after.len(), 5);
    assert!(!after.contains(&before[2]));
    assert!(after.iter().any(|id| made["access_key_id"] == id.as_str()));
    aims.end();
}

#[test]
fn who_may_not_is_told_why() {
    let aims = Aims::start(|options| options.alertlogic.mfa_code = Some(CODE.to_owned()));
    let log_in = |input: &str| aims.run(&["list", "--user", "admin@contoso.example"], input);
    fails_with(&log_in(""), "no password was given");
    fails_with(&log_in("wrong\n"), "the password must be right");
    fails_with(
        &log_in(&format!("{PASSWORD}\n")),
        "needs the code of a second factor",
    );
    fails_with(
        &log_in(&format!("{PASSWORD}\n000000\n")),
        "the code must be right",
    );
    let output = log_in(&format!("{PASSWORD}\r\n{CODE}\r\n"));
    assert!(output.status.success(), "{}", describe(&output));
    fails_with(&aims.run(&["list"], ""), "no user name was given");
    fails_with(
        &aims.run(&["list", "--user", "a:b"], "x\n\n"),
        "has a colon in it",
    );
    aims.end();

    let aims = Aims::start(|options| options.alertlogic.roles = vec!["Read Only".to_owned()]);
    for arguments in [["create", "--format=text"], ["delete", "712c0b413eef41f6"]] {
        let refused = aims.run_as_admin(&arguments, "yes\n");
        fails_with(
            &refused,
            "has the roles Read Only, and only one with the role Administrator",
        );
    }
    assert_eq!(aims.ids(), ["712c0b413eef41f6"]);
    aims.end();
}

#[test]
fn a_password_is_never_an_argument() {
    for argument in ["--password", "--mfa-code", "--secret"] {
        let output = program()
            .args(["alertlogic", "access-key", "create", argument, "x"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", describe(&output));
    }
}
