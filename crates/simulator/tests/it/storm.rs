//! Storms, through the sockets: what a collector sees of each fault, and what the verdict says of it.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::{ContentType, HecOptions, Options, RequestKind, Storm};

use crate::client::{Answer, Client, read};

fn options(storm: &str) -> Options {
    Options {
        records: 1_000,
        records_per_blob: 20,
        content_types: vec![ContentType::Exchange],
        requests_per_minute: None,
        backlog: Duration::from_secs(20 * 3600),
        storm: Some(Storm::parse(storm).unwrap()),
        ..Options::default()
    }
}

async fn client(storm: &str) -> Client {
    let client = Client::start(options(storm)).await;
    client.start_subscription("Audit.Exchange", "").await;
    client
}

fn listing(client: &Client) -> String {
    client.feed("subscriptions/content?contentType=Audit.Exchange")
}

/// A blob's answer, or none where the connection broke.
async fn get_blob(client: &Client, row: &Value) -> Option<Answer> {
    let url = format!(
        "{}?PublisherIdentifier={}",
        row["contentUri"].as_str().unwrap(),
        client.tenant_id()
    );
    let response = client.http.get(url).bearer_auth(&client.token).send().await;
    let response = response.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.ok()?.to_vec();
    Some(Answer {
        status,
        headers,
        body,
    })
}

fn is_whole(answer: &Option<Answer>) -> bool {
    answer.as_ref().is_some_and(|answer| {
        answer.status == 200 && serde_json::from_slice::<Vec<Value>>(&answer.body).is_ok()
    })
}

#[tokio::test]
async fn a_body_is_harmed_once_and_then_comes_whole() {
    for what in [
        "truncated",
        "garbage",
        "html",
        "broken_gzip",
        "reset",
        "hangup",
        "answer_lost",
    ] {
        let storm = format!("[[fault]]\nwhat = '{what}'\non = 'blob'\nshare = 0.3\n");
        let client = client(&storm).await;
        let mut harmed = 0;
        let rows = client.list_all("Audit.Exchange").await;
        for row in &rows {
            let mut answer = get_blob(&client, row).await;
            // A client that asks for no gzip is told all the same that it is.
            if what == "broken_gzip"
                && answer
                    .as_ref()
                    .is_some_and(|answer| answer.headers.contains_key("content-encoding"))
            {
                answer = None;
            }
            if !is_whole(&answer) {
                harmed += 1;
                assert!(is_whole(&get_blob(&client, row).await), "{what}");
            }
        }
        let count = rows.len();
        assert!(
            (count / 8..count / 2).contains(&harmed),
            "{what}: {harmed} of {count}"
        );
    }
}

#[tokio::test]
async fn a_refusal_says_how_long_to_wait_where_the_storm_does() {
    let client = client(
        "[[fault]]\nwhat = 'throttled'\non = 'list'\nretry_after_secs = 3\nat_most = 1\n\
         [[fault]]\nwhat = 'status'\nstatus = 503\non = 'list'\nat_most = 1\n",
    )
    .await;
    let list = client.feed("subscriptions/list");
    let first = client.get(&list).await;
    assert_eq!(first.af(), "403 AF429");
    assert_eq!(first.headers["retry-after"], "3");
    let second = client.get(&list).await;
    assert_eq!(second.af(), "503 AF50000");
    assert!(!second.headers.contains_key("retry-after"));
    assert_eq!(client.get(&list).await.status, 200);
}

#[tokio::test]
async fn silence_slowness_and_drips_take_the_time_that_they_say() {
    let client = client(
        "[[fault]]\nwhat = 'hang'\nsecs = 0.2\non = 'list'\nat_most = 1\n\
         [[fault]]\nwhat = 'slow'\nsecs = 0.2\non = 'list'\nat_most = 2\n\
         [[fault]]\nwhat = 'drip'\nsecs = 0.2\non = 'content'\n",
    )
    .await;
    let list = client.feed("subscriptions/list");
    let started = Instant::now();
    let request = client.http.get(&list).bearer_auth(&client.token);
    assert!(request.send().await.is_err());
    // It was slow as well.
    assert!(started.elapsed() >= Duration::from_millis(400));
    let started = Instant::now();
    assert_eq!(client.get(&list).await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(200));
    let started = Instant::now();
    assert!(client.get(&listing(&client)).await.json().is_array());
    assert!(started.elapsed() >= Duration::from_millis(190));
}

#[tokio::test]
async fn hostile_addresses_lead_to_no_blob_and_honest_ones_follow() {
    let client =
        client("[[fault]]\nwhat = 'hostile_uri'\nshare = 0.5\n[[fault]]\nwhat = 'hostile_page'\n")
            .await;
    // The same window each time, as a collector asks for it.
    client.simulator.clock().set_speed(0.0);
    let now = client.simulator.clock().now();
    let start = now - jiff::SignedDuration::from_hours(23);
    let window = format!("startTime={start:.0}&endTime={now:.3}");
    let url = client.feed(&format!(
        "subscriptions/content?contentType=Audit.Exchange&{window}"
    ));
    let first = client.get(&url).await;
    let honest = format!(
        "{}/api/v1.0/{}/activity/feed/audit/",
        client.simulator.microsoft_origin(),
        client.tenant_id()
    );
    let uri = |row: &Value| row["contentUri"].as_str().unwrap().to_owned();
    let hostile: Vec<String> = first.json().as_array().unwrap().iter().map(uri).collect();
    let hostile: Vec<&String> = hostile
        .iter()
        .filter(|uri| !uri.starts_with(&honest))
        .collect();
    assert!(hostile.len() > 10, "{hostile:?}");
    for uri in &hostile {
        // Most lead to nobody at all.
        let request = client.http.get(uri.as_str()).bearer_auth(&client.token);
        if let Ok(answer) = request.send().await {
            assert_ne!(answer.status(), 200, "{uri}");
        }
    }
    let page = first.headers["nextpageuri"].to_str().unwrap();
    assert!(
        !page.starts_with(&format!(
            "{}/api/v1/{}",
            client.simulator.microsoft_origin(),
            client.tenant_id()
        )),
        "{page}"
    );
    let second = client.list_all("Audit.Exchange").await;
    assert!(second.iter().all(|row| uri(row).starts_with(&honest)));
}

#[tokio::test]
async fn pages_repeat_are_empty_and_go_in_circles_and_then_end() {
    for what in ["repeated_page", "empty_page", "circle"] {
        let mut options = options(&format!("[[fault]]\nwhat = '{what}'\n"));
        options.page_size = 20;
        let client = Client::start(options).await;
        client.start_subscription("Audit.Exchange", "").await;
        let rows = client.list_all("Audit.Exchange").await;
        let distinct: BTreeSet<&str> = rows
            .iter()
            .map(|row| row["contentId"].as_str().unwrap())
            .collect();
        assert_eq!(
            distinct.len() as u64,
            client.simulator.progress().blobs_total,
            "{what}"
        );
        assert_eq!(rows.len() > distinct.len(), what != "empty_page", "{what}");
    }
}

#[tokio::test]
async fn what_a_storm_makes_impossible_is_named_and_not_expected() {
    let client = client(
        "[[fault]]\nwhat = 'expired'\nat_most = 3\n[[fault]]\nwhat = 'undecodable_blob'\nat_most = 2\n\
         [[fault]]\nwhat = 'undecodable_record'\nat_most = 20\n",
    )
    .await;
    let mut text = Vec::new();
    for row in client.list_all("Audit.Exchange").await {
        let answer = get_blob(&client, &row).await.unwrap();
        if answer.status == 400 {
            assert_eq!(answer.af(), "400 AF20051");
            continue;
        }
        // The rubbish in between is known by its own verdict.
        let Ok(body) = String::from_utf8(answer.body) else {
            continue;
        };
        text.push(body);
    }
    let verdict = client.simulator.verdict();
    let impossible = &verdict.impossible;
    assert_eq!(impossible.expired_blobs.len(), 3);
    assert_eq!(impossible.undecodable_blobs.len(), 2);
    let rubbish = impossible.undecodable_records.len();
    // Some of the twenty may be in blobs that are lost as a whole.
    assert!((12..=20).contains(&rubbish), "{rubbish}");
    let empty = client.simulator.check_ndjson(Cursor::new("")).unwrap();
    assert_eq!(empty.expected + impossible.record_count, 1_000);
    assert_eq!(empty.missing.len() as u64, empty.expected);
    assert_eq!(
        client.simulator.progress().records_impossible,
        impossible.record_count
    );
}

#[tokio::test]
async fn odd_records_are_served_and_known_again() {
    let client = client(
        "[[fault]]\nwhat = 'without_id'\nat_most = 30\n[[fault]]\nwhat = 'without_creation_time'\nat_most = 30\n\
         [[fault]]\nwhat = 'large_record'\nbytes = 300_000\nat_most = 2\n\
         [[fault]]\nwhat = 'repeated_record'\napart_secs = 36_000\nat_most = 25\n",
    )
    .await;
    let records = client.collect().await;
    assert_eq!(records.len(), 1_025);
    let parsed: Vec<Value> = records
        .iter()
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    let lack = |name: &str| {
        parsed
            .iter()
            .filter(|record| record[name].is_null())
            .count()
    };
    assert_eq!((lack("Id"), lack("CreationTime")), (30, 30));
    assert_eq!(
        records
            .iter()
            .filter(|record| record.len() == 300_000)
            .count(),
        2
    );
    let lines = format!("{}\n", records.join("\n"));
    let verdict = client.simulator.check_ndjson(Cursor::new(&lines)).unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.expected, verdict.as_often_as_served), (1_000, 25));
    // Once each is right too; more often than they were served is not.
    let distinct: BTreeSet<&String> = records.iter().collect();
    let once: String = distinct
        .iter()
        .map(|record| format!("{record}\n"))
        .collect();
    let verdict = client.simulator.check_ndjson(Cursor::new(&once)).unwrap();
    assert!(
        verdict.is_clean() && verdict.as_often_as_served == 0,
        "{verdict}"
    );
    let verdict = client
        .simulator
        .check_ndjson(Cursor::new(lines.repeat(2)))
        .unwrap();
    assert_eq!(verdict.repeated.len(), 1_000);
}

#[tokio::test]
async fn late_blobs_appear_when_their_time_has_come_and_hidden_ones_never() {
    let client = client(
        "[[fault]]\nwhat = 'late'\nmin_secs = 100\nmax_secs = 200\nat_most = 10\n\
         [[fault]]\nwhat = 'not_listed'\nat_most = 5\n",
    )
    .await;
    client.simulator.clock().set_speed(0.0);
    let total = client.simulator.progress().blobs_total as usize;
    let before = client.list_all("Audit.Exchange").await.len();
    assert!(
        (total - 15..=total - 10).contains(&before),
        "{before} of {total}"
    );
    let due = client
        .simulator
        .check_ndjson(Cursor::new(""))
        .unwrap()
        .expected;
    client.simulator.clock().advance(Duration::from_secs(200));
    assert_eq!(client.list_all("Audit.Exchange").await.len(), total - 5);
    let later = client
        .simulator
        .check_ndjson(Cursor::new(""))
        .unwrap()
        .expected;
    assert!(due < later && later < 1_000, "{due} {later}");
}

#[tokio::test]
async fn a_huge_blob_is_made_while_it_is_sent() {
    for is_gzip in [true, false] {
        let mut options = options("[[fault]]\nwhat = 'huge_blob'\nbytes = 8_000_000\n");
        options.gzip = is_gzip;
        let client = Client::start(options).await;
        let records = client.collect().await;
        let bytes: usize = records.iter().map(String::len).sum();
        assert!((6_000_000..14_000_000).contains(&bytes), "{bytes}");
        let lines = format!("{}\n", records.join("\n"));
        let verdict = client.simulator.check_ndjson(Cursor::new(lines)).unwrap();
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!(verdict.expected, 1_000 + 8_000_000 / 1_200);
    }
}

#[tokio::test]
async fn the_services_clock_is_off_while_the_storm_says_so() {
    let mut options = options("[[fault]]\nwhat = 'clock_skew'\nsecs = -3600\nto_secs = 60\n");
    options.start_at = Some("2026-07-16T08:00:00Z".parse().unwrap());
    let client = Client::start(options).await;
    client.simulator.clock().set_speed(0.0);
    let date =
        async || client.get(&client.feed("subscriptions/list")).await.headers["date"].clone();
    assert!(date().await.to_str().unwrap().contains(" 07:00:0"));
    client.simulator.clock().advance(Duration::from_secs(60));
    assert!(date().await.to_str().unwrap().contains(" 08:01:0"));
}

#[tokio::test]
async fn sinks_refuse_batches_but_not_single_records_unless_for_ever() {
    let mut client = client(
        "[[fault]]\nwhat = 'status'\nstatus = 400\non = 'logmsgs'\nat_most = 1\n\
         [[fault]]\nwhat = 'refused_record'\nat = 'alertlogic'\nat_most = 1\n",
    )
    .await;
    client.register().await;
    let records = client.collect().await;
    let batch = client.batch(&records[..2]);
    assert_eq!(client.post_logmsgs(&batch).await.status, 400);
    let mut refused = 0;
    for record in &records[2..] {
        let status = client
            .post_logmsgs(&client.batch(std::slice::from_ref(record)))
            .await
            .status;
        refused += u32::from(status == 400);
    }
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("alertlogic").unwrap();
    assert_eq!((refused, sink.refused.len()), (1, 1));
    assert_eq!(sink.expected, 999);
}

#[tokio::test]
async fn an_event_collector_loses_answers_and_says_how_many() {
    let hec = HecOptions {
        acks: false,
        ..HecOptions::default()
    };
    let mut options = options("[[fault]]\nwhat = 'answer_lost'\non = 'hec_event'\nat_most = 1\n");
    options.hec = hec;
    let client = Client::start(options).await;
    let records = client.collect().await;
    let post = || {
        let body: String = records
            .iter()
            .take(3)
            .map(|record| {
                let parsed: Value = serde_json::from_str(record).unwrap();
                let time = format!("{}Z", parsed["CreationTime"].as_str().unwrap());
                let time: jiff::Timestamp = time.parse().unwrap();
                format!(
                    "{{\"time\":{},\"sourcetype\":\"x\",\"event\":{record}}}",
                    time.as_second()
                )
            })
            .collect();
        client
            .http
            .post(format!(
                "{}/services/collector/event",
                client.simulator.hec_origin()
            ))
            .header(
                "authorization",
                format!("Splunk {}", client.simulator.options().hec.token),
            )
            .body(body)
    };
    assert!(post().send().await.is_err());
    assert_eq!(read(post()).await.status, 200);
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("splunk_hec").unwrap();
    assert_eq!((sink.unanswered, sink.repeated.len()), (3, 3));
    assert_eq!(
        client
            .simulator
            .requests()
            .with_status(RequestKind::HecEvent, 0),
        1
    );
}
