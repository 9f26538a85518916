//! Tests of reading replies.

use proptest::prelude::*;

use super::*;
use crate::{
    UntrustedReason,
    fixtures::{TENANT, feed, reply, test_data, with_header},
};

const TYPE: ContentType = ContentType::Exchange;

fn next_page_uri() -> String {
    format!(
        "https://manage.office.com/api/v1/{TENANT}/activity/feed/subscriptions/content?nextPage=2"
    )
}

#[test]
fn a_page_of_content_is_read() {
    let page = read_content(&reply(200, test_data!("content.json")), &feed(), TYPE).unwrap();
    assert_eq!(page.refused, []);
    assert_eq!(page.next_page, None);
    let [first, second] = page.blobs.as_slice() else {
        panic!("two blobs");
    };
    assert_eq!(
        first.id.as_str(),
        "20260301081502417001533$20260301084011902002871$audit_exchange$Audit_Exchange$emea0039"
    );
    assert_eq!(first.content_type, ContentType::Exchange);
    assert_eq!(first.created_at.to_string(), "2026-03-01T08:40:11.902Z");
    assert_eq!(first.expires_at.to_string(), "2026-03-22T08:15:02.417Z");
    assert!(first.uri.as_str().ends_with(first.id.as_str()));
    assert_eq!(second.expires_at.to_string(), "2026-03-08T08:17:33.12Z");
}

#[test]
fn one_bad_entry_does_not_hold_up_the_others() {
    let page = read_content(&reply(200, test_data!("content-odd.json")), &feed(), TYPE).unwrap();
    let blobs: String = page
        .blobs
        .iter()
        .map(|blob| {
            format!(
                "{} {} {} {}\n",
                blob.id, blob.content_type, blob.created_at, blob.expires_at
            )
        })
        .collect();
    expect_test::expect![[r#"
        20260301081502417001533$x Audit.Exchange 2026-03-01T08:40:11Z 2026-03-08T08:40:11Z
        h Audit.General 2026-03-01T08:40:11Z 2026-03-08T08:40:11Z
    "#]]
    .assert_eq(&blobs);
    let refused: String = page
        .refused
        .iter()
        .map(|entry| format!("{entry}\n"))
        .collect();
    expect_test::expect![[r#"
        entry 1 of the listing: the uri is not of Microsoft's Activity API in this tenant's cloud (it begins with "https://manage.office.com.evil.example/api/v1.0/0b5e3c1a-7d52-4f")
        entry 2 of the listing: its contentCreated cannot be read
        entry 3 of the listing: it has no contentId
        entry 4 of the listing: it is not an object with the fields of its kind
        entry 5 of the listing: it has no contentUri
        entry 6 of the listing: it is not an object with the fields of its kind
    "#]]
    .assert_eq(&refused);
}

#[test]
fn an_empty_window_has_an_empty_page() {
    let page = read_content(&reply(200, "[]"), &feed(), TYPE).unwrap();
    assert_eq!(
        page,
        ContentPage {
            blobs: vec![],
            refused: vec![],
            next_page: None
        }
    );
}

#[test]
fn the_next_page_is_found_under_a_header_name_in_any_case() {
    for name in ["NextPageUri", "nextpageuri", "NEXTPAGEURI", "NextPageUrl"] {
        let reply = with_header(reply(200, "[]"), name, &next_page_uri());
        let page = read_content(&reply, &feed(), TYPE).unwrap();
        assert_eq!(page.next_page.unwrap().as_str(), next_page_uri(), "{name}");
    }
}

#[test]
fn an_empty_header_is_no_next_page_and_a_repeated_one_is_one() {
    let empty = with_header(reply(200, "[]"), "NextPageUri", "");
    assert_eq!(read_content(&empty, &feed(), TYPE).unwrap().next_page, None);
    let twice = with_header(
        with_header(reply(200, "[]"), "NextPageUri", &next_page_uri()),
        "NextPageUri",
        &next_page_uri(),
    );
    assert!(
        read_content(&twice, &feed(), TYPE)
            .unwrap()
            .next_page
            .is_some()
    );
}

#[test]
fn two_different_next_pages_are_not_understood() {
    let two = with_header(
        with_header(reply(200, "[]"), "NextPageUri", &next_page_uri()),
        "NextPageUri",
        &format!("{}3", next_page_uri()),
    );
    assert!(matches!(
        read_content(&two, &feed(), TYPE),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn a_listing_that_goes_on_elsewhere_is_an_error() {
    let elsewhere = with_header(
        reply(200, "[]"),
        "NextPageUri",
        "https://evil.example/api/v1/",
    );
    let Err(Error::UntrustedUri(untrusted)) = read_content(&elsewhere, &feed(), TYPE) else {
        panic!("an untrusted next page");
    };
    assert_eq!(untrusted.reason(), UntrustedReason::OtherOrigin);
}

#[test]
fn what_is_no_list_is_malformed_and_what_is_an_error_is_that_error() {
    for body in ["", "{}", "null", "[{]", "[1,", "<html>"] {
        let result = read_content(&reply(200, body), &feed(), TYPE);
        assert_eq!(
            result,
            Err(Error::Malformed {
                what: "a list of content"
            }),
            "{body}"
        );
    }
    for status in [200, 403] {
        let result = read_content(&reply(status, test_data!("throttled.json")), &feed(), TYPE);
        assert_eq!(result, Err(Error::Throttled { retry_after: None }));
    }
    let invalid_utf8 = Reply {
        body: Bytes::from_static(b"[\"\xff\"]"),
        ..reply(200, "")
    };
    assert!(matches!(
        read_content(&invalid_utf8, &feed(), TYPE),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn subscriptions_are_read_in_all_their_shapes() {
    let subscriptions = read_subscriptions(&reply(200, test_data!("subscriptions.json"))).unwrap();
    assert_eq!(subscriptions.unknown_count, 1);
    let shown: String = subscriptions
        .known
        .iter()
        .map(|one| {
            let webhook = one.webhook.as_ref().map(|webhook| {
                (
                    webhook.status,
                    webhook.expiration.map(|time| time.to_string()),
                )
            });
            format!("{} {} {webhook:?}\n", one.content_type, one.is_enabled)
        })
        .collect();
    expect_test::expect![[r#"
        Audit.SharePoint true Some((Enabled, None))
        Audit.Exchange true None
        Audit.General false Some((Expired, Some("2026-02-01T00:00:00Z")))
        DLP.All true Some((Disabled, None))
    "#]]
    .assert_eq(&shown);
    assert!(subscriptions.of(ContentType::Dlp).is_some());
    assert!(
        subscriptions
            .of(ContentType::AzureActiveDirectory)
            .is_none()
    );
    assert_eq!(
        read_subscriptions(&reply(200, "[]")).unwrap(),
        Subscriptions::default()
    );
}

#[test]
fn a_start_that_changes_nothing_is_a_success() {
    let started = read_start(&reply(400, test_data!("already-enabled.json"))).unwrap();
    assert_eq!(
        started,
        Started {
            was_enabled: true,
            webhook: None
        }
    );
}

#[test]
fn an_address_that_would_move_a_terminals_cursor_does_not() {
    let reply = reply(
        200,
        r#"[{"contentType":"DLP.All","status":"enabled","webhook":{"status":"enabled","address":"https://a.example/\u001b[2J\n"}}]"#,
    );
    let subscriptions = read_subscriptions(&reply).unwrap();
    let webhook = subscriptions.known[0].webhook.as_ref().unwrap();
    assert_eq!(webhook.address, "https://a.example/ [2J ");
}

#[test]
fn a_start_tells_the_webhook_in_force() {
    let started = read_start(&reply(200, test_data!("start.json"))).unwrap();
    assert!(!started.was_enabled);
    assert_eq!(started.webhook.unwrap().status, WebhookStatus::Enabled);
    let polled = read_start(&reply(
        200,
        r#"{"contentType":"DLP.All","status":"enabled","webhook":null}"#,
    ))
    .unwrap();
    assert_eq!(
        polled,
        Started {
            was_enabled: false,
            webhook: None
        }
    );
}

#[test]
fn a_refused_start_or_stop_is_an_error() {
    let refused = reply(
        400,
        r#"{"error":{"code":"AF20021","message":"The webhook endpoint could not be validated. The endpoint did not return HTTP 200."}}"#,
    );
    assert!(matches!(
        read_start(&refused),
        Err(Error::WebhookRefused { .. })
    ));
    assert!(matches!(
        read_start(&reply(200, "")),
        Err(Error::Malformed { .. })
    ));
    assert_eq!(read_stop(&reply(200, "")), Ok(()));
    assert_eq!(read_stop(&reply(204, "")), Ok(()));
    let missing = reply(400, r#"{"error":{"code":"AF20022","message":"None."}}"#);
    assert_eq!(read_stop(&missing), Err(Error::SubscriptionMissing));
}

#[test]
fn a_listing_of_notifications_is_read() {
    let page =
        read_notifications_listing(&reply(200, test_data!("notifications.json")), &feed(), TYPE)
            .unwrap();
    let one = page.notifications.first().unwrap();
    assert_eq!(one.status, "Succeeded");
    assert_eq!(one.sent_at.unwrap().to_string(), "2026-03-01T08:52:44.731Z");
    assert_eq!(one.blob.created_at.to_string(), "2026-03-01T08:40:11.902Z");
    assert_eq!(page.refused, []);
}

#[test]
fn sensitive_types_are_read() {
    let types =
        read_dlp_sensitive_types(&reply(200, test_data!("dlp-sensitive-types.json"))).unwrap();
    assert_eq!(types.len(), 2);
    assert_eq!(types.first().unwrap().name, "CreditCardNumber");
    let refused = reply(400, r#"{"error":{"code":"AF20053","message":"One only."}}"#);
    assert!(matches!(
        read_dlp_sensitive_types(&refused),
        Err(Error::RequestRefused { .. })
    ));
}

#[test]
fn the_servers_clock_is_read() {
    let reply = with_header(reply(200, "[]"), "Date", "Sun, 01 Mar 2026 08:40:11 GMT");
    assert_eq!(reply.date().unwrap().to_string(), "2026-03-01T08:40:11Z");
}

proptest! {
    #[test]
    fn no_reply_is_too_strange_to_be_read(
        status in 100_u16..1000,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            r#"[\[\]{}",:a-z0-9$]{0,64}"#.prop_map(String::into_bytes),
            r#"\[\{"content(Id|Uri|Created|Type)":("[ -~]{0,40}"|null|5)\}\]"#.prop_map(String::into_bytes),
        ],
        next_page in "[ -~]{0,40}",
    ) {
        let reply = with_header(reply(status, ""), "NextPageUri", &next_page);
        let reply = Reply { body: Bytes::from(body), ..reply };
        let is_success = reply.status.is_success();
        let listed = read_content(&reply, &feed(), TYPE);
        prop_assert!(is_success || listed.is_err());
        let errors = [
            listed.err(),
            read_subscriptions(&reply).err(),
            read_start(&reply).err(),
            read_stop(&reply).err(),
            read_notifications_listing(&reply, &feed(), TYPE).err(),
            read_dlp_sensitive_types(&reply).err(),
            crate::read_token(&reply, Timestamp::UNIX_EPOCH).err(),
        ];
        for error in errors.into_iter().flatten() {
            prop_assert!(error.to_string().len() < 2000);
            error.next_step();
        }
    }
}
