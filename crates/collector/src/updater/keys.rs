//! The Ed25519 keys that releases are signed with, and the form in which each half is kept.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// What a public key's text begins with. Another kind of key would begin otherwise.
const PREFIX: &str = "ed25519:";

/// The keys of this build's releases, given when it was compiled. There are none in a build that nobody gave any, and
/// then the configuration must name one: a key that came with the sources would be everybody's.
const BUILT_IN: Option<&str> = option_env!("O365_COLLECTOR_RELEASE_KEY");

/// The half of a release key that verifies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be public keys as `o365-collector release keygen` prints them: ed25519: and 44 characters of base64 each, \
     with commas between"
)]
pub struct InvalidPublicKey;

impl PublicKey {
    /// What a signature names its key by: the first eight bytes of the key's SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        super::hex(digest.as_ref().get(..8).unwrap_or_default())
    }

    /// Several keys with commas between, as during a change from one to another.
    ///
    /// # Errors
    /// When one of them is none, or there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidPublicKey> {
        text.split(',').map(|key| key.trim().parse()).collect()
    }

    /// The keys that were built in; none where this build has none.
    ///
    /// # Errors
    /// When what was built in is no list of keys.
    pub fn built_in() -> Result<Vec<Self>, InvalidPublicKey> {
        match BUILT_IN {
            Some(text) if !text.trim().is_empty() => Self::parse_list(text),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<Self, InvalidPublicKey> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidPublicKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidPublicKey)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidPublicKey)?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A whole release key. Its secret half never leaves this type but through [`SigningKey::generate`].
pub struct SigningKey(Ed25519KeyPair);

/// Why there is no signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSigningKey {
    /// The file is something else.
    #[error(
        "not an Ed25519 private key in PEM form (PKCS#8): make one with `o365-collector release keygen`, or with \
         `openssl genpkey -algorithm ed25519`"
    )]
    Unreadable,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers to make a key of")]
    NoRandomNumbers,
}

impl SigningKey {
    /// A new key, and the PEM text (PKCS#8) of its secret half, which whoever calls must keep from everybody else.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<(Self, Zeroizing<String>), InvalidSigningKey> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| InvalidSigningKey::NoRandomNumbers)?;
        let encoded = Zeroizing::new(STANDARD.encode(pkcs8.as_ref()));
        let mut pem = Zeroizing::new("-----BEGIN PRIVATE KEY-----\n".to_owned());
        for (index, character) in encoded.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        let key = Self::from_pem(pem.as_bytes())?;
        Ok((key, pem))
    }

    /// Reads the PEM text of a private key.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidSigningKey> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| InvalidSigningKey::Unreadable)?;
        // Without the check that the public half in the file fits: OpenSSL writes none.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| InvalidSigningKey::Unreadable)
    }

    /// The half that verifies.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 key has 32 bytes"))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}
