//! Files and folders named on the command line or in the configuration: relative ones, and a ledger's that is no good.

use std::fs;
use std::path::Path;

use crate::support::{Running, describe, program, sorted_lines};

#[test]
fn a_demo_in_a_relative_folder_works() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("corpus.ndjson"), corpus()).unwrap();
    for (arguments, count) in [
        (&["--records", "500", "--dir", "demo1"][..], 500),
        (&["--corpus", "corpus.ndjson", "--dir", "a/demo2"], 40),
    ] {
        let output = program()
            .arg("demo")
            .args(arguments)
            .current_dir(here.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        let file = here.path().join(arguments[3]).join("audit.ndjson");
        assert_eq!(sorted_lines(&file).len(), count);
    }
}

#[test]
fn a_simulator_takes_relative_paths_and_its_configuration_works_from_anywhere() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("corpus.ndjson"), corpus()).unwrap();
    let mut simulate = program();
    simulate
        .current_dir(here.path())
        .args(["simulate", "--dir", "simulation", "--capture", "captured"])
        .args(["--corpus", "corpus.ndjson"])
        .args(["--check-file", "simulation/audit.ndjson"]);
    let mut simulator = Running::start(&mut simulate);
    simulator.wait_for("now run");
    let output = program()
        .args(["run", "--once", "--config"])
        .arg(here.path().join("simulation/o365-collector.toml"))
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    simulator.interrupt();
    let (verdict, status) = simulator.finish();
    assert_eq!(status.code(), Some(0), "{verdict}");
    assert!(verdict.contains("verdict: clean"), "{verdict}");
    let captured = fs::read_dir(here.path().join("captured")).unwrap();
    assert!(captured.count() > 0, "nothing was captured");
}

#[test]
fn a_ledger_that_cannot_be_made_is_told_with_its_folder_and_the_mend() {
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("file"), "").unwrap();
    let missing = here.path().join("no-such-folder");
    let file = here.path().join("file");
    for (url, folder, mend, cause) in [
        (
            "sqlite:no-such-folder/ledger.db",
            missing.as_path(),
            "does not exist; create it",
            "No such file",
        ),
        (
            "sqlite:file/ledger.db",
            file.as_path(),
            "is no folder",
            "Not a directory",
        ),
        // Nobody can make a file there, not even root.
        #[cfg(target_os = "linux")]
        (
            "sqlite:/proc/ledger.db",
            Path::new("/proc"),
            "must be allowed to create files in /proc",
            "os error",
        ),
    ] {
        let config = here.path().join("config.toml");
        fs::write(
            &config,
            format!(
                "[[tenant]]\nid = \"bf8d32d3-1c13-4487-af02-80dba2236485\"\n\
                 client_id = \"a261478c-84fb-42f9-84c2-de050a4babe3\"\nclient_secret = \"secret\"\n\
                 [[sink]]\ntype = \"stdout\"\n[ledger]\nurl = \"{url}\"\n"
            ),
        )
        .unwrap();
        // The folder that holds the configuration is given by a relative path too.
        let output = program()
            .args(["run", "--once", "--config", "config.toml"])
            .current_dir(here.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for wanted in [folder.to_str().unwrap(), mend, cause] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}

fn corpus() -> String {
    (0..40)
        .map(|n| {
            format!(
                "{{\"CreationTime\":\"2026-01-01T00:00:{n:02}\",\"Id\":\"00000000-0000-4000-8000-{n:012}\",\
                 \"RecordType\":2,\"Workload\":\"Exchange\"}}\n"
            )
        })
        .collect()
}
