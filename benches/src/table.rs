//! Rows: what ran against one simulator in turn, the limit and the real program, what each took, and the ratios between
//! them.

use crate::args::{Common, Sink};
use crate::collector::{Collector, Outcome, Setup};
use crate::limit::{self, Work};
use crate::simulator::{Options, Simulator};

/// What is measured in turn.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Run {
    Limit(Work),
    Ours(Sink),
}

impl Run {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit(Work::Fetch) => "limit: fetch, inflate",
            Self::Limit(Work::Libdeflate) => "limit: and libdeflate 1",
            Self::Limit(Work::Own) => "limit: and our deflate",
            Self::Ours(sink) => sink.name(),
        }
    }

    /// The limit that this is held against: a file is not compressed.
    fn limit(self) -> Self {
        match self {
            Self::Ours(Sink::File) => Self::Limit(Work::Fetch),
            _ => Self::Limit(Work::Libdeflate),
        }
    }
}

/// Measures every run in turn, `rounds` times over. With a simulator that checks, each has one of its own, whose verdict
/// must be clean.
pub(crate) fn measure(
    common: &Common,
    runs: &[Run],
    options: &Options,
    rounds: usize,
    connections: usize,
) -> anyhow::Result<Vec<(Run, Outcome)>> {
    let mut outcomes = vec![Vec::new(); runs.len()];
    if options.is_checked {
        for (run, outcomes) in runs.iter().zip(&mut outcomes) {
            let mut options = options.clone();
            options.is_checked = matches!(run, Run::Ours(_));
            options.checks_file = *run == Run::Ours(Sink::File);
            let simulator = Simulator::start(common, &options)?;
            outcomes.push(measure_one(
                common,
                &simulator,
                *run,
                &options,
                connections,
            )?);
            anyhow::ensure!(
                simulator.end()?,
                "the verdict on {} is not clean",
                run.name()
            );
        }
    } else {
        let simulator = Simulator::start(common, options)?;
        for _ in 0..rounds.max(1) {
            for (run, outcomes) in runs.iter().zip(&mut outcomes) {
                outcomes.push(measure_one(common, &simulator, *run, options, connections)?);
            }
        }
    }
    let medians = outcomes.iter().map(|outcomes| median(outcomes));
    Ok(runs.iter().copied().zip(medians).collect())
}

fn measure_one(
    common: &Common,
    simulator: &Simulator,
    run: Run,
    options: &Options,
    connections: usize,
) -> anyhow::Result<Outcome> {
    let before = simulator.cpu_seconds()?;
    let mut outcome = match run {
        Run::Limit(work) => limit::run(simulator, work, connections, options.records)?,
        Run::Ours(sink) => {
            let collector = Collector::start(common, simulator, Setup::new(sink))?;
            let outcome = collector.wait(simulator, options.records)?;
            collector.end()?;
            outcome
        }
    };
    outcome.simulator_cpu_seconds = simulator.cpu_seconds()? - before;
    Ok(outcome)
}

/// Of each figure the median over the rounds.
fn median(outcomes: &[Outcome]) -> Outcome {
    let of = |figure: fn(&Outcome) -> f64| {
        let mut figures: Vec<f64> = outcomes.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Outcome {
        records: of(|outcome| outcome.records),
        bytes: of(|outcome| outcome.bytes),
        seconds: of(|outcome| outcome.seconds),
        cpu_seconds: of(|outcome| outcome.cpu_seconds),
        peak_mib: of(|outcome| outcome.peak_mib),
        simulator_cpu_seconds: of(|outcome| outcome.simulator_cpu_seconds),
    }
}

fn find(rows: &[(Run, Outcome)], run: Run) -> Option<Outcome> {
    rows.iter()
        .find(|(other, _)| *other == run)
        .map(|(_, outcome)| *outcome)
}

/// CPU, and speed, as multiples of the limit's.
pub(crate) fn ratios(rows: &[(Run, Outcome)], run: Run) -> Option<(f64, f64)> {
    let (ours, limit) = (find(rows, run)?, find(rows, run.limit())?);
    Some((
        ours.cpu_seconds / limit.cpu_seconds,
        limit.seconds / ours.seconds,
    ))
}

pub(crate) fn print_heading() {
    println!(
        "{:>7} {:>12} {:<24} {:>10} {:>8} {:>10} {:>9} {:>9} {:>9} {:>10}",
        "tenants",
        "records/blob",
        "what",
        "records/s",
        "MB/s",
        "CPU s/mio",
        "÷ limit",
        "speed ÷",
        "peak MiB",
        "sim. CPU"
    );
}

pub(crate) fn print_rows(options: &Options, rows: &[(Run, Outcome)]) {
    for (run, outcome) in rows {
        let ratios = match run {
            Run::Limit(_) => None,
            Run::Ours(_) => ratios(rows, *run),
        };
        let shown = |ratio: Option<f64>| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!(
            "{:>7} {:>12} {:<24} {:>10.0} {:>8.1} {:>10.2} {:>9} {:>9} {:>9.1} {:>10.2}",
            options.tenants,
            options.records_per_blob,
            run.name(),
            outcome.records / outcome.seconds,
            outcome.bytes / outcome.seconds / 1e6,
            outcome.cpu_seconds * 1e6 / outcome.records,
            shown(ratios.map(|(cpu, _)| cpu)),
            shown(ratios.map(|(_, speed)| speed)),
            outcome.peak_mib,
            outcome.simulator_cpu_seconds * 1e6 / outcome.records,
        );
    }
}
