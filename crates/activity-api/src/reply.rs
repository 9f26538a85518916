//! Microsoft's replies, understood.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error as ThisError;

use crate::{
    ApiErrorCode, ContentId, ContentType, Error, Feed, TrustedUri,
    error::{plain_message, read_envelope, read_error, without_bom, without_controls},
    times,
};

/// A whole reply, its content encoding already undone.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Whoever received it has limited its size.
    pub body: Bytes,
}

impl Reply {
    /// Microsoft's clock when it answered. Differs from this machine's by the error of one of them: worth comparing when a window
    /// is refused.
    pub fn date(&self) -> Option<Timestamp> {
        times::read_date(&self.headers)
    }

    /// How long Microsoft asks to wait, at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        times::read_retry_after(&self.headers)
    }
}

// The body is left out: a token may be in it.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The subscriptions of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    /// Those of content types that are known here.
    pub known: Vec<Subscription>,
    /// How many entries are not of a content type that is known here.
    pub unknown_count: usize,
}

impl Subscriptions {
    /// The subscription of one content type.
    pub fn of(&self, content_type: ContentType) -> Option<&Subscription> {
        self.known
            .iter()
            .find(|subscription| subscription.content_type == content_type)
    }
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Of what.
    pub content_type: ContentType,
    /// Whether content is made available for it. A reply that does not say means yes: one of Microsoft's own samples does not.
    pub is_enabled: bool,
    /// Its webhook. None while Microsoft still validates one.
    pub webhook: Option<SubscriptionWebhook>,
}

/// The webhook of a subscription. Its auth id is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionWebhook {
    /// Whether notifications are sent.
    pub status: WebhookStatus,
    /// Where to.
    pub address: String,
    /// Until when; forever, without it.
    pub expiration: Option<Timestamp>,
    /// What Microsoft repeats with every notification, so that they are known to be Microsoft's.
    pub auth_id: Option<AuthIdInForce>,
}

/// The auth id that Microsoft has for a webhook. A secret: it can be compared, and not be seen.
#[derive(Clone, Debug)]
pub struct AuthIdInForce(SecretString);

impl AuthIdInForce {
    /// Whether it is this one.
    pub fn is(&self, wanted: &SecretString) -> bool {
        self.0.expose_secret() == wanted.expose_secret()
    }
}

impl PartialEq for AuthIdInForce {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for AuthIdInForce {}

/// Whether a webhook gets notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebhookStatus {
    /// It does.
    Enabled,
    /// Not since it failed too often. Starting the subscription again enables it.
    Disabled,
    /// Not since its expiration.
    Expired,
    /// Microsoft used another word.
    Unknown,
}

/// The reply to a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Whether it ran already, exactly like this (AF20024).
    pub was_enabled: bool,
    /// The webhook as it is in force, where the reply says it.
    pub webhook: Option<SubscriptionWebhook>,
}

/// A blob that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentBlob {
    /// In which feed.
    pub content_type: ContentType,
    /// Its name.
    pub id: ContentId,
    /// Where it is.
    pub uri: TrustedUri,
    /// When it became available. Windows are over this time.
    pub created_at: Timestamp,
    /// When it is gone.
    pub expires_at: Timestamp,
}

/// One page of a listing of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPage {
    /// In the order of the listing. A blob may be in it twice, and on a later page again.
    pub blobs: Vec<ContentBlob>,
    /// Entries that no blob could be made of. A window with one of them is not fully listed.
    pub refused: Vec<RefusedEntry>,
    /// Where the listing goes on. A page without blobs may have one. Nothing says that the pages end: whoever follows them counts.
    pub next_page: Option<TrustedUri>,
}

/// An entry of a listing that was not usable.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("entry {index} of the listing: {why}")]
pub struct RefusedEntry {
    /// Which one of the page, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub why: String,
}

/// One page of the listing of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationsPage {
    /// One per attempt to send; several may be of one blob.
    pub notifications: Vec<SentNotification>,
    /// Entries that nothing could be made of.
    pub refused: Vec<RefusedEntry>,
    /// Where the listing goes on.
    pub next_page: Option<TrustedUri>,
}

/// One attempt of Microsoft's to notify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentNotification {
    /// Of which blob.
    pub blob: ContentBlob,
    /// When.
    pub sent_at: Option<Timestamp>,
    /// Microsoft's word for how it went: `success` in the reference, `Succeeded` in captured traffic.
    pub status: String,
}

/// A kind of sensitive information that DLP rules look for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DlpSensitiveType {
    /// The id that records carry.
    pub id: String,
    /// Its name in the language that was asked for.
    pub name: String,
}

/// The shortest lifetime of a blob that was ever seen. Used only where a listing does not say when a blob expires: then an
/// early guess merely fetches it sooner, while leaving the blob out would lose it.
pub(crate) const SHORTEST_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// About ten times the longest id that was seen.
pub(crate) const LONGEST_CONTENT_ID: usize = 1024;

/// Reads the reply to [`Feed::list_subscriptions`].
///
/// # Errors
/// What [`read_error`] finds, or [`Error::Malformed`].
pub fn read_subscriptions(reply: &Reply) -> Result<Subscriptions, Error> {
    let (known, unknown) = read_entries(
        reply,
        "a list of subscriptions",
        |entry: RawSubscription| {
            let content_type = entry.content_type.as_deref().unwrap_or_default();
            Ok(Subscription {
                content_type: ContentType::parse(content_type)
                    .map_err(|invalid| invalid.to_string())?,
                is_enabled: entry
                    .status
                    .is_none_or(|status| status.eq_ignore_ascii_case("enabled")),
                webhook: entry.webhook.map(SubscriptionWebhook::from),
            })
        },
    )?;
    Ok(Subscriptions {
        known,
        unknown_count: unknown.len(),
    })
}

/// Reads the reply to [`Feed::start`]. AF20024, which says that nothing had to change, is a success.
///
/// # Errors
/// What [`read_error`] finds, or [`Error::Malformed`].
pub fn read_start(reply: &Reply) -> Result<Started, Error> {
    let code = read_envelope(&reply.body).code;
    if code.is_some_and(|code| ApiErrorCode::parse(&code) == ApiErrorCode::Af20024) {
        return Ok(Started {
            was_enabled: true,
            webhook: None,
        });
    }
    let started: RawSubscription = read_success(reply, "a started subscription")?;
    Ok(Started {
        was_enabled: false,
        webhook: started.webhook.map(SubscriptionWebhook::from),
    })
}

/// Reads the reply to [`Feed::stop`].
///
/// # Errors
/// What [`read_error`] finds.
pub fn read_stop(reply: &Reply) -> Result<(), Error> {
    if reply.status.is_success() {
        Ok(())
    } else {
        Err(read_error(reply))
    }
}

/// Reads a page of the reply to [`Feed::list_content`]. `requested` is the content type that was asked for.
///
/// An entry that cannot be used is set aside and does not hold up the others.
///
/// # Errors
/// What [`read_error`] finds, [`Error::Malformed`] where there is no list at all, and [`Error::UntrustedUri`] where the
/// listing goes on at a place that no token may be sent to: without that page the listing is not whole.
pub fn read_content(
    reply: &Reply,
    feed: &Feed,
    requested: ContentType,
) -> Result<ContentPage, Error> {
    let (blobs, refused) = read_entries(reply, "a list of content", |entry: RawContent| {
        entry.read(feed, requested)
    })?;
    Ok(ContentPage {
        blobs,
        refused,
        next_page: read_next_page(reply, feed)?,
    })
}

/// Reads a page of the reply to [`Feed::list_notifications`].
///
/// # Errors
/// As [`read_content`].
pub fn read_notifications_listing(
    reply: &Reply,
    feed: &Feed,
    requested: ContentType,
) -> Result<NotificationsPage, Error> {
    let (notifications, refused) = read_entries(
        reply,
        "a list of notifications",
        |entry: RawNotification| {
            Ok(SentNotification {
                blob: entry.content.read(feed, requested)?,
                sent_at: entry
                    .notification_sent
                    .as_deref()
                    .and_then(times::parse_time),
                status: plain_message(entry.notification_status.as_deref().unwrap_or_default()),
            })
        },
    )?;
    Ok(NotificationsPage {
        notifications,
        refused,
        next_page: read_next_page(reply, feed)?,
    })
}

/// Reads the reply to [`Feed::dlp_sensitive_types`].
///
/// # Errors
/// What [`read_error`] finds, or [`Error::Malformed`].
pub fn read_dlp_sensitive_types(reply: &Reply) -> Result<Vec<DlpSensitiveType>, Error> {
    read_success(reply, "a list of sensitive information types")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSubscription {
    content_type: Option<String>,
    status: Option<String>,
    webhook: Option<RawWebhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawWebhook {
    status: Option<String>,
    address: Option<String>,
    expiration: Option<String>,
    auth_id: Option<String>,
}

impl From<RawWebhook> for SubscriptionWebhook {
    fn from(raw: RawWebhook) -> Self {
        let status = raw.status.unwrap_or_default();
        let is = |word| status.eq_ignore_ascii_case(word);
        Self {
            status: match () {
                () if is("enabled") => WebhookStatus::Enabled,
                () if is("disabled") => WebhookStatus::Disabled,
                () if is("expired") => WebhookStatus::Expired,
                () => WebhookStatus::Unknown,
            },
            // It is shown to people, on terminals too.
            address: without_controls(&raw.address.unwrap_or_default()),
            expiration: raw.expiration.as_deref().and_then(times::parse_time),
            auth_id: raw
                .auth_id
                .filter(|text| !text.is_empty())
                .map(|text| AuthIdInForce(text.into())),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContent {
    content_type: Option<String>,
    content_id: Option<String>,
    content_uri: Option<String>,
    content_created: Option<String>,
    content_expiration: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNotification {
    #[serde(flatten)]
    content: RawContent,
    notification_sent: Option<String>,
    notification_status: Option<String>,
}

impl RawContent {
    fn read(self, feed: &Feed, requested: ContentType) -> Result<ContentBlob, String> {
        let id = self
            .content_id
            .filter(|id| !id.is_empty())
            .ok_or("it has no contentId")?;
        if id.len() > LONGEST_CONTENT_ID {
            return Err("its contentId is too long".to_owned());
        }
        let uri = self.content_uri.ok_or("it has no contentUri")?;
        let uri = feed
            .trust(&uri)
            .map_err(|untrusted| untrusted.to_string())?;
        let created_at = self
            .content_created
            .as_deref()
            .and_then(times::parse_time)
            .ok_or("its contentCreated cannot be read")?;
        let expires_at = self
            .content_expiration
            .as_deref()
            .and_then(times::parse_time)
            .unwrap_or_else(|| shortest_expiry(created_at));
        // Microsoft answers for the content type that it was asked for; an entry that says otherwise is believed,
        // and one that says nothing known is of that type.
        let content_type = self
            .content_type
            .and_then(|text| ContentType::parse(&text).ok())
            .unwrap_or(requested);
        Ok(ContentBlob {
            content_type,
            id: ContentId::canonical(&id),
            uri,
            created_at,
            expires_at,
        })
    }
}

pub(crate) fn shortest_expiry(created_at: Timestamp) -> Timestamp {
    created_at
        .checked_add(SHORTEST_LIFETIME)
        .unwrap_or(created_at)
}

/// Reads the body of a success, or finds what it is instead.
fn read_success<T: DeserializeOwned>(reply: &Reply, what: &'static str) -> Result<T, Error> {
    check_success(reply)?;
    serde_json::from_slice(without_bom(&reply.body)).map_err(|_| Error::Malformed { what })
}

fn check_success(reply: &Reply) -> Result<(), Error> {
    // An error's body behind a status of success was never seen, and would still be an error.
    if reply.status.is_success() && read_envelope(&reply.body).code.is_none() {
        Ok(())
    } else {
        Err(read_error(reply))
    }
}

/// Reads each entry of a list on its own.
fn read_entries<R: DeserializeOwned, T>(
    reply: &Reply,
    what: &'static str,
    read: impl Fn(R) -> Result<T, String>,
) -> Result<(Vec<T>, Vec<RefusedEntry>), Error> {
    check_success(reply)?;
    let entries: Vec<&RawValue> =
        serde_json::from_slice(without_bom(&reply.body)).map_err(|_| Error::Malformed { what })?;
    let (mut usable, mut refused) = (Vec::with_capacity(entries.len()), Vec::new());
    for (index, entry) in entries.into_iter().enumerate() {
        let result = serde_json::from_str(entry.get())
            .map_err(|_| "it is not an object with the fields of its kind".to_owned())
            .and_then(&read);
        match result {
            Ok(entry) => usable.push(entry),
            Err(why) => refused.push(RefusedEntry { index, why }),
        }
    }
    Ok((usable, refused))
}

/// Microsoft's two names for the header with the next page. The first is what really arrives; one page of the reference says the other.
const NEXT_PAGE: [&str; 2] = ["nextpageuri", "nextpageurl"];

fn read_next_page(reply: &Reply, feed: &Feed) -> Result<Option<TrustedUri>, Error> {
    let mut values = NEXT_PAGE
        .iter()
        .flat_map(|name| reply.headers.get_all(*name))
        .filter(|value| !value.is_empty());
    let Some(first) = values.next() else {
        return Ok(None);
    };
    // Following one of two would leave the other's blobs unseen.
    if values.any(|other| other != first) {
        return Err(Error::Malformed {
            what: "a page with one next page",
        });
    }
    let text = String::from_utf8_lossy(first.as_bytes());
    feed.trust(&text).map(Some).map_err(Error::UntrustedUri)
}

#[cfg(test)]
mod tests;
