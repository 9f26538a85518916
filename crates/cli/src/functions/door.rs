//! What the host may ask over HTTP: whether we are there, one invocation of a function, and requests that it forwards.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use azure::functions::{INVOCATION_ID, Invocation, Reply};
use bytes::Bytes;
use collector::web::WEBHOOK_PATH;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::Host;
use super::app::{Called, Outcome};
use super::manifest::{Function, RESPONSE};

/// Far more than a timer or a queue's message can be, and than a wrapped notification is.
const MAX_INVOCATION_BYTES: usize = 8 * 1024 * 1024;
/// A notification is not worth more waiting than this: Microsoft sends it again.
const NOTIFICATION_WAITS: Duration = Duration::from_secs(20);

pub(super) fn router(host: Arc<Host>) -> Router {
    Router::new().fallback(answer).with_state(host)
}

async fn answer(State(host): State<Arc<Host>>, request: Request) -> Response {
    let path = request.uri().path();
    let function = Function::at(path);
    match (request.method(), function) {
        // Whatever is still to come up: the host sends nothing before this is answered.
        (&Method::GET | &Method::HEAD, None) if path == "/" => reply(StatusCode::OK, "{}"),
        (&Method::POST | &Method::PUT, None) if path == WEBHOOK_PATH => {
            forwarded(&host, request).await
        }
        (&Method::POST, Some(function)) => invoked(host, function, request).await,
        _ => reply(
            StatusCode::NOT_FOUND,
            json!({"error": {"code": "not_found", "message": "there is nothing at this address"}})
                .to_string(),
        ),
    }
}

/// One wrapped invocation. It goes on when the host hangs up: it would only be begun again.
async fn invoked(host: Arc<Host>, function: Function, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let id = name_of(&head.headers);
    let Ok(body) = to_bytes(body, MAX_INVOCATION_BYTES).await else {
        warn!(
            function = function.name(),
            invocation = id,
            "an invocation broke off or was too long"
        );
        return reply(
            StatusCode::BAD_REQUEST,
            Reply::default()
                .logs(["the invocation broke off or was too long"])
                .to_bytes(),
        );
    };
    let invocations = host.invocations.clone();
    let invocation = id.clone();
    let called = invocations.spawn(async move {
        let outcome = call(&host, function, &body).await;
        host.statistics.count(function, outcome.is_error());
        outcome
    });
    let outcome = match called.await {
        Ok(outcome) => outcome,
        Err(cause) => {
            error!(function = function.name(), invocation, %cause, "an invocation ended by a defect");
            Outcome::failed("it ended by a defect of this program")
        }
    };
    debug!(
        function = function.name(),
        invocation,
        is_error = outcome.is_error(),
        "invoked"
    );
    let status = match outcome.is_error() {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => StatusCode::OK,
    };
    reply(status, outcome.into_reply().to_bytes())
}

/// Calls the function and sees to it that there is an answer while the host still waits for one.
async fn call(host: &Host, function: Function, body: &[u8]) -> Outcome {
    let wind_up = host.stop.child_token();
    let work = async {
        let app = match host.app().await {
            Ok(app) => app,
            Err(reasons) => return Outcome::Failed(reasons.to_vec()),
        };
        let called = match Invocation::parse(body) {
            Ok(invocation) => Called::Invoked(invocation),
            Err(error) => Called::Unreadable(error),
        };
        if function == Function::WebHook {
            return wrapped(&app, called).await;
        }
        app.call(function, called, &wind_up).await
    };
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return outcome,
        () = sleep(host.deadlines.wind_up) => {
            warn!(function = function.name(), "an invocation takes as long as the host allows, ending it");
            wind_up.cancel();
        }
    }
    let rest = host.deadlines.answer.saturating_sub(host.deadlines.wind_up);
    match timeout(rest, work).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            Outcome::failed("it took longer than the host allows, and did not end in time")
        }
    }
}

/// A request to the webhook as it came, but for the host in between.
async fn forwarded(host: &Host, request: Request) -> Response {
    let response = match timeout(NOTIFICATION_WAITS, host.app()).await {
        Ok(Ok(app)) => app.notified(request).await,
        // Not why: anybody can ask here.
        Ok(Err(_)) | Err(_) => {
            let body =
                json!({"error": {"code": "not_ready", "message": "the collector is not ready"}});
            let mut response = reply(StatusCode::SERVICE_UNAVAILABLE, body.to_string());
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
    };
    host.statistics
        .count(Function::WebHook, response.status().is_server_error());
    response
}

/// The same where the host wraps requests: with a host.json that is not ours.
async fn wrapped(app: &super::app::App, called: Called) -> Outcome {
    let request = match called {
        Called::Invoked(invocation) => invocation.http_request(Function::WebHook.binding()),
        Called::Unreadable(error) => Err(error),
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return Outcome::failed(error.to_string()),
    };
    let mut request = request.map(Body::from);
    *request.uri_mut() = http::Uri::from_static(WEBHOOK_PATH);
    let (head, body) = app.notified(request).await.into_parts();
    let body = to_bytes(body, MAX_INVOCATION_BYTES)
        .await
        .unwrap_or_default();
    Outcome::Answered {
        is_error: head.status.is_server_error(),
        reply: Reply::default().http(RESPONSE, head.status, &head.headers, &body),
    }
}

/// For the log; the host made it, and whoever reaches our port may have.
fn name_of(headers: &HeaderMap) -> String {
    let name = headers
        .get(INVOCATION_ID)
        .and_then(|name| name.to_str().ok());
    name.unwrap_or_default().chars().take(64).collect()
}

fn reply(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
