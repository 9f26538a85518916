//! Azure Resource Manager, as far as a function app needs it for itself: its own site, its app settings, its triggers.
//!
//! Every request goes to the one configured origin; whoever sends it adds the `Authorization` header and follows no
//! redirect. The original collector spoke api-version 2018-11-01; for these calls 2024-04-01 has the same shapes, and it
//! is the oldest that knows every plan of today.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use activity_api::{Origin, Reply};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

#[cfg(test)]
mod tests;

/// See the module's text.
pub const API_VERSION: &str = "2024-04-01";

/// The requests about one function app. None of them has an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteApi {
    /// Up to and with the site's name.
    base: String,
}

/// A name that cannot stand in the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is empty, or has characters that no name in Azure has")]
pub struct InvalidName {
    what: &'static str,
}

impl SiteApi {
    /// The requests about the site `site_name` at the Resource Manager `origin`.
    ///
    /// # Errors
    /// When one of the names could lead anywhere else than to that site.
    pub fn new(
        origin: &Origin,
        subscription_id: &str,
        resource_group: &str,
        site_name: &str,
    ) -> Result<Self, InvalidName> {
        let check = |what, text: &str| {
            let is_plain = |c: char| c.is_alphanumeric() || "-_.()".contains(c);
            match !text.is_empty() && text.chars().all(is_plain) && !matches!(text, "." | "..") {
                true => Ok(percent_encode(text)),
                false => Err(InvalidName { what }),
            }
        };
        let subscription = check("the subscription's id", subscription_id)?;
        let group = check("the resource group", resource_group)?;
        let site = check("the site's name", site_name)?;
        Ok(Self {
            base: format!(
                "{origin}/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{site}"
            ),
        })
    }

    /// Asks for the site's state.
    #[must_use]
    pub fn get_site(&self) -> Request<Bytes> {
        self.request(Method::GET, "")
    }

    /// Asks for all app settings, every secret among them in clear.
    #[must_use]
    pub fn list_settings(&self) -> Request<Bytes> {
        self.request(Method::POST, "/config/appsettings/list")
    }

    /// Replaces all app settings: what is not in `settings` is gone. The app restarts.
    #[must_use]
    pub fn put_settings(&self, settings: &Settings) -> Request<Bytes> {
        #[derive(Serialize)]
        struct Put<'a> {
            properties: &'a Settings,
        }
        let body = serde_json::to_vec(&Put {
            properties: settings,
        })
        .expect("a map of texts always serializes");
        let mut request = self.request(Method::PUT, "/config/appsettings");
        *request.body_mut() = body.into();
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request
    }

    /// Has a source-controlled deployment fetched anew.
    #[must_use]
    pub fn sync_repository(&self) -> Request<Bytes> {
        self.request(Method::POST, "/sync")
    }

    /// Tells the platform that the functions' triggers may have changed, as after another package.
    #[must_use]
    pub fn sync_triggers(&self) -> Request<Bytes> {
        self.request(Method::POST, "/syncfunctiontriggers")
    }

    fn request(&self, method: Method, tail: &str) -> Request<Bytes> {
        let mut builder = Request::builder()
            .uri(format!("{}{tail}?api-version={API_VERSION}", self.base))
            .header(header::ACCEPT, "application/json");
        if method == Method::POST {
            // The front end refuses a POST without a length, and an empty body has none unless it is written.
            builder = builder.header(header::CONTENT_LENGTH, 0);
        }
        builder
            .method(method)
            .body(Bytes::new())
            .expect("an origin and encoded names make a uri")
    }
}

/// All app settings of a site. Holds every secret of the app: neither `Debug` nor an error shows a value.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, Option<SecretString>>);

impl Settings {
    /// A setting's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)?.as_ref()
    }

    /// The names of all settings.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets what `changes` has a value for and removes what it has none for; everything else stays. Whether that made a
    /// difference.
    pub fn merge(&mut self, changes: &Changes) -> bool {
        let mut is_changed = false;
        for (name, value) in &changes.0 {
            is_changed |= match value {
                Some(value) => {
                    let is_same = self
                        .get(name)
                        .is_some_and(|old| old.expose_secret() == value.expose_secret());
                    if !is_same {
                        self.0.insert(name.clone(), Some(value.clone()));
                    }
                    !is_same
                }
                None => self.0.remove(name).is_some(),
            };
        }
        is_changed
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(name, value)| (name, value.as_ref().map(ExposeSecret::expose_secret))),
        )
    }
}

/// App settings to set or to remove. `Debug` shows their names only.
#[derive(Clone, Default)]
pub struct Changes(BTreeMap<String, Option<SecretString>>);

impl Changes {
    /// Nothing is to change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This setting is to have this value.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<SecretString>) -> Self {
        self.0.insert(name.to_owned(), Some(value.into()));
        self
    }

    /// This setting is to be gone.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        self.0.insert(name.to_owned(), None);
        self
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the settings to change.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is known of a site's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SiteState {
    /// `Running` when it runs.
    pub state: Option<String>,
    /// `Normal` when it can be reached.
    pub availability_state: Option<String>,
    /// `Normal` while it is within its quota.
    pub usage_state: Option<String>,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The plan: `Dynamic` for Consumption, `FlexConsumption` for Flex.
    pub sku: Option<String>,
    /// The host name that the platform gave it.
    pub default_host_name: Option<String>,
}

impl SiteState {
    /// The first property that is not as it is for a site in good health, in the order in which the original collector
    /// looked at them, and what it is instead.
    #[must_use]
    pub fn unhealthy_property(&self) -> Option<(&'static str, String)> {
        let text = |name, value: &Option<String>, healthy: &str| {
            let value = value.as_deref().unwrap_or("unknown");
            (value != healthy).then(|| (name, plain(value)))
        };
        text("availabilityState", &self.availability_state, "Normal")
            .or_else(|| text("state", &self.state, "Running"))
            .or_else(|| text("usageState", &self.usage_state, "Normal"))
            .or_else(|| {
                let enabled = self
                    .enabled
                    .map_or("unknown".to_owned(), |is| is.to_string());
                (self.enabled != Some(true)).then_some(("enabled", enabled))
            })
    }

    /// Whether its plan has no setting that names the package to run from.
    #[must_use]
    pub fn is_flex(&self) -> bool {
        self.sku.as_deref() == Some("FlexConsumption")
    }
}

/// Why Resource Manager did not do what was asked for. Never a setting's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 401: the token is not taken.
    #[error("the token is refused (HTTP 401 {code})")]
    TokenRefused {
        /// Azure's code.
        code: String,
    },
    /// 403: the identity lacks the role.
    #[error(
        "the identity may not do this (HTTP 403 {code}): give it a role on the function app that allows it; a new assignment takes minutes to hold"
    )]
    Forbidden {
        /// Azure's code.
        code: String,
    },
    /// 404: there is no such site where we look.
    #[error(
        "there is no such function app (HTTP 404 {code}): check the subscription, the resource group and the site's name"
    )]
    NotFound {
        /// Azure's code.
        code: String,
    },
    /// 409 or 412: somebody else changes it at this moment.
    #[error("somebody else changes the site at this moment (HTTP {status} {code})")]
    Conflict {
        /// 409 or 412.
        status: StatusCode,
        /// Azure's code.
        code: String,
    },
    /// 429: too many requests in the subscription, by whomever.
    #[error("too many requests in the subscription (HTTP 429)")]
    Throttled {
        /// How long Azure asks to wait.
        retry_after: Option<Duration>,
    },
    /// 408 or 5xx.
    #[error("resource manager failed (HTTP {status})")]
    ServiceFailed {
        /// What it was.
        status: StatusCode,
        /// How long Azure asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other refusal.
    #[error("resource manager refuses the request (HTTP {status} {code})")]
    Refused {
        /// What it was.
        status: StatusCode,
        /// Azure's code.
        code: String,
    },
    /// A success that does not say what it must.
    #[error("the reply cannot be understood: {what}")]
    Malformed {
        /// What is missing or wrong, never its text.
        what: &'static str,
    },
}

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Get a new token and send it once more.
    Reauthenticate,
    /// Read what is there now, and decide again.
    ReadAgain,
    /// Send it again, after this long where Azure said so.
    RetryAfter(Option<Duration>),
    /// A person must act.
    Stop,
}

impl Error {
    /// What to do about it, decided nowhere else.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::TokenRefused { .. } => NextStep::Reauthenticate,
            Self::Conflict { .. } => NextStep::ReadAgain,
            Self::Throttled { retry_after } | Self::ServiceFailed { retry_after, .. } => {
                NextStep::RetryAfter(*retry_after)
            }
            Self::Malformed { .. } => NextStep::RetryAfter(None),
            Self::Forbidden { .. } | Self::NotFound { .. } | Self::Refused { .. } => NextStep::Stop,
        }
    }
}

/// Reads the answer to [`SiteApi::get_site`].
///
/// # Errors
/// See [`Error::next_step`].
pub fn read_site(reply: &Reply) -> Result<SiteState, Error> {
    #[derive(Deserialize)]
    struct Site {
        properties: SiteState,
    }
    check(reply)?;
    // serde_json's own message is dropped, here as below: it may quote the body.
    let site: Site = serde_json::from_slice(&reply.body).map_err(|_| Error::Malformed {
        what: "no site with properties",
    })?;
    Ok(site.properties)
}

/// Reads the answer to [`SiteApi::list_settings`] or [`SiteApi::put_settings`].
///
/// # Errors
/// See [`Error::next_step`].
pub fn read_settings(reply: &Reply) -> Result<Settings, Error> {
    #[derive(Deserialize)]
    struct Dictionary {
        properties: BTreeMap<String, Option<String>>,
    }
    check(reply)?;
    let dictionary: Dictionary =
        serde_json::from_slice(&reply.body).map_err(|_| Error::Malformed {
            what: "no dictionary of app settings",
        })?;
    Ok(Settings(
        dictionary
            .properties
            .into_iter()
            .map(|(name, value)| (name, value.map(SecretString::from)))
            .collect(),
    ))
}

/// Reads the answer to any other request: a success says no more than that.
///
/// # Errors
/// See [`Error::next_step`].
pub fn check(reply: &Reply) -> Result<(), Error> {
    let status = reply.status;
    if status.is_success() {
        return Ok(());
    }
    let retry_after = reply.retry_after();
    let code = read_code(&reply.body);
    Err(match status.as_u16() {
        401 => Error::TokenRefused { code },
        403 => Error::Forbidden { code },
        404 => Error::NotFound { code },
        409 | 412 => Error::Conflict { status, code },
        429 => Error::Throttled { retry_after },
        408 | 500..=599 => Error::ServiceFailed {
            status,
            retry_after,
        },
        _ => Error::Refused { status, code },
    })
}

/// Azure's word for what is wrong: `{"error":{"code":"…"}}`, or `{"Code":"…"}` from the web apps themselves.
fn read_code(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refusal {
        error: Inner,
        #[serde(rename = "Code")]
        code: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        code: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code = match refusal.error.code.is_empty() {
        true => refusal.code,
        false => refusal.error.code,
    };
    match code.is_empty() {
        true => "without a code".to_owned(),
        false => plain(&code),
    }
}

/// What of a word of Azure's may stand in a log.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(64)
        .collect()
}

/// A name in a path. Only letters outside of ASCII, which resource groups may have, need it.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(
            |byte| match byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            },
        )
        .collect()
}
