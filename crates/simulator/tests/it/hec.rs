//! The HTTP event collector, through the socket.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use simulator::{HecOptions, Options};

use crate::client::{Answer, Client, read};

const CHANNEL: &str = "4f3f8f1d-7c0a-4b70-9d41-3c7f5d2f1f11";

fn events(records: &[String]) -> String {
    records
        .iter()
        .map(|record| {
            let parsed: Value = serde_json::from_str(record).unwrap();
            let time: jiff::Timestamp = format!("{}Z", parsed["CreationTime"].as_str().unwrap()).parse().unwrap();
            format!("{{\"time\":{}.000,\"sourcetype\":\"o365:management:activity\",\"event\":{record}}}", time.as_second())
        })
        .collect()
}

async fn post(
    client: &Client,
    token: &str,
    channel: Option<&str>,
    body: Vec<u8>,
    encoding: &str,
) -> Answer {
    let mut request = client
        .http
        .post(format!(
            "{}/services/collector/event",
            client.simulator.hec_origin()
        ))
        .header("authorization", format!("Splunk {token}"))
        .header("content-encoding", encoding)
        .body(body);
    if let Some(channel) = channel {
        request = request.header("x-splunk-request-channel", channel);
    }
    read(request).await
}

#[tokio::test]
async fn events_are_taken_plain_and_compressed_and_acknowledged() {
    let hec = HecOptions {
        ack_after_polls: 1,
        ..HecOptions::default()
    };
    let client = Client::start(Options {
        records: 100,
        hec,
        ..Options::default()
    })
    .await;
    let token = client.simulator.options().hec.token.clone();
    let records = client.collect().await;
    let first = post(
        &client,
        &token,
        Some(CHANNEL),
        events(&records[..50]).into(),
        "identity",
    )
    .await;
    assert_eq!(
        (first.status, first.json()["ackId"].as_u64()),
        (200, Some(0))
    );
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(events(&records[50..]).as_bytes()).unwrap();
    let second = post(
        &client,
        &token,
        Some(CHANNEL),
        gzip.finish().unwrap(),
        "gzip",
    )
    .await;
    assert_eq!(second.json()["ackId"], 1);
    let verdict = client.simulator.verdict();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(client.simulator.progress().records_at_hec, 100);

    let url = format!(
        "{}/services/collector/ack?channel={CHANNEL}",
        client.simulator.hec_origin()
    );
    let ask = async || {
        let request = client
            .http
            .post(&url)
            .header("authorization", format!("Splunk {token}"))
            .body(r#"{"acks":[0,1,2]}"#);
        read(request).await.json()
    };
    assert_eq!(
        ask().await,
        json!({"acks": {"0": false, "1": false, "2": false}})
    );
    assert_eq!(
        ask().await,
        json!({"acks": {"0": true, "1": true, "2": false}})
    );
    assert_eq!(
        ask().await,
        json!({"acks": {"0": false, "1": false, "2": false}}),
        "an id is answered true once"
    );
}

#[tokio::test]
async fn refusals_have_their_codes_and_take_nothing() {
    let client = Client::start(Options {
        records: 10,
        ..Options::default()
    })
    .await;
    let token = client.simulator.options().hec.token.clone();
    let good = events(&client.collect().await);
    let code = |answer: Answer| (answer.status, answer.json()["code"].as_u64().unwrap());
    assert_eq!(
        code(
            post(
                &client,
                "wrong",
                Some(CHANNEL),
                good.clone().into(),
                "identity"
            )
            .await
        ),
        (403, 4)
    );
    assert_eq!(
        code(post(&client, &token, None, good.clone().into(), "identity").await),
        (400, 10)
    );
    assert_eq!(
        code(post(&client, &token, Some("x"), good.clone().into(), "identity").await),
        (400, 11)
    );
    assert_eq!(
        code(post(&client, &token, Some(CHANNEL), Vec::new(), "identity").await),
        (400, 5)
    );
    let torn = good.as_bytes()[..good.len() - 2].to_vec();
    let answer = post(&client, &token, Some(CHANNEL), torn, "identity").await;
    assert_eq!(answer.json()["invalid-event-number"], 9);
    assert_eq!(code(answer), (400, 6));
    assert_eq!(
        code(
            post(
                &client,
                &token,
                Some(CHANNEL),
                b"{\"time\":1}".to_vec(),
                "identity"
            )
            .await
        ),
        (400, 12)
    );
    assert!(client.simulator.verdict().sinks.is_empty());
    let bare = client
        .http
        .post(format!(
            "{}/services/collector/event",
            client.simulator.hec_origin()
        ))
        .body("{}");
    assert_eq!(code(read(bare).await), (401, 2));
    let health = client.http.get(format!(
        "{}/services/collector/health",
        client.simulator.hec_origin()
    ));
    assert_eq!(code(read(health).await), (200, 17));
}

#[tokio::test]
async fn without_acks_no_channel_is_needed_and_none_is_polled() {
    let hec = HecOptions {
        acks: false,
        ..HecOptions::default()
    };
    let client = Client::start(Options {
        records: 10,
        hec,
        ..Options::default()
    })
    .await;
    let token = client.simulator.options().hec.token.clone();
    let records = client.collect().await;
    let answer = post(&client, &token, None, events(&records).into(), "identity").await;
    assert_eq!(answer.json(), json!({"text": "Success", "code": 0}));
    let ack = client.http.post(format!(
        "{}/services/collector/ack?channel={CHANNEL}",
        client.simulator.hec_origin()
    ));
    let answer = read(
        ack.header("authorization", format!("Splunk {token}"))
            .body(r#"{"acks":[0]}"#),
    )
    .await;
    assert_eq!(answer.json()["code"], 14);
    let wrong_time = events(&records[..1]).replacen("{\"time\":", "{\"time\":1", 1);
    post(&client, &token, None, wrong_time.into(), "identity").await;
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("splunk_hec").unwrap();
    assert_eq!((sink.fault_count, sink.repeated.len()), (1, 1));
}
