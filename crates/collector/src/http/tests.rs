//! The real client against a socket of the test's: what goes out, what comes in, and how it fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

fn network() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::build(None).unwrap()
}

/// Answers one request with these pieces, and gives what was asked. The connection is kept open until `end` is dropped.
async fn answer(
    listener: TcpListener,
    pieces: &[&str],
    end: tokio::sync::oneshot::Receiver<()>,
) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
    }
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    drop(end.await);
    String::from_utf8(asked).unwrap()
}

fn get(uri: String) -> http::Request<Bytes> {
    http::Request::get(uri).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_request_goes_out_as_it_is_and_its_reply_comes_in_pieces() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    let head = "HTTP/1.1 206 Partial Content\r\ncontent-length: 6\r\nx-own: 1\r\n\r\n";
    let pieces = [head, "abc", "def"];
    let asking = async {
        let request = get(format!("http://{address}/a$b/c%20d?e='f'"));
        let reply = network().send(request).await.unwrap();
        let (head, body) = reply.into_parts();
        let body = body.collect(6).await.unwrap();
        drop(end);
        (head.status.as_u16(), head.headers["x-own"].clone(), body)
    };
    let (asked, (status, own, body)) = tokio::join!(answer(listener, &pieces, ended), asking);
    assert_eq!((status, &body[..]), (206, &b"abcdef"[..]));
    assert_eq!(own, "1");
    let mut lines: Vec<_> = asked.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /a$b/c%20d?e='f' HTTP/1.1");
    lines.sort_unstable();
    let agent = format!("user-agent: o365-collector/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, ["accept: */*", &format!("host: {address}"), &agent]);
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    let pieces = ["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", "abc"];
    let asking = async {
        let reply = network().send(get(format!("http://{address}/"))).await;
        let mut body = reply.unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().as_deref(), Some(&b"abc"[..]));
        tokio::time::pause();
        let failed = body.chunk().await;
        drop(end);
        failed
    };
    let (_, failed) = tokio::join!(answer(listener, &pieces, ended), asking);
    assert!(matches!(failed, Err(Error::TimedOut)), "{failed:?}");
}

#[tokio::test]
async fn a_host_where_nobody_listens_is_told_without_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failed = network()
        .send(get(format!("http://{address}/?secret")))
        .await;
    let Err(Error::Connection { what }) = failed else {
        panic!("{failed:?}")
    };
    assert!(what.contains("refused"), "{what}");
    assert!(!what.contains("secret"), "{what}");
}

#[tokio::test]
async fn what_is_outside_is_reached_through_a_proxy_that_is_told_its_host_and_no_more() {
    network();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxies = Matcher::builder().https(format!("http://me:pass@{address}"));
    let tls = Arc::new(connect::tls(None).unwrap());
    let client = Client {
        outside: pool(&tls, Some(proxies.build())),
        beside: pool(&tls, None),
    };
    let (end, ended) = tokio::sync::oneshot::channel();
    let refusal = ["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"];
    let asking = async {
        let failed = client
            .send(get("https://manage.office.com/a?b".to_owned()))
            .await;
        drop(end);
        failed
    };
    let (asked, failed) = tokio::join!(answer(listener, &refusal, ended), asking);
    assert!(
        asked.starts_with("CONNECT manage.office.com:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    let asked = asked.to_ascii_lowercase();
    assert!(
        asked.contains("proxy-authorization: basic bwu6cgfzcw==\r\n"),
        "{asked}"
    );
    assert!(asked.contains("user-agent: o365-collector/"), "{asked}");
    let Err(Error::Connection { what }) = failed else {
        panic!("{failed:?}")
    };
    assert!(what.contains("proxy authorization required"), "{what}");
}

#[tokio::test]
async fn an_address_of_another_kind_is_named_and_not_asked() {
    for uri in ["ftp://127.0.0.1/a", "/a"] {
        let failed = network().send(get(uri.to_owned())).await;
        let Err(Error::Connection { what }) = failed else {
            panic!("{failed:?}")
        };
        assert!(what.contains("neither of `https` nor of `http`"), "{what}");
    }
}

/// A host that answers each request of a connection with the next of these replies, and says how many connections it took.
/// After the last it ends the connection; at an empty one it neither reads nor writes any more.
async fn host(replies: &'static [&'static str]) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, count, _) = watched_host(replies).await;
    (address, count)
}

/// And tells of each connection that was closed on it.
async fn watched_host(
    replies: &'static [&'static str],
) -> (SocketAddr, Arc<AtomicUsize>, UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    let (closed, closings) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::Relaxed);
            let closed = closed.clone();
            tokio::spawn(async move {
                for reply in replies {
                    if reply.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let mut asked = Vec::new();
                    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                        if stream.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                            let _gone = closed.send(());
                            return;
                        }
                    }
                    stream.write_all(reply.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, count, closings)
}

/// Waits until a connection was closed.
async fn closing(closings: &mut UnboundedReceiver<()>) {
    let closing = timeout(Duration::from_secs(10), closings.recv()).await;
    closing.expect("no connection is closed").unwrap();
}

const THREE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc";

/// Asks once; the reply's body.
async fn reply(client: &Client, address: SocketAddr) -> Body {
    let reply = client.send(get(format!("http://{address}/"))).await;
    reply.unwrap().into_body()
}

#[tokio::test]
async fn a_connection_is_used_again_when_its_reply_was_read_or_has_no_body() {
    let (address, connections) = host(&[THREE, CHUNKED, NOTHING, THREE, THREE]).await;
    let client = network();
    for _ in 0..2 {
        assert_eq!(
            reply(&client, address).await.collect(3).await.unwrap(),
            "abc"
        );
    }
    drop(reply(&client, address).await);
    // Also by a client that is another's clone, and when the end is not asked for.
    let mut body = reply(&client, address).await;
    assert_eq!(body.chunk().await.unwrap().as_deref(), Some(&b"abc"[..]));
    let other = client.clone();
    assert_eq!(
        reply(&other, address).await.collect(3).await.unwrap(),
        "abc"
    );
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    drop(body);
    // The host has ended it now, which nobody is told of.
    assert_eq!(
        reply(&client, address).await.collect(3).await.unwrap(),
        "abc"
    );
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_whose_reply_was_not_read_to_its_end_is_used_by_nobody() {
    let (address, connections) = host(&[HALF, THREE]).await;
    let client = network();
    for asked in 1..4 {
        let mut body = reply(&client, address).await;
        assert_eq!(body.chunk().await.unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(connections.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test]
async fn a_connection_closes_at_once_when_its_reply_is_not_read_on() {
    let (address, _, mut closings) = watched_host(&[HALF, THREE]).await;
    let client = network();
    let mut body = reply(&client, address).await;
    assert_eq!(body.chunk().await.unwrap().as_deref(), Some(&b"abc"[..]));
    assert!(closings.try_recv().is_err());
    drop(body);
    closing(&mut closings).await;
}

/// Asks once, and reads the reply.
async fn ask(client: &Client, address: SocketAddr) -> Bytes {
    reply(client, address).await.collect(3).await.unwrap()
}

#[tokio::test]
async fn two_requests_at_once_have_a_connection_each_and_both_are_kept() {
    let (address, connections) = host(&[THREE; 8]).await;
    let client = network();
    for _ in 0..3 {
        tokio::join!(ask(&client, address), ask(&client, address));
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_not_used() {
    let (address, connections) = host(&[THREE; 8]).await;
    let client = network();
    ask(&client, address).await;
    pass(Duration::from_secs(89)).await;
    ask(&client, address).await;
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    pass(Duration::from_secs(90)).await;
    ask(&client, address).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    // And none is kept that nobody may use.
    assert_eq!(client.beside.idle_count(), 1);
}

#[tokio::test]
async fn idle_connections_close_by_the_clock_though_nobody_asks_again() {
    let (address, connections, mut closings) = watched_host(&[THREE; 8]).await;
    let client = network();
    tokio::join!(ask(&client, address), ask(&client, address));
    pass(Duration::from_secs(60)).await;
    ask(&client, address).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    // Only the one that has been idle since the beginning.
    pass(Duration::from_secs(60)).await;
    closing(&mut closings).await;
    assert_eq!(client.beside.idle_count(), 1);
    pass(Duration::from_secs(60)).await;
    closing(&mut closings).await;
    assert_eq!(client.beside.idle_count(), 0);
    // Whoever looked after them is gone, and comes again.
    ask(&client, address).await;
    pass(Duration::from_secs(91)).await;
    closing(&mut closings).await;
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

/// Lets time go by, without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_told_and_not_asked_for_again() {
    let (address, connections) = host(&[THREE, "HTTP/1.1 200 OK\r\n"]).await;
    let client = network();
    let ask = async || client.send(get(format!("http://{address}/"))).await;
    let body = ask().await.unwrap().into_body();
    assert_eq!(body.collect(3).await.unwrap(), "abc");
    let failed = ask().await;
    assert!(
        matches!(failed, Err(Error::Connection { .. })),
        "{failed:?}"
    );
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_host_that_answers_before_it_has_read_all_keeps_no_later_request_waiting() {
    let (address, connections) = host(&[THREE, ""]).await;
    let client = network();
    let long = http::Request::post(format!("http://{address}/"));
    let long = long.body(Bytes::from(vec![b'x'; 64 << 20])).unwrap();
    let reply = client.send(long).await.unwrap();
    assert_eq!(reply.into_body().collect(3).await.unwrap(), "abc");
    let reply = client.send(get(format!("http://{address}/")));
    let reply = timeout(Duration::from_secs(5), reply).await.unwrap();
    assert_eq!(reply.unwrap().into_body().collect(3).await.unwrap(), "abc");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
