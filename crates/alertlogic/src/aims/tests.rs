//! Authentication as it is on the wire, and when a token is renewed.

use http::{HeaderMap, StatusCode};

use super::*;

pub(crate) fn token(account_id: &str) -> Token {
    Token {
        secret: SecretString::from("the-token"),
        account_id: account_id.to_owned(),
        expires_at: Timestamp::MAX,
        renew_at: Timestamp::MAX,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn read(body: &str, now: Timestamp) -> Result<Token, Error> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    read_token(
        &Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body,
        },
        now,
    )
}

fn answer(expires_at: i64) -> String {
    format!(
        r#"{{"authentication":{{"user":{{"id":"u","account_id":"1"}},"account":{{"id":"134274125","name":"n"}},
        "token":"the-token","token_expiration":{expires_at}}}}}"#
    )
}

#[test]
fn authentication_is_http_basic_without_a_body() {
    let api = Endpoint::parse("api.example.net").unwrap();
    let request = authenticate_request(
        &api,
        "712c0b413eef41f6",
        &SecretString::from("s3cret:with-colon"),
    )
    .unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(
        request.uri(),
        "https://api.example.net/aims/v1/authenticate"
    );
    assert_eq!(
        request.headers()["authorization"],
        "Basic NzEyYzBiNDEzZWVmNDFmNjpzM2NyZXQ6d2l0aC1jb2xvbg=="
    );
    assert!(request.headers()["authorization"].is_sensitive());
    assert!(request.body().is_empty());
    assert!(!format!("{request:?}").contains("NzEy"));
}

#[test]
fn an_access_key_id_that_basic_cannot_carry_is_refused() {
    let api = Endpoint::parse("api.example.net").unwrap();
    for id in ["", "a:b"] {
        assert_eq!(
            authenticate_request(&api, id, &SecretString::from("s")).err(),
            Some(InvalidAccessKey)
        );
    }
}

#[test]
fn a_token_is_renewed_600_seconds_before_it_runs_out() {
    let token = read(&answer(1_504_026_000), at(1_504_004_400)).unwrap();
    assert_eq!(token.account_id(), "134274125");
    assert_eq!(token.expires_at(), at(1_504_026_000));
    assert!(!token.needs_renewal(at(1_504_025_399)));
    assert!(token.needs_renewal(at(1_504_025_400)));
    assert!(!token.is_expired(at(1_504_025_999)));
    assert!(token.is_expired(at(1_504_026_000)));
}

#[test]
fn a_short_lived_token_serves_half_its_life() {
    let token = read(&answer(1_000_300), at(1_000_000)).unwrap();
    assert!(!token.needs_renewal(at(1_000_149)));
    assert!(token.needs_renewal(at(1_000_150)));
    assert!(
        read(&answer(999), at(1_000_000))
            .unwrap()
            .is_expired(at(1_000_000))
    );
}

#[test]
fn a_token_is_never_shown() {
    let token = read(&answer(1_504_026_000), at(0)).unwrap();
    assert!(!format!("{token:?}").contains("the-token"));
    assert_eq!(token.header(), "the-token");
    assert!(token.header().is_sensitive());
}

#[test]
fn an_account_id_may_be_a_number_but_never_a_path() {
    let with_id = |id: &str| read(&answer(1_504_026_000).replace("\"134274125\"", id), at(0));
    assert_eq!(with_id("134274125").unwrap().account_id(), "134274125");
    for bad in [r#""""#, r#""1/../2""#, "null", "{}", r#""é""#, "1.5"] {
        assert!(
            matches!(with_id(bad), Err(Error::Malformed { .. })),
            "{bad}"
        );
    }
}

#[test]
fn a_reply_without_a_usable_token_is_malformed() {
    let good = answer(1_504_026_000);
    for bad in [
        String::new(),
        "<html>".to_owned(),
        "{}".to_owned(),
        good.replace("\"the-token\"", "\"\""),
        good.replace("the-token", "two\\nlines"),
        good.replace("the-token\"", "the-token\",\"x\":1,\"y")
            .replace("token_expiration", "z"),
        good.replace("1504026000", "99999999999999"),
    ] {
        assert!(
            matches!(read(&bad, at(0)), Err(Error::Malformed { .. })),
            "{bad}"
        );
    }
}

#[test]
fn a_refused_access_key_is_not_authorized() {
    let reply = Reply {
        status: StatusCode::UNAUTHORIZED,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    assert_eq!(
        read_token(&reply, at(0)).err(),
        Some(Error::NotAuthorized {
            status: StatusCode::UNAUTHORIZED
        })
    );
}
