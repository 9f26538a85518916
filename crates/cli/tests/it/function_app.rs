//! The function app as a whole: the package that we make runs in a stand-in for the Functions host, with the storage
//! emulator for its account and simulators for everybody else.

mod by_identity;
mod deployed;
mod losses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use simulator::{
    Azurite, FunctionsHost, FunctionsHostOptions, Invocation, Options, RequestKind, Simulator,
};
use tempfile::TempDir;

use crate::support::{PATIENCE, describe, program};

/// How long a lease lasts here: what a killed handler held is to come back while a test waits.
const LEASE_SECS: &str = "30";

/// By what right the app uses its storage.
#[derive(Clone, Copy)]
enum By {
    Key,
    Identity,
}

/// A deployed app and the world around it.
pub(crate) struct App {
    pub(crate) simulator: Simulator,
    pub(crate) host: FunctionsHost,
    _azurite: Azurite,
    _dir: TempDir,
}

impl App {
    /// Deploys the package with the original collector's app settings, and what a test world needs besides.
    pub(crate) async fn deploy(options: Options) -> Self {
        Self::deploy_with(options, |_| {}).await
    }

    pub(crate) async fn deploy_with(
        options: Options,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Self {
        Self::deploy_at(options, By::Key, change).await
    }

    /// The same, with nothing but the managed identity's tokens for the app's storage.
    pub(crate) async fn deploy_by_identity(options: Options) -> Self {
        Self::deploy_at(options, By::Identity, |_| {}).await
    }

    async fn deploy_at(
        options: Options,
        by: By,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let simulator = Simulator::start(Options {
            tls: true,
            requests_per_minute: None,
            ..options
        })
        .await
        .unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, simulator.ca_pem().unwrap()).unwrap();
        let azurite = match by {
            By::Key => Azurite::start(&azurite_folder()).await.unwrap(),
            By::Identity => start_with_tokens(&simulator).await,
        };
        let mut settings = settings(&simulator, &ca_file);
        settings.extend(match by {
            By::Key => BTreeMap::from([(
                "AzureWebJobsStorage".to_owned(),
                azurite.connection_string(),
            )]),
            By::Identity => identity_settings(&azurite),
        });
        change(&mut settings);
        simulator.site().replace_settings(settings);
        let host = FunctionsHost::start(FunctionsHostOptions {
            // The stand-in itself knows keys only. The app is never told this one.
            queue_connection: matches!(by, By::Identity).then(|| azurite.connection_string()),
            // As short as the lease of a blob, and renewed as the real host does: what dies with a handler comes back.
            message_lease: std::time::Duration::from_secs(30),
            ..FunctionsHostOptions::for_simulator(package(), &simulator)
        })
        .await
        .unwrap();
        Self {
            simulator,
            host,
            _azurite: azurite,
            _dir: dir,
        }
    }

    /// Fires a timer and waits for its end, which must be a good one.
    pub(crate) async fn fire(&self, function: &str) -> Invocation {
        let invocation = self.host.fire(function).await.unwrap();
        assert!(
            invocation.succeeded(),
            "{function}: {invocation:#?}\n{}",
            self.logs()
        );
        invocation
    }

    /// Polls to the end. A poll that the app's restart with new settings cuts off is followed by the next, as each minute.
    pub(crate) async fn poll(&self) {
        for _ in 0..3 {
            if self.host.fire("Poll").await.unwrap().succeeded() {
                return;
            }
        }
        panic!("no poll came to its end:\n{}", self.logs());
    }

    /// Polls again and again until Alert Logic has as many records as are there to be had.
    pub(crate) async fn collect_all(&self) {
        self.collect(|progress| progress.records_acknowledged == progress.records_total)
            .await;
    }

    /// Polls again and again, as the host's timer does each minute, until it `is_done`.
    pub(crate) async fn collect(&self, is_done: impl Fn(&simulator::Progress) -> bool) {
        // Twice what a killed handler's lease and a spent message cost, and time to work besides.
        let end = std::time::Instant::now() + 3 * PATIENCE;
        while !is_done(&self.simulator.progress()) {
            assert!(
                std::time::Instant::now() < end,
                "not collected in time: {:#?}\n{}",
                self.simulator.progress(),
                self.logs()
            );
            // A failed poll is followed by the next one, as in a minute's time.
            self.host.fire("Poll").await.unwrap();
            let second = std::time::Duration::from_secs(1);
            self.host
                .wait_until(second, |_| is_done(&self.simulator.progress()))
                .await;
        }
    }

    /// Nothing is missing, altered or unknown at Alert Logic's, and nothing is there more than once.
    pub(crate) fn assert_clean(&self) {
        let verdict = self.simulator.verdict();
        assert!(verdict.is_clean(), "{verdict}\n{}", self.logs());
        assert_eq!(self.simulator.requests().leaked_tokens, 0);
    }

    /// Posts a notification to the app's address, with the auth id that Microsoft has or without any. The status.
    pub(crate) async fn notify(&self, body: &str, has_auth_id: bool) -> u16 {
        let ca = self.simulator.ca_pem().unwrap();
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_merge([ca])
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut request = client
            .post(format!("{}/api/o365/webhook", self.host.origin()))
            .body(body.to_owned());
        if has_auth_id {
            let settings = self.simulator.site().settings();
            let auth_id = &settings["O365_COLLECTOR_WEBHOOK__AUTH_ID"];
            request = request.header("Webhook-AuthID", auth_id);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// How many requests of a kind came so far.
    pub(crate) fn count(&self, kind: RequestKind) -> u64 {
        self.simulator.requests().of(kind)
    }

    /// The latest check-in of the one source.
    pub(crate) fn check_in(&self) -> Value {
        let check_ins = self.simulator.check_ins();
        assert_eq!(check_ins.len(), 1, "{check_ins:#?}");
        check_ins.into_values().next().unwrap()
    }

    pub(crate) fn deliveries(&self) -> Vec<Invocation> {
        let mut invocations = self.host.invocations();
        invocations.retain(|invocation| invocation.function == "Deliver");
        invocations
    }

    pub(crate) fn logs(&self) -> String {
        let lines = self.host.logs().into_iter();
        let lines: Vec<_> = lines
            // Said again and again while a test waits.
            .filter(|line| !line.text.starts_with("0 new blobs") && !line.text.starts_with("Poll "))
            .map(|line| format!("{} {:?} {}", line.instance, line.source, line.text))
            .collect();
        lines
            .get(lines.len().saturating_sub(60)..)
            .unwrap_or_default()
            .join("\n")
    }
}

/// What the original collector's template sets, and after that what leads into the simulation.
fn settings(simulator: &Simulator, ca_file: &Path) -> BTreeMap<String, String> {
    let tenant = &simulator.tenants()[0];
    let azure = &simulator.options().azure;
    let alertlogic = &simulator.options().alertlogic;
    let microsoft = simulator.microsoft_origin();
    let streams = r#"["Audit.AzureActiveDirectory","Audit.Exchange","Audit.SharePoint","Audit.General","DLP.All"]"#;
    let pairs = [
        ("APP_TENANT_ID", tenant.tenant_id.clone()),
        ("APP_SUBSCRIPTION_ID", azure.subscription_id.clone()),
        ("APP_RESOURCE_GROUP", azure.resource_group.clone()),
        ("O365_CONTENT_STREAMS", streams.to_owned()),
        ("CUSTOMCONNSTR_APP_CLIENT_ID", tenant.client_id.clone()),
        (
            "CUSTOMCONNSTR_APP_CLIENT_SECRET",
            tenant.client_secret.clone(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID",
            alertlogic.access_key_id.clone(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_SECRET_KEY",
            alertlogic.secret_key.clone(),
        ),
        (
            "CUSTOMCONNSTR_APP_AL_API_ENDPOINT",
            simulator.alertlogic_origin(),
        ),
        ("CUSTOMCONNSTR_APP_AL_RESIDENCY", "default".to_owned()),
        ("FUNCTIONS_EXTENSION_VERSION", "~4".to_owned()),
        ("FUNCTIONS_WORKER_RUNTIME", "custom".to_owned()),
        ("MASTER_SCHEDULE", "0 */15 * * * *".to_owned()),
        ("UPDATER_SCHEDULE", "0 0 */12 * * *".to_owned()),
        ("O365_COLLECTOR_MICROSOFT__LOGIN", microsoft.clone()),
        ("O365_COLLECTOR_MICROSOFT__ACTIVITY", microsoft),
        (
            "O365_COLLECTOR_MICROSOFT__RESOURCE_MANAGER",
            simulator.resource_manager_origin(),
        ),
        ("O365_COLLECTOR_TLS__CA_FILE", ca_file.display().to_string()),
        ("O365_COLLECTOR_FETCH__LEASE_SECS", LEASE_SECS.to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What names the emulator's account to an app that has no key of it.
fn identity_settings(azurite: &Azurite) -> BTreeMap<String, String> {
    [
        ("accountName", azurite.account().to_owned()),
        ("credential", "managedidentity".to_owned()),
        ("tableServiceUri", azurite.tables()),
        ("queueServiceUri", azurite.queues()),
        ("blobServiceUri", azurite.blobs()),
    ]
    .map(|(name, value)| (format!("AzureWebJobsStorage__{name}"), value))
    .into()
}

async fn start_with_tokens(simulator: &Simulator) -> Azurite {
    Azurite::start_with_tokens(&azurite_folder(), &simulator.server_tls().unwrap())
        .await
        .unwrap()
}

/// The package of the program under test, made once.
fn package() -> PathBuf {
    static PACKAGE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let made = PACKAGE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let zip = dir.path().join("o365-collector.zip");
        let output = program()
            .args(["package", "--output"])
            .arg(&zip)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        (dir, zip)
    });
    made.1.clone()
}

/// Where the test script installed the storage emulator.
pub(crate) fn azurite_folder() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the folder over this way"
    )]
    let folder = std::env::var("O365_TEST_AZURITE_NODE_MODULES");
    folder
        .expect("O365_TEST_AZURITE_NODE_MODULES names a folder")
        .into()
}
