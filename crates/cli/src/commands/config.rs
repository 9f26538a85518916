//! `config default`, `config print`, `config schema`.

use std::process::ExitCode;

use collector::env::ProcessEnv;

use crate::args::ConfigAction;
use crate::output;

pub(super) fn config(action: ConfigAction) -> anyhow::Result<ExitCode> {
    match action {
        ConfigAction::Default => output::write(collector::config::default_toml())?,
        ConfigAction::Print { config } => {
            let text = collector::config::print(config.config.as_deref(), &ProcessEnv)?;
            output::write(text)?;
        }
        ConfigAction::Schema => {
            output::write_line(format_args!("{:#}", collector::config::schema()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
