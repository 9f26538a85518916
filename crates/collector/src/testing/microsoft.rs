//! A transport that plays Microsoft from a script, and keeps what was sent to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;

use crate::http::{Body, Error, Transport};

/// What one request gets.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<Piece>,
    delay: Duration,
    ending: Ending,
}

#[derive(Debug, Clone)]
enum Piece {
    Bytes(Bytes),
    Break,
    Silence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Reply,
    NoConnection,
    Panic,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    pub(crate) fn status(status: u16, body: impl Into<Bytes>) -> Self {
        let pieces = vec![Piece::Bytes(body.into())];
        Self {
            status,
            headers: Vec::new(),
            pieces,
            delay: Duration::ZERO,
            ending: Ending::Reply,
        }
    }

    /// A refusal in Microsoft's form.
    pub(crate) fn refused(status: u16, code: &str) -> Self {
        Self::status(
            status,
            format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#),
        )
    }

    /// Cut into pieces of this many bytes.
    pub(crate) fn in_pieces(mut self, bytes: usize) -> Self {
        let whole: Vec<u8> = self
            .pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.to_vec(),
                Piece::Break | Piece::Silence => Vec::new(),
            })
            .collect();
        self.pieces = whole
            .chunks(bytes)
            .map(|piece| Piece::Bytes(Bytes::copy_from_slice(piece)))
            .collect();
        self
    }

    /// The connection breaks behind the body.
    pub(crate) fn then_breaks(mut self) -> Self {
        self.pieces.push(Piece::Break);
        self
    }

    /// The body never ends.
    pub(crate) fn then_silence(mut self) -> Self {
        self.pieces.push(Piece::Silence);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Takes this long to come.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn no_connection() -> Self {
        Self {
            ending: Ending::NoConnection,
            ..Self::ok("")
        }
    }

    /// A defect of ours in the middle of asking.
    pub(crate) fn panic() -> Self {
        Self {
            ending: Ending::Panic,
            ..Self::ok("")
        }
    }

    fn into_response(self) -> http::Response<Body> {
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let pieces = futures::stream::iter(self.pieces).then(async |piece| match piece {
            Piece::Bytes(bytes) => Ok(bytes),
            Piece::Break => Err(Error::Connection {
                what: "connection reset".to_owned(),
            }),
            Piece::Silence => std::future::pending().await,
        });
        response.body(Body::from_stream(pieces)).unwrap()
    }
}

/// Microsoft as far as a test has told it what to answer. What it was not told: tokens are issued, listings are empty,
/// starts and stops succeed, and there is nothing else.
#[derive(Debug, Default)]
pub(crate) struct FakeMicrosoft {
    script: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    sent: Mutex<Vec<http::Request<Bytes>>>,
    token_count: Mutex<u32>,
}

impl FakeMicrosoft {
    /// What requests of a kind get, one after another; the last answer is given from then on. Kinds: `token`,
    /// `token/<tenant>`, `subscriptions`, `start/<content type>`, `hour/<start>`, `content/<content type>`, `page/<name>`, `blob/<name>`;
    /// at Resource Manager `site`, `settings/list`, `settings` (the put), `sync`, `syncfunctiontriggers`;
    /// at Alert Logic `aims`, `endpoint/<service>`, `register`, `checkin`, `deregister`.
    pub(crate) fn on(&self, kind: &str, answers: impl IntoIterator<Item = Answer>) {
        self.script
            .lock()
            .unwrap()
            .insert(kind.to_owned(), answers.into_iter().collect());
    }

    /// Every request, in order.
    pub(crate) fn sent(&self) -> Vec<http::Request<Bytes>> {
        self.sent.lock().unwrap().clone()
    }

    /// Requests of these kinds.
    pub(crate) fn sent_of(&self, kind: &str) -> Vec<http::Request<Bytes>> {
        self.sent()
            .into_iter()
            .filter(|request| kinds(request).iter().any(|of| of == kind))
            .collect()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.sent_of(kind).len()
    }

    /// Requests for blobs.
    pub(crate) fn blob_count(&self) -> usize {
        self.sent()
            .iter()
            .filter(|request| kinds(request)[0].starts_with("blob/"))
            .count()
    }

    fn answer(&self, request: &http::Request<Bytes>) -> Answer {
        let kinds = kinds(request);
        let mut script = self.script.lock().unwrap();
        for kind in &kinds {
            match script.get_mut(kind) {
                Some(answers) if answers.len() > 1 => return answers.pop_front().unwrap(),
                Some(answers) if answers.len() == 1 => return answers[0].clone(),
                _ => {}
            }
        }
        match kinds[0].split('/').next().unwrap() {
            "aims" => Answer::ok(
                r#"{"authentication":{"account":{"id":"1342"},"token":"aims-token","token_expiration":4070908800}}"#,
            ),
            "endpoint" => {
                let service = kinds[0].strip_prefix("endpoint/").unwrap();
                Answer::ok(format!(r#"{{"{service}":"{service}.example.net"}}"#))
            }
            "register" => Answer::ok(r#"{"source":{"id":"source-id","host":{"id":"host-id"}}}"#),
            "checkin" | "deregister" => Answer::ok("{}"),
            "token" => {
                let mut count = self.token_count.lock().unwrap();
                *count += 1;
                Answer::ok(format!(
                    r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"token-{count}"}}"#
                ))
            }
            "subscriptions" | "content" | "hour" => Answer::ok("[]"),
            "start" | "stop" => Answer::ok(r#"{"status":"enabled"}"#),
            _ => Answer::status(404, ""),
        }
    }
}

/// What a request is, most special first.
fn kinds(request: &http::Request<Bytes>) -> Vec<String> {
    let path = request.uri().path();
    let mut last = path.rsplit('/');
    let name = last.next().unwrap();
    let folder = last.next().unwrap_or_default();
    let parameter = |wanted: &str| {
        let query = request.uri().query().unwrap_or_default();
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='))
            .unwrap_or_default()
            .to_owned()
    };
    if path.contains("/azcollect/v1/") {
        return vec![match request.method().as_str() {
            "DELETE" => "deregister".to_owned(),
            _ if path.contains("/checkin/") => "checkin".to_owned(),
            _ => "register".to_owned(),
        }];
    }
    match (folder, name) {
        (_, "authenticate") => vec!["aims".to_owned()],
        (service, "endpoint") => vec![format!("endpoint/{service}")],
        (_, "token") => vec![
            format!("token/{}", path.split('/').nth(1).unwrap()),
            "token".to_owned(),
        ],
        ("subscriptions", "list") => vec!["subscriptions".to_owned()],
        ("subscriptions", "start") => vec![format!("start/{}", parameter("contentType"))],
        ("subscriptions", "stop") => vec![format!("stop/{}", parameter("contentType"))],
        ("subscriptions", "content") => {
            let page = parameter("nextPage");
            let tenant = path.split('/').nth(3).unwrap();
            let content_type = parameter("contentType");
            match page.as_str() {
                "" => vec![
                    // The hour of the start, as in 2026-07-16T08.
                    format!(
                        "hour/{}",
                        parameter("startTime").get(..13).unwrap_or_default()
                    ),
                    format!("content/{tenant}/{content_type}"),
                    format!("content/{content_type}"),
                    "content".to_owned(),
                ],
                page => vec![format!("page/{page}")],
            }
        }
        ("appsettings", "list") => vec!["settings/list".to_owned()],
        ("config", "appsettings") => vec!["settings".to_owned()],
        ("sites", _) => vec!["site".to_owned()],
        (_, "sync" | "syncfunctiontriggers") => vec![name.to_owned()],
        _ => vec![format!("blob/{name}"), "blob".to_owned()],
    }
}

#[async_trait]
impl Transport for FakeMicrosoft {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let answer = self.answer(&request);
        self.sent.lock().unwrap().push(request);
        // Even the shortest sleep takes a millisecond of the paused time, and tests compare times.
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        match answer.ending {
            Ending::Reply => Ok(answer.into_response()),
            Ending::NoConnection => Err(Error::Connection {
                what: "connection refused".to_owned(),
            }),
            Ending::Panic => panic!("as the test wants it"),
        }
    }
}
