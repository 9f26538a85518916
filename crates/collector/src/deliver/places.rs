//! The places for fetches, and how tenants share them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use activity_api::TenantId;
use tokio::time::Instant;

use super::in_flight::InFlight;
use crate::microsoft::Microsoft;

/// The blobs that are being fetched, by task, and how many of each tenant.
pub(super) struct Carried {
    /// With when that began.
    blobs: HashMap<tokio::task::Id, (Arc<InFlight>, Instant)>,
    counts: HashMap<TenantId, usize>,
    doors: HashMap<TenantId, Arc<Microsoft>>,
    /// Places for fetches, over all tenants.
    places: usize,
}

impl Carried {
    pub(super) fn new(doors: &HashMap<TenantId, Arc<Microsoft>>, places: usize) -> Self {
        Self {
            blobs: HashMap::new(),
            counts: HashMap::new(),
            doors: doors.clone(),
            places,
        }
    }

    /// There are so many places from here on.
    pub(super) fn set_places(&mut self, places: usize) {
        self.places = places;
    }

    /// Whether one more blob of the tenant may be fetched. With several tenants, those that are busy share the places with
    /// one more who may come: a tenant whose fetches hang never has them all. Nor has one more of them than get their turns to
    /// ask Microsoft in time: those that did not would come again later, behind younger ones.
    pub(super) fn has_place(&self, tenant: TenantId) -> bool {
        let count = self.counts.get(&tenant).copied().unwrap_or_default();
        let sharers = (self.counts.len() + 1).min(self.doors.len()).max(1);
        let share = (self.places / sharers).max(1);
        // The budget is asked last, as this is asked of everything that waits.
        count == 0
            || count < share
                && self
                    .doors
                    .get(&tenant)
                    .is_none_or(|door| count < door.budget().fetches_in_time())
    }

    /// Tenants of whom no more may be fetched at present.
    pub(super) fn full_tenants(&self) -> Vec<TenantId> {
        self.counts
            .keys()
            .copied()
            .filter(|tenant| !self.has_place(*tenant))
            .collect()
    }

    pub(super) fn insert(&mut self, task: tokio::task::Id, blob: Arc<InFlight>) {
        *self.counts.entry(blob.tag().tenant).or_default() += 1;
        self.blobs.insert(task, (blob, Instant::now()));
    }

    /// The blob whose task has ended, and how long that took.
    pub(super) fn remove(&mut self, task: tokio::task::Id) -> Option<(Arc<InFlight>, Duration)> {
        let (blob, since) = self.blobs.remove(&task)?;
        if let Some(count) = self.counts.get_mut(&blob.tag().tenant) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&blob.tag().tenant);
            }
        }
        Some((blob, since.elapsed()))
    }
}
