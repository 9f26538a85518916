//! What Microsoft posts to a webhook: the validation of its address, and notifications of new blobs. Shape only; nothing in a
//! notification is believed before [`NotifiedBlob::trust`].

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    ClientId, ContentBlob, ContentId, ContentType, Feed, TenantId, Untrusted, UntrustedReason,
    error::{is_json_object, without_bom},
    feed::LONGEST_URI,
    reply::{LONGEST_CONTENT_ID, shortest_expiry},
    times,
};

/// The header with the auth id that was given at the start of the subscription.
pub const AUTH_ID_HEADER: &str = "webhook-authid";

/// The header with the code of a validation.
pub const VALIDATION_CODE_HEADER: &str = "webhook-validationcode";

/// The most blobs that one notification may name. Microsoft states no limit; the most that fit into a mebibyte are about 2,000.
pub const MAX_NOTIFIED_BLOBS: usize = 10_000;

/// Longer than any code that was seen.
const LONGEST_VALIDATION_CODE: usize = 1024;

/// One blob that a notification names, unproven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifiedBlob {
    /// Whose.
    pub tenant: TenantId,
    /// The application that started the subscription.
    pub client_id: Option<ClientId>,
    /// In which feed; none where Microsoft's word is not known here.
    pub content_type: Option<ContentType>,
    /// The id as it was sent, with whatever notifications add to it.
    pub content_id: String,
    /// Where it is said to be. Never to be sent to: see [`NotifiedBlob::trust`].
    pub content_uri: String,
    /// When it is said to have become available.
    pub created_at: Timestamp,
    /// When it is said to be gone.
    pub expires_at: Timestamp,
}

/// Why the body of a notification was not read. All of it is refused: Microsoft sends it again, and the listing has its blobs anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotificationError {
    /// Not a JSON array of objects with the fields of a notification.
    #[error("the body is not a list of notified blobs")]
    Shape,
    /// One of the ids or times in it cannot be read.
    #[error("entry {index} of the notification has a {field} that cannot be read")]
    Field {
        /// Which entry, from 0.
        index: usize,
        /// Microsoft's name of the field.
        field: &'static str,
    },
    /// More than [`MAX_NOTIFIED_BLOBS`].
    #[error("the notification names too many blobs")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNotifiedBlob {
    tenant_id: String,
    client_id: Option<String>,
    content_type: String,
    content_id: String,
    content_uri: String,
    content_created: String,
    content_expiration: Option<String>,
}

/// Reads the body of a notification. Whoever received it has limited its size.
///
/// # Errors
/// [`NotificationError`], which says nothing of the body's content.
pub fn read_notification(body: &[u8]) -> Result<Vec<NotifiedBlob>, NotificationError> {
    let entries: Vec<RawNotifiedBlob> =
        serde_json::from_slice(without_bom(body)).map_err(|_| NotificationError::Shape)?;
    if entries.len() > MAX_NOTIFIED_BLOBS {
        return Err(NotificationError::TooMany);
    }
    entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| {
            entry
                .read()
                .map_err(|field| NotificationError::Field { index, field })
        })
        .collect()
}

impl RawNotifiedBlob {
    /// The entry, or the name of the field that cannot be read.
    fn read(self) -> Result<NotifiedBlob, &'static str> {
        let tenant = self.tenant_id.parse().map_err(|_| "tenantId")?;
        // Of no use here, so an odd one is not worth losing a hint for.
        let client_id = self.client_id.and_then(|text| text.parse().ok());
        if !(1..=LONGEST_CONTENT_ID).contains(&self.content_id.len()) {
            return Err("contentId");
        }
        if self.content_uri.len() > LONGEST_URI {
            return Err("contentUri");
        }
        let created_at = times::parse_time(&self.content_created).ok_or("contentCreated")?;
        let expires_at = match self.content_expiration.as_deref() {
            Some(text) => times::parse_time(text).ok_or("contentExpiration")?,
            None => shortest_expiry(created_at),
        };
        Ok(NotifiedBlob {
            tenant,
            client_id,
            content_type: ContentType::parse(&self.content_type).ok(),
            content_id: self.content_id,
            content_uri: self.content_uri,
            created_at,
            expires_at,
        })
    }
}

impl NotifiedBlob {
    /// The blob, if it is this feed's and its uri one that a token may be sent to.
    ///
    /// The uri must also name the same blob as the id does. Otherwise a forged notification could have one blob fetched in the
    /// name of another, and the other would then count as delivered.
    ///
    /// # Errors
    /// [`Untrusted`] says why not.
    pub fn trust(self, feed: &Feed) -> Result<ContentBlob, Untrusted> {
        let untrusted = |reason| Untrusted::new(reason, &self.content_uri);
        if self.tenant != feed.tenant() {
            return Err(untrusted(UntrustedReason::OtherTenant));
        }
        let content_type = self
            .content_type
            .ok_or_else(|| untrusted(UntrustedReason::UnknownContentType))?;
        let uri = feed.trust(&self.content_uri)?;
        let id = ContentId::canonical(&self.content_id);
        if ContentId::canonical(&uri.last_segment()) != id {
            return Err(untrusted(UntrustedReason::OtherBlob));
        }
        Ok(ContentBlob {
            content_type,
            id,
            uri,
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawValidation {
    validation_code: String,
}

/// The code, where a post to the webhook validates its address and is no notification. The answer is status 200 and nothing else:
/// the code need not be repeated.
///
/// The body decides, and a list is never a validation: if a header could make it one, a notification would be answered with 200 and
/// dropped. Without a body the header decides.
pub fn read_validation(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let body = without_bom(body);
    let code = if body.is_empty() {
        headers
            .get(VALIDATION_CODE_HEADER)?
            .to_str()
            .ok()?
            .to_owned()
    } else if is_json_object(body) {
        serde_json::from_slice::<RawValidation>(body)
            .ok()?
            .validation_code
    } else {
        return None;
    };
    (code.len() <= LONGEST_VALIDATION_CODE).then_some(code)
}

#[cfg(test)]
mod tests;
