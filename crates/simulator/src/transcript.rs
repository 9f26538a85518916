//! The requests of the control plane as they came, for a test to hold against what a collector should send. No secret is
//! kept: in its place stands which kind of secret it was.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::RequestKind;
use crate::alertlogic::{aims, azcollect};
use crate::http::Call;
use crate::microsoft::auth::Audience;
use crate::server::Service;
use crate::world::World;

/// The oldest requests are forgotten beyond this many, so that a simulator that runs for days stays small.
const MAX_EXCHANGES: usize = 10_000;

/// Of a longer body only the length is kept.
const MAX_BODY_BYTES: usize = 256 << 10;

/// One request of the control plane, and how it was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// `microsoft`, `alertlogic`, `resource_manager`, `identity`, `splunk_hec` or `stranger`.
    pub service: &'static str,
    /// What was asked for.
    pub kind: RequestKind,
    /// The HTTP method.
    pub method: String,
    /// The path and the query, as they came.
    pub target: String,
    /// The headers in the order in which they came, the names in small letters. A secret is replaced by its kind, such as
    /// `<bearer: activity>`, `<basic: access key>` or `<aims token>`.
    pub headers: Vec<(String, String)>,
    /// The body, inflated: JSON as itself, any other text as a string, none as null. Secrets are replaced as in headers.
    pub body: Value,
    /// The HTTP status of the answer; 0 for none.
    pub status: u16,
}

impl Exchange {
    /// A header's value; the name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Where the services note what came.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    inner: Mutex<VecDeque<Exchange>>,
}

impl Transcript {
    /// Notes a request, unless it is one of the many that move records. Where nothing is checked nobody asks for it, and to
    /// look for the secrets of ten thousand tenants takes longer than to answer.
    pub(crate) fn note(
        &self,
        world: &World,
        service: Service,
        kind: RequestKind,
        call: &Call,
        status: u16,
    ) {
        if is_data(kind) || !world.options.check_sinks {
            return;
        }
        let secrets = Secrets::of(world);
        let exchange = Exchange {
            service: service.name(),
            kind,
            method: call.method.to_string(),
            target: secrets.redact(&call.target),
            headers: headers(world, &secrets, call),
            body: body(&secrets, call),
            status,
        };
        let mut exchanges = self.lock();
        if exchanges.len() >= MAX_EXCHANGES {
            exchanges.pop_front();
        }
        exchanges.push_back(exchange);
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.lock().iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Exchange>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_data(kind: RequestKind) -> bool {
    matches!(
        kind,
        RequestKind::Content
            | RequestKind::Notifications
            | RequestKind::Blob
            | RequestKind::DlpSensitiveTypes
            | RequestKind::Logmsgs
            | RequestKind::Lmcstats
            | RequestKind::HecEvent
            | RequestKind::HecAck
            | RequestKind::HecHealth
    )
}

fn headers(world: &World, secrets: &Secrets, call: &Call) -> Vec<(String, String)> {
    let shown = |name: &str, value: &str| match name {
        "authorization" => authorization(world, call),
        "x-aims-auth-token" if world.alertlogic.knows_token(value) => "<aims token>".to_owned(),
        "x-aims-auth-token" => "<aims token: unknown>".to_owned(),
        "x-identity-header" | "secret" if value == world.options.azure.identity_header => {
            "<identity header>".to_owned()
        }
        "x-identity-header" | "secret" => "<identity header: unknown>".to_owned(),
        _ => secrets.redact(value),
    };
    call.headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), shown(name.as_str(), &text))
        })
        .collect()
}

/// Which kind of credential the request brings.
fn authorization(world: &World, call: &Call) -> String {
    if let Some(token) = call.bearer() {
        return match world.microsoft.tokens.audience(token) {
            Some(Audience::Activity) => "<bearer: activity>",
            Some(Audience::ResourceManager) => "<bearer: resource_manager>",
            Some(Audience::Storage) => "<bearer: storage>",
            None => "<bearer: unknown>",
        }
        .to_owned();
    }
    let login = &world.options.alertlogic;
    match aims::credentials(call) {
        Some((name, secret)) if name == login.user_name && secret == login.user_password => {
            "<basic: user>"
        }
        Some((_, secret)) if world.alertlogic.secret_keys().contains(&secret) => {
            "<basic: access key>"
        }
        Some(_) => "<basic: unknown>",
        None => "<unknown>",
    }
    .to_owned()
}

fn body(secrets: &Secrets, call: &Call) -> Value {
    if call.body.is_empty() {
        return Value::Null;
    }
    let inflated = match call.header("content-encoding") {
        Some("deflate") => azcollect::inflate(&call.body),
        _ => None,
    };
    let body = inflated.as_ref().unwrap_or(&call.body);
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= MAX_BODY_BYTES => {
            let text = secrets.redact(text);
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        _ => Value::String(format!("<{} bytes>", body.len())),
    }
}

/// Every secret that the simulation knows, in each form in which it may stand in a request, and the kind to write instead.
struct Secrets(Vec<(String, &'static str)>);

impl Secrets {
    fn of(world: &World) -> Self {
        let options = &world.options;
        let tenants = world
            .tenants
            .iter()
            .map(|tenant| (tenant.client_secret.clone(), "<client secret>"));
        let keys = world
            .alertlogic
            .secret_keys()
            .into_iter()
            .map(|secret| (secret, "<secret key>"));
        let others = [
            (options.alertlogic.user_password.clone(), "<password>"),
            (options.azure.identity_header.clone(), "<identity header>"),
            (options.hec.token.clone(), "<hec token>"),
        ];
        let mut all = Vec::new();
        for (secret, kind) in tenants.chain(keys).chain(others) {
            if secret.is_empty() {
                continue;
            }
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            if encoded != secret {
                all.push((encoded, kind));
            }
            all.push((secret, kind));
        }
        Self(all)
    }

    fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (secret, kind) in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), kind);
            }
        }
        redact_storage_keys(text)
    }
}

/// The key in each connection string of a storage account, which the simulation does not know.
fn redact_storage_keys(text: String) -> String {
    const NAME: &str = "AccountKey=";
    if !text.contains(NAME) {
        return text;
    }
    let mut parts = text.split(NAME);
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_key = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
        redacted.push_str(NAME);
        redacted.push_str("<storage key>");
        redacted.push_str(part.trim_start_matches(is_key));
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_storage_account_is_not_kept() {
        let text = r#"{"A":"AccountName=a;AccountKey=aGVsbG8+/w==;EndpointSuffix=x","B":"AccountKey=zz=="}"#;
        assert_eq!(
            redact_storage_keys(text.to_owned()),
            r#"{"A":"AccountName=a;AccountKey=<storage key>;EndpointSuffix=x","B":"AccountKey=<storage key>"}"#
        );
    }
}
