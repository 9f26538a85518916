//! How two requests differ, and the list of the differences that are meant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One request as the simulator saw it.
pub(super) type Exchange = Value;

/// Headers that say nothing of what is asked for: the connection's own, and random ones.
const NOISE: [&str; 4] = ["host", "connection", "content-length", "client-request-id"];

/// Everything that differs between two requests of one name: `register: body.version`, `register: header accept`.
pub(super) fn differences(name: &str, theirs: &Exchange, ours: &Exchange) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |what: String| found.push(format!("{name}: {what}"));
    if theirs["method"] != ours["method"] {
        add("method".to_owned());
    }
    let (their_path, their_query) = target(theirs);
    let (our_path, our_query) = target(ours);
    if their_path != our_path {
        add("path".to_owned());
    }
    if pairs(their_query) != pairs(our_query) {
        add("query".to_owned());
    }
    let (their_headers, our_headers) = (headers(theirs), headers(ours));
    let names: BTreeSet<&String> = their_headers.keys().chain(our_headers.keys()).collect();
    for name in names {
        let is_noise = NOISE.contains(&name.as_str());
        // Of a request that was only described, the headers that the description has.
        let is_noted = theirs["noted"]
            .as_array()
            .is_none_or(|noted| noted.iter().any(|noted| noted == name.as_str()));
        if !is_noise && is_noted && their_headers.get(name) != our_headers.get(name) {
            add(format!("header {name}"));
        }
    }
    let mut paths = Vec::new();
    compare("body", &body(theirs), &body(ours), &mut paths);
    paths.into_iter().for_each(add);
    found
}

fn target(exchange: &Exchange) -> (&str, &str) {
    let target = exchange["target"].as_str().unwrap_or_default();
    target.split_once('?').unwrap_or((target, ""))
}

/// A query's parameters, whose order says nothing.
fn pairs(query: &str) -> BTreeSet<&str> {
    query.split('&').collect()
}

pub(super) fn path(exchange: &Exchange) -> &str {
    target(exchange).0
}

fn headers(exchange: &Exchange) -> BTreeMap<String, String> {
    let pairs = exchange["headers"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// The body; that of a form as an object.
fn body(exchange: &Exchange) -> Value {
    let is_form = headers(exchange)
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    match &exchange["body"] {
        Value::String(form) if is_form => url::form_urlencoded::parse(form.as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        body => body.clone(),
    }
}

/// The paths at which two values differ. An array differs as a whole.
fn compare(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
            for name in names {
                let path = format!("{path}.{name}");
                match (theirs.get(name), ours.get(name)) {
                    (Some(theirs), Some(ours)) => compare(&path, theirs, ours, found),
                    _ => found.push(path),
                }
            }
        }
        _ if theirs == ours => {}
        // It was noted that there is something, and not what.
        (Value::String(something), Value::String(_)) if something == "*" => {}
        _ => found.push(path.to_owned()),
    }
}

/// The rows `| differences | reason |` between two marks of a page.
pub(super) fn rows(page: &str) -> Vec<(String, String)> {
    let between = page
        .split("<!-- differences: begin -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- differences: end -->").next())
        .expect("the page has the two marks");
    let row = |line: &str| {
        let cells: Vec<_> = line.trim().trim_matches('|').split(" | ").collect();
        match cells.as_slice() {
            [key, reason] => Some((
                key.trim().trim_matches('`').to_owned(),
                reason.trim().to_owned(),
            )),
            _ => None,
        }
    };
    let lines = between.lines().filter(|line| line.starts_with("| `"));
    lines.filter_map(row).collect()
}

/// Whether a row (`site, list_settings: query, header accept`, `*` for every request) speaks of a difference.
pub(super) fn speaks_of(row: &str, difference: &str) -> bool {
    let halves = row.split_once(": ").zip(difference.split_once(": "));
    halves.is_some_and(|((requests, whats), (request, what))| {
        requests
            .split(", ")
            .any(|named| named == "*" || named == request)
            && whats.split(", ").any(|named| named == what)
    })
}

/// Every difference that a row speaks of by name. Those of every request are not spelled out.
pub(super) fn spelled_out(row: &str) -> Vec<String> {
    let (requests, whats) = row.split_once(": ").unwrap_or((row, ""));
    let pair = |request: &str| -> Vec<String> {
        whats
            .split(", ")
            .map(|what| format!("{request}: {what}"))
            .collect()
    };
    let named = requests.split(", ").filter(|request| *request != "*");
    named.flat_map(pair).collect()
}
