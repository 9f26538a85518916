//! Getting a token: the request for one, and the reply in the shapes of both of Microsoft's endpoints.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{ClientId, Error, Origin, Reply, TenantId, error};

/// An application, and what it proves itself with.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationGrant<'a> {
    /// The application.
    pub client_id: ClientId,
    /// What the sign-in service knows it by.
    pub proof: Proof<'a>,
}

/// What an application proves itself with.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// A secret's value, not its id.
    Secret(&'a SecretString),
    /// A signed statement: a token of an issuer that the application trusts by a federated credential (workload identity
    /// federation), or [one of its own](crate::ApplicationCertificate::statement).
    Assertion(&'a SecretString),
}

/// What kind of assertion it is. From Microsoft's page on the client credentials flow, third case.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Asks for a token at the v2 endpoint, with the scope `<resource>/.default`. `resource` is the root of the service that the
/// token is for: [`Hosts::activity`](crate::Hosts::activity) of the tenant's cloud.
///
/// The request's body has the proof in it: never log it.
pub fn token_request(
    login: &Origin,
    tenant: TenantId,
    resource: &Origin,
    grant: &ApplicationGrant,
) -> Request<Bytes> {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &grant.client_id.to_string());
    match grant.proof {
        Proof::Secret(secret) => body.append_pair("client_secret", secret.expose_secret()),
        Proof::Assertion(token) => body
            .append_pair("client_assertion_type", ASSERTION_TYPE)
            .append_pair("client_assertion", token.expose_secret()),
    };
    let body = body
        .append_pair("scope", &format!("{resource}/.default"))
        .finish();
    Request::builder()
        .method(Method::POST)
        .uri(token_endpoint(login, tenant))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Bytes::from(body))
        .expect("an origin and a GUID make a uri")
}

/// Where it is asked for.
pub(crate) fn token_endpoint(login: &Origin, tenant: TenantId) -> String {
    format!("{login}/{tenant}/oauth2/v2.0/token")
}

/// A bearer token. Its text is never shown.
#[derive(Clone)]
pub struct AccessToken {
    /// Made once: there is a request for each blob, and a token is kilobytes.
    authorization: HeaderValue,
    expires_at: Timestamp,
}

impl AccessToken {
    /// A token as a service answered it: `now` is when the request was sent, so that the token is never taken to live longer
    /// than it does.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it fits no header or has expired.
    pub fn new(text: SecretString, expires_at: Timestamp, now: Timestamp) -> Result<Self, Error> {
        // Microsoft's tokens are Base64url with dots. Graphic characters are what a header takes in any case.
        let is_sendable = text
            .expose_secret()
            .bytes()
            .all(|byte| byte.is_ascii_graphic());
        let length = text.expose_secret().len();
        if !is_sendable || !(1..=LONGEST_TOKEN).contains(&length) || expires_at <= now {
            return Err(MALFORMED);
        }
        let latest = now.checked_add(LONGEST_LIFETIME).map_err(|_| MALFORMED)?;
        let authorization = format!("Bearer {}", text.expose_secret());
        let mut authorization = HeaderValue::try_from(authorization).map_err(|_| MALFORMED)?;
        authorization.set_sensitive(true);
        Ok(Self {
            authorization,
            expires_at: expires_at.min(latest),
        })
    }

    /// When it stops being taken, by this machine's clock.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The value of the `Authorization` header, marked as sensitive. Only for requests to a trusted uri.
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Far over the size of any token that was seen. A larger one would be refused by servers for the size of its header.
const LONGEST_TOKEN: usize = 32 * 1024;

/// Managed identities get tokens for up to 24 hours. A longer promise is not believed, so that a wrong number costs one refused request
/// instead of never renewing.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const MALFORMED: Error = Error::Malformed {
    what: "a bearer token with its lifetime",
};

#[derive(Deserialize)]
struct TokenReply {
    token_type: Option<String>,
    expires_in: Option<Count>,
    expires_on: Option<Count>,
    access_token: String,
}

/// The v1 endpoint writes numbers as strings, the v2 endpoint as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(i64),
    Text(String),
}

impl Count {
    fn value(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// Reads the answer to [`token_request`], in the shape of the v1 or of the v2 endpoint.
///
/// `now` is the time at which the request was sent, so that the token is never taken to live longer than it does.
///
/// # Errors
/// [`Error::CredentialRefused`] where a person must act, [`Error::Throttled`] and [`Error::ServiceFailed`] where waiting helps,
/// [`Error::Malformed`] where there is no usable token in a success.
pub fn read_token(reply: &Reply, now: Timestamp) -> Result<AccessToken, Error> {
    if !reply.status.is_success() {
        return Err(read_token_error(reply));
    }
    let TokenReply {
        token_type,
        expires_in,
        expires_on,
        access_token,
    } = serde_json::from_slice(error::without_bom(&reply.body)).map_err(|_| MALFORMED)?;
    let text = SecretString::from(access_token);
    let is_bearer = token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer {
        return Err(MALFORMED);
    }
    // `expires_in` first: it does not depend on this machine's clock being right.
    let lifetime_secs = match (expires_in, expires_on) {
        (Some(secs), _) => secs.value(),
        (None, Some(at)) => at.value().map(|at| at.saturating_sub(now.as_second())),
        (None, None) => None,
    };
    let lifetime = lifetime_secs
        .and_then(|secs| u64::try_from(secs).ok())
        .filter(|secs| *secs > 0)
        .map(|secs| Duration::from_secs(secs).min(LONGEST_LIFETIME))
        .ok_or(MALFORMED)?;
    let expires_at = now.checked_add(lifetime).map_err(|_| MALFORMED)?;
    AccessToken::new(text, expires_at, now)
}

/// Why the sign-in service will not issue a token. Its text says how to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialReason {
    /// The secret is wrong.
    SecretWrong,
    /// The secret is past its date.
    SecretExpired,
    /// The application is not known in the tenant.
    ClientUnknown,
    /// The certificate is not registered with the application.
    CertificateUnknown,
    /// A signed assertion is outside of its time.
    AssertionTime,
    /// There is no such tenant.
    TenantUnknown,
    /// The scope cannot be read.
    ScopeInvalid,
    /// The service asked for is not known in the tenant.
    ResourceUnknown,
    /// No federated credential matches the assertion.
    FederationMismatch,
    /// A policy of the tenant forbids it.
    PolicyForbids,
    /// No managed identity answers, or none may be used here.
    IdentityUnknown,
    /// Some other reason.
    Other,
}

impl fmt::Display for CredentialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretWrong => "the client secret is wrong: give the secret's value, not its id",
            Self::SecretExpired => "the client secret has expired: make a new one for the application and give it to the collector",
            Self::ClientUnknown => {
                "the application is not known in the tenant: check the client id and the tenant's id, and that an administrator granted consent"
            }
            Self::CertificateUnknown => "the certificate is not registered with the application: upload it there",
            Self::AssertionTime => "the signed assertion is outside of its time: set this machine's clock right",
            Self::TenantUnknown => "there is no such tenant: check the tenant's id and cloud",
            Self::ScopeInvalid => "the scope is invalid: check the cloud and the hosts in the configuration",
            Self::ResourceUnknown => {
                "the Office 365 Management APIs are not known in the tenant: check the tenant's cloud, and that it has an Office 365 subscription"
            }
            Self::FederationMismatch => {
                "no federated credential of the application matches: check its issuer, subject and audience"
            }
            Self::PolicyForbids => "a conditional access policy forbids it: except the application or this machine's address from it",
            Self::IdentityUnknown => {
                "there is no such managed identity here: turn the system-assigned identity on, or assign the one that is configured"
            }
            Self::Other => "the sign-in service refuses the application: look up the AADSTS number, and check the client id, its secret and the tenant's id",
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenErrorReply {
    error: Option<String>,
    error_description: Option<String>,
    error_codes: Option<Vec<u64>>,
}

fn read_token_error(reply: &Reply) -> Error {
    let status = reply.status;
    let retry_after = reply.retry_after();
    let said: TokenErrorReply =
        serde_json::from_slice(error::without_bom(&reply.body)).unwrap_or_default();
    let aadsts = said
        .error_codes
        .unwrap_or_default()
        .first()
        .and_then(|number| u32::try_from(*number).ok())
        .or_else(|| aadsts_in(said.error_description.as_deref()?));
    let error = said.error.unwrap_or_default();

    if status == StatusCode::TOO_MANY_REQUESTS {
        return Error::Throttled { retry_after };
    }
    // Before the number is looked at: a server that fails is no judge of a credential.
    let is_passing = status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
        || matches!(error.as_str(), "temporarily_unavailable" | "server_error")
        || matches!(aadsts, Some(50_196 | 90_033 | 90_055));
    if is_passing {
        return Error::ServiceFailed {
            status,
            code: None,
            retry_after,
        };
    }
    if let Some(reason) = aadsts.and_then(meaning_of_aadsts) {
        return Error::CredentialRefused { reason, aadsts };
    }
    // Only a refusal in the sign-in service's own form is a verdict on the credential. Any other text may be a proxy's.
    if aadsts.is_some() || !error.is_empty() {
        return Error::CredentialRefused {
            reason: CredentialReason::Other,
            aadsts,
        };
    }
    Error::Unexpected {
        status,
        code: None,
        message: String::new(),
    }
}

impl Error {
    /// A refusal of a credential, as the AADSTS number in `description` words it; without one, for the reason `otherwise`.
    /// For services that hand the sign-in service's refusals on in a form of their own.
    pub fn credential_refused(description: &str, otherwise: CredentialReason) -> Self {
        let aadsts = aadsts_in(description);
        let reason = match aadsts {
            Some(number) => meaning_of_aadsts(number).unwrap_or(CredentialReason::Other),
            None => otherwise,
        };
        Self::CredentialRefused { reason, aadsts }
    }
}

/// The numbers with a meaning, from Microsoft's list of AADSTS codes.
fn meaning_of_aadsts(number: u32) -> Option<CredentialReason> {
    Some(match number {
        7_000_215 => CredentialReason::SecretWrong,
        7_000_222 => CredentialReason::SecretExpired,
        700_016 => CredentialReason::ClientUnknown,
        700_027 => CredentialReason::CertificateUnknown,
        700_024 => CredentialReason::AssertionTime,
        90_002 | 900_023 => CredentialReason::TenantUnknown,
        70_011 => CredentialReason::ScopeInvalid,
        50_001 | 500_011 => CredentialReason::ResourceUnknown,
        70_021 | 700_211..=700_213 => CredentialReason::FederationMismatch,
        53_003 | 530_003 => CredentialReason::PolicyForbids,
        _ => return None,
    })
}

fn aadsts_in(description: &str) -> Option<u32> {
    let (_, after) = description.split_once("AADSTS")?;
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .map_or(after, |end| &after[..end]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
