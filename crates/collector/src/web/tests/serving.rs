//! Tests of serving on a socket: strangers who are slow or many, and a stop.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, router, async { stopped.await.unwrap() }));
    Server {
        address,
        stop,
        task,
    }
}

async fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_arrive_in_time_ends_its_connection() {
    let server = start(Door::open().router).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let started = Instant::now();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost:")
        .await
        .unwrap();
    assert!(!read_to_end(&mut stream).await.contains("200 OK"));
    assert!(started.elapsed() >= serve::HEAD_TIMEOUT);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = start(Door::open().router).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    let mut sent = 0;
    // The server stops reading at its limit and answers; what is written after that may fail or be buffered.
    while sent < 1_024 * serve::MAX_HEAD_BYTES && stream.write_all(&[b'x'; 1024]).await.is_ok() {
        sent += 1024;
    }
    assert!(
        sent < 1_024 * serve::MAX_HEAD_BYTES,
        "the server took {sent} bytes of a head"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_connections_can_keep_others_waiting_for_no_longer_than_a_head_may_take() {
    let server = start(Door::open().router).await;
    let mut idle = Vec::new();
    for _ in 0..serve::MAX_CONNECTIONS {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream).await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    assert!(started.elapsed() >= serve::HEAD_TIMEOUT - Duration::from_secs(1));
    assert!(started.elapsed() < serve::HEAD_TIMEOUT * 2);
}

#[tokio::test]
async fn a_stop_answers_the_request_under_way_and_takes_no_other() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, left) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = get(|| async move {
        enter.notify_one();
        left.notified().await;
        "done"
    });
    let server = start(
        Router::new()
            .route("/healthz", slow)
            .route("/fast", get(|| async { "fast" })),
    )
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /fast HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"fast") {
        idle.read_buf(&mut reply).await.unwrap();
    }
    ask(&mut stream).await;
    entered.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
    leave.notify_one();
    assert!(read_to_end(&mut stream).await.ends_with("done"));
    server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_only_so_long_for_a_request_that_hangs() {
    let entered = Arc::new(Notify::new());
    let enter = Arc::clone(&entered);
    let hung = get(|| async move {
        enter.notify_one();
        std::future::pending::<()>().await;
    });
    let server = start(Router::new().route("/healthz", hung)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream).await;
    entered.notified().await;
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn a_panic_costs_one_connection_only() {
    let door = Door::open();
    let panicking = get(|| async {
        // Behind a condition that the compiler cannot decide, so that the handler has a type of answer.
        if std::hint::black_box(true) {
            panic!("on purpose");
        }
        "not reached"
    });
    let server = start(door.router.clone().route("/panic", panicking)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream).await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}
