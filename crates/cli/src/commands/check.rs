//! `check`: the doctor. Looks at each prerequisite of collecting and says of each what was found; a collector may run meanwhile.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use collector::check::{self, Finding, Verdict};
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, LedgerConfig, SinkConfig, TlsConfig};
use collector::http::{Client, Transport};
use collector::storage::postgres_tls;
use collector::web;
use ledger::{Ledger, PostgresLedger, PostgresServer, SqliteLedger};
use serde_json::json;
use tokio::net::TcpListener;

use super::opening;
use crate::args::Format;
use crate::assembly::{build_sink, folder_mend};
use crate::{exit, output};

pub(super) async fn check(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let http: Arc<dyn Transport> = Arc::new(Client::build(config.tls.ca_pem.as_deref())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut findings = vec![
        of_ledger(config, &*clock).await,
        of_listen(config.listen.address).await,
    ];
    findings.extend(check::of_tenants(config, &http, &clock).await);
    if let Some(webhook) = &config.webhook {
        findings.push(check::of_webhook(&http, webhook).await);
    }
    findings.extend(of_sinks(config, &http, &clock).await?);
    findings.extend(check::of_disks(written_to(config)));
    let is_clean = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Failing);
    let text = match format {
        Format::Text => to_text(&findings),
        Format::Json => format!("{:#}\n", to_json(&findings, is_clean)),
    };
    output::or_closed(output::write(text))?;
    Ok(match is_clean {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    })
}

async fn of_ledger(config: &Config, clock: &dyn Clock) -> Finding {
    let subject = "ledger";
    if let LedgerConfig::Sqlite { path } = &config.ledger {
        // Without a name, so that nothing is left of it whatever happens.
        if let Err(error) = tempfile::tempfile_in(folder_of(path)) {
            return Finding::failing(subject, format!("{error}: {}", folder_mend(path)));
        }
        // Opened and closed before SQLite does: a process that closes a file lets go of its locks on it.
        match OpenOptions::new().write(true).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let says = format!("{} is made at the first start", path.display());
                return Finding::fine(subject, says);
            }
            Err(error) => {
                let says = format!("{}: {error}: {}", path.display(), folder_mend(path));
                return Finding::failing(subject, says);
            }
        }
    }
    if let LedgerConfig::Postgres(server) = &config.ledger
        && let Some(says) = of_postgres(server, &config.tls).await
    {
        return says;
    }
    let summary = match opening::for_reading(config) {
        Ok(ledger) => ledger.summary(clock.now()).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match summary {
        Ok(summary) => {
            let delivered = summary.streams.iter().map(|stream| stream.delivered_count);
            let delivered: u64 = delivered.sum();
            Finding::fine(
                subject,
                format!("it can be read; {delivered} blobs are delivered"),
            )
        }
        Err(error) => Finding::failing(subject, format!("{error:#}")),
    }
}

/// The folders of the files that `run` writes.
fn written_to(config: &Config) -> Vec<&Path> {
    let ledger = match &config.ledger {
        LedgerConfig::Sqlite { path } => Some(path),
        _ => None,
    };
    let files = config.sinks.iter().filter_map(|sink| match sink {
        SinkConfig::File(file) => Some(&file.path),
        _ => None,
    });
    ledger
        .into_iter()
        .chain(files)
        .map(|path| folder_of(path))
        .collect()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

const POSTGRES_MEND: &str = "ledger.url must name a server that runs, a database on it and a user who may come in, and \
     tls.ca_file the authority of its certificate, where the system does not know it";

/// What is to be said of a server before its ledger is read; nothing when that can be done.
async fn of_postgres(server: &PostgresServer, tls: &TlsConfig) -> Option<Finding> {
    let subject = "ledger";
    let found = match postgres_tls(server, tls) {
        Ok(tls) => PostgresLedger::look(server.clone(), tls)
            .await
            .map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    let obstacle = match found {
        Ok(found) if !found.takes_writes => {
            "it is a standby, which takes no writes; name the primary server, or all of them, separated by commas"
        }
        Ok(found) if !found.may_write && found.has_ledger => {
            "the user may not read and write all tables of the schema o365_collector; give them to the user, or the rights"
        }
        Ok(found) if !found.may_write => {
            "the user may not make the schema o365_collector; let an administrator make it and give it to the user"
        }
        Ok(found) if !found.has_ledger => {
            return Some(Finding::fine(
                subject,
                format!("{server}: it is made at the first start"),
            ));
        }
        Ok(_) => return None,
        Err(error) => {
            return Some(Finding::failing(
                subject,
                format!("{error:#}: {POSTGRES_MEND}"),
            ));
        }
    };
    Some(Finding::failing(subject, format!("{server}: {obstacle}")))
}

async fn of_listen(address: SocketAddr) -> Finding {
    let subject = "listen.address";
    match TcpListener::bind(address).await {
        Ok(_) => Finding::fine(subject, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            match web::ask_status(address).await {
                Ok(_) => Finding::note(
                    subject,
                    format!("a collector runs already and answers at {address}"),
                ),
                Err(why) => Finding::failing(
                    subject,
                    format!("{address} is in use, and {why}; name another address"),
                ),
            }
        }
        Err(error) => Finding::failing(
            subject,
            format!(
                "{address} cannot be listened on: {error}; name an address of this machine, and a port that its user may have"
            ),
        ),
    }
}

async fn of_sinks(
    config: &Config,
    http: &Arc<dyn Transport>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Finding>> {
    // What a sink remembers goes to a ledger that is thrown away: the real one is a collector's.
    let folder = tempfile::tempdir()?;
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder.path().join("ledger.db"))?);
    let mut findings = Vec::new();
    for sink in &config.sinks {
        let built = build_sink(sink, config, http, &ledger, clock, &mut Vec::new());
        findings.push(match built {
            Ok(sink) => check::of_sink(&*sink).await,
            Err(error) => Finding::failing(format!("sink {}", sink.name()), format!("{error:#}")),
        });
    }
    Ok(findings)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Note => "note",
        Verdict::Failing => "failing",
    }
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (verdict, subject) = (word(finding.verdict), &finding.subject);
        writeln!(text, "{verdict:<8} {subject}: {}", finding.says)
            .expect("a String takes whatever is written to it");
    }
    let failing = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Failing);
    text.push_str(&match failing.count() {
        0 => "all that collecting needs is there\n".to_owned(),
        count => format!("{count} of {} are failing\n", findings.len()),
    });
    text
}

fn to_json(findings: &[Finding], is_clean: bool) -> serde_json::Value {
    let findings = findings.iter().map(|finding| {
        json!({
            "subject": finding.subject,
            "verdict": word(finding.verdict),
            "says": finding.says,
        })
    });
    json!({ "is_clean": is_clean, "findings": findings.collect::<Vec<_>>() })
}
