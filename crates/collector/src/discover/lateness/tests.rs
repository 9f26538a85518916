//! Which blobs say how late they came, and that the numbers outlive the process.

use activity_api::Window;

use super::super::testing::{HOUR, MINUTE};
use super::*;
use crate::testing::{CONTENT_TYPE, Scene, other_tenant, start, tenant};

fn listed_before() -> Vec<LastListing> {
    vec![LastListing {
        window: Window::new(start() - HOUR, start()).unwrap(),
        listed_at: start(),
    }]
}

/// What is counted of blobs of these ages, given what was listed before.
fn counted(before: Vec<LastListing>, ages: &[Duration], now: Timestamp) -> Vec<Duration> {
    let mut lateness = Lateness::watching(before);
    for age in ages {
        lateness.found(now - *age, now);
    }
    lateness.late
}

#[test]
fn a_blob_that_an_earlier_listing_missed_is_late_by_all_its_age() {
    let now = start() + 6 * HOUR;
    let age = 6 * HOUR + 30 * MINUTE;
    assert_eq!(counted(listed_before(), &[age], now), [age]);
}

#[test]
fn a_blob_of_a_time_that_was_not_listed_before_counts_only_when_it_is_young() {
    let now = start() + 6 * HOUR;
    assert_eq!(counted(Vec::new(), &[MINUTE, 2 * HOUR], now), [MINUTE]);
    // Created after the end of what was listed, while nobody listed.
    assert!(counted(listed_before(), &[2 * HOUR], now).is_empty());
}

#[test]
fn a_blob_from_a_clock_ahead_of_ours_is_not_late() {
    let mut lateness = Lateness::watching(Vec::new());
    lateness.found(start() + MINUTE, start());
    assert_eq!(lateness.late, [Duration::ZERO]);
}

#[test]
fn nobody_looks_on_when_a_range_is_listed_by_hand() {
    let mut lateness = Lateness::unwatched();
    lateness.found(start(), start());
    assert!(lateness.late.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_buckets_are_kept_over_restarts() {
    let scene = Scene::new();
    let ages = [MINUTE, MINUTE / 2, 3 * HOUR, 400 * HOUR];
    let keep = async |scene: &Scene, tenant: TenantId, ages: &[Duration]| {
        let mut lateness = Lateness::watching(Vec::new());
        lateness.late = ages.to_vec();
        lateness.keep(tenant, CONTENT_TYPE, &*scene.ledger).await;
    };
    keep(&scene, tenant(), &ages).await;
    keep(&scene, other_tenant(), &ages[..1]).await;
    keep(&scene, tenant(), &[]).await;
    let scene = scene.restarted().await;
    keep(&scene, tenant(), &ages[1..2]).await;

    let all = recall_lateness(&*scene.ledger).await.unwrap();
    let counts: Vec<_> = all.iter().map(|one| (one.tenant, one.counts)).collect();
    assert_eq!(
        counts,
        [
            (other_tenant(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (tenant(), [3, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_count_costs_the_listing_nothing() {
    let scene = Scene::new();
    scene.ledger.fail_next("count", 1);
    let mut lateness = Lateness::watching(Vec::new());
    lateness.found(start(), start());
    lateness.keep(tenant(), CONTENT_TYPE, &*scene.ledger).await;
    assert!(recall_lateness(&*scene.ledger).await.unwrap().is_empty());
}
