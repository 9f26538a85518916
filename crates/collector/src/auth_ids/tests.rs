//! Tests of how an auth id comes about and changes.

use super::*;
use crate::testing::Scene;

async fn settled(scene: &Scene, configured: Option<&str>) -> AuthIds {
    let configured = configured.map(SecretString::from);
    settle(configured.as_ref(), &*scene.ledger, scene.now())
        .await
        .unwrap()
}

fn texts(ids: &AuthIds) -> (&str, Option<&str>) {
    let previous = ids.previous.as_ref().map(ExposeSecret::expose_secret);
    (ids.current.expose_secret(), previous)
}

#[tokio::test(start_paused = true)]
async fn one_is_generated_once_and_for_all() {
    let scene = Scene::new();
    let first = settled(&scene, None).await;
    assert!(first.is_fresh);
    let text = first.current.expose_secret();
    assert_eq!(text.len(), 64);
    assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(!format!("{first:?}").contains(text));
    let again = settled(&scene, None).await;
    assert!(!again.is_fresh);
    assert_eq!(texts(&again), (text, None));
    // And is taken over when it comes back as a setting.
    assert!(!settled(&scene, Some(text)).await.is_fresh);
    assert_ne!(
        text,
        settled(&Scene::new(), None).await.current.expose_secret()
    );
}

#[tokio::test(start_paused = true)]
async fn while_it_changes_both_are_accepted_and_a_day_later_only_the_new_one() {
    let scene = Scene::new();
    settled(&scene, Some("old")).await;
    let changed = settled(&scene, Some("new")).await;
    assert!(changed.is_fresh);
    assert_eq!(texts(&changed), ("new", Some("old")));
    let recalled = async || recall(&*scene.ledger, scene.now()).await.unwrap().unwrap();
    assert_eq!(texts(&recalled().await), ("new", Some("old")));
    tokio::time::advance(KEEP_PREVIOUS).await;
    assert_eq!(texts(&recalled().await), ("new", None));
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_does_not_take_is_not_put_in_force() {
    let scene = Scene::new();
    scene.ledger.fail_next("remember", 1);
    assert!(settle(None, &*scene.ledger, scene.now()).await.is_err());
    let recalled = recall(&*scene.ledger, scene.now()).await.unwrap();
    assert!(recalled.is_none());
}
