//! `completions` and `man`: documents made from the command line's own description.

use std::io::stdout;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::Args;

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut Args::command(), "o365-collector", &mut stdout());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man() -> anyhow::Result<ExitCode> {
    clap_mangen::Man::new(Args::command()).render(&mut stdout())?;
    Ok(ExitCode::SUCCESS)
}
