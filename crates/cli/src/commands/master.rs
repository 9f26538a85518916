//! `master`: one run of the function Master, here.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::report_text;
use crate::assembly::Assembly;
use crate::functions::local::LocalSettings;
use crate::{exit, output};

pub(super) async fn master(
    settings: &LocalSettings,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let config = settings.config()?;
    let assembly = Assembly::build(&config)?;
    let report = assembly.master.run_once(stop).await?;
    output::or_closed(output::write(report_text(&report)))?;
    Ok(match report.is_clean() {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    })
}
