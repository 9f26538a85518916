//! App settings as the original collector's deployments have them, and what is wrong with some.

use std::collections::BTreeMap;
use std::fs;

use expect_test::{Expect, expect};
use secrecy::ExposeSecret;

use super::*;
use crate::config::{Credential, LedgerConfig};
use crate::sinks::alertlogic::AlertLogicConfig;

type Environment = BTreeMap<String, String>;

/// What the original's template sets, and what the platform adds. The ledger is another, so that no storage is needed.
const ORIGINAL: [(&str, &str); 18] = [
    (TENANT_ID, "bf8d32d3-1c13-4487-af02-80dba2236485"),
    (SUBSCRIPTION_ID, "5b8e6f6c-6f0a-4d6e-9c1e-0d3c1f1c9a11"),
    (RESOURCE_GROUP, "our-group"),
    (CONTENT_STREAMS, r#"["Audit.Exchange", "Audit.General"]"#),
    (SITE_NAME, "our-app"),
    (HOSTNAME, "our-app.azurewebsites.net"),
    ("AzureWebJobsDashboard", "marker-storage"),
    ("FUNCTIONS_EXTENSION_VERSION", "~4"),
    ("TMP", "/tmp"),
    (CLIENT_ID, "a261478c-84fb-42f9-84c2-de050a4babe3"),
    (CLIENT_SECRET, "marker-client-secret"),
    (ACCESS_KEY_ID, "marker-access-key"),
    (SECRET_KEY, "marker-secret-key"),
    (API, "api.global-integration.product.dev.alertlogic.com"),
    (RESIDENCY, "emea"),
    ("APP_STATS_QUEUE_NAME", "alertlogic-stats"),
    ("APP_DL_CONTAINER_NAME", "alertlogic-dl"),
    ("O365_COLLECTOR_LEDGER__URL", "sqlite:ledger.db"),
];

fn original() -> Environment {
    with(&ORIGINAL)
}

fn with(settings: &[(&str, &str)]) -> Environment {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    settings.iter().map(owned).collect()
}

impl AlertLogicConfig {
    fn secret(&self) -> &str {
        self.secret_key.expose_secret()
    }
}

fn load(env: &Environment) -> Config {
    let folder = tempfile::tempdir().unwrap();
    load_app_settings(folder.path(), env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn load_with_file(file: &str, env: &Environment) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("o365-collector.toml"), file).unwrap();
    load_app_settings(folder.path(), env)
}

fn alertlogic(config: &Config) -> &AlertLogicConfig {
    match config.sinks.as_slice() {
        [.., SinkConfig::AlertLogic(sink)] => sink,
        sinks => panic!("{sinks:?}"),
    }
}

fn check(env: &Environment, expected: &Expect) {
    let folder = tempfile::tempdir().unwrap();
    let errors = load_app_settings(folder.path(), env)
        .unwrap_err()
        .to_string();
    assert!(!errors.contains("marker"), "a value is told: {errors}");
    expected.assert_eq(&errors);
}

#[test]
fn the_originals_settings_alone_are_a_whole_configuration() {
    let config = load(&original());
    let [tenant] = config.tenants.as_slice() else {
        panic!("{:?}", config.tenants);
    };
    assert_eq!(
        tenant.id.to_string(),
        "bf8d32d3-1c13-4487-af02-80dba2236485"
    );
    assert_eq!(
        tenant.client_id.to_string(),
        "a261478c-84fb-42f9-84c2-de050a4babe3"
    );
    let secret = tenant.credential.client_secret().unwrap();
    assert_eq!(secret.expose_secret(), "marker-client-secret");
    assert_eq!(
        tenant.content_types,
        [ContentType::Exchange, ContentType::General]
    );
    let sink = alertlogic(&config);
    assert_eq!(
        sink.api,
        "api.global-integration.product.dev.alertlogic.com"
    );
    assert_eq!(sink.residency, "emea");
    assert_eq!(sink.access_key_id, "marker-access-key");
    assert_eq!(sink.secret(), "marker-secret-key");
    assert_eq!(sink.subscription_id, "5b8e6f6c-6f0a-4d6e-9c1e-0d3c1f1c9a11");
    assert_eq!(sink.resource_group, "our-group");
    assert_eq!(sink.collector_name, "our-app");
    assert_eq!(
        sink.local_hostname.as_deref(),
        Some("our-app.azurewebsites.net")
    );
    assert_eq!((&sink.source_id, &sink.host_id), (&None, &None));
    assert_eq!((&sink.ingest, &sink.azcollect), (&None, &None));
    let site = config.site.unwrap();
    assert_eq!(
        site,
        SiteConfig {
            subscription_id: "5b8e6f6c-6f0a-4d6e-9c1e-0d3c1f1c9a11".to_owned(),
            resource_group: "our-group".to_owned(),
            site_name: "our-app".to_owned(),
            hostname: "our-app.azurewebsites.net".to_owned(),
        }
    );
    assert!(config.webhook.is_none(), "there is no auth id yet");
    assert_eq!(config.fetch.lease.as_secs(), 120);
}

#[test]
fn what_the_collector_itself_has_written_is_read() {
    let mut env = original();
    env.extend(with(&[
        (SOURCE_ID, "our-source"),
        (HOST_ID, "our-host"),
        (INGEST, "ingest.example.net"),
        (AZCOLLECT, "azcollect.example.net:8443"),
        ("O365_COLLECTOR_WEBHOOK__AUTH_ID", "marker-auth-id"),
    ]));
    let config = load(&env);
    let sink = alertlogic(&config);
    assert_eq!(sink.source_id.as_deref(), Some("our-source"));
    assert_eq!(sink.host_id.as_deref(), Some("our-host"));
    assert_eq!(sink.ingest.as_deref(), Some("ingest.example.net"));
    assert_eq!(
        sink.azcollect.as_deref(),
        Some("azcollect.example.net:8443")
    );
    let webhook = config.webhook.unwrap();
    assert_eq!(
        webhook.public_url,
        "https://our-app.azurewebsites.net/api/o365/webhook"
    );
    assert_eq!(webhook.auth_id.expose_secret(), "marker-auth-id");
}

#[test]
fn the_names_of_older_deployments_are_read() {
    let mut env = original();
    for name in [ACCESS_KEY_ID, SECRET_KEY] {
        env.remove(name);
    }
    env.extend(with(&[
        (OLD_ACCESS_KEY_ID, "old-key"),
        (OLD_SECRET_KEY, "old-secret"),
        (OLD_SOURCE_ID, "old-source"),
        (OLD_HOST_ID, "old-host"),
    ]));
    let config = load(&env);
    let sink = alertlogic(&config);
    assert_eq!(
        (sink.access_key_id.as_str(), sink.secret()),
        ("old-key", "old-secret")
    );
    assert_eq!(sink.source_id.as_deref(), Some("old-source"));
    assert_eq!(sink.host_id.as_deref(), Some("old-host"));
    // The new names go first.
    env.extend(with(&[
        (ACCESS_KEY_ID, "new-key"),
        (SOURCE_ID, "new-source"),
    ]));
    let config = load(&env);
    assert_eq!(alertlogic(&config).access_key_id, "new-key");
    assert_eq!(alertlogic(&config).source_id.as_deref(), Some("new-source"));
}

#[test]
fn one_id_of_a_registration_without_the_other_is_none() {
    let mut env = original();
    env.extend(with(&[(SOURCE_ID, "our-source"), (HOST_ID, "")]));
    assert_eq!(alertlogic(&load(&env)).source_id, None);
}

#[test]
fn without_a_client_secret_the_apps_managed_identity_is_used() {
    for (endpoint, secret) in [
        ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
        ("MSI_ENDPOINT", "MSI_SECRET"),
    ] {
        let mut env = original();
        for name in [CLIENT_SECRET, CLIENT_ID] {
            env.insert(name.to_owned(), String::new());
        }
        env.extend(with(&[
            (endpoint, "http://127.0.0.1:41000/msi/token"),
            (secret, "marker"),
            (PRINCIPAL_ID, "0d3c1f1c-9a11-4d6e-9c1e-5b8e6f6c6f0a"),
        ]));
        let config = load(&env);
        let tenant = &config.tenants[0];
        assert!(
            matches!(tenant.credential, Credential::ManagedIdentity(_)),
            "{endpoint}"
        );
        assert_eq!(
            tenant.client_id.to_string(),
            "0d3c1f1c-9a11-4d6e-9c1e-5b8e6f6c6f0a"
        );
        // With a secret the application is who we are, identity or not.
        env.extend(with(&[
            (CLIENT_SECRET, "marker"),
            (CLIENT_ID, "a261478c-84fb-42f9-84c2-de050a4babe3"),
        ]));
        let config = load(&env);
        let tenant = &config.tenants[0];
        assert!(tenant.credential.client_secret().is_some());
        assert_eq!(
            tenant.client_id.to_string(),
            "a261478c-84fb-42f9-84c2-de050a4babe3"
        );
    }
}

#[test]
fn the_managed_identitys_storage_is_where_the_settings_say() {
    let [tables, queues, blobs] = STORAGE_SERVICES.map(|(setting, _)| setting);
    let mut env = original();
    env.remove("O365_COLLECTOR_LEDGER__URL");
    env.extend(with(&[
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:41000/msi/token"),
        ("IDENTITY_HEADER", "marker"),
        (tables, "https://ouraccount.table.core.usgovcloudapi.net/"),
        (queues, "https://ouraccount.queue.core.usgovcloudapi.net"),
        (blobs, "https://ouraccount.blob.core.usgovcloudapi.net"),
    ]));
    for given in [None, Some("ouraccount")] {
        env.extend(given.map(|name| (STORAGE_ACCOUNT.to_owned(), name.to_owned())));
        let LedgerConfig::AzureStorage(storage) = load(&env).ledger else {
            panic!("{given:?}");
        };
        assert_eq!(storage.account.name(), "ouraccount");
        assert!(storage.account.needs_token() && storage.identity.is_some());
    }
    env.remove(STORAGE_ACCOUNT);
    env.remove(queues);
    env.extend(with(&[(blobs, "http://ouraccount.marker")]));
    let folder = tempfile::tempdir().unwrap();
    let errors = load_app_settings(folder.path(), &env).unwrap_err();
    expect![[r#"
        2 mistakes in the configuration:
          AzureWebJobsStorage__queueServiceUri: missing: set this app setting, or AzureWebJobsStorage__accountName for the usual names
          AzureWebJobsStorage__blobServiceUri: must be https, save for an emulator on this machine"#]]
    .assert_eq(&errors.to_string());
    env.extend(with(&[
        (queues, "https://ouraccount.marker"),
        (blobs, "https://ouraccount.marker;AccountName=marker"),
    ]));
    let errors = load_app_settings(folder.path(), &env).unwrap_err();
    assert!(!errors.to_string().contains("marker"), "{errors}");
}

#[test]
fn nothing_set_is_told_all_at_once() {
    check(
        &Environment::new(),
        &expect![[r#"
        10 mistakes in the configuration:
          AzureWebJobsStorage: missing: set this app setting to the connection string of the app's storage account, or AzureWebJobsStorage__accountName to its name where the managed identity may use it
          APP_SUBSCRIPTION_ID: missing: set this app setting
          APP_RESOURCE_GROUP: missing: set this app setting
          WEBSITE_SITE_NAME: missing: set this app setting
          WEBSITE_HOSTNAME: missing: set this app setting
          APP_TENANT_ID: tenant[0].id: missing: set this app setting
          CUSTOMCONNSTR_APP_CLIENT_ID: tenant[0].client_id: missing: set this app setting
          CUSTOMCONNSTR_APP_CLIENT_SECRET: tenant[0].client_secret: missing: set this app setting, or turn the app's managed identity on
          CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID: sink[0].access_key_id: missing: set this app setting
          CUSTOMCONNSTR_APP_AL_SECRET_KEY: sink[0].secret_key: missing: set this app setting"#]],
    );
}

#[test]
fn every_mistake_is_told_with_its_app_setting_and_never_its_value() {
    let mut env = original();
    env.remove("O365_COLLECTOR_LEDGER__URL");
    env.extend(with(&[
        (TENANT_ID, "marker"),
        (CLIENT_ID, "marker"),
        (SUBSCRIPTION_ID, "marker"),
        (
            CONTENT_STREAMS,
            r#"["Audit.Exchange","Audit.Nothing","Audit.General"]"#,
        ),
        (HOSTNAME, "https://marker/"),
        (API, "ftp://marker"),
        (STORAGE, "marker"),
        ("APP_FILTER_JSON", r#"{"marker":1}"#),
        ("APP_FILTER_REGEX", "marker"),
        ("O365_COLLECTOR_POLL__INTERVAL_SECS", "marker"),
        ("O365_COLLECTOR_COLOUR", "marker"),
    ]));
    check(
        &env,
        &expect![[r#"
            11 mistakes in the configuration:
              O365_CONTENT_STREAMS: there is no content stream "Audit.Nothing"; there are Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General, DLP.All
              WEBSITE_HOSTNAME: must be a host name, without a scheme and a path
              APP_FILTER_JSON: this collector filters nothing, so that nothing is lost to a filter: clear this app setting
              APP_FILTER_REGEX: this collector filters nothing, so that nothing is lost to a filter: clear this app setting
              APP_TENANT_ID: tenant[0].id: must be a GUID: 32 hexadecimal digits in groups of 8-4-4-4-12, like 01234567-89ab-cdef-0123-456789abcdef
              CUSTOMCONNSTR_APP_CLIENT_ID: tenant[0].client_id: must be a GUID: 32 hexadecimal digits in groups of 8-4-4-4-12, like 01234567-89ab-cdef-0123-456789abcdef
              AzureWebJobsStorage: ledger.url: part 1 of the connection string is not Name=value
              O365_COLLECTOR_POLL__INTERVAL_SECS: poll.interval_secs: must be a whole number from 10 to 3600
              CUSTOMCONNSTR_APP_AL_API_ENDPOINT: sink[0].api: must be a host, host:port or full https:// url: only https:// is spoken (http:// with a loopback address)
              APP_SUBSCRIPTION_ID: sink[0].subscription_id: must be a GUID: 32 hexadecimal digits in groups of 8-4-4-4-12, like 01234567-89ab-cdef-0123-456789abcdef
              O365_COLLECTOR_COLOUR: no setting has this variable"#]],
    );
}

#[test]
fn content_streams_must_be_a_list_in_json() {
    for (streams, reason) in [
        ("Audit.Exchange", "JSON list"),
        ("{}", "JSON list"),
        ("[1]", "JSON list"),
        ("[\"Audit.Exchange\"", "JSON list"),
        ("[]", "at least one"),
        (r#"["marker"]"#, "there is no content stream \"marker\""),
    ] {
        let mut env = original();
        env.extend(with(&[(CONTENT_STREAMS, streams)]));
        let folder = tempfile::tempdir().unwrap();
        let errors = load_app_settings(folder.path(), &env).unwrap_err();
        let [error] = errors.errors() else {
            panic!("{errors}");
        };
        assert_eq!(error.place(), &Place::Setting(CONTENT_STREAMS));
        assert!(error.reason().contains(reason), "{error}");
    }
    let mut env = original();
    env.extend(with(&[(CONTENT_STREAMS, r#" ["dlp.all" , "DLP.All"] "#)]));
    assert_eq!(load(&env).tenants[0].content_types, [ContentType::Dlp]);
    env.remove(CONTENT_STREAMS);
    assert_eq!(load(&env).tenants[0].content_types, ContentType::ALL);
}

#[test]
fn a_file_beside_host_json_adds_to_the_settings_and_goes_over_them() {
    let file = r#"
        [poll]
        interval_secs = 30
        [[tenant]]
        id = "BF8D32D3-1C13-4487-AF02-80DBA2236485"
        cloud = "gcc"
        content_types = ["DLP.All"]
        [[sink]]
        type = "file"
        path = "audit.ndjson"
    "#;
    let config = load_with_file(file, &original()).unwrap();
    assert_eq!(config.poll.interval.as_secs(), 30);
    assert_eq!(config.tenants.len(), 1);
    assert_eq!(config.tenants[0].content_types, [ContentType::Dlp]);
    let gcc = activity_api::Cloud::Gcc.hosts();
    assert_eq!(config.tenants[0].hosts.activity, gcc.activity);
    assert!(matches!(config.sinks[0], SinkConfig::File(_)));
    assert_eq!(alertlogic(&config).collector_name, "our-app");
    let file = "[[sink]]\ntype = \"alertlogic\"\nname = \"another\"\n[fetch]\nlease_secs = 60\n";
    let config = load_with_file(file, &original()).unwrap();
    assert_eq!(config.sinks.len(), 1);
    assert_eq!(alertlogic(&config).collector_name, "another");
    assert_eq!(alertlogic(&config).access_key_id, "marker-access-key");
    assert_eq!(config.fetch.lease.as_secs(), 60);
}

#[test]
fn variables_go_over_both() {
    let mut env = original();
    env.extend(with(&[
        ("O365_COLLECTOR_TENANT__0__CLOUD", "gcc_high"),
        ("O365_COLLECTOR_SINK__0__NAME", "third"),
        ("O365_COLLECTOR_SINK__1__TYPE", "stdout"),
    ]));
    let config = load(&env);
    let hosts = activity_api::Cloud::GccHigh.hosts();
    assert_eq!(config.tenants[0].hosts.activity, hosts.activity);
    let [SinkConfig::AlertLogic(sink), SinkConfig::Stdout(_)] = config.sinks.as_slice() else {
        panic!("{:?}", config.sinks);
    };
    assert_eq!(sink.collector_name, "third");
    let file = "[[sink]]\ntype = \"alertlogic\"\nname = \"another\"\n";
    env.remove("O365_COLLECTOR_SINK__1__TYPE");
    let config = load_with_file(file, &env).unwrap();
    assert_eq!(alertlogic(&config).collector_name, "third");
}

#[test]
fn with_records_going_elsewhere_alert_logic_need_not_be_known() {
    let mut env = original();
    for name in [ACCESS_KEY_ID, SECRET_KEY] {
        env.remove(name);
    }
    let config = load_with_file("[[sink]]\ntype = \"stdout\"\n", &env).unwrap();
    assert!(matches!(config.sinks.as_slice(), [SinkConfig::Stdout(_)]));
    env.extend(with(&[("O365_COLLECTOR_SINK__0__TYPE", "stdout")]));
    assert!(matches!(
        load(&env).sinks.as_slice(),
        [SinkConfig::Stdout(_)]
    ));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_all_else() {
    let mut env = original();
    env.extend(with(&[("APP_FILTER_REGEX", "marker")]));
    let errors = load_with_file("= marker", &env).unwrap_err();
    let told = errors.to_string();
    assert!(told.contains("APP_FILTER_REGEX: "), "{told}");
    assert!(told.contains("o365-collector.toml:1:1: "), "{told}");
    assert!(!told.contains("marker"), "{told}");
}
