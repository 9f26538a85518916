//! From a listing to the verdict.

use std::collections::HashSet;

use bytes::Bytes;
use simulator::{Corpus, Options, RequestKind};

use crate::client::Client;

fn options(records: u64) -> Options {
    Options {
        seed: 42,
        records,
        page_size: 3,
        ..Options::default()
    }
}

#[tokio::test]
async fn what_is_delivered_once_each_is_a_clean_verdict() {
    let mut client = Client::start(Options {
        tls: true,
        ..options(2_000)
    })
    .await;
    client.register().await;
    let records = client.collect().await;
    assert_eq!(records.len(), 2_000);
    assert!(
        !client.simulator.verdict().is_clean(),
        "nothing is delivered yet"
    );
    for chunk in records.chunks(700) {
        assert_eq!(client.post_logmsgs(&client.batch(chunk)).await.status, 200);
    }
    let verdict = client.simulator.verdict();
    assert!(verdict.is_clean(), "{verdict}");
    let progress = client.simulator.progress();
    assert_eq!(
        (
            progress.records_total,
            progress.records_listed,
            progress.records_fetched
        ),
        (2_000, 2_000, 2_000)
    );
    assert_eq!(
        (progress.records_acknowledged, progress.ingest_posts),
        (2_000, 3)
    );
    assert_eq!(progress.blobs_fetched, progress.blobs_total);
    assert_eq!(client.simulator.requests().without_publisher, 0);
    assert_eq!(client.simulator.requests().of(RequestKind::Logmsgs), 3);
    client.simulator.stop().await;
}

#[tokio::test]
async fn what_is_missing_repeated_altered_and_foreign_is_named() {
    let mut client = Client::start(options(50)).await;
    client.register().await;
    let records = client.collect().await;
    let id = |record: &String| {
        serde_json::from_str::<serde_json::Value>(record).unwrap()["Id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut sent = records[1..].to_vec();
    sent.push(records[7].clone());
    sent.push(records[7].clone());
    sent[1] = format!("{} ", records[2]);
    sent.push(r#"{"CreationTime":"2026-01-01T00:00:00","Id":"8c1f1a4e-7d13-4b57-93b5-1b2f6f1b8a77","RecordType":1}"#.to_owned());
    assert_eq!(client.post_logmsgs(&client.batch(&sent)).await.status, 200);
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("alertlogic").unwrap();
    assert_eq!(sink.expected, 50);
    assert_eq!(sink.delivered_once, 47);
    assert_eq!(sink.missing, [id(&records[0])]);
    assert_eq!(sink.missing_fetched, 1);
    assert_eq!(sink.altered, [id(&records[2])]);
    assert_eq!(
        sink.repeated
            .iter()
            .map(|repeated| (repeated.id.clone(), repeated.times))
            .collect::<Vec<_>>(),
        [(id(&records[7]), 3)]
    );
    assert_eq!(sink.unknown_count, 1);
    assert!(!sink.is_clean() && !sink.is_clean_so_far());
    assert!(verdict.to_string().contains(&id(&records[0])), "{verdict}");
}

#[tokio::test]
async fn a_file_is_judged_line_by_line() {
    let client = Client::start(options(40)).await;
    let records = client.collect().await;
    let whole = records.join("\n") + "\n";
    let verdict = client.simulator.check_ndjson(whole.as_bytes()).unwrap();
    assert!(verdict.is_clean(), "{verdict}");

    let torn = whole.trim_end();
    let verdict = client.simulator.check_ndjson(torn.as_bytes()).unwrap();
    assert_eq!(verdict.torn_lines, [40]);
    assert_eq!(verdict.missing.len(), 1);

    let joined = whole.replacen("}\n", "}", 1);
    let verdict = client.simulator.check_ndjson(joined.as_bytes()).unwrap();
    assert_eq!(verdict.torn_lines, [1]);
    assert_eq!(verdict.missing.len(), 2);

    let twice = format!("{whole}{}\n", records[3]);
    assert_eq!(
        client
            .simulator
            .check_ndjson(twice.as_bytes())
            .unwrap()
            .repeated
            .len(),
        1
    );
}

#[tokio::test]
async fn the_same_seed_and_start_serve_the_same_bytes() {
    let start_at = Some("2026-07-15T20:03:19Z".parse().unwrap());
    let (first, second) = (
        Client::start(Options {
            start_at,
            ..options(300)
        })
        .await,
        Client::start(Options {
            start_at,
            ..options(300)
        })
        .await,
    );
    let (first, second) = (first.collect().await, second.collect().await);
    assert_eq!(first, second);
    let other = Client::start(Options {
        start_at,
        seed: 43,
        ..options(300)
    })
    .await
    .collect()
    .await;
    assert!(first.iter().all(|record| !other.contains(record)));
}

#[tokio::test]
async fn generated_records_look_like_real_ones() {
    let client = Client::start(Options {
        records_per_blob: 400,
        ..options(4_000)
    })
    .await;
    let records = client.collect().await;
    let mut ids = HashSet::new();
    let mut types = HashSet::new();
    for record in &records {
        let parsed: serde_json::Value = serde_json::from_str(record).unwrap();
        assert!(ids.insert(parsed["Id"].as_str().unwrap().to_owned()));
        types.insert(parsed["RecordType"].as_u64().unwrap());
        assert_eq!(parsed["CreationTime"].as_str().unwrap().len(), 19);
        assert_eq!(parsed["OrganizationId"], client.tenant_id());
        assert!(
            (400..10_000).contains(&record.len()),
            "{} bytes: {record}",
            record.len()
        );
    }
    assert!(types.len() >= 12, "{types:?}");
    let mean = records.iter().map(String::len).sum::<usize>() / records.len();
    assert!((1_200..1_450).contains(&mean), "a mean of {mean} bytes");
    assert!(records.iter().any(|record| record.contains("\\/")));
    assert!(records.iter().any(|record| !record.is_ascii()));
}

fn corpus() -> Corpus {
    let line = |id: u32, workload: &str, record_type: u32| {
        format!(
            "{{\"Nested\":{{\"Id\":\"00000000-0000-4000-8000-000000000001\"}},\"CreationTime\":\"2021-05-18T21:13:34\",\
             \"Id\":\"1eaef902-e8e9-4153-a907-08d91a41c{id:03}\",\"Url\":\"https:\\/\\/x\",\"RecordType\":{record_type},\"Workload\":\"{workload}\"}}\n"
        )
    };
    let mut lines: Vec<String> = (0..60)
        .map(|at| {
            line(
                at,
                ["Exchange", "OneDrive", "AzureActiveDirectory", "PowerBI"][at as usize % 4],
                1,
            )
        })
        .collect();
    lines.push(line(900, "Exchange", 13));
    // Real feeds repeat a record now and then.
    lines.push(lines[5].clone());
    Corpus::from_lines(lines.into_iter().map(Bytes::from))
}

#[tokio::test]
async fn a_corpus_is_served_byte_for_byte() {
    let mut client = Client::start(Options {
        corpus: Some(corpus()),
        ..options(0)
    })
    .await;
    client.register().await;
    let mut records = client.collect().await;
    assert_eq!(records.len(), 62);
    assert_eq!(
        client.post_logmsgs(&client.batch(&records)).await.status,
        200
    );
    let verdict = client.simulator.verdict();
    assert!(verdict.is_clean(), "{verdict}");
    let mut source: Vec<String> = corpus()
        .lines()
        .iter()
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    source.sort();
    records.sort();
    assert_eq!(records, source);
}

#[tokio::test]
async fn a_corpus_that_is_too_small_comes_again_with_fresh_ids() {
    let mut client = Client::start(Options {
        corpus: Some(corpus()),
        tenants: 1,
        ..options(200)
    })
    .await;
    client.register().await;
    let records = client.collect().await;
    assert_eq!(records.len(), 200);
    // One line of the corpus is there twice, in its first round with its own Id.
    assert_eq!(records.iter().collect::<HashSet<_>>().len(), 199);
    assert_eq!(
        client.post_logmsgs(&client.batch(&records)).await.status,
        200
    );
    assert!(
        client.simulator.verdict().is_clean(),
        "{}",
        client.simulator.verdict()
    );
    assert_eq!(
        client
            .post_logmsgs(&client.batch(&records[..2]))
            .await
            .status,
        200
    );
    assert_eq!(
        client
            .simulator
            .verdict()
            .sink("alertlogic")
            .unwrap()
            .repeated
            .len(),
        2
    );
}

#[tokio::test]
async fn a_running_simulator_is_driven_over_http() {
    let client = Client::start(options(100)).await;
    let control = |path: &str| format!("{}/_simulator/{path}", client.simulator.microsoft_origin());
    let about = client.get(&control("about")).await.json();
    assert_eq!(about["tenants"][0]["tenant_id"], client.tenant_id());
    assert_eq!(
        client.get(&control("progress")).await.json()["records_published"],
        100
    );
    assert_eq!(
        client.get(&control("verdict")).await.json()["is_clean"],
        false
    );
    let before = client.simulator.clock().now();
    let answer = crate::client::read(
        client
            .http
            .post(control("clock"))
            .body(r#"{"advance_secs":3600}"#),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert!((client.simulator.clock().now() - before).get_seconds() >= 3600);
    let fault = r#"{"faults":[{"kind":"list","count":2,"action":"throttled","status":403}]}"#;
    assert_eq!(
        crate::client::read(client.http.post(control("faults")).body(fault))
            .await
            .status,
        200
    );
    let bad = crate::client::read(client.http.post(control("faults")).body(r#"{"fault":1}"#)).await;
    assert_eq!(bad.status, 400);
}
