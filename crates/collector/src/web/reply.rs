//! What every answer has in common: an id that is in the log too, headers that keep a browser from guessing, and one
//! shape for whatever went wrong.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::WebState;

/// Nothing but the page's own stylesheet: no script, no picture, no frame around it, no form.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names one request in its answer and in the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(String);

impl RequestId {
    /// Ids are told apart by the process's start and a count; nobody may take them for a secret.
    pub(super) fn new(started_at: jiff::Timestamp, count: u64) -> Self {
        Self(format!("{:x}-{count}", started_at.as_millisecond()))
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that is not answered as it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For programs; does not change.
    pub(super) code: &'static str,
    /// For people. Says nothing about what is inside; the log does.
    pub(super) message: &'static str,
    /// Seconds after which the same request may go well.
    pub(super) retry_after: Option<u16>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            retry_after: None,
        }
    }

    pub(super) const fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) fn reply(self, request_id: &RequestId) -> Response {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            code: &'a str,
            message: &'a str,
            request_id: &'a str,
        }
        let error = Inner {
            code: self.code,
            message: self.message,
            request_id: &request_id.0,
        };
        let mut reply = (self.status, axum::Json(Outer { error })).into_response();
        if let Some(seconds) = self.retry_after {
            reply
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}

/// Gives the request its id and the answer the headers that all answers have.
pub(super) async fn dress(
    axum::extract::State(web): axum::extract::State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let request_id = web.next_request_id();
    let id_header = HeaderValue::try_from(&request_id.0)
        .expect("hexadecimal digits and a hyphen make a header value");
    request.extensions_mut().insert(request_id);
    let mut reply = next.run(request).await;
    let headers = reply.headers_mut();
    headers.insert(X_REQUEST_ID, id_header);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    reply
}
