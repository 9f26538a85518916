//! The texts of mistakes, each with its place, its key, the reason and the mend.

use expect_test::expect;

use super::{TENANT, check_errors, env, read, with, with_sinks};
use crate::config::{SinkConfig, from_text, load};
use crate::env::Lookup;
use crate::testing::CERTIFICATE;

#[test]
fn an_empty_configuration_says_all_that_is_missing() {
    check_errors(
        "",
        &[],
        expect![[r#"
        2 mistakes in the configuration:
          test.toml: tenant: missing: write at least one [[tenant]]
          test.toml: sink: missing: write at least one [[sink]]"#]],
    );
    let errors = load(None, &env(&[])).expect_err("nothing is configured");
    expect![[r#"
        2 mistakes in the configuration:
          tenant: missing: there must be at least one [[tenant]], and no configuration file was read; `o365-collector config default` prints one to start from
          sink: missing: there must be at least one [[sink]], and no configuration file was read; `o365-collector config default` prints one to start from"#]].assert_eq(&errors.to_string());
}

#[test]
fn all_mistakes_come_in_one_answer() {
    check_errors(
        r#"
[[tenant]]
id = "bf8d32d3"
client_secret = { env = "O365_CLIENT_SECRET" }
content_types = ["Audit.Exchnage"]
cloud = "gcc-high"

[poll]
interval_secs = "60"
interval = 60

[sinks]
"#,
        &[
            ("O365_COLLECTOR_FETCH__MAX_CONCURRENT", "many"),
            ("O365_COLLECTOR_FETCH__MAX_CONCURENT", "4"),
        ],
        expect![[r#"
            11 mistakes in the configuration:
              test.toml:3: tenant[0].id: must be a GUID: 32 hexadecimal digits in groups of 8-4-4-4-12, like 01234567-89ab-cdef-0123-456789abcdef
              test.toml:2: tenant[0].client_id: missing: write it here, or set O365_COLLECTOR_TENANT__0__CLIENT_ID
              test.toml:4: tenant[0].client_secret: the environment variable O365_CLIENT_SECRET is not set, or is no Unicode text
              test.toml:5: tenant[0].content_types: must be one of Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General, DLP.All; did you mean Audit.Exchange?
              test.toml:6: tenant[0].cloud: must be one of commercial, gcc, gcc_high, dod, china; did you mean gcc_high?
              test.toml:9: poll.interval_secs: must be a whole number from 10 to 3600, not text
              test.toml:10: poll.interval: unknown key; the keys here are interval_secs, lookback_hours
              O365_COLLECTOR_FETCH__MAX_CONCURRENT: fetch.max_concurrent: must be a whole number from 1 to 256
              test.toml: sink: missing: write at least one [[sink]]
              test.toml:12: sinks: unknown key; did you mean `sink`?
              O365_COLLECTOR_FETCH__MAX_CONCURENT: no setting has this variable; did you mean O365_COLLECTOR_FETCH__MAX_CONCURRENT?"#]],
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    check_errors(
        &with("[fetch]\nmax_concurent = 4\ncolour = \"red\""),
        &[],
        expect![[r#"
            2 mistakes in the configuration:
              test.toml:8: fetch.max_concurent: unknown key; did you mean `max_concurrent`?
              test.toml:9: fetch.colour: unknown key; the keys here are max_concurrent, max_memory_mib, requests_per_minute, lease_secs"#]],
    );
}

#[test]
fn a_wrong_type_is_told_by_both_types() {
    check_errors(
        &with(
            "[poll]\ninterval_secs = 1.5\nlookback_hours = 1979-05-27\n[fetch]\nmax_concurrent = true\n\
             [listen]\naddress = 8365\n[tls]\nca_file = [\"a\"]\n[ledger]\nurl = { sqlite = \"a\" }",
        ),
        &[],
        expect![[r#"
            6 mistakes in the configuration:
              test.toml:15: tls.ca_file: must be text in quotes, not a list
              test.toml:13: listen.address: must be text in quotes, not a whole number
              test.toml:17: ledger.url: must be text, or { env = "NAME" }, or { file = "PATH" }, with nothing else between the braces
              test.toml:8: poll.interval_secs: must be a whole number from 10 to 3600, not a number with a fraction
              test.toml:9: poll.lookback_hours: must be a whole number from 1 to 167, not a date or time
              test.toml:11: fetch.max_concurrent: must be a whole number from 1 to 256, not true or false"#]],
    );
}

#[test]
fn a_table_in_the_wrong_shape_is_told_how_it_is_written() {
    check_errors(
        "tenant = 5\nsink = [1]\npoll = 3\n[fetch]\n",
        &[],
        expect![[r#"
        3 mistakes in the configuration:
          test.toml:1: tenant: must be a list of tables, each written [[tenant]], not a whole number
          test.toml:3: poll: must be a table, written [poll], not a whole number
          test.toml:2: sink: must be a list of tables, each written [[sink]], not a whole number"#]],
    );
    check_errors(
        "[tenant]\nid = \"a\"\n[sink]\n[[poll]]\n",
        &[],
        expect![[r#"
        3 mistakes in the configuration:
          test.toml:1: tenant: must be a list of tables, each written [[tenant]], not a table
          test.toml:4: poll: must be a table, written [poll], not a list
          test.toml:3: sink: must be a list of tables, each written [[sink]], not a table"#]],
    );
}

#[test]
fn a_number_out_of_its_range_is_refused() {
    check_errors(
        &with(
            "[poll]\ninterval_secs = 9\nlookback_hours = 168\n[fetch]\nmax_memory_mib = 99999999999999999999",
        ),
        &[("O365_COLLECTOR_FETCH__MAX_CONCURRENT", "-1")],
        expect![[r#"
            4 mistakes in the configuration:
              test.toml:8: poll.interval_secs: must be a whole number from 10 to 3600
              test.toml:9: poll.lookback_hours: must be a whole number from 1 to 167
              O365_COLLECTOR_FETCH__MAX_CONCURRENT: fetch.max_concurrent: must be a whole number from 1 to 256
              test.toml:11: fetch.max_memory_mib: must be a whole number from 8 to 16384"#]],
    );
}

#[test]
fn a_tenant_or_a_name_may_not_come_twice() {
    check_errors(
        &format!(
            "{TENANT}{TENANT}\n[[sink]]\ntype = \"file\"\npath = \"a\"\n[[sink]]\ntype = \"file\"\npath = \"a\"\n\
             [[sink]]\ntype = \"stdout\"\nid = \"file-2\"\n"
        ),
        &[],
        expect![[r#"
            3 mistakes in the configuration:
              test.toml:8: tenant[1].id: is the id of tenant[0] too: write each tenant once
              test.toml:17: sink[1].path: another sink writes to this file too: give each a file of its own
              test.toml:20: sink[2].id: sink[1] has this name too: give each sink an `id` of its own"#]],
    );
}

#[test]
fn a_tenant_has_exactly_one_credential() {
    let both = with("").replace(
        "client_secret = \"s\"",
        "client_secret = \"s\"\nmanaged_identity = true",
    );
    check_errors(
        &both,
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:6: tenant[0].managed_identity: client_secret is set too; keep one of them"#]],
    );
    let neither = with("").replace("client_secret = \"s\"", "managed_identity = false");
    check_errors(
        &neither,
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:2: tenant[0].client_secret: missing: write it here, or set O365_COLLECTOR_TENANT__0__CLIENT_SECRET; or set certificate or federated_token_file, or, in Azure, managed_identity = true"#]],
    );
    let identity = with("").replace("client_secret = \"s\"", "managed_identity = true");
    let elsewhere = [
        ("IDENTITY_ENDPOINT", "https://example.net/token"),
        ("IDENTITY_HEADER", "h"),
    ];
    check_errors(
        &identity,
        &elsewhere,
        expect![[r#"
        1 mistake in the configuration:
          test.toml:5: tenant[0].managed_identity: IDENTITY_ENDPOINT must be http:// on this machine's own or a local address: a managed identity's endpoint is nowhere else"#]],
    );
}

#[test]
fn a_federated_token_file_must_hold_a_token_and_be_the_only_credential() {
    let variable = "O365_COLLECTOR_TENANT__0__FEDERATED_TOKEN_FILE";
    check_errors(
        &with(""),
        &[(variable, "/no/such/token")],
        expect![[r#"
            2 mistakes in the configuration:
              O365_COLLECTOR_TENANT__0__FEDERATED_TOKEN_FILE: tenant[0].federated_token_file: the file cannot be read: No such file or directory (os error 2)
              O365_COLLECTOR_TENANT__0__FEDERATED_TOKEN_FILE: tenant[0].federated_token_file: client_secret is set too; keep one of them"#]],
    );
    let none = with("").replace("client_secret = \"s\"", "");
    check_errors(
        &none,
        &[(variable, "/no/such/token")],
        expect![[r#"
            1 mistake in the configuration:
              O365_COLLECTOR_TENANT__0__FEDERATED_TOKEN_FILE: tenant[0].federated_token_file: the file cannot be read: No such file or directory (os error 2)"#]],
    );
}

#[test]
fn a_certificate_comes_with_its_key_and_is_the_only_credential() {
    let none = with("").replace("client_secret = \"s\"", "certificate = \"canary.pem\"");
    check_errors(
        &none,
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:5: tenant[0].certificate: it is not in PEM form; a file that is goes here as { file = "PATH" }"#]],
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("application.pem");
    let without_key = CERTIFICATE.replace("PRIVATE KEY", "OTHER");
    std::fs::write(&path, without_key).unwrap();
    let variable = "O365_COLLECTOR_TENANT__0__CERTIFICATE__FILE";
    check_errors(
        &with(""),
        &[(variable, path.to_str().unwrap())],
        expect![[r#"
            2 mistakes in the configuration:
              O365_COLLECTOR_TENANT__0__CERTIFICATE__FILE: tenant[0].certificate: there is no private key in it: it must have a `BEGIN PRIVATE KEY` block beside the certificate's
              O365_COLLECTOR_TENANT__0__CERTIFICATE__FILE: tenant[0].certificate: client_secret is set too; keep one of them"#]],
    );
}

#[test]
fn other_ledgers_are_refused_by_name() {
    check_errors(
        &with_sinks(
            "\n[ledger]\nurl = \"mysql://user:pass@host/db\"\n\
             [[sink]]\ntype = \"stdout\"",
        ),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:9: ledger.url: must be sqlite:PATH, azure-storage:CONNECTION_STRING, azure-storage:managed-identity:ACCOUNT or postgres://USER:PASSWORD@HOST:PORT/DATABASE"#]],
    );
    check_errors(
        &with_sinks(
            "\n[ledger]\nurl = \"postgres://user:pass@host/db?sslmode=prefer\"\n[[sink]]\ntype = \"none\"",
        ),
        &[],
        expect![[r#"
            2 mistakes in the configuration:
              test.toml:9: ledger.url: must have disable, require, verify-ca or verify-full as its sslmode; all but the first mean a verified certificate
              test.toml:11: sink[0].type: must be one of alertlogic, file, splunk_hec, stdout"#]],
    );
    check_errors(
        &with("[ledger]\nurl = \"azure-storage:AccountKey=k\""),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:8: ledger.url: AccountKey of the connection string must be base64, as the portal shows it"#]],
    );
}

#[test]
fn a_ledger_that_would_die_with_the_program_is_refused() {
    for path in ["", ":memory:", "file:x?mode=memory", "//relative.db"] {
        let errors = read(&with(&format!("[ledger]\nurl = \"sqlite:{path}\"")), &[]);
        let errors = errors.expect_err("no database file is named");
        assert_eq!(errors.errors()[0].key(), "ledger.url", "{errors}");
    }
}

#[test]
fn a_webhook_needs_a_secret_and_https() {
    check_errors(
        &with("[webhook]\npublic_url = \"http://collector.example.net/\""),
        &[],
        expect![[r#"
        2 mistakes in the configuration:
          test.toml:8: webhook.public_url: must be a full url that begins with https://; http:// is only for an address of this machine itself
          test.toml:7: webhook.auth_id: missing: write it here, or set O365_COLLECTOR_WEBHOOK__AUTH_ID"#]],
    );
    for url in [
        "http://localhost:80/a",
        "http://127.0.0.1/a",
        "http://[::1]:9/a",
        "https://a.example/b",
    ] {
        let text = with(&format!(
            "[webhook]\npublic_url = \"{url}\"\nauth_id = \"a\""
        ));
        assert_eq!(read(&text, &[]).unwrap().webhook.unwrap().public_url, url);
    }
    for url in [
        "https://u:p@a.example/",
        "https://a.example/?q",
        "ftp://a.example/",
        "/api",
        "https://a b.example/",
    ] {
        let text = with(&format!(
            "[webhook]\npublic_url = \"{url}\"\nauth_id = \"a\""
        ));
        let errors = read(&text, &[]).expect_err(url);
        assert_eq!(errors.errors()[0].key(), "webhook.public_url", "{errors}");
    }
}

#[test]
fn sinks_are_checked_by_their_type() {
    check_errors(
        &with_sinks(
            r#"[[sink]]
type = "alertlogic"
api = "http://api.example.net"
compression_level = 13
access_key_id = ""
secret_key = { env = "A", file = "B" }
host_id = "1"
path = "audit.ndjson"

[[sink]]
type = "splunk-hec"
url = "https://splunk.example.net:8088"

[[sink]]
path = "audit.ndjson"

[[sink]]
type = "file"
id = "a b"
compression = "lz4"

[[sink]]
type = "splunk_hec"
url = "splunk.example.net:8088"
token = 5"#,
        ),
        &[
            ("O365_COLLECTOR_SINK__2__PATH", "a"),
            ("O365_COLLECTOR_SINK__7__TYPE", "file"),
        ],
        expect![[r#"
            14 mistakes in the configuration:
              O365_COLLECTOR_SINK__7__TYPE: sink: the numbers must follow on: the next sink is O365_COLLECTOR_SINK__5__…
              test.toml:9: sink[0].api: must be a host, host:port or full https:// url: only https:// is spoken (http:// with a loopback address)
              test.toml:11: sink[0].access_key_id: must not be empty
              test.toml:12: sink[0].secret_key: must be text, or { env = "NAME" }, or { file = "PATH" }, with nothing else between the braces
              test.toml:10: sink[0].compression_level: must be a whole number from 1 to 12
              test.toml:7: sink[0].source_id: missing: host_id is set, and one needs the other
              test.toml:14: sink[0].path: unknown key; the keys here are type, id, api, residency, access_key_id, secret_key, compression_level, max_payload_bytes, name, source_id, host_id, subscription_id, resource_group, register_client_secret, azcollect, ingest
              test.toml:17: sink[1].type: must be one of alertlogic, file, splunk_hec, stdout; did you mean splunk_hec?
              test.toml:20: sink[2].type: missing: write it here, or set O365_COLLECTOR_SINK__2__TYPE
              test.toml:25: sink[3].id: must be 1 to 64 letters, digits, '-', '_' or '.'
              test.toml:23: sink[3].path: missing: write it here, or set O365_COLLECTOR_SINK__3__PATH
              test.toml:26: sink[3].compression: must be one of none, gzip, zstd
              test.toml:30: sink[4].url: must be a full url that begins with https://; http:// is only for an address of this machine itself
              test.toml:31: sink[4].token: must be text, or { env = "NAME" }, or { file = "PATH" }, not a whole number"#]],
    );
}

#[test]
fn a_mistake_of_syntax_comes_with_line_and_column_and_those_of_the_environment() {
    check_errors(
        "[[tenant]]\nid = \"unfinished\nclient_id = 5\n\n[poll\ninterval_secs = 60\n",
        &[
            ("O365_COLLECTOR_POLL__INTERVAL_SECS", "soon"),
            ("O365_COLLECTOR_SINK__3__PATH", "x"),
        ],
        expect![[r#"
            3 mistakes in the configuration:
              test.toml:2:17: invalid basic string, expected `"`
              test.toml:5:6: unclosed table, expected `]`
              O365_COLLECTOR_POLL__INTERVAL_SECS: poll.interval_secs: must be a whole number from 10 to 3600"#]],
    );
    check_errors(
        "a = 1\na = 2\n",
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:2:1: duplicate key"#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let errors = load(Some(&missing), &env(&[])).expect_err("the file is missing");
    let text = errors
        .to_string()
        .replace(&folder.path().display().to_string(), "DIR");
    expect![[r#"
        1 mistake in the configuration:
          DIR/missing.toml: the configuration file cannot be read: No such file or directory (os error 2)"#]].assert_eq(&text);

    let named = env(&[("O365_COLLECTOR_CONFIG", missing.to_str().unwrap())]);
    assert_eq!(load(None, &named).expect_err("the file is missing"), errors);
    // The file that was named goes first, and a variable that is set to nothing names none.
    let errors_of_nothing = load(None, &env(&[])).expect_err("there is no tenant");
    let empty = env(&[("O365_COLLECTOR_CONFIG", "")]);
    assert_eq!(
        load(None, &empty).expect_err("there is no tenant"),
        errors_of_nothing
    );
    assert_eq!(
        load(Some(&missing), &empty).expect_err("the file is missing"),
        errors
    );

    let errors = load(Some(folder.path()), &env(&[])).expect_err("it is a folder");
    assert!(errors.to_string().contains("cannot be read"), "{errors}");

    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"\xff\xfe").unwrap();
    let errors = load(Some(&binary), &env(&[])).expect_err("it is no text");
    assert!(errors.to_string().contains("is not UTF-8 text"), "{errors}");
}

/// An environment in which one variable is set to what is no Unicode text.
struct Garbled(&'static str);

impl Lookup for Garbled {
    fn get(&self, _name: &str) -> Option<String> {
        None
    }

    fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        let names = self.0.starts_with(prefix).then(|| self.0.to_owned());
        names.into_iter().collect()
    }
}

#[test]
fn a_file_name_that_cannot_be_read_is_not_passed_over() {
    let errors = load(None, &Garbled("O365_COLLECTOR_CONFIG")).expect_err("no file can be named");
    expect![[r#"
        1 mistake in the configuration:
          O365_COLLECTOR_CONFIG: is no Unicode text; name the file with --config"#]]
    .assert_eq(&errors.to_string());
}

#[test]
fn a_certificate_file_must_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let read_with = |pem: &str| {
        std::fs::write(folder.path().join("roots.pem"), pem).unwrap();
        from_text(
            &with("[tls]\nca_file = \"roots.pem\""),
            "test.toml",
            folder.path(),
            &env(&[]),
        )
    };
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let config = read_with(pem).unwrap();
    assert_eq!(config.tls.ca_pem.unwrap(), pem.as_bytes());
    assert_eq!(config.tls.ca_file.unwrap(), folder.path().join("roots.pem"));
    let errors = read_with("-----BEGIN CERTIFICATE-----\nAAAA\n").expect_err("the end is missing");
    expect![[r#"
        1 mistake in the configuration:
          test.toml:8: tls.ca_file: the file is not in PEM form"#]]
    .assert_eq(&errors.to_string());
    let errors = read_with("").expect_err("it is empty");
    expect![[r#"
        1 mistake in the configuration:
          test.toml:8: tls.ca_file: the file has no certificate in it: there must be at least one BEGIN CERTIFICATE block"#]].assert_eq(&errors.to_string());
    check_errors(
        &with("[tls]\nca_file = \"roots.pem\""),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:8: tls.ca_file: the file cannot be read: No such file or directory (os error 2); a relative path begins at the configuration's folder"#]],
    );
}

#[test]
fn text_is_one_line() {
    check_errors(
        &with_sinks("[[sink]]\ntype = \"file\"\npath = \"a\\nb\"\n"),
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:9: sink[0].path: must be a single line without control characters"#]],
    );
}

#[test]
fn a_log_sources_name_survives_in_a_path() {
    let sink_named = |name: &str| {
        with_sinks(&format!(
            "[[sink]]\ntype = \"alertlogic\"\naccess_key_id = \"k\"\nsecret_key = \"s\"\nname = \"{name}\""
        ))
    };
    for name in ["", "  ", ".", "..", "a\\tb", "a\\u0085b", &"ü".repeat(81)] {
        let errors = read(&sink_named(name), &[]).expect_err(name);
        assert_eq!(errors.errors()[0].key(), "sink[0].name", "{errors}");
    }
    for name in ["...", ".a", "web app/1", &"ü".repeat(80)] {
        let config = read(&sink_named(name), &[]).unwrap();
        let [SinkConfig::AlertLogic(sink)] = config.sinks.as_slice() else {
            panic!("one sink is expected")
        };
        assert_eq!(sink.collector_name, name);
    }
    check_errors(
        &sink_named(".."),
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:11: sink[0].name: must not be '.' or '..': it is a part of the path that the log source is registered under, and would drop out of it"#]],
    );
    check_errors(
        &sink_named(&"x".repeat(81)),
        &[],
        expect![[r#"
        1 mistake in the configuration:
          test.toml:11: sink[0].name: must be at most 80 characters: it is a part of the path that the log source is registered under"#]],
    );
    check_errors(
        &sink_named("good"),
        &[("O365_COLLECTOR_SINK__0__NAME", ".")],
        expect![[r#"
            1 mistake in the configuration:
              O365_COLLECTOR_SINK__0__NAME: sink[0].name: must not be '.' or '..': it is a part of the path that the log source is registered under, and would drop out of it"#]],
    );
}
