//! Counts the instructions of fixed pieces of work under valgrind and holds them against `baseline.toml`. A count is the
//! same on a busy machine as on an idle one, so a regression shows that no clock could tell from noise.
//!
//! `instructions` counts and compares, `instructions write` writes the baseline anew, and `instructions run CASE N` does
//! the work of a case N times, which is what valgrind is given.
//!
//! A case's count is the difference between doing it three times and doing it once, halved: what the process does around
//! it does not count.

#![expect(clippy::print_stdout, reason = "its table is for a person")]

mod baseline;
mod cases;
mod records;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use crate::baseline::{Baseline, Verdict};

/// More instructions than this part above the baseline fail. Smaller than what anyone would notice, larger than what an
/// unrelated change of inlining does.
const ALLOWED: f64 = 0.05;
/// The exit code for a comparison that says nothing.
const SKIPPED: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => compare(&count_all()?),
        ["write"] => {
            count_all()?.write()?;
            Ok(ExitCode::SUCCESS)
        }
        ["run", case, times] => {
            cases::find(case)
                .context("no such case")?
                .run(times.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("instructions [write]"),
    }
}

fn compare(counted: &Baseline) -> anyhow::Result<ExitCode> {
    let baseline = Baseline::read()?;
    let is_same_compiler = baseline.rustc == counted.rustc;
    println!(
        "{:<40} {:>14} {:>14} {:>8}",
        "case", "instructions", "baseline", "change"
    );
    let mut has_failed = false;
    for (case, &count) in &counted.counts {
        let (before, change, verdict) = baseline.judge(case, count, ALLOWED);
        has_failed |= verdict == Verdict::Worse;
        let said = match verdict {
            Verdict::Same => "",
            Verdict::Worse if is_same_compiler => "FAILED: more than the baseline allows",
            Verdict::Worse => "more than the baseline allows",
            Verdict::Better => "better: write the baseline anew (scripts/bench instructions write)",
            Verdict::Unknown => "FAILED: not in the baseline (scripts/bench instructions write)",
        };
        has_failed |= verdict == Verdict::Unknown;
        println!(
            "{case:<40} {count:>14} {before:>14} {:>+7.1}%  {said}",
            change * 100.0
        );
    }
    if !is_same_compiler {
        println!(
            "SKIPPED: the baseline is of {:?}, and this is {:?}: another compiler's counts fail nobody",
            baseline.rustc, counted.rustc
        );
        return Ok(ExitCode::from(SKIPPED));
    }
    Ok(if has_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn count_all() -> anyhow::Result<Baseline> {
    let output = Command::new("rustc")
        .arg("--version")
        .output()
        .context("rustc")?;
    let mut counted = Baseline {
        rustc: String::from_utf8(output.stdout)?.trim().to_owned(),
        ..Baseline::default()
    };
    // Two at a time: each valgrind has one core.
    std::thread::scope(|scope| {
        let counts: Vec<_> = cases::ALL
            .chunks(2)
            .flat_map(|pair| {
                let counting: Vec<_> = pair
                    .iter()
                    .map(|case| scope.spawn(|| anyhow::Ok((case.name, count(case.name)?))))
                    .collect();
                counting
                    .into_iter()
                    .map(std::thread::ScopedJoinHandle::join)
                    .collect::<Vec<_>>()
            })
            .collect();
        for count in counts {
            let Ok(count) = count else {
                bail!("counting ended by a defect")
            };
            let (name, count) = count?;
            counted.counts.insert(name.to_owned(), count);
        }
        Ok(counted)
    })
}

/// The instructions of a case, once.
fn count(case: &str) -> anyhow::Result<u64> {
    let (once, thrice) = (total(case, 1)?, total(case, 3)?);
    Ok(thrice.saturating_sub(once) / 2)
}

/// The instructions of the whole process.
fn total(case: &str, times: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", case, &times.to_string()])
        .output()
        .context("valgrind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{case} ended with {}:\n{said}",
        output.status
    );
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.context("valgrind says no count")?;
    Ok(count.trim().parse()?)
}
