//! A disk that fills up under the real program, and has room again: a file system in memory that is mounted for the test.
//! The file sink's file on it, and then the ledger. What cannot be written is said, the other sink goes on where the ledger
//! can still write, and when there is room nothing is missing, torn or there twice.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PATIENCE, Running, Simulation};

/// A file system of its own, with a file in it that leaves only so much room.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount(folder: PathBuf, size_mib: u64, room_kib: u64) -> Self {
        fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "tmpfs"])
            .arg(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(
            mounted.status.success(),
            "this test must be allowed to mount a file system: {said}"
        );
        let disk = Self { folder };
        let mut ballast = File::create(disk.ballast()).unwrap();
        let chunk = vec![1; 1024];
        for _ in 0..size_mib * 1024 - room_kib {
            ballast.write_all(&chunk).unwrap();
        }
        disk
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as a file on it may still be open when a test fails.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        drop(unmounted);
    }
}

/// The status of the running collector whose page is at `address`.
fn status_of(simulation: &Simulation, address: &str) -> Value {
    let client = simulation.client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reply = client
            .get(format!("{address}/api/status"))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts the collector and gives the address of its status page.
fn start(simulation: &Simulation) -> (Running, String) {
    let mut collector = Running::start(&mut simulation.run());
    let line = collector.wait_for("status page at");
    let from = line.find("http://").unwrap();
    let address = line[from..].split_whitespace().next().unwrap();
    let address = address.trim_end_matches(['/', '"', '\u{1b}']).to_owned();
    (collector, address)
}

fn is_whole(file: &Path) -> bool {
    let text = fs::read(file).unwrap();
    text.is_empty() || text.ends_with(b"\n")
}

const RECORDS: u64 = 8_000;

fn simulation() -> Simulation {
    let records = RECORDS.to_string();
    Simulation::start(&[
        "--records",
        &records,
        "--records-per-blob",
        "40",
        "--requests-per-minute",
        "0",
    ])
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_full_disk_under_the_file_stops_that_sink_alone_and_tears_and_repeats_nothing() {
    let simulation = simulation();
    let disk = SmallDisk::mount(simulation.dir.path().join("disk"), 64, 1_024);
    // The simulator looks where it always does.
    let file = disk.folder.join("audit.ndjson");
    std::os::unix::fs::symlink(&file, simulation.file()).unwrap();
    let (usual, on_disk) = (
        simulation.file().display().to_string(),
        file.display().to_string(),
    );
    simulation.edit_config(|text| text.replace(&usual, &on_disk));

    let looked = crate::support::program()
        .args(["check", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    let looked = String::from_utf8(looked.stdout).unwrap();
    let told = format!("MiB are free in {}: make room", disk.folder.display());
    assert!(looked.contains(&told), "{looked}");

    let (mut collector, address) = start(&simulation);
    let said = collector.wait_for("sink did not take a batch");
    assert!(said.contains("No space left"), "{said}");
    // The other sink has everything all the same.
    wait_until("Alert Logic has all records", || {
        simulation.ask("progress")["records_acknowledged"]
            .as_u64()
            .unwrap()
            >= RECORDS
    });
    let view = status_of(&simulation, &address);
    let sinks = view["sinks"].as_array().unwrap();
    let failing: Vec<_> = sinks
        .iter()
        .filter(|sink| sink["state"] == "failing")
        .collect();
    assert_eq!(failing.len(), 1, "{view:#}");
    assert!(
        failing[0]["last_error"]["what"]
            .as_str()
            .unwrap()
            .contains("No space left"),
        "{view:#}"
    );
    assert!(is_whole(&file), "a torn line on a full disk");

    disk.make_room();
    wait_until("all is delivered once there is room", || {
        status_of(&simulation, &address)["totals"]["record_count"].as_u64() == Some(RECORDS)
    });
    collector.terminate();
    assert!(collector.finish().1.success());
    simulation.assert_clean();
    drop(disk);
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_full_disk_under_the_ledger_stops_all_work_until_there_is_room_and_nothing_is_lost() {
    let simulation = simulation();
    let disk = SmallDisk::mount(simulation.dir.path().join("disk"), 64, 1_024);
    let usual = simulation
        .dir
        .path()
        .join("ledger.db")
        .display()
        .to_string();
    let on_disk = disk.folder.join("ledger.db").display().to_string();
    simulation.edit_config(|text| text.replace(&usual, &on_disk));

    let (mut collector, address) = start(&simulation);
    let said = collector.wait_for("no room left for the ledger");
    assert!(!said.contains("panicked"), "{said}");
    wait_until("the status says that the ledger fails", || {
        status_of(&simulation, &address)["ledger"]["failing"]["what"]
            .as_str()
            .is_some_and(|what| what.contains("no room left"))
    });

    disk.make_room();
    wait_until("all is delivered once there is room", || {
        status_of(&simulation, &address)["totals"]["record_count"].as_u64() == Some(RECORDS)
    });
    let view = status_of(&simulation, &address);
    assert_eq!(view["ledger"]["failing"], Value::Null, "{view:#}");
    collector.terminate();
    assert!(collector.finish().1.success());
    let verdict = simulation.verdict();
    let sinks = verdict["sinks"].as_array().unwrap();
    for sink in sinks {
        assert_eq!(sink["missing"], serde_json::json!([]), "{verdict:#}");
        assert_eq!(sink["altered"], serde_json::json!([]), "{verdict:#}");
    }
    // Alert Logic cannot take back what the ledger did not record; the file can.
    let file = sinks.iter().find(|sink| sink["sink"] == "ndjson").unwrap();
    assert_eq!(file["repeated"], serde_json::json!([]), "{verdict:#}");
    assert_eq!(file["torn_lines"], serde_json::json!([]), "{verdict:#}");
    drop(disk);
}
