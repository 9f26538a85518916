//! What the kernel says of a process: the CPU time it took, and the most memory it had.

use std::fs;

use anyhow::Context as _;

/// Kernel ticks per second in /proc; fixed at 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process, all of its threads included; `self` for our own.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(id: &str) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name before the last parenthesis may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks =
        || -> anyhow::Result<f64> { Ok(times.next().context("no time in /proc")?.parse()?) };
    Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The most memory that a process had in use (VmHWM), in MiB.
///
/// # Errors
/// When there is no such process.
pub fn peak_mib(id: &str) -> anyhow::Result<f64> {
    memory_mib(id, "VmHWM:")
}

/// The memory that a process has in use (VmRSS), in MiB.
///
/// # Errors
/// When there is no such process.
pub fn resident_mib(id: &str) -> anyhow::Result<f64> {
    memory_mib(id, "VmRSS:")
}

fn memory_mib(id: &str, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no memory in /proc")?.parse::<f64>()? / 1024.0)
}
