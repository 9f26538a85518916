//! The Splunk sink against a fake of the HTTP Event Collector.

mod fake;
mod letting_go;
mod pure;

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use uuid::Uuid;

use self::fake::{Answer, Fake, TOKEN, config};
use super::reply::MAX_REPLY_BYTES;
use super::*;
use crate::sinks::{
    conformance::{self, Subject},
    testing::{SetClock, batch, record, records},
};

struct SplunkSubject {
    fake: Arc<Fake>,
    sink: SplunkHecSink,
}

fn sink(fake: &Arc<Fake>, set: impl FnOnce(&mut SplunkHecConfig)) -> SplunkHecSink {
    let mut config = config();
    set(&mut config);
    let clock = SetClock::at("2026-07-16T10:00:00Z");
    SplunkHecSink::build(config, Arc::clone(fake) as _, clock).unwrap()
}

#[async_trait]
impl Subject for SplunkSubject {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn arrived(&self) -> Vec<String> {
        self.fake.indexed()
    }

    fn fail_after(&self, bytes: usize) {
        self.fake.fail_after(bytes);
    }

    fn refuse(&self, marker: &'static str) -> bool {
        self.fake.refuse(marker);
        true
    }

    fn may_repeat(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn splunk_keeps_every_promise_of_a_sink_with_and_without_acknowledgement() {
    for has_acks in [false, true] {
        conformance::check(async || {
            let fake = Fake::new(has_acks);
            let sink = sink(&fake, |config| config.max_batch_bytes = 16 * 1024);
            SplunkSubject { fake, sink }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_carries_the_token_and_the_channel_of_this_process() {
    let fake = Fake::new(true);
    let sink = sink(&fake, |config| {
        config.url = "https://splunk.example.net:8088/behind/proxy/".to_owned()
    });
    sink.deliver(&batch(&records(0, 3))).await.unwrap();
    let requests = fake.requests();
    let channel = requests[0].headers["x-splunk-request-channel"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(channel.parse::<Uuid>().unwrap().get_version_num(), 4);
    assert_eq!(
        requests[0].uri.to_string(),
        "https://splunk.example.net:8088/behind/proxy/services/collector/event"
    );
    assert_eq!(requests[0].headers["content-encoding"], "gzip");
    let ask = format!(
        "https://splunk.example.net:8088/behind/proxy/services/collector/ack?channel={channel}"
    );
    assert_eq!(requests[1].uri.to_string(), ask);
    for request in &requests {
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.headers["authorization"], format!("Splunk {TOKEN}"));
        assert!(request.headers["authorization"].is_sensitive());
        assert_eq!(
            request.headers["x-splunk-request-channel"],
            channel.as_str()
        );
    }
    let other = Fake::new(false);
    self::sink(&other, |_| {})
        .deliver(&batch(&records(0, 1)))
        .await
        .unwrap();
    assert_ne!(
        other.requests()[0].headers["x-splunk-request-channel"],
        channel.as_str()
    );
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_asked_for_until_it_comes_at_growing_pauses() {
    let fake = Fake::new(true);
    fake.index_after_questions.store(8, Ordering::SeqCst);
    let sink = sink(&fake, |_| {});
    let start = Instant::now();
    sink.deliver(&batch(&records(0, 3))).await.unwrap();
    assert_eq!(fake.questions(), 8);
    assert_eq!(fake.indexed(), records(0, 3));
    let pauses = fake.question_times();
    assert!(pauses[0] - start >= acks::MIN_PAUSE);
    assert!(
        pauses
            .windows(3)
            .all(|times| times[2] - times[1] > times[1] - times[0]),
        "{pauses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_acknowledged_in_time_counts_as_not_delivered() {
    let fake = Fake::new(true);
    fake.index_after_questions
        .store(usize::MAX, Ordering::SeqCst);
    let sink = sink(&fake, |config| {
        config.acknowledge_within = Duration::from_secs(30)
    });
    let start = Instant::now();
    let failure = sink.deliver(&batch(&records(0, 3))).await.unwrap_err();
    assert_eq!(failure.delivered_count, 0);
    assert!(
        matches!(failure.error, Error::Unavailable { .. }),
        "{failure:?}"
    );
    assert!(
        (30..35).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_stands_before_the_first_missing_acknowledgement_is_delivered() {
    let fake = Fake::new(true);
    // Of four requests, the third is lost inside Splunk.
    fake.lose(2);
    let bytes = record(0).len() + 300;
    let sink = sink(&fake, |config| {
        config.max_batch_bytes = 2 * bytes;
        config.acknowledge_within = Duration::from_secs(30);
    });
    let failure = sink.deliver(&batch(&records(0, 8))).await.unwrap_err();
    assert_eq!(
        fake.requests()
            .iter()
            .filter(|request| request.uri.path().ends_with("/event"))
            .count(),
        4
    );
    assert_eq!(failure.delivered_count, 4);
}

#[tokio::test(start_paused = true)]
async fn batches_that_wait_are_asked_for_together() {
    let fake = Fake::new(true);
    fake.index_after_questions.store(3, Ordering::SeqCst);
    let sink = sink(&fake, |_| {});
    let deliver = async |first: usize| sink.deliver(&batch(&records(first, 3))).await;
    let delivered = futures::future::join_all((0..20).map(|number| deliver(number * 3))).await;
    assert!(delivered.into_iter().all(|result| result.is_ok()));
    assert_eq!(fake.indexed().len(), 60);
    assert_eq!(fake.questions(), 3);
}

#[tokio::test(start_paused = true)]
async fn questions_come_sooner_when_the_indexers_are_fast() {
    let fake = Fake::new(true);
    fake.index_after_questions.store(1, Ordering::SeqCst);
    let sink = sink(&fake, |_| {});
    let mut took = Vec::new();
    for number in 0..10 {
        let start = Instant::now();
        sink.deliver(&batch(&records(number, 1))).await.unwrap();
        took.push(start.elapsed());
    }
    assert!(took[0] >= Duration::from_millis(50), "{took:?}");
    assert!(took[9] <= Duration::from_millis(25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_keeps_no_other_from_its_acknowledgement() {
    let fake = Fake::new(true);
    let sink = sink(&fake, |_| {});
    let (one, other) = (batch(&records(0, 1)), batch(&records(1, 1)));
    let other = tokio::join!(
        tokio::time::timeout(Duration::from_millis(1), sink.deliver(&one)),
        sink.deliver(&other)
    );
    assert!(other.0.is_err());
    other.1.unwrap();
    assert_eq!(fake.questions(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_splunk_counts_anew_is_not_taken_for_acknowledged() {
    let fake = Fake::new(true);
    fake.lose(0);
    let sink = sink(&fake, |_| {});
    let (one, other) = (batch(&records(0, 1)), batch(&records(1, 1)));
    let first = sink.deliver(&one);
    let second = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fake.next_ack.store(0, Ordering::SeqCst);
        sink.deliver(&other).await
    };
    let (first, second) = tokio::join!(first, second);
    second.unwrap();
    let failure = first.unwrap_err();
    assert_eq!(failure.delivered_count, 0);
    assert!(
        matches!(failure.error, Error::Unavailable { .. }),
        "{failure:?}"
    );
}

/// One batch of which Splunk says that it is indexed while the answer to another is still on its way, for ten seconds. What
/// became of both, and when the first was known.
async fn yes_among(
    fake: &Arc<Fake>,
    before_other: impl FnOnce(&Fake),
) -> (Result<Receipt, Failure>, Result<Receipt, Failure>, Duration) {
    fake.index_after_questions.store(1, Ordering::SeqCst);
    fake.delay_events([Duration::ZERO, Duration::from_secs(10)]);
    let sink = sink(fake, |config| {
        config.acknowledge_within = Duration::from_secs(60)
    });
    let began = Instant::now();
    let (one, other) = (batch(&records(0, 1)), batch(&records(1, 1)));
    let first = async { (sink.deliver(&one).await, began.elapsed()) };
    let second = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        before_other(fake);
        sink.deliver(&other).await
    };
    let ((first, known_after), second) = tokio::join!(first, second);
    (first, second, known_after)
}

#[tokio::test(start_paused = true)]
async fn a_yes_counts_once_no_batch_under_way_can_be_meant() {
    let fake = Fake::new(true);
    let (first, second, known_after) = yes_among(&fake, |_| {}).await;
    first.unwrap();
    second.unwrap();
    assert_eq!(known_after.as_secs(), 10);
    assert_eq!(fake.indexed(), records(0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_yes_that_means_a_batch_under_way_since_a_restart_is_of_no_other() {
    let fake = Fake::new(true);
    fake.lose(0);
    let restart = |fake: &Fake| fake.next_ack.store(0, Ordering::SeqCst);
    let (first, _, known_after) = yes_among(&fake, restart).await;
    assert_eq!(fake.indexed(), records(1, 1), "it said yes, of the other");
    assert_eq!(first.unwrap_err().delivered_count, 0);
    assert_eq!(known_after.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_not_believed_when_the_answer_to_a_batch_under_way_is_lost() {
    let fake = Fake::new(true);
    let lose_answer = |fake: &Fake| fake.answer_events([Answer::NoConnection]);
    let (first, second, known_after) = yes_among(&fake, lose_answer).await;
    assert_eq!(first.unwrap_err().delivered_count, 0);
    second.unwrap_err();
    assert_eq!(known_after.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_batch_under_way_leaves_a_yes_what_it_is() {
    for answer in [
        Answer::json(503, r#"{"text":"Server is busy","code":9}"#),
        Answer::json(403, "<html>"),
    ] {
        let fake = Fake::new(true);
        let (first, second, known_after) =
            yes_among(&fake, |fake| fake.answer_events([answer])).await;
        first.unwrap();
        second.unwrap_err();
        assert_eq!(known_after.as_secs(), 10);
    }
}

/// Splunk was restarted, has taken a batch under the id of one that waits, and nobody was told: its yes to that id, which
/// comes later, is not that one's.
#[tokio::test(start_paused = true)]
async fn what_waits_when_the_answer_to_another_batch_is_lost_is_sent_again() {
    for answer in [
        Answer::NoConnection,
        Answer::json(502, "<html>"),
        Answer::json(500, r#"{"text":"Internal server error","code":8}"#),
    ] {
        let fake = Fake::new(true);
        fake.lose(0);
        let sink = sink(&fake, |_| {});
        let (one, other) = (batch(&records(0, 1)), batch(&records(1, 1)));
        let second = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            fake.answer_events([answer]);
            sink.deliver(&other).await
        };
        let began = Instant::now();
        let (first, second) = tokio::join!(sink.deliver(&one), second);
        second.unwrap_err();
        assert_eq!(first.unwrap_err().delivered_count, 0);
        assert_eq!(began.elapsed().as_secs(), 0, "it waits for no yes");
        // What comes after it is safe.
        sink.deliver(&one).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_token_has_no_acknowledgement_taken_is_enough() {
    let fake = Fake::new(true);
    fake.answer_questions([Answer::json(400, r#"{"text":"ACK is disabled","code":14}"#)]);
    sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap();
    assert_eq!(fake.questions(), 1);
}

#[tokio::test(start_paused = true)]
async fn asking_goes_on_while_splunk_restarts() {
    let fake = Fake::new(true);
    fake.answer_questions([
        Answer::json(503, r#"{"text":"Server is busy","code":9}"#),
        Answer::NoConnection,
        Answer::json(502, "<html>"),
        Answer::json(200, r#"{"acks":{}}"#),
    ]);
    sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap();
    assert_eq!(fake.questions(), 4 + 2);
    assert_eq!(fake.indexed(), records(0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_while_asking_ends_the_asking() {
    let fake = Fake::new(true);
    fake.answer_questions([Answer::json(403, r#"{"text":"Invalid token","code":4}"#)]);
    let failure = sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Refused { .. }),
        "{failure:?}"
    );
    assert_eq!(failure.delivered_count, 0);
    assert_eq!(fake.questions(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_largest_number_of_64_bits_is_asked_for_as_it_came() {
    let fake = Fake::new(true);
    fake.next_ack.store(u64::MAX, Ordering::SeqCst);
    sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap();
    assert_eq!(fake.indexed(), records(0, 3));
    let requests = fake.requests();
    assert_eq!(requests[1].body, b"{\"acks\":[18446744073709551615]}");
}

#[tokio::test]
async fn bad_records_are_found_however_splunk_counts() {
    // From 0, from 1, not at all, out of range, and always the same wrong one.
    let hints: [fn(usize) -> Option<usize>; 5] = [
        Some,
        |index| Some(index + 1),
        |_| None,
        |_| Some(usize::MAX),
        |_| Some(0),
    ];
    for hint in hints {
        let fake = Fake::new(false);
        fake.refuse("\"bad\"");
        fake.hint(hint);
        let mut texts = records(0, 33);
        for index in [5, 6, 32] {
            texts[index] = format!(r#"{{"Id":"{index}","a":"bad"}}"#);
        }
        let receipt = sink(&fake, |_| {}).deliver(&batch(&texts)).await.unwrap();
        let refused: Vec<_> = receipt
            .refused
            .iter()
            .map(|refused| refused.index_in_batch)
            .collect();
        assert_eq!(refused, [5, 6, 32]);
        assert_eq!(
            receipt.refused[0].reason,
            "splunk refuses it: Invalid data format (code 6)"
        );
        texts.retain(|text| !text.contains("bad"));
        assert_eq!(fake.indexed(), texts);
    }
}

#[tokio::test]
async fn what_is_too_large_for_one_request_is_cut_up_and_a_record_too_large_alone_is_refused() {
    let fake = Fake::new(false);
    fake.max_events_bytes.store(1_000, Ordering::SeqCst);
    let mut texts = records(0, 33);
    texts[7] = format!(r#"{{"Id":"large","a":"{}"}}"#, "x".repeat(2_000));
    let receipt = sink(&fake, |_| {}).deliver(&batch(&texts)).await.unwrap();
    assert_eq!(receipt.refused.len(), 1);
    assert_eq!(receipt.refused[0].index_in_batch, 7);
    assert!(
        receipt.refused[0].reason.contains("too large"),
        "{}",
        receipt.refused[0].reason
    );
    texts.remove(7);
    assert_eq!(fake.indexed(), texts);
}

#[tokio::test]
async fn refused_records_before_a_failure_are_told_and_those_behind_it_are_not() {
    let fake = Fake::new(false);
    fake.refuse("\"bad\"");
    let mut texts = records(0, 20);
    for index in [1, 19] {
        texts[index] = format!(r#"{{"Id":"{index}","a":"bad"}}"#);
    }
    fake.fail_after(record(0).len() * 10);
    let bytes = record(0).len() + 300;
    let sink = sink(&fake, |config| config.max_batch_bytes = 4 * bytes);
    let failure = sink.deliver(&batch(&texts)).await.unwrap_err();
    assert!((2..20).contains(&failure.delivered_count), "{failure:?}");
    let refused: Vec<_> = failure
        .refused
        .iter()
        .map(|refused| refused.index_in_batch)
        .collect();
    assert_eq!(refused, [1]);
    let receipt = sink
        .deliver(&batch(&texts).skip(failure.delivered_count))
        .await
        .unwrap();
    assert_eq!(
        receipt.refused[0].index_in_batch,
        19 - failure.delivered_count
    );
    texts.retain(|text| !text.contains("bad"));
    assert_eq!(fake.indexed(), texts);
}

#[tokio::test]
async fn what_is_no_collector_never_gets_a_records_yes() {
    for (status, body) in [
        (200, "<html>welcome</html>"),
        (200, ""),
        (200, r#"{"code":"0"}"#),
        (200, r#"{"text":"Success","code":0,"ackId":{"a":[]}}"#),
        (204, ""),
        (302, ""),
        (400, "bad request"),
        (404, r#"{"text":"Success","code":0}"#),
        (405, ""),
    ] {
        let fake = Fake::new(false);
        fake.answer_events([Answer::json(status, body)]);
        let failure = sink(&fake, |_| {})
            .deliver(&batch(&records(0, 3)))
            .await
            .unwrap_err();
        assert!(
            matches!(failure.error, Error::Refused { .. }),
            "{status} {body}: {failure:?}"
        );
        assert_eq!(failure.delivered_count, 0);
        assert!(failure.to_string().contains("`url`"), "{failure}");
    }
}

#[tokio::test]
async fn a_reply_without_end_is_not_read_to_its_end() {
    let fake = Fake::new(false);
    fake.answer_events([Answer::Json(
        StatusCode::OK,
        vec![b' '; MAX_REPLY_BYTES + 1],
    )]);
    let failure = sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Unavailable { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn the_token_is_in_no_message() {
    let fake = Fake::new(false);
    fake.answer_events([Answer::json(
        401,
        r#"{"text":"Invalid authorization","code":3}"#,
    )]);
    let failure = sink(&fake, |_| {})
        .deliver(&batch(&records(0, 3)))
        .await
        .unwrap_err();
    assert!(!format!("{failure:?} {failure} {:?}", config()).contains(TOKEN));
}

#[test]
fn what_no_collector_can_have_is_refused_at_once() {
    let build = |set: fn(&mut SplunkHecConfig)| {
        let mut config = config();
        set(&mut config);
        let fake = Fake::new(false);
        SplunkHecSink::build(config, fake, SetClock::at("2026-07-16T10:00:00Z")).map(drop)
    };
    let bad: [fn(&mut SplunkHecConfig); 8] = [
        |config| config.url = "splunk.example.net:8088".to_owned(),
        |config| config.url = "ftp://splunk.example.net".to_owned(),
        |config| config.url = "https://user:secret@splunk.example.net".to_owned(),
        |config| config.url = "https://splunk.example.net/?a=b".to_owned(),
        |config| config.url = "https://splunk.example.net/#a".to_owned(),
        |config| config.url = String::new(),
        |config| config.token = "line\nbreak".into(),
        |config| config.token = "".into(),
    ];
    for set in bad {
        let error = build(set).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(
            !error.to_string().contains("secret") && !error.to_string().contains("break"),
            "{error}"
        );
    }
    build(|_| {}).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_posts_no_event_and_tells_whether_the_token_is_accepted() {
    let fake = Fake::new(true);
    let sink = sink(&fake, |_| {});
    sink.probe().await.unwrap();
    let requests = fake.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].body.is_empty());
    for (status, answer, says) in [
        (403, r#"{"text":"Invalid token","code":4}"#, "Invalid token"),
        (503, r#"{"text":"Server is busy","code":9}"#, "busy"),
        (404, "<html>no such page</html>", "404"),
    ] {
        fake.answer_events([Answer::json(status, answer)]);
        let error = sink.probe().await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(TOKEN), "{error}");
    }
    fake.answer_events([Answer::NoConnection]);
    let error = sink.probe().await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(fake.indexed().is_empty());
}
