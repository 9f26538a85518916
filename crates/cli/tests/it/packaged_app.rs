//! The package, deployed into a stand-in for the Functions host that follows its documented protocol. It has not run under
//! the real one, which is not to be had here.

use std::fs;
use std::time::Duration;

use simulator::{FunctionsHost, FunctionsHostOptions, Invocation, Options, Simulator};

use crate::support::{PATIENCE, describe, program};

/// The settings of the original collector, and where the simulation is.
pub(crate) fn settings(
    simulator: &Simulator,
    folder: &std::path::Path,
) -> Vec<(&'static str, String)> {
    let tenant = &simulator.tenants()[0];
    let options = simulator.options();
    let (azure, alertlogic) = (&options.azure, &options.alertlogic);
    let microsoft = simulator.microsoft_origin();
    fs::write(folder.join("ca.pem"), simulator.ca_pem().unwrap()).unwrap();
    let in_folder = |name: &str| folder.join(name).display().to_string();
    vec![
        ("MASTER_SCHEDULE", "0 */15 * * * *".to_owned()),
        ("UPDATER_SCHEDULE", "0 0 */12 * * *".to_owned()),
        ("FUNCTIONS_WORKER_RUNTIME", "custom".to_owned()),
        ("AzureWebJobsStorage", "UseDevelopmentStorage=true".to_owned()),
        ("APP_TENANT_ID", tenant.tenant_id.clone()),
        ("APP_SUBSCRIPTION_ID", azure.subscription_id.clone()),
        ("APP_RESOURCE_GROUP", azure.resource_group.clone()),
        (
            "O365_CONTENT_STREAMS",
            r#"["Audit.AzureActiveDirectory","Audit.Exchange","Audit.SharePoint","Audit.General","DLP.All"]"#.to_owned(),
        ),
        ("CUSTOMCONNSTR_APP_CLIENT_ID", tenant.client_id.clone()),
        ("CUSTOMCONNSTR_APP_CLIENT_SECRET", tenant.client_secret.clone()),
        ("CUSTOMCONNSTR_APP_AL_API_ENDPOINT", simulator.alertlogic_origin()),
        ("CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID", alertlogic.access_key_id.clone()),
        ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", alertlogic.secret_key.clone()),
        ("O365_COLLECTOR_MICROSOFT__LOGIN", microsoft.clone()),
        ("O365_COLLECTOR_MICROSOFT__ACTIVITY", microsoft),
        ("O365_COLLECTOR_MICROSOFT__RESOURCE_MANAGER", simulator.resource_manager_origin()),
        ("O365_COLLECTOR_TLS__CA_FILE", in_folder("ca.pem")),
        // One instance, so that no storage is needed.
        ("O365_COLLECTOR_LEDGER__URL", format!("sqlite:{}", in_folder("app.db"))),
    ]
}

fn assert_succeeded(invocation: &Invocation, host: &FunctionsHost) {
    assert!(
        invocation.succeeded(),
        "{invocation:#?}\n{:#?}",
        host.logs()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packaged_app_registers_subscribes_and_collects_in_a_stand_in_host() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("app.zip");
    let output = program()
        .args(["package", "--output"])
        .arg(&package)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let options = Options {
        records: 2_000,
        tls: true,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let site = simulator.site();
    for (name, value) in settings(&simulator, folder.path()) {
        site.set_setting(name, &value);
    }
    let host = FunctionsHost::start(FunctionsHostOptions {
        listen_to_queues: false,
        ..FunctionsHostOptions::for_simulator(&package, &simulator)
    })
    .await
    .unwrap();
    assert_eq!(
        host.functions(),
        ["Deliver", "Master", "O365WebHook", "Poll", "Updater"]
    );
    let first_handler = host.pids();
    assert_succeeded(&host.fire("Master").await.unwrap(), &host);
    // What the original kept in the app settings, and the auth id that it had not.
    let kept = site.settings();
    for name in [
        "COLLECTOR_SOURCE_ID",
        "COLLECTOR_HOST_ID",
        "APP_INGEST_ENDPOINT",
        "APP_AZCOLLECT_ENDPOINT",
        "O365_COLLECTOR_WEBHOOK__AUTH_ID",
    ] {
        assert!(kept.contains_key(name), "{name}");
    }
    for (name, value) in settings(&simulator, folder.path()) {
        assert_eq!(kept.get(name), Some(&value), "others' settings stay");
    }
    // The put restarts the app, and the handler ends in good order.
    let has_restarted = |host: &FunctionsHost| {
        let pids = host.pids();
        !pids.is_empty() && pids != first_handler
    };
    assert!(
        host.wait_until(PATIENCE, has_restarted).await,
        "{:#?}",
        host.logs()
    );
    host.ready().await.unwrap();
    let acknowledged = || simulator.progress().records_acknowledged;
    assert_succeeded(&host.fire("Poll").await.unwrap(), &host);
    assert_eq!(acknowledged(), 2_000);
    assert_succeeded(&host.fire("Master").await.unwrap(), &host);
    assert_eq!(site.settings(), kept, "nothing is put when nothing changes");
    assert_eq!(host.stopped(), None);
    let webhooks = host.invocations();
    let webhooks = webhooks.iter().filter(|one| one.function == "O365WebHook");
    // Microsoft tried the address of every subscription, and was answered.
    assert!(webhooks.clone().count() >= 5);
    assert!(webhooks.clone().all(Invocation::succeeded));
    tokio::time::timeout(Duration::from_secs(30), host.stop())
        .await
        .unwrap();
    let verdict = simulator.verdict();
    assert!(verdict.is_clean(), "{verdict}");
}
