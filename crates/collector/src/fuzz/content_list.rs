//! A page of a listing: the reply's status, its headers (the link to the next page is one) and its body.

use activity_api::{
    ContentId, ContentType, Error, NextStep, read_content, read_notifications_listing,
};
use http::HeaderValue;
use serde_json::Value;

use super::{check_id, check_text, check_uri, feed, read_reply, whole_text, without_bom};

/// Tries a reply, written as [`read_reply`] reads it.
pub fn content_list(input: &[u8]) {
    let reply = read_reply(input);
    let feed = feed();
    let entries: Option<Vec<Value>> = serde_json::from_slice(without_bom(&reply.body)).ok();
    let mut links: Vec<&[u8]> = ["nextpageuri", "nextpageurl"]
        .into_iter()
        .flat_map(|name| reply.headers.get_all(name))
        .map(HeaderValue::as_bytes)
        .filter(|value| !value.is_empty())
        .collect();
    links.sort_unstable();
    links.dedup();

    let page = match read_content(&reply, &feed, ContentType::General) {
        Ok(page) => page,
        Err(error) => {
            check_refusal(&error);
            assert!(
                entries.is_none() || !reply.status.is_success() || !links.is_empty(),
                "a list was taken for none: {error}"
            );
            assert!(read_notifications_listing(&reply, &feed, ContentType::General).is_err());
            return;
        }
    };
    assert!(reply.status.is_success());
    if let Some(entries) = &entries {
        assert_eq!(
            page.blobs.len() + page.refused.len(),
            entries.len(),
            "every entry is a blob or is refused by name"
        );
        let refused = |index: usize| page.refused.iter().any(|entry| entry.index == index);
        let kept = entries
            .iter()
            .enumerate()
            .filter(|(index, _)| !refused(*index));
        for (blob, (_, entry)) in page.blobs.iter().zip(kept) {
            let id = entry["contentId"].as_str().expect("a blob has an id");
            assert_eq!(blob.id, ContentId::canonical(id));
        }
    }
    for blob in &page.blobs {
        check_id(&blob.id);
        check_uri(&feed, &blob.uri);
    }
    for entry in &page.refused {
        check_text(&entry.to_string());
    }
    assert_eq!(
        page.next_page.is_some(),
        !links.is_empty(),
        "a listing that goes on is never taken for whole"
    );
    assert!(links.len() <= 1, "of two links one was left out");
    if let Some(uri) = &page.next_page {
        check_uri(&feed, uri);
    }

    let sent = read_notifications_listing(&reply, &feed, ContentType::General)
        .expect("both listings have one shape");
    assert_eq!(sent.next_page, page.next_page);
    for notification in &sent.notifications {
        check_id(&notification.blob.id);
        check_uri(&feed, &notification.blob.uri);
        check_text(&notification.status);
    }
}

/// Whatever is wrong with a listing, the window is not given up as a blob would be, and the log is not flooded.
fn check_refusal(error: &Error) {
    check_text(&whole_text(error));
    if let Error::UntrustedUri(_) | Error::Malformed { .. } = error {
        assert_eq!(error.next_step(), NextStep::RetryAfter(None), "{error}");
    }
}
