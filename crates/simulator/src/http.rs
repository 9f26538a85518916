//! One request as the services see it, and the ways to answer it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

/// A request, read to its end.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The path and the query as they came.
    pub(crate) target: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer, smaller than a whole [`Response`] so that it can be an error's value too.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Substance,
}

/// What an answer's body is made of.
pub(crate) enum Substance {
    /// All of it is there.
    Whole(Bytes),
    /// It is made while it is sent; its length is not known before.
    Made(BoxStream<'static, io::Result<Bytes>>),
    /// So much is announced and so much is sent; then the connection breaks.
    Broken { announced: u64, sent: Bytes },
}

impl std::fmt::Debug for Substance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(body) => write!(f, "Whole({} bytes)", body.len()),
            Self::Made(_) => write!(f, "Made(..)"),
            Self::Broken { announced, sent } => {
                write!(f, "Broken({} of {announced} bytes)", sent.len())
            }
        }
    }
}

/// A body as it goes out.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

impl Reply {
    /// The answer as it goes out.
    pub(crate) fn into_response(mut self) -> Response<Outgoing> {
        let body = match self.body {
            Substance::Whole(body) => Full::new(body)
                .map_err(|never| match never {})
                .boxed_unsync(),
            Substance::Made(stream) => {
                StreamBody::new(stream.map(|piece| piece.map(Frame::data))).boxed_unsync()
            }
            Substance::Broken { announced, sent } => {
                self.headers
                    .push((CONTENT_LENGTH, HeaderValue::from(announced)));
                let break_off = async {
                    // So that what is sent arrives before the connection is gone.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Err(io::Error::other("broken off on purpose"))
                };
                let sent = futures::stream::iter([Ok(Frame::data(sent))]);
                StreamBody::new(sent.chain(futures::stream::once(break_off))).boxed_unsync()
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }

    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
    }

    pub(crate) fn remove_header(&mut self, name: &HeaderName) {
        self.headers.retain(|(own, _)| own != name);
    }

    /// A value that is no header text is left out.
    pub(crate) fn add_header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }
}

impl Call {
    /// A query parameter. Names are compared without case, as ASP.NET does.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A header's text; none when it is absent or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What follows `Bearer` in `Authorization`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self
            .headers
            .get(AUTHORIZATION)?
            .to_str()
            .ok()?
            .split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    }

    /// The path's segments, without empty ones at its ends.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.trim_matches('/').split('/').collect()
    }
}

/// An answer with a body of this type.
pub(crate) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))];
    Reply {
        status,
        headers,
        body: Substance::Whole(body.into()),
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &Value) -> Reply {
    reply(status, "application/json; charset=utf-8", body.to_string())
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: Substance::Whole(Bytes::new()),
    }
}

/// Adds a header; a value that is no header text is left out.
pub(crate) fn with_header(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    reply.add_header(name, value);
    reply
}

/// A status from a number; a number that is none becomes 500.
pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Splits `a=1&b=2` into decoded names and values.
pub(crate) fn form(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}
