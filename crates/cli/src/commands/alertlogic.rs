//! `alertlogic register|deregister|checkin`, for one configured tenant or all of them. A running collector does by itself
//! what these do by hand.

use std::fmt::Write as _;
use std::process::ExitCode;

use activity_api::TenantId;
use anyhow::bail;
use collector::config::{Config, SinkConfig};
use collector::master::{CheckedIn, Report};
use tokio_util::sync::CancellationToken;

use crate::args::{AlertlogicAction, TenantArg};
use crate::assembly::Assembly;
use crate::{exit, output};

/// What is to be printed, and whether all went well.
type Told = (String, bool);

pub(super) async fn alertlogic(
    config: &Config,
    action: AlertlogicAction,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let (AlertlogicAction::Register(arg)
    | AlertlogicAction::Deregister(arg)
    | AlertlogicAction::Checkin(arg)) = &action
    else {
        bail!("access keys are managed without a log source");
    };
    check(config, arg)?;
    let tenant = arg.tenant;
    // All of the configuration even for one tenant: where a log source is depends on how many there are.
    let assembly = Assembly::build(config)?;
    let (lines, is_clean) = match action {
        AlertlogicAction::Register(_) => register(&assembly, tenant).await?,
        AlertlogicAction::Deregister(_) => deregister(&assembly, tenant).await?,
        AlertlogicAction::Checkin(_) | AlertlogicAction::AccessKey { .. } => {
            let report = assembly.master.run_for(tenant, stop).await?;
            (report_text(&report), report.is_clean())
        }
    };
    output::or_closed(output::write(lines))?;
    Ok(match is_clean {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    })
}

fn check(config: &Config, arg: &TenantArg) -> anyhow::Result<()> {
    if let Some(tenant) = arg.tenant
        && !config.tenants.iter().any(|known| known.id == tenant)
    {
        bail!("tenant {tenant} is not configured");
    }
    let is_alertlogic = |sink: &SinkConfig| matches!(sink, SinkConfig::AlertLogic(_));
    if !config.sinks.iter().any(is_alertlogic) {
        bail!("no sink of type alertlogic is configured");
    }
    Ok(())
}

async fn register(assembly: &Assembly, only: Option<TenantId>) -> anyhow::Result<Told> {
    let (mut lines, mut is_clean) = (String::new(), true);
    for account in &assembly.accounts {
        for tenant in chosen(account.tenants(), only) {
            match account.register(tenant).await {
                Ok(ids) => writeln!(
                    lines,
                    "sink {}, tenant {tenant}: registered as source {}, host {}",
                    account.name(),
                    ids.source_id,
                    ids.host_id
                )?,
                // One tenant's refusal is not the others'.
                Err(error) => is_clean = say_failed(tenant, error),
            }
        }
    }
    Ok((lines, is_clean))
}

async fn deregister(assembly: &Assembly, only: Option<TenantId>) -> anyhow::Result<Told> {
    let (mut lines, mut is_clean) = (String::new(), true);
    for account in &assembly.accounts {
        for tenant in chosen(account.tenants(), only) {
            let whose = format!("sink {}, tenant {tenant}", account.name());
            match account.deregister(tenant).await {
                Ok(None) => writeln!(lines, "{whose}: was not registered")?,
                Ok(Some(ids)) => {
                    writeln!(
                        lines,
                        "{whose}: source {} is no longer registered",
                        ids.source_id
                    )?;
                    if account.config().source_id.is_some() {
                        output::say(format_args!(
                            "{whose}: its ids are in the configuration; take source_id and host_id out, or they are used again"
                        ));
                    }
                }
                Err(error) => is_clean = say_failed(tenant, error),
            }
        }
    }
    Ok((lines, is_clean))
}

/// False, for whether all went well.
fn say_failed(tenant: TenantId, error: impl Into<anyhow::Error>) -> bool {
    let error = error.into();
    output::say(format_args!("tenant {tenant}: {error:#}"));
    false
}

/// What came of a run of Master, for a person.
pub(crate) fn report_text(report: &Report) -> String {
    let mut lines = String::new();
    write_report(&mut lines, report).expect("a String takes whatever is written to it");
    lines
}

fn write_report(lines: &mut String, report: &Report) -> std::fmt::Result {
    for checkin in &report.checkins {
        let CheckedIn {
            sink,
            tenant,
            source_id,
            health,
            failed,
        } = checkin;
        let source = source_id.as_deref().unwrap_or("none");
        write!(lines, "sink {sink}, tenant {tenant}, source {source}: ")?;
        match (failed, health.as_slice()) {
            (Some(failed), _) => writeln!(lines, "not checked in: {failed}")?,
            (None, []) => writeln!(lines, "checked in, all is well")?,
            (None, [first, ..]) => writeln!(lines, "checked in with error {}", first.code)?,
        }
        for error in health {
            writeln!(lines, "  {}: {}", error.code, error.what)?;
        }
    }
    if report.force_update {
        writeln!(lines, "Alert Logic asks for an update of the collector")?;
    }
    if report.has_put_settings {
        writeln!(lines, "app settings changed, the function app restarts")?;
    }
    if let Some(trouble) = &report.settings_trouble {
        writeln!(lines, "{trouble}")?;
    }
    Ok(())
}

fn chosen(
    tenants: impl Iterator<Item = TenantId>,
    only: Option<TenantId>,
) -> impl Iterator<Item = TenantId> {
    tenants.filter(move |tenant| only.is_none_or(|only| only == *tenant))
}
