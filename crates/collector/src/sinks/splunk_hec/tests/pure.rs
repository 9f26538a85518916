//! The parts without a network: events, requests, replies.

use expect_test::expect;
use proptest::prelude::*;

use super::{
    super::{encode::plan_requests, reply},
    *,
};
use crate::sinks::testing::part;

fn event(config: &SplunkHecConfig, text: &str) -> String {
    let mut event = Vec::new();
    Encoder::new(config).push_event(&mut event, &part(&[text]).records_from(0).next().unwrap());
    let event = String::from_utf8(event).unwrap();
    serde_json::from_str::<serde_json::Value>(&event).expect("an event is JSON");
    event
}

#[test]
fn an_event_carries_the_record_as_it_is_and_every_setting() {
    let config = SplunkHecConfig {
        host: Some("a \"host\"".to_owned()),
        source: Some("o365-collector".to_owned()),
        index: Some("o365".to_owned()),
        ..config()
    };
    let text = r#"{ "Id" : "1", "CreationTime": "2026-07-15T20:03:19", "n": 1.50 }"#;
    expect![[r#"{"time":1784145799.000,"host":"a \"host\"","source":"o365-collector","sourcetype":"o365:management:activity","index":"o365","event":{ "Id" : "1", "CreationTime": "2026-07-15T20:03:19", "n": 1.50 },"fields":{"tenant":"bf8d32d3-1c13-4487-af02-80dba2236485","content_type":"Audit.Exchange"}}"#]]
    .assert_eq(&event(&config, text));
}

#[test]
fn what_is_not_set_is_left_to_splunk() {
    expect![[r#"{"time":1784192400.000,"sourcetype":"o365:management:activity","event":{},"fields":{"tenant":"bf8d32d3-1c13-4487-af02-80dba2236485","content_type":"Audit.Exchange"}}"#]]
    .assert_eq(&event(&config(), "{}"));
}

#[test]
fn an_events_time_is_the_records_and_failing_that_the_blobs() {
    let time = |text: &str| {
        let event = event(&config(), &format!(r#"{{"CreationTime":{text}}}"#));
        event
            .strip_prefix("{\"time\":")
            .unwrap()
            .split_once(',')
            .unwrap()
            .0
            .to_owned()
    };
    let times: Vec<_> = [
        r#""2026-07-15T20:03:19""#,
        r#""2026-07-15T20:03:19Z""#,
        r#""2026-07-15T20:03:19.0451234Z""#,
        r#""2026-07-15T22:03:19.5+02:00""#,
        r#""2026-07-15""#,
        r#""1960-01-01T00:00:00""#,
        r#""yesterday""#,
        "null",
        "1784145799",
    ]
    .iter()
    .map(|text| format!("{text}: {}\n", time(text)))
    .collect();
    expect![[r#"
        "2026-07-15T20:03:19": 1784145799.000
        "2026-07-15T20:03:19Z": 1784145799.000
        "2026-07-15T20:03:19.0451234Z": 1784145799.045
        "2026-07-15T22:03:19.5+02:00": 1784145799.500
        "2026-07-15": 1784073600.000
        "1960-01-01T00:00:00": 0.000
        "yesterday": 1784192400.000
        null: 1784192400.000
        1784145799: 1784192400.000
    "#]]
    .assert_eq(&times.concat());
}

fn head(status: u16, retry_after: Option<&str>) -> http::response::Parts {
    let mut reply = http::Response::builder().status(status);
    if let Some(retry_after) = retry_after {
        reply = reply.header("Retry-After", retry_after);
    }
    reply.body(()).unwrap().into_parts().0
}

fn read(status: u16, retry_after: Option<&str>, body: &str) -> Result<Outcome, Error> {
    let now = "2026-07-16T10:00:00Z".parse().unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes());
    reply::read_event_reply(
        &"splunk_hec".parse().unwrap(),
        &head(status, retry_after),
        &body,
        now,
    )
}

#[test]
fn every_code_has_its_meaning() {
    let replies = [
        (200, r#"{"text":"Success","code":0}"#),
        (200, r#"{"text":"Success","code":0,"ackId":7}"#),
        (200, r#"{"text":"Success","code":0,"ackId":null}"#),
        (403, r#"{"text":"Token disabled","code":1}"#),
        (401, r#"{"text":"Token is required","code":2}"#),
        (401, r#"{"text":"Invalid authorization","code":3}"#),
        (403, r#"{"text":"Invalid token","code":4}"#),
        (400, r#"{"text":"No data","code":5}"#),
        (
            400,
            r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#,
        ),
        (
            400,
            r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#,
        ),
        (500, r#"{"text":"Internal server error","code":8}"#),
        (503, r#"{"text":"Server is busy","code":9}"#),
        (400, r#"{"text":"Data channel is missing","code":10}"#),
        (400, r#"{"text":"Invalid data channel","code":11}"#),
        (
            400,
            r#"{"text":"Event field is required","code":12,"invalid-event-number":0}"#,
        ),
        (400, r#"{"text":"Event field cannot be blank","code":13}"#),
        (
            400,
            r#"{"text":"Error in handling indexed fields","code":15}"#,
        ),
        (503, r#"{"text":"Queues are full","code":18}"#),
        (400, r#"{"text":"line\nbreak","code":99}"#),
        (413, "<html>"),
        (429, ""),
        (408, ""),
        (502, "<html>"),
        (401, ""),
        (404, ""),
    ];
    let meanings: Vec<_> = replies
        .iter()
        .map(|(status, body)| match read(*status, None, body) {
            Ok(outcome) => format!("{status} {body}\n  {outcome:?}\n"),
            Err(Error::Unavailable { what, .. }) => {
                format!("{status} {body}\n  try again: {what}\n")
            }
            Err(error) => format!("{status} {body}\n  a person must act: {error}\n"),
        })
        .collect();
    expect![[r#"
        200 {"text":"Success","code":0}
          Taken { ack_id: None }
        200 {"text":"Success","code":0,"ackId":7}
          Taken { ack_id: Some(AckId("7")) }
        200 {"text":"Success","code":0,"ackId":null}
          Taken { ack_id: None }
        403 {"text":"Token disabled","code":1}
          a person must act: sink splunk_hec: splunk refuses our requests: Token disabled (code 1); check `token`, and in Splunk that the token exists and is enabled
        401 {"text":"Token is required","code":2}
          a person must act: sink splunk_hec: splunk refuses our requests: Token is required (code 2); check `token`, and in Splunk that the token exists and is enabled
        401 {"text":"Invalid authorization","code":3}
          a person must act: sink splunk_hec: splunk refuses our requests: Invalid authorization (code 3); check `token`, and in Splunk that the token exists and is enabled
        403 {"text":"Invalid token","code":4}
          a person must act: sink splunk_hec: splunk refuses our requests: Invalid token (code 4); check `token`, and in Splunk that the token exists and is enabled
        400 {"text":"No data","code":5}
          Unreadable { reason: "splunk refuses it: No data (code 5)", invalid_event: None }
        400 {"text":"Invalid data format","code":6,"invalid-event-number":2}
          Unreadable { reason: "splunk refuses it: Invalid data format (code 6)", invalid_event: Some(2) }
        400 {"text":"Incorrect index","code":7,"invalid-event-number":0}
          a person must act: sink splunk_hec: splunk refuses our requests: Incorrect index (code 7); check `index`, and in Splunk that the token may write to it
        500 {"text":"Internal server error","code":8}
          try again: sink splunk_hec: splunk is down or busy: Internal server error (code 8)
        503 {"text":"Server is busy","code":9}
          try again: sink splunk_hec: splunk is down or busy: Server is busy (code 9)
        400 {"text":"Data channel is missing","code":10}
          a person must act: sink splunk_hec: splunk refuses our requests: Data channel is missing (code 10); something between us and Splunk drops the X-Splunk-Request-Channel header
        400 {"text":"Invalid data channel","code":11}
          a person must act: sink splunk_hec: splunk refuses our requests: Invalid data channel (code 11); something between us and Splunk drops the X-Splunk-Request-Channel header
        400 {"text":"Event field is required","code":12,"invalid-event-number":0}
          Unreadable { reason: "splunk refuses it: Event field is required (code 12)", invalid_event: Some(0) }
        400 {"text":"Event field cannot be blank","code":13}
          Unreadable { reason: "splunk refuses it: Event field cannot be blank (code 13)", invalid_event: None }
        400 {"text":"Error in handling indexed fields","code":15}
          Unreadable { reason: "splunk refuses it: Error in handling indexed fields (code 15)", invalid_event: None }
        503 {"text":"Queues are full","code":18}
          try again: sink splunk_hec: splunk is down or busy: Queues are full (code 18)
        400 {"text":"line\nbreak","code":99}
          a person must act: sink splunk_hec: splunk refuses our requests: linebreak (code 99); look the code up in Splunk's documentation
        413 <html>
          Unreadable { reason: "splunk, or a proxy before it, refuses it: too large (413)", invalid_event: None }
        429 
          try again: sink splunk_hec: splunk is down or busy: 429 Too Many Requests
        408 
          try again: sink splunk_hec: splunk is down or busy: 408 Request Timeout
        502 <html>
          try again: sink splunk_hec: splunk is down or busy: 502 Bad Gateway
        401 
          a person must act: sink splunk_hec: splunk refuses our requests: 401 Unauthorized; check `token`
        404 
          a person must act: sink splunk_hec: what answers at `url` (404 Not Found) is no Splunk HTTP Event Collector; check `url`
    "#]].assert_eq(&meanings.concat());
}

#[test]
fn splunk_may_say_how_long_it_wants_to_be_left_alone() {
    for (text, expected) in [
        (Some("17"), Some(17)),
        (Some("Thu, 16 Jul 2026 10:02:00 GMT"), Some(120)),
        (Some("Thu, 16 Jul 2026 09:02:00 GMT"), None),
        (Some("soon"), None),
        (Some("-1"), None),
        (None, None),
    ] {
        let Err(Error::Unavailable { retry_after, .. }) = read(503, text, "") else {
            panic!("{text:?}")
        };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{text:?}");
    }
}

#[test]
fn splunks_own_words_are_cut_short() {
    let body = format!(r#"{{"text":"{}","code":4}}"#, "\\u001b[2J€".repeat(10_000));
    let text = read(403, None, &body).unwrap_err().to_string();
    assert!(
        text.chars().count() < 500 && !text.contains('\u{1b}'),
        "{text}"
    );
}

proptest! {
    #[test]
    fn a_batch_is_cut_into_requests_without_gap_or_overlap(
        lengths in proptest::collection::vec(0..2_000usize, 0..50),
        max_bytes in 1..10_000usize,
    ) {
        let texts: Vec<_> = lengths.iter().map(|length| format!(r#"{{"a":"{}"}}"#, "x".repeat(*length))).collect();
        let requests = plan_requests(&batch(&texts), max_bytes);
        let covered: Vec<_> = requests.iter().cloned().flatten().collect();
        prop_assert_eq!(covered, (0..texts.len()).collect::<Vec<_>>());
        for request in requests {
            let bytes: usize = texts[request.clone()].iter().map(String::len).sum();
            prop_assert!(bytes <= max_bytes || request.len() == 1);
        }
    }

    #[test]
    fn a_request_is_split_into_smaller_ones_without_gap_or_overlap(
        start in 0..100usize,
        length in 2..100usize,
        named in proptest::option::of(0..300usize),
    ) {
        let records = start..start + length;
        let parts = split(&records, named);
        prop_assert!(parts.len() >= 2);
        prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() < length));
        prop_assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), records.collect::<Vec<_>>());
    }
}
