//! What must be true of the template. Each check takes it as data and gives every mistake it finds, so that a planted
//! mistake can show that the check sees it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::evaluate::Deployed;
use super::expression::{Expression, Text, each_text, kind_of, parse, walk};
use super::folder::finds_its_settings;
use super::functions::STORAGE_KEY;
use super::program::understands;
use super::scenarios::{SECRET, Scenario, WRITTEN, scenarios};
use super::settings::{APP_SETTINGS, ORIGINAL_PARAMETERS, SetBy, arm_actions};

/// Every check over every scenario.
pub(super) fn all(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(parameters_of_the_original(template));
    found.extend(unused(template));
    found.extend(versions(template));
    found.extend(secrets(template));
    let scenarios = scenarios(template);
    for scenario in &scenarios {
        let errors = scenario.deployed.errors.iter();
        found.extend(errors.map(|error| format!("{}: {error}", scenario.name)));
        found.extend(flags(&scenario.deployed));
        found.extend(leaks(&scenario.deployed));
        found.extend(schedules(&scenario.deployed));
        found.extend(rights(scenario));
        found.extend(dependencies(&scenario.deployed));
        found.extend(kept(scenario));
        found.extend(finds_its_settings(&scenario.deployed));
    }
    found.extend(always_left_out(&scenarios));
    found.extend(settings(&scenarios));
    found.extend(understands(&scenarios));
    found.sort();
    found.dedup();
    found
}

/// A user of the original finds the parameters he knows, first and in the same order.
fn parameters_of_the_original(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let empty = Map::new();
    let parameters = template["parameters"].as_object().unwrap_or(&empty);
    for (name, kind) in ORIGINAL_PARAMETERS {
        if parameters.get(name).is_none_or(|is| is["type"] != kind) {
            found.push(format!("parameter `{name}` of the original is no {kind}"));
        }
    }
    for (name, parameter) in parameters {
        let is_original = ORIGINAL_PARAMETERS.iter().any(|(known, _)| known == name);
        if !is_original && parameter.get("defaultValue").is_none() {
            found.push(format!("parameter `{name}` is new and has no default"));
        }
        if parameter["metadata"]["description"]
            .as_str()
            .is_none_or(|text| !text.ends_with('.'))
        {
            found.push(format!("parameter `{name}` is not described"));
        }
    }
    found
}

/// Parameters and variables that nothing uses, in the template and in those inside it.
fn unused(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, scope) in scopes(template) {
        let mut texts = Vec::new();
        let mut outside = scope.clone();
        hide_inner(&mut outside);
        each_text(&outside, "", &mut texts);
        let mut used = BTreeSet::new();
        for (_, text) in &texts {
            if let Text::Expression(inside) = kind_of(text)
                && let Ok(expression) = parse(inside)
            {
                walk(&expression, &mut |part| {
                    if let Expression::Call(name, arguments) = part
                        && let [Expression::Text(argument)] = arguments.as_slice()
                    {
                        used.insert((name.clone(), argument.clone()));
                    }
                });
            }
        }
        for section in ["parameters", "variables"] {
            for name in scope[section].as_object().into_iter().flat_map(Map::keys) {
                if !used.contains(&(section.to_owned(), name.clone())) {
                    found.push(format!("{path}{section}: nothing uses `{name}`"));
                }
            }
        }
    }
    found
}

/// The template, and every one inside it.
fn scopes(template: &Value) -> Vec<(String, Value)> {
    let mut all = vec![(String::new(), template.clone())];
    for resource in template["resources"].as_array().into_iter().flatten() {
        if let Some(inner) = resource["properties"].get("template") {
            let name = resource["name"].as_str().unwrap_or_default();
            all.push((format!("{name} "), inner.clone()));
        }
    }
    all
}

fn hide_inner(template: &mut Value) {
    for resource in template["resources"].as_array_mut().into_iter().flatten() {
        if let Some(properties) = resource["properties"].as_object_mut() {
            properties.remove("template");
        }
    }
}

/// API versions are dates, of this decade, and one for each provider; the same where a function names one.
fn versions(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_provider: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, scope) in scopes(template) {
        for resource in scope["resources"].as_array().into_iter().flatten() {
            let kind = resource["type"].as_str().unwrap_or_default();
            let version = resource["apiVersion"].as_str().unwrap_or_default();
            let provider = kind.split('/').next().unwrap_or_default();
            by_provider
                .entry(provider.to_owned())
                .or_default()
                .insert(version.to_owned());
        }
        let mut texts = Vec::new();
        each_text(&scope, "", &mut texts);
        for (path, text) in texts {
            if let Text::Expression(inside) = kind_of(&text)
                && let Ok(expression) = parse(inside)
            {
                walk(&expression, &mut |part| {
                    if let Expression::Call(name, arguments) = part
                        && matches!(name.as_str(), "reference" | "list" | "listKeys")
                    {
                        match (format!("{:?}", arguments.first()), arguments.get(1)) {
                            (of, Some(Expression::Text(version))) => {
                                let is_storage = of.contains("storageId");
                                let provider = if is_storage {
                                    "Microsoft.Storage"
                                } else {
                                    "Microsoft.Web"
                                };
                                by_provider
                                    .entry(provider.to_owned())
                                    .or_default()
                                    .insert(version.clone());
                            }
                            _ => found.push(format!("{path}: {name} names no version")),
                        }
                    }
                });
            }
        }
    }
    // What the program was written for.
    let spoken = azure::resource_manager::API_VERSION.to_owned();
    let web = by_provider.entry("Microsoft.Web".to_owned());
    web.or_default().insert(spoken);
    for (provider, versions) in by_provider {
        if versions.len() != 1 {
            found.push(format!("{provider} is spoken to in versions {versions:?}"));
        }
        for version in versions {
            let is_date = version.parse::<jiff::civil::Date>().is_ok();
            if !is_date || *version < *"2021" {
                found.push(format!("{provider}: `{version}` is no version of today"));
            }
        }
    }
    found
}

/// What is named as a secret is declared as one and has no text of its own.
fn secrets(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, scope) in scopes(template) {
        for (name, parameter) in scope["parameters"].as_object().into_iter().flatten() {
            let kind = parameter["type"].as_str().unwrap_or_default();
            let sounds_secret = ["Secret", "Secret Key", "Connection String", "Password"]
                .iter()
                .any(|end| name.ends_with(end));
            if sounds_secret && kind != "securestring" {
                found.push(format!("{path}parameter `{name}` is a plain {kind}"));
            }
            let default = parameter.get("defaultValue");
            if kind.starts_with("secure") && default.is_some_and(|is| is != "") {
                found.push(format!("{path}parameter `{name}` brings a secret along"));
            }
        }
    }
    found
}

/// A secret goes into the settings of the app, through secure parameters, and nowhere else.
fn leaks(deployed: &Deployed) -> Vec<String> {
    let mut found = Vec::new();
    let mut search = |place: String, value: &Value| {
        let text = value.to_string();
        if text.contains(SECRET) || text.contains(STORAGE_KEY) || text.contains("written-secret") {
            found.push(format!("a secret is readable in {place}"));
        }
    };
    search("the outputs".to_owned(), &deployed.outputs);
    for handed in &deployed.readable {
        search("a nested deployment's parameters".to_owned(), handed);
    }
    for resource in &deployed.resources {
        if resource["type"] != "Microsoft.Web/sites/config" {
            search(resource["type"].to_string(), resource);
        }
    }
    found
}

/// What Azure leaves open unless it is told otherwise.
fn flags(deployed: &Deployed) -> Vec<String> {
    let wanted = [
        (
            "Microsoft.Storage/storageAccounts",
            "/properties/allowBlobPublicAccess",
            json!(false),
        ),
        (
            "Microsoft.Storage/storageAccounts",
            "/properties/allowCrossTenantReplication",
            json!(false),
        ),
        (
            "Microsoft.Storage/storageAccounts",
            "/properties/minimumTlsVersion",
            json!("TLS1_2"),
        ),
        (
            "Microsoft.Storage/storageAccounts",
            "/properties/supportsHttpsTrafficOnly",
            json!(true),
        ),
        (
            "Microsoft.Storage/storageAccounts/blobServices/containers",
            "/properties/publicAccess",
            json!("None"),
        ),
        ("Microsoft.Web/sites", "/properties/httpsOnly", json!(true)),
        ("Microsoft.Web/sites", "/kind", json!("functionapp,linux")),
        (
            "Microsoft.Web/sites",
            "/identity/type",
            json!("SystemAssigned"),
        ),
        (
            "Microsoft.Web/sites",
            "/properties/siteConfig/minTlsVersion",
            json!("1.2"),
        ),
        (
            "Microsoft.Web/sites",
            "/properties/siteConfig/scmMinTlsVersion",
            json!("1.2"),
        ),
        (
            "Microsoft.Web/sites",
            "/properties/siteConfig/ftpsState",
            json!("Disabled"),
        ),
        (
            "Microsoft.Web/serverfarms",
            "/properties/reserved",
            json!(true),
        ),
    ];
    let mut found = Vec::new();
    for (kind, path, value) in wanted {
        let resources = deployed.find(kind, "");
        if resources.len() != 1 {
            found.push(format!("{} resources of type {kind}", resources.len()));
        }
        for resource in resources {
            if resource.pointer(path) != Some(&value) {
                found.push(format!("{kind}: {path} is not {value}"));
            }
        }
    }
    // App settings in the site itself would replace what Master and Updater wrote, whatever comes after.
    for site in deployed.find("Microsoft.Web/sites", "") {
        if site.pointer("/properties/siteConfig/appSettings").is_some() {
            found.push("the site itself has app settings: they replace those there are".to_owned());
        }
    }
    found
}

/// What the host makes of a schedule: six fields, the four or two times a round apart.
fn schedules(deployed: &Deployed) -> Vec<String> {
    let mut found = Vec::new();
    let settings = app_settings(deployed);
    let numbers = |text: &str, most: u32| {
        let parts: Option<Vec<u32>> = text.split(',').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.iter().all(|part| *part < most))
    };
    for (name, field, most, apart, count) in [
        ("MASTER_SCHEDULE", 1, 60, 15, 4),
        ("UPDATER_SCHEDULE", 2, 24, 12, 2),
    ] {
        let text = settings.get(name).and_then(Value::as_str);
        let fields: Vec<_> = text.unwrap_or_default().split(' ').collect();
        let times = fields.get(field).and_then(|text| numbers(text, most));
        let is_even = times.is_some_and(|times| {
            times.len() == count && times.windows(2).all(|pair| pair[1] == pair[0] + apart)
        });
        let is_plain = fields.len() == 6
            && fields[..field]
                .iter()
                .all(|text| numbers(text, 60).is_some_and(|one| one.len() == 1))
            && fields[field + 1..].iter().all(|text| *text == "*");
        if !is_even || !is_plain {
            found.push(format!("{name} is {text:?}"));
        }
    }
    found
}

/// The role allows what the program asks Azure Resource Manager for, no more and no less, on this app alone, and whoever
/// asks has it.
fn rights(scenario: &Scenario) -> Vec<String> {
    let deployed = &scenario.deployed;
    let mut found = Vec::new();
    if scenario.name == "roles by somebody else" {
        let made = deployed
            .resources
            .iter()
            .filter(|is| is["type"].to_string().contains("Authorization"));
        found.extend(made.map(|role| format!("made against the wish: {role}")));
        return found;
    }
    let roles = deployed.find("Microsoft.Authorization/roleDefinitions", "");
    let allowed: BTreeSet<&str> = roles
        .iter()
        .flat_map(|role| {
            let actions = role.pointer("/properties/permissions/0/actions");
            actions.and_then(Value::as_array).into_iter().flatten()
        })
        .filter_map(Value::as_str)
        .collect();
    let needed = arm_actions();
    for action in allowed.difference(&needed) {
        found.push(format!(
            "the role allows {action}, which the program does not do"
        ));
    }
    for action in needed.difference(&allowed) {
        found.push(format!(
            "the role does not allow {action}, which the program does"
        ));
    }
    let own = deployed
        .find("Microsoft.Authorization/roleAssignments", "")
        .into_iter()
        .filter(|is| is["scope"] == "Microsoft.Web/sites/contoso-o365");
    let principal = if scenario.uses_secret {
        "1f6b2bd2-8d5f-4b9b-a5df-6d7ff5d9c2b5"
    } else {
        super::functions::PRINCIPAL
    };
    let right = own
        .filter(|is| is.pointer("/properties/principalId") == Some(&json!(principal)))
        .count();
    if right != 1 {
        found.push(format!(
            "{}: {right} roles on the app for who asks",
            scenario.name
        ));
    }
    for assignment in deployed.find("Microsoft.Authorization/roleAssignments", "") {
        if assignment["scope"].as_str().is_none_or(str::is_empty) {
            found.push(format!("a role for the whole group: {assignment}"));
        }
    }
    found
}

/// What a resource waits for must be in the template, or Azure refuses all of it.
fn dependencies(deployed: &Deployed) -> Vec<String> {
    let mut found = Vec::new();
    for resource in &deployed.resources {
        for wanted in resource["dependsOn"].as_array().into_iter().flatten() {
            let wanted = wanted.as_str().unwrap_or_default();
            let is_there = deployed.resources.iter().any(|other| {
                let name = other["name"].as_str().unwrap_or_default();
                let kind = other["type"].as_str().unwrap_or_default();
                let provider = kind.split('/').next().unwrap_or_default();
                let last = name.rsplit('/').next().unwrap_or_default();
                wanted.contains(&format!("/providers/{provider}/"))
                    && wanted.ends_with(&format!("/{last}"))
            });
            // A role that a condition leaves out is not waited for.
            if !is_there && !wanted.contains("Microsoft.Authorization/") {
                found.push(format!("{} waits for {wanted}", resource["name"]));
            }
        }
    }
    found
}

/// A second deployment keeps what Master and Updater wrote, and what somebody else did.
fn kept(scenario: &Scenario) -> Vec<String> {
    let mut found = Vec::new();
    let settings = app_settings(&scenario.deployed);
    let is_given = scenario.name == "all that is optional";
    for (name, value) in WRITTEN.into_iter().chain([("SOMEBODY_ELSES", "stays")]) {
        let is_replaced = match name {
            "WEBSITE_RUN_FROM_PACKAGE" => !scenario.keeps_package,
            "COLLECTOR_SOURCE_ID" | "COLLECTOR_HOST_ID" => is_given,
            _ => false,
        };
        let is_kept = settings.get(name) == Some(&json!(value));
        if is_kept == is_replaced {
            found.push(format!("{}: {name} kept: {is_kept}", scenario.name));
        }
    }
    found
}

/// A resource that no scenario deploys has properties that no test resolved.
fn always_left_out(scenarios: &[Scenario]) -> Vec<String> {
    let mut by_all: Option<BTreeSet<&String>> = None;
    for scenario in scenarios {
        let left_out: BTreeSet<&String> = scenario.deployed.left_out.iter().collect();
        by_all = Some(match by_all {
            Some(others) => others.intersection(&left_out).copied().collect(),
            None => left_out,
        });
    }
    let paths = by_all.unwrap_or_default().into_iter();
    paths
        .map(|path| format!("{path} is never deployed"))
        .collect()
}

/// Everything that is set is read, and everything that is read is set, or it is known by whom else.
fn settings(scenarios: &[Scenario]) -> Vec<String> {
    let mut found = Vec::new();
    let mut set = BTreeSet::new();
    for scenario in scenarios {
        let existing = |name: &String| {
            WRITTEN.iter().any(|(written, _)| written == name) || name == "SOMEBODY_ELSES"
        };
        let settings = app_settings(&scenario.deployed);
        set.extend(
            settings
                .iter()
                .filter(|(name, value)| {
                    !existing(name) || !value.as_str().is_some_and(|is| is.starts_with("written"))
                })
                .map(|(name, _)| name.clone())
                .filter(|name| name != "SOMEBODY_ELSES"),
        );
        for strings in scenario
            .deployed
            .find("Microsoft.Web/sites/config", "/connectionstrings")
        {
            for (name, entry) in strings["properties"].as_object().into_iter().flatten() {
                set.insert(format!("CUSTOMCONNSTR_{name}"));
                if entry["type"] != "Custom" || entry["value"].as_str().is_none_or(str::is_empty) {
                    found.push(format!("connection string {name} is {entry}"));
                }
            }
        }
        for (name, value) in &settings {
            if value.as_str().is_none_or(str::is_empty) {
                found.push(format!("app setting {name} is {value}"));
            }
        }
    }
    let by = |name: &str| APP_SETTINGS.iter().find(|(known, ..)| *known == name);
    for name in &set {
        match by(name) {
            None => found.push(format!("nobody reads the app setting {name}")),
            Some((_, SetBy::Template | SetBy::TemplateOrItself, _)) => {}
            Some((_, other, _)) => found.push(format!("{name} is set here, and by {other:?}")),
        }
    }
    for (name, set_by, _) in APP_SETTINGS {
        let is_ours = matches!(set_by, SetBy::Template | SetBy::TemplateOrItself);
        if is_ours && !set.contains(*name) {
            found.push(format!("the app setting {name} is read and not set"));
        }
    }
    found
}

/// The app settings that the function app ends up with.
pub(super) fn app_settings(deployed: &Deployed) -> Map<String, Value> {
    let config = deployed.find("Microsoft.Web/sites/config", "/appsettings");
    let settings = config.first().and_then(|is| is["properties"].as_object());
    settings.cloned().unwrap_or_default()
}
