//! What the configuration says to its users: values, and the texts of its mistakes.

mod dedupe;
mod documents;
mod mistakes;
mod secrets;
mod update;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use activity_api::{Cloud, ContentType};
use expect_test::Expect;
use secrecy::ExposeSecret;

use super::{
    Config, ConfigErrors, Credential, LedgerConfig, SinkConfig, TenantConfig, from_text, load,
};
use crate::testing::CERTIFICATE;

type Env = BTreeMap<String, String>;

fn env(variables: &[(&str, &str)]) -> Env {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    from_text(text, "test.toml", Path::new("/base"), &env(variables))
}

fn check_errors(text: &str, variables: &[(&str, &str)], expected: Expect) {
    let errors = read(text, variables).expect_err("a mistake is expected");
    expected.assert_eq(&errors.to_string());
}

const TENANT: &str = r#"
[[tenant]]
id = "bf8d32d3-1c13-4487-af02-80dba2236485"
client_id = "a261478c-84fb-42f9-84c2-de050a4babe3"
client_secret = "s"
"#;

/// A good tenant and a good sink, with `more` between them. The first line of `more` is line 7.
fn with(more: &str) -> String {
    format!("{TENANT}\n{more}\n[[sink]]\ntype = \"stdout\"\n")
}

/// As [`with`], for sinks. The first line of `sinks` is line 7.
fn with_sinks(sinks: &str) -> String {
    format!("{TENANT}\n{sinks}\n")
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = read(&with(""), &[]).unwrap();
    let [tenant] = config.tenants.as_slice() else {
        panic!("one tenant is expected")
    };
    assert_eq!(
        tenant.id.to_string(),
        "bf8d32d3-1c13-4487-af02-80dba2236485"
    );
    assert_eq!(tenant.publisher.to_string(), tenant.id.to_string());
    assert_eq!(secret_of(tenant), "s");
    assert_eq!(tenant.content_types, ContentType::ALL);
    assert_eq!(tenant.hosts, Cloud::Commercial.hosts());
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:8365");
    assert!(config.webhook.is_none());
    assert!(config.tls.ca_pem.is_none());
    let LedgerConfig::Sqlite { path } = &config.ledger else {
        panic!("no file")
    };
    assert_eq!(path, Path::new("/base/o365-collector.db"));
    assert_eq!(config.poll.interval, Duration::from_secs(60));
    assert_eq!(config.poll.first_lookback, Duration::from_secs(24 * 3600));
    assert_eq!(config.fetch.max_concurrent, 64);
    assert_eq!(config.fetch.max_memory_bytes, 64 << 20);
    assert_eq!(config.quarantine.max_bytes, 1 << 30);
    assert_eq!(config.sinks.len(), 1);
}

#[test]
fn the_environment_goes_before_the_file() {
    let variables = [
        ("O365_COLLECTOR_POLL__INTERVAL_SECS", "30"),
        ("O365_COLLECTOR_TENANT__0__CLOUD", "gcc_high"),
        (
            "O365_COLLECTOR_TENANT__0__CONTENT_TYPES",
            "DLP.All, Audit.Exchange",
        ),
        ("O365_COLLECTOR_TENANT__0__CLIENT_SECRET__ENV", "OTHER"),
        ("OTHER", "from elsewhere"),
    ];
    let config = read(
        &with("[poll]\ninterval_secs = 90\nlookback_hours = 2"),
        &variables,
    )
    .unwrap();
    assert_eq!(config.poll.interval, Duration::from_secs(30));
    assert_eq!(config.poll.first_lookback, Duration::from_secs(7200));
    let tenant = &config.tenants[0];
    assert_eq!(tenant.hosts, Cloud::GccHigh.hosts());
    assert_eq!(
        tenant.content_types,
        [ContentType::Exchange, ContentType::Dlp]
    );
    assert_eq!(secret_of(tenant), "from elsewhere");
}

#[test]
fn the_environment_alone_is_enough() {
    let variables = [
        ("O365_COLLECTOR_ID", "an app setting of the original"),
        ("O365_COLLECTOR_LOG", "debug"),
        (
            "O365_COLLECTOR_TENANT__0__ID",
            "bf8d32d3-1c13-4487-af02-80dba2236485",
        ),
        (
            "O365_COLLECTOR_TENANT__0__CLIENT_ID",
            "a261478c-84fb-42f9-84c2-de050a4babe3",
        ),
        (
            "O365_COLLECTOR_TENANT__0__CLIENT_SECRET",
            "{ env = \"IS_TEXT_HERE\" }",
        ),
        (
            "O365_COLLECTOR_TENANT__0__CONTENT_TYPES",
            "[\"Audit.General\"]",
        ),
        (
            "O365_COLLECTOR_WEBHOOK__PUBLIC_URL",
            "https://collector.example.net/api/o365/webhook",
        ),
        ("O365_COLLECTOR_WEBHOOK__AUTH_ID", "a"),
        ("O365_COLLECTOR_SINK__0__TYPE", "file"),
        ("O365_COLLECTOR_SINK__0__PATH", "audit.ndjson"),
        ("O365_COLLECTOR_SINK__1__TYPE", "stdout"),
    ];
    let config = load(None, &env(&variables)).unwrap();
    assert_eq!(secret_of(&config.tenants[0]), "{ env = \"IS_TEXT_HERE\" }");
    assert_eq!(config.tenants[0].content_types, [ContentType::General]);
    assert_eq!(config.webhook.unwrap().auth_id.expose_secret(), "a");
    let [SinkConfig::File(file), SinkConfig::Stdout(_)] = config.sinks.as_slice() else {
        panic!("a file and stdout are expected")
    };
    assert_eq!(file.path, Path::new("audit.ndjson"));
}

#[test]
fn the_environment_adds_elements_behind_those_of_the_file() {
    let variables = [
        ("O365_COLLECTOR_SINK__1__TYPE", "stdout"),
        ("O365_COLLECTOR_SINK__0__ID", "first"),
    ];
    let config = read(&with(""), &variables).unwrap();
    let names: Vec<_> = config
        .sinks
        .iter()
        .map(|sink| sink.name().as_str())
        .collect();
    assert_eq!(names, ["first", "stdout-2"]);
}

#[test]
fn overridden_hosts_go_before_those_of_the_cloud() {
    let config = read(&with("[microsoft]\nlogin = \"http://127.0.0.1:4000\""), &[]).unwrap();
    let hosts = &config.tenants[0].hosts;
    assert_eq!(hosts.login.as_str(), "http://127.0.0.1:4000");
    assert_eq!(hosts.activity, Cloud::Commercial.hosts().activity);
}

const CONNECTION_STRING: &str =
    "AccountName=nimbus;AccountKey=c3RvcmFnZS1rZXk=;EndpointSuffix=core.windows.net";

#[test]
fn a_ledger_in_azure_storage_is_a_secret_save_for_its_name() {
    let in_file = format!("[ledger]\nurl = \"azure-storage:{CONNECTION_STRING}\"");
    let elsewhere = "[ledger]\nurl = { env = \"STORAGE\" }".to_owned();
    let url = format!("azure-storage:{CONNECTION_STRING}");
    for text in [in_file, elsewhere] {
        let given = [("STORAGE", url.as_str())];
        let config = read(&with(&text), &given).unwrap();
        let LedgerConfig::AzureStorage(storage) = &config.ledger else {
            panic!("no account")
        };
        assert_eq!(storage.account.name(), "nimbus");
        assert!(storage.identity.is_none());
        assert!(!format!("{config:?}").contains("c3RvcmFnZS1rZXk"));
        let variables = env(&given);
        let document =
            super::Document::parse(&with(&text), "test.toml", Path::new("/base"), &variables);
        let (_, keys) = document.unwrap().read(&variables).unwrap();
        let printed = super::print::render(&keys, Some("test.toml"));
        assert!(!printed.contains("c3RvcmFnZS1rZXk"), "{printed}");
        assert!(
            printed.contains("\"azure-storage:<redacted>\""),
            "{printed}"
        );
    }
}

#[test]
fn a_ledger_in_azure_storage_may_be_used_by_the_machines_own_identity() {
    for account in ["nimbus", "AccountName=nimbus;ClientId=1234"] {
        let text = format!("[ledger]\nurl = \"azure-storage:managed-identity:{account}\"");
        let config = read(&with(&text), &[]).unwrap();
        let LedgerConfig::AzureStorage(storage) = &config.ledger else {
            panic!("no account")
        };
        assert_eq!(storage.account.name(), "nimbus");
        assert!(storage.account.needs_token() && storage.identity.is_some());
    }
}

#[test]
fn a_ledger_in_postgresql_is_a_secret_save_for_its_name() {
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://collector:p%40ss-canary@db.example.com:6432/audit");
        let in_file = format!("[ledger]\nurl = \"{url}\"");
        let elsewhere = "[ledger]\nurl = { env = \"DATABASE\" }".to_owned();
        for text in [in_file, elsewhere] {
            let given = [("DATABASE", url.as_str())];
            let config = read(&with(&text), &given).unwrap();
            let LedgerConfig::Postgres(server) = &config.ledger else {
                panic!("no server")
            };
            assert_eq!(server.to_string(), "audit on db.example.com");
            assert!(server.has_tls());
            assert!(!format!("{config:?}").contains("canary"));
            let variables = env(&given);
            let document =
                super::Document::parse(&with(&text), "test.toml", Path::new("/base"), &variables);
            let (_, keys) = document.unwrap().read(&variables).unwrap();
            let printed = super::print::render(&keys, Some("test.toml"));
            assert!(!printed.contains("canary"), "{printed}");
            assert!(
                printed.contains(&format!("\"{scheme}:<redacted>\"")),
                "{printed}"
            );
        }
    }
}

#[test]
fn a_wrong_connection_string_is_not_repeated() {
    for url in [
        "azure-storage:",
        "azure-storage:secret",
        "azure-storage:AccountName=SECRET;AccountKey=c2VjcmV0",
        "azure-storage:AccountName=nimbus;AccountKey=secret!",
        "azure-storage:managed-identity:AccountName=nimbus;AccountKey=c2VjcmV0",
        "azure-storage:managed-identity:Secret",
        "redis:secret",
        "postgres:secret",
        "postgres://secret",
        "postgres://secret:secret@db.example.com/secret?sslmode=secret",
        "postgres://secret:secret@db.example.com/secret?secret=secret",
    ] {
        let text = with(&format!("[ledger]\nurl = \"{url}\""));
        let errors = read(&text, &[]).unwrap_err().to_string();
        assert!(errors.contains("ledger.url"), "{errors}");
        assert!(!errors.to_lowercase().contains("secret"), "{errors}");
        assert!(!errors.contains("c2VjcmV0"), "{errors}");
    }
}

#[test]
fn an_absolute_ledger_path_is_taken_in_either_spelling() {
    for url in ["sqlite:/srv/ledger.db", "sqlite:///srv/ledger.db"] {
        let config = read(&with(&format!("[ledger]\nurl = \"{url}\"")), &[]).unwrap();
        let LedgerConfig::Sqlite { path } = &config.ledger else {
            panic!("no file")
        };
        assert_eq!(path, Path::new("/srv/ledger.db"));
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let text = format!(
        "\u{feff}{}",
        with("[poll]\ninterval_secs = 90").replace('\n', "\r\n")
    );
    assert_eq!(
        read(&text, &[]).unwrap().poll.interval,
        Duration::from_secs(90)
    );
}

fn secret_of(tenant: &TenantConfig) -> &str {
    tenant.credential.client_secret().unwrap().expose_secret()
}

#[test]
fn a_tenant_may_have_a_certificate_in_place_of_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("application.pem");
    std::fs::write(&path, CERTIFICATE).unwrap();
    let set = format!("certificate = {{ file = {:?} }}", path.to_str().unwrap());
    let text = with("").replace("client_secret = \"s\"", &set);
    let config = read(&text, &[]).unwrap();
    let credential = &config.tenants[0].credential;
    assert!(matches!(credential, Credential::Certificate(_)));
    assert!(credential.client_secret().is_none());
    let text = with("").replace("client_secret = \"s\"", "certificate = { env = \"PEM\" }");
    let in_one_line = CERTIFICATE.replace('\n', "\\n");
    let config = read(&text, &[("PEM", &in_one_line)]).unwrap();
    assert!(matches!(
        config.tenants[0].credential,
        Credential::Certificate(_)
    ));
}

#[test]
fn a_tenant_may_have_another_issuers_token_in_place_of_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "head.claims.signature").unwrap();
    let set = format!("federated_token_file = {:?}", path.to_str().unwrap());
    let text = with("").replace("client_secret = \"s\"", &set);
    let config = read(&text, &[]).unwrap();
    let credential = &config.tenants[0].credential;
    assert!(matches!(credential, Credential::FederatedTokenFile(found) if *found == path));
    assert!(credential.client_secret().is_none());
    let both = text + "\n";
    let both = both.replace(&set, &format!("{set}\nclient_secret = \"s\""));
    let errors = read(&both, &[]).unwrap_err().to_string();
    assert!(errors.contains("client_secret is set too"), "{errors}");
}

#[test]
fn a_tenant_may_have_the_machines_own_identity_in_place_of_a_secret() {
    let text = with("").replace("client_secret = \"s\"", "managed_identity = true");
    let platform = [
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:4141/msi/token"),
        ("IDENTITY_HEADER", "h"),
    ];
    for variables in [platform.as_slice(), &[]] {
        let config = read(&text, variables).unwrap();
        let Credential::ManagedIdentity(identity) = &config.tenants[0].credential else {
            panic!("no managed identity");
        };
        let is_app_service = identity.to_string().contains("App Service");
        assert_eq!(is_app_service, !variables.is_empty());
    }
}
