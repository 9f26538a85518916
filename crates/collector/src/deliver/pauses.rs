//! How long to wait before the next try, and which tenants are left alone meanwhile.

use std::collections::HashMap;
use std::hash::Hash as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use activity_api::TenantId;
use jiff::Timestamp;

/// How long to wait before try number `tries` + 1: doubling from one second to five minutes, less up to half so that what
/// failed together does not come back together. What part is cut off depends on `seed` alone (an id, a time): no chance
/// is needed, and a simulation repeats itself.
pub(super) fn plan_pause(tries: u32, seed: impl std::hash::Hash) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    let whole = Duration::from_secs(1)
        .saturating_mul(1 << tries.saturating_sub(1).min(20))
        .min(LONGEST);
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    (tries, seed).hash(&mut hasher);
    whole.mul_f64(1.0 - (hasher.digest() % 1_000) as f64 / 2_000.0)
}

/// Tenants that are left alone for the moment.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<TenantId, (Timestamp, u32)>>);

impl Pauses {
    const LONGEST: Duration = Duration::from_secs(15 * 60);

    /// Leaves the tenant alone: for half a minute first, then longer each time, up to a quarter of an hour.
    pub(crate) fn pause(&self, tenant: TenantId, now: Timestamp) -> Timestamp {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, count) = pauses.entry(tenant).or_insert((now, 0));
        if !Self::is_ahead(*until, now) {
            *until = now
                + Duration::from_secs(30)
                    .saturating_mul(1 << (*count).min(10))
                    .min(Self::LONGEST);
            *count += 1;
        }
        *until
    }

    /// The tenant works again.
    pub(crate) fn clear(&self, tenant: TenantId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tenant);
    }

    /// Whether the tenant is to be left alone at `now`.
    pub(crate) fn is_paused(&self, tenant: TenantId, now: Timestamp) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .is_some_and(|(until, _)| Self::is_ahead(*until, now))
    }

    /// All tenants to be left alone at `now`.
    pub(crate) fn paused(&self, now: Timestamp) -> Vec<TenantId> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses
            .iter()
            .filter(|(_, (until, _))| Self::is_ahead(*until, now))
            .map(|(tenant, _)| *tenant)
            .collect()
    }

    /// A pause that would last longer than any is one that began before the clock was set back.
    fn is_ahead(until: Timestamp, now: Timestamp) -> bool {
        until > now && until <= now + Self::LONGEST
    }
}
