//! `config default`, `config print`, `config schema`.

use std::process::ExitCode;

use collector::env::ProcessEnv;

use super::config_file;
use crate::args::ConfigAction;

pub(super) fn config(action: ConfigAction) -> anyhow::Result<ExitCode> {
    match action {
        ConfigAction::Default => print!("{}", collector::config::default_toml()),
        ConfigAction::Print { config } => {
            print!(
                "{}",
                collector::config::print(config_file(&config).as_deref(), &ProcessEnv)?
            );
        }
        ConfigAction::Schema => println!("{:#}", collector::config::schema()),
    }
    Ok(ExitCode::SUCCESS)
}
