//! Peak memory of the real process, with the default limits, while one sink is dead and one blob is larger than all of them.
//!
//! The figure in the documents is that of a release build and a blob of a gigabyte:
//! `O365_TEST_BLOB_BYTES=1000000000 cargo test --release -p cli --test it memory -- --nocapture`

use std::time::Duration;

use simulator::Storm;

use super::scene::Scene;

/// What the process may have at its peak. An optimised one stays below `max_memory_mib`, 64; this one has more code.
const MOST_MIB: u64 = 96;

#[expect(
    clippy::disallowed_methods,
    reason = "the same test measures, told how much from outside"
)]
fn blob_bytes() -> u64 {
    match std::env::var("O365_TEST_BLOB_BYTES") {
        Ok(text) => text.parse().expect("O365_TEST_BLOB_BYTES is a number"),
        Err(_) => 60_000_000,
    }
}

#[test]
fn memory_stays_bounded_with_a_dead_sink_and_a_huge_blob() {
    let bytes = blob_bytes();
    let storm = format!(
        "[[fault]]\nwhat = 'huge_blob'\nbytes = {bytes}\n\
         [[fault]]\nwhat = 'status'\nstatus = 503\non = 'logmsgs'\nto_secs = 1000000000\n"
    );
    let scene = Scene::start(Storm::parse(&storm).unwrap(), 1, 20_000, 100);
    let collector = scene.run();
    scene.wait_until_the_file_has_all(Duration::from_secs(60 + bytes / 1_000_000));
    let peak_mib = collector.peak_memory_kib() / 1024;
    println!(
        "{peak_mib} MiB at the peak, with a blob of {} MB and one of three sinks dead",
        bytes / 1_000_000
    );
    assert!(peak_mib < MOST_MIB, "{peak_mib} MiB");
    assert_eq!(scene.simulator.progress().records_acknowledged, 0);
}
