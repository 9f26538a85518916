//! `completions` and `man`: documents made from the command line's own description.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::Args;
use crate::output;

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    // Made in memory: written straight to standard output it would panic when nobody reads.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "o365-collector", &mut script);
    output::write(script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man() -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page)?;
    output::write(page)?;
    Ok(ExitCode::SUCCESS)
}
