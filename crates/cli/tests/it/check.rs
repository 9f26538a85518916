//! `check`: what it finds of a simulated tenant, and that it changes nothing there.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Running, Simulation, certificate, describe, program, secret_in};

/// The exit code and the findings: subject, verdict, what is said.
fn check(simulation: &Simulation) -> (Option<i32>, Vec<[String; 3]>) {
    let output = program()
        .args(["check", "--format", "json", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", describe(&output)));
    let findings = answer["findings"].as_array().unwrap().iter();
    let findings = findings.map(|finding| {
        ["subject", "verdict", "says"].map(|key| finding[key].as_str().unwrap().to_owned())
    });
    assert_eq!(answer["is_clean"], output.status.success());
    (output.status.code(), findings.collect())
}

/// The verdict on a subject, and what is said of it.
fn of<'a>(findings: &'a [[String; 3]], subject: &str) -> (&'a str, &'a str) {
    let found = findings
        .iter()
        .find(|finding| finding[0].ends_with(subject));
    let [_, verdict, says] = found.unwrap_or_else(|| panic!("{subject}: {findings:#?}"));
    (verdict, says)
}

#[test]
fn a_new_installation_is_looked_at_and_left_as_it_is() {
    let simulation = Simulation::start(&["--records", "100"]);
    let before = names(&simulation);
    let (code, findings) = check(&simulation);
    assert_eq!(code, Some(0), "{findings:#?}");
    for subject in [
        "ledger",
        "listen.address",
        "sign-in",
        "clock",
        "sink alertlogic",
        "sink file",
    ] {
        assert_eq!(of(&findings, subject).0, "fine", "{findings:#?}");
    }
    let (verdict, says) = of(&findings, "subscriptions");
    assert_eq!(verdict, "note");
    assert!(says.starts_with("Audit.AzureActiveDirectory, ") && says.contains("not subscribed to"));
    assert_eq!(names(&simulation), before, "it left something behind");
    let changes = || {
        (
            simulation.count("start", 200),
            simulation.count("register", 201),
        )
    };
    assert_eq!(changes(), (0, 0));
    assert_eq!(simulation.run_once().status.code(), Some(0));
    assert_eq!(changes(), (5, 1), "so that it is these that are counted");
}

#[test]
fn beside_a_running_collector_all_is_fine_and_the_collector_goes_on() {
    let simulation = Simulation::start(&["--records", "100"]);
    simulation.edit_config(|text| text.replace("127.0.0.1:0", &free_address()));
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("status page at");
    crate::support::wait_until_all_is_listed_once(&simulation.config());
    let (code, findings) = check(&simulation);
    assert_eq!(code, Some(0), "{findings:#?}");
    let (verdict, says) = of(&findings, "listen.address");
    assert_eq!(verdict, "note");
    assert!(says.contains("a collector runs already"), "{says}");
    for subject in ["ledger", "subscriptions", "sink file"] {
        assert_eq!(of(&findings, subject).0, "fine", "{findings:#?}");
    }
    collector.interrupt();
    assert_eq!(collector.finish().1.code(), Some(0));
}

#[test]
fn each_mistake_is_a_finding_with_its_mend_and_one_hides_no_other() {
    let simulation = Simulation::start(&["--records", "100"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    simulation.edit_config(|text| {
        let mut config: toml::Table = text.parse().unwrap();
        config["tenant"][0]["client_secret"] = "canary-of-the-app".into();
        for sink in config["sink"].as_array_mut().unwrap() {
            let (key, value) = match sink["type"].as_str() {
                Some("file") => ("path", "/no/such/folder/audit.ndjson"),
                _ => ("secret_key", "canary-of-the-key"),
            };
            sink[key] = value.into();
        }
        config["ledger"]["url"] = "sqlite:/no/such/folder/ledger.db".into();
        config["listen"]["address"] = taken.local_addr().unwrap().to_string().into();
        config.to_string()
    });
    let (code, findings) = check(&simulation);
    assert_eq!(code, Some(1));
    for (subject, mend) in [
        ("ledger", "create it, or name another in ledger.url"),
        ("listen.address", "name another address"),
        ("sign-in", "give the secret's value, not its id"),
        ("sink alertlogic", "access_key_id and secret_key"),
        ("sink file", "create it, or name another file"),
    ] {
        let (verdict, says) = of(&findings, subject);
        assert_eq!(verdict, "failing", "{findings:#?}");
        assert!(says.contains(mend), "{subject}: {says}");
    }
    assert!(!format!("{findings:?}").contains("canary"), "{findings:#?}");

    let output = program()
        .args(["check", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("5 of 5 are failing\n"), "{text}");
    assert!(
        text.lines()
            .take(5)
            .all(|line| line.starts_with("failing  "))
    );
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_before_anything_is_asked() {
    let output = program()
        .args(["check", "--config", "no-such.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", describe(&output));
    assert!(output.stdout.is_empty());
}

fn names(simulation: &Simulation) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(simulation.dir.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Nobody else takes it in the moment until it is listened on again.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_certificate_that_was_not_uploaded_is_told_with_its_mend() {
    let anothers = certificate("certificate-of-another.pem");
    let simulation = Simulation::start(&["--records", "100", "--certificate", &anothers]);
    let pem = certificate("certificate.pem");
    simulation.sign_in_with("certificate", secret_in(pem));
    let (code, findings) = check(&simulation);
    assert_eq!(code, Some(1));
    let (verdict, says) = of(&findings, "sign-in");
    assert_eq!(verdict, "failing", "{says}");
    assert!(
        says.contains("not registered with the application: upload it"),
        "{says}"
    );
}
