//! The forecast and its alarm.

use super::*;
use crate::testing::{other_tenant, start, tenant};

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn bucket(expires_in: SignedDuration, blob_count: u64) -> Bucket {
    Bucket {
        expires_from: start() + expires_in,
        blob_count,
    }
}

#[test]
fn nothing_that_waits_is_caught_up_with_now() {
    let forecast = predict(&[], 100.0, start());
    assert_eq!(forecast.caught_up_at, Some(start()));
    assert_eq!((forecast.waiting_count, forecast.too_late_count), (0, 0));
}

#[test]
fn a_backlog_that_is_done_in_time_says_when() {
    // Sixty a minute: the first thousand take under seventeen minutes, all of it an hour.
    let buckets = [bucket(hours(90), 2_600), bucket(hours(1), 1_000)];
    let forecast = predict(&buckets, 60.0, start());
    assert_eq!(forecast.waiting_count, 3_600);
    assert_eq!(forecast.caught_up_at, Some(start() + hours(1)));
    assert_eq!(forecast.too_late_count, 0);
    assert_eq!(forecast.first_lost_at, None);
}

#[test]
fn what_the_rate_does_not_reach_is_too_late_from_the_hour_in_which_it_expires() {
    // Sixty an hour.
    let buckets = [
        bucket(hours(2), 100),
        bucket(hours(3), 100),
        bucket(hours(30), 100),
    ];
    let forecast = predict(&buckets, 1.0, start());
    // 100 by 2 h; by 3 h there is room for 180 in all.
    assert_eq!(forecast.too_late_count, 20);
    assert_eq!(forecast.first_lost_at, Some(start() + hours(3)));
    assert_eq!(forecast.caught_up_at, Some(start() + hours(5)));
}

#[test]
fn without_any_progress_everything_will_be_lost_and_never_caught_up_with() {
    let forecast = predict(&[bucket(hours(5), 7)], 0.0, start());
    assert_eq!(forecast.caught_up_at, None);
    assert_eq!(forecast.too_late_count, 7);
    assert_eq!(forecast.first_lost_at, Some(start() + hours(5)));
}

#[test]
fn what_expires_in_this_hour_has_what_is_left_of_it_and_what_has_expired_has_nothing() {
    let soon = predict(&[bucket(-minutes(30), 10)], 60.0, start());
    assert_eq!(soon.too_late_count, 0);
    let over = predict(&[bucket(-hours(2), 10)], 60.0, start());
    assert_eq!(over.too_late_count, 10);
    assert_eq!(over.first_lost_at, Some(start()));
}

/// A tenant whose blobs are looked at every minute.
struct Watched {
    foresight: Foresight,
    now: Timestamp,
    settled: u64,
}

impl Watched {
    fn new() -> Self {
        Self {
            foresight: Foresight::default(),
            now: start(),
            settled: 1_000,
        }
    }

    /// A minute later, with so many settled in it and these still waiting.
    fn minute(&mut self, settled: u64, waiting: &[Bucket]) -> (Forecast, Alarm) {
        self.now += minutes(1);
        self.settled += settled;
        self.foresight
            .look_ahead(tenant(), self.settled, waiting, 600.0, self.now)
    }
}

#[test]
fn the_rate_is_the_budget_until_one_is_measured_and_never_over_it() {
    let mut watched = Watched::new();
    let waiting = [bucket(hours(100), 50_000)];
    assert_eq!(watched.minute(0, &waiting).0.per_minute, 600.0);
    assert_eq!(watched.minute(90, &waiting).0.per_minute, 90.0);
    assert_eq!(watched.minute(110, &waiting).0.per_minute, 100.0);
    assert_eq!(watched.minute(10_000, &waiting).0.per_minute, 600.0);
    // A minute without work says nothing about how fast it could go.
    assert_eq!(watched.minute(5, &[]).0.per_minute, 600.0);
    for _ in 0..5 {
        assert_eq!(watched.minute(7, &waiting).0.per_minute, 600.0);
    }
    assert_eq!(watched.minute(7, &waiting).0.per_minute, 7.0);
}

#[test]
fn a_clock_that_was_set_back_makes_no_rate() {
    let mut watched = Watched::new();
    let waiting = [bucket(hours(100), 50_000)];
    watched.minute(10, &waiting);
    watched.minute(10, &waiting);
    watched.now -= hours(3);
    assert_eq!(watched.minute(10, &waiting).0.per_minute, 600.0);
    assert_eq!(watched.minute(10, &waiting).0.per_minute, 10.0);
}

#[test]
fn the_alarm_comes_once_hours_before_the_first_loss_and_goes_when_the_rate_is_good_again() {
    let mut watched = Watched::new();
    let waiting = [bucket(hours(20), 12_000)];
    // Twenty hours for twelve thousand: ten a minute are just enough.
    let mut alarms = Vec::new();
    for settled in [0, 20, 20, 20, 5, 2, 2, 2, 2, 2] {
        alarms.push(watched.minute(settled, &waiting).1);
    }
    let raised = alarms.iter().position(|alarm| *alarm == Alarm::Raised);
    let raised = raised.expect("the rate fell below ten");
    assert!(alarms[..raised].iter().all(|alarm| *alarm == Alarm::Quiet));
    assert!(
        alarms[raised + 1..]
            .iter()
            .all(|alarm| *alarm == Alarm::Lasting)
    );
    let (forecast, _) = watched.minute(2, &waiting);
    let ahead = forecast.first_lost_at.unwrap().duration_since(watched.now);
    assert!(ahead > hours(19), "{ahead}");
    // It recovers. A single good look is not the end of it.
    let mut lasting = 0;
    while watched.minute(60, &waiting).1 == Alarm::Lasting {
        lasting += 1;
        assert!(lasting < 20);
    }
    assert!(lasting >= 4, "{lasting}");
    assert_eq!(watched.minute(60, &waiting).1, Alarm::Quiet);
}

#[test]
fn the_alarm_is_over_when_nothing_waits() {
    let mut watched = Watched::new();
    assert_eq!(
        watched.minute(0, &[bucket(hours(1), 1_000_000)]).1,
        Alarm::Raised
    );
    assert_eq!(watched.minute(0, &[]).1, Alarm::Over);
    assert_eq!(watched.minute(0, &[]).1, Alarm::Quiet);
}

#[test]
fn a_loss_that_is_days_away_is_told_and_no_alarm() {
    let mut watched = Watched::new();
    let waiting = [bucket(hours(100), 3)];
    watched.minute(0, &waiting);
    // A sink is down for some minutes.
    let (forecast, alarm) = watched.minute(0, &waiting);
    assert_eq!(forecast.too_late_count, 3);
    assert_eq!(alarm, Alarm::Quiet);
}

#[test]
fn tenants_are_measured_apart() {
    let foresight = Foresight::default();
    let waiting = [bucket(hours(10), 10_000)];
    for (minute, of) in [(0, tenant()), (0, other_tenant()), (1, tenant())] {
        let now = start() + minutes(minute);
        let settled = 5 * minute.unsigned_abs();
        let (forecast, _) = foresight.look_ahead(of, settled, &waiting, 600.0, now);
        assert_eq!(forecast.waiting_count, 10_000);
    }
    let now = start() + minutes(2);
    let (slow, _) = foresight.look_ahead(tenant(), 10, &waiting, 600.0, now);
    let (unknown, _) = foresight.look_ahead(other_tenant(), 1_200, &waiting, 600.0, now);
    assert_eq!((slow.per_minute, unknown.per_minute), (5.0, 600.0));
}

#[test]
fn six_days_of_backlog_that_cannot_be_caught_up_with_is_foretold_at_least_an_hour_before_the_first_loss()
 {
    // 144 hours of Microsoft's blobs, a thousand an hour, of which the oldest has a day left; half of what is needed.
    let mut waiting: Vec<Bucket> = (0..144)
        .map(|hour| bucket(hours(24 + hour), 1_000))
        .collect();
    let mut watched = Watched::new();
    let mut raised_at = None;
    let lost_at = loop {
        let mut settled = 8;
        for bucket in &mut waiting {
            let now = bucket.blob_count.min(settled);
            bucket.blob_count -= now;
            settled -= now;
        }
        let (_, alarm) = watched.minute(8, &waiting);
        if alarm == Alarm::Raised {
            raised_at = Some(watched.now);
        }
        let lost = waiting
            .iter()
            .find(|bucket| bucket.blob_count > 0 && bucket.expires_from + HOUR <= watched.now);
        if let Some(bucket) = lost {
            break bucket.expires_from;
        }
    };
    let ahead = lost_at.duration_since(raised_at.expect("it was foretold"));
    assert!(ahead >= hours(1), "{ahead}");
}
