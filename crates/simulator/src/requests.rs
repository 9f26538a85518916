//! Which requests came, by kind and status, and whether a token was seen where it does not belong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What a request asked for. The names of the variants are those of the operations.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// A token of Entra, v1 or v2.
    Token,
    /// `subscriptions/start`.
    Start,
    /// `subscriptions/stop`.
    Stop,
    /// `subscriptions/list`.
    List,
    /// `subscriptions/content`.
    Content,
    /// `subscriptions/notifications`.
    Notifications,
    /// `audit/{contentId}`.
    Blob,
    /// `resources/dlpSensitiveTypes`.
    DlpSensitiveTypes,
    /// AIMS `authenticate`.
    Authenticate,
    /// AIMS roles.
    Roles,
    /// AIMS access keys: create, list, delete.
    AccessKeys,
    /// The endpoints service.
    Endpoints,
    /// Azcollect registration.
    Register,
    /// Azcollect check-in.
    CheckIn,
    /// Azcollect deregistration.
    Deregister,
    /// Ingest `logmsgs`.
    Logmsgs,
    /// Ingest `lmcstats`.
    Lmcstats,
    /// HEC `event`.
    HecEvent,
    /// HEC `ack`.
    HecAck,
    /// HEC `health`.
    HecHealth,
    /// A call that the simulator made to a webhook to validate it; its status is the webhook's answer, 0 for none.
    WebhookValidation,
    /// A call that the simulator made to a webhook with notifications; its status is the webhook's answer, 0 for none.
    WebhookNotification,
    /// Azure Resource Manager: the function app itself.
    Site,
    /// Azure Resource Manager: `config/appsettings/list`.
    ListSettings,
    /// Azure Resource Manager: `PUT config/appsettings`.
    PutSettings,
    /// Azure Resource Manager: `sync`, which deploys from source control.
    SyncRepository,
    /// Azure Resource Manager: `syncfunctiontriggers` and `host/default/sync`.
    SyncTriggers,
    /// A token for a managed identity, by any of its three protocols.
    IdentityToken,
    /// Anything that came to the stranger's port.
    Stranger,
    /// A request for something that no service has.
    Unknown,
}

/// What was asked so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// How many requests of each kind were answered with each status.
    pub counts: Vec<RequestCount>,
    /// Requests to the Activity API without `PublisherIdentifier`.
    pub without_publisher: u64,
    /// Requests that brought a secret to a place where it must never go: any bearer token to Alert Logic, HEC, the managed
    /// identity or the stranger; a bearer token for one of Microsoft's services to another; a token of AIMS to anyone but
    /// Alert Logic; the managed identity's header to anyone but that.
    pub leaked_tokens: u64,
}

/// One row of [`Requests`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestCount {
    /// What was asked for.
    pub kind: RequestKind,
    /// The HTTP status of the answer.
    pub status: u16,
    /// How often.
    pub count: u64,
}

impl Requests {
    /// How many requests of a kind came, whatever the answer.
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.counts
            .iter()
            .filter(|row| row.kind == kind)
            .map(|row| row.count)
            .sum()
    }

    /// How many requests of a kind were answered with a status.
    pub fn with_status(&self, kind: RequestKind, status: u16) -> u64 {
        self.counts
            .iter()
            .filter(|row| row.kind == kind && row.status == status)
            .map(|row| row.count)
            .sum()
    }
}

/// Where the services note what came.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<(RequestKind, u16), u64>,
    without_publisher: u64,
    leaked_tokens: u64,
}

impl RequestLog {
    pub(crate) fn note(&self, kind: RequestKind, status: u16) {
        *self.lock().counts.entry((kind, status)).or_default() += 1;
    }

    pub(crate) fn note_without_publisher(&self) {
        self.lock().without_publisher += 1;
    }

    pub(crate) fn note_leaked_token(&self) {
        self.lock().leaked_tokens += 1;
    }

    pub(crate) fn snapshot(&self) -> Requests {
        let inner = self.lock();
        Requests {
            counts: inner
                .counts
                .iter()
                .map(|(&(kind, status), &count)| RequestCount {
                    kind,
                    status,
                    count,
                })
                .collect(),
            without_publisher: inner.without_publisher,
            leaked_tokens: inner.leaked_tokens,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
