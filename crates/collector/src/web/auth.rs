//! The secret that Microsoft repeats with every request to the webhook, and comparing a guess with it without telling how good the
//! guess was.

use activity_api::AUTH_ID_HEADER;
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Both sides of the comparison are laid out in this many bytes, so that its time depends on neither's length.
const MAX_AUTH_ID_BYTES: usize = 256;

/// The auth id that requests to the webhook must carry.
pub struct AuthId(Padded);

/// The text cannot serve as an auth id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("webhook.auth_id: 1 to {MAX_AUTH_ID_BYTES} visible ASCII characters are wanted")]
pub struct InvalidAuthId;

impl AuthId {
    /// The auth id that is configured.
    ///
    /// # Errors
    /// When no HTTP header could carry it as it is: every notification would be refused.
    pub fn new(secret: &SecretString) -> Result<Self, InvalidAuthId> {
        let text = secret.expose_secret().as_bytes();
        if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidAuthId);
        }
        Padded::new(text).map(Self).ok_or(InvalidAuthId)
    }

    /// Whether the request's headers hold exactly this auth id, once.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTH_ID_HEADER).iter();
        // Twice is refused even when one is right: a proxy that appends its own must not decide which of them counts.
        let (Some(value), None) = (given.next(), given.next()) else {
            return false;
        };
        Padded::new(value.as_bytes()).is_some_and(|given| given.equals(&self.0))
    }
}

impl std::fmt::Debug for AuthId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthId(..)")
    }
}

struct Padded {
    bytes: [u8; MAX_AUTH_ID_BYTES],
    len: u64,
}

impl Padded {
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_AUTH_ID_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bytes,
            len: text.len() as u64,
        })
    }

    fn equals(&self, other: &Self) -> bool {
        (self.bytes.as_slice().ct_eq(other.bytes.as_slice()) & self.len.ct_eq(&other.len)).into()
    }
}
