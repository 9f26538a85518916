//! What must hold of any bytes that come in from outside, door by door. `cargo fuzz` looks for bytes that break it, and
//! the tests beside it try every committed input and some thousands of mutations of each, without a nightly compiler.
//!
//! Not in the program: compiled for tests, and under the `cfg(fuzzing)` that `cargo fuzz` sets. A target panics when a
//! promise is broken. Each says more than "it does not panic": what the pipeline relies on, judged by another parser
//! than ours where there is one.

mod blob;
mod compressed;
mod content_list;
mod error_reply;
mod notification;
#[cfg(test)]
mod tests;

use activity_api::{Cloud, ContentId, Feed, PublisherId, Reply, TenantId, TrustedUri};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use url::Url;

pub use blob::blob;
pub use compressed::compressed;
pub use content_list::content_list;
pub use error_reply::error_reply;
pub use notification::notification;

/// Whose feed the inputs are about. A corpus can only hold trusted addresses of a tenant that is known here.
const TENANT: &str = "6f0c5d1e-92b3-4a78-8e55-d41b7a903c26";

/// Longer than any text that a log line or the status page should be made of.
const LONGEST_TEXT: usize = 1_500;

fn feed() -> Feed {
    let tenant: TenantId = TENANT.parse().expect("a GUID");
    Feed::new(
        Cloud::Commercial.hosts().activity,
        tenant,
        PublisherId::from(tenant),
    )
}

/// A reply as text: its status, a line for each header, an empty line, and the body. So a committed input can be read.
/// Whatever is no header is left out, and a first line that is no status means 200: mutations should reach the body.
fn read_reply(input: &[u8]) -> Reply {
    let mut rest = input;
    let mut line = || {
        let (line, after) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &[][..]),
        };
        rest = after;
        line.strip_suffix(b"\r").unwrap_or(line)
    };
    let status = StatusCode::from_bytes(line()).unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    loop {
        let line = line();
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Reply {
        status,
        headers,
        body: Bytes::copy_from_slice(rest),
    }
}

/// A token may go to this uri: by the reading of a browser's parser, too, it is the feed's origin and below the feed, and
/// the requests that are made for it go there.
fn check_uri(feed: &Feed, uri: &TrustedUri) {
    let text = uri.as_str();
    let root = Cloud::Commercial.hosts().activity.to_string();
    assert!(text.starts_with(&format!("{root}/")), "{text}");

    let parsed = Url::parse(text).expect("a trusted uri is a url to others as well");
    let wanted = Url::parse(&root).expect("an origin is a url");
    assert_eq!(parsed.origin(), wanted.origin(), "{text}");
    assert_eq!((parsed.username(), parsed.password()), ("", None), "{text}");
    assert_eq!(parsed.fragment(), None, "{text}");
    let path = parsed.path().to_ascii_lowercase();
    let below = ["v1.0", "v1"]
        .into_iter()
        .find_map(|version| path.strip_prefix(&format!("/api/{version}/{TENANT}/activity/feed/")));
    assert!(below.is_some_and(|below| !below.is_empty()), "{text}");
    let as_written = text[root.len()..].split('?').next().unwrap_or_default();
    assert_eq!(
        parsed.path().split('/').count(),
        as_written.split('/').count(),
        "{text}: no segment means another folder"
    );

    let again = feed
        .trust(text)
        .expect("the ledger's copy is trusted at each fetch");
    assert_eq!(&again, uri, "trusting is idempotent");
    for request in [feed.blob(uri), feed.next_page(uri)] {
        let sent: &Uri = request.uri();
        let wanted: Uri = root.parse().expect("an origin is a uri");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(
            (sent.scheme(), sent.authority()),
            (wanted.scheme(), wanted.authority())
        );
        assert!(sent.to_string().starts_with(text), "{sent} is not {text}");
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        assert_eq!(request.body().len(), 0);
    }
}

/// A canonical id is an id, and making it canonical again changes nothing.
fn check_id(id: &ContentId) {
    assert!((1..=1024).contains(&id.as_str().len()), "{id}");
    assert_eq!(&ContentId::canonical(id.as_str()), id);
}

/// Fit for a log line: one line, and not a page.
fn check_text(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() <= LONGEST_TEXT, "{} bytes: {text}", text.len());
}

/// Every error in the chain, as a log line has it.
fn whole_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The body without the mark that may stand before UTF-8.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}
