//! The simulator's own door, for the case that it runs as a process of its own: under `/_simulator/` on each of its ports.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Fault;
use crate::http::{Call, Reply, empty, json};
use crate::times::with_ms;
use crate::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    #[serde(default)]
    advance_secs: f64,
    speed: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultChange {
    #[serde(default)]
    faults: Vec<Fault>,
    latency_millis: Option<u64>,
}

/// Answers a request for `/_simulator/{path}`.
pub(crate) fn answer(world: &World, path: &str, call: &Call) -> Reply {
    match (&call.method, path) {
        (&Method::GET, "about") => json(StatusCode::OK, &about(world)),
        (&Method::GET, "progress") => shown(&world.progress()),
        (&Method::GET, "requests") => shown(&world.requests.snapshot()),
        (&Method::GET, "check_ins") => shown(&world.alertlogic.check_ins()),
        (&Method::GET, "transcript") => shown(&world.transcript.exchanges()),
        (&Method::GET, "measured") => shown(&world.measured.moments()),
        (&Method::DELETE, "measured") => {
            world.measured.clear();
            json(StatusCode::OK, &json!({}))
        }
        (&Method::DELETE, "transcript") => {
            world.transcript.clear();
            json(StatusCode::OK, &json!({}))
        }
        (&Method::POST, "force_update") => {
            world.alertlogic.force_update();
            json(StatusCode::OK, &json!({}))
        }
        (&Method::GET, "verdict") => {
            let verdict = world.verdict();
            json(
                StatusCode::OK,
                &json!({
                    "is_clean": verdict.is_clean(), "sinks": verdict.sinks,
                    "impossible": verdict.impossible,
                }),
            )
        }
        (&Method::POST, "clock") => match serde_json::from_slice::<ClockChange>(&call.body) {
            Ok(change) => set_clock(world, &change),
            Err(error) => refuse(&error.to_string()),
        },
        (&Method::POST, "faults") => match serde_json::from_slice::<FaultChange>(&call.body) {
            Ok(change) => {
                for fault in change.faults {
                    world.faults.add(fault);
                }
                if let Some(millis) = change.latency_millis {
                    world
                        .faults
                        .set_latency((millis > 0).then(|| Duration::from_millis(millis)));
                }
                json(StatusCode::OK, &json!({}))
            }
            Err(error) => refuse(&error.to_string()),
        },
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn set_clock(world: &World, change: &ClockChange) -> Reply {
    match Duration::try_from_secs_f64(change.advance_secs) {
        Ok(by) => world.clock.advance(by),
        Err(error) => return refuse(&error.to_string()),
    }
    if let Some(speed) = change.speed {
        world.clock.set_speed(speed);
    }
    json(StatusCode::OK, &json!({"now": with_ms(world.now_ms())}))
}

/// All that a collector must be told to use this simulation. The secrets are worth nothing elsewhere.
fn about(world: &World) -> Value {
    json!({
        "now": with_ms(world.now_ms()),
        "microsoft": world.origins.microsoft,
        "alertlogic": world.origins.alertlogic,
        "splunk_hec": world.origins.hec,
        "stranger": world.origins.stranger,
        "resource_manager": world.origins.resource_manager,
        "identity": world.origins.identity,
        "identity_header": world.options.azure.identity_header,
        "site": world.options.azure.resource_id(),
        "tenants": world.tenants,
        "access_key_id": world.options.alertlogic.access_key_id,
        "secret_key": world.options.alertlogic.secret_key,
        "hec_token": world.options.hec.token,
    })
}

fn shown(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_value(value) {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"error": error.to_string()}),
        ),
    }
}

fn refuse(reason: &str) -> Reply {
    json(StatusCode::BAD_REQUEST, &json!({"error": reason}))
}
