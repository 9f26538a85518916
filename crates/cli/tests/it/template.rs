//! The ARM template `deploy/azure/template.json`, held against what the program reads and does. Azure itself is not
//! here to try it on: the expressions are resolved by a small evaluator of the functions that the template uses.

mod checks;
mod evaluate;
mod expression;
mod folder;
mod functions;
mod program;
mod scenarios;
mod settings;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use self::checks::{all, app_settings};
use self::functions::unique;
use self::scenarios::scenarios;

fn template() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/azure/template.json"
    );
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_template_resolves_and_agrees_with_the_program() {
    let found = all(&template());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_parameters_of_the_original_come_first_and_in_its_order() {
    // Read as text: the order of an object's members is no part of its value.
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/azure/template.json"
    );
    let text = fs::read_to_string(path).unwrap();
    let parameters = text.split("\"variables\": {").next().unwrap();
    let names: Vec<&str> = parameters
        .lines()
        .filter_map(|line| line.strip_prefix("    \"")?.strip_suffix("\": {"))
        .collect();
    let original: Vec<&str> = settings::ORIGINAL_PARAMETERS
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(names[..original.len()], original[..]);
}

#[test]
fn apps_do_not_check_in_at_once() {
    let mut schedules = BTreeSet::new();
    for n in 0..100 {
        let mut template = template();
        template["variables"]["seed"] = json!(unique(&format!("app {n}")));
        let scenarios = scenarios(&template);
        let deployed = &scenarios[0].deployed;
        assert!(deployed.errors.is_empty(), "{:?}", deployed.errors);
        let settings = app_settings(deployed);
        schedules.insert(settings["MASTER_SCHEDULE"].as_str().unwrap().to_owned());
    }
    assert!(schedules.len() > 80, "only {} of 100", schedules.len());
}

#[test]
fn the_example_of_parameters_fits_the_template_and_holds_no_secret() {
    let template = template();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/azure/parameters.json"
    );
    let example: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for (name, parameter) in example["parameters"].as_object().unwrap() {
        let declared = &template["parameters"][name];
        assert!(declared.is_object(), "{name} is no parameter");
        assert_ne!(declared["type"], "securestring", "{name} is a secret");
        assert!(parameter.get("value").is_some(), "{name} has no value");
    }
    for (name, parameter) in template["parameters"].as_object().unwrap() {
        let is_given = example["parameters"].get(name).is_some();
        assert!(
            is_given || parameter.get("defaultValue").is_some(),
            "{name} must be given"
        );
    }
}

#[test]
fn the_docs_name_every_right_that_the_role_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/azure.md");
    let docs = fs::read_to_string(path).unwrap();
    for action in settings::arm_actions() {
        assert!(docs.contains(&format!("`{action}`")), "{action}");
    }
}

#[test]
fn the_docs_name_every_function() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/azure.md");
    let docs = fs::read_to_string(path).unwrap();
    let listed = docs.split("function list").nth(1).unwrap();
    let listed = listed.split('#').nth(1).unwrap().lines().next().unwrap();
    let listed: BTreeSet<String> = listed.split_whitespace().map(str::to_owned).collect();
    assert_eq!(listed, folder::functions());
}

#[test]
fn the_docs_name_no_parameter_that_there_is_not() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/azure.md");
    let docs = fs::read_to_string(path).unwrap().replace('\n', " ");
    let template = template();
    let parameters = template["parameters"].as_object().unwrap();
    // Written as code, of several words with capitals, as the parameters are.
    let code = docs.split('`').skip(1).step_by(2);
    let is_like_one = |text: &&str| {
        let words: Vec<_> = text.split(' ').collect();
        words.len() > 1
            && words
                .iter()
                .all(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let named: BTreeSet<&str> = code.filter(is_like_one).collect();
    assert!(named.len() > 10, "{named:?}");
    let unknown: Vec<_> = named
        .iter()
        .filter(|name| !parameters.contains_key(**name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// A mistake, and what is said of it.
type Planted = (&'static str, fn(&mut Value), &'static str);

/// Where the nested deployment of the settings stands in the template.
fn settings_of(template: &mut Value) -> &mut Value {
    let resources = template["resources"].as_array_mut().unwrap();
    let last = resources.last_mut().unwrap();
    &mut last["properties"]["parameters"]["settings"]["value"]
}

fn resource_of<'a>(template: &'a mut Value, kind: &str) -> &'a mut Value {
    let resources = template["resources"].as_array_mut().unwrap();
    let mut wanted = resources.iter_mut().filter(|is| is["type"] == kind);
    wanted.next().unwrap()
}

fn replace(template: &mut Value, from: &str, to: &str) {
    let text = template.to_string();
    assert!(text.contains(from), "{from}");
    *template = serde_json::from_str(&text.replace(from, to)).unwrap();
}

const PLANTED: [Planted; 26] = [
    (
        "a setting is missing",
        |template| {
            settings_of(template)
                .as_object_mut()
                .unwrap()
                .remove("O365_CONTENT_STREAMS");
        },
        "the app setting O365_CONTENT_STREAMS is read and not set",
    ),
    (
        "a schedule under another name",
        |template| replace(template, r#""MASTER_SCHEDULE""#, r#""MASTERS_SCHEDULE""#),
        "Master takes %MASTER_SCHEDULE%, which is not set",
    ),
    (
        "a time limit that is not the host's",
        |template| {
            settings_of(template)["AzureFunctionsJobHost__functionTimeout"] = json!("00:05:00")
        },
        "AzureFunctionsJobHost__functionTimeout is not what host.json has",
    ),
    (
        "a setting that nobody reads",
        |template| settings_of(template)["APP_TENNANT_ID"] = json!("x"),
        "nobody reads the app setting APP_TENNANT_ID",
    ),
    (
        "a setting that Master owns",
        |template| settings_of(template)["APP_INGEST_ENDPOINT"] = json!("x"),
        "APP_INGEST_ENDPOINT is set here, and by Itself",
    ),
    (
        "a connection string is missing",
        |template| replace(template, "'APP_AL_RESIDENCY'", "'APP_AL_RESIDENCE'"),
        "the app setting CUSTOMCONNSTR_APP_AL_RESIDENCY is read and not set",
    ),
    (
        "an unused parameter",
        |template| template["parameters"]["Odd"] = json!({ "type": "string", "defaultValue": "" }),
        "parameters: nothing uses `Odd`",
    ),
    (
        "an unused variable",
        |template| template["variables"]["odd"] = json!("x"),
        "variables: nothing uses `odd`",
    ),
    (
        "an unknown function",
        |template| {
            replace(
                template,
                "[concat(parameters('Name')",
                "[join(parameters('Name')",
            )
        },
        "there is no function join",
    ),
    (
        "a misspelled variable",
        |template| replace(template, "variables('planName')", "variables('plaName')"),
        "there is no variable `plaName`",
    ),
    (
        "a misspelled parameter",
        |template| replace(template, "parameters('Cloud')", "parameters('cloud')"),
        "there is no parameter `cloud`",
    ),
    (
        "a missing parenthesis",
        |template| {
            replace(
                template,
                "[uniqueString(resourceGroup().id",
                "[uniqueString(resourceGroup(.id",
            )
        },
        "variables/seed",
    ),
    (
        "an output with a secret",
        |template| {
            template["outputs"]["key"] = json!({
                "type": "string",
                "value": "[listKeys(variables('storageId'), '2023-05-01').keys[0].value]",
            });
        },
        "a secret is readable in the outputs",
    ),
    (
        "a secret in plain text",
        |template| template["parameters"]["App Client Secret"]["type"] = json!("string"),
        "parameter `App Client Secret` is a plain string",
    ),
    (
        "a secret with a default",
        |template| template["parameters"]["App Client Secret"]["defaultValue"] = json!("x"),
        "parameter `App Client Secret` brings a secret along",
    ),
    (
        "a secret that passes through a plain object",
        |template| {
            replace(
                template,
                r#""optional":{"type":"secureObject"}"#,
                r#""optional":{"type":"object"}"#,
            )
        },
        "a secret is readable in a nested deployment's parameters",
    ),
    (
        "settings evaluated outside",
        |template| replace(template, r#""scope":"inner""#, r#""scope":"outer""#),
        "is not evaluated in its own scope",
    ),
    (
        "plain http",
        |template| {
            resource_of(template, "Microsoft.Web/sites")["properties"]["httpsOnly"] = json!(false)
        },
        "/properties/httpsOnly is not true",
    ),
    (
        "public blobs",
        |template| {
            let account = resource_of(template, "Microsoft.Storage/storageAccounts");
            account["properties"]["allowBlobPublicAccess"] = json!(true);
        },
        "/properties/allowBlobPublicAccess is not false",
    ),
    (
        "app settings in the site",
        |template| {
            let site = resource_of(template, "Microsoft.Web/sites");
            site["properties"]["siteConfig"]["appSettings"] = json!([]);
        },
        "the site itself has app settings",
    ),
    (
        "what Master wrote is dropped",
        |template| {
            replace(
                template,
                "parameters('existing'), parameters('settings')",
                "parameters('settings')",
            )
        },
        "APP_INGEST_ENDPOINT kept: false",
    ),
    (
        "a right too many",
        |template| {
            let role = resource_of(template, "Microsoft.Authorization/roleDefinitions");
            role["properties"]["permissions"][0]["actions"]
                .as_array_mut()
                .unwrap()
                .push(json!("Microsoft.Web/sites/*"));
        },
        "the role allows Microsoft.Web/sites/*",
    ),
    (
        "a right too few",
        |template| {
            let role = resource_of(template, "Microsoft.Authorization/roleDefinitions");
            role["properties"]["permissions"][0]["actions"]
                .as_array_mut()
                .unwrap()
                .remove(0);
        },
        "the role does not allow Microsoft.Web/sites/read",
    ),
    (
        "a role for the whole group",
        |template| {
            resource_of(template, "Microsoft.Authorization/roleAssignments")
                .as_object_mut()
                .unwrap()
                .remove("scope");
        },
        "a role for the whole group",
    ),
    (
        "two versions of one API",
        |template| {
            resource_of(template, "Microsoft.Web/sites")["apiVersion"] = json!("2022-03-01");
        },
        "Microsoft.Web is spoken to in versions",
    ),
    (
        "a schedule of a full minute for all",
        |template| settings_of(template)["MASTER_SCHEDULE"] = json!("0 */15 * * * *"),
        "MASTER_SCHEDULE is Some(\"0 */15 * * * *\")",
    ),
];

#[test]
fn each_planted_mistake_is_found() {
    for (what, plant, wanted) in PLANTED {
        let mut template = template();
        plant(&mut template);
        let found = all(&template);
        assert!(
            found.iter().any(|found| found.contains(wanted)),
            "{what}: {wanted:?} is not in\n{}",
            found.join("\n")
        );
    }
}
