//! Validation and notifications, against a webhook of the test's own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use simulator::{Options, RequestKind};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::{Answer, Client, read};

struct Hook {
    address: SocketAddr,
    calls: UnboundedReceiver<(HeaderMap, Value)>,
    status: Arc<AtomicU16>,
}

/// A webhook that answers with the status it is told and hands each call over.
async fn hook() -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, calls) = unbounded_channel();
    let status = Arc::new(AtomicU16::new(200));
    let answers = Arc::clone(&status);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, answers) = (sender.clone(), Arc::clone(&answers));
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, answers) = (sender.clone(), Arc::clone(&answers));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    sender
                        .send((parts.headers, serde_json::from_slice(&body).unwrap()))
                        .unwrap();
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() =
                        StatusCode::from_u16(answers.load(Ordering::SeqCst)).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    Hook {
        address,
        calls,
        status,
    }
}

async fn start(client: &Client, hook: &Hook) -> Answer {
    let body = format!(
        r#"{{"webhook":{{"address":"http://{}/api/o365/webhook","authId":"shared","expiration":""}}}}"#,
        hook.address
    );
    let url = client.feed("subscriptions/start?contentType=Audit.Exchange");
    read(client.http.post(url).bearer_auth(&client.token).body(body)).await
}

fn options() -> Options {
    Options {
        records: 500,
        allow_http_webhook: true,
        webhook_retry: Duration::ZERO,
        webhook_max_failures: 3,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_webhook_is_validated_and_then_told_of_every_blob() {
    let client = Client::start(options()).await;
    let mut hook = hook().await;
    let started = start(&client, &hook).await;
    assert_eq!(started.json()["webhook"]["status"], "enabled");
    let (headers, body) = hook.calls.recv().await.unwrap();
    assert_eq!(headers["webhook-authid"], "shared");
    assert_eq!(
        body["validationCode"].as_str().unwrap(),
        headers["webhook-validationcode"].to_str().unwrap()
    );

    let listed = client.list_all("Audit.Exchange").await;
    let mut notified = Vec::new();
    while notified.len() < listed.len() {
        let (headers, body) = hook.calls.recv().await.unwrap();
        assert_eq!(headers["webhook-authid"], "shared");
        notified.extend(body.as_array().unwrap().clone());
    }
    for (row, notification) in listed.iter().zip(&notified) {
        let region = row["contentId"]
            .as_str()
            .unwrap()
            .rsplit('$')
            .next()
            .unwrap();
        assert_eq!(
            notification["contentId"].as_str().unwrap(),
            format!("{}${region}", row["contentId"].as_str().unwrap())
        );
        assert_eq!(notification["contentCreated"], row["contentCreated"]);
        assert_eq!(notification["tenantId"], client.tenant_id());
        assert_eq!(
            notification["clientId"],
            client.simulator.tenants()[0].client_id
        );
        assert!(!client.fetch(notification).await.is_empty());
    }
    assert_eq!(start(&client, &hook).await.af(), "400 AF20024");
}

#[tokio::test]
async fn a_webhook_that_fails_is_tried_again_and_then_disabled() {
    let client = Client::start(options()).await;
    let mut hook = hook().await;
    hook.status.store(202, Ordering::SeqCst);
    assert_eq!(
        start(&client, &hook).await.af(),
        "400 AF20021",
        "only 200 will do"
    );
    hook.calls.recv().await.unwrap();
    hook.status.store(200, Ordering::SeqCst);
    // The clock stands before all content, so that the first notification comes when the test wants it.
    client.simulator.clock().set_speed(0.0);
    let now = client.simulator.clock().now();
    client
        .simulator
        .clock()
        .set(now - jiff::SignedDuration::from_hours(13));
    assert_eq!(start(&client, &hook).await.status, 200);
    hook.calls.recv().await.unwrap();
    hook.status.store(500, Ordering::SeqCst);
    client.simulator.clock().set(now);
    let first = hook.calls.recv().await.unwrap().1;
    for _ in 0..2 {
        assert_eq!(hook.calls.recv().await.unwrap().1, first, "the same again");
    }
    // The third failure is noted after its answer has come back, so the listing is asked until it shows.
    let mut token_client = client;
    token_client.token = token_client.microsoft_token(0).await;
    let client = token_client;
    let list = client.feed("subscriptions/list");
    loop {
        let row = client.get(&list).await.json()[0].clone();
        assert_eq!(row["status"], "enabled");
        if row["webhook"]["status"] == "disabled" {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        client
            .simulator
            .requests()
            .with_status(RequestKind::WebhookNotification, 500),
        3
    );
    let rows = client
        .get(&client.feed("subscriptions/notifications?contentType=Audit.Exchange"))
        .await
        .json();
    assert_eq!(
        rows.as_array().unwrap().len(),
        3 * first.as_array().unwrap().len()
    );
    assert_eq!(rows[0]["notificationStatus"], "Failed");
    hook.status.store(200, Ordering::SeqCst);
    assert_eq!(
        start(&client, &hook).await.json()["webhook"]["status"],
        "enabled"
    );
    assert!(hook.calls.recv().await.unwrap().1["validationCode"].is_string());
    assert_eq!(hook.calls.recv().await.unwrap().1, first);
}
