//! The real client against a socket of the test's: what goes out, what comes in, and how it fails.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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
        outside: client(&tls, Some(proxies.build())),
        beside: client(&tls, None),
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
