//! The control plane against the simulator: a collector outside of Azure as a real process, and Master in a function app
//! over real HTTP, with a managed identity.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;
use std::sync::Arc;

use collector::clock::{Clock, SystemClock};
use collector::config::{Config, SinkConfig, load_app_settings};
use collector::http::{Client, Transport};
use collector::master::{Master, Report};
use collector::run::Pipeline;
use collector::sinks::alertlogic::{Account, TenantIdentity};
use collector::status::Live;
use ledger::{Ledger, SqliteLedger};
use serde_json::{Value, json};
use simulator::{Exchange, Options, RequestKind, Simulator};
use tokio_util::sync::CancellationToken;

use crate::support::{Simulation, describe, program};

fn alertlogic(simulation: &Simulation, action: &str) -> Output {
    program()
        .args(["alertlogic", action, "--config"])
        .arg(simulation.config())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bodies(simulation: &Simulation, kind: &str) -> Vec<Value> {
    let transcript = simulation.ask("transcript");
    let exchanges = transcript.as_array().unwrap().iter();
    let of_kind = exchanges.filter(|exchange| exchange["kind"] == kind);
    of_kind.map(|exchange| exchange["body"].clone()).collect()
}

#[test]
fn a_collector_registers_once_and_checks_in_what_it_delivered() {
    let simulation = Simulation::start(&["--records", "300"]);
    let output = simulation.run_once();
    assert!(output.status.success(), "{}", describe(&output));
    let first = &bodies(&simulation, "check_in")[0];
    assert_eq!(first["status"], "ok", "{first:#}");
    assert_eq!(
        first["collection_stats"]["log"],
        json!({"bytes": 0, "events": 0})
    );

    let output = alertlogic(&simulation, "checkin");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert!(
        said(&output).contains("checked in, all is well"),
        "{}",
        describe(&output)
    );
    // The file has each record's own text, and a line break behind it.
    let text = fs::read_to_string(simulation.file()).unwrap();
    let (bytes, events) = (text.len() - text.lines().count(), text.lines().count());
    let checkins = bodies(&simulation, "check_in");
    assert_eq!(
        checkins[1]["collection_stats"]["log"],
        json!({"bytes": bytes, "events": events})
    );
    assert_eq!(events, 300);
    assert_eq!(checkins[1]["source_id"], first["source_id"]);
    assert_eq!(bodies(&simulation, "register").len(), 1);

    let output = program()
        .args(["status", "--format", "json", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = &view["checkins"][0];
    assert_eq!(shown["source_id"], first["source_id"], "{view:#}");
    assert!(
        shown["taken_at"].is_string() && shown["error"].is_null(),
        "{view:#}"
    );
}

#[test]
fn a_log_source_is_deregistered_and_registered_by_hand() {
    let simulation = Simulation::start(&["--records", "1"]);
    let first = alertlogic(&simulation, "register");
    assert_eq!(first.status.code(), Some(0), "{}", describe(&first));
    let output = alertlogic(&simulation, "deregister");
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    assert!(
        said(&output).contains("no longer registered"),
        "{}",
        describe(&output)
    );
    let sent = &bodies(&simulation, "deregister")[0];
    assert!(sent["source_id"].is_string() && sent["host_id"].is_string());
    assert!(sent.get("client_secret").is_none(), "{sent:#}");
    let output = alertlogic(&simulation, "deregister");
    assert!(
        said(&output).contains("was not registered"),
        "{}",
        describe(&output)
    );
    // The same place gets the same ids.
    assert_eq!(said(&alertlogic(&simulation, "register")), said(&first));

    let unknown = program()
        .args(["alertlogic", "register", "--tenant"])
        .arg("11111111-2222-4333-8444-555555555555")
        .arg("--config")
        .arg(simulation.config())
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{}", describe(&unknown));
}

/// One run of Master in a process that was started with these app settings.
async fn run(
    simulator: &Simulator,
    settings: &BTreeMap<String, String>,
    folder: &std::path::Path,
) -> Report {
    let config: Config = load_app_settings(folder, settings).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ca = simulator.ca_pem().map(str::as_bytes);
    let http: Arc<dyn Transport> = Arc::new(Client::build(ca).unwrap());
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder.join("ledger.db")).unwrap());
    let master = master_of(&config, &http, &ledger, &clock);
    master.run_once(&CancellationToken::new()).await.unwrap()
}

/// Master of this configuration, over these.
pub(crate) fn master_of(
    config: &Config,
    http: &Arc<dyn Transport>,
    ledger: &Arc<dyn Ledger>,
    clock: &Arc<dyn Clock>,
) -> Master {
    let SinkConfig::AlertLogic(sink) = &config.sinks[0] else {
        panic!("no sink for alert logic");
    };
    let tenants = config.tenants.iter().map(|tenant| TenantIdentity {
        tenant: tenant.id,
        client_id: tenant.client_id,
        client_secret: tenant.credential.client_secret().cloned(),
        content_types: tenant.content_types.clone(),
    });
    let account = Account::build(
        sink.clone(),
        tenants.collect(),
        Arc::clone(http),
        Arc::clone(ledger),
        Arc::clone(clock),
    )
    .unwrap();
    let live = Live::new(clock.now());
    let pipeline = Pipeline::new(
        config,
        Vec::new(),
        http,
        Arc::clone(ledger),
        Arc::clone(clock),
        live.clone(),
    );
    Master::build(
        config,
        vec![Arc::new(account)],
        pipeline.doors(),
        http,
        Arc::clone(ledger),
        Arc::clone(clock),
        live,
    )
    .unwrap()
}

#[tokio::test]
async fn in_a_function_app_master_keeps_in_the_app_settings_what_a_restart_should_find() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let site = simulator.site();
    site.set_setting("THEIRS", "kept");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, simulator.ca_pem().unwrap()).unwrap();
    let file = format!(
        "[microsoft]\nlogin = \"{0}\"\nactivity = \"{0}\"\nresource_manager = \"{1}\"\n\
         [tls]\nca_file = \"ca.pem\"\n[ledger]\nurl = \"sqlite:ledger.db\"\n",
        simulator.microsoft_origin(),
        simulator.resource_manager_origin()
    );
    fs::write(folder.path().join("o365-collector.toml"), file).unwrap();
    let options = simulator.options();
    let (azure, alertlogic) = (&options.azure, &options.alertlogic);
    let tenant = simulator.tenants()[0].tenant_id.clone();
    let mut settings: BTreeMap<String, String> = [
        ("APP_TENANT_ID", tenant.clone()),
        ("APP_SUBSCRIPTION_ID", azure.subscription_id.clone()),
        ("APP_RESOURCE_GROUP", azure.resource_group.clone()),
        ("WEBSITE_SITE_NAME", azure.site_name.clone()),
        ("WEBSITE_HOSTNAME", azure.hostname()),
        ("IDENTITY_ENDPOINT", simulator.identity_endpoint()),
        ("IDENTITY_HEADER", azure.identity_header.clone()),
        ("APP_PRINCIPAL_ID", azure.principal_id.clone()),
        ("O365_CONTENT_STREAMS", r#"["Audit.General"]"#.to_owned()),
        (
            "CUSTOMCONNSTR_APP_AL_API_ENDPOINT",
            simulator.alertlogic_origin(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID",
            alertlogic.access_key_id.clone(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_SECRET_KEY",
            alertlogic.secret_key.clone(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();

    let restarts = site.restarts();
    let report = run(&simulator, &settings, folder.path()).await;
    assert!(report.has_put_settings, "{report:?}");
    assert!(report.checkins[0].failed.is_none(), "{report:?}");
    // The put comes last, and is one.
    let transcript = simulator.transcript();
    assert_eq!(transcript.last().unwrap().method, "PUT");
    assert_eq!(site.restarts(), restarts + 1);
    let of = |kind: RequestKind| -> Vec<Exchange> {
        let transcript = simulator.transcript();
        transcript
            .into_iter()
            .filter(|exchange| exchange.kind == kind)
            .collect()
    };
    let register = &of(RequestKind::Register)[0].body;
    assert_eq!(register["client_id"], json!(azure.principal_id));
    assert_eq!(register["client_secret"], "Managed Service Identity");
    assert_eq!(
        register["config"]["content_streams"],
        json!(["Audit.General"])
    );
    let site_request = &of(RequestKind::Site)[0];
    assert_eq!(
        site_request.header("authorization"),
        Some("<bearer: resource_manager>")
    );
    let put = site.settings();
    assert_eq!(put["THEIRS"], "kept");
    assert_eq!(put["O365_COLLECTOR_WEBHOOK__AUTH_ID"].len(), 64);

    // The platform restarts the app with the settings as they are now.
    settings.extend(put);
    let report = run(&simulator, &settings, folder.path()).await;
    assert!(!report.has_put_settings, "{report:?}");
    assert_eq!(site.restarts(), restarts + 1);
    assert_eq!(of(RequestKind::Register).len(), 1);
    assert_eq!(of(RequestKind::CheckIn).len(), 2);
    // A site that its owner stopped is told by the property.
    site.change_state(|state| state.state = "Stopped".to_owned());
    run(&simulator, &settings, folder.path()).await;
    let told = &of(RequestKind::CheckIn)[2].body;
    assert_eq!(told["error_code"], "ALAZU00001");
    assert!(told["details"][0].as_str().unwrap().contains("state"));
    assert_eq!(simulator.requests().leaked_tokens, 0);
}
