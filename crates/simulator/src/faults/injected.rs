//! Things that go wrong on purpose: the next N requests of a kind are answered with an error in place of being served.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::RequestKind;

/// An error for the next requests of one kind. Faults of one kind are used up in the order in which they were set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which requests it meets.
    pub kind: RequestKind,
    /// How many requests it meets.
    pub count: u32,
    /// What happens to them.
    #[serde(flatten)]
    pub action: FaultAction,
}

/// What happens to a request that meets a fault. In each case nothing of the request is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum FaultAction {
    /// Answered with this status and the body that the service gives with it: AF50000 for Microsoft's 5xx, the body of
    /// "Authorization has been denied" for its 401, HEC's busy code for its 503.
    Status {
        /// The HTTP status, 400 to 599.
        status: u16,
    },
    /// Microsoft's throttling: AF429 with the given status, which is 403 in captured traffic.
    Throttled {
        /// 403 or 429.
        status: u16,
    },
    /// The connection is closed without an answer.
    Hangup,
}

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    faults: Vec<Fault>,
    latency: Option<Duration>,
}

impl FaultPlan {
    pub(crate) fn new(latency: Option<Duration>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                faults: Vec::new(),
                latency,
            }),
        }
    }

    pub(crate) fn add(&self, fault: Fault) {
        if fault.count > 0 {
            self.lock().faults.push(fault);
        }
    }

    pub(crate) fn set_latency(&self, latency: Option<Duration>) {
        self.lock().latency = latency;
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.lock().latency
    }

    /// What the next request of this kind meets. Uses up one count.
    pub(crate) fn take(&self, kind: RequestKind) -> Option<FaultAction> {
        let mut inner = self.lock();
        let position = inner.faults.iter().position(|fault| fault.kind == kind)?;
        let fault = inner.faults.get_mut(position)?;
        fault.count -= 1;
        let action = fault.action.clone();
        if fault.count == 0 {
            inner.faults.remove(position);
        }
        Some(action)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
