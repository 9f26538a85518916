//! The program `o365-collector`: what was typed becomes a command, and what came of it an exit code.

mod args;
mod assembly;
mod commands;
mod functions;
mod logging;
mod output;
mod signals;
mod trial;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use signals::Signals;

/// Exit codes of the outward contract.
mod exit {
    /// It ran, but something is missing, quarantined or failing.
    pub(crate) const FAILING: u8 = 1;
    /// A command line that cannot be understood.
    pub(crate) const BAD_COMMAND_LINE: u8 = 64;
    /// A configuration that cannot be used.
    pub(crate) const BAD_CONFIGURATION: u8 = 78;
}

/// Threads for what may block: packing, a file's writes, names that are looked up. Each costs its stack and an arena. More
/// than ever do something at a time, so that lookups which hang keep no file from being written.
const MAX_BLOCKING_THREADS: usize = 32;

fn main() -> ExitCode {
    heap::give_back_early();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() {
                exit::BAD_COMMAND_LINE
            } else {
                0
            };
            // Nothing can be done when even this cannot be printed.
            drop(error.print());
            return code.into();
        }
    };
    logging::install(&args);
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing else installs a TLS provider");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .expect("a process that cannot start threads cannot do anything");
    let result = runtime.block_on(async {
        let signals = Signals::listen();
        let stop = signals.stop.clone();
        // As a task, so that it runs among the others: here it would be woken from thread to thread for each blob.
        let work = tokio::spawn(async move { commands::execute(args, &stop).await });
        tokio::select! {
            result = work => result.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic())),
            // Whatever was under way is dropped where it stands, as by SIGKILL, and comes again at the next start.
            () = signals.abort.cancelled() => Ok(exit::FAILING.into()),
        }
    });
    // Blocking work that nobody waits for (a rotated file being compressed) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(code) => code,
        Err(error) if is_closed_output(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(format_args!("o365-collector: {error:#}"));
            let is_configuration = error.is::<collector::config::ConfigErrors>()
                || error.is::<functions::local::SettingsError>();
            if is_configuration {
                exit::BAD_CONFIGURATION
            } else {
                exit::FAILING
            }
            .into()
        }
    }
}

/// Whether the command came to an end because whoever read its output has gone away. `o365-collector … | head -1` got
/// what it wanted.
fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<output::Error>()
        .is_some_and(output::Error::is_closed)
}
