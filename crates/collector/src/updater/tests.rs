//! The updater as a whole: a function app that is moved to a new package, and every way in which that can fail.

mod crashes;
mod failures;
mod world;

use self::world::{MANIFEST_URL, NEW_URL, OLD_URL, Trying, World};
use super::manifest::tests::key;
use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_good_release_is_put_in_place_and_confirmed_by_master() {
    let world = World::new();
    let outcome = world.run_once().await;
    assert!(
        matches!(&outcome, UpdateOutcome::AwaitsHealth { version, .. } if version.to_string() == "0.2.0"),
        "{outcome}"
    );
    world.settings(|settings| {
        assert_eq!(settings.current.as_deref(), Some(NEW_URL));
        assert_eq!(settings.previous.as_deref(), Some(OLD_URL));
        assert_eq!((settings.write_count, settings.sync_count), (1, 1));
    });
    world.pass(2);
    let outcome = world.after_master(true).await;
    assert_eq!(
        outcome,
        UpdateOutcome::Confirmed {
            version: version("0.2.0")
        }
    );
    world.pass(60);
    assert_eq!(world.run_once().await, UpdateOutcome::UpToDate);
    assert_eq!(world.write_count(), 1);
    assert_eq!(
        world.events().await,
        [
            "the manifest names 0.2.0",
            "0.2.0: the package is verified and its program starts here",
            "0.2.0: the app settings name the new package",
            "0.2.0: triggers synced",
            "0.2.0 has started",
            "0.2.0 runs and is confirmed",
        ]
    );
    let view = world.view().await;
    assert!(!view.is_trouble);
    assert_eq!(view.changing_to, None);
    assert_eq!(view.newest_version.as_deref(), Some("0.2.0"));
}

#[tokio::test]
async fn a_bad_signature_stops_everything_before_it_begins() {
    let world = World::new();
    for envelope in [
        sign(&world.release(), &[key(2)]),
        sign(&world.release(), &[key(1)]).replacen("\"signature\": \"", "\"signature\": \"AAAA", 1),
        "<html>".to_owned(),
    ] {
        world.server.put(MANIFEST_URL, 200, envelope);
        world.pass(60);
        let outcome = world.run_once().await;
        assert!(
            matches!(
                outcome,
                UpdateOutcome::Failed {
                    retry_at: Some(_),
                    ..
                }
            ),
            "{outcome}"
        );
    }
    assert_eq!(world.server.count(NEW_URL), 0);
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 0)
    );
    assert!(world.view().await.is_trouble);
}

#[tokio::test]
async fn an_older_version_is_no_update() {
    let world = World::new();
    world.publish(&Manifest {
        version: version("0.0.9"),
        ..world.release()
    });
    assert_eq!(world.run_once().await, UpdateOutcome::UpToDate);
    world.publish(&Manifest {
        version: version("0.1.0"),
        ..world.release()
    });
    assert_eq!(world.run_once().await, UpdateOutcome::UpToDate);
    assert_eq!(world.server.count(NEW_URL), 0);
}

#[tokio::test]
async fn a_release_that_is_too_young_or_not_for_this_site_waits() {
    let world = World::new();
    world.publish(&Manifest {
        published_at: "2026-07-31T12:00:00Z".parse().unwrap(),
        ..world.release()
    });
    let due: Timestamp = "2026-08-01T12:00:00Z".parse().unwrap();
    let outcome = world.run_once().await;
    assert!(
        matches!(outcome, UpdateOutcome::Waiting { until: Some(until), .. } if until == due),
        "{outcome}"
    );
    world.publish(&Manifest {
        rollout_percent: 0,
        ..world.release()
    });
    let outcome = world.run_once().await;
    assert!(
        matches!(outcome, UpdateOutcome::Waiting { until: None, .. }),
        "{outcome}"
    );
    assert_eq!((world.server.count(NEW_URL), world.write_count()), (0, 0));
    assert!(!world.view().await.is_trouble);
    world.publish(&world.release());
    assert!(matches!(
        world.run_once().await,
        UpdateOutcome::AwaitsHealth { .. }
    ));
}

#[tokio::test]
async fn a_new_version_that_does_not_get_healthy_is_taken_back_and_never_tried_again() {
    let world = World::new();
    assert_eq!(world.after_master(true).await, UpdateOutcome::Idle);
    assert_eq!(view(&*world.ledger).await, None);
    world.run_once().await;
    for _ in 0..9 {
        world.pass(1);
        assert!(matches!(
            world.after_master(false).await,
            UpdateOutcome::AwaitsHealth { .. }
        ));
        assert_eq!(world.current(), NEW_URL);
    }
    // Counted from when the new version first ran, a minute after the change.
    world.pass(2);
    let outcome = world.run_due().await;
    assert!(
        matches!(&outcome, UpdateOutcome::RolledBack { version, .. } if version.to_string() == "0.2.0"),
        "{outcome}"
    );
    assert_eq!(
        (world.current().as_str(), world.write_count()),
        (OLD_URL, 2)
    );
    assert_eq!(world.settings(|settings| settings.sync_count), 2);
    let fetched = world.server.count(NEW_URL);
    for _ in 0..5 {
        world.pass(12 * 60);
        let outcome = world.run_once().await;
        assert!(
            matches!(outcome, UpdateOutcome::Refused { .. }),
            "{outcome}"
        );
        assert_eq!(world.run_due().await, UpdateOutcome::Idle);
    }
    assert_eq!(
        (world.server.count(NEW_URL), world.write_count()),
        (fetched, 2)
    );
    let view = world.view().await;
    assert!(view.is_trouble);
    assert_eq!(view.refused.len(), 1);
    // Another version is another matter.
    *world.trial.0.lock().unwrap() = Trying::Prints("o365-collector 0.2.1");
    world.publish(&Manifest {
        version: version("0.2.1"),
        ..world.release()
    });
    assert!(matches!(
        world.run_once().await,
        UpdateOutcome::AwaitsHealth { .. }
    ));
}

#[tokio::test]
async fn what_was_ill_before_the_update_does_not_take_the_update_back() {
    let world = World::new();
    world.after_master(false).await;
    world.run_once().await;
    world.pass(1);
    assert!(matches!(
        world.after_master(false).await,
        UpdateOutcome::Confirmed { .. }
    ));
}

#[tokio::test]
async fn a_package_that_does_not_start_here_is_refused_before_the_swap() {
    for trying in [Trying::DoesNotStart, Trying::Prints("o365-collector 0.1.9")] {
        let world = World::new();
        *world.trial.0.lock().unwrap() = trying;
        let outcome = world.run_once().await;
        assert!(
            matches!(outcome, UpdateOutcome::Refused { .. }),
            "{outcome}"
        );
        world.pass(12 * 60);
        assert!(matches!(
            world.run_once().await,
            UpdateOutcome::Refused { .. }
        ));
        assert_eq!((world.server.count(NEW_URL), world.write_count()), (1, 0));
    }
}

#[tokio::test]
async fn plans_that_cannot_swap_are_told_what_to_do_instead() {
    for (is_flex, current, told) in [
        (true, Some(OLD_URL), "Flex Consumption"),
        (false, Some("1"), "WEBSITE_RUN_FROM_PACKAGE"),
        (false, None, "update.mode to repository"),
    ] {
        let world = World::new();
        world.settings(|settings| {
            settings.is_flex = is_flex;
            settings.current = current.map(str::to_owned);
        });
        let outcome = world.run_once().await;
        assert!(
            matches!(&outcome, UpdateOutcome::CannotSwap { why } if why.contains(told)),
            "{outcome}"
        );
        let view = world.view().await;
        assert!(
            view.is_trouble && view.summary.contains(told),
            "{}",
            view.summary
        );
        // It is told at every run of the Updater, and not tried again in between.
        assert_eq!(world.run_due().await, UpdateOutcome::Idle);
        assert_eq!((world.server.count(NEW_URL), world.write_count()), (0, 0));
    }
}

#[tokio::test]
async fn outside_of_a_function_app_a_newer_version_is_only_told_of() {
    let world = World::new();
    let config = UpdateConfig::Package {
        manifest_url: MANIFEST_URL.parse().unwrap(),
        public_keys: vec![key(1).public()],
    };
    let mut updater = world.build(config, None);
    updater.running = version("0.1.0");
    let stop = CancellationToken::new();
    assert_eq!(
        updater.run_once(&stop).await,
        UpdateOutcome::NewerExists {
            version: version("0.2.0")
        }
    );
    assert_eq!(world.server.count(NEW_URL), 0);
    let view = updater.view().await.unwrap();
    assert!(view.summary.contains("0.2.0 is out"), "{}", view.summary);
    updater.running = version("0.2.0");
    assert_eq!(updater.run_once(&stop).await, UpdateOutcome::UpToDate);
}

#[tokio::test]
async fn a_repository_is_synced_at_every_run_and_a_failure_is_retried_in_minutes() {
    use self::world::Write;
    let world = World::new();
    let site: Arc<dyn UpdateSite> = Arc::<world::FakeSite>::clone(&world.site);
    let updater = world.build(UpdateConfig::Repository, Some(site));
    let stop = CancellationToken::new();
    assert_eq!(
        updater.run_once(&stop).await,
        UpdateOutcome::RepositorySynced
    );
    assert_eq!(updater.run_due(&stop).await, UpdateOutcome::Idle);
    assert_eq!(
        updater.run_once(&stop).await,
        UpdateOutcome::RepositorySynced
    );
    world.answer([Write::Refused("HTTP 409", None)]);
    assert!(matches!(
        updater.run_once(&stop).await,
        UpdateOutcome::Failed {
            retry_at: Some(_),
            ..
        }
    ));
    assert!(matches!(
        updater.run_due(&stop).await,
        UpdateOutcome::Waiting { .. }
    ));
    world.pass(1);
    assert_eq!(
        updater.run_due(&stop).await,
        UpdateOutcome::RepositorySynced
    );
    assert_eq!(world.settings(|settings| settings.repository_sync_count), 3);
    assert_eq!(world.write_count(), 0);
}

#[tokio::test]
async fn no_package_url_is_in_the_ledger_or_in_what_is_shown() {
    let world = World::new();
    world.run_once().await;
    world.pass(1);
    world.after_master(false).await;
    world.pass(11);
    assert!(matches!(
        world.run_due().await,
        UpdateOutcome::RolledBack { .. }
    ));
    let kept = world.ledger.recall(state::FACT).await.unwrap().unwrap();
    let shown = serde_json::to_string(&world.view().await).unwrap();
    let updater = format!("{:?}", world.updater());
    for text in [kept, shown, updater] {
        assert!(!text.contains("CANARY"), "{text}");
    }
}
