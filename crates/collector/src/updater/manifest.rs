//! The release manifest: which version there is, where its package lies, who may have it. Signed, and nothing of it is
//! believed before a signature has been verified.
//!
//! # The form
//! An envelope, in JSON, holds the manifest's exact bytes in base64, and signatures over them:
//! `{"manifest":"…","signatures":[{"key_id":"…","signature":"…"}]}`. What is signed is [`SIGNED_PREFIX`] and behind it
//! those bytes, so that no signature made for another purpose fits. One good signature of a known key is enough: while
//! a key is replaced, a release carries one of the old and one of the new. The alternative, JSON with a signature inside,
//! needs a canonical form, and every canonical form has had its forgery.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use super::keys::{PublicKey, SigningKey};
use super::version::Version;
use super::{Sha256, public_url};

/// What stands before the manifest's bytes when they are signed.
const SIGNED_PREFIX: &[u8] = b"o365-collector release manifest 1\n";
/// The largest envelope that is looked at. A real one has about a kilobyte.
pub(super) const MAX_ENVELOPE_BYTES: usize = 64 * 1024;
/// The largest package that is downloaded. Ours has some ten megabytes.
pub(super) const MAX_PACKAGE_BYTES: u64 = 256 * 1024 * 1024;
/// Signatures beyond these are not looked at: each costs a verification.
const MAX_SIGNATURES: usize = 8;
/// No release waits longer than this to be old enough.
const MAX_MINIMUM_AGE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// A release, out of a manifest whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Which version it is.
    pub version: Version,
    /// Where its package lies.
    pub url: Url,
    /// What the package must hash to.
    pub sha256: Sha256,
    /// How many bytes the package has.
    pub size: u64,
    /// How many of a hundred sites may have it so far.
    pub rollout_percent: u8,
    /// How long after its publication it is first taken.
    pub minimum_age: SignedDuration,
    /// When it was published.
    pub published_at: Timestamp,
    /// The oldest version that it may replace: what is older must take a step in between.
    pub minimum_version: Version,
}

/// Why a manifest is not believed. Nothing of its text is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than anything that is one.
    #[error("the release manifest is longer than {MAX_ENVELOPE_BYTES} bytes")]
    TooLong,
    /// No envelope.
    #[error("not a release manifest: no JSON with `manifest` in base64 and `signatures`")]
    NoEnvelope,
    /// None of the signatures is by a key that we know.
    #[error(
        "the release manifest is signed by none of the known keys: if the release key was changed, set update.public_key"
    )]
    UnknownKey,
    /// A signature by a known key does not fit: the manifest was altered.
    #[error("the release manifest's signature does not fit: it was altered, and is not to be used")]
    BadSignature,
    /// Signed, and yet a field is missing or not what it must be.
    #[error("the release manifest is signed but unusable: {0}")]
    Unusable(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    manifest: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    key_id: String,
    signature: String,
}

/// The manifest's own JSON. Unknown fields are passed over, so that a later release may say more.
#[derive(Serialize, Deserialize)]
struct Fields {
    version: String,
    url: String,
    sha256: String,
    size: u64,
    rollout_percent: u8,
    minimum_age_secs: u64,
    published_at: String,
    minimum_version: String,
}

/// Verifies the envelope's signature with `keys`, and only then reads what it says.
///
/// # Errors
/// When it is not signed by one of `keys`, or what was signed is unusable.
pub fn verify(envelope: &[u8], keys: &[PublicKey]) -> Result<Manifest, ManifestError> {
    if envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(ManifestError::TooLong);
    }
    let envelope: Envelope =
        serde_json::from_slice(envelope).map_err(|_| ManifestError::NoEnvelope)?;
    let bytes = STANDARD
        .decode(&envelope.manifest)
        .map_err(|_| ManifestError::NoEnvelope)?;
    let message = signed_message(&bytes);
    let mut outcome = Err(ManifestError::UnknownKey);
    for signature in envelope.signatures.iter().take(MAX_SIGNATURES) {
        let Some(key) = keys.iter().find(|key| key.id() == signature.key_id) else {
            continue;
        };
        let is_good = STANDARD
            .decode(&signature.signature)
            .is_ok_and(|signature| key.has_signed(&message, &signature));
        if is_good {
            outcome = Ok(());
            break;
        }
        outcome = Err(ManifestError::BadSignature);
    }
    outcome?;
    Manifest::read(&bytes)
}

/// The envelope of a manifest signed with every one of `keys`, as text.
#[must_use]
pub fn sign(manifest: &Manifest, keys: &[SigningKey]) -> String {
    let fields = Fields {
        version: manifest.version.to_string(),
        url: manifest.url.to_string(),
        sha256: manifest.sha256.to_string(),
        size: manifest.size,
        rollout_percent: manifest.rollout_percent,
        minimum_age_secs: manifest.minimum_age.as_secs().unsigned_abs(),
        published_at: manifest.published_at.to_string(),
        minimum_version: manifest.minimum_version.to_string(),
    };
    let bytes = serde_json::to_vec_pretty(&fields).expect("texts and numbers always serialize");
    let message = signed_message(&bytes);
    let envelope = Envelope {
        manifest: STANDARD.encode(&bytes),
        signatures: keys
            .iter()
            .map(|key| Signature {
                key_id: key.public().id(),
                signature: STANDARD.encode(key.sign(&message)),
            })
            .collect(),
    };
    serde_json::to_string_pretty(&envelope).expect("texts always serialize")
}

fn signed_message(bytes: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, bytes].concat()
}

impl Manifest {
    fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        use ManifestError::Unusable;
        let fields: Fields = serde_json::from_slice(bytes)
            .map_err(|_| Unusable("a field is missing, or is of another type"))?;
        let version = fields
            .version
            .parse()
            .map_err(|_| Unusable("`version` is no version"))?;
        let minimum_version = fields
            .minimum_version
            .parse()
            .map_err(|_| Unusable("`minimum_version` is no version"))?;
        let url = public_url(&fields.url).ok_or(Unusable("`url` is no https url"))?;
        let sha256 = fields
            .sha256
            .parse()
            .map_err(|_| Unusable("`sha256` is not 64 hexadecimal digits"))?;
        if fields.size == 0 || fields.size > MAX_PACKAGE_BYTES {
            return Err(Unusable("`size` is no size of a package"));
        }
        if fields.rollout_percent > 100 {
            return Err(Unusable("`rollout_percent` is more than 100"));
        }
        let minimum_age = i64::try_from(fields.minimum_age_secs)
            .ok()
            .map(SignedDuration::from_secs)
            .filter(|age| *age <= MAX_MINIMUM_AGE)
            .ok_or(Unusable("`minimum_age_secs` is more than a year"))?;
        let published_at = fields
            .published_at
            .parse()
            .map_err(|_| Unusable("`published_at` is no time"))?;
        Ok(Self {
            version,
            url,
            sha256,
            size: fields.size,
            rollout_percent: fields.rollout_percent,
            minimum_age,
            published_at,
            minimum_version,
        })
    }

    /// When it is old enough to be taken.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        self.published_at
            .checked_add(self.minimum_age)
            .unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
pub(super) mod tests;
