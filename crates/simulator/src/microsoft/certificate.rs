//! The certificate that an application is known by, and the statements that its key signed.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use webpki::EndEntityCert;
use webpki::ring::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256_LEGACY_KEY};

use crate::Error;

/// Where a statement says which key signed it.
const THUMBPRINT: &str = "x5t#S256";

/// A certificate that was uploaded to the applications.
#[derive(Debug)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    /// The ids of the statements that were taken: none is taken twice.
    seen: Mutex<HashSet<String>>,
}

/// Why a statement is refused: Entra's number and text.
pub(crate) type Refusal = (u64, &'static str);

const UNKNOWN: Refusal = (
    700_027,
    "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application.",
);
const NOT_SIGNED: Refusal = (
    700_027,
    "AADSTS700027: Client assertion failed signature validation.",
);
const OTHER_APPLICATION: Refusal = (
    700_021,
    "AADSTS700021: Client assertion application identifier doesn't match 'client_id' parameter.",
);
const OTHER_AUDIENCE: Refusal = (
    700_023,
    "AADSTS700023: Client assertion audience claim does not match Realm issuer.",
);
const OUT_OF_TIME: Refusal = (
    700_024,
    "AADSTS700024: Client assertion is not within its valid time range.",
);
const REPLAYED: Refusal = (700_027, "AADSTS700027: Client assertion was used before.");

impl Certificate {
    /// The first certificate in a PEM text.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, Error> {
        let refused = |_| Error::Option {
            name: "certificate_pem",
            reason: "holds no certificate".to_owned(),
        };
        Ok(Self {
            der: CertificateDer::from_pem_slice(pem.as_bytes()).map_err(refused)?,
            seen: Mutex::default(),
        })
    }

    /// Whether this is a statement of the application's about itself, made for this endpoint and this time, and new.
    pub(crate) fn check(
        &self,
        statement: &str,
        client_id: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (signed, signature) = statement.rsplit_once('.').ok_or(UNKNOWN)?;
        let (head, claims) = signed.split_once('.').ok_or(UNKNOWN)?;
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        let head = part(head).ok_or(UNKNOWN)?;
        if head[THUMBPRINT] != URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.der)) {
            return Err(UNKNOWN);
        }
        let algorithm = match head["alg"].as_str() {
            Some("PS256") => RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            Some("RS256") => RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(NOT_SIGNED),
        };
        let certificate = EndEntityCert::try_from(&self.der).map_err(|_| UNKNOWN)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NOT_SIGNED)?;
        certificate
            .verify_signature(algorithm, signed.as_bytes(), &signature)
            .map_err(|_| NOT_SIGNED)?;
        let claims = part(claims).ok_or(NOT_SIGNED)?;
        let is_client = |name: &str| {
            let id = claims[name].as_str();
            id.is_some_and(|id| id.eq_ignore_ascii_case(client_id))
        };
        if !is_client("iss") || !is_client("sub") {
            return Err(OTHER_APPLICATION);
        }
        if claims["aud"] != audience {
            return Err(OTHER_AUDIENCE);
        }
        let second = |name: &str| claims[name].as_i64();
        let is_in_time = second("nbf").is_some_and(|from| from <= now.as_second())
            && second("exp").is_some_and(|until| now.as_second() < until);
        if !is_in_time {
            return Err(OUT_OF_TIME);
        }
        let id = claims["jti"].as_str().ok_or(NOT_SIGNED)?.to_owned();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.insert(id) {
            true => Ok(()),
            false => Err(REPLAYED),
        }
    }
}
