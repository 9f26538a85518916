//! AIMS, the identity service: an access key becomes a [`Token`], which every other request carries.

pub mod keys;

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Endpoint, Error, Reply, reply::bare_request};

#[cfg(test)]
pub(crate) mod tests;

/// How long before its end a token is renewed, as the vendor's libraries do. A request that is under way when its
/// token runs out is refused, so this is longer than any request takes.
const RENEWAL: SignedDuration = SignedDuration::from_secs(600);

/// Asks for a token: HTTP Basic with an access key (a user's name and password work as well), without a body.
///
/// # Errors
/// [`InvalidAccessKey`] when the two cannot be told apart at the other side.
pub fn authenticate_request(
    api: &Endpoint,
    access_key_id: &str,
    secret_key: &SecretString,
) -> Result<Request<Bytes>, InvalidAccessKey> {
    if access_key_id.is_empty() || access_key_id.contains(':') {
        return Err(InvalidAccessKey);
    }
    let pair = Zeroizing::new(format!("{access_key_id}:{}", secret_key.expose_secret()));
    let header = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::from_str(&header).expect("base64 is made of header characters");
    header.set_sensitive(true);
    let mut request = bare_request(api, Method::POST, "/aims/v1/authenticate", Bytes::new());
    request.headers_mut().insert(header::AUTHORIZATION, header);
    Ok(request)
}

/// An access key id that HTTP Basic cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access key id is empty or has a colon in it")]
pub struct InvalidAccessKey;

/// The proof of identity, and whose it is. Kept in memory only: the vendor's libraries write it to a file that anyone
/// on the machine may read.
pub struct Token {
    secret: SecretString,
    account_id: String,
    expires_at: Timestamp,
    renew_at: Timestamp,
}

impl Token {
    /// The account that every path names.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// When it runs out, UTC. About six hours after it was issued.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Whether a new one should be asked for: 600 s before it runs out, or at half its life when that is short. Without
    /// the latter a service that issues short-lived ones would be asked for one before every request.
    #[must_use]
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        now >= self.renew_at
    }

    /// Whether no service takes it any more.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(self.secret.expose_secret())
            .expect("read_token refuses what no header can carry");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("account_id", &self.account_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Reads the reply to [`authenticate_request`].
///
/// # Errors
/// [`Error::NotAuthorized`] when the access key is not accepted, and whatever else a reply can be.
pub fn read_token(reply: &Reply, now: Timestamp) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Answer {
        authentication: Authentication,
    }
    #[derive(Deserialize)]
    struct Authentication {
        account: Account,
        token: String,
        token_expiration: i64,
    }
    #[derive(Deserialize)]
    struct Account {
        id: serde_json::Value,
    }

    let Answer { authentication } = reply.read_json(
        now,
        "no authentication with an account, a token and its expiration",
    )?;
    let secret = SecretString::from(authentication.token);
    let account_id = match authentication.account.id {
        serde_json::Value::String(id) => id,
        serde_json::Value::Number(id) => id.to_string(),
        _ => String::new(),
    };
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if account_id.is_empty() || account_id.len() > 64 || !account_id.bytes().all(is_plain) {
        return Err(Error::Malformed {
            what: "the account's id is no id",
        });
    }
    let text = secret.expose_secret();
    if text.is_empty() || HeaderValue::from_str(text).is_err() {
        return Err(Error::Malformed {
            what: "the token is empty or has characters that no header can carry",
        });
    }
    let expires_at =
        Timestamp::from_second(authentication.token_expiration).map_err(|_| Error::Malformed {
            what: "the token's expiration is no time",
        })?;
    let half_life = (expires_at.duration_since(now) / 2).max(SignedDuration::ZERO);
    let renew_at = expires_at - RENEWAL.min(half_life);
    Ok(Token {
        secret,
        account_id,
        expires_at,
        renew_at,
    })
}
