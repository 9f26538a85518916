//! Tests of what arrives at a webhook.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{feed, test_data};

fn notified() -> Vec<NotifiedBlob> {
    read_notification(test_data!("notification.json").as_bytes()).unwrap()
}

fn first() -> NotifiedBlob {
    notified().into_iter().next().unwrap()
}

#[test]
fn a_notification_is_read_as_it_was_sent() {
    let blobs = notified();
    assert_eq!(blobs.len(), 2);
    let blob = first();
    assert_eq!(blob.tenant, feed().tenant());
    assert!(blob.client_id.is_some());
    assert_eq!(blob.content_type, Some(ContentType::Exchange));
    assert!(blob.content_id.ends_with("$emea0039$emea0039"));
    assert_eq!(blob.created_at.to_string(), "2026-03-01T08:44:30.115Z");
}

#[test]
fn a_notified_blob_is_the_listed_one_once_it_is_trusted() {
    let ids: Vec<String> = notified()
        .into_iter()
        .map(|blob| blob.trust(&feed()).unwrap().id.to_string())
        .collect();
    assert_eq!(
        ids,
        [
            "20260301081502417001533$20260301084011902002871$audit_exchange$Audit_Exchange$emea0039",
            "20260301081733120004410$20260301084505006009127$audit_exchange$Audit_Exchange",
        ]
    );
}

#[test]
fn a_forged_notification_is_not_trusted() {
    let other_tenant = "99999999-7d52-4f0e-9a61-2f6d8c4e7b90";
    let elsewhere = first()
        .content_uri
        .replace("manage.office.com", "evil.example");
    let other_path = first()
        .content_uri
        .replace(&feed().tenant().to_string(), other_tenant);
    for (blob, expected) in [
        (
            NotifiedBlob {
                tenant: other_tenant.parse().unwrap(),
                ..first()
            },
            UntrustedReason::OtherTenant,
        ),
        (
            NotifiedBlob {
                content_uri: other_path,
                ..first()
            },
            UntrustedReason::OtherTenant,
        ),
        (
            NotifiedBlob {
                content_uri: elsewhere,
                ..first()
            },
            UntrustedReason::OtherOrigin,
        ),
        (
            NotifiedBlob {
                content_uri: String::new(),
                ..first()
            },
            UntrustedReason::Unreadable,
        ),
        (
            NotifiedBlob {
                content_id: "another".to_owned(),
                ..first()
            },
            UntrustedReason::OtherBlob,
        ),
        (
            NotifiedBlob {
                content_type: None,
                ..first()
            },
            UntrustedReason::UnknownContentType,
        ),
    ] {
        assert_eq!(blob.trust(&feed()).unwrap_err().reason(), expected);
    }
}

#[test]
fn an_encoded_uri_names_the_same_blob() {
    let blob = NotifiedBlob {
        content_uri: first().content_uri.replace('$', "%24"),
        ..first()
    };
    assert!(
        blob.trust(&feed())
            .unwrap()
            .uri
            .as_str()
            .contains("%24audit_exchange")
    );
}

#[test]
fn a_body_of_any_other_shape_is_refused_whole() {
    let good = test_data!("notification.json");
    for body in [
        "".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "[null]".to_owned(),
        "[[]]".to_owned(),
        "[{}]".to_owned(),
        good.replacen("\"contentUri\"", "\"contentUrl\"", 1),
        good.replacen("\"2026-03-01T08:44:30.115Z\"", "5", 1),
        good.trim_end().trim_end_matches(']').to_owned(),
        format!("{good}x"),
    ] {
        assert_eq!(
            read_notification(body.as_bytes()),
            Err(NotificationError::Shape),
            "{body}"
        );
    }
    assert_eq!(
        read_notification(b"[\"\xff\"]"),
        Err(NotificationError::Shape)
    );
    assert_eq!(
        read_notification("[".repeat(500_000).as_bytes()),
        Err(NotificationError::Shape)
    );
}

#[test]
fn a_field_that_cannot_be_read_is_named_and_not_repeated() {
    let good = test_data!("notification.json");
    let tenant = feed().tenant().to_string();
    let long_id = format!(
        "\"contentId\": \"{}\", \"was\":",
        "x".repeat(LONGEST_CONTENT_ID + 1)
    );
    let long_uri = format!(
        "\"contentUri\": \"{}\", \"was2\":",
        "x".repeat(LONGEST_URI + 1)
    );
    for (body, field) in [
        (good.replacen(&tenant, "contoso", 1), "tenantId"),
        (
            good.replacen("2026-03-01T08:44:30.115Z", "today", 1),
            "contentCreated",
        ),
        (
            good.replacen("2026-03-22T08:15:02.417Z", "never", 1),
            "contentExpiration",
        ),
        (
            good.replacen("\"contentId\":", "\"contentId\": \"\", \"was\":", 1),
            "contentId",
        ),
        (good.replacen("\"contentId\":", &long_id, 1), "contentId"),
        (good.replacen("\"contentUri\":", &long_uri, 1), "contentUri"),
    ] {
        let error = read_notification(body.as_bytes()).unwrap_err();
        assert_eq!(error, NotificationError::Field { index: 0, field });
        assert_eq!(
            error.to_string(),
            format!("entry 0 of the notification has a {field} that cannot be read")
        );
    }
}

#[test]
fn what_a_hint_can_do_without_may_be_odd_or_absent() {
    let good = test_data!("notification.json");
    let odd = good
        .replacen("\"clientId\"", "\"client\"", 1)
        .replacen("Audit.Exchange\"", "Audit.Future\"", 1)
        .replacen("\"contentExpiration\"", "\"later\"", 1);
    let blob = read_notification(odd.as_bytes())
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    assert_eq!(blob.client_id, None);
    assert_eq!(blob.content_type, None);
    assert_eq!(blob.expires_at.to_string(), "2026-03-08T08:44:30.115Z");
}

#[test]
fn a_notification_names_only_so_many_blobs() {
    let good = test_data!("notification.json");
    let entries: Vec<serde_json::Value> = serde_json::from_str(good).unwrap();
    let entry = entries.first().unwrap().to_string();
    let of = |count: usize| format!("[{}]", vec![entry.as_str(); count].join(","));
    assert_eq!(
        read_notification(of(MAX_NOTIFIED_BLOBS).as_bytes())
            .unwrap()
            .len(),
        MAX_NOTIFIED_BLOBS
    );
    assert_eq!(
        read_notification(of(MAX_NOTIFIED_BLOBS + 1).as_bytes()),
        Err(NotificationError::TooMany)
    );
}

fn with_code(code: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(VALIDATION_CODE_HEADER, HeaderValue::from_static(code));
    headers
}

#[test]
fn a_validation_is_known_by_its_body_or_without_one_by_its_header() {
    let body = test_data!("validation.json").as_bytes();
    let code = Some("3ad0f1c7-not-a-real-code".to_owned());
    assert_eq!(read_validation(&HeaderMap::new(), body), code);
    assert_eq!(read_validation(&with_code("other"), body), code);
    assert_eq!(
        read_validation(&with_code("only-here"), b""),
        Some("only-here".to_owned())
    );
}

#[test]
fn a_notification_is_never_taken_for_a_validation() {
    let headers = with_code("x");
    for body in [
        test_data!("notification.json"),
        "[]",
        "[\"x\"]",
        "{}",
        "{\"validationCode\":5}",
        "x",
    ] {
        assert_eq!(read_validation(&headers, body.as_bytes()), None, "{body}");
    }
    assert_eq!(read_validation(&HeaderMap::new(), b""), None);
    let long = format!(
        r#"{{"validationCode":"{}"}}"#,
        "x".repeat(LONGEST_VALIDATION_CODE + 1)
    );
    assert_eq!(read_validation(&HeaderMap::new(), long.as_bytes()), None);
}

proptest! {
    #[test]
    fn no_body_is_too_strange_to_be_read(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(read_notification(&body).is_err() || body.contains(&b'['));
        read_validation(&HeaderMap::new(), &body);
    }
}
