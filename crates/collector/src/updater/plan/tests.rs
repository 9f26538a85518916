//! Which release is taken when, and when a change is confirmed or taken back.

use super::super::manifest::tests::manifest;
use super::super::state::Phase;
use super::*;

const SITE: &str = "subscription/group/site";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn later() -> Timestamp {
    at("2026-08-01T00:00:00Z")
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn plan(manifest: &Manifest, running: &str, now: Timestamp) -> Plan {
    plan_update(&State::default(), manifest, &version(running), SITE, now)
}

#[test]
fn a_newer_version_that_is_old_enough_is_taken() {
    assert_eq!(plan(&manifest(), "0.1.0", later()), Plan::Update);
    assert_eq!(plan(&manifest(), "0.2.0-rc.1", later()), Plan::Update);
}

#[test]
fn neither_the_same_version_nor_an_older_one_is_ever_taken() {
    for running in ["0.2.0", "0.2.1", "1.0.0"] {
        assert_eq!(plan(&manifest(), running, later()), Plan::UpToDate);
    }
    let candidate = Manifest {
        version: version("0.2.0-rc.1"),
        ..manifest()
    };
    assert_eq!(plan(&candidate, "0.2.0", later()), Plan::UpToDate);
}

#[test]
fn a_release_waits_for_its_age() {
    let due = at("2026-07-15T09:00:00Z");
    assert_eq!(plan(&manifest(), "0.1.0", due), Plan::Update);
    let early = plan(&manifest(), "0.1.0", due - SignedDuration::from_secs(1));
    assert!(matches!(early, Plan::Wait { until: Some(until), .. } if until == due));
}

#[test]
fn a_version_that_was_refused_stays_refused_until_another_is_named() {
    let mut state = State::default();
    state.refuse(&version("0.2.0"), "it does not start", later());
    let running = version("0.1.0");
    assert_eq!(
        plan_update(&state, &manifest(), &running, SITE, later()),
        Plan::Refuse("it does not start".to_owned())
    );
    let next = Manifest {
        version: version("0.2.1"),
        ..manifest()
    };
    assert_eq!(
        plan_update(&state, &next, &running, SITE, later()),
        Plan::Update
    );
}

#[test]
fn a_version_that_is_too_old_for_the_step_is_told_what_comes_first() {
    let far = Manifest {
        version: version("0.9.0"),
        minimum_version: version("0.5.0"),
        ..manifest()
    };
    let Plan::Refuse(why) = plan(&far, "0.1.0", later()) else {
        panic!("it is refused")
    };
    assert!(why.contains("install 0.5.0 first"), "{why}");
    assert_eq!(plan(&far, "0.5.0", later()), Plan::Update);
}

#[test]
fn one_change_is_under_way_at_a_time() {
    let state = State {
        change: Some(change()),
        ..State::default()
    };
    let plan = plan_update(&state, &manifest(), &version("0.1.0"), SITE, later());
    assert!(matches!(plan, Plan::Wait { .. }));
}

#[test]
fn the_rollout_takes_its_share_of_the_sites_and_keeps_whoever_it_took() {
    let sites: Vec<String> = (0..2_000)
        .map(|number| format!("s/g/site-{number}"))
        .collect();
    let new = version("0.2.0");
    let mut before = 0;
    for percent in [0, 1, 10, 50, 99, 100] {
        let taken = |share| {
            let taken = move |site: &&String| is_in_rollout(site, &version("0.2.0"), share);
            sites.iter().filter(taken).count()
        };
        let count = taken(percent);
        assert!(count >= before);
        let expected = sites.len() * usize::from(percent) / 100;
        assert!(count.abs_diff(expected) < 80, "{percent}: {count}");
        before = count;
    }
    for site in &sites {
        if is_in_rollout(site, &new, 10) {
            assert!(is_in_rollout(site, &new, 11));
            assert!(is_in_rollout(&site.to_uppercase(), &new, 10));
        }
    }
    // Not the same sites go first every time.
    let both = |site: &&String| {
        is_in_rollout(site, &new, 10) && is_in_rollout(site, &version("0.3.0"), 10)
    };
    assert!(sites.iter().filter(both).count() < 60);
    let none = Manifest {
        rollout_percent: 0,
        ..manifest()
    };
    assert!(matches!(
        plan(&none, "0.1.0", later()),
        Plan::Wait { until: None, .. }
    ));
}

#[test]
fn pauses_double_up_to_an_hour() {
    let minutes: Vec<i64> = (0..10).map(|tries| pause_after(tries).as_mins()).collect();
    assert_eq!(minutes, [1, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(pause_after(u32::MAX).as_mins(), 60);
}

fn change() -> Change {
    Change {
        version: version("0.2.0"),
        replaces: version("0.1.0"),
        url: "https://releases.example.net/new.zip".to_owned(),
        previous: Sha256::of(b"https://releases.example.net/old.zip"),
        manifest: Sha256::of(b"manifest"),
        phase: Phase::Swapped,
        begun_at: later() - SignedDuration::from_hours(1),
        tries: 0,
        next_try_at: later(),
        swapped_at: Some(later()),
        running_since: None,
        are_triggers_synced: true,
        was_healthy: Some(true),
    }
}

fn judge(change: &Change, running: &str, is_healthy: Option<bool>, minutes: i64) -> Verdict {
    let now = later() + SignedDuration::from_mins(minutes);
    plan_confirmation(change, &version(running), is_healthy, now)
}

#[test]
fn a_healthy_new_version_is_confirmed() {
    assert_eq!(judge(&change(), "0.2.0", Some(true), 1), Verdict::Confirm);
    // Late, and yet good.
    assert_eq!(judge(&change(), "0.2.0", Some(true), 60), Verdict::Confirm);
}

#[test]
fn a_new_version_that_is_not_healthy_in_time_is_taken_back() {
    for is_healthy in [None, Some(false)] {
        let until = later() + CONFIRM_WITHIN;
        let early = judge(&change(), "0.2.0", is_healthy, 9);
        assert_eq!(early, Verdict::Wait { until });
        let late = judge(&change(), "0.2.0", is_healthy, 10);
        assert!(matches!(late, Verdict::TakeBack(_)));
    }
}

#[test]
fn the_ten_minutes_begin_when_the_new_version_first_runs() {
    let change = Change {
        running_since: Some(later() + SignedDuration::from_mins(30)),
        ..change()
    };
    assert!(matches!(
        judge(&change, "0.2.0", None, 39),
        Verdict::Wait { .. }
    ));
    assert!(matches!(
        judge(&change, "0.2.0", None, 40),
        Verdict::TakeBack(_)
    ));
}

#[test]
fn ill_health_from_before_the_change_is_not_held_against_it() {
    let change = Change {
        was_healthy: Some(false),
        ..change()
    };
    assert_eq!(judge(&change, "0.2.0", Some(false), 1), Verdict::Confirm);
    assert!(matches!(
        judge(&change, "0.2.0", None, 1),
        Verdict::Wait { .. }
    ));
}

#[test]
fn an_app_that_goes_on_with_the_old_version_is_set_back() {
    for is_healthy in [None, Some(true), Some(false)] {
        assert!(matches!(
            judge(&change(), "0.1.0", is_healthy, 9),
            Verdict::Wait { .. }
        ));
        assert!(matches!(
            judge(&change(), "0.1.0", is_healthy, 10),
            Verdict::TakeBack(_)
        ));
    }
}

#[test]
fn a_third_version_is_left_alone() {
    assert!(matches!(
        judge(&change(), "0.3.0", Some(true), 1),
        Verdict::Abandon(_)
    ));
}

#[test]
fn the_app_settings_are_the_new_package_the_previous_one_or_a_third() {
    for (current, expected) in [
        (Some("https://releases.example.net/new.zip"), Standing::New),
        (
            Some("https://releases.example.net/old.zip"),
            Standing::Previous,
        ),
        (
            Some("https://releases.example.net/other.zip"),
            Standing::Other,
        ),
        (Some("1"), Standing::Other),
        (None, Standing::Other),
    ] {
        let packages = Packages {
            current: current.map(Into::into),
            previous: None,
        };
        assert_eq!(standing(&change(), &packages), expected);
    }
}
