//! What is an address, and which answer may have a token.

use http::{HeaderMap, StatusCode};

use super::*;
use crate::aims::tests::token;

const PRODUCTION: &str = "api.global-services.global.alertlogic.com";

fn parse(text: &str) -> Result<String, InvalidEndpoint> {
    Endpoint::parse(text).map(|endpoint| endpoint.to_string())
}

#[test]
fn a_bare_name_means_https() {
    assert_eq!(parse(PRODUCTION).unwrap(), format!("https://{PRODUCTION}"));
    assert_eq!(
        parse("api.example.net:8443").unwrap(),
        "https://api.example.net:8443"
    );
    assert_eq!(parse("API.Example.NET").unwrap(), "https://api.example.net");
    assert_eq!(
        parse("https://api.example.net").unwrap(),
        "https://api.example.net"
    );
    assert_eq!(
        parse("https://api.example.net:443/").unwrap(),
        "https://api.example.net"
    );
    assert_eq!(parse("[::1]:8443").unwrap(), "https://[::1]:8443");
}

#[test]
fn plain_http_is_for_loopback_alone() {
    assert_eq!(
        parse("http://127.0.0.1:8080").unwrap(),
        "http://127.0.0.1:8080"
    );
    assert_eq!(
        parse("http://localhost:8080").unwrap(),
        "http://localhost:8080"
    );
    assert_eq!(parse("http://[::1]:8080").unwrap(), "http://[::1]:8080");
    for text in [
        "http://api.example.net",
        "http://localhost.example.net",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
    ] {
        assert_eq!(parse(text), Err(InvalidEndpoint::Insecure), "{text}");
    }
}

#[test]
fn an_address_is_nothing_but_scheme_host_and_port() {
    for text in [
        "api.example.net/path",
        "https://u@api.example.net",
        "https://u:p@h",
        "h?q",
        "h#f",
        "u@h",
    ] {
        assert_eq!(parse(text), Err(InvalidEndpoint::NotBare), "{text}");
    }
    for text in [
        "", "  ", "a b", "h\\evil", "h\tx", "https://", "h:99999", "h:port", "a\nb", "https:h",
        "a\u{0}b",
    ] {
        assert_eq!(parse(text), Err(InvalidEndpoint::Unreadable), "{text:?}");
    }
}

#[test]
fn the_vendors_api_may_name_only_hosts_of_the_vendor() {
    let api = Endpoint::parse(PRODUCTION).unwrap();
    let answer = |text| Endpoint::parse_answer(text, &api).map(|endpoint| endpoint.to_string());
    assert_eq!(
        answer("ingest.us-west-2.alertlogic.com").unwrap(),
        "https://ingest.us-west-2.alertlogic.com"
    );
    assert_eq!(
        answer("api.alertlogic.co.uk:444").unwrap(),
        "https://api.alertlogic.co.uk:444"
    );
    for foreign in [
        "evil.example",
        "alertlogic.com.evil.example",
        "notalertlogic.com",
        "127.0.0.1",
        "localhost",
    ] {
        assert_eq!(answer(foreign), Err(InvalidEndpoint::Foreign), "{foreign}");
    }
    for insecure in ["http://ingest.alertlogic.com", "http://127.0.0.1:1"] {
        assert_eq!(
            answer(insecure),
            Err(InvalidEndpoint::Insecure),
            "{insecure}"
        );
    }
}

#[test]
fn another_api_may_name_any_host_but_plain_http_only_from_loopback_to_loopback() {
    let api = Endpoint::parse("http://127.0.0.1:9000").unwrap();
    assert!(Endpoint::parse_answer("http://127.0.0.1:9001", &api).is_ok());
    assert!(Endpoint::parse_answer("localhost:9001", &api).is_ok());
    assert_eq!(
        Endpoint::parse_answer("http://evil.example", &api),
        Err(InvalidEndpoint::Insecure)
    );
    let proxy = Endpoint::parse("proxy.example.net").unwrap();
    assert!(Endpoint::parse_answer("ingest.alertlogic.com", &proxy).is_ok());
    assert_eq!(
        Endpoint::parse_answer("http://127.0.0.1:9001", &proxy),
        Err(InvalidEndpoint::Insecure)
    );
}

#[test]
fn a_lookup_names_account_residency_and_service() {
    let api = Endpoint::parse(PRODUCTION).unwrap();
    let request = lookup_request(&api, &token("134274125"), "default", Service::Azcollect);
    assert_eq!(
        request.uri().to_string(),
        format!(
            "https://{PRODUCTION}/endpoints/v1/134274125/residency/default/services/azcollect/endpoint"
        )
    );
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.headers()["accept"], "application/json");
    assert!(request.headers()["x-aims-auth-token"].is_sensitive());
}

#[test]
fn a_lookups_reply_is_checked_before_it_is_believed() {
    let api = Endpoint::parse(PRODUCTION).unwrap();
    let read = |body: &'static str| {
        let reply = Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        read_lookup(&reply, &api, Service::Ingest, Timestamp::UNIX_EPOCH)
    };
    assert_eq!(
        read(r#"{"ingest":"ingest.alertlogic.com"}"#)
            .unwrap()
            .as_str(),
        "https://ingest.alertlogic.com"
    );
    assert_eq!(
        read(r#"{"ingest":"evil.example"}"#),
        Err(Error::UntrustedEndpoint(InvalidEndpoint::Foreign))
    );
    for malformed in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"azcollect":"a.alertlogic.com"}"#,
        r#"{"ingest":1}"#,
    ] {
        assert!(
            matches!(read(malformed), Err(Error::Malformed { .. })),
            "{malformed}"
        );
    }
}
