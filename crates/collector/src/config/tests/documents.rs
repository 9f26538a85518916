//! The documents drawn from the settings: the default file, `config print` and `config schema`.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::{expect, expect_file};
use serde_json::{Value, json};

use super::super::keys::{Item, Key, Presence, Setting};
use super::super::{Document, default_toml, describe, print, schema};
use super::{env, read};

/// Every setting there is, by path; a list of tables counts once per type of its elements: `sink(file).path`.
fn all_settings(keys: &[Key], path: &str, found: &mut BTreeMap<String, Setting>) {
    for key in keys {
        let path = if path.is_empty() {
            key.name.clone()
        } else {
            format!("{path}.{}", key.name)
        };
        match &key.item {
            Item::Setting(setting) => {
                let Setting {
                    kind,
                    presence,
                    value,
                    origin,
                } = setting;
                let setting = Setting {
                    kind: kind.clone(),
                    presence: presence.clone(),
                    value: value.clone(),
                    origin: origin.clone(),
                };
                found.insert(path, setting);
            }
            Item::Table { keys, .. } => all_settings(keys, &path, found),
            Item::Tables { elements, .. } => {
                for element in elements {
                    let variant = element
                        .variant
                        .map_or(String::new(), |variant| format!("({variant})"));
                    all_settings(&element.keys, &format!("{path}{variant}"), found);
                }
            }
        }
    }
}

fn settings() -> BTreeMap<String, Setting> {
    let mut found = BTreeMap::new();
    all_settings(&describe(), "", &mut found);
    found
}

/// The variable of every setting, for the first element of each list of tables.
pub(super) fn all_variables() -> BTreeSet<String> {
    let numbered = |path: String| {
        path.replace("tenant.", "tenant.0.")
            .replace("sink(alertlogic)", "sink.0")
            .replace("sink(splunk_hec)", "sink.1")
            .replace("sink(file)", "sink.2")
            .replace("sink(stdout)", "sink.3")
    };
    let variable = |path: String| {
        format!(
            "O365_COLLECTOR_{}",
            numbered(path).replace('.', "__").to_uppercase()
        )
    };
    settings().into_keys().map(variable).collect()
}

/// The values of a document, by the paths that [`settings`] has.
fn values(table: &toml::Table, path: &str, found: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match value {
            toml::Value::Table(table) if !is_secret(table) => values(table, &path, found),
            toml::Value::Array(list) if list.iter().all(toml::Value::is_table) => {
                for element in list.iter().filter_map(toml::Value::as_table) {
                    let tag = element.get("type").and_then(toml::Value::as_str);
                    values(
                        element,
                        &format!(
                            "{path}{}",
                            tag.map_or(String::new(), |tag| format!("({tag})"))
                        ),
                        found,
                    );
                }
            }
            _ => {
                found.insert(path, value.clone());
            }
        }
    }
}

/// Whether it says where a secret is.
fn is_secret(table: &toml::Table) -> bool {
    ["env", "file"].iter().any(|key| table.contains_key(*key))
}

fn values_of(text: &str) -> BTreeMap<String, toml::Value> {
    let mut found = BTreeMap::new();
    values(&text.parse().unwrap(), "", &mut found);
    found
}

/// The default file with its examples taken out of their comments.
fn uncommented() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example.to_owned(),
        _ => line.to_owned(),
    };
    default_toml()
        .lines()
        .map(uncomment)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_value_of_the_default_file_is_the_built_in_default() {
    let settings = settings();
    let values = values_of(default_toml());
    for (path, value) in &values {
        let Some(Presence::Default(default)) = settings.get(path).map(|setting| &setting.presence)
        else {
            panic!("{path} has no built-in default, so it must be commented out")
        };
        assert_eq!(value, default, "{path}");
    }
    for (path, setting) in &settings {
        let is_in_a_list = path.starts_with("tenant") || path.starts_with("sink");
        if matches!(setting.presence, Presence::Default(_)) && !is_in_a_list {
            assert!(
                values.contains_key(path),
                "{path} has a default that the default file does not show"
            );
        }
    }
}

#[test]
fn the_default_file_shows_every_key_and_no_other() {
    let values = values_of(&uncommented());
    let settings = settings();
    let shown: Vec<_> = values.keys().collect();
    let known: Vec<_> = settings.keys().collect();
    assert_eq!(shown, known);
    for (path, setting) in &settings {
        if let Presence::Default(default) = &setting.presence {
            assert_eq!(
                &values[path], default,
                "the example of {path} is not its default"
            );
        }
    }
}

#[test]
fn the_examples_of_the_default_file_are_a_good_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.path().join("extra-roots.pem"), pem).unwrap();
    let secrets = [
        ("O365_CLIENT_SECRET", "a"),
        ("O365_WEBHOOK_AUTH_ID", "b"),
        ("AL_SECRET_KEY", "c"),
        ("HEC_TOKEN", "d"),
    ];
    // Of the credentials one at a time.
    let text = uncommented();
    let in_place_of_a_secret = ["certificate", "federated_token_file"];
    let (without, others): (Vec<_>, Vec<_>) = text.lines().partition(|line| {
        in_place_of_a_secret
            .iter()
            .any(|name| line.starts_with(name))
    });
    assert_eq!(without.len(), 2);
    let text = others.join("\n");
    let config = super::from_text(&text, "default", folder.path(), &env(&secrets)).unwrap();
    let names: Vec<_> = config
        .sinks
        .iter()
        .map(|sink| sink.name().to_string())
        .collect();
    assert_eq!(names, ["alertlogic", "file", "splunk_hec", "stdout"]);
}

#[test]
fn the_bare_default_file_lacks_only_a_tenant_and_a_sink() {
    let errors = read(default_toml(), &[]).expect_err("there is no tenant");
    let keys: Vec<_> = errors
        .errors()
        .iter()
        .map(super::super::ConfigError::key)
        .collect();
    assert_eq!(keys, ["tenant", "sink"]);
}

#[test]
fn every_value_is_printed_with_its_origin() {
    let text = super::with("[poll]\ninterval_secs = 90\n[microsoft]\nlogin = 'http://127.0.0.1:1'");
    let variables = env(&[
        ("O365_COLLECTOR_FETCH__MAX_CONCURRENT", "4"),
        ("O365_COLLECTOR_SINK__1__TYPE", "alertlogic"),
        ("O365_COLLECTOR_SINK__1__ACCESS_KEY_ID", "key"),
        ("O365_COLLECTOR_SINK__1__SECRET_KEY__ENV", "AL"),
        ("AL", "secret"),
    ]);
    let document = Document::parse(&text, "test.toml", "".as_ref(), &variables).unwrap();
    let (_, keys) = document.read(&variables).unwrap();
    let printed = print::render(&keys, Some("test.toml"));
    printed.parse::<toml::Table>().unwrap();
    expect![[r#"
        [[tenant]]
        id = "bf8d32d3-1c13-4487-af02-80dba2236485"                  # test.toml:3
        client_id = "a261478c-84fb-42f9-84c2-de050a4babe3"           # test.toml:4
        client_secret = "<redacted>"                                 # test.toml:5
        # certificate is not set                                     # default: client_secret or federated_token_file must be set, or managed_identity true
        managed_identity = false                                     # default
        # federated_token_file is not set                            # default: client_secret or certificate must be set, or managed_identity true
        content_types = ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"] # default
        cloud = "commercial"                                         # default
        publisher_id = "bf8d32d3-1c13-4487-af02-80dba2236485"        # default: the tenant's id

        [microsoft]
        login = "http://127.0.0.1:1"                                 # test.toml:10
        # activity is not set                                        # default: the host of each tenant's cloud
        # resource_manager is not set                                # default: the host of each tenant's cloud

        [tls]
        # ca_file is not set                                         # default: only the system's roots are trusted

        [listen]
        address = "127.0.0.1:8365"                                   # default

        # [webhook] is not there.

        [ledger]
        url = "sqlite:o365-collector.db"                             # default

        [poll]
        interval_secs = 90                                           # test.toml:8
        lookback_hours = 24                                          # default

        [fetch]
        max_concurrent = 4                                           # O365_COLLECTOR_FETCH__MAX_CONCURRENT
        max_memory_mib = 64                                          # default
        requests_per_minute = 2000                                   # default
        lease_secs = 600                                             # default

        [quarantine]
        max_mib = 1024                                               # default

        [dedupe]
        # records is not set                                         # default: a record that Microsoft lists twice is delivered twice

        [[sink]]
        type = "stdout"                                              # test.toml:12
        id = "stdout"                                                # default: the type; -2, -3 and so on behind it where a type repeats

        [[sink]]
        type = "alertlogic"                                          # O365_COLLECTOR_SINK__1__TYPE
        id = "alertlogic"                                            # default: the type; -2, -3 and so on behind it where a type repeats
        api = "api.global-services.global.alertlogic.com"            # default
        residency = "default"                                        # default
        access_key_id = "key"                                        # O365_COLLECTOR_SINK__1__ACCESS_KEY_ID
        secret_key = "<redacted>"                                    # O365_COLLECTOR_SINK__1__SECRET_KEY__ENV
        compression_level = 1                                        # default
        max_payload_bytes = 700000                                   # default
        name = "o365-collector"                                      # default
        # source_id is not set                                       # default: the sink registers itself once per tenant and keeps the ids in the ledger
        # host_id is not set                                         # default: the sink registers itself once per tenant and keeps the ids in the ledger
        subscription_id = "00000000-0000-0000-0000-000000000000"     # default
        resource_group = "self-hosted"                               # default
        register_client_secret = true                                # default
        # azcollect is not set                                       # default: the endpoints service is asked
        # ingest is not set                                          # default: the endpoints service is asked

        # [update] is not there.
    "#]].assert_eq(&printed);
}

#[test]
fn the_schema_has_every_key_and_refuses_others() {
    // Kept as a file beside this one, so that a change of the contract is seen in review.
    let text = serde_json::to_string_pretty(&schema()).unwrap();
    expect_file!["config.schema.json"].assert_eq(&(text + "\n"));
    let document: toml::Table = uncommented().parse().unwrap();
    assert_eq!(mistake(&schema(), &json!(document)), None);
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    for (text, at) in [
        ("[poll]\ninterval_secs = 5", "/poll/interval_secs"),
        ("[poll]\ninterval_secs = '60'", "/poll/interval_secs"),
        ("[poll]\ninterval = 60", "/poll"),
        ("[polls]\n", ""),
        ("[[tenant]]\ncloud = 'other'", "/tenant/0/cloud"),
        (
            "[[tenant]]\nclient_secret = { env = 'A', file = 'B' }",
            "/tenant/0/client_secret",
        ),
        ("[[tenant]]\ncontent_types = []", "/tenant/0/content_types"),
        ("[[sink]]\npath = 'a'", "/sink/0"),
        ("[[sink]]\ntype = 'file'\nurl = 'a'", "/sink/0"),
    ] {
        let document: toml::Table = text.parse().unwrap();
        assert_eq!(
            mistake(&schema(), &json!(document)).as_deref(),
            Some(at),
            "{text}"
        );
    }
}

/// Where a document first breaks the schema, for the few words of JSON Schema that ours uses (patterns aside).
fn mistake(schema: &Value, document: &Value) -> Option<String> {
    let object = schema.as_object().expect("a schema is an object");
    for (word, value) in object {
        let is_good = match word.as_str() {
            "$schema"
            | "title"
            | "description"
            | "default"
            | "properties"
            | "additionalProperties"
            | "items" => true,
            "pattern" => document.is_string(),
            "type" => match value.as_str().unwrap() {
                "object" => document.is_object(),
                "array" => document.is_array(),
                "string" => document.is_string(),
                "integer" => document.is_i64(),
                "boolean" => document.is_boolean(),
                other => panic!("unknown type {other}"),
            },
            "const" => document == value,
            "enum" => value.as_array().unwrap().contains(document),
            "minLength" => document
                .as_str()
                .is_none_or(|text| text.len() as u64 >= value.as_u64().unwrap()),
            "minItems" => document
                .as_array()
                .is_none_or(|list| list.len() as u64 >= value.as_u64().unwrap()),
            "uniqueItems" => document.as_array().is_none_or(|list| {
                list.iter()
                    .map(Value::to_string)
                    .collect::<BTreeSet<_>>()
                    .len()
                    == list.len()
            }),
            "minimum" => document
                .as_i64()
                .is_none_or(|number| number >= value.as_i64().unwrap()),
            "maximum" => document
                .as_i64()
                .is_none_or(|number| number <= value.as_i64().unwrap()),
            "required" => value
                .as_array()
                .unwrap()
                .iter()
                .all(|name| document.get(name.as_str().unwrap()).is_some()),
            "oneOf" => {
                let fits = |schema: &&Value| mistake(schema, document).is_none();
                value.as_array().unwrap().iter().filter(fits).count() == 1
            }
            other => panic!("the schema uses {other}, which this check does not know"),
        };
        if !is_good {
            return Some(String::new());
        }
    }
    if let (Some(properties), Some(entries)) = (object.get("properties"), document.as_object()) {
        for (name, value) in entries {
            let Some(schema) = properties.get(name) else {
                return Some(String::new());
            };
            if let Some(at) = mistake(schema, value) {
                return Some(format!("/{name}{at}"));
            }
        }
    }
    if let (Some(schema), Some(list)) = (object.get("items"), document.as_array()) {
        for (i, item) in list.iter().enumerate() {
            if let Some(at) = mistake(schema, item) {
                return Some(format!("/{i}{at}"));
            }
        }
    }
    None
}
