//! What to do about an error. The only place that decides.

use std::{fmt, time::Duration};

use crate::{ApiErrorCode, Error, token::CredentialReason};

/// What to do about an [`Error`]. Loops match on this and on nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Send the same request again, after at least this long where Microsoft said so; otherwise after a growing, jittered pause.
    RetryAfter(Option<Duration>),
    /// Get a new token and send the request once more. A second refusal in a row is to be treated like `RetryAfter(None)`.
    Reauthenticate,
    /// This blob will not be had. The rest of the tenant goes on.
    GiveUpOnBlob(BlobReason),
    /// No request for this tenant can succeed until a person has acted. Look again now and then, not in a loop.
    StopTenant(TenantReason),
    /// Start the subscription, then send the request again. Where that was just done, treat it like `RetryAfter(None)`:
    /// Microsoft asks for 15 minutes between two starts.
    StartSubscription,
    /// Start the subscription without the webhook and poll. The webhook can be offered again when its address was mended.
    GoWithoutWebhook,
    /// Drop the pages of this listing, plan its window again from the present time and begin at the first page.
    /// Where that was just done, treat it like `RetryAfter(None)`.
    ListWindowAgain,
}

/// Why a blob will not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobReason {
    /// Past its time.
    Expired,
    /// Microsoft knows of none by that id.
    Missing,
    /// Microsoft takes the id for none.
    IdInvalid,
}

impl BlobReason {
    /// Whether asking again is pointless. The reference does not say that a missing blob stays missing, so it deserves a few more
    /// tries, well apart, before it is set aside; the other two never change.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Expired | Self::IdInvalid => true,
            Self::Missing => false,
        }
    }
}

impl fmt::Display for BlobReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it expired at Microsoft before it was fetched",
            Self::Missing => "Microsoft says that it does not exist",
            Self::IdInvalid => "Microsoft says that its id is invalid",
        })
    }
}

/// Why nothing of a tenant can be collected. Its text is a sentence that says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantReason {
    /// No token is issued.
    Credential(CredentialReason),
    /// A token is issued, but without the permission.
    PermissionMissing,
    /// There is nothing to read, because the tenant records nothing.
    AuditingOff,
    /// Microsoft refuses the tenant itself.
    Refused(ApiErrorCode),
}

impl fmt::Display for TenantReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Credential(reason) => return reason.fmt(f),
            Self::PermissionMissing => {
                "the application may not read the activity feed: add the application permission ActivityFeed.Read of \
                 Office 365 Management APIs to it and have an administrator of the tenant grant consent"
            }
            Self::AuditingOff => {
                "the tenant's unified audit log is off: turn auditing on in Microsoft Purview and wait up to an hour"
            }
            Self::Refused(ApiErrorCode::Af20010) => {
                "the token is for another tenant: give the id of the tenant that the application signs in to"
            }
            Self::Refused(ApiErrorCode::Af20011) => {
                "Microsoft knows no such tenant: check the tenant's id and cloud, and that its unified audit log was ever turned on"
            }
            Self::Refused(ApiErrorCode::Af20012) => {
                "Microsoft says that the tenant is misconfigured: ask Microsoft's support"
            }
            Self::Refused(code) => {
                return write!(
                    f,
                    "Microsoft refuses the tenant with {code}: check the tenant's id and cloud"
                );
            }
        };
        f.write_str(text)
    }
}

impl Error {
    /// What to do about it.
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Throttled { retry_after } | Self::ServiceFailed { retry_after, .. } => {
                NextStep::RetryAfter(*retry_after)
            }
            Self::BlobExpired => NextStep::GiveUpOnBlob(BlobReason::Expired),
            Self::BlobMissing => NextStep::GiveUpOnBlob(BlobReason::Missing),
            Self::BlobIdInvalid => NextStep::GiveUpOnBlob(BlobReason::IdInvalid),
            Self::SubscriptionMissing | Self::SubscriptionDisabled => NextStep::StartSubscription,
            Self::WindowRefused { .. } | Self::PageTokenRefused => NextStep::ListWindowAgain,
            Self::TokenRefused { .. } => NextStep::Reauthenticate,
            Self::PermissionMissing => NextStep::StopTenant(TenantReason::PermissionMissing),
            Self::AuditingOff { .. } => NextStep::StopTenant(TenantReason::AuditingOff),
            Self::TenantRefused { code } => {
                NextStep::StopTenant(TenantReason::Refused(code.clone()))
            }
            Self::CredentialRefused { reason, .. } => {
                NextStep::StopTenant(TenantReason::Credential(*reason))
            }
            Self::WebhookRefused { .. } => NextStep::GoWithoutWebhook,
            // Retried although nothing here will change, because a window or blob that is given up for one strange reply is
            // lost for good, while a slow retry costs little and ends when either side was mended.
            Self::RequestRefused { .. }
            | Self::Malformed { .. }
            | Self::UntrustedUri(_)
            | Self::Unexpected { .. } => NextStep::RetryAfter(None),
        }
    }
}

#[cfg(test)]
mod tests;
