//! Alert Logic's side: identity, the endpoints service, collector registration, ingest.

pub(crate) mod aims;
pub(crate) mod azcollect;
pub(crate) mod ingest;
pub(crate) mod protobuf;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::faults::FaultAction;
use crate::faults::requests::Harm;
use crate::http::{Call, Reply, empty, json, status};
use crate::random::Random;
use crate::world::World;
use crate::{Options, RequestKind};

/// The state of the simulated Alert Logic.
#[derive(Debug)]
pub(crate) struct AlertLogic {
    inner: Mutex<State>,
    captured: AtomicU64,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// Token to the end of its life.
    tokens: HashMap<String, Timestamp>,
    access_keys: Vec<AccessKey>,
    /// Source id to host id.
    sources: HashMap<String, String>,
    /// The body of the latest check-in of each source.
    check_ins: HashMap<String, Value>,
    /// The next check-in's answer asks for an update.
    force_update: bool,
}

/// An access key of the user.
#[derive(Clone, Debug)]
struct AccessKey {
    id: String,
    secret: String,
    label: String,
}

impl AlertLogic {
    pub(crate) fn new(options: &Options) -> Self {
        let first = AccessKey {
            id: options.alertlogic.access_key_id.clone(),
            secret: options.alertlogic.secret_key.clone(),
            label: String::new(),
        };
        let state = State {
            random: Random::new(options.seed, 0xa1),
            tokens: HashMap::new(),
            access_keys: vec![first],
            sources: options.alertlogic.registered.iter().cloned().collect(),
            check_ins: HashMap::new(),
            force_update: false,
        };
        Self {
            inner: Mutex::new(state),
            captured: AtomicU64::new(0),
        }
    }

    /// The body of the latest check-in of each source id.
    pub(crate) fn check_ins(&self) -> HashMap<String, Value> {
        self.state().check_ins.clone()
    }

    /// Makes the answer to the next check-in ask for an update.
    pub(crate) fn force_update(&self) {
        self.state().force_update = true;
    }

    /// Whether the token was issued, expired or not.
    pub(crate) fn knows_token(&self, token: &str) -> bool {
        self.state().tokens.contains_key(token)
    }

    /// The secrets of the access keys that there are.
    pub(crate) fn secret_keys(&self) -> Vec<String> {
        let state = self.state();
        state
            .access_keys
            .iter()
            .map(|key| key.secret.clone())
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request on Alert Logic's port asks for.
pub(crate) fn kind_of(call: &Call) -> RequestKind {
    let segments = call.segments();
    let method = &call.method;
    match segments.as_slice() {
        ["aims", "v1", "authenticate"] if method == Method::POST => RequestKind::Authenticate,
        ["aims", "v1", _, "users", _, "roles"] if method == Method::GET => RequestKind::Roles,
        ["aims", "v1", _, "users", _, "access_keys"]
            if method == Method::GET || method == Method::POST =>
        {
            RequestKind::AccessKeys
        }
        ["aims", "v1", _, "users", _, "access_keys", _] if method == Method::DELETE => {
            RequestKind::AccessKeys
        }
        [
            "endpoints",
            "v1",
            _,
            "residency",
            _,
            "services",
            _,
            "endpoint",
        ] if method == Method::GET => RequestKind::Endpoints,
        ["azcollect", "v1", _, "azure", "o365", "checkin", _, _, _] if method == Method::POST => {
            RequestKind::CheckIn
        }
        ["azcollect", "v1", _, "azure", "o365", _, _, _] if method == Method::POST => {
            RequestKind::Register
        }
        ["azcollect", "v1", _, "azure", "o365", _, _, _] if method == Method::DELETE => {
            RequestKind::Deregister
        }
        ["ingest", "v1", _, "data", "logmsgs"] if method == Method::POST => RequestKind::Logmsgs,
        ["ingest", "v1", _, "data", "lmcstats"] if method == Method::POST => RequestKind::Lmcstats,
        _ => RequestKind::Unknown,
    }
}

/// Answers a request on Alert Logic's port.
pub(crate) fn answer(world: &World, kind: RequestKind, call: &Call, harm: Option<&Harm>) -> Reply {
    match kind {
        RequestKind::Authenticate => return aims::authenticate(world, call),
        RequestKind::Unknown => return empty(StatusCode::NOT_FOUND),
        _ => {}
    }
    let has_token = call.header("x-aims-auth-token").is_some_and(|token| {
        let state = world.alertlogic.state();
        state
            .tokens
            .get(token)
            .is_some_and(|&ends_at| world.clock.now() < ends_at)
    });
    if !has_token {
        return json(StatusCode::UNAUTHORIZED, &json!({"error": "unauthorized"}));
    }
    if call.segments().get(2) != Some(&world.options.alertlogic.account_id.as_str()) {
        return json(
            StatusCode::FORBIDDEN,
            &json!({"error": "no access to this account"}),
        );
    }
    match kind {
        RequestKind::Roles => aims::roles(world, call),
        RequestKind::AccessKeys => aims::access_keys(world, call),
        RequestKind::Endpoints => endpoint(world, call),
        RequestKind::Register => azcollect::register(world, call),
        RequestKind::CheckIn => azcollect::check_in(world, call),
        RequestKind::Deregister => azcollect::deregister(world, call),
        RequestKind::Logmsgs => ingest::logmsgs(world, call, harm),
        _ => ingest::lmcstats(world, call),
    }
}

/// The answer to a request that meets a fault.
pub(crate) fn fault(action: &FaultAction) -> Reply {
    match action {
        FaultAction::Status { status: code } | FaultAction::Throttled { status: code } => {
            json(status(*code), &json!({"error": "simulated fault"}))
        }
        FaultAction::Hangup => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `GET /endpoints/v1/{cid}/residency/{residency}/services/{service}/endpoint`. A bare host name in the documents; here with
/// a port, and a whole address when the simulator speaks plain HTTP.
fn endpoint(world: &World, call: &Call) -> Reply {
    let segments = call.segments();
    let (Some(residency), Some(service)) = (segments.get(4), segments.get(6)) else {
        return empty(StatusCode::NOT_FOUND);
    };
    if *residency != world.options.alertlogic.residency
        || !matches!(*service, "azcollect" | "ingest")
    {
        return json(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such service in this residency"}),
        );
    }
    let origin = &world.origins.alertlogic;
    let name = origin.strip_prefix("https://").unwrap_or(origin);
    let mut body = serde_json::Map::new();
    body.insert((*service).to_owned(), name.into());
    json(StatusCode::OK, &body.into())
}
