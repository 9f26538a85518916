//! The requests of the Activity API for one tenant, and the check that a uri is of the kind a token may be sent to.

use std::fmt;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use uuid::Uuid;

use crate::{ContentType, Origin, PublisherId, TenantId, Window, times};

/// One tenant's activity feed: makes every request to it.
///
/// No request has an `Authorization` header. Whoever sends it adds that, and only to requests that were made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    activity: Origin,
    tenant: TenantId,
    publisher: PublisherId,
}

/// Where Microsoft is to send notifications of new blobs.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// An `https` address that answers Microsoft's validation with status 200.
    pub address: String,
    /// What Microsoft repeats in the header `Webhook-AuthID` of every notification.
    pub auth_id: Option<SecretString>,
    /// When the webhook ends; never, without it.
    pub expiration: Option<Timestamp>,
}

/// The parameter that every request has, the one for a blob included, by Microsoft's reference of the Activity API.
const PUBLISHER: &str = "PublisherIdentifier";

const JSON: &str = "application/json; charset=utf-8";

/// How much of a next page's token, a blob's id and all the rest may come from a reply. The longest that were seen have a few
/// hundred bytes; the `http` crate takes at most 65,534.
pub(crate) const LONGEST_URI: usize = 16 * 1024;

impl Feed {
    /// The feed of a tenant at an Activity API root, for the account of a publisher.
    pub const fn new(activity: Origin, tenant: TenantId, publisher: PublisherId) -> Self {
        Self {
            activity,
            tenant,
            publisher,
        }
    }

    /// Whose feed it is.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Asks which content types are subscribed to. Read the reply with [`read_subscriptions`](crate::read_subscriptions).
    pub fn list_subscriptions(&self) -> Request<Bytes> {
        self.request(Method::GET, "subscriptions/list", &[])
    }

    /// Starts a subscription, changes or takes away its webhook, or enables it again. Read the reply with
    /// [`read_start`](crate::read_start).
    ///
    /// Microsoft validates the webhook before it answers, and asks for 15 minutes between two starts.
    /// The body has the webhook's auth id in it: never log it.
    pub fn start(&self, content_type: ContentType, webhook: Option<&Webhook>) -> Request<Bytes> {
        let mut request = self.request(
            Method::POST,
            "subscriptions/start",
            &[("contentType", content_type.as_str())],
        );
        let mut body = serde_json::json!({});
        if let Some(webhook) = webhook {
            body["webhook"] = serde_json::json!({
                "address": webhook.address,
                "expiration": webhook.expiration.map(times::write_time).unwrap_or_default(),
            });
            // Left out rather than null: the reference calls it optional and does not say that it may be null.
            if let Some(auth_id) = &webhook.auth_id {
                body["webhook"]["authId"] = auth_id.expose_secret().into();
            }
        }
        *request.body_mut() = Bytes::from(body.to_string());
        request
    }

    /// Ends a subscription. What becomes available before the next start is lost for good. Read the reply with
    /// [`read_stop`](crate::read_stop).
    pub fn stop(&self, content_type: ContentType) -> Request<Bytes> {
        let mut request = self.request(
            Method::POST,
            "subscriptions/stop",
            &[("contentType", content_type.as_str())],
        );
        // IIS, which answers here, refuses a POST with 411 when it does not say how long its body is.
        request.headers_mut().insert(
            header::CONTENT_LENGTH,
            header::HeaderValue::from_static("0"),
        );
        request
    }

    /// Lists the blobs that became available in a window, first page. Read the reply with
    /// [`read_content`](crate::read_content).
    pub fn list_content(&self, content_type: ContentType, window: Window) -> Request<Bytes> {
        self.list("subscriptions/content", content_type, window)
    }

    /// Lists the notifications that Microsoft tried to send in a window, first page. Read the reply with
    /// [`read_notifications_listing`](crate::read_notifications_listing).
    pub fn list_notifications(&self, content_type: ContentType, window: Window) -> Request<Bytes> {
        self.list("subscriptions/notifications", content_type, window)
    }

    /// The page after one that had a next page.
    pub fn next_page(&self, uri: &TrustedUri) -> Request<Bytes> {
        self.at(uri)
    }

    /// Fetches a blob's records.
    pub fn blob(&self, uri: &TrustedUri) -> Request<Bytes> {
        self.at(uri)
    }

    /// Asks for the names of the kinds of sensitive information, in `language` (like `en-US`), or else in English. Read the reply
    /// with [`read_dlp_sensitive_types`](crate::read_dlp_sensitive_types).
    ///
    /// A language that cannot stand in a header is left out.
    pub fn dlp_sensitive_types(&self, language: Option<&str>) -> Request<Bytes> {
        let mut request = self.request(Method::GET, "resources/dlpSensitiveTypes", &[]);
        if let Some(language) = language.and_then(|text| header::HeaderValue::from_str(text).ok()) {
            request
                .headers_mut()
                .insert(header::ACCEPT_LANGUAGE, language);
        }
        request
    }

    fn list(&self, operation: &str, content_type: ContentType, window: Window) -> Request<Bytes> {
        let mut request = self.request(
            Method::GET,
            operation,
            &[
                ("contentType", content_type.as_str()),
                ("startTime", &times::write_time(window.start())),
                ("endTime", &times::write_time(window.end())),
            ],
        );
        accept_gzip(&mut request);
        request
    }

    fn request(
        &self,
        method: Method,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> Request<Bytes> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .append_pair(PUBLISHER, &self.publisher.to_string())
            .finish();
        let Self {
            activity, tenant, ..
        } = self;
        let has_body = method == Method::POST;
        let mut request = Request::builder()
            .method(method)
            .uri(format!(
                "{activity}/api/v1.0/{tenant}/activity/feed/{operation}?{query}"
            ))
            .header(header::ACCEPT, "application/json");
        if has_body {
            request = request.header(header::CONTENT_TYPE, JSON);
        }
        request
            .body(Bytes::new())
            .expect("an origin, a GUID and an encoded query make a uri")
    }

    fn at(&self, uri: &TrustedUri) -> Request<Bytes> {
        let mut request = Request::builder()
            .uri(self.with_publisher(uri.as_str()))
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .expect("a trusted uri was read as one, and a GUID may follow it");
        accept_gzip(&mut request);
        request
    }

    /// The uri with the publisher in its query. The rest of the text stays as Microsoft wrote it: a `$` that is rewritten to
    /// `%24` may name another blob.
    fn with_publisher(&self, uri: &str) -> String {
        let publisher = self.publisher;
        match uri.split_once('?') {
            None => [uri, "?", PUBLISHER, "=", &publisher.to_string()].concat(),
            Some((_, query)) => {
                let has_publisher = form_urlencoded::parse(query.as_bytes())
                    .any(|(name, _)| name.eq_ignore_ascii_case(PUBLISHER));
                if has_publisher {
                    uri.to_owned()
                } else if query.is_empty() || query.ends_with('&') {
                    format!("{uri}{PUBLISHER}={publisher}")
                } else {
                    format!("{uri}&{PUBLISHER}={publisher}")
                }
            }
        }
    }

    /// Whether a token may be sent to a uri that came in a reply, in a notification or out of the ledger.
    ///
    /// The rules: this feed's scheme, host and port; a path below this tenant's feed; and nothing in it that two programs could
    /// read differently. What is sent to afterwards begins with this feed's own origin, not with a copy of the received one.
    ///
    /// # Errors
    /// [`Untrusted`] says which rule was broken.
    pub fn trust(&self, uri: &str) -> Result<TrustedUri, Untrusted> {
        self.path_and_query(uri)
            .and_then(|path_and_query| {
                // The sender's own idea of what a uri is has the last word. Of the origin it is known: it is our own.
                let parsed: PathAndQuery = path_and_query
                    .parse()
                    .map_err(|_| UntrustedReason::Unreadable)?;
                if parsed.as_str() == path_and_query {
                    let text = [self.activity.as_str(), path_and_query].concat();
                    Ok(TrustedUri(text.into()))
                } else {
                    Err(UntrustedReason::Unreadable)
                }
            })
            .map_err(|reason| Untrusted::new(reason, uri))
    }

    /// The part of a uri after its origin, when the uri keeps all the rules.
    fn path_and_query<'a>(&self, uri: &'a str) -> Result<&'a str, UntrustedReason> {
        if uri.len() > LONGEST_URI {
            return Err(UntrustedReason::TooLong);
        }
        // Blanks, control characters, letters that only look Latin, and the backslash that some parsers take for a slash.
        if !uri
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        {
            return Err(UntrustedReason::Unreadable);
        }
        if uri.contains('#') {
            return Err(UntrustedReason::Fragment);
        }
        // Written just like the configured one, as nearly all are, the origin is the same without a closer look.
        if let Some(path_and_query) = uri.strip_prefix(self.activity.as_str())
            && path_and_query.starts_with(['/', '?'])
        {
            self.check_path(path_and_query)?;
            return Ok(path_and_query);
        }
        let (scheme, rest) = uri.split_once("://").ok_or(UntrustedReason::Unreadable)?;
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(authority_end);
        if authority.contains('@') {
            return Err(UntrustedReason::UserInfo);
        }
        // Read by the same strict rules as the configured origin, so a default port and upper case are no difference, and a
        // trailing dot or a percent sign is one.
        let origin: Origin = format!("{scheme}://{authority}")
            .parse()
            .map_err(|_| UntrustedReason::OtherOrigin)?;
        if origin != self.activity {
            return Err(UntrustedReason::OtherOrigin);
        }
        self.check_path(path_and_query)?;
        Ok(path_and_query)
    }

    fn check_path(&self, path_and_query: &str) -> Result<(), UntrustedReason> {
        let path = path_and_query.split('?').next().unwrap_or_default();
        let mut segments = path
            .strip_prefix('/')
            .ok_or(UntrustedReason::OtherPath)?
            .split('/');
        let mut next_is = |expected: &[&str]| {
            let segment = segments.next().unwrap_or_default();
            expected
                .iter()
                .any(|word| segment.eq_ignore_ascii_case(word))
                .then_some(())
                .ok_or(UntrustedReason::OtherPath)
        };
        next_is(&["api"])?;
        next_is(&["v1.0", "v1"])?;
        let mut tenant = Uuid::encode_buffer();
        let tenant = self.tenant.as_uuid().hyphenated().encode_lower(&mut tenant);
        next_is(&[tenant]).map_err(|_| UntrustedReason::OtherTenant)?;
        next_is(&["activity"])?;
        next_is(&["feed"])?;
        let mut count = 0_usize;
        for segment in segments {
            count += 1;
            if !is_plain_segment(segment) {
                return Err(UntrustedReason::PathTrick);
            }
        }
        if count == 0 {
            Err(UntrustedReason::OtherPath)
        } else {
            Ok(())
        }
    }
}

/// Neither empty nor a dot segment, and without an encoded character that a server might decode into one, into a slash or into a
/// line break.
fn is_plain_segment(segment: &str) -> bool {
    let is_odd = |byte: u8| {
        matches!(
            byte,
            b'<' | b'>' | b'"' | b'`' | b'{' | b'}' | b'|' | b'^' | b';'
        )
    };
    if segment.is_empty() || segment.bytes().any(is_odd) {
        return false;
    }
    let mut rest = segment;
    while let Some((_, after)) = rest.split_once('%') {
        let Some(byte) = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        else {
            return false;
        };
        // `from_str_radix` takes a sign, and an encoded percent sign may be decoded twice.
        if after.starts_with('+')
            || matches!(byte, b'/' | b'\\' | b'.' | b'%' | b'?' | b'#' | 0..=0x20 | 0x7f..)
        {
            return false;
        }
        rest = &after[2..];
    }
    segment.bytes().any(|byte| byte != b'.')
}

fn accept_gzip(request: &mut Request<Bytes>) {
    request.headers_mut().insert(
        header::ACCEPT_ENCODING,
        header::HeaderValue::from_static("gzip"),
    );
}

/// A uri of one tenant's feed at Microsoft, where that tenant's token may be sent. Only [`Feed::trust`] makes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustedUri(Box<str>);

impl TrustedUri {
    /// The text, with the feed's own scheme, host and port.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment of the path, percent-decoded: of a blob's uri, its id.
    pub(crate) fn last_segment(&self) -> String {
        let path = self.0.split('?').next().unwrap_or_default();
        let segment = path.rsplit('/').next().unwrap_or_default();
        percent_encoding::percent_decode_str(segment)
            .decode_utf8_lossy()
            .into_owned()
    }
}

impl fmt::Display for TrustedUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A uri, or a notification with one, that no token is sent for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason} (it begins with {beginning})")]
pub struct Untrusted {
    reason: UntrustedReason,
    beginning: String,
}

/// Enough to see scheme and host of an honest uri; too little for a log to be flooded with.
const SHOWN: usize = 64;

impl Untrusted {
    pub(crate) fn new(reason: UntrustedReason, uri: &str) -> Self {
        let beginning: String = uri
            .chars()
            .take(SHOWN)
            .flat_map(char::escape_default)
            .collect();
        Self {
            reason,
            beginning: format!("\"{beginning}\""),
        }
    }

    /// Which rule was broken.
    pub const fn reason(&self) -> UntrustedReason {
        self.reason
    }
}

/// The rule that an untrusted uri broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum UntrustedReason {
    /// Over 16 KiB.
    #[error("the uri is too long")]
    TooLong,
    /// Not a uri that everybody reads in the same way.
    #[error("the uri cannot be read, or has characters that no uri has")]
    Unreadable,
    /// A user name or password is in it.
    #[error("the uri has a user name in it")]
    UserInfo,
    /// A fragment is in it.
    #[error("the uri has a fragment")]
    Fragment,
    /// Another scheme, host or port.
    #[error("the uri is not of Microsoft's Activity API in this tenant's cloud")]
    OtherOrigin,
    /// Another tenant.
    #[error("the uri is another tenant's")]
    OtherTenant,
    /// A path that is not the feed's.
    #[error("the uri is not below the tenant's activity feed")]
    OtherPath,
    /// Dot segments, empty segments, or characters encoded to hide them.
    #[error("the uri's path could be read in two ways")]
    PathTrick,
    /// A notification whose uri names another blob than the notification does.
    #[error("the uri is another blob's")]
    OtherBlob,
    /// A notification of a content type that is not collected.
    #[error("the content type is unknown")]
    UnknownContentType,
}

#[cfg(test)]
mod tests;
