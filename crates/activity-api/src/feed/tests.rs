//! Tests of the requests, and of what no token is sent to.

use proptest::prelude::*;

use super::*;
use crate::fixtures::{PUBLISHER, TENANT, feed};

fn show(request: &Request<Bytes>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    if !request.body().is_empty() {
        text.push_str(std::str::from_utf8(request.body()).unwrap());
        text.push('\n');
    }
    text
}

fn window() -> Window {
    Window::new(
        "2026-03-01T08:00:00Z".parse().unwrap(),
        "2026-03-01T09:30:00.250Z".parse().unwrap(),
    )
    .unwrap()
}

fn blob_uri(id: &str) -> String {
    format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{id}")
}

#[test]
fn the_requests_about_subscriptions() {
    let feed = feed();
    let webhook = Webhook {
        address: "https://collector.example.net/api/o365/webhook".to_owned(),
        auth_id: Some(SecretString::from("not-a-real-id\"")),
        expiration: Some("2026-04-01T00:00:00Z".parse().unwrap()),
    };
    let plain = Webhook {
        auth_id: None,
        expiration: None,
        ..webhook.clone()
    };
    expect_test::expect![[r#"
        GET https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/list?PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json

        POST https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/start?contentType=Audit.Exchange&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        content-type: application/json; charset=utf-8
        {}

        POST https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/start?contentType=DLP.All&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        content-type: application/json; charset=utf-8
        {"webhook":{"address":"https://collector.example.net/api/o365/webhook","authId":"not-a-real-id\"","expiration":"2026-04-01T00:00:00.000Z"}}

        POST https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/start?contentType=DLP.All&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        content-type: application/json; charset=utf-8
        {"webhook":{"address":"https://collector.example.net/api/o365/webhook","expiration":""}}

        POST https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/stop?contentType=Audit.General&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        content-type: application/json; charset=utf-8
        content-length: 0
    "#]]
    .assert_eq(
        &[
            show(&feed.list_subscriptions()),
            show(&feed.start(ContentType::Exchange, None)),
            show(&feed.start(ContentType::Dlp, Some(&webhook))),
            show(&feed.start(ContentType::Dlp, Some(&plain))),
            show(&feed.stop(ContentType::General)),
        ]
        .join("\n"),
    );
}

#[test]
fn the_requests_that_list_and_fetch() {
    let feed = feed();
    let page = feed
        .trust(&format!(
            "https://manage.office.com/api/v1/{TENANT}/activity/feed/subscriptions/content?contentType=Audit.Exchange&startTime=2026-03-01T08:00:00&nextPage=2026030108"
        ))
        .unwrap();
    let blob = feed
        .trust(&blob_uri(
            "2026$2026$audit_exchange$Audit_Exchange$emea0039",
        ))
        .unwrap();
    expect_test::expect![[r#"
        GET https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/content?contentType=Audit.Exchange&startTime=2026-03-01T08%3A00%3A00.000Z&endTime=2026-03-01T09%3A30%3A00.250Z&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        accept-encoding: gzip

        GET https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/notifications?contentType=Audit.SharePoint&startTime=2026-03-01T08%3A00%3A00.000Z&endTime=2026-03-01T09%3A30%3A00.250Z&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        accept-encoding: gzip

        GET https://manage.office.com/api/v1/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/subscriptions/content?contentType=Audit.Exchange&startTime=2026-03-01T08:00:00&nextPage=2026030108&PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        accept-encoding: gzip

        GET https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/audit/2026$2026$audit_exchange$Audit_Exchange$emea0039?PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        accept-encoding: gzip

        GET https://manage.office.com/api/v1.0/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/resources/dlpSensitiveTypes?PublisherIdentifier=c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23
        accept: application/json
        accept-language: de-DE
    "#]]
    .assert_eq(
        &[
            show(&feed.list_content(ContentType::Exchange, window())),
            show(&feed.list_notifications(ContentType::SharePoint, window())),
            show(&feed.next_page(&page)),
            show(&feed.blob(&blob)),
            show(&feed.dlp_sensitive_types(Some("de-DE"))),
        ]
        .join("\n"),
    );
}

#[test]
fn the_publisher_is_added_once() {
    let feed = feed();
    for (query, expected) in [
        ("", format!("?PublisherIdentifier={PUBLISHER}")),
        ("?", format!("?PublisherIdentifier={PUBLISHER}")),
        ("?a=b&", format!("?a=b&PublisherIdentifier={PUBLISHER}")),
        ("?a=b?c", format!("?a=b?c&PublisherIdentifier={PUBLISHER}")),
        (
            "?publisheridentifier=x",
            "?publisheridentifier=x".to_owned(),
        ),
        (
            "?a=PublisherIdentifier=",
            format!("?a=PublisherIdentifier=&PublisherIdentifier={PUBLISHER}"),
        ),
    ] {
        let uri = feed.trust(&format!("{}{query}", blob_uri("x"))).unwrap();
        assert_eq!(
            feed.blob(&uri).uri().to_string(),
            format!("{}{expected}", blob_uri("x"))
        );
    }
}

#[test]
fn a_language_that_no_header_can_carry_is_left_out() {
    let request = feed().dlp_sensitive_types(Some("de\r\nHost: evil"));
    assert!(!request.headers().contains_key("accept-language"));
}

#[test]
fn no_request_carries_a_token_of_its_own() {
    let feed = feed();
    let uri = feed.trust(&blob_uri("x")).unwrap();
    for request in [
        feed.list_subscriptions(),
        feed.blob(&uri),
        feed.next_page(&uri),
    ] {
        assert!(!request.headers().contains_key("authorization"));
    }
}

#[test]
fn what_microsoft_writes_in_several_ways_is_trusted() {
    let upper_tenant = TENANT.to_uppercase();
    for uri in [
        blob_uri("2026$2026$audit_exchange$Audit_Exchange$emea0039$emea0039"),
        blob_uri("x?y=1&z=%2F..%2F"),
        blob_uri("a%24b"),
        format!(
            "https://manage.office.com/api/v1/{TENANT}/activity/feed/subscriptions/content?nextPage=a/b"
        ),
        format!("https://manage.office.com/api/v1.0/{upper_tenant}/activity/feed/audit/x"),
    ] {
        assert_eq!(feed().trust(&uri).unwrap().as_str(), uri);
    }
    for uri in [
        format!("HTTPS://Manage.Office.com/api/v1.0/{TENANT}/activity/feed/audit/x"),
        format!("https://manage.office.com:443/api/v1.0/{TENANT}/activity/feed/audit/x"),
    ] {
        assert_eq!(feed().trust(&uri).unwrap().as_str(), blob_uri("x"), "{uri}");
    }
}

#[test]
fn no_token_goes_anywhere_but_to_the_tenants_own_feed() {
    use UntrustedReason::*;
    let other = "99999999-7d52-4f0e-9a61-2f6d8c4e7b90";
    let simple = TENANT.replace('-', "");
    let path = format!("/api/v1.0/{TENANT}/activity/feed/audit/x");
    let feed_path = format!("/api/v1.0/{TENANT}/activity/feed");
    let mut uris: Vec<(String, UntrustedReason)> = Vec::new();

    for (origin, reason) in [
        ("https://evil.example", OtherOrigin),
        ("http://manage.office.com", OtherOrigin),
        ("http://manage.office.com:443", OtherOrigin),
        ("ftp://manage.office.com", OtherOrigin),
        ("wss://manage.office.com", OtherOrigin),
        ("https://manage.office.com.evil.example", OtherOrigin),
        ("https://manage.office.com.", OtherOrigin),
        ("https://evilmanage.office.com", OtherOrigin),
        ("https://sub.manage.office.com", OtherOrigin),
        ("https://manage-office.com", OtherOrigin),
        ("https://manage-gcc.office.com", OtherOrigin),
        ("https://manage.office.com:8443", OtherOrigin),
        ("https://manage.office.com:80", OtherOrigin),
        ("https://manage.office.com:", OtherOrigin),
        ("https://manage.office.com:443443", OtherOrigin),
        ("https://manage.office.com:443@evil.example", UserInfo),
        ("https://manage.office.com@evil.example", UserInfo),
        ("https://user@manage.office.com", UserInfo),
        ("https://user:word@manage.office.com", UserInfo),
        ("https://@manage.office.com", UserInfo),
        ("https://manage.office.com%2eevil.example", OtherOrigin),
        ("https://manage.office.com%40evil.example", OtherOrigin),
        ("https://manage%2eoffice.com", OtherOrigin),
        ("https://manage.office.com%00.evil.example", OtherOrigin),
        ("https://manage.office.com;.evil.example", OtherOrigin),
        ("https://manage.office.com,evil.example", OtherOrigin),
        ("https://xn--mnage-sxa.office.com", OtherOrigin),
        ("https://mаnage.office.com", Unreadable),
        ("https://manage。office.com", Unreadable),
        ("https://manage.office.com\\@evil.example", Unreadable),
        ("https://evil.example\\.manage.office.com", Unreadable),
        ("https:\\\\manage.office.com", Unreadable),
        ("https://manage.office.com\t", Unreadable),
        ("https://manage.office.com\n", Unreadable),
        ("https://manage.office.com ", Unreadable),
        (" https://manage.office.com", Unreadable),
        ("\u{feff}https://manage.office.com", Unreadable),
        ("ht\ntps://manage.office.com", Unreadable),
        ("https://manage.office.com#.evil.example", Fragment),
        ("https://evil.example#@manage.office.com", Fragment),
        ("https://evil.example?manage.office.com", OtherOrigin),
        (
            "https://evil.example/https://manage.office.com",
            OtherOrigin,
        ),
        ("https:///manage.office.com", OtherOrigin),
        ("https:////manage.office.com", OtherOrigin),
        ("https:/manage.office.com", Unreadable),
        ("https:manage.office.com", Unreadable),
        ("//manage.office.com", Unreadable),
        ("manage.office.com", Unreadable),
        ("https://[::1]", OtherOrigin),
        ("https://127.0.0.1", OtherOrigin),
        ("http://localhost:8080", OtherOrigin),
        ("https://", OtherOrigin),
        ("", Unreadable),
    ] {
        uris.push((format!("{origin}{path}"), reason));
    }

    for (path, reason) in [
        (String::new(), OtherPath),
        ("/".to_owned(), OtherPath),
        ("?x".to_owned(), OtherPath),
        ("/evil".to_owned(), OtherPath),
        (feed_path.clone(), OtherPath),
        (format!("{feed_path}/"), PathTrick),
        (format!("{feed_path}x/audit/x"), OtherPath),
        (format!("/{path}"), OtherPath),
        (format!("/x{path}"), OtherPath),
        (
            format!("/api/v2.0/{TENANT}/activity/feed/audit/x"),
            OtherPath,
        ),
        (
            format!("/api//v1.0/{TENANT}/activity/feed/audit/x"),
            OtherPath,
        ),
        (
            format!("/api/v1.0/{other}/activity/feed/audit/x"),
            OtherTenant,
        ),
        (
            format!("/api/v1.0/{simple}/activity/feed/audit/x"),
            OtherTenant,
        ),
        (
            format!("/api/v1.0/%7B{TENANT}%7D/activity/feed/audit/x"),
            OtherTenant,
        ),
        ("/api/v1.0//activity/feed/audit/x".to_owned(), OtherTenant),
        (
            format!("/api/v1.0/{TENANT}/activity/../../{other}/activity/feed/audit/x"),
            OtherPath,
        ),
        (
            format!("/api/v1.0/{TENANT}%2F..%2F{other}/activity/feed/audit/x"),
            OtherTenant,
        ),
        (
            format!("{feed_path}/../../../{other}/activity/feed/audit/x"),
            PathTrick,
        ),
        (format!("{feed_path}/audit/.."), PathTrick),
        (format!("{feed_path}/audit/."), PathTrick),
        (format!("{feed_path}/./audit/x"), PathTrick),
        (format!("{feed_path}/audit//x"), PathTrick),
        (format!("{feed_path}/audit/x/"), PathTrick),
        (format!("{feed_path}/audit/%2e%2e/x"), PathTrick),
        (format!("{feed_path}/audit/%2E%2E"), PathTrick),
        (format!("{feed_path}/audit/.%2e"), PathTrick),
        (format!("{feed_path}/audit/x%2Fy"), PathTrick),
        (format!("{feed_path}/audit/x%2fy"), PathTrick),
        (format!("{feed_path}/audit/x%5cy"), PathTrick),
        (format!("{feed_path}/audit/x%252Fy"), PathTrick),
        (format!("{feed_path}/audit/x%0d%0aHost:evil"), PathTrick),
        (format!("{feed_path}/audit/x%00"), PathTrick),
        (format!("{feed_path}/audit/x%20"), PathTrick),
        (format!("{feed_path}/audit/x%c0%af"), PathTrick),
        (format!("{feed_path}/audit/x%3Fy"), PathTrick),
        (format!("{feed_path}/audit/x%23y"), PathTrick),
        (format!("{feed_path}/audit/x%"), PathTrick),
        (format!("{feed_path}/audit/x%2"), PathTrick),
        (format!("{feed_path}/audit/x%zz"), PathTrick),
        (format!("{feed_path}/audit/x%+5"), PathTrick),
        (format!("{feed_path}/audit/..;/x"), PathTrick),
        (format!("{feed_path}/audit/x\\..\\y"), Unreadable),
        (format!("{feed_path}/audit/x y"), Unreadable),
        (format!("{feed_path}/audit/x\ty"), Unreadable),
        (
            format!("{feed_path}/audit/x\r\nHost: evil.example"),
            Unreadable,
        ),
        (format!("{feed_path}/audit/x\0"), Unreadable),
        (format!("{feed_path}/audit/é"), Unreadable),
        (format!("{feed_path}/audit/x?y=\\"), Unreadable),
        (format!("{feed_path}/audit/x#y"), Fragment),
        (format!("{feed_path}/audit/x?y#z"), Fragment),
        (
            format!("{feed_path}/audit/{}", "x".repeat(LONGEST_URI)),
            TooLong,
        ),
    ] {
        uris.push((format!("https://manage.office.com{path}"), reason));
    }

    for (uri, reason) in uris {
        let untrusted = feed().trust(&uri).expect_err(&uri);
        assert_eq!(untrusted.reason(), reason, "{uri:?}");
    }
}

#[test]
fn a_tests_own_origin_is_held_to_the_same_rules() {
    let origin: Origin = "http://localhost:8080".parse().unwrap();
    let feed = Feed::new(origin, TENANT.parse().unwrap(), PUBLISHER.parse().unwrap());
    let path = format!("/api/v1.0/{TENANT}/activity/feed/audit/x");
    assert!(feed.trust(&format!("http://localhost:8080{path}")).is_ok());
    for origin in [
        "http://localhost",
        "https://localhost:8080",
        "http://127.0.0.1:8080",
        "https://manage.office.com",
    ] {
        let untrusted = feed.trust(&format!("{origin}{path}")).unwrap_err();
        assert_eq!(untrusted.reason(), UntrustedReason::OtherOrigin, "{origin}");
    }
}

#[test]
fn what_is_told_of_an_untrusted_uri_is_short_and_harmless() {
    let uri = format!(
        "https://evil.example/\u{1b}[31m\n\u{202e}{}",
        "é".repeat(10_000)
    );
    let text = feed().trust(&uri).unwrap_err().to_string();
    assert!(text.len() < 700, "{text}");
    assert!(
        text.bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
        "{text}"
    );
}

proptest! {
    #[test]
    fn what_is_trusted_is_read_by_a_browsers_rules_as_the_tenants_feed(
        uri in r"(https?://)?(manage\.office\.com|[a-z@:./\\%0-9\t]{0,12}){1,2}(/api/v1(\.0)?/0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90/activity/feed/)?[ -~\t\n]{0,30}"
    ) {
        if let Ok(trusted) = feed().trust(&uri) {
            for text in [uri.as_str(), trusted.as_str()] {
                let url = url::Url::parse(text).unwrap();
                prop_assert_eq!(url.origin().ascii_serialization(), "https://manage.office.com");
                let path = url.path();
                let is_below = ["v1", "v1.0"]
                    .iter()
                    .any(|version| path.starts_with(&format!("/api/{version}/{TENANT}/activity/feed/")));
                prop_assert!(is_below, "{path}");
                prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
            }
            // Building the request must not be what finds out that a trusted uri is none.
            feed().blob(&trusted);
        }
    }
}
