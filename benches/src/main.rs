//! The suite: starts the real program, the simulator and the limit as processes, and prints what each took side by side.
//! benches/README.md says what the figures mean; `scripts/bench` builds everything and runs this.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

mod args;
mod collector;
mod curves;
mod door;
mod giant;
mod goals;
mod idle;
mod latency;
mod limit;
mod old_ledger;
mod running;
mod simulator;
mod table;
mod whole;

use benches::http;
use clap::Parser as _;

use crate::args::{Cli, Part};
use crate::goals::Goals;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    http::install_provider();
    let common = &cli.common;
    let mut goals = Goals::default();
    let parts = match cli.part {
        Some(part) => vec![part],
        None => Part::all(),
    };
    for part in &parts {
        match part {
            Part::Whole(whole) => whole::measure(common, whole, &mut goals)?,
            Part::Latency(latency) => latency::measure(common, latency, &mut goals)?,
            Part::Door(door) => door::measure(common, door, &mut goals)?,
            Part::Idle(idle) => idle::measure(common, idle, &mut goals)?,
            Part::Giant(giant) => giant::measure(common, giant, &mut goals)?,
            Part::Curves(curves) => curves::measure(common, curves, &mut goals)?,
        }
    }
    if goals.has_any() {
        println!("{goals}");
    }
    Ok(())
}
