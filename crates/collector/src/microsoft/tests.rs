//! The token, the budget and the requests of a tenant, against a scripted Microsoft.

use std::io::Write as _;
use std::time::Duration;

use activity_api::BlobReason;
use futures::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::testing::{Answer, CONTENT_TYPE, OTHER_TENANT, Scene, TENANT, blob_uri, gzip, tenant};

fn token(text: &str, expires_in: u32) -> Answer {
    Answer::ok(format!(
        r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{text}"}}"#
    ))
}

fn authorization(request: &http::Request<Bytes>) -> Option<&str> {
    request
        .headers()
        .get("authorization")
        .map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn many_callers_at_once_share_one_token_request() {
    let scene = Scene::new();
    scene.microsoft.on(
        "token",
        [token("shared", 3600).after(Duration::from_secs(2))],
    );
    let door = scene.door(tenant());
    let results = join_all((0..30).map(|_| door.list_subscriptions())).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(scene.microsoft.count("token"), 1);
    let sent = scene.microsoft.sent_of("subscriptions");
    assert_eq!(sent.len(), 30);
    assert!(
        sent.iter()
            .all(|request| authorization(request) == Some("Bearer shared"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_ten_minutes_before_its_end() {
    let scene = Scene::new();
    let door = scene.door(tenant());
    door.list_subscriptions().await.unwrap();
    tokio::time::advance(Duration::from_secs(49 * 60)).await;
    door.list_subscriptions().await.unwrap();
    assert_eq!(scene.microsoft.count("token"), 1);
    tokio::time::advance(Duration::from_secs(2 * 60)).await;
    door.list_subscriptions().await.unwrap();
    assert_eq!(scene.microsoft.count("token"), 2);
    let sent = scene.microsoft.sent_of("subscriptions");
    assert_eq!(
        sent.iter().map(authorization).collect::<Vec<_>>(),
        [
            Some("Bearer token-1"),
            Some("Bearer token-1"),
            Some("Bearer token-2")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_shorter_than_ten_minutes_is_used_all_the_same() {
    let scene = Scene::new();
    scene.microsoft.on("token", [token("short", 300)]);
    let door = scene.door(tenant());
    for _ in 0..5 {
        door.list_subscriptions().await.unwrap();
    }
    assert_eq!(scene.microsoft.count("token"), 1);
    tokio::time::advance(Duration::from_secs(151)).await;
    door.list_subscriptions().await.unwrap();
    assert_eq!(scene.microsoft.count("token"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("subscriptions", [Answer::status(401, ""), Answer::ok("[]")]);
    scene.door(tenant()).list_subscriptions().await.unwrap();
    let sent = scene.microsoft.sent_of("subscriptions");
    assert_eq!(
        sent.iter().map(authorization).collect::<Vec<_>>(),
        [Some("Bearer token-1"), Some("Bearer token-2")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_refusal_of_the_token_is_an_error() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("subscriptions", [Answer::status(401, "")]);
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert_eq!(error.next_step(), NextStep::Reauthenticate);
    assert_eq!(
        (
            scene.microsoft.count("token"),
            scene.microsoft.count("subscriptions")
        ),
        (2, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn callers_whose_shared_token_is_refused_replace_it_once_between_them() {
    let scene = Scene::new();
    let refusal = Answer::status(401, "").after(Duration::from_secs(1));
    scene.microsoft.on(
        "subscriptions",
        vec![refusal; 10].into_iter().chain([Answer::ok("[]")]),
    );
    let door = scene.door(tenant());
    let results = join_all((0..10).map(|_| door.list_subscriptions())).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(scene.microsoft.count("token"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_login_service_is_not_noticed_while_the_old_token_is_good() {
    let scene = Scene::new();
    let outage = Answer::no_connection().after(Duration::from_secs(20));
    scene.microsoft.on("token", [token("old", 3600), outage]);
    let door = scene.door(tenant());
    door.list_subscriptions().await.unwrap();
    tokio::time::advance(Duration::from_secs(51 * 60)).await;
    // One caller waits for the login service; the next ones do not.
    let began = Instant::now();
    for _ in 0..20 {
        door.list_subscriptions().await.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.microsoft.count("token"), 2);
    tokio::time::advance(Duration::from_secs(31)).await;
    door.list_subscriptions().await.unwrap();
    assert_eq!(scene.microsoft.count("token"), 3);
    tokio::time::advance(Duration::from_secs(9 * 60)).await;
    let error = door.list_subscriptions().await.unwrap_err();
    assert!(
        matches!(error, Error::Token(token::Error::Network(_))),
        "{error:?}"
    );
    scene.microsoft.on("token", [token("new", 3600)]);
    door.list_subscriptions().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_stops_the_tenant() {
    let scene = Scene::new();
    let answer = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}"#;
    scene.microsoft.on("token", [Answer::status(401, answer)]);
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert!(
        matches!(error.next_step(), NextStep::StopTenant(_)),
        "{error:?}"
    );
    assert_eq!(scene.microsoft.count("subscriptions"), 0);
}

#[tokio::test(start_paused = true)]
async fn af429_lowers_the_budget_and_silences_it() {
    for status in [403, 429] {
        let scene = Scene::new();
        let refusal = Answer::refused(status, "AF429").header("Retry-After", "7");
        scene
            .microsoft
            .on("subscriptions", [refusal, Answer::ok("[]")]);
        let door = scene.door(tenant());
        let full = door.budget().per_minute();
        let error = door.list_subscriptions().await.unwrap_err();
        assert_eq!(
            error.next_step(),
            NextStep::RetryAfter(Some(Duration::from_secs(7)))
        );
        assert_eq!(door.budget().per_minute(), full / 2.0);
        let sent = scene.microsoft.sent().len();
        let error = door.list_subscriptions().await.unwrap_err();
        assert!(matches!(error.next_step(), NextStep::RetryAfter(Some(_))));
        assert_eq!(
            scene.microsoft.sent().len(),
            sent,
            "it was sent all the same"
        );
        tokio::time::sleep(Duration::from_secs(7)).await;
        door.list_subscriptions().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_to_the_api_names_the_publisher_and_only_those_carry_the_token() {
    let scene = Scene::new();
    let page = format!(
        "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/subscriptions/content?contentType=Audit.Exchange&nextPage=2"
    );
    scene.microsoft.on("blob/a", [Answer::ok("[]")]);
    scene
        .microsoft
        .on("content", [Answer::ok("[]").header("NextPageUri", page)]);
    scene.microsoft.on("page/2", [Answer::ok("[]")]);
    let door = scene.door(tenant());
    let window = Window::new(scene.now() - Duration::from_secs(3600), scene.now()).unwrap();
    door.list_subscriptions().await.unwrap();
    door.start_subscription(CONTENT_TYPE, None).await.unwrap();
    door.stop_subscription(CONTENT_TYPE).await.unwrap();
    let next = door
        .list_content(CONTENT_TYPE, window)
        .await
        .unwrap()
        .next_page
        .unwrap();
    door.next_content_page(CONTENT_TYPE, &next).await.unwrap();
    door.open_blob(CONTENT_TYPE, &blob_uri(tenant(), "a"))
        .await
        .unwrap();

    let (tokens, others): (Vec<_>, Vec<_>) = scene
        .microsoft
        .sent()
        .into_iter()
        .partition(|request| request.uri().host() == Some("login.microsoftonline.com"));
    assert_eq!((tokens.len(), others.len()), (1, 6));
    assert!(
        tokens
            .iter()
            .all(|request| authorization(request).is_none())
    );
    for request in others {
        assert_eq!(request.uri().host(), Some("manage.office.com"));
        assert_eq!(request.uri().scheme_str(), Some("https"));
        assert_eq!(authorization(&request), Some("Bearer token-1"));
        let publisher = format!("PublisherIdentifier={TENANT}");
        assert_eq!(
            request.uri().query().unwrap().matches(&publisher).count(),
            1,
            "{}",
            request.uri()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hostile_uri_gets_no_request_at_all() {
    let scene = Scene::new();
    let door = scene.door(tenant());
    for uri in [
        format!("https://evil.example/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("http://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("https://manage.office.com@evil.example/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("https://manage.office.com.evil.example/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("https://manage.office.com:444/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("https://manage.office.com/api/v1.0/{OTHER_TENANT}/activity/feed/audit/a"),
        format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/../../../elsewhere"),
        format!("https://manage.office.com\\@evil.example/api/v1.0/{TENANT}/activity/feed/audit/a"),
        format!("//evil.example/api/v1.0/{TENANT}/activity/feed/audit/a"),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let error = door.open_blob(CONTENT_TYPE, &uri).await.unwrap_err();
        assert!(
            matches!(error, Error::Answer(activity_api::Error::UntrustedUri(_))),
            "{uri}: {error:?}"
        );
    }
    assert_eq!(scene.microsoft.sent().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_goes_on_elsewhere_is_not_followed() {
    let scene = Scene::new();
    scene.microsoft.on("content", [Answer::ok("[]").header("NextPageUri", format!("https://evil.example/api/v1.0/{TENANT}/activity/feed/subscriptions/content?nextPage=2"))]);
    let window = Window::new(scene.now() - Duration::from_secs(3600), scene.now()).unwrap();
    let error = scene
        .door(tenant())
        .list_content(CONTENT_TYPE, window)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Answer(activity_api::Error::UntrustedUri(_))),
        "{error:?}"
    );
    assert!(
        scene
            .microsoft
            .sent()
            .iter()
            .all(|request| request.uri().host() != Some("evil.example"))
    );
}

#[tokio::test(start_paused = true)]
async fn compressed_replies_are_read() {
    let scene = Scene::new();
    let listing = r#"[{"contentType":"Audit.Exchange","status":"enabled","webhook":null}]"#;
    let packed = Answer::ok(gzip(listing.as_bytes()))
        .header("Content-Encoding", "GZIP")
        .in_pieces(5);
    scene.microsoft.on("subscriptions", [packed]);
    let subscriptions = scene.door(tenant()).list_subscriptions().await.unwrap();
    assert!(subscriptions.of(CONTENT_TYPE).unwrap().is_enabled);

    let refusal = gzip(br#"{"error":{"code":"AF20051","message":"gone"}}"#);
    scene.microsoft.on(
        "blob/a",
        [Answer::status(400, refusal).header("Content-Encoding", "gzip")],
    );
    let error = scene
        .door(tenant())
        .open_blob(CONTENT_TYPE, &blob_uri(tenant(), "a"))
        .await
        .unwrap_err();
    assert_eq!(
        error.next_step(),
        NextStep::GiveUpOnBlob(BlobReason::Expired)
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_compressed_reply_is_no_reply() {
    let scene = Scene::new();
    let packed = gzip(b"[]");
    scene.microsoft.on(
        "subscriptions",
        [Answer::ok(packed[..packed.len() - 3].to_vec()).header("Content-Encoding", "gzip")],
    );
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert_eq!(error.next_step(), NextStep::RetryAfter(None));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_too_long_is_not_read_to_its_end() {
    let scene = Scene::new();
    let chunk = vec![b' '; 1024 * 1024];
    scene.microsoft.on(
        "subscriptions",
        [Answer::ok(chunk.repeat(33))
            .in_pieces(1024 * 1024)
            .then_silence()],
    );
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert!(
        matches!(error, Error::Network(crate::http::Error::TooLong { .. })),
        "{error:?}"
    );

    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..33 {
        bomb.write_all(&chunk).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1024 * 1024);
    scene.microsoft.on(
        "subscriptions",
        [Answer::ok(bomb).header("Content-Encoding", "gzip")],
    );
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert!(
        matches!(error, Error::Network(crate::http::Error::TooLong { .. })),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endless_refusal_is_judged_by_its_status() {
    let scene = Scene::new();
    scene.microsoft.on(
        "subscriptions",
        [Answer::status(503, vec![b'x'; 100_000]).then_silence()],
    );
    let error = scene.door(tenant()).list_subscriptions().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Answer(activity_api::Error::ServiceFailed { .. })
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_runs_already_counts_as_started() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("start/Audit.Exchange", [Answer::refused(400, "AF20024")]);
    scene
        .door(tenant())
        .start_subscription(CONTENT_TYPE, None)
        .await
        .unwrap();
    scene
        .microsoft
        .on("start/Audit.Exchange", [Answer::refused(400, "AF20020")]);
    scene
        .door(tenant())
        .start_subscription(CONTENT_TYPE, None)
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn neither_the_secret_nor_the_token_is_shown() {
    let scene = Scene::new();
    let door = scene.door(tenant());
    door.list_subscriptions().await.unwrap();
    let shown = format!("{door:?} {:?}", scene.microsoft.sent_of("subscriptions"));
    assert!(
        !shown.contains("correct horse") && !shown.contains("token-1"),
        "{shown}"
    );
}
