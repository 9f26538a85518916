//! The body of a post to the webhook, as anybody on the internet may send it.

use activity_api::{
    ContentId, MAX_NOTIFIED_BLOBS, VALIDATION_CODE_HEADER, read_notification, read_validation,
};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::{check_id, check_text, check_uri, feed, without_bom};

/// Tries a body.
pub fn notification(body: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert(VALIDATION_CODE_HEADER, HeaderValue::from_static("code"));
    let validation = read_validation(&headers, body);
    assert_eq!(
        read_validation(&HeaderMap::new(), body),
        validation.clone().filter(|_| !without_bom(body).is_empty()),
        "only an empty body lets the header decide"
    );
    if let Some(code) = &validation {
        assert!(code.len() <= 1024, "{} bytes of a code", code.len());
    }

    let blobs = match read_notification(body) {
        Ok(blobs) => blobs,
        Err(error) => return check_text(&error.to_string()),
    };
    assert_eq!(
        validation, None,
        "a notification taken for a validation would be answered with 200 and dropped"
    );
    assert!(blobs.len() <= MAX_NOTIFIED_BLOBS);
    if let Ok(entries) = serde_json::from_slice::<Vec<Value>>(without_bom(body)) {
        assert_eq!(blobs.len(), entries.len(), "no entry is passed over");
    }
    let feed = feed();
    for blob in blobs {
        assert!((1..=1024).contains(&blob.content_id.len()));
        let said = blob.clone();
        match blob.trust(&feed) {
            Ok(blob) => {
                assert_eq!(said.tenant, feed.tenant());
                assert_eq!(Some(blob.content_type), said.content_type);
                assert_eq!(blob.id, ContentId::canonical(&said.content_id));
                assert_eq!(
                    (blob.created_at, blob.expires_at),
                    (said.created_at, said.expires_at)
                );
                check_id(&blob.id);
                check_uri(&feed, &blob.uri);
                let named = decode_percent(last_segment(blob.uri.as_str()));
                assert_eq!(
                    ContentId::canonical(&String::from_utf8_lossy(&named)),
                    blob.id,
                    "one blob fetched in the name of another"
                );
            }
            Err(untrusted) => check_text(&untrusted.to_string()),
        }
    }
}

fn last_segment(uri: &str) -> &str {
    let path = uri.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

fn decode_percent(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        rest = after;
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}
