//! Microsoft's side: tokens, subscriptions, listings, blobs and webhooks.

pub(crate) mod auth;
mod certificate;
pub(crate) mod corpus;
pub(crate) mod feed;
mod huge;
pub(crate) mod json;
pub(crate) mod records;
pub(crate) mod shapes;
pub(crate) mod subscriptions;
pub(crate) mod template;
pub(crate) mod webhook;

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{Method, StatusCode};
use serde_json::json;

use crate::faults::FaultAction;
use crate::faults::requests::Harm;
use crate::http::{Call, Reply, empty, json, status, with_header};
use crate::world::World;
use crate::{ContentType, Error, Options, RequestKind};

/// The state of the simulated Microsoft.
#[derive(Debug)]
pub(crate) struct Microsoft {
    pub(crate) tokens: auth::Tokens,
    quotas: auth::Quotas,
    certificate: Option<certificate::Certificate>,
    /// By feed: `tenant * 5 + content type`.
    subscriptions: Vec<Mutex<subscriptions::Subscription>>,
    client: reqwest::Client,
}

impl Microsoft {
    pub(crate) fn new(options: &Options, client: reqwest::Client) -> Result<Self, Error> {
        let feeds = options.tenants * ContentType::ALL.len();
        let pem = options.certificate_pem.as_deref();
        Ok(Self {
            tokens: auth::Tokens::new(options.seed),
            quotas: auth::Quotas::default(),
            certificate: pem.map(certificate::Certificate::from_pem).transpose()?,
            subscriptions: (0..feeds).map(|_| Mutex::default()).collect(),
            client,
        })
    }

    /// Runs `work` on a feed's subscription.
    fn with_subscription<T>(
        &self,
        feed: usize,
        work: impl FnOnce(&mut subscriptions::Subscription) -> T,
    ) -> Option<T> {
        let subscription = self.subscriptions.get(feed)?;
        Some(work(
            &mut subscription.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// What a request on Microsoft's port asks for.
pub(crate) fn kind_of(call: &Call) -> RequestKind {
    let segments = call.segments();
    let is = |method: &Method| call.method == *method;
    match segments.as_slice() {
        [_, "oauth2", "token"] | [_, "oauth2", "v2.0", "token"] if is(&Method::POST) => {
            RequestKind::Token
        }
        ["api", "v1.0" | "v1", _, "activity", "feed", operation @ ..] => match operation {
            ["subscriptions", "start"] if is(&Method::POST) => RequestKind::Start,
            ["subscriptions", "stop"] if is(&Method::POST) => RequestKind::Stop,
            ["subscriptions", "list"] if is(&Method::GET) => RequestKind::List,
            ["subscriptions", "content"] if is(&Method::GET) => RequestKind::Content,
            ["subscriptions", "notifications"] if is(&Method::GET) => RequestKind::Notifications,
            ["audit", _] if is(&Method::GET) => RequestKind::Blob,
            ["resources", "dlpSensitiveTypes"] if is(&Method::GET) => {
                RequestKind::DlpSensitiveTypes
            }
            _ => RequestKind::Unknown,
        },
        _ => RequestKind::Unknown,
    }
}

/// Answers a request on Microsoft's port.
pub(crate) async fn answer(
    world: &Arc<World>,
    kind: RequestKind,
    call: &Call,
    harm: Option<&Harm>,
) -> Reply {
    let listing_harm = match harm {
        Some(Harm::Listing(harm, drawn)) => Some((*harm, *drawn)),
        _ => None,
    };
    let reply = match kind {
        RequestKind::Token => auth::token(world, call),
        RequestKind::Unknown => empty(StatusCode::NOT_FOUND),
        _ => match auth::admit(world, kind, call) {
            Err(refused) => refused,
            Ok(tenant) => match kind {
                RequestKind::Start => subscriptions::start(world, tenant, call).await,
                RequestKind::Stop => subscriptions::stop(world, tenant, call),
                RequestKind::List => subscriptions::list(world, tenant),
                RequestKind::Content => feed::content(world, tenant, call, listing_harm),
                RequestKind::Notifications => feed::notifications(world, tenant, call),
                RequestKind::Blob => feed::blob(world, tenant, call),
                _ => feed::dlp_sensitive_types(call),
            },
        },
    };
    decorate(reply)
}

/// The answer to a request that meets a fault.
pub(crate) fn fault(call: &Call, kind: RequestKind, action: &FaultAction) -> Reply {
    decorate(match action {
        FaultAction::Throttled { status: code } => {
            let publisher = call
                .parameter("PublisherIdentifier")
                .unwrap_or(NO_PUBLISHER);
            throttled(kind, publisher, *code)
        }
        FaultAction::Status { status: 401 } => unauthorized(),
        FaultAction::Status {
            status: code @ 500..,
        } => {
            let text = "An internal error occurred. Retry the request.";
            json(status(*code), &error_body("AF50000", text))
        }
        FaultAction::Status { status: code } => empty(status(*code)),
        FaultAction::Hangup => empty(StatusCode::INTERNAL_SERVER_ERROR),
    })
}

/// The publisher that error texts name when a request names none.
const NO_PUBLISHER: &str = "00000000-0000-0000-0000-000000000000";

/// AF429, which captured traffic has with 403.
fn throttled(kind: RequestKind, publisher: &str, code: u16) -> Reply {
    let method = match kind {
        RequestKind::Blob => "GetBlob",
        RequestKind::Content => "GetContent",
        RequestKind::Notifications => "GetNotifications",
        RequestKind::List => "ListSubscriptions",
        RequestKind::Start => "StartSubscription",
        RequestKind::Stop => "StopSubscription",
        _ => "GetResource",
    };
    json(
        status(code),
        &error_body(
            "AF429",
            &format!("Too many requests. Method={method}, PublisherId={publisher}"),
        ),
    )
}

/// The 401 that comes from before the API itself and so has no AF code.
fn unauthorized() -> Reply {
    let reply = json(
        StatusCode::UNAUTHORIZED,
        &json!({"Message": "Authorization has been denied for this request."}),
    );
    with_header(reply, http::header::WWW_AUTHENTICATE, "Bearer")
}

/// An error in the API's envelope, with 400.
fn refused(code: &str, message: &str) -> Reply {
    json(StatusCode::BAD_REQUEST, &error_body(code, message))
}

fn error_body(code: &str, message: &str) -> serde_json::Value {
    json!({"error": {"code": code, "message": message}})
}

/// The headers that captured answers have.
fn decorate(mut reply: Reply) -> Reply {
    for (name, value) in [
        (CACHE_CONTROL, "no-cache"),
        (PRAGMA, "no-cache"),
        (http::header::EXPIRES, "-1"),
        (http::header::SERVER, "Microsoft-IIS/10.0"),
        (HeaderName::from_static("x-aspnet-version"), "4.0.30319"),
        (HeaderName::from_static("x-powered-by"), "ASP.NET"),
    ] {
        reply = with_header(reply, name, value);
    }
    reply
}
