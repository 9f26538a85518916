//! The promises of every sink, kept by this one too, whether a payload that failed had been taken or not.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::fake::{Answer, Rig, Seen, TENANT, config};
use crate::sinks::{
    Sink,
    alertlogic::{AlertLogicConfig, AlertLogicSink, DEFAULT_PAYLOAD_BYTES},
    conformance::{self, Subject},
    testing::{batch, records},
};

/// So small that a few hundred records need several payloads, and just large enough for the suite's longest record.
const SMALL_PAYLOAD_BYTES: usize = 2_000;

/// When a post to ingest fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    /// The payload is turned away.
    BeforeItIsTaken,
    /// The payload is taken, and its yes gets lost.
    AfterItIsTaken,
}

/// Ingest, as Alert Logic's customers see it.
#[derive(Default)]
struct Ingest {
    taken: Vec<String>,
    /// Takes this many more bytes of text, then fails once.
    room: Option<usize>,
    refused: Option<&'static str>,
}

impl Ingest {
    fn answer(&mut self, posted: &Seen, failing: Failing) -> Option<Answer> {
        if !posted.line.ends_with("/data/logmsgs") {
            return None;
        }
        let has = |marker| posted.texts.iter().any(|text| text.contains(marker));
        if self.refused.is_some_and(has) {
            return Some(Answer::Status(400, String::new()));
        }
        let bytes: usize = posted.texts.iter().map(String::len).sum();
        let fails = self.room.is_some_and(|room| room < bytes);
        self.room = match self.room {
            Some(room) if !fails => Some(room - bytes),
            _ => None,
        };
        if fails && failing == Failing::BeforeItIsTaken {
            return Some(Answer::Status(503, String::new()));
        }
        self.taken.extend(posted.texts.iter().cloned());
        fails.then_some(Answer::Unreachable)
    }
}

struct AlertLogicSubject {
    sink: AlertLogicSink,
    ingest: Arc<Mutex<Ingest>>,
    failing: Failing,
    /// For its ledger's folder.
    _rig: Rig,
}

impl AlertLogicSubject {
    fn new(failing: Failing, max_payload_bytes: usize) -> Self {
        let rig = Rig::new();
        let ingest = Arc::new(Mutex::new(Ingest::default()));
        let asked = Arc::clone(&ingest);
        rig.fake
            .hook(move |seen| asked.lock().unwrap().answer(seen, failing));
        let config = AlertLogicConfig {
            max_payload_bytes,
            ..config()
        };
        Self {
            sink: rig.sink_with(config, &[TENANT]),
            ingest,
            failing,
            _rig: rig,
        }
    }
}

#[async_trait]
impl Subject for AlertLogicSubject {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn arrived(&self) -> Vec<String> {
        self.ingest.lock().unwrap().taken.clone()
    }

    fn fail_after(&self, bytes: usize) {
        self.ingest.lock().unwrap().room = Some(bytes);
    }

    fn refuse(&self, marker: &'static str) -> bool {
        self.ingest.lock().unwrap().refused = Some(marker);
        true
    }

    /// A record that is spread over lines loses the white space between its tokens. Such a record of the suite's has no
    /// escapes, so every other quotation mark ends a string.
    fn as_it_arrives(&self, text: &str) -> String {
        if !text.contains('\n') {
            return text.to_owned();
        }
        let pieces = text.split('"').enumerate();
        let pieces = pieces.map(|(index, piece)| {
            if index % 2 == 1 {
                piece.to_owned()
            } else {
                piece.split_ascii_whitespace().collect()
            }
        });
        pieces.collect::<Vec<_>>().join("\"")
    }

    fn may_repeat(&self) -> bool {
        self.failing == Failing::AfterItIsTaken
    }
}

#[tokio::test]
async fn alert_logic_keeps_every_promise_of_a_sink_whatever_the_payloads_size() {
    for failing in [Failing::BeforeItIsTaken, Failing::AfterItIsTaken] {
        for bytes in [SMALL_PAYLOAD_BYTES, DEFAULT_PAYLOAD_BYTES] {
            conformance::check(async || AlertLogicSubject::new(failing, bytes)).await;
        }
    }
}

#[tokio::test]
async fn a_failure_between_payloads_counts_those_before_it() {
    for failing in [Failing::BeforeItIsTaken, Failing::AfterItIsTaken] {
        let subject = AlertLogicSubject::new(failing, SMALL_PAYLOAD_BYTES);
        let texts = records(0, 2_000);
        subject.fail_after(60_000);
        let failure = subject.sink.deliver(&batch(&texts)).await.unwrap_err();
        let count = failure.delivered_count;
        assert!((1..2_000).contains(&count), "{count}");
        match failing {
            Failing::BeforeItIsTaken => assert_eq!(subject.arrived(), texts[..count]),
            Failing::AfterItIsTaken => assert!(subject.arrived().len() > count),
        }
    }
}
