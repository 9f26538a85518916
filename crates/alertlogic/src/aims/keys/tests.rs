//! Logging in and managing access keys, as it is on the wire.

use http::HeaderMap;

use super::*;
use crate::aims::tests::token;

fn api() -> Endpoint {
    Endpoint::parse("api.example.net").unwrap()
}

fn login() -> Login {
    Login {
        token: token("134274125"),
        user_id: "715A4EC0/9833".to_owned(),
    }
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_504_004_400).unwrap()
}

#[test]
fn a_user_logs_in_with_basic_and_the_code_in_the_body() {
    let (password, code) = (
        SecretString::from("pass: word"),
        SecretString::from("123456"),
    );
    let request = login_request(&api(), "ann@example.net", &password, Some(&code)).unwrap();
    assert_eq!(
        request.uri(),
        "https://api.example.net/aims/v1/authenticate"
    );
    assert_eq!(
        request.headers()["authorization"],
        "Basic YW5uQGV4YW1wbGUubmV0OnBhc3M6IHdvcmQ="
    );
    assert_eq!(request.body(), r#"{"mfa_code":"123456"}"#);
    let request = login_request(&api(), "ann@example.net", &password, None).unwrap();
    assert!(request.body().is_empty());
    assert!(login_request(&api(), "a:b", &password, None).is_err());
}

#[test]
fn the_reply_to_a_login_says_who_the_user_is() {
    let body = r#"{"authentication":{"user":{"id":"715A4EC0","account_id":"1"},"account":{"id":"134274125"},
        "token":"t","token_expiration":1504026000}}"#;
    let login = read_login(&reply(200, body), now()).unwrap();
    assert_eq!(login.user_id, "715A4EC0");
    assert_eq!(login.token.account_id(), "134274125");
    for body in [
        body.replace("\"715A4EC0\"", "\"\""),
        body.replace("\"user\"", "\"other\""),
    ] {
        let refused = read_login(&reply(200, &body), now());
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{body}");
    }
    let refused = reply(401, r#"{"error":"mfa_code_required"}"#);
    assert!(wants_second_factor(&refused));
    assert!(!wants_second_factor(&reply(
        401,
        r#"{"error":"unauthorized"}"#
    )));
    assert!(!wants_second_factor(&reply(500, "mfa")));
}

#[test]
fn what_is_about_the_user_is_below_the_users_path() {
    let base = "https://api.example.net/aims/v1/134274125/users/715A4EC0%2F9833";
    for (request, method, tail) in [
        (roles_request(&api(), &login()), Method::GET, "/roles"),
        (
            create_request(&api(), &login()),
            Method::POST,
            "/access_keys",
        ),
        (list_request(&api(), &login()), Method::GET, "/access_keys"),
        (
            delete_request(&api(), &login(), "712c/../x"),
            Method::DELETE,
            "/access_keys/712c%2F..%2Fx",
        ),
    ] {
        assert_eq!(request.method(), method);
        assert_eq!(request.uri(), format!("{base}{tail}").as_str());
        assert_eq!(request.headers()["x-aims-auth-token"], "the-token");
        assert!(request.body().is_empty());
    }
}

#[test]
fn replies_are_read_and_the_secret_half_is_never_shown() {
    let roles = read_roles(
        &reply(
            200,
            r#"{"roles":[{"name":"Administrator","id":"x"},{"name":"Reader"}]}"#,
        ),
        now(),
    );
    assert_eq!(roles.unwrap(), ["Administrator", "Reader"]);
    let body = r#"{"access_key_id":"712c0b413eef41f6","secret_key":"CANARY"}"#;
    let made = read_created(&reply(200, body), now()).unwrap();
    assert_eq!(made.id, "712c0b413eef41f6");
    assert_eq!(made.secret_key.expose_secret(), "CANARY");
    assert!(!format!("{made:?}").contains("CANARY"));
    let body = r#"{"access_keys":[{"access_key_id":"a","label":"old","secret_key":"never"},{"access_key_id":"b","label":null}]}"#;
    let listed = read_list(&reply(200, body), now()).unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|key| (key.id.as_str(), key.label.as_str()))
        .collect();
    assert_eq!(shown, [("a", "old"), ("b", "")]);
    for body in ["", "{}", "[]"] {
        assert!(read_roles(&reply(200, body), now()).is_err());
        assert!(read_list(&reply(200, body), now()).is_err());
        let refused = read_created(&reply(200, body), now());
        assert!(matches!(refused, Err(Error::Malformed { .. })));
    }
}

#[test]
fn a_sixth_access_key_is_told_from_other_refusals() {
    assert!(is_limit_exceeded(&reply(
        400,
        r#"{"error":"limit exceeded"}"#
    )));
    assert!(is_limit_exceeded(&reply(409, "Limit Exceeded")));
    assert!(!is_limit_exceeded(&reply(400, r#"{"error":"bad"}"#)));
    assert!(!is_limit_exceeded(&reply(503, "limit")));
}
