//! Tests of the webhook: who may, what counts, and that a 200 means durable.

use futures::stream;
use http::Method;

use super::*;
use crate::web::webhook::MAX_NOTIFICATIONS_IN_FLIGHT;

/// One entry of a notification, written by hand after Microsoft's reference of the Activity API.
fn entry(tenant: &str, content_type: &str, content_id: &str, content_uri: &str) -> String {
    format!(
        r#"{{"tenantId":"{tenant}","clientId":"a261478c-84fb-42f9-84c2-de050a4babe3","contentType":"{content_type}",
            "contentId":"{content_id}","contentUri":"{content_uri}",
            "contentCreated":"2026-07-15T20:45:00.774Z","contentExpiration":"2026-07-22T20:45:00.774Z"}}"#
    )
}

/// A right entry for the number-th blob.
fn good_entry(number: u32) -> String {
    let id = format!(
        "20260715204500774{number:06}$20260715204500774{number:06}$audit_exchange$Audit_Exchange$na0018"
    );
    let uri = format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{id}");
    entry(TENANT, "Audit.Exchange", &id, &uri)
}

fn error_code(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_notification_is_in_the_ledger_when_it_is_answered() {
    let door = Door::open();
    let body = format!("[{},{}]", good_entry(1), good_entry(2));
    let answer = door.notify(body.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.body,
        r#"{"ignored_count":0,"known_count":0,"new_count":2}"#
    );
    assert_eq!(door.pending_count().await, 2);

    let again = door.notify(body).await;
    assert_eq!(
        again.body,
        r#"{"ignored_count":0,"known_count":2,"new_count":0}"#
    );
    assert_eq!(door.pending_count().await, 2);
}

#[tokio::test]
async fn put_is_taken_as_post_is_and_the_content_type_does_not_matter() {
    let door = Door::open();
    let request = Request::put(WEBHOOK_PATH)
        .header("webhook-authid", AUTH_ID)
        .header("content-type", "text/plain");
    let answer = door
        .send(request.body(format!("[{}]", good_entry(1)).into()).unwrap())
        .await;
    assert_eq!(
        (answer.status, door.pending_count().await),
        (StatusCode::OK, 1)
    );
}

#[tokio::test]
async fn a_validation_is_answered_and_notes_nothing() {
    let door = Door::open();
    let before = door.summary().await;
    let answer = door.notify(r#"{"validationCode":"3f1c-opaque"}"#).await;
    assert_eq!(answer.status, StatusCode::OK);

    let mut with_header = webhook_request(Some(AUTH_ID), r#"{"validationCode":"3f1c-opaque"}"#);
    with_header
        .headers_mut()
        .insert("Webhook-ValidationCode", "3f1c-opaque".parse().unwrap());
    assert_eq!(door.send(with_header).await.status, StatusCode::OK);

    let mut header_alone = webhook_request(Some(AUTH_ID), Body::empty());
    header_alone
        .headers_mut()
        .insert("Webhook-ValidationCode", "3f1c-opaque".parse().unwrap());
    assert_eq!(door.send(header_alone).await.status, StatusCode::OK);
    assert_eq!(door.summary().await, before);
}

#[tokio::test]
async fn a_missing_or_wrong_auth_id_is_refused_and_notes_nothing() {
    let door = Door::open();
    let before = door.summary().await;
    let too_long = "x".repeat(5_000);
    let padded = format!("{AUTH_ID}\0");
    let wrong = [
        "",
        "s",
        "s3cr3t-auth-i",
        "s3cr3t-auth-id2",
        "S3cr3t-auth-id",
        "wrong",
        &too_long,
        &padded,
    ];
    for body in [
        format!("[{}]", good_entry(1)),
        r#"{"validationCode":"3f1c"}"#.to_owned(),
        "junk".to_owned(),
    ] {
        let missing = door.send(webhook_request(None, body.clone())).await;
        assert_eq!(
            (missing.status, error_code(&missing).as_str()),
            (StatusCode::UNAUTHORIZED, "unauthorized")
        );
        for wrong in wrong
            .iter()
            .filter(|text| http::HeaderValue::try_from(**text).is_ok())
        {
            let answer = door.send(webhook_request(Some(wrong), body.clone())).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong:?}");
        }
        let mut twice = webhook_request(Some(AUTH_ID), body.clone());
        twice
            .headers_mut()
            .append("Webhook-AuthID", AUTH_ID.parse().unwrap());
        assert_eq!(door.send(twice).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(door.summary().await, before);
}

#[tokio::test]
async fn an_entry_that_names_another_address_or_tenant_is_refused_and_the_others_are_noted() {
    let id = "20260715204500774999999$20260715204500774999999$audit_exchange$Audit_Exchange$na0018";
    let path = format!("api/v1.0/{TENANT}/activity/feed/audit/{id}");
    let elsewhere = [
        (TENANT, format!("https://evil.example/{path}")),
        (
            TENANT,
            format!("https://manage.office.com.evil.example/{path}"),
        ),
        (
            TENANT,
            format!("https://manage.office.com@evil.example/{path}"),
        ),
        (TENANT, format!("https://manage.office.com:8443/{path}")),
        (TENANT, format!("http://manage.office.com/{path}")),
        (TENANT, format!("//manage.office.com/{path}")),
        (TENANT, format!("https://127.0.0.1/{path}")),
        (
            TENANT,
            format!("https://manage.office.com/api/v1.0/{OTHER_TENANT}/activity/feed/audit/{id}"),
        ),
        (
            TENANT,
            format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/../../{id}"),
        ),
        (
            TENANT,
            format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/another-blob"),
        ),
        (TENANT, String::new()),
        (OTHER_TENANT, format!("https://manage.office.com/{path}")),
        (
            OTHER_TENANT,
            format!("https://manage.office.com/api/v1.0/{OTHER_TENANT}/activity/feed/audit/{id}"),
        ),
    ];
    for (tenant, uri) in elsewhere {
        let door = Door::open();
        let answer = door
            .notify(format!("[{}]", entry(tenant, "Audit.Exchange", id, &uri)))
            .await;
        assert_eq!(
            (answer.status, error_code(&answer).as_str()),
            (StatusCode::BAD_REQUEST, "refused_entries"),
            "{uri}"
        );
        assert_eq!(door.pending_count().await, 0, "{uri}");

        let body = format!(
            "[{},{},{}]",
            good_entry(1),
            entry(tenant, "Audit.Exchange", id, &uri),
            good_entry(2)
        );
        assert_eq!(
            door.notify(body).await.status,
            StatusCode::BAD_REQUEST,
            "{uri}"
        );
        assert_eq!(door.pending_count().await, 2, "{uri}");
    }
}

#[tokio::test]
async fn a_content_type_that_is_unknown_or_not_configured_is_ignored() {
    let door = Door::open();
    let id = "20260715204500774000001$20260715204500774000001$audit_x$Audit_X";
    let uri = format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{id}");
    let unknown = entry(TENANT, "Audit.Tomorrow", id, &uri);
    let not_configured = entry(TENANT, "Audit.SharePoint", id, &uri);
    let answer = door
        .notify(format!("[{unknown},{not_configured},{}]", good_entry(7)))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.body,
        r#"{"ignored_count":2,"known_count":0,"new_count":1}"#
    );
    assert_eq!(door.pending_count().await, 1);
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_refused_whether_its_length_is_announced_or_not() {
    let door = Door::open();
    let mut body = format!("[{}]", good_entry(1));
    body.push_str(&" ".repeat(1024 * 1024 + 1 - body.len()));
    assert_eq!(body.len(), 1024 * 1024 + 1);

    let mut announced = webhook_request(
        Some(AUTH_ID),
        Body::from_stream(stream::pending::<Result<String, std::io::Error>>()),
    );
    announced
        .headers_mut()
        .insert("content-length", body.len().into());
    let answer = door.send(announced).await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    );

    let pieces: Vec<_> = body
        .as_bytes()
        .chunks(50_000)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect();
    let answer = door.notify(Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(door.pending_count().await, 0);

    body.pop();
    assert_eq!(door.notify(body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_is_no_notification_is_refused_and_the_next_right_one_is_taken() {
    let door = Door::open();
    let before = door.summary().await;
    let deep = "[".repeat(100_000);
    let odd_time = good_entry(1).replace("2026-07-15T20:45:00.774Z", "yesterday");
    let odd_tenant = good_entry(1).replace(TENANT, "contoso");
    let number_for_text = good_entry(1).replace("\"Audit.Exchange\"", "7");
    let one_of_two = format!("[{},{{}}]", good_entry(1));
    let bodies = [
        "",
        "null",
        "{}",
        "7",
        "\"text\"",
        "[7]",
        "[null]",
        "[{}]",
        "[[]]",
        "{\"validationCode\":7}",
        "not json",
        "[",
        &deep,
        &format!("[{odd_time}]"),
        &format!("[{odd_tenant}]"),
        &format!("[{number_for_text}]"),
        &one_of_two,
        &format!("[{}] trailing", good_entry(1)),
    ];
    for body in bodies {
        let answer = door.notify(body.to_owned()).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(
            (answer.status, error_code(&answer).as_str()),
            (StatusCode::BAD_REQUEST, "malformed"),
            "{shown}"
        );
    }
    let not_unicode = door.notify(vec![b'[', b'"', 0xff, 0xfe, b'"', b']']).await;
    assert_eq!(not_unicode.status, StatusCode::BAD_REQUEST);
    assert_eq!(door.summary().await, before);

    assert_eq!(
        door.notify(format!("[{}]", good_entry(1))).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let door = Door::open();
    let pieces = [Ok(good_entry(1)), Err(std::io::Error::other("reset"))];
    let answer = door.notify(Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::BAD_REQUEST, "broken_off")
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_refused_in_time() {
    let door = Door::open();
    let answer = door
        .notify(Body::from_stream(stream::pending::<
            Result<String, std::io::Error>,
        >()))
        .await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::REQUEST_TIMEOUT, "too_slow")
    );
}

#[tokio::test]
async fn a_ledger_that_fails_is_answered_503_and_never_200() {
    let door = Door::with_failing_ledger();
    let answer = door.notify(format!("[{}]", good_entry(1))).await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "ledger_failed")
    );
    assert_eq!(answer.headers["retry-after"], "10");
    assert!(
        !answer.body.contains("reading only"),
        "the cause is for the log: {}",
        answer.body
    );
}

#[tokio::test]
async fn more_notifications_at_once_than_there_is_room_for_are_sent_away_at_once() {
    let door = Door::open();
    let all = door
        .state
        .0
        .notifications
        .acquire_many(MAX_NOTIFICATIONS_IN_FLIGHT as u32)
        .await
        .unwrap();
    let answer = door.notify(format!("[{}]", good_entry(1))).await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
    );
    assert_eq!(answer.headers["retry-after"], "1");
    drop(all);
    assert_eq!(
        door.notify(format!("[{}]", good_entry(1))).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn without_a_configured_webhook_there_is_nothing_at_its_address() {
    let door = Door::without_webhook();
    let answer = door.notify(format!("[{}]", good_entry(1))).await;
    assert_eq!(
        (answer.status, error_code(&answer).as_str()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    assert_eq!(door.pending_count().await, 0);
}

#[tokio::test]
async fn other_methods_are_not_taken() {
    let door = Door::open();
    for method in [
        Method::GET,
        Method::HEAD,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let request = Request::builder()
            .method(method.clone())
            .uri(WEBHOOK_PATH)
            .header("webhook-authid", AUTH_ID);
        let answer = door.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers["allow"], "POST,PUT", "{method}");
    }
}

#[test]
fn an_auth_id_that_no_header_could_carry_is_refused_at_the_start() {
    for text in ["", "two words", "tab\t", "ümlaut", &"x".repeat(257)] {
        assert_eq!(
            AuthId::new(&SecretString::from(text)).unwrap_err(),
            InvalidAuthId,
            "{text:?}"
        );
    }
    let longest = AuthId::new(&SecretString::from("x".repeat(256))).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-authid", "x".repeat(256).parse().unwrap());
    assert!(longest.admits(&headers));
    assert_eq!(format!("{longest:?}"), "AuthId(..)");
}

#[tokio::test]
async fn a_notification_that_the_ledger_does_not_keep_ends_readiness() {
    let door = Door::with_failing_ledger();
    door.live.running();
    assert_eq!(door.get("/readyz").await.status, StatusCode::OK);
    let name = "a-blob";
    let body = serde_json::json!([{
        "tenantId": TENANT,
        "clientId": "a261478c-84fb-42f9-84c2-de050a4babe3",
        "contentType": "Audit.Exchange",
        "contentId": name,
        "contentUri": format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{name}"),
        "contentCreated": "2026-07-15T20:59:00.000Z",
        "contentExpiration": "2026-07-22T20:59:00.000Z",
    }]);
    let answer = door.notify(body.to_string()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready = door.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.body,
        r#"{"ready":false,"reasons":["the ledger fails: the ledger is open for reading only"]}"#
    );
}

#[tokio::test]
async fn an_auth_id_that_another_process_put_in_force_is_admitted() {
    let door = Door::open();
    let fact = r#"{"current":"generated","previous":"before","changed_at":"2026-07-15T19:00:00Z"}"#;
    door.ledger
        .remember("webhook/auth-ids", fact)
        .await
        .unwrap();
    for (auth_id, status) in [
        ("generated", StatusCode::OK),
        ("before", StatusCode::OK),
        (AUTH_ID, StatusCode::OK),
        ("a guess", StatusCode::UNAUTHORIZED),
    ] {
        let body = format!("[{}]", good_entry(1));
        let answer = door.send(webhook_request(Some(auth_id), body)).await;
        assert_eq!(answer.status, status, "{auth_id}");
    }
}
