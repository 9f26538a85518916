//! Talk goes to standard error, so that standard output is free for data.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, LogFormat};

/// Installs the process's one subscriber. A filter that cannot be read is told and replaced: a typo in a log level is no
/// reason to collect nothing.
pub(crate) fn install(args: &Args) {
    let default = match args.command {
        // Their answers would be lost among it.
        Command::Demo(_) | Command::Check { .. } => "warn",
        _ => "info",
    };
    // A variable that is set to nothing is as good as unset; as a filter it would let through errors alone.
    let wanted = args.log.as_deref().filter(|filter| !filter.is_empty());
    let (filter, problem) = match EnvFilter::try_new(wanted.unwrap_or(default)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // It would tell of a log line that cannot be written with `eprintln!`, which panics for the same reason: a
        // collector whose standard error nobody reads any longer goes on collecting.
        .log_internal_errors(false)
        .with_ansi(stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, default, "the log filter cannot be read, using the default");
    }
}
