//! What the Functions host and a custom handler say to each other: invocations in, outcomes out. The one place that
//! knows the shapes of the wrapped JSON. Nothing that comes in is believed to be well formed.

mod limit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use limit::{DEFAULT_TIMEOUT, InvalidTimeout, TimeLimit, read_host_json};

/// Names one invocation, in the host's own logs as well.
pub const INVOCATION_ID: HeaderName = HeaderName::from_static("x-azure-functions-invocationid");

/// A wrapped invocation: what triggered it, by the names of the function's bindings.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    data: Map<String, Value>,
    metadata: Map<String, Value>,
}

/// A timer came due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timer {
    /// It is later than it should be: the app was down when it was time.
    pub is_past_due: bool,
    /// When it came due before. Nothing at the first time, and where the host does not watch the schedule.
    pub last: Option<Timestamp>,
}

/// A message came off the queue. The host takes it out after a success and makes it visible again after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// What was put on the queue.
    pub text: String,
    /// How often it has come by now, as far as the host tells; 1 for the first time.
    pub dequeue_count: Option<u64>,
}

/// Why an invocation cannot be understood. Never with any of its content: it may hold what is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is no invocation.
    #[error("the invocation is no JSON object with a `Data` object in it")]
    Malformed,
    /// The function's folder and the program do not fit together.
    #[error(
        "the invocation has nothing under the binding `{0}`: deploy the function's folder that belongs to this version"
    )]
    NoBinding(String),
    /// A wrapped request that cannot have been one.
    #[error("the wrapped request has no valid {0}")]
    Request(&'static str),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Data")]
    data: Map<String, Value>,
    #[serde(rename = "Metadata")]
    metadata: Option<Value>,
}

impl Invocation {
    /// Reads the body of `POST /{function}`.
    ///
    /// # Errors
    /// When it is no invocation.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let Envelope { data, metadata } =
            serde_json::from_slice(body).map_err(|_| Error::Malformed)?;
        let metadata = match metadata {
            Some(Value::Object(metadata)) => metadata,
            // Nothing that matters is lost with it.
            _ => Map::new(),
        };
        Ok(Self { data, metadata })
    }

    /// What the binding of a timer holds. Fields that are missing or odd are as good as absent: that it is time is told
    /// by the invocation itself.
    ///
    /// # Errors
    /// When there is no such binding.
    pub fn timer(&self, binding: &str) -> Result<Timer, Error> {
        let timer = self.binding(binding)?;
        // The host has been seen to hand over text where it means an object.
        let parsed;
        let timer = match timer {
            Value::String(text) => {
                parsed = serde_json::from_str(text).unwrap_or_default();
                &parsed
            }
            timer => timer,
        };
        let last = timer
            .get("ScheduleStatus")
            .and_then(|status| status.get("Last"))
            .and_then(Value::as_str)
            .and_then(read_time);
        Ok(Timer {
            is_past_due: timer
                .get("IsPastDue")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            last,
        })
    }

    /// What the binding of a queue holds.
    ///
    /// The host serialises the message's text as JSON, and then once more as a part of the invocation, so that it
    /// arrives in quotes within quotes. Its own documentation shows it with one pair, so that form is taken too.
    ///
    /// # Errors
    /// When there is no such binding.
    pub fn queue_message(&self, binding: &str) -> Result<QueueMessage, Error> {
        let text = match self.binding(binding)? {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(Value::String(inner)) => inner,
                _ => text.clone(),
            },
            other => other.to_string(),
        };
        let dequeue_count = match self.metadata.get("DequeueCount") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().trim_matches('"').parse().ok(),
            _ => None,
        };
        Ok(QueueMessage {
            text,
            dequeue_count,
        })
    }

    /// The request that the binding of an HTTP trigger holds, where the host wraps requests and does not forward them.
    ///
    /// # Errors
    /// When there is no such binding, or it cannot have been a request.
    pub fn http_request(&self, binding: &str) -> Result<Request<Bytes>, Error> {
        let wrapped = self.binding(binding)?;
        let text = |name: &str| wrapped.get(name).and_then(Value::as_str);
        let method = text("Method")
            .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
            .ok_or(Error::Request("method"))?;
        let uri: Uri = text("Url")
            .and_then(|uri| uri.parse().ok())
            .ok_or(Error::Request("url"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let body = match wrapped.get("Body") {
            None | Some(Value::Null) => Bytes::new(),
            Some(Value::String(text)) => Bytes::from(text.clone()),
            Some(other) => Bytes::from(other.to_string()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Error::Request("url"))?;
        let headers = wrapped.get("Headers").and_then(Value::as_object);
        for (name, values) in headers.into_iter().flatten() {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                continue;
            };
            // The body is no longer as long as it was on its way to the host.
            if name == http::header::CONTENT_LENGTH || name == http::header::TRANSFER_ENCODING {
                continue;
            }
            let values = match values {
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for value in values.iter().filter_map(Value::as_str) {
                if let Ok(value) = HeaderValue::from_str(value) {
                    request.headers_mut().append(name.clone(), value);
                }
            }
        }
        Ok(request)
    }

    fn binding(&self, name: &str) -> Result<&Value, Error> {
        self.data
            .get(name)
            .ok_or_else(|| Error::NoBinding(name.to_owned()))
    }
}

/// A time as the host writes it, with a zone or without (then it is UTC). Year 1 is how it says "never".
fn read_time(text: &str) -> Option<Timestamp> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => text
            .parse::<DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp(),
    };
    (time.to_zoned(jiff::tz::TimeZone::UTC).year() > 1).then_some(time)
}

/// The answer to a wrapped invocation. Whether it went well, the status of the HTTP reply tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    outputs: BTreeMap<String, Value>,
    logs: Vec<String>,
}

impl Reply {
    /// Lines for the host's log of this invocation.
    #[must_use]
    pub fn logs(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.logs.extend(lines.into_iter().map(Into::into));
        self
    }

    /// The answer to a wrapped request, under the name of the HTTP output binding.
    ///
    /// The host takes a text that happens to be valid Base64 for bytes. JSON text never is.
    #[must_use]
    pub fn http(
        mut self,
        binding: &str,
        status: StatusCode,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Self {
        let headers: Map<String, Value> = headers
            .iter()
            .filter_map(|(name, value)| {
                let value = value.to_str().ok()?;
                Some((name.as_str().to_owned(), value.into()))
            })
            .collect();
        self.outputs.insert(
            binding.to_owned(),
            json!({
                "statusCode": status.as_str(),
                "headers": headers,
                "body": String::from_utf8_lossy(body),
            }),
        );
        self
    }

    /// The body. Never empty: to an empty one the host reacts by waiting until the function's time is up.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        json!({ "Outputs": self.outputs, "Logs": self.logs, "ReturnValue": null })
            .to_string()
            .into()
    }
}
