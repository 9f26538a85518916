//! Azcollect: registration, check-in and deregistration of collectors.

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use http::StatusCode;
use serde_json::{Value, json};
use std::io::Read as _;
use xxhash_rust::xxh3::xxh3_128;

use crate::http::{Call, Reply, empty, json};
use crate::random::{as_guid, guid_text};
use crate::world::World;

/// More than any check-in; a larger one is refused.
const MAX_BODY_BYTES: u64 = 4 << 20;

/// `POST …/azure/o365/{sub}/{rg}/{app}`. The same collector gets the same ids each time.
pub(super) fn register(world: &World, call: &Call) -> Reply {
    let body = match attributes(call, &["version", "app_tenant_id", "client_id", "config"]) {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let config = &body["config"];
    let is_o365 = config["type"] == "o365"
        && config["office_tenant_id"].is_string()
        && config["content_streams"].is_array();
    if !is_o365 {
        return bad("config lacks type o365, office_tenant_id or content_streams");
    }
    let (source_id, host_id) = ids(call, &body);
    world
        .alertlogic
        .state()
        .sources
        .insert(source_id.clone(), host_id.clone());
    json(
        StatusCode::CREATED,
        &json!({"source": {"id": source_id, "host": {"id": host_id}}}),
    )
}

/// `POST …/azure/o365/checkin/{sub}/{rg}/{app}`.
pub(super) fn check_in(world: &World, call: &Call) -> Reply {
    let body = match attributes(
        call,
        &[
            "version",
            "app_tenant_id",
            "host_id",
            "source_id",
            "status",
            "details",
            "statistics",
        ],
    ) {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    if let Err(reply) = check_source(world, &body) {
        return reply;
    }
    let is_whole = match body["status"].as_str() {
        Some("ok") => true,
        Some("error") => body["error_code"].is_string(),
        _ => false,
    };
    if !is_whole {
        return bad("status is neither ok nor error with an error_code");
    }
    let source_id = body["source_id"].as_str().unwrap_or_default().to_owned();
    let mut state = world.alertlogic.state();
    state.check_ins.insert(source_id, body);
    let force_update = std::mem::take(&mut state.force_update);
    drop(state);
    json(StatusCode::OK, &json!({"force_update": force_update}))
}

/// `DELETE …/azure/o365/{sub}/{rg}/{app}`.
pub(super) fn deregister(world: &World, call: &Call) -> Reply {
    let body = match attributes(call, &["version", "app_tenant_id", "host_id", "source_id"]) {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    if let Err(reply) = check_source(world, &body) {
        return reply;
    }
    world
        .alertlogic
        .state()
        .sources
        .remove(body["source_id"].as_str().unwrap_or_default());
    empty(StatusCode::OK)
}

/// Ids that follow from where the collector is and whose it is, so that a repeat is no second collector.
fn ids(call: &Call, body: &Value) -> (String, String) {
    let of = |what: &str| {
        let text = format!("{what} {} {}", call.path, body["app_tenant_id"]);
        let hash = xxh3_128(text.as_bytes());
        guid_text(as_guid((hash >> 64) as u64, hash as u64))
    };
    (of("source"), of("host"))
}

fn check_source(world: &World, body: &Value) -> Result<(), Reply> {
    let state = world.alertlogic.state();
    let host_id = body["source_id"]
        .as_str()
        .and_then(|source_id| state.sources.get(source_id));
    match host_id {
        Some(host_id) if body["host_id"] == host_id.as_str() => Ok(()),
        _ => Err(json(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such source"}),
        )),
    }
}

/// The JSON object of a body, deflated or not, with at least these attributes.
fn attributes(call: &Call, required: &[&str]) -> Result<Value, Reply> {
    let text = match call.header("content-encoding") {
        Some("deflate") => {
            inflate(&call.body).ok_or_else(|| bad("the body is not deflated JSON"))?
        }
        _ => call.body.clone(),
    };
    let body: Value = serde_json::from_slice(&text).map_err(|_| bad("the body is not JSON"))?;
    match required
        .iter()
        .find(|name| body.get(**name).is_none_or(Value::is_null))
    {
        Some(name) => Err(bad(&format!("{name} is missing"))),
        None => Ok(body),
    }
}

pub(crate) fn inflate(body: &[u8]) -> Option<Bytes> {
    let mut text = Vec::new();
    ZlibDecoder::new(body)
        .take(MAX_BODY_BYTES)
        .read_to_end(&mut text)
        .ok()?;
    Some(text.into())
}

fn bad(reason: &str) -> Reply {
    json(StatusCode::BAD_REQUEST, &json!({"error": reason}))
}
