//! What our program really sends to Alert Logic's ingest, judged by the vendor's own library.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Simulation, describe};

#[test]
#[ignore = "needs npm"]
fn the_vendors_library_reads_and_makes_the_same_payloads() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.ndjson");
    fs::write(&corpus, odd_records()).unwrap();
    compare(&corpus);
}

#[test]
#[ignore = "needs npm and a corpus of real records"]
fn real_records_make_the_vendors_payloads() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the corpus over this way"
    )]
    let corpus = std::env::var("O365_TEST_CORPUS").expect("O365_TEST_CORPUS names a file");
    compare(Path::new(&corpus));
}

/// Every field that goes into a payload, present, absent and odd.
fn odd_records() -> String {
    let mut lines = String::new();
    for n in 0..600 {
        let time = match n % 5 {
            0 => r#""CreationTime":"2026-02-28T23:59:59","#,
            1 => r#""CreationTime":"2026-02-28T23:59:59.1234567","#,
            2 => r#""CreationTime":"2026-02-28T23:59:59Z","#,
            3 => r#""CreationTime":"2026-02-28T23:59:59.25Z","#,
            _ => r#""CreationTime":"1999-12-31T00:00:00","#,
        };
        let record_type = match n % 4 {
            0 => r#""RecordType":0,"#.to_owned(),
            1 => String::new(),
            _ => format!(r#""RecordType":{n},"#),
        };
        let pad = "xyz".repeat(n % 300);
        lines.push_str(&format!(
            r#"{{{time}"Id":"11111111-2222-4333-8444-{n:012}",{record_type}"Workload":"Exchange","Text":"Grüße 漢字 😀 \"quoted\"","Nested":{{"List":[1,2.5,true,null]}},"Pad":"{pad}"}}"#
        ));
        lines.push('\n');
    }
    lines
}

/// The simulator keeps a request's head as JSON beside its body; the script reads header lines.
fn write_headers(body: &Path) {
    let head = fs::read_to_string(body.with_extension("json")).unwrap();
    let head: serde_json::Value = serde_json::from_str(&head).unwrap();
    let headers = head["headers"].as_object().unwrap().iter();
    let lines: String = headers
        .map(|(name, value)| format!("{name}: {}\n", value.as_str().unwrap()))
        .collect();
    fs::write(body.with_extension("headers"), lines).unwrap();
}

fn compare(corpus: &Path) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the package over this way"
    )]
    let modules = std::env::var("O365_TEST_VENDOR_NODE_MODULES")
        .expect("O365_TEST_VENDOR_NODE_MODULES names a folder");
    let capture = tempfile::tempdir().unwrap();
    let simulation = Simulation::start(&[
        "--corpus",
        corpus.to_str().unwrap(),
        "--capture",
        capture.path().to_str().unwrap(),
    ]);
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let bodies = fs::read_dir(capture.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|extension| extension == "body")
    });
    let bodies: Vec<_> = bodies.map(|entry| entry.unwrap().path()).collect();
    assert!(!bodies.is_empty(), "nothing was captured");
    bodies.iter().for_each(|body| write_headers(body));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vendor/compare.mjs");
    let package = Path::new(&modules).parent().unwrap();
    let output = Command::new("node")
        .arg(script)
        .arg(package)
        .arg(capture.path())
        .arg(corpus)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains(" 0 differences"),
        "{}",
        describe(&output)
    );
    simulation.assert_clean();
}
