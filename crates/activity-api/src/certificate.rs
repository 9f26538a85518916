//! A certificate in place of a secret: the application signs a statement about itself with its private key, and the
//! sign-in service knows the certificate that fits.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair,
    signature::RSA_PSS_SHA256,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;
use webpki::{EndEntityCert, KeyUsage, ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY};

use crate::{ClientId, Origin, TenantId, token::token_endpoint};

/// For how long a statement is good. Microsoft's page on certificate credentials wants five to ten minutes at most.
const GOOD_FOR: SignedDuration = SignedDuration::from_mins(9);
/// From how long ago on: this machine's clock may be ahead of Microsoft's.
const GOOD_BEFORE: SignedDuration = SignedDuration::from_mins(1);

/// What is signed to see whether a key and a certificate belong together.
const TRIAL: &[u8] = b"does this key belong to this certificate?";

/// An application's certificate with its private key. Its `Debug` shows no more than the certificate's thumbprint.
#[derive(Clone)]
pub struct ApplicationCertificate {
    key: Arc<KeyPair>,
    /// SHA-256 of the certificate's DER, in Base64url: what the sign-in service finds it by.
    thumbprint: String,
    ends_at: Option<Timestamp>,
}

/// Why a text is no certificate to sign in with. Quotes none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// It has no items in it, or one that is damaged.
    #[error("it is not in PEM form")]
    NotPem,
    /// No key.
    #[error(
        "there is no private key in it: it must have a `BEGIN PRIVATE KEY` block beside the certificate's"
    )]
    NoKey,
    /// A key that only a passphrase opens.
    #[error("its private key is encrypted: put in what `openssl pkey -in KEYFILE` makes of it")]
    Encrypted,
    /// A key of another kind or length.
    #[error(
        "its private key is no RSA key of 2048 to 4096 bits, and Microsoft takes no other kind"
    )]
    NotRsa,
    /// No certificate.
    #[error(
        "there is no certificate in it: it must have the `BEGIN CERTIFICATE` block that was uploaded to the application beside \
         the private key"
    )]
    NoCertificate,
    /// None that the key belongs to.
    #[error("its private key does not belong to its certificate")]
    NotThatKey,
}

/// No statement was signed: the system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be signed with the certificate's key: the system gives no random numbers")]
pub struct NotSigned;

impl ApplicationCertificate {
    /// From PEM: a private key (PKCS #8 or PKCS #1) and the certificate that it belongs to, among others perhaps. Line feeds may
    /// be written as `\n`, as in variables that take one line.
    ///
    /// # Errors
    /// Why it cannot be used, and how to mend it.
    pub fn from_pem(text: &SecretString) -> Result<Self, InvalidCertificate> {
        let text = text.expose_secret();
        let unfolded =
            (!text.contains('\n')).then(|| SecretString::from(text.replace("\\n", "\n")));
        let text = unfolded.as_ref().map_or(text, |text| text.expose_secret());
        let key = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => KeyPair::from_der(der.secret_pkcs1_der()),
            Ok(_) => return Err(InvalidCertificate::NotRsa),
            Err(pem::Error::NoItemsFound) if text.contains("ENCRYPTED") => {
                return Err(InvalidCertificate::Encrypted);
            }
            Err(pem::Error::NoItemsFound) if text.contains("-----BEGIN") => {
                return Err(InvalidCertificate::NoKey);
            }
            Err(_) => return Err(InvalidCertificate::NotPem),
        };
        let key = key.map_err(|_| InvalidCertificate::NotRsa)?;
        let signature = sign(&key, TRIAL).map_err(|_| InvalidCertificate::NotRsa)?;
        let mut found = Err(InvalidCertificate::NoCertificate);
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|_| InvalidCertificate::NotPem)?;
            if has_signed(&certificate, TRIAL, &signature) {
                found = Ok(certificate);
                break;
            }
            found = Err(InvalidCertificate::NotThatKey);
        }
        let certificate = found?;
        Ok(Self {
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)),
            ends_at: end_of(&certificate),
            key: Arc::new(key),
        })
    }

    /// The certificate's last second, behind which the sign-in service takes no statement signed with its key. Nothing where
    /// it ends beyond any time that can be told.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// A statement that its bearer is this application, for a request that is sent now: the proof of one
    /// [`token_request`](crate::token_request) to `login`. From Microsoft's page on certificate credentials.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn statement(
        &self,
        login: &Origin,
        tenant: TenantId,
        client_id: ClientId,
        now: Timestamp,
    ) -> Result<SecretString, NotSigned> {
        let head = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = json!({
            "aud": token_endpoint(login, tenant),
            "iss": client_id.to_string(),
            "sub": client_id.to_string(),
            "jti": Uuid::new_v4(),
            "nbf": now.saturating_sub(GOOD_BEFORE).map_or(0, Timestamp::as_second),
            "iat": now.as_second(),
            "exp": now.saturating_add(GOOD_FOR).map_or(0, Timestamp::as_second),
        });
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{head}.{claims}");
        let signature = sign(&self.key, signed.as_bytes())?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(SecretString::from(format!("{signed}.{signature}")))
    }
}

fn sign(key: &KeyPair, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
        .map_err(|_| NotSigned)?;
    Ok(signature)
}

/// Whether the certificate's key has made this signature.
fn has_signed(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|certificate| {
        let by = RSA_PSS_2048_8192_SHA256_LEGACY_KEY;
        certificate.verify_signature(by, message, signature).is_ok()
    })
}

/// The certificate's `notAfter`. The library keeps it to itself, but tells a certificate that has ended from others before it
/// looks at who issued it; and at the end of time every certificate has.
fn end_of(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = KeyUsage::client_auth();
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    match parsed.verify_for_usage(&[], &[], &[], end_of_time, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}

impl fmt::Debug for ApplicationCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplicationCertificate")
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}
