//! AIMS: tokens for an access key, roles, and the five access keys a user may have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::AccessKey;
use crate::http::{Call, Reply, empty, json};
use crate::world::World;

/// Five keys for each user at most; the sixth is refused.
const MAX_ACCESS_KEYS: usize = 5;

/// `POST /aims/v1/authenticate`.
pub(super) fn authenticate(world: &World, call: &Call) -> Reply {
    let mut state = world.alertlogic.state();
    let Some((name, secret)) = credentials(call) else {
        return refused("unauthorized");
    };
    let login = &world.options.alertlogic;
    if name == login.user_name && secret == login.user_password {
        if let Some(reply) = refuse_second_factor(login.mfa_code.as_deref(), call) {
            return reply;
        }
    } else {
        let is_key = |key: &AccessKey| key.id == name && key.secret == secret;
        if !state.access_keys.iter().any(is_key) {
            return refused("unauthorized");
        }
    }
    let now = world.clock.now();
    let ends_at = now
        .checked_add(world.options.aims_token_lifetime)
        .unwrap_or(Timestamp::MAX);
    let token = state.random.hex(128);
    state.tokens.insert(token.clone(), ends_at);
    drop(state);
    let options = &world.options.alertlogic;
    let body = json!({"authentication": {
        "user": {
            "id": options.user_id, "name": "Simulated User", "email": options.user_name, "active": true,
            "account_id": options.account_id, "version": 1,
        },
        "account": {"id": options.account_id, "name": "Simulated Account", "active": true, "version": 1},
        "token": token,
        "token_expiration": ends_at.as_second(),
    }});
    json(StatusCode::OK, &body)
}

/// A login with a second factor wants its code in the body; an access key never does.
fn refuse_second_factor(expected: Option<&str>, call: &Call) -> Option<Reply> {
    let expected = expected?;
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    match body["mfa_code"].as_str() {
        Some(code) if code == expected => None,
        Some(_) => Some(refused("unauthorized")),
        None => Some(refused("mfa_code_required")),
    }
}

fn refused(error: &str) -> Reply {
    json(StatusCode::UNAUTHORIZED, &json!({"error": error}))
}

/// Name and secret of HTTP Basic.
pub(crate) fn credentials(call: &Call) -> Option<(String, String)> {
    let (scheme, encoded) = call.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// `GET /aims/v1/{cid}/users/{user_id}/roles`.
pub(super) fn roles(world: &World, call: &Call) -> Reply {
    if !is_the_user(world, call) {
        return empty(StatusCode::NOT_FOUND);
    }
    let options = &world.options.alertlogic;
    let roles: Vec<Value> = options
        .roles
        .iter()
        .enumerate()
        .map(|(at, name)| json!({"id": format!("2A33175D-{at:04}"), "account_id": options.account_id, "name": name, "global": true}))
        .collect();
    json(StatusCode::OK, &json!({"roles": roles}))
}

/// Creates, lists and deletes access keys.
pub(super) fn access_keys(world: &World, call: &Call) -> Reply {
    if !is_the_user(world, call) {
        return empty(StatusCode::NOT_FOUND);
    }
    let segments = call.segments();
    let mut state = world.alertlogic.state();
    if call.method == Method::GET {
        let options = &world.options.alertlogic;
        let row = |key: &AccessKey| json!({"access_key_id": key.id, "label": key.label, "account_id": options.account_id, "user_id": options.user_id});
        let rows: Vec<Value> = state.access_keys.iter().map(row).collect();
        return json(StatusCode::OK, &json!({"access_keys": rows}));
    }
    if !world
        .options
        .alertlogic
        .roles
        .iter()
        .any(|role| role == "Administrator")
    {
        return json(
            StatusCode::FORBIDDEN,
            &json!({"error": "not an administrator"}),
        );
    }
    if call.method == Method::POST {
        if state.access_keys.len() >= MAX_ACCESS_KEYS {
            return json(StatusCode::BAD_REQUEST, &json!({"error": "limit exceeded"}));
        }
        let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let key = AccessKey {
            id: state.random.hex(16),
            secret: state.random.hex(64),
            label: asked["label"].as_str().unwrap_or_default().to_owned(),
        };
        state.access_keys.push(key.clone());
        return json(
            StatusCode::OK,
            &json!({"access_key_id": key.id, "secret_key": key.secret}),
        );
    }
    let wanted = segments.last().copied().unwrap_or_default();
    let before = state.access_keys.len();
    state.access_keys.retain(|key| key.id != wanted);
    empty(if state.access_keys.len() < before {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    })
}

fn is_the_user(world: &World, call: &Call) -> bool {
    call.segments()
        .get(4)
        .is_some_and(|user| user.eq_ignore_ascii_case(&world.options.alertlogic.user_id))
}
