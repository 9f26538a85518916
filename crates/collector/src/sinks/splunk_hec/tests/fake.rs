//! Splunk's HTTP Event Collector, as its documentation describes it.

use std::{
    collections::{HashMap, VecDeque},
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::super::SplunkHecConfig;
use crate::http::{Body, Error, Transport};

pub(super) const TOKEN: &str = "5e0a8a5e-canary-token";

pub(super) fn config() -> SplunkHecConfig {
    SplunkHecConfig {
        name: "splunk_hec".parse().unwrap(),
        url: "https://splunk.example.net:8088".to_owned(),
        token: TOKEN.into(),
        index: None,
        source: None,
        sourcetype: SplunkHecConfig::DEFAULT_SOURCETYPE.to_owned(),
        host: None,
        acknowledge_within: Duration::from_secs(300),
        max_batch_bytes: SplunkHecConfig::DEFAULT_MAX_BATCH_BYTES,
    }
}

/// A reply that a test dictates.
#[derive(Clone)]
pub(super) enum Answer {
    Json(StatusCode, Vec<u8>),
    NoConnection,
}

impl Answer {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::Json(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes().to_vec(),
        )
    }

    fn into_reply(self) -> Result<Response<Body>, Error> {
        match self {
            Self::Json(status, body) => {
                let mut reply = Response::new(Body::from_bytes(body.into()));
                *reply.status_mut() = status;
                Ok(reply)
            }
            Self::NoConnection => Err(Error::Connection {
                what: "connection refused".to_owned(),
            }),
        }
    }
}

pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

pub(super) struct Fake {
    has_acks: bool,
    pub(super) next_ack: AtomicU64,
    /// How many questions a request's events need until they are indexed.
    pub(super) index_after_questions: AtomicUsize,
    /// The longest request that is taken, unpacked.
    pub(super) max_events_bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<Arc<Seen>>,
    event_answers: VecDeque<Answer>,
    /// How long the answers to events are on their way, of the first requests.
    event_delays: VecDeque<Duration>,
    question_answers: VecDeque<Answer>,
    question_times: Vec<Instant>,
    indexed: Vec<String>,
    pending: HashMap<u64, (Vec<String>, usize)>,
    /// How many requests of events were taken.
    taken: usize,
    lost: Option<usize>,
    room: Option<usize>,
    refused: Option<&'static str>,
    hint: Option<fn(usize) -> Option<usize>>,
}

impl Fake {
    pub(super) fn new(has_acks: bool) -> Arc<Self> {
        Arc::new(Self {
            has_acks,
            next_ack: 0.into(),
            index_after_questions: 2.into(),
            max_events_bytes: usize::MAX.into(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The texts of all events that are safe, in order.
    pub(super) fn indexed(&self) -> Vec<String> {
        self.state().indexed.clone()
    }

    pub(super) fn requests(&self) -> Vec<Arc<Seen>> {
        self.state().requests.clone()
    }

    pub(super) fn questions(&self) -> usize {
        self.state().question_times.len()
    }

    pub(super) fn question_times(&self) -> Vec<Instant> {
        self.state().question_times.clone()
    }

    pub(super) fn answer_events(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().event_answers.extend(answers);
    }

    pub(super) fn delay_events(&self, delays: impl IntoIterator<Item = Duration>) {
        self.state().event_delays.extend(delays);
    }

    pub(super) fn answer_questions(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().question_answers.extend(answers);
    }

    /// Is busy once when so many bytes of events were taken.
    pub(super) fn fail_after(&self, bytes: usize) {
        self.state().room = Some(bytes);
    }

    /// Finds fault with each event that has this in it.
    pub(super) fn refuse(&self, marker: &'static str) {
        self.state().refused = Some(marker);
    }

    /// Tells the number of the faulty event in another way than from 0.
    pub(super) fn hint(&self, hint: fn(usize) -> Option<usize>) {
        self.state().hint = Some(hint);
    }

    /// Takes this request, counted from 0, and never indexes it.
    pub(super) fn lose(&self, request: usize) {
        self.state().lost = Some(request);
    }

    fn take_events(&self, body: &[u8]) -> Answer {
        if body.is_empty() {
            let dictated = self.state().event_answers.pop_front();
            return dictated.unwrap_or(Answer::json(400, r#"{"text":"No data","code":5}"#));
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(body)
            .read_to_string(&mut text)
            .unwrap();
        let events: Vec<String> = serde_json::Deserializer::from_str(&text)
            .into_iter::<HashMap<String, Box<RawValue>>>()
            .map(|event| event.unwrap().remove("event").unwrap().get().to_owned())
            .collect();
        let mut state = self.state();
        if let Some(answer) = state.event_answers.pop_front() {
            return answer;
        }
        if text.len() > self.max_events_bytes.load(Ordering::SeqCst) {
            return Answer::json(413, "<html>413</html>");
        }
        if let Some(marker) = state.refused
            && let Some(index) = events.iter().position(|event| event.contains(marker))
        {
            let index = state.hint.map_or(Some(index), |hint| hint(index));
            let hint = index.map_or(String::new(), |index| {
                format!(r#","invalid-event-number":{index}"#)
            });
            return Answer::json(
                400,
                &format!(r#"{{"text":"Invalid data format","code":6{hint}}}"#),
            );
        }
        let bytes: usize = events.iter().map(String::len).sum();
        if let Some(room) = state.room {
            if bytes > room {
                state.room = None;
                return Answer::json(503, r#"{"text":"Server is busy","code":9}"#);
            }
            state.room = Some(room - bytes);
        }
        state.taken += 1;
        if !self.has_acks {
            state.indexed.extend(events);
            return Answer::json(200, r#"{"text":"Success","code":0}"#);
        }
        let id = self.next_ack.fetch_add(1, Ordering::SeqCst);
        if state.lost != Some(state.taken - 1) {
            state.pending.insert(id, (events, 0));
        }
        Answer::json(
            200,
            &format!(r#"{{"text":"Success","code":0,"ackId":{id}}}"#),
        )
    }

    fn answer_question(&self, body: &[u8]) -> Answer {
        #[derive(serde::Deserialize)]
        struct Question {
            acks: Vec<u64>,
        }
        let question: Question = serde_json::from_slice(body).unwrap();
        let mut state = self.state();
        state.question_times.push(Instant::now());
        if let Some(answer) = state.question_answers.pop_front() {
            return answer;
        }
        let mut answers = serde_json::Map::new();
        for id in question.acks {
            let asked = state.pending.get_mut(&id).map(|(_, asked)| {
                *asked += 1;
                *asked
            });
            let is_indexed = asked
                .is_some_and(|asked| asked >= self.index_after_questions.load(Ordering::SeqCst));
            if is_indexed && let Some((events, _)) = state.pending.remove(&id) {
                state.indexed.extend(events);
            }
            answers.insert(id.to_string(), is_indexed.into());
        }
        Answer::json(200, &serde_json::json!({ "acks": answers }).to_string())
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let is_question = head.uri.path().ends_with("/services/collector/ack");
        assert!(
            is_question || head.uri.path().ends_with("/services/collector/event"),
            "{}",
            head.uri
        );
        let seen = Seen {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body: body.to_vec(),
        };
        self.state().requests.push(Arc::new(seen));
        let answer = if is_question {
            self.answer_question(&body)
        } else {
            let answer = self.take_events(&body);
            let delay = self.state().event_delays.pop_front();
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            answer
        };
        answer.into_reply()
    }
}
