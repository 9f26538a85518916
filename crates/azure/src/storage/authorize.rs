//! From a draft to a request that the account's services accept: dates, versions and signatures.

use activity_api::AccessToken;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use secrecy::ExposeSecret;

use super::account::{Account, Credential, Service};

/// The version of the services' protocol. The first with which tables take tokens.
const VERSION: HeaderValue = HeaderValue::from_static("2020-12-06");

/// Letters, digits and what RFC 3986 leaves as it is: signatures are over the address as it is sent, so there must
/// be one way only to write it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request that nobody has signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub(super) service: Service,
    pub(super) method: Method,
    /// Begins with a slash, escaped.
    pub(super) path: String,
    /// Not escaped.
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a draft cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The account is used with tokens, and none was given.
    #[error("a request to storage needs a token")]
    NoToken,
    /// What was put together is no address. Cannot come from a name that was checked.
    #[error("a request to storage has no valid address")]
    NoAddress,
}

impl Draft {
    pub(super) fn new(service: Service, method: Method, path: impl Into<String>) -> Self {
        Self {
            service,
            method,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body.into();
        self
    }
}

impl Draft {
    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

impl Account {
    /// The request, signed for this moment. `token` is needed where [`needs_token`](Self::needs_token) says so.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn sign(
        &self,
        draft: &Draft,
        now: Timestamp,
        token: Option<&AccessToken>,
    ) -> Result<Request<Bytes>, NotSigned> {
        let mut headers = draft.headers.clone();
        headers.insert("x-ms-version", VERSION);
        headers.insert("x-ms-date", http_date(now));
        if !draft.body.is_empty() || draft.method == Method::PUT || draft.method == Method::POST {
            headers.insert(header::CONTENT_LENGTH, draft.body.len().into());
        }
        let mut uri = format!("{}{}", self.endpoint(draft.service), draft.path);
        let mut separator = '?';
        for (name, value) in &draft.query {
            uri.push(separator);
            uri.push_str(name);
            uri.push('=');
            uri.push_str(&escape(value));
            separator = '&';
        }
        match &self.credential {
            Credential::SharedKey(key) => {
                let path = uri
                    .parse::<http::Uri>()
                    .map_err(|_| NotSigned::NoAddress)?
                    .path()
                    .to_owned();
                let text = self.text_to_sign(draft, &path, &headers);
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret());
                let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
                headers.insert(
                    header::AUTHORIZATION,
                    sensitive(&format!("SharedKey {}:{signature}", self.name))?,
                );
            }
            Credential::Signature(signature) => {
                uri.push(separator);
                uri.push_str(signature.expose_secret());
            }
            Credential::Token => {
                let token = token.ok_or(NotSigned::NoToken)?;
                headers.insert(header::AUTHORIZATION, token.authorization());
            }
        }
        let mut request = Request::builder()
            .method(draft.method.clone())
            .uri(uri)
            .body(draft.body.clone())
            .map_err(|_| NotSigned::NoAddress)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What the signature is over: Microsoft's "Authorize with Shared Key".
    fn text_to_sign(&self, draft: &Draft, path: &str, headers: &HeaderMap) -> String {
        let value = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let resource = format!("/{}{path}", self.name);
        if draft.service == Service::Tables {
            let component = draft
                .query
                .iter()
                .find(|(name, _)| *name == "comp")
                .map(|(_, value)| format!("?comp={value}"))
                .unwrap_or_default();
            return format!(
                "{}\n{}\n{}\n{}\n{resource}{component}",
                draft.method,
                value("content-md5"),
                value("content-type"),
                value("x-ms-date"),
            );
        }
        let length = match draft.body.len() {
            0 => String::new(),
            length => length.to_string(),
        };
        let mut text = format!("{}\n", draft.method);
        for line in [
            value("content-encoding"),
            value("content-language"),
            &length,
            value("content-md5"),
            value("content-type"),
            // The date stands in x-ms-date.
            "",
            value("if-modified-since"),
            value("if-match"),
            value("if-none-match"),
            value("if-unmodified-since"),
            value("range"),
        ] {
            text.push_str(line);
            text.push('\n');
        }
        let mut own: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default().trim()))
            .collect();
        own.sort_unstable();
        for (name, value) in own {
            text.push_str(&format!("{name}:{value}\n"));
        }
        text.push_str(&resource);
        let mut query: Vec<_> = draft.query.iter().collect();
        query.sort_unstable();
        for (name, value) in query {
            text.push_str(&format!("\n{name}:{value}"));
        }
        text
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, NotSigned> {
    let mut value = HeaderValue::from_str(text).map_err(|_| NotSigned::NoAddress)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The time as HTTP writes it. The pattern is fixed, so that it does not change with a locale.
fn http_date(now: Timestamp) -> HeaderValue {
    let text = now
        .to_zoned(TimeZone::UTC)
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    HeaderValue::from_str(&text).expect("a date is letters, digits and spaces")
}
