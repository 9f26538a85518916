//! What a benchmark needs of the simulator: sinks that cost next to nothing, answers that come late, and moments.

use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::Options;

use crate::client::{Client, read};

#[tokio::test]
async fn sinks_that_do_not_look_take_everything_and_there_is_no_verdict() {
    let mut client = Client::start(Options {
        check_sinks: false,
        ..Options::default()
    })
    .await;
    client.register().await;
    assert_eq!(client.post_logmsgs(b"rubbish").await.status, 200);
    assert_eq!(client.simulator.progress().ingest_posts, 1);
    assert!(client.simulator.verdict().sinks.is_empty());
}

#[tokio::test]
async fn a_sinks_answers_are_kept_back_for_its_own_latency() {
    let latency = Duration::from_millis(40);
    let client = Client::start(Options {
        sink_latency: Some(latency),
        ..Options::default()
    })
    .await;
    let started = Instant::now();
    client.post_logmsgs(b"").await;
    assert!(started.elapsed() >= latency);
}

#[tokio::test]
async fn how_long_each_new_blob_took_is_told_until_it_is_cleared() {
    let mut client = Client::start(Options {
        records: 1_000,
        backlog_records: Some(0),
        live_records_per_sec: Some(1e6),
        ..Options::default()
    })
    .await;
    client.register().await;
    client.simulator.clock().advance(Duration::from_secs(5));
    assert_eq!(measured(&client).await["first_blob_ms"], Value::Null);
    let records = client.collect().await;
    client.post_logmsgs(&client.batch(&records)).await;
    let moments = measured(&client).await;
    assert!(moments["first_blob_ms"].is_i64());
    let taken = moments["taken_ms"]["alertlogic"].as_array().unwrap();
    assert_eq!(taken.len() as u64, client.simulator.progress().blobs_total);
    assert!(taken.iter().all(|blob| blob[1].as_i64() >= Some(4_900)));
    let address = address(&client);
    client.http.delete(address).send().await.unwrap();
    assert_eq!(measured(&client).await["first_blob_ms"], Value::Null);
}

fn address(client: &Client) -> String {
    format!(
        "{}/_simulator/measured",
        client.simulator.microsoft_origin()
    )
}

async fn measured(client: &Client) -> Value {
    read(client.http.get(address(client))).await.json()
}
