//! One module a command.

mod access_key;
mod alertlogic;
mod backfill;
mod check;
mod config;
mod demo;
mod documents;
mod master;
mod opening;
mod package;
mod quarantine;
mod release;
mod run;
mod simulate;
mod status;
mod subscriptions;
mod updater;
mod verify;
mod webhook;

use std::process::ExitCode;

use collector::config::Config;
use collector::env::ProcessEnv;
use tokio_util::sync::CancellationToken;

pub(crate) use alertlogic::report_text;

use crate::args::{AlertlogicAction, Args, Command, ConfigArg};
use crate::functions::{self, local::LocalSettings};

/// Does what was asked for, or as much of it as there is time for until `stop`.
pub(crate) async fn execute(args: Args, stop: &CancellationToken) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Run { config, once } => run::run(&load(&config)?, once, stop).await,
        Command::Demo(args) => demo::demo(args, stop).await,
        Command::Simulate(args) => simulate::simulate(args, stop).await,
        Command::Check { config, format } => check::check(&load(&config)?, format).await,
        Command::Status { config, format } => status::status(&load(&config)?, format).await,
        Command::Verify(args) => verify::verify(&load(&args.config)?, &args).await,
        Command::Backfill(args) => backfill::backfill(&load(&args.config)?, &args, stop).await,
        Command::Quarantine { config, action } => {
            quarantine::quarantine(&load(&config)?, action).await
        }
        Command::Subscriptions { config, action } => {
            subscriptions::subscriptions(&load(&config)?, action).await
        }
        // Before there is a configuration, as a rule.
        Command::Alertlogic {
            config,
            action: AlertlogicAction::AccessKey { action },
        } => access_key::access_key(&config, action, stop).await,
        Command::Alertlogic { config, action } => {
            alertlogic::alertlogic(&load(&config)?, action, stop).await
        }
        Command::Config { action } => config::config(action),
        Command::Function => functions::serve(stop).await,
        Command::Master { settings } => {
            master::master(&LocalSettings::read(settings.settings.as_deref())?, stop).await
        }
        Command::Updater { settings } => {
            updater::updater(&LocalSettings::read(settings.settings.as_deref())?, stop).await
        }
        Command::Webhook {
            settings,
            notification,
        } => {
            let settings = LocalSettings::read(settings.settings.as_deref())?;
            webhook::webhook(&settings, &notification, stop).await
        }
        Command::Package { output, binary } => package::package(&output, binary.as_deref()),
        Command::Release { action } => release::release(action).await,
        Command::Completions { shell } => documents::completions(shell),
        Command::Man => documents::man(),
    }
}

/// The configuration in force; all its errors at once, before anything is opened or sent.
fn load(arg: &ConfigArg) -> anyhow::Result<Config> {
    Ok(collector::config::load(arg.config.as_deref(), &ProcessEnv)?)
}
