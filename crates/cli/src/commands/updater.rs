//! `updater`: one run of the function Updater, here.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::assembly::Assembly;
use crate::functions::local::LocalSettings;
use crate::{exit, output};

pub(super) async fn updater(
    settings: &LocalSettings,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let config = settings.config()?;
    let assembly = Assembly::build(&config)?;
    let Some(updater) = &assembly.updater else {
        output::or_closed(output::write_line("no updates are configured"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let outcome = updater.run_once(stop).await;
    output::or_closed(output::write_line(&outcome))?;
    Ok(match outcome.is_trouble() {
        false => ExitCode::SUCCESS,
        true => exit::FAILING.into(),
    })
}
