//! The folder that is deployed, run by the stand-in for the Functions host: the real program as its handler, the app settings
//! of the simulated function app, notifications from the simulated Microsoft.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use simulator::{FunctionsHost, FunctionsHostOptions, Options, RequestKind, Simulator};

/// Longer than anything here takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure/function-app")
}

/// What the template sets, with a ledger in a file in place of the one in the storage account.
fn settings(simulator: &Simulator, folder: &Path) -> BTreeMap<String, String> {
    let tenant = &simulator.tenants()[0];
    let azure = &simulator.options().azure;
    let key = &simulator.options().alertlogic;
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem().unwrap()).unwrap();
    let microsoft = simulator.microsoft_origin();
    [
        ("APP_TENANT_ID", tenant.tenant_id.clone()),
        ("APP_SUBSCRIPTION_ID", azure.subscription_id.clone()),
        ("APP_RESOURCE_GROUP", azure.resource_group.clone()),
        ("O365_CONTENT_STREAMS", r#"["Audit.Exchange"]"#.to_owned()),
        ("CUSTOMCONNSTR_APP_CLIENT_ID", tenant.client_id.clone()),
        (
            "CUSTOMCONNSTR_APP_CLIENT_SECRET",
            tenant.client_secret.clone(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_API_ENDPOINT",
            simulator.alertlogic_origin(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID",
            key.access_key_id.clone(),
        ),
        ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", key.secret_key.clone()),
        ("O365_COLLECTOR_MICROSOFT__LOGIN", microsoft.clone()),
        ("O365_COLLECTOR_MICROSOFT__ACTIVITY", microsoft),
        (
            "O365_COLLECTOR_MICROSOFT__RESOURCE_MANAGER",
            simulator.resource_manager_origin(),
        ),
        ("O365_COLLECTOR_TLS__CA_FILE", ca_file.display().to_string()),
        (
            "O365_COLLECTOR_LEDGER__URL",
            format!("sqlite:{}", folder.join("ledger.db").display()),
        ),
        ("O365_COLLECTOR_WEBHOOK__AUTH_ID", "our-auth-id".to_owned()),
        ("MASTER_SCHEDULE", "0 */15 * * * *".to_owned()),
        ("UPDATER_SCHEDULE", "0 0 */12 * * *".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[tokio::test]
async fn the_deployed_folder_runs_in_the_stand_in_host() {
    let simulator = Simulator::start(Options {
        records: 300,
        tls: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let site = simulator.site();
    site.replace_settings(settings(&simulator, folder.path()));
    let host = FunctionsHost::start(FunctionsHostOptions {
        executable: Some(env!("CARGO_BIN_EXE_o365-collector").into()),
        listen_to_queues: false,
        restart_delay: Duration::ZERO,
        ..FunctionsHostOptions::for_simulator(deployed(), &simulator)
    })
    .await
    .unwrap();
    assert_eq!(
        host.functions(),
        ["Deliver", "Master", "O365WebHook", "Poll", "Updater"]
    );
    // It starts the subscription, which makes Microsoft call the webhook through the host's front door.
    let before = host.pids();
    let first = host.fire("Master").await.unwrap();
    assert!(first.succeeded(), "{first:?}\n{:#?}", host.logs());
    assert!(
        first
            .answer
            .is_some_and(|answer| answer["Outputs"].is_object())
    );
    // What it keeps in the app settings restarts the app.
    restarted(&host, before).await;

    let validations = simulator
        .requests()
        .with_status(RequestKind::WebhookValidation, 200);
    assert!(validations > 0, "{:#?}", simulator.requests());
    assert!(
        host.invocations()
            .iter()
            .any(|one| one.function == "O365WebHook" && one.status == Some(200))
    );

    // A changed setting is a new handler, which goes on with the same ledger.
    let before = host.pids();
    site.set_setting("ANY", "change");
    restarted(&host, before).await;
    let second = host.fire("Poll").await.unwrap();
    assert!(second.succeeded(), "{second:?}\n{:#?}", host.logs());
    assert!(simulator.requests().of(RequestKind::Content) > 0);
    assert_eq!(simulator.requests().leaked_tokens, 0);
    let secret = simulator.tenants()[0].client_secret.as_str();
    assert!(!host.logs().iter().any(|line| line.text.contains(secret)));
    assert_eq!(host.stopped(), None);
    host.stop().await;
    simulator.stop().await;
}

/// Waits for another handler than those of `before`.
async fn restarted(host: &FunctionsHost, before: Vec<u32>) {
    let another = async {
        while host.pids().is_empty() || host.pids() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, another).await.unwrap();
}
