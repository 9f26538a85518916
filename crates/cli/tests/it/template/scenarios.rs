//! The ways to use the template that the checks are made with, and what there is in Azure before each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::evaluate::{Azure, Deployed, deploy};

/// What secure parameters are given: recognizable wherever it ends up.
pub(super) const SECRET: &str = "a-secret-given-as";
/// What Master and Updater wrote into the app settings earlier.
pub(super) const WRITTEN: [(&str, &str); 6] = [
    ("COLLECTOR_SOURCE_ID", "written-source"),
    ("COLLECTOR_HOST_ID", "written-host"),
    ("APP_INGEST_ENDPOINT", "written-ingest"),
    ("APP_AZCOLLECT_ENDPOINT", "written-azcollect"),
    ("O365_COLLECTOR_WEBHOOK__AUTH_ID", "written-secret-auth-id"),
    ("WEBSITE_RUN_FROM_PACKAGE", "written-package"),
];

/// A way to use the template.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) uses_secret: bool,
    pub(super) keeps_package: bool,
    pub(super) deployed: Deployed,
}

/// With a client secret; with the app's own identity for everything; with a Key Vault; and all of what is optional.
pub(super) fn scenarios(template: &Value) -> Vec<Scenario> {
    let secret = [
        (
            "App Client ID",
            json!("a261478c-84fb-42f9-84c2-de050a4babe3"),
        ),
        ("App Client Secret", json!("")),
        (
            "Service Principal ID",
            json!("1f6b2bd2-8d5f-4b9b-a5df-6d7ff5d9c2b5"),
        ),
        ("Alert Logic Secret Key", json!("")),
    ];
    let vault = "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/vaults/providers/Microsoft.KeyVault/vaults/kept";
    type Case = (&'static str, bool, Vec<(&'static str, Value)>);
    let cases: [Case; 5] = [
        ("a client secret", true, secret.to_vec()),
        (
            "the app's identity",
            false,
            vec![
                ("Alert Logic Secret Key", json!("")),
                ("Storage Managed Identity", json!(true)),
            ],
        ),
        (
            "a Key Vault",
            true,
            [
                &secret[..1],
                &secret[2..3],
                &[
                    (
                        "App Client Secret URI",
                        json!("https://kept.example.net/secrets/client"),
                    ),
                    (
                        "Alert Logic Secret Key URI",
                        json!("https://kept.example.net/secrets/key"),
                    ),
                    ("Key Vault ID", json!(vault)),
                ],
            ]
            .concat(),
        ),
        (
            "all that is optional",
            true,
            [
                &secret[..],
                &[
                    ("Package URL", json!("")),
                    ("Keep Installed Package", json!(false)),
                    (
                        "Update Manifest URL",
                        json!("https://releases.example.net/manifest.json"),
                    ),
                    (
                        "Update Public Key",
                        json!("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
                    ),
                    ("Cloud", json!("gcc")),
                    ("Collector Source ID", json!("given-source")),
                    ("Collector Host ID", json!("given-host")),
                    ("Master Schedule", json!("0 1,16,31,46 * * * *")),
                    ("Updater Schedule", json!("0 2 3,15 * * *")),
                    ("Plan SKU", json!("EP1")),
                    ("Application Insights Connection String", json!("")),
                ],
            ]
            .concat(),
        ),
        (
            "roles by somebody else",
            true,
            [&secret[..], &[("Assign Roles", json!(false))]].concat(),
        ),
    ];
    let case = |(name, uses_secret, given): Case| {
        let mut parameters: BTreeMap<String, Value> = BTreeMap::from([
            ("Name".to_owned(), json!("contoso-o365")),
            ("Storage Name".to_owned(), json!("contosoo365")),
            (
                "Alert Logic Access Key ID".to_owned(),
                json!("0123456789abcdef"),
            ),
        ]);
        for (name, value) in given {
            // Whatever is a secret today is given as one.
            let kind = &template["parameters"][name]["type"];
            let is_secret = kind == "securestring" || name.ends_with("Secret");
            let value = if is_secret {
                json!(format!("{SECRET} {name}"))
            } else {
                value
            };
            parameters.insert(name.to_owned(), value);
        }
        let keeps_package = parameters.get("Keep Installed Package") != Some(&json!(false));
        let existing: Map<String, Value> = WRITTEN
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .chain([("SOMEBODY_ELSES".to_owned(), json!("stays"))])
            .collect();
        let azure = Azure {
            resource_group: "collectors".to_owned(),
            existing,
        };
        Scenario {
            name,
            uses_secret,
            keeps_package,
            deployed: deploy(template, &parameters, &azure),
        }
    };
    cases.into_iter().map(case).collect()
}
