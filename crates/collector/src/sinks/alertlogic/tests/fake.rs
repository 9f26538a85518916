//! Alert Logic as a `Transport`: answers like the services unless a test's hook answers first, and keeps what it was sent.

use std::{
    io::Read,
    sync::{Arc, Mutex},
};

use activity_api::{ClientId, ContentId, ContentType, TenantId};
use bytes::Bytes;
use decode::{FieldSpan, RawPart, RecordSpan};
use flate2::read::ZlibDecoder;
use http::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use ledger::{LeaseRequest, Ledger, SeenBlob, SeenVia, SqliteLedger};
use secrecy::SecretString;
use tempfile::TempDir;

use super::super::{AlertLogicConfig, AlertLogicSink, TenantIdentity};
use crate::{
    clock::Clock,
    http::{Body, Error, Transport},
    record::{Batch, BlobPart, BlobTag},
};

pub(super) const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";
pub(super) const OTHER_TENANT: &str = "0873ee4d-d342-44f2-8961-74c442a2fad2";
pub(super) const SECRETS: [&str; 3] = ["aims-secret", "app-secret", "token-"];
pub(super) const START: i64 = 1_700_000_000;

#[derive(Debug)]
pub(super) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(super) fn advance(&self, duration: SignedDuration) {
        let mut now = self.0.lock().unwrap();
        *now += duration;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method, host and path.
    pub(super) line: String,
    pub(super) token: Option<String>,
    pub(super) body: Bytes,
    /// The messages' texts, of a `logmsgs`.
    pub(super) texts: Vec<String>,
}

pub(super) enum Answer {
    Status(u16, String),
    RetryAfter(u16, u64),
    Unreachable,
    /// A head, and a body that breaks off.
    Broken(u16),
    /// No answer, ever.
    Silence,
}

type Hook = Box<dyn FnMut(&Seen) -> Option<Answer> + Send>;

pub(super) struct Fake {
    seen: Mutex<Vec<Seen>>,
    hook: Mutex<Hook>,
    tokens: Mutex<u32>,
    clock: Arc<TestClock>,
    arrivals: tokio::sync::watch::Sender<usize>,
}

impl Fake {
    pub(super) fn hook(&self, hook: impl FnMut(&Seen) -> Option<Answer> + Send + 'static) {
        *self.hook.lock().unwrap() = Box::new(hook);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Lines of what was seen, volume reports left out: they come when they like.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.seen().into_iter().map(|seen| seen.line);
        lines
            .filter(|line| !line.ends_with("/data/lmcstats"))
            .collect()
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// Waits until a request like this was seen.
    pub(super) async fn until_seen(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let mut arrivals = self.arrivals.subscribe();
        loop {
            if let Some(seen) = self.seen().into_iter().find(&is_it) {
                return seen;
            }
            arrivals.changed().await.unwrap();
        }
    }

    fn answer(&self, seen: &Seen) -> Answer {
        if let Some(answer) = (self.hook.lock().unwrap())(seen) {
            return answer;
        }
        let path = seen.line.split_once("example.net").unwrap().1;
        let body = match path {
            "/aims/v1/authenticate" => {
                let mut tokens = self.tokens.lock().unwrap();
                *tokens += 1;
                let expires_at = self.clock.now().as_second() + 21_600;
                format!(
                    r#"{{"authentication":{{"account":{{"id":"1342"}},"token":"token-{tokens}","token_expiration":{expires_at}}}}}"#
                )
            }
            "/endpoints/v1/1342/residency/default/services/azcollect/endpoint" => {
                r#"{"azcollect":"azcollect.example.net"}"#.to_owned()
            }
            "/endpoints/v1/1342/residency/default/services/ingest/endpoint" => {
                r#"{"ingest":"ingest.example.net"}"#.to_owned()
            }
            "/ingest/v1/1342/data/logmsgs" | "/ingest/v1/1342/data/lmcstats" => String::new(),
            path if path.starts_with("/azcollect/v1/1342/azure/o365/sub/group/") => {
                r#"{"source":{"id":"source-id","host":{"id":"host-id"}}}"#.to_owned()
            }
            path => panic!("{path} is no path of the services"),
        };
        Answer::Status(200, body)
    }
}

#[async_trait::async_trait]
impl Transport for Fake {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let uri = request.uri();
        assert_eq!(uri.scheme_str(), Some("https"));
        let line = format!(
            "{} {}{}",
            request.method(),
            uri.authority().unwrap(),
            uri.path()
        );
        let token = request
            .headers()
            .get("x-aims-auth-token")
            .map(|token| token.to_str().unwrap().to_owned());
        let texts = if line.ends_with("/data/logmsgs") {
            texts(request.body())
        } else {
            Vec::new()
        };
        let seen = Seen {
            line,
            token,
            body: request.body().clone(),
            texts,
        };
        self.seen.lock().unwrap().push(seen.clone());
        self.arrivals.send_modify(|count| *count += 1);
        let reply = |status: u16, body: Body| {
            let mut reply = Response::new(body);
            *reply.status_mut() = StatusCode::from_u16(status).unwrap();
            reply
        };
        let broken = || Error::Connection {
            what: "connection reset".to_owned(),
        };
        match self.answer(&seen) {
            Answer::Status(status, body) => Ok(reply(status, Body::from_bytes(Bytes::from(body)))),
            Answer::RetryAfter(status, secs) => {
                let mut reply = reply(status, Body::from_bytes(Bytes::new()));
                reply.headers_mut().insert("retry-after", secs.into());
                Ok(reply)
            }
            Answer::Unreachable => Err(broken()),
            Answer::Broken(status) => Ok(reply(
                status,
                Body::from_stream(futures::stream::iter([Err(broken())])),
            )),
            Answer::Silence => std::future::pending().await,
        }
    }
}

/// Everything that a sink needs, and a folder that the ledger is in.
pub(super) struct Rig {
    pub(super) fake: Arc<Fake>,
    pub(super) clock: Arc<TestClock>,
    pub(super) ledger: Arc<SqliteLedger>,
    _folder: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(folder.path().join("ledger.db")).unwrap());
        let clock = Arc::new(TestClock(Mutex::new(
            Timestamp::from_second(START).unwrap(),
        )));
        let fake = Arc::new(Fake {
            seen: Mutex::default(),
            hook: Mutex::new(Box::new(|_| None)),
            tokens: Mutex::new(0),
            clock: Arc::clone(&clock),
            arrivals: tokio::sync::watch::Sender::new(0),
        });
        Self {
            fake,
            clock,
            ledger,
            _folder: folder,
        }
    }

    pub(super) fn sink(&self) -> AlertLogicSink {
        self.sink_with(config(), &[TENANT])
    }

    pub(super) fn sink_with(&self, config: AlertLogicConfig, tenants: &[&str]) -> AlertLogicSink {
        let tenants = tenants.iter().map(|tenant| TenantIdentity {
            tenant: tenant.parse().unwrap(),
            client_id: "a261478c-84fb-42f9-84c2-de050a4babe3"
                .parse::<ClientId>()
                .unwrap(),
            client_secret: Some(SecretString::from("app-secret")),
            content_types: vec![ContentType::Exchange, ContentType::Dlp],
        });
        let http: Arc<dyn Transport> = Arc::<Fake>::clone(&self.fake);
        let ledger: Arc<dyn Ledger> = Arc::<SqliteLedger>::clone(&self.ledger);
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        AlertLogicSink::build(config, tenants.collect(), http, ledger, clock).unwrap()
    }

    /// A batch of these records, as one part of one blob.
    pub(super) async fn batch(&self, records: &[String]) -> Batch {
        self.batch_of(TENANT, records).await
    }

    pub(super) async fn batch_of(&self, tenant: &str, records: &[String]) -> Batch {
        let tenant: TenantId = tenant.parse().unwrap();
        let now = self.clock.now();
        let seen = SeenBlob {
            tenant,
            content_type: ContentType::Exchange,
            content_id: ContentId::canonical("blob"),
            uri: "uri".to_owned(),
            created_at: now,
            expires_at: now + SignedDuration::from_hours(24),
            seen_via: SeenVia::Listing,
        };
        self.ledger.note_seen(vec![seen], now).await.unwrap();
        let request = LeaseRequest {
            max_count: 1,
            duration: std::time::Duration::ZERO,
            except_tenants: Vec::new(),
            for_sinks: Vec::new(),
            only: Vec::new(),
        };
        let lease = self
            .ledger
            .lease(&request, now)
            .await
            .unwrap()
            .pop()
            .unwrap();
        let blob = Arc::new(BlobTag {
            lease: lease.key(),
            tenant,
            content_type: ContentType::Exchange,
            content_id: ContentId::canonical("blob"),
            created_at: now,
        });
        let mut text = Vec::new();
        let mut spans = Vec::new();
        for record in records {
            spans.push(RecordSpan {
                start: text.len() as u32,
                len: record.len() as u32,
                id: field(record, "Id"),
                creation_time: field(record, "CreationTime"),
                record_type: Some(15),
                is_compact: !record.contains(": "),
            });
            text.extend_from_slice(record.as_bytes());
        }
        let part = RawPart {
            first_record: 0,
            text,
            spans,
        };
        Batch::new(vec![Arc::new(BlobPart::new(blob, part, None))])
    }
}

pub(super) fn config() -> AlertLogicConfig {
    AlertLogicConfig {
        name: "alertlogic".parse().unwrap(),
        api: "api.example.net".to_owned(),
        residency: "default".to_owned(),
        access_key_id: "key".to_owned(),
        secret_key: SecretString::from("aims-secret"),
        compression_level: 1,
        max_payload_bytes: 700_000,
        collector_name: "o365-collector".to_owned(),
        source_id: None,
        host_id: None,
        subscription_id: "sub".to_owned(),
        resource_group: "group".to_owned(),
        register_client_secret: true,
        azcollect: None,
        ingest: None,
        local_hostname: None,
    }
}

/// Records `0..count`, hard to compress.
pub(super) fn records(count: usize) -> Vec<String> {
    (0..count).map(|n| record(n, 40)).collect()
}

pub(super) fn record(n: usize, noise: usize) -> String {
    let mut state = n as u64 + 1;
    let noise: String = (0..noise)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 59) as u8 % 26)
        })
        .collect();
    format!(r#"{{"CreationTime":"2021-05-18T21:13:34","Id":"{n}","Noise":"{noise}"}}"#)
}

fn field(record: &str, name: &str) -> FieldSpan {
    let name = format!("\"{name}\":\"");
    let Some(at) = record.find(&name) else {
        return FieldSpan::default();
    };
    let start = at + name.len();
    let len = record[start..].find('"').unwrap();
    FieldSpan {
        start: start as u32,
        len: len as u32,
    }
}

/// The texts of a payload's messages, by hand: list, batch, message and text are fields 1, 3 and 6.
fn texts(body: &[u8]) -> Vec<String> {
    let mut raw = Vec::new();
    ZlibDecoder::new(body).read_to_end(&mut raw).unwrap();
    let batch = fields(&raw)
        .into_iter()
        .find(|(number, _)| *number == 1)
        .unwrap()
        .1;
    let messages = fields(batch).into_iter().filter(|(number, _)| *number == 3);
    let texts = messages.map(|(_, message)| {
        let text = fields(message)
            .into_iter()
            .find(|(number, _)| *number == 6)
            .unwrap()
            .1;
        String::from_utf8(text.to_vec()).unwrap()
    });
    texts.collect()
}

pub(super) fn message_ts(body: &[u8]) -> u64 {
    let mut raw = Vec::new();
    ZlibDecoder::new(body).read_to_end(&mut raw).unwrap();
    let batch = fields(&raw).remove(0).1;
    let message = fields(batch)
        .into_iter()
        .find(|(number, _)| *number == 3)
        .unwrap()
        .1;
    let ts = fields(message)
        .into_iter()
        .find(|(number, _)| *number == 2)
        .unwrap()
        .1;
    u64::from_le_bytes(ts.try_into().unwrap())
}

fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let len = match tag & 7 {
            0 => {
                varint(&mut message);
                0
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            wire => panic!("wire type {wire}"),
        };
        let (value, rest) = message.split_at(len);
        fields.push((tag >> 3, value));
        message = rest;
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = message[0];
        *message = &message[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
