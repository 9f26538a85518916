//! Servers that refuse, settings that somebody else changes, memories that cannot be read.

use secrecy::SecretString;

use super::super::*;
use super::world::{FakeSite, MANIFEST_URL, NEW_URL, OLD_URL, Trying, World, Write};

fn is_failed(outcome: &UpdateOutcome) -> bool {
    matches!(outcome, UpdateOutcome::Failed { .. })
}

#[tokio::test]
async fn a_wrong_digest_is_tried_again_with_growing_pauses_and_not_for_ever() {
    let world = World::new();
    world.server.put(NEW_URL, 200, vec![0; world.package.len()]);
    let outcome = world.run_once().await;
    assert!(is_failed(&outcome), "{outcome}");
    let mut minutes = 0;
    let mut tries = vec![0];
    for minute in 1..12 * 60 {
        world.pass(1);
        minutes += 1;
        if is_failed(&world.run_due().await) {
            tries.push(minute);
        }
    }
    assert_eq!(minutes, 12 * 60 - 1);
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    assert_eq!(world.server.count(NEW_URL), 10);
    // The Updater's own runs do not begin again, either, until the manifest is another.
    assert!(is_failed(&world.run_once().await));
    assert_eq!(world.server.count(NEW_URL), 10);
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 0)
    );
    world.server.put(NEW_URL, 200, world.package.clone());
    world.publish(&Manifest {
        rollout_percent: 99,
        ..world.release()
    });
    assert!(matches!(
        world.run_once().await,
        UpdateOutcome::AwaitsHealth { .. }
    ));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_had_is_asked_for_again_in_minutes() {
    let world = World::new();
    world.server.put(MANIFEST_URL, 503, "");
    assert!(is_failed(&world.run_once().await));
    // Neither timer asks again before its time.
    assert!(matches!(
        world.run_once().await,
        UpdateOutcome::Waiting { until: Some(_), .. }
    ));
    world.pass(1);
    assert!(is_failed(&world.run_due().await));
    world.publish(&world.release());
    world.pass(1);
    assert!(matches!(
        world.run_due().await,
        UpdateOutcome::Waiting { .. }
    ));
    world.pass(1);
    assert!(matches!(
        world.run_due().await,
        UpdateOutcome::AwaitsHealth { .. }
    ));
}

#[tokio::test]
async fn a_trial_that_could_not_be_made_is_made_again() {
    let world = World::new();
    *world.trial.0.lock().unwrap() = Trying::Undecided;
    assert!(is_failed(&world.run_once().await));
    *world.trial.0.lock().unwrap() = Trying::Prints("o365-collector 0.2.0");
    world.pass(1);
    assert!(matches!(
        world.run_due().await,
        UpdateOutcome::AwaitsHealth { .. }
    ));
}

#[tokio::test]
async fn a_write_that_azure_refuses_is_tried_again_when_azure_wants_it() {
    for (what, retry_after, minutes) in [
        ("HTTP 409", None, 1),
        ("HTTP 403", None, 1),
        ("HTTP 429", Some(1_200), 20),
    ] {
        let world = World::new();
        world.answer([Write::Refused(what, retry_after)]);
        let now = world.clock.now();
        let outcome = world.run_once().await;
        let due = now + SignedDuration::from_mins(minutes);
        assert!(
            matches!(outcome, UpdateOutcome::Failed { retry_at: Some(at), .. } if at == due),
            "{outcome}"
        );
        assert_eq!(world.current(), OLD_URL);
        world.pass(minutes - 1);
        assert!(
            !matches!(world.run_due().await, UpdateOutcome::AwaitsHealth { .. }) || minutes == 1
        );
        world.pass(1);
        world.run_due().await;
        assert_eq!(
            (world.current().as_str(), world.write_count()),
            (NEW_URL, 1)
        );
        // It was verified once, and is not fetched again for a refusal of Azure's.
        assert_eq!(world.server.count(NEW_URL), 1);
    }
}

#[tokio::test]
async fn a_write_that_is_always_refused_is_given_up() {
    let world = World::new();
    world.answer(std::iter::repeat_n(Write::Refused("HTTP 403", None), 10));
    world.run_once().await;
    world.live(12 * 60, true).await;
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 0)
    );
    let view = world.view().await;
    assert!(view.is_trouble);
    assert_eq!((view.refused.len(), view.changing_to), (1, None));
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_found_to_be_done() {
    let world = World::new();
    world.answer([Write::Lost]);
    assert!(is_failed(&world.run_once().await));
    // The new version has started meanwhile and does not wait for the pause.
    assert!(matches!(
        world.after_master(true).await,
        UpdateOutcome::Confirmed { .. }
    ));
    assert_eq!(world.write_count(), 1);
}

#[tokio::test]
async fn triggers_that_cannot_be_synced_hold_nothing_up() {
    let world = World::new();
    let site: Arc<FakeSite> = Arc::clone(&world.site);
    // The first answer is for the write.
    site.settings.lock().unwrap().answers = [Write::Lost].into();
    world.run_once().await;
    world.answer([Write::Refused("HTTP 429", None)]);
    assert!(matches!(
        world.after_master(true).await,
        UpdateOutcome::Confirmed { .. }
    ));
    assert_eq!(world.settings(|settings| settings.sync_count), 0);
    world.pass(2);
    world.run_due().await;
    assert_eq!(world.settings(|settings| settings.sync_count), 1);
}

#[tokio::test]
async fn an_app_that_is_not_started_anew_is_set_back() {
    let world = World::new();
    world.settings(|settings| settings.is_stuck = true);
    world.live(12, true).await;
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 2)
    );
    let view = world.view().await;
    assert!(view.summary.contains("still ran 0.1.0"), "{}", view.summary);
}

#[tokio::test]
async fn taking_back_is_tried_until_it_is_done() {
    let world = World::new();
    world.run_once().await;
    world.pass(1);
    world.after_master(false).await;
    world.answer(std::iter::repeat_n(Write::Refused("HTTP 409", None), 30));
    world.live(2 * 24 * 60, false).await;
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 2)
    );
}

#[tokio::test]
async fn a_package_that_somebody_else_set_meanwhile_stays() {
    const THIRD: &str = "https://elsewhere.example.net/third.zip";
    // Before the write.
    let world = World::new();
    world.answer([Write::Refused("HTTP 409", None)]);
    world.run_once().await;
    world.settings(|settings| settings.current = Some(THIRD.to_owned()));
    world.pass(1);
    let outcome = world.run_due().await;
    assert!(
        matches!(outcome, UpdateOutcome::Abandoned { .. }),
        "{outcome}"
    );
    assert_eq!((world.current().as_str(), world.write_count()), (THIRD, 0));
    // While it is being taken back.
    let world = World::new();
    world.run_once().await;
    world.settings(|settings| settings.current = Some(THIRD.to_owned()));
    world.live(20, false).await;
    assert_eq!((world.current().as_str(), world.write_count()), (THIRD, 1));
    let view = world.view().await;
    assert_eq!((view.refused.len(), view.changing_to), (1, None));
}

#[tokio::test]
async fn without_the_previous_package_a_person_is_asked() {
    for previous in [None, Some("https://elsewhere.example.net/third.zip")] {
        let world = World::new();
        world.run_once().await;
        world.settings(|settings| settings.previous = previous.map(str::to_owned));
        world.live(20, false).await;
        assert_eq!(
            (world.current().as_str(), world.write_count()),
            (NEW_URL, 1)
        );
        let view = world.view().await;
        assert!(
            view.is_trouble && view.summary.contains("by hand"),
            "{}",
            view.summary
        );
    }
}

#[tokio::test]
async fn a_package_that_is_set_by_hand_is_not_set_again() {
    let world = World::new();
    world.settings(|settings| settings.current = Some(NEW_URL.to_owned()));
    let outcome = world.run_once().await;
    assert!(
        matches!(outcome, UpdateOutcome::Waiting { until: None, .. }),
        "{outcome}"
    );
    assert_eq!((world.write_count(), world.server.count(NEW_URL)), (0, 0));
}

#[tokio::test]
async fn nothing_is_done_without_a_memory() {
    let world = World::new();
    world.ledger.fail_next("recall", 1);
    let outcome = world.run_once().await;
    assert!(
        matches!(outcome, UpdateOutcome::Failed { retry_at: None, .. }),
        "{outcome}"
    );
    world.ledger.fail_next("remember", 1);
    assert!(is_failed(&world.run_once().await));
    assert_eq!((world.write_count(), world.server.count(NEW_URL)), (0, 0));
    world
        .ledger
        .remember(state::FACT, "{\"change\":7}")
        .await
        .unwrap();
    let outcome = world.run_once().await;
    assert!(
        matches!(&outcome, UpdateOutcome::Failed { what, .. } if what.contains("does not understand")),
        "{outcome}"
    );
    assert_eq!(world.write_count(), 0);
}

#[tokio::test]
async fn what_a_later_version_remembers_besides_is_passed_over() {
    let world = World::new();
    let fact = r#"{"situation":"s","later":{"x":1},"refused":[
        {"version":"0.2.0","at":"2026-07-31T00:00:00Z","why":"because","later":true}]}"#;
    world.ledger.remember(state::FACT, fact).await.unwrap();
    assert!(matches!(
        world.run_once().await,
        UpdateOutcome::Refused { why, .. } if why == "because"
    ));
}

#[tokio::test]
async fn what_is_remembered_stays_small() {
    let mut state = state::State::default();
    let at: Timestamp = "2026-08-01T00:00:00Z".parse().unwrap();
    for number in 0..1_000_u64 {
        let version: Version = format!("0.{number}.0").parse().unwrap();
        state.record(at, format_args!("{number}\n{}", "ü".repeat(1_000)));
        state.refuse(&version, "ü".repeat(1_000), at);
        state.troubled("ü".repeat(1_000));
    }
    let text = serde_json::to_string(&state).unwrap();
    // A property of a row in Azure's tables holds 64 KiB, in two bytes a character.
    assert!(text.chars().count() < 30_000, "{}", text.chars().count());
    assert!(!text.contains("\\n"));
}

#[tokio::test]
async fn a_run_that_is_stopped_goes_on_at_the_next() {
    let world = World::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let updater = world.updater();
    // Whether it noticed in time is the runtime's choice; that nothing is lost by it is not.
    let outcome = updater.run_once(&stop).await;
    assert!(!is_failed(&outcome), "{outcome}");
    world.live(60, true).await;
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (NEW_URL, 1)
    );
}

#[tokio::test]
async fn the_site_is_written_to_with_both_packages_at_once() {
    let world = World::new();
    let (new, old) = (
        SecretString::from("https://n"),
        SecretString::from("https://o"),
    );
    world.site.set_packages(&new, Some(&old)).await.unwrap();
    assert_eq!(world.write_count(), 1);
}
