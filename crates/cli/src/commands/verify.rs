//! `verify`: is anything missing? The answer goes to standard output piece by piece, and into the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use collector::clock::{Clock, SystemClock};
use collector::config::Config;
use collector::http::{Client, Transport};
use collector::microsoft::Microsoft;
use collector::verify::{self, Doors, Json, Piece, Question, VerdictView};
use jiff::Timestamp;
use ledger::Ledger;

use super::opening;
use crate::args::{Format, VerifyArgs};
use crate::{exit, output};

/// What part of a tenant's requests a command takes that may run beside a collector, which has a budget of its own.
const SHARE: u32 = 4;

pub(super) async fn verify(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    if !is_in_order(args.from, args.to) {
        return Ok(exit::BAD_COMMAND_LINE.into());
    }
    let ledger = opening::for_reading(config)?;
    let doors = match args.again {
        true => Some(doors(config)?),
        false => None,
    };
    let verdict = answer(
        config,
        &*ledger,
        doors.as_ref(),
        (args.from, args.to),
        args.format,
    )
    .await?;
    Ok(code(&verdict))
}

/// Whether there is time between the two; says so where there is none.
pub(super) fn is_in_order(from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => {
            output::say(format_args!(
                "o365-collector: --from {from} is not before --to {to}"
            ));
            false
        }
        _ => true,
    }
}

/// 0 when nothing is missing.
pub(super) fn code(verdict: &VerdictView) -> ExitCode {
    match verdict.is_complete {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    }
}

/// Each configured tenant's door to Microsoft, with a part of its budget.
pub(super) fn doors(config: &Config) -> anyhow::Result<Doors> {
    let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let door = |tenant| {
        Arc::new(Microsoft::new(
            tenant,
            (config.fetch.requests_per_minute / SHARE).max(1),
            Arc::clone(&http),
            Arc::clone(&clock),
        ))
    };
    Ok(config
        .tenants
        .iter()
        .map(|tenant| (tenant.id, door(tenant)))
        .collect())
}

/// Writes the answer out and returns its end.
pub(super) async fn answer(
    config: &Config,
    ledger: &dyn Ledger,
    doors: Option<&Doors>,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    format: Format,
) -> anyhow::Result<VerdictView> {
    let configured = config.tenants.iter().flat_map(|tenant| {
        let content_types = tenant.content_types.iter();
        content_types.map(|content_type| (tenant.id, *content_type))
    });
    let question = Question {
        configured: configured.collect(),
        from,
        to,
        margin: verify::margin(config.poll.interval),
    };
    let mut json = Json::default();
    let mut written = Ok(());
    let mut tell = |piece: Piece| {
        let text = match format {
            Format::Text => verify::to_text(&piece),
            Format::Json => json.piece(&piece),
        };
        // Whoever asked only for the exit code may have closed the output: the answer is found out all the same.
        if written.is_ok() {
            written = output::write(text);
        }
    };
    let now = SystemClock.now();
    let verdict = verify::verify(ledger, doors, &question, now, &mut tell).await?;
    output::or_closed(written)?;
    Ok(verdict)
}
