//! AIMS: tokens for an access key, roles, and the five access keys a user may have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::http::{Call, Reply, empty, json};
use crate::world::World;

/// Five keys for each user at most; the sixth is refused.
const MAX_ACCESS_KEYS: usize = 5;

/// `POST /aims/v1/authenticate`.
pub(super) fn authenticate(world: &World, call: &Call) -> Reply {
    let mut state = world.alertlogic.state();
    let is_known =
        credentials(call).is_some_and(|credentials| state.access_keys.contains(&credentials));
    if !is_known {
        return json(StatusCode::UNAUTHORIZED, &json!({"error": "unauthorized"}));
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
            "id": options.user_id, "name": "Simulated User", "email": "user@contoso.example", "active": true,
            "account_id": options.account_id, "version": 1,
        },
        "account": {"id": options.account_id, "name": "Simulated Account", "active": true, "version": 1},
        "token": token,
        "token_expiration": ends_at.as_second(),
    }});
    json(StatusCode::OK, &body)
}

fn credentials(call: &Call) -> Option<(String, String)> {
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
    let account_id = &world.options.alertlogic.account_id;
    json(
        StatusCode::OK,
        &json!({"roles": [{"id": "2A33175D", "account_id": account_id, "name": "Administrator", "global": true}]}),
    )
}

/// Creates, lists and deletes access keys.
pub(super) fn access_keys(world: &World, call: &Call) -> Reply {
    if !is_the_user(world, call) {
        return empty(StatusCode::NOT_FOUND);
    }
    let segments = call.segments();
    let mut state = world.alertlogic.state();
    if call.method == Method::GET {
        let row = |(id, _): &(String, String)| json!({"access_key_id": id, "label": "", "account_id": world.options.alertlogic.account_id});
        let rows: Vec<Value> = state.access_keys.iter().map(row).collect();
        return json(StatusCode::OK, &json!({"access_keys": rows}));
    }
    if call.method == Method::POST {
        if state.access_keys.len() >= MAX_ACCESS_KEYS {
            return json(StatusCode::BAD_REQUEST, &json!({"error": "limit exceeded"}));
        }
        let key = (state.random.hex(16), state.random.hex(64));
        state.access_keys.push(key.clone());
        return json(
            StatusCode::OK,
            &json!({"access_key_id": key.0, "secret_key": key.1}),
        );
    }
    let wanted = segments.last().copied().unwrap_or_default();
    let before = state.access_keys.len();
    state.access_keys.retain(|(id, _)| id != wanted);
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
