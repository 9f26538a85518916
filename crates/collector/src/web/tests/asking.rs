//! Tests of asking a running collector: what it says arrives whole, and what is not a collector is not believed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Somebody who answers every connection with these bytes, or with silence, and no more.
async fn stranger(reply: Option<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            match &reply {
                Some(reply) => stream.write_all(reply.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        }
    });
    address
}

#[tokio::test]
async fn a_running_collector_says_why_something_fails() {
    let door = Door::open();
    door.live.running();
    let tenant = TENANT.parse().unwrap();
    door.live
        .tenant_stopped(tenant, "the secret expired", None, now());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, door.router.clone(), std::future::pending()));
    let view = ask_status(address).await.unwrap();
    assert_eq!(view, door.state.status().await);
    assert_eq!(
        view.troubles,
        [format!(
            "tenant {TENANT} is not collected: the secret expired"
        )]
    );
    server.abort();
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for address in [address, "127.0.0.1:0".parse().unwrap()] {
        let error = ask_status(address).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no collector answers at {address}")
        );
    }
}

#[tokio::test]
async fn what_is_no_collector_is_not_believed() {
    let target = stranger(None).await;
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"version\":".to_owned(),
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        // More than anyone reads.
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n{}",
            " ".repeat(17 << 20)
        ),
    ] {
        let address = stranger(Some(reply.clone())).await;
        let error = ask_status(address).await.unwrap_err();
        assert!(
            matches!(error, AskError::NotOurs { .. }),
            "{error:?} to {:.60}",
            reply
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_not_waited_for_long() {
    let address = stranger(None).await;
    let started = Instant::now();
    let error = ask_status(address).await.unwrap_err();
    assert!(matches!(error, AskError::NoAnswer { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}
