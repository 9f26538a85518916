//! Secrets: where they come from, and that they never come out.

use expect_test::expect;

use super::super::{Document, print};
use super::{check_errors, env, read, with, with_sinks};
use crate::config::{from_text, load};

/// Letters only, so that it survives any escaping and is no variable's name.
const CANARY: &str = "canaryQxZvWkcanary";

#[test]
fn a_secret_comes_from_text_a_variable_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "from the file\r\n").unwrap();
    let secret_of = |spelling: &str, variables: &[(&str, &str)]| {
        let text = with("").replace("client_secret = \"s\"", spelling);
        let config = from_text(&text, "test.toml", folder.path(), &env(variables)).unwrap();
        crate::config::tests::secret_of(&config.tenants[0]).to_owned()
    };
    assert_eq!(
        secret_of("client_secret = 'as \"text\"'", &[]),
        "as \"text\""
    );
    assert_eq!(
        secret_of("client_secret = { env = 'V' }", &[("V", "from V")]),
        "from V"
    );
    assert_eq!(
        secret_of("client_secret.file = 'secret'", &[]),
        "from the file"
    );
    // A variable whose name begins as ours do is no unknown setting when a secret is taken from it.
    assert_eq!(
        secret_of(
            "client_secret.env = 'O365_COLLECTOR_S'",
            &[("O365_COLLECTOR_S", "odd")]
        ),
        "odd"
    );
    let variable = "O365_COLLECTOR_TENANT__0__CLIENT_SECRET";
    assert_eq!(
        secret_of("client_secret = 's'", &[(variable, "direct")]),
        "direct"
    );
    assert_eq!(
        secret_of("", &[(&format!("{variable}__FILE"), "secret")]),
        "from the file"
    );
    assert_eq!(
        secret_of(
            "",
            &[(&format!("{variable}__ENV"), "V"), ("V", "by way of V")]
        ),
        "by way of V"
    );
}

#[test]
fn a_missing_secret_is_told_with_the_name_of_its_variable() {
    check_errors(
        &with_sinks(
            r#"[webhook]
public_url = "https://a.example/"
auth_id = { file = "missing" }

[[sink]]
type = "alertlogic"
access_key_id = "a"
secret_key = { env = "AL_SECRET_KEY" }

[[sink]]
type = "splunk_hec"
url = "https://a.example"

[[sink]]
type = "splunk_hec"
url = "https://a.example"
token = """#,
        ),
        &[],
        expect![[r#"
            4 mistakes in the configuration:
              test.toml:9: webhook.auth_id: the file that `file` names cannot be read: No such file or directory (os error 2); a relative path begins at the configuration's folder
              test.toml:14: sink[0].secret_key: the environment variable AL_SECRET_KEY is not set, or is no Unicode text
              test.toml:16: sink[1].token: missing: write it here, or set O365_COLLECTOR_SINK__1__TOKEN
              test.toml:23: sink[2].token: the secret must not be empty"#]],
    );
}

#[test]
fn a_secret_that_travels_in_a_header_must_fit_one() {
    check_errors(
        &with("[webhook]\npublic_url = \"https://a.example/\"\nauth_id = \"grüße\""),
        &[
            ("O365_COLLECTOR_SINK__1__TYPE", "splunk_hec"),
            ("O365_COLLECTOR_SINK__1__URL", "https://a.example"),
            ("O365_COLLECTOR_SINK__1__TOKEN", "two words"),
        ],
        expect![[r#"
            2 mistakes in the configuration:
              test.toml:9: webhook.auth_id: the secret must be ASCII characters without blanks: it travels in a header
              O365_COLLECTOR_SINK__1__TOKEN: sink[1].token: the secret must be ASCII characters without blanks: it travels in a header"#]],
    );
}

#[test]
fn two_variables_for_one_secret_are_a_mistake() {
    check_errors(
        &with(""),
        &[
            ("O365_COLLECTOR_TENANT__0__CLIENT_SECRET", "a"),
            ("O365_COLLECTOR_TENANT__0__CLIENT_SECRET__ENV", "B"),
            ("B", "b"),
        ],
        expect![[r#"
            1 mistake in the configuration:
              O365_COLLECTOR_TENANT__0__CLIENT_SECRET__ENV: tenant[0].client_secret: O365_COLLECTOR_TENANT__0__CLIENT_SECRET is set too; keep one of them"#]],
    );
}

/// Every key with a value, good values everywhere, a sink of each type.
const WHOLE: &str = r#"
[[tenant]]
id = "bf8d32d3-1c13-4487-af02-80dba2236485"
client_id = "a261478c-84fb-42f9-84c2-de050a4babe3"
client_secret = "CANARY"
content_types = ["Audit.General"]
cloud = "gcc"
publisher_id = "bf8d32d3-1c13-4487-af02-80dba2236485"
[microsoft]
login = "https://a.example"
activity = "https://a.example"
resource_manager = "https://a.example"
[listen]
address = "127.0.0.1:1"
[webhook]
public_url = "https://a.example/"
auth_id = "CANARY"
[ledger]
url = "sqlite:a.db"
[poll]
interval_secs = 60
lookback_hours = 24
[fetch]
max_concurrent = 16
max_memory_mib = 64
[[sink]]
type = "alertlogic"
id = "a"
api = "a.example"
residency = "a"
access_key_id = "a"
secret_key = "CANARY"
compression_level = 1
max_payload_bytes = 700000
name = "a"
source_id = "a"
host_id = "a"
subscription_id = "00000000-0000-0000-0000-000000000000"
resource_group = "a"
register_client_secret = true
azcollect = "a.example"
ingest = "a.example"
[[sink]]
type = "splunk_hec"
url = "https://a.example"
token = "CANARY"
acknowledge_within_secs = 60
max_batch_bytes = 500000
[[sink]]
type = "file"
path = "a"
rotate_mib = 1
rotate_hours = 1
compression = "gzip"
"#;

fn whole() -> String {
    WHOLE.replace("CANARY", CANARY)
}

#[test]
fn secrets_are_neither_printed_nor_debugged() {
    let config = read(&whole(), &[]).unwrap();
    assert!(!format!("{config:?}").contains(CANARY));
    let variables = env(&[("O365_COLLECTOR_TENANT__0__CLIENT_SECRET", CANARY)]);
    for variables in [variables, env(&[])] {
        let document = Document::parse(&whole(), "test.toml", "".as_ref(), &variables).unwrap();
        let (_, keys) = document.read(&variables).unwrap();
        let printed = print::render(&keys, Some("test.toml"));
        assert_eq!(printed.matches("\"<redacted>\"").count(), 4, "{printed}");
        assert!(!printed.contains(CANARY), "{printed}");
    }
}

/// A secret typed in the place of any other value, in any spelling, or into a broken file.
#[test]
fn no_mistake_ever_quotes_a_value() {
    let text = whole();
    let lines: Vec<&str> = text.lines().collect();
    let spellings = [
        format!("\"{CANARY}\""),
        format!("[\"{CANARY}\"]"),
        format!("{{ env = \"{CANARY}\" }}"),
        format!("{{ file = \"{CANARY}\" }}"),
        format!("{{ env = \"{CANARY}\", file = \"{CANARY}\" }}"),
        format!("\"https://{CANARY}:{CANARY}@a.example/{CANARY}?{CANARY}#{CANARY}\""),
        format!("\"postgres://{CANARY}\""),
        format!("\"postgres://a:{CANARY}@{CANARY}/{CANARY}?sslmode={CANARY}\""),
        format!("\"sqlite::{CANARY}\""),
        format!("\"{CANARY}\\n{CANARY}\""),
        format!("\"{CANARY}"),
        format!("\"\\{CANARY}\""),
        CANARY.to_owned(),
        format!("\"a\" {CANARY}"),
    ];
    let mut refused_count = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for spelling in &spellings {
            let planted = format!("{key} = {spelling}");
            let mut lines = lines.clone();
            lines[at] = &planted;
            if let Err(errors) = read(&lines.join("\n"), &[]) {
                let told = format!("{errors}\n{errors:?}");
                assert!(!told.contains(CANARY), "{planted}\n{errors}");
                refused_count += 1;
            }
        }
    }
    assert!(
        refused_count > 300,
        "only {refused_count} plants were refused, so that little was tried"
    );
}

#[test]
fn no_mistake_ever_quotes_a_variables_value() {
    let names = super::documents::all_variables();
    let mut refused_count = 0;
    for name in &names {
        for value in [
            CANARY.to_owned(),
            format!("[{CANARY}"),
            format!("{CANARY}\n{CANARY}"),
            format!("://{CANARY}@"),
        ] {
            if let Err(errors) = read(&whole(), &[(name, &value)]) {
                assert!(
                    !format!("{errors}\n{errors:?}").contains(CANARY),
                    "{name}\n{errors}"
                );
                refused_count += 1;
            }
        }
    }
    assert!(
        refused_count > names.len(),
        "only {refused_count} plants were refused, so that little was tried"
    );
}

#[test]
fn a_secret_in_a_keys_place_does_not_come_out_whole() {
    let long = CANARY.repeat(4);
    let errors = read(&with(&format!("[poll]\n{long} = 1")), &[]).expect_err("no such key");
    assert!(!errors.to_string().contains(&long), "{errors}");
    let errors =
        read(&with(""), &[(&format!("O365_COLLECTOR_{long}"), "1")]).expect_err("no such variable");
    assert!(!errors.to_string().contains(&long), "{errors}");
}

#[test]
fn a_secret_file_is_read_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long"), CANARY.repeat(10_000)).unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, with("").replace("\"s\"", "{ file = 'long' }")).unwrap();
    let errors = load(Some(&path), &env(&[]))
        .expect_err("it is too long")
        .to_string();
    let errors = errors.replace(&folder.path().display().to_string(), "DIR");
    expect![[r#"
        1 mistake in the configuration:
          DIR/config.toml:5: tenant[0].client_secret: the file that `file` names is longer than 65536 bytes, so it cannot be the right one; a relative path begins at the configuration's folder"#]].assert_eq(&errors);
}
