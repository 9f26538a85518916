//! A backlog of days at Microsoft, caught up at a rate that is far below it.

use std::collections::BTreeSet;
use std::time::Duration;

use activity_api::ContentType;
use jiff::SignedDuration;

use super::super::plan::{Element, Host, PlannedBlob, PlannedSink, Roughness};
use super::super::truth::End;
use super::*;
use crate::testing::tenant;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Blobs a day.
const BLOBS: i64 = 48;
const DAYS: i64 = 6;
const MAX_CONCURRENT: usize = 3;

/// Six days of blobs, one each half an hour, kept by Microsoft for seven; so many requests a minute.
fn backlog(requests_per_minute: u32) -> Plan {
    let blob = |index: i64| {
        let age = SignedDuration::from_secs((DAYS * BLOBS - index) * 86_400 / BLOBS - 600);
        let created_at = beginning() - age;
        PlannedBlob {
            tenant: tenant(),
            content_type: ContentType::Exchange,
            id: format!("2026{index:04}$2026{index:04}$audit$Audit.Exchange$na0018"),
            created_at,
            appears_at: created_at,
            expires_at: created_at + 7 * DAY,
            elements: vec![Element::Record {
                text: format!(r#"{{"Id":"b{index}"}}"#),
                refused_by: BTreeSet::new(),
            }],
            is_gzip: false,
            is_torn: false,
            notifications: Vec::new(),
        }
    };
    Plan {
        seed: 0,
        tenants: vec![tenant()],
        content_types: vec![ContentType::Exchange],
        blobs: (0..DAYS * BLOBS).map(blob).collect(),
        sinks: vec![PlannedSink {
            name: "file",
            has_position: true,
            batch_bytes: 20_000,
            max_in_flight: 1,
            takes: Duration::ZERO,
            outage: None,
        }],
        lives: vec![PlannedLife {
            host: Host::Loop,
            dies_in: None,
            stops_after: Duration::from_secs(3 * 3_600),
            down_for: Duration::ZERO,
        }],
        roughness: Roughness::default(),
        is_subscribed_at_first: true,
        page_size: 100,
        requests_per_minute,
        poll_interval: Duration::from_secs(60),
        first_lookback: Duration::from_secs(167 * 3_600),
        lease: Duration::from_secs(600),
        max_concurrent: MAX_CONCURRENT,
        max_memory_bytes: 64 * 1024,
        patience: DAY,
    }
}

#[test]
fn six_days_of_backlog_are_caught_up_oldest_first_and_none_expires() {
    // The slowest that a budget learns to be.
    let plan = backlog(30);
    let outcome = simulate(plan, true);
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    let count = usize::try_from(DAYS * BLOBS).unwrap();
    assert!(outcome.ends.values().all(|end| *end == End::Delivered));
    assert_eq!(outcome.alarmed_at, None, "there was nothing to fear");
    assert_eq!(outcome.order.len(), count, "every blob is delivered");
    // The blobs are numbered by age. What is fetched at once may arrive in any order.
    let (place, blob) = outcome
        .order
        .iter()
        .enumerate()
        .max_by_key(|(place, blob)| place.abs_diff(**blob))
        .unwrap();
    let farthest = place.abs_diff(*blob);
    if farthest > 4 * MAX_CONCURRENT {
        let id = format!("2026{blob:04}");
        let of_blob = outcome.lines.iter().filter(|line| line.contains(&id));
        of_blob.for_each(|line| eprintln!("{line}"));
    }
    eprintln!("{count} blobs, none farther than {farthest} places from its own");
    assert!(
        farthest <= 4 * MAX_CONCURRENT,
        "blob {blob} came as number {place}"
    );
}

#[test]
fn a_loss_that_cannot_be_helped_is_foreseen_more_than_an_hour_before() {
    let mut plan = backlog(2_000);
    // A sink that takes one blob a minute, and 240 blobs that expire within twenty minutes, 100 minutes from now.
    plan.sinks[0].batch_bytes = 1;
    plan.sinks[0].takes = Duration::from_secs(60);
    plan.blobs.truncate(240);
    for (index, blob) in (0..).zip(&mut plan.blobs) {
        let expires_at = beginning() + SignedDuration::from_secs(6_000 + 5 * index);
        blob.created_at = expires_at - 7 * DAY;
        blob.appears_at = blob.created_at;
        blob.expires_at = expires_at;
    }
    let first_expiry = plan.blobs[0].expires_at;
    let outcome = simulate(plan, false);
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    let lost = outcome.ends.values().filter(|end| **end == End::Expired);
    let (lost_count, alarmed_at) = (lost.count(), outcome.alarmed_at.unwrap());
    let expired_at = outcome.expired_at.unwrap();
    eprintln!("alarm at {alarmed_at}, the first of {lost_count} lost at {expired_at}");
    assert!(expired_at >= first_expiry);
    assert!(
        alarmed_at + SignedDuration::from_hours(1) < first_expiry,
        "{alarmed_at}"
    );
}
