//! Functions that a queue starts.

use std::time::Duration;

use serde_json::json;
use simulator::{FunctionsHost, FunctionsHostOptions, Outcome};

use super::queue::QueueService;
use super::{LIMIT, deploy, options, seen, wait};

fn with_queue(folder: &tempfile::TempDir, service: &QueueService) -> FunctionsHostOptions {
    options(folder).setting("STORE", service.connection())
}

fn ended(host: &FunctionsHost, count: usize) -> bool {
    host.invocations().len() >= count
}

#[tokio::test]
async fn a_message_is_text_in_json_in_json_and_deleted_when_it_is_done() {
    let folder = deploy();
    let service = QueueService::start();
    service.put("work", r#"{"a":"<b> & \"c\""}"#);
    let host = FunctionsHost::start(with_queue(&folder, &service))
        .await
        .unwrap();
    assert!(host.wait_until(LIMIT, |host| ended(host, 1)).await);
    let invocation = host.invocations().remove(0);
    assert!(invocation.succeeded(), "{invocation:?}");
    let text = r#"{"a":"<b> & \"c\""}"#;
    assert_eq!(invocation.message.as_deref(), Some(text));
    let data = &seen(&invocation.answer)["Data"]["message"];
    assert_eq!(*data, json!(serde_json::to_string(text).unwrap()));
    assert_eq!(seen(&invocation.answer)["Metadata"]["DequeueCount"], 1);
    assert!(wait(&host, |_| service.texts("work").is_empty()).await);
    host.stop().await;
}

#[tokio::test]
async fn a_message_that_always_fails_is_poisoned_after_its_last_try() {
    let folder = deploy();
    let service = QueueService::start();
    service.put("work", "refuse");
    let host = FunctionsHost::start(with_queue(&folder, &service))
        .await
        .unwrap();
    assert!(wait(&host, |_| service.texts("work-poison") == ["refuse"]).await);
    assert!(wait(&host, |_| service.texts("work").is_empty()).await);
    assert_eq!(host.invocations().len(), 3, "maxDequeueCount");
    host.stop().await;
}

#[tokio::test]
async fn a_message_with_an_empty_answer_comes_again_after_the_timeout() {
    let folder = deploy();
    let service = QueueService::start();
    service.put("work", "empty");
    let host = FunctionsHost::start(FunctionsHostOptions {
        function_timeout: Some(Duration::from_millis(600)),
        ..with_queue(&folder, &service)
    })
    .await
    .unwrap();
    assert!(wait(&host, |_| !service.texts("work-poison").is_empty()).await);
    let outcomes: Vec<Outcome> = host
        .invocations()
        .into_iter()
        .map(|one| one.outcome)
        .collect();
    assert_eq!(outcomes, vec![Outcome::TimedOut; 3]);
    host.stop().await;
}

#[tokio::test]
async fn a_message_is_hidden_for_as_long_as_its_function_runs() {
    let folder = deploy();
    let service = QueueService::start();
    service.put("work", "take 2500");
    let host = FunctionsHost::start(FunctionsHostOptions {
        message_lease: Duration::from_secs(1),
        instances: 2,
        ..with_queue(&folder, &service)
    })
    .await
    .unwrap();
    assert!(wait(&host, |_| service.texts("work").is_empty()).await);
    assert_eq!(host.invocations().len(), 1);
    assert!(host.invocations()[0].succeeded());
    host.stop().await;
}

#[tokio::test]
async fn messages_are_shared_by_all_instances_and_survive_a_kill() {
    let folder = deploy();
    let service = QueueService::start();
    let host = FunctionsHost::start(with_queue(&folder, &service))
        .await
        .unwrap();
    host.scale_to(2).await.unwrap();
    assert_eq!(host.pids().len(), 2);
    for number in 0..24 {
        service.put("work", &format!("take {}", 150 + number));
    }
    assert!(host.wait_until(LIMIT, |host| ended(host, 4)).await);
    host.kill(1);
    assert!(wait(&host, |_| service.texts("work").is_empty()).await);
    let invocations = host.invocations();
    let done = invocations.iter().filter(|one| one.succeeded()).count();
    assert_eq!(done, 24, "{invocations:#?}");
    assert!(service.texts("work-poison").is_empty());
    for instance in 0..2 {
        assert!(invocations.iter().any(|one| one.instance == instance));
    }
    host.scale_to(1).await.unwrap();
    assert!(wait(&host, |host| host.pids().len() == 1).await);
    host.stop().await;
}

#[tokio::test]
async fn a_lost_machine_settles_nothing_and_its_messages_come_again() {
    let folder = deploy();
    let service = QueueService::start();
    service.put("work", "take 60000");
    let lease = |host: FunctionsHostOptions| FunctionsHostOptions {
        message_lease: Duration::from_secs(1),
        ..host
    };
    let host = FunctionsHost::start(lease(with_queue(&folder, &service)))
        .await
        .unwrap();
    assert!(wait(&host, |_| service.is_held("work")).await);
    host.lose_power().await;
    assert_eq!(service.texts("work").len(), 1);
    service.replace("work", "take 1");
    let host = FunctionsHost::start(lease(with_queue(&folder, &service)))
        .await
        .unwrap();
    assert!(host.wait_until(LIMIT, |host| ended(host, 1)).await);
    let again = host.invocations().remove(0);
    assert_eq!(seen(&again.answer)["Metadata"]["DequeueCount"], 2);
    host.stop().await;
}
