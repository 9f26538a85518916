//! What the control plane sends, held against the libraries that the original collector is built on. Both are pointed at
//! a simulator of their own that has never seen a collector before; what arrives must be the same, but for a list of
//! differences that are meant. The list stands in the docs, with the reasons.

mod differences;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use self::differences::{Exchange, differences, path, rows, speaks_of, spelled_out};
use crate::support::{Simulation, describe, program};

const CONTENT_TYPES: [&str; 2] = ["Audit.Exchange", "Audit.General"];
/// The simulated function app.
const SUBSCRIPTION: &str = "8ce6a1f5-3b0e-4a0f-9d6c-0d9a2f6f4b11";
const GROUP: &str = "collectors";
const SITE: &str = "o365-collector-app";

/// The order of the original's first run. Its libraries give a part of it, which the test holds this against; the rest is
/// what the whole of the original was seen to send.
const ORIGINALS_ORDER: [&str; 13] = [
    "authenticate",
    "endpoints azcollect",
    "endpoints ingest",
    "token resource manager",
    "list_settings",
    "put_settings endpoints",
    "register",
    "put_settings ids",
    "site",
    "token activity",
    "list",
    "start",
    "check_in",
];

#[test]
#[ignore = "needs npm"]
fn the_control_plane_sends_what_the_originals_libraries_send_but_for_the_differences_in_the_docs() {
    let (theirs, their_tenant) = originals();
    let their_order = order(&theirs);
    let is_seen_only = |request: &&str| matches!(*request, "token activity" | "list" | "start");
    let their_part: Vec<&str> = ORIGINALS_ORDER
        .into_iter()
        .filter(|request| !is_seen_only(request))
        .chain(["deregister"])
        .collect();
    // The two endpoints are asked for at once.
    let sorted = |order: &[String]| -> Vec<String> {
        let mut order = order.to_vec();
        order[1..3].sort();
        order
    };
    assert_eq!(sorted(&their_order), their_part);

    let webhook = Webhook::start();
    let ours = ours(&webhook);
    let mut found: BTreeSet<String> = moved(&ORIGINALS_ORDER, &order(&ours))
        .into_iter()
        .map(|request| format!("{request}: at another time"))
        .collect();
    let mut theirs = by_request(&theirs);
    for exchange in seen(&their_tenant, &webhook.address) {
        theirs.insert(name_of(&exchange), exchange);
    }
    let ours = by_request(&ours);
    for (request, their_exchange) in &theirs {
        match ours.get(request) {
            Some(our_exchange) => found.extend(differences(request, their_exchange, our_exchange)),
            None => {
                found.insert(format!("{request}: is not sent"));
            }
        }
    }
    for request in ours.keys().filter(|request| !theirs.contains_key(*request)) {
        found.insert(format!("{request}: the original does not send it"));
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/azure.md");
    let rows = rows(&fs::read_to_string(page).unwrap());
    let not_meant: Vec<_> = found
        .iter()
        .filter(|found| !rows.iter().any(|(row, _)| speaks_of(row, found)))
        .collect();
    let not_found: Vec<_> = rows
        .iter()
        .flat_map(|(row, _)| spelled_out(row))
        .filter(|meant| !found.contains(meant))
        .collect();
    assert!(
        not_meant.is_empty() && not_found.is_empty(),
        "not in the docs: {not_meant:#?}\nin the docs and not there: {not_found:#?}"
    );
    for (row, reason) in &rows {
        assert!(found.iter().any(|found| speaks_of(row, found)), "{row}");
        assert!(reason.len() > 10, "{row} has no reason");
    }
}

#[test]
fn a_row_of_the_docs_speaks_of_what_it_names() {
    let row = "site, put_settings ids: query, header accept";
    assert!(speaks_of(row, "put_settings ids: query"));
    assert!(speaks_of("*: header accept", "site: header accept"));
    assert!(!speaks_of(row, "register: query"));
    assert!(!speaks_of(row, "site: header accept-language"));
    assert_eq!(spelled_out(row).len(), 4);
    assert_eq!(spelled_out("*: header accept"), [""; 0]);
}

#[test]
fn what_comes_at_another_time_is_seen() {
    let ours = ["a", "d", "b", "x", "c"].map(str::to_owned);
    assert_eq!(moved(&["a", "b", "c", "d"], &ours), ["d"]);
}

#[test]
fn a_request_that_differs_is_seen_to() {
    let exchange = |change: fn(&mut Value)| {
        let mut exchange = json!({
            "kind": "register",
            "method": "POST",
            "target": "/azcollect/v1/1/azure/o365/s/g/a?x=1",
            "headers": [["host", "here"], ["accept", "application/json"]],
            "body": { "version": "1.4.0", "config": { "content_streams": ["a", "b"] } },
        });
        change(&mut exchange);
        exchange
    };
    let seen = |change| differences("register", &exchange(|_| {}), &exchange(change));
    assert_eq!(seen(|_| {}), Vec::<String>::new());
    assert_eq!(seen(|is| is["headers"][0][1] = json!("there")), [""; 0]);
    type Case = (fn(&mut Value), &'static str);
    let cases: [Case; 7] = [
        (|is| is["method"] = json!("PUT"), "register: method"),
        (
            |is| is["target"] = json!("/azcollect?x=1"),
            "register: path",
        ),
        (
            |is| is["target"] = json!("/azcollect/v1/1/azure/o365/s/g/a?x=2"),
            "register: query",
        ),
        (
            |is| is["headers"][1][1] = json!("*/*"),
            "register: header accept",
        ),
        (
            |is| is["body"]["version"] = json!("0.1.0"),
            "register: body.version",
        ),
        (
            |is| is["body"]["config"]["content_streams"] = json!(["b", "a"]),
            "register: body.config.content_streams",
        ),
        (|is| is["body"]["more"] = json!(1), "register: body.more"),
    ];
    for (change, wanted) in cases {
        assert_eq!(seen(change), [wanted]);
    }
}

/// What a request asks for, and for what of several: the name that the docs have for it.
fn name_of(exchange: &Exchange) -> String {
    let kind = exchange["kind"].as_str().unwrap();
    let detail = match kind {
        // One for each service, and one after each of the two things that are remembered.
        "endpoints" => path(exchange).rsplit('/').nth(1).unwrap(),
        "put_settings" => {
            let settings = &exchange["body"]["properties"];
            match settings.get("COLLECTOR_SOURCE_ID") {
                Some(_) => "ids",
                None => "endpoints",
            }
        }
        "token" if exchange["for_resource_manager"] == true => "resource manager",
        "token" => "activity",
        _ => "",
    };
    format!("{kind} {detail}").trim().to_owned()
}

/// The first request of each name: a second is the same again.
fn by_request(exchanges: &[Exchange]) -> BTreeMap<String, Exchange> {
    let mut first = BTreeMap::new();
    for exchange in exchanges {
        first
            .entry(name_of(exchange))
            .or_insert_with(|| exchange.clone());
    }
    first
}

/// The names in the order in which each first came.
fn order(exchanges: &[Exchange]) -> Vec<String> {
    let mut names = Vec::new();
    for name in exchanges.iter().map(name_of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What must be taken out of both, so that the rest of what both have comes in the same order: as few as can be.
fn moved(theirs: &[&str], ours: &[String]) -> Vec<String> {
    let theirs: Vec<&str> = theirs
        .iter()
        .copied()
        .filter(|name| ours.iter().any(|other| other == name))
        .collect();
    let ours: Vec<&str> = ours
        .iter()
        .map(String::as_str)
        .filter(|name| theirs.contains(name))
        .collect();
    let kept = longest_common(&theirs, &ours);
    let is_moved = |name: &&&str| !kept.contains(*name);
    theirs
        .iter()
        .filter(is_moved)
        .map(|name| (*name).to_owned())
        .collect()
}

fn longest_common<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    match (a, b) {
        ([first, rest @ ..], [other, others @ ..]) if first == other => {
            let mut kept = vec![*first];
            kept.extend(longest_common(rest, others));
            kept
        }
        ([_, rest @ ..], [_, others @ ..]) => {
            let (left, right) = (longest_common(rest, b), longest_common(a, others));
            if left.len() >= right.len() {
                left
            } else {
                right
            }
        }
        _ => Vec::new(),
    }
}

/// What the whole of the original was seen to send to Microsoft, which its libraries alone do not. Only the headers that
/// were noted are compared.
fn seen(tenant: &str, webhook: &str) -> [Exchange; 3] {
    let feed = format!("/api/v1.0/{tenant}/activity/feed/subscriptions");
    let headers = json!([
        ["authorization", "<bearer: activity>"],
        ["accept-language", "en-US"],
    ]);
    let query = format!("PublisherIdentifier={tenant}");
    [
        json!({
            "kind": "list", "method": "GET", "target": format!("{feed}/list?{query}"),
            "headers": headers, "noted": ["authorization", "accept-language"], "body": null,
        }),
        json!({
            "kind": "start", "method": "POST",
            "target": format!("{feed}/start?contentType={}&{query}", CONTENT_TYPES[0]),
            "headers": headers, "noted": ["authorization", "accept-language"],
            "body": { "webhook": { "address": webhook, "expiration": "" } },
        }),
        json!({
            "kind": "token", "method": "POST",
            "target": format!("/{tenant}/oauth2/token?api-version=1.0"),
            "headers": [["content-type", "application/x-www-form-urlencoded"]], "noted": ["content-type"],
            "body": form(&[
                ("grant_type", "client_credentials"),
                ("client_id", "*"),
                ("resource", "https://manage.office.com"),
                ("client_secret", "*"),
            ]),
        }),
    ]
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs).finish()
}

/// Where Microsoft would post notifications: answers 200 to everything.
struct Webhook {
    address: String,
}

impl Webhook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/api/o365/webhook", listener.local_addr().unwrap());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 4096];
                drop(stream.read(&mut head));
                drop(stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                ));
            }
        });
        Self { address }
    }
}

/// What the original's libraries sent, and for which tenant.
fn originals() -> (Vec<Exchange>, String) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the packages over this way"
    )]
    let modules = std::env::var("O365_TEST_ORIGINAL_NODE_MODULES")
        .expect("O365_TEST_ORIGINAL_NODE_MODULES names a folder");
    let simulation = Simulation::start(&["--records", "10"]);
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    let place = |name: &str| {
        simulation
            .configured(name)
            .trim_start_matches("https://")
            .to_owned()
    };
    let api = place("api");
    let drive = json!({
        "alertlogic": api,
        "login": place("login"),
        "resourceManager": place("resource_manager"),
        "contentStreams": CONTENT_TYPES,
        "folder": folder.path(),
        "env": {
            "APP_TENANT_ID": simulation.configured("id"),
            "APP_SUBSCRIPTION_ID": SUBSCRIPTION,
            "APP_RESOURCE_GROUP": GROUP,
            "WEBSITE_SITE_NAME": SITE,
            "CUSTOMCONNSTR_APP_CLIENT_ID": simulation.configured("client_id"),
            "CUSTOMCONNSTR_APP_CLIENT_SECRET": simulation.configured("client_secret"),
            "CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID": simulation.configured("access_key_id"),
            "CUSTOMCONNSTR_APP_AL_SECRET_KEY": simulation.configured("secret_key"),
            "CUSTOMCONNSTR_APP_AL_API_ENDPOINT": api,
            "CUSTOMCONNSTR_APP_AL_RESIDENCY": "default",
        },
    });
    fs::write(&settings, drive.to_string()).unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vendor/original/drive.cjs"
    );
    let output = Command::new("node")
        .arg("--no-deprecation")
        .arg(script)
        .arg(Path::new(&modules).parent().unwrap())
        .arg(&settings)
        .env("NODE_EXTRA_CA_CERTS", simulation.dir.path().join("ca.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    (transcript(&simulation), simulation.configured("id"))
}

/// What a simulation saw, with a mark on the tokens for Resource Manager: each says so in its own way.
fn transcript(simulation: &Simulation) -> Vec<Exchange> {
    let mut exchanges = simulation.ask("transcript").as_array().unwrap().clone();
    let origin = simulation.configured("resource_manager");
    let origin: String = url::form_urlencoded::byte_serialize(origin.as_bytes()).collect();
    let secret = simulation.configured("client_secret");
    let alertlogic = simulation.configured("api");
    let alertlogic = alertlogic.trim_start_matches("https://");
    for exchange in &mut exchanges {
        let body = exchange["body"].to_string();
        exchange["for_resource_manager"] =
            json!(body.contains("management.core.windows.net") || body.contains(&origin));
        // Ports differ from one simulation to the other.
        let body = body.replace(alertlogic, "alertlogic.example.net");
        exchange["body"] = serde_json::from_str(&body).unwrap();
        // In a form the secret may be encoded in more ways than the simulator looks for.
        if let Value::String(form) = &exchange["body"] {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in url::form_urlencoded::parse(form.as_bytes()) {
                let is_secret = value == secret.as_str();
                pairs.append_pair(&name, if is_secret { "<client secret>" } else { &value });
            }
            exchange["body"] = json!(pairs.finish());
        }
    }
    exchanges
}

/// What ours sent: one run of Master, from the same app settings.
fn ours(webhook: &Webhook) -> Vec<Exchange> {
    let simulation = Simulation::start(&["--records", "10"]);
    let place = |name: &str| simulation.configured(name);
    let settings = [
        ("APP_TENANT_ID", place("id")),
        ("APP_SUBSCRIPTION_ID", SUBSCRIPTION.to_owned()),
        ("APP_RESOURCE_GROUP", GROUP.to_owned()),
        ("WEBSITE_SITE_NAME", SITE.to_owned()),
        ("WEBSITE_HOSTNAME", format!("{SITE}.azurewebsites.net")),
        ("O365_CONTENT_STREAMS", json!(CONTENT_TYPES).to_string()),
        ("CUSTOMCONNSTR_APP_CLIENT_ID", place("client_id")),
        ("CUSTOMCONNSTR_APP_CLIENT_SECRET", place("client_secret")),
        ("CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID", place("access_key_id")),
        ("CUSTOMCONNSTR_APP_AL_SECRET_KEY", place("secret_key")),
        ("CUSTOMCONNSTR_APP_AL_API_ENDPOINT", place("api")),
        ("CUSTOMCONNSTR_APP_AL_RESIDENCY", "default".to_owned()),
        // What is at another place here than in Azure.
        ("O365_COLLECTOR_LEDGER__URL", place("url")),
        ("O365_COLLECTOR_MICROSOFT__LOGIN", place("login")),
        ("O365_COLLECTOR_MICROSOFT__ACTIVITY", place("activity")),
        (
            "O365_COLLECTOR_MICROSOFT__RESOURCE_MANAGER",
            place("resource_manager"),
        ),
        ("O365_COLLECTOR_TLS__CA_FILE", place("ca_file")),
        (
            "O365_COLLECTOR_WEBHOOK__PUBLIC_URL",
            webhook.address.clone(),
        ),
        ("O365_COLLECTOR_WEBHOOK__AUTH_ID", "an-auth-id".to_owned()),
    ];
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = program();
    let output = command
        .arg("master")
        // Not beside the simulation's own configuration.
        .current_dir(elsewhere.path())
        .envs(settings)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", describe(&output));

    // Deregistration is by hand, from a configuration that names the same function app and the same ledger.
    simulation.edit_config(|text| {
        let place = format!(
            "type = \"alertlogic\"\nsubscription_id = \"{SUBSCRIPTION}\"\nresource_group = \"{GROUP}\"\nname = \"{SITE}\""
        );
        let streams = format!("[[tenant]]\ncontent_types = {CONTENT_TYPES:?}");
        text.replace("type = \"alertlogic\"", &place)
            .replace("[[tenant]]", &streams)
    });
    let mut command = program();
    let output = command
        .args(["alertlogic", "deregister", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    transcript(&simulation)
}
