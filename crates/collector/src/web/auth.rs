//! The secret that Microsoft repeats with every request to the webhook, and comparing a guess with it without telling how good the
//! guess was.

use std::time::Duration;

use activity_api::AUTH_ID_HEADER;
use http::HeaderMap;
use jiff::Timestamp;
use ledger::Ledger;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::auth_ids;

/// How old what is known of the ledger's auth ids may be while an unknown one is presented. Whoever puts a new one in
/// force waits as long before it is used.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(3);
/// As long as a stranger's request is worth.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(2);

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
        Padded::given(headers).is_some_and(|given| given.equals(&self.0))
    }
}

/// Those that the ledger has: another process may have put one in force since this one started.
#[derive(Default)]
pub(super) struct Remembered(tokio::sync::Mutex<Known>);

#[derive(Default)]
struct Known {
    ids: Vec<AuthId>,
    asked_at: Option<tokio::time::Instant>,
}

impl Remembered {
    /// Whether the request's headers hold exactly one of them, once. Asks the ledger when they do not, but not more
    /// often than every [`ASK_AGAIN`]: strangers must not make it work.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        ledger: &dyn Ledger,
        now: Timestamp,
    ) -> bool {
        let Some(given) = Padded::given(headers) else {
            return false;
        };
        let mut known = self.0.lock().await;
        if known.admits(&given) {
            return true;
        }
        if known.asked_at.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return false;
        }
        known.asked_at = Some(tokio::time::Instant::now());
        match tokio::time::timeout(LEDGER_TIMEOUT, auth_ids::recall(ledger, now)).await {
            Ok(Ok(ids)) => {
                let ids = ids
                    .into_iter()
                    .flat_map(|ids| [Some(ids.current), ids.previous]);
                known.ids = ids
                    .flatten()
                    .filter_map(|id| AuthId::new(&id).ok())
                    .collect();
            }
            Ok(Err(error)) => {
                let cause = &error as &dyn std::error::Error;
                tracing::warn!(cause, "the ledger does not tell the auth ids");
            }
            Err(_elapsed) => tracing::warn!("the ledger does not tell the auth ids in time"),
        }
        known.admits(&given)
    }
}

impl Known {
    fn admits(&self, given: &Padded) -> bool {
        self.ids.iter().any(|id| given.equals(&id.0))
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
    /// The auth id that the headers hold, when they hold one. Twice is refused even when one is right: a proxy that
    /// appends its own must not decide which of them counts.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(AUTH_ID_HEADER).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return None;
        };
        Self::new(value.as_bytes())
    }

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
