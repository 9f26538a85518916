//! The whole path: one backlog of blobs, collected in turn by the limit and by the real program with each sink, all from
//! the same simulator process over TLS.

use crate::args::{Common, Sink, Whole};
use crate::collector::Outcome;
use crate::goals::Goals;
use crate::limit::Work;
use crate::simulator::Options;
use crate::table::{self, Run, ratios};

/// As many as the collector fetches at once at least, and where answers come fast, at most.
const CONNECTIONS: usize = 16;

pub(crate) fn measure(common: &Common, whole: &Whole, goals: &mut Goals) -> anyhow::Result<()> {
    println!(
        "whole path, records {}",
        common
            .corpus
            .as_ref()
            .map_or("made up", |_| "from a corpus")
    );
    table::print_heading();
    let limits = [Work::Fetch, Work::Libdeflate, Work::Own];
    let mut runs: Vec<Run> = limits.map(Run::Limit).into();
    runs.extend(whole.sinks.iter().map(|&sink| Run::Ours(sink)));
    let mut peak_mib = 0.0_f64;
    for &tenants in &whole.tenants {
        for &records_per_blob in &whole.blob {
            let options = Options {
                records: common
                    .records
                    .unwrap_or_else(|| default_records(records_per_blob)),
                records_per_blob,
                tenants,
                is_checked: whole.checked,
                ..Options::default()
            };
            let rows = table::measure(common, &runs, &options, whole.rounds, CONNECTIONS)?;
            table::print_rows(&options, &rows);
            add_goals(goals, &options, &rows);
            let ours = rows.iter().filter(|(run, _)| matches!(run, Run::Ours(_)));
            peak_mib = ours.fold(peak_mib, |peak, (_, outcome)| peak.max(outcome.peak_mib));
        }
    }
    goals.at_most("peak memory in all rows", peak_mib, 64.0, " MiB");
    Ok(())
}

/// So that a row takes ten seconds, and what a start costs is little of it.
fn default_records(records_per_blob: u64) -> u64 {
    match records_per_blob {
        0..50 => 500_000,
        _ => 2_000_000,
    }
}

fn add_goals(goals: &mut Goals, options: &Options, rows: &[(Run, Outcome)]) {
    let (tenants, blob) = (options.tenants, options.records_per_blob);
    let which = format!("{tenants} tenants, {blob} records a blob");
    if let Some((cpu, speed)) = ratios(rows, Run::Ours(Sink::Alertlogic)) {
        let bound = match blob {
            0..50 => 2.5,
            50..500 => 1.4,
            _ => 1.0,
        };
        goals.at_most(format!("{which}: alertlogic, CPU ÷ limit"), cpu, bound, "");
        goals.at_least(
            format!("{which}: alertlogic, speed ÷ limit"),
            speed,
            0.7,
            "",
        );
    }
    if let Some((cpu, _)) = ratios(rows, Run::Ours(Sink::File)) {
        goals.at_most(
            format!("{which}: file, CPU ÷ fetch and inflate"),
            cpu,
            2.0,
            "",
        );
    }
}
