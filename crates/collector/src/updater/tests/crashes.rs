//! The process dies after every single write, to the ledger and to the app settings, and the next one goes on.

use super::world::{NEW_URL, OLD_URL, World};

/// Dies after the first write, in another world after the second, and so on until there is no such write any more. How
/// many there were.
async fn die_everywhere(is_healthy: bool, check: impl AsyncFn(&World)) -> u32 {
    for step in 1.. {
        let world = World::new();
        world.after_master(true).await;
        world.death.after(step);
        world.live(60, is_healthy).await;
        check(&world).await;
        if world.death.is_ahead() {
            return step - 1;
        }
    }
    unreachable!("a world has an end")
}

#[tokio::test]
async fn a_good_release_gets_in_whatever_step_the_process_dies_after() {
    let deaths = die_everywhere(true, async |world: &World| {
        let events = world.events().await;
        assert_eq!(world.current(), NEW_URL, "{events:#?}");
        world.settings(|settings| {
            assert_eq!(settings.previous.as_deref(), Some(OLD_URL), "{events:#?}");
            assert_eq!(settings.write_count, 1, "{events:#?}");
            assert!(settings.sync_count >= 1, "{events:#?}");
        });
        let view = world.view().await;
        assert_eq!(view.summary, "0.2.0 runs and is confirmed", "{events:#?}");
        assert!(view.refused.is_empty(), "{events:#?}");
    })
    .await;
    assert!(deaths >= 8, "{deaths}");
}

#[tokio::test]
async fn a_bad_release_gets_out_whatever_step_the_process_dies_after() {
    let deaths = die_everywhere(false, async |world: &World| {
        let events = world.events().await;
        assert_eq!(world.current(), OLD_URL, "{events:#?}");
        world.settings(|settings| {
            assert_eq!(settings.write_count, 2, "{events:#?}");
            assert!(settings.sync_count >= 2, "{events:#?}");
        });
        let view = world.view().await;
        assert_eq!(view.refused.len(), 1, "{events:#?}");
        assert_eq!(view.changing_to, None, "{events:#?}");
        // And stays out.
        world.live(30, false).await;
        assert_eq!(world.write_count(), 2, "{events:#?}");
    })
    .await;
    assert!(deaths >= 11, "{deaths}");
}
