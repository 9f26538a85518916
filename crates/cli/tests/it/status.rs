//! `status` beside a collector that cannot collect, and without one.

use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use crate::support::{Running, Simulation, describe, program};

/// A simulation whose collector listens where `status` can find it and has the wrong secret.
fn simulation_with_wrong_secret() -> (Simulation, String) {
    let simulation = Simulation::start(&["--records", "100"]);
    // Free a moment ago. Nobody else on this machine is given it soon.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    simulation.edit_config(|text| {
        let text = text.replace("127.0.0.1:0", &address);
        text.lines()
            .map(|line| match line.starts_with("client_secret = ") {
                true => "client_secret = \"stale\"\n".to_owned(),
                false => format!("{line}\n"),
            })
            .collect()
    });
    (simulation, address)
}

fn status(simulation: &Simulation, format: &str) -> Output {
    let output = program()
        .args(["status", "--format", format, "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    output
}

#[test]
fn status_tells_of_an_outage_what_the_running_collector_knows_and_else_what_the_ledger_shows() {
    let (simulation, address) = simulation_with_wrong_secret();
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("tenant cannot be collected");

    let output = status(&simulation, "text");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("is not collected: "), "{}", describe(&output));
    assert!(output.stderr.is_empty(), "{}", describe(&output));
    let output = status(&simulation, "json");
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(view["is_running"], true, "{view:#}");
    assert_eq!(view["tenants"][0]["state"], "stopped", "{view:#}");

    collector.kill();
    let output = status(&simulation, "json");
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(view["is_running"], Value::Null, "{view:#}");
    assert_eq!(view["troubles"][0], "nothing was ever listed", "{view:#}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.trim_end(),
        format!("no collector answers at {address}; from the ledger alone")
    );
}
