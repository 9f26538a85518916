//! The real binary against the real simulator process over HTTPS, with both sinks.

use std::fs;
use std::path::PathBuf;

use crate::support::{
    PATIENCE, Running, Simulation, certificate, describe, program, secret_in, sorted_lines,
};

/// A corpus of real records, where the test script found one.
fn real_corpus() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the corpus over this way"
    )]
    std::env::var("O365_TEST_CORPUS").ok().map(PathBuf::from)
}

#[test]
fn every_record_reaches_both_sinks_over_https() {
    let simulation = Simulation::start(&[
        "--records",
        "5000",
        "--tenants",
        "2",
        "--records-per-blob",
        "60",
    ]);
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert_eq!(sorted_lines(&simulation.file()).len(), 5_000);
    simulation.assert_clean();
}

#[test]
fn a_second_pass_delivers_nothing_twice() {
    let simulation = Simulation::start(&["--records", "1000"]);
    for _ in 0..3 {
        let output = simulation.run_once();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    }
    assert_eq!(sorted_lines(&simulation.file()).len(), 1_000);
    simulation.assert_clean();
}

#[test]
fn records_of_a_corpus_arrive_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.ndjson");
    let lines: Vec<String> = (0..700)
        .map(|n| {
            format!(
                r#"{{"CreationTime":"2026-01-01T00:00:{:02}","Id":"00000000-0000-4000-8000-{n:012}","RecordType":{},"Workload":"{}","Odd":"a\/b \u00e9 ü 😀","Big":12345678901234567890,"Pad":"{}"}}"#,
                n % 60,
                n % 90,
                ["Exchange", "SharePoint", "AzureActiveDirectory", "MicrosoftTeams"][n % 4],
                "x".repeat(n * 7 % 3_000),
            )
        })
        .collect();
    fs::write(&corpus, lines.join("\n") + "\n").unwrap();
    collect_corpus(&corpus, lines);
}

#[test]
#[ignore = "needs a corpus of real records"]
fn real_records_arrive_byte_for_byte() {
    let corpus = real_corpus().expect("O365_TEST_CORPUS names a file");
    let lines = fs::read_to_string(&corpus)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    collect_corpus(&corpus, lines);
}

fn collect_corpus(corpus: &std::path::Path, mut lines: Vec<String>) {
    let simulation = Simulation::start(&["--corpus", corpus.to_str().unwrap()]);
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    lines.sort();
    assert!(
        sorted_lines(&simulation.file()) == lines,
        "the file's lines are not the corpus's"
    );
    simulation.assert_clean();
}

#[test]
fn the_demo_ends_with_a_clean_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let output = program()
        .args(["demo", "--records", "2000", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("verdict: clean"), "{stdout}");
    assert!(stdout.contains("http://127.0.0.1:"), "{stdout}");
    assert_eq!(sorted_lines(&dir.path().join("audit.ndjson")).len(), 2_000);
}

#[test]
fn run_stops_at_a_signal_with_exit_code_0() {
    let simulation = Simulation::start(&["--records", "500"]);
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("status page at");
    collector.interrupt();
    let (_, status) = collector.finish();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn status_reads_the_ledger_beside_a_running_collector() {
    let simulation = Simulation::start(&["--records", "500"]);
    assert_eq!(simulation.run_once().status.code(), Some(0));
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("status page at");
    let output = program()
        .args(["status", "--format", "json", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        view["totals"]["record_count"].as_u64(),
        Some(500),
        "{view:#}"
    );
    let second = simulation.run_once();
    assert_eq!(second.status.code(), Some(1), "{}", describe(&second));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another collector"),
        "{}",
        describe(&second)
    );
}

#[test]
fn a_tenant_may_sign_in_with_another_issuers_token_in_a_file() {
    let simulation = Simulation::start(&["--records", "500"]);
    let path = simulation.dir.path().join("token");
    std::fs::write(&path, simulation.configured("client_secret")).unwrap();
    let path = path.to_str().unwrap().into();
    simulation.sign_in_with("federated_token_file", path);
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let verdict = simulation.verdict();
    assert_eq!(verdict["is_clean"], true, "{verdict:#}");
}

#[test]
fn a_tenant_may_sign_in_with_a_certificate() {
    let pem = certificate("certificate.pem");
    let simulation = Simulation::start(&["--records", "500", "--certificate", &pem]);
    simulation.sign_in_with("certificate", secret_in(pem));
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let verdict = simulation.verdict();
    assert_eq!(verdict["is_clean"], true, "{verdict:#}");
}

#[test]
fn subscriptions_are_listed_and_stopped() {
    let simulation = Simulation::start(&["--records", "100"]);
    assert_eq!(simulation.run_once().status.code(), Some(0));
    let subscriptions = |arguments: &[&str]| {
        let output = program()
            .arg("subscriptions")
            .args(arguments)
            .arg("--config")
            .arg(simulation.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = subscriptions(&["list"]);
    assert_eq!(listed.matches("enabled").count(), 5);
    for column in ["enabled", "configured", "no webhook"] {
        let places: Vec<_> = listed
            .lines()
            .skip(1)
            .map(|line| line.find(column))
            .collect();
        assert!(
            places.windows(2).all(|pair| pair[0] == pair[1]),
            "the columns do not line up:\n{listed}"
        );
    }
    // In any case.
    subscriptions(&["stop", "dlp.all"]);
    let listed = subscriptions(&["list"]);
    assert_eq!(listed.matches("enabled ").count(), 4, "{listed}");
    subscriptions(&["start", "DLP.All"]);
    assert_eq!(subscriptions(&["list"]).matches("enabled").count(), 5);
}

#[test]
fn splunk_gets_every_record_and_its_acknowledgements_are_waited_for() {
    let simulation = Simulation::start(&["--records", "1500"]);
    let about = simulation.ask("about");
    let (url, token) = (
        about["splunk_hec"].as_str().unwrap(),
        about["hec_token"].as_str().unwrap(),
    );
    simulation.edit_config(|text| {
        let mut config: toml::Table = text.parse().unwrap();
        let splunk = toml::toml! { type = "splunk_hec" };
        let sinks = config["sink"].as_array_mut().unwrap();
        sinks.push(toml::Value::Table(splunk));
        let splunk = sinks.last_mut().unwrap().as_table_mut().unwrap();
        splunk.insert("url".to_owned(), url.into());
        splunk.insert("token".to_owned(), token.into());
        config.to_string()
    });
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert!(
        simulation.count("hec_ack", 200) > 0,
        "nobody asked for acknowledgements"
    );
    let verdict = simulation.verdict();
    assert_eq!(verdict["is_clean"], true, "{verdict:#}");
    let sinks = verdict["sinks"].as_array().unwrap();
    let splunk = sinks
        .iter()
        .find(|sink| sink["sink"] == "splunk_hec")
        .unwrap();
    assert_eq!(splunk["delivered_once"], 1_500, "{splunk:#}");
}

#[test]
fn a_failing_sink_holds_up_nobody_and_gets_everything_later() {
    let simulation = Simulation::start(&["--records", "1000", "--records-per-blob", "1000"]);
    // More refusals than one pass has patience for, however slow the machine: a blob of each content type, one of which may be
    // two parts, and five tries for each, were each a batch.
    simulation.tell(
        "faults",
        r#"{"faults":[{"kind":"logmsgs","count":31,"action":"status","status":503}]}"#,
    );
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert_eq!(
        sorted_lines(&simulation.file()).len(),
        1_000,
        "the file waited for Alert Logic"
    );
    let blobs = simulation.count("blob", 200);
    let end = std::time::Instant::now() + PATIENCE;
    while simulation.run_once().status.code() != Some(0) {
        assert!(
            std::time::Instant::now() < end,
            "Alert Logic never got everything"
        );
    }
    assert!(
        simulation.count("blob", 200) > blobs,
        "what Alert Logic lacked was not fetched again"
    );
    assert_eq!(
        sorted_lines(&simulation.file()).len(),
        1_000,
        "the file got something twice"
    );
    simulation.assert_clean();
}
