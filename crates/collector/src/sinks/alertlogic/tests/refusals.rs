//! Payloads and records that ingest does not take, and failures half way: where each record ends up.

use super::*;
use crate::sinks::Refused;

/// Texts that got a yes, when the hook says no to what `is_refused` names.
fn refuse(
    rig: &Rig,
    status: u16,
    is_refused: impl Fn(&[String]) -> bool + Send + 'static,
) -> Arc<std::sync::Mutex<Vec<String>>> {
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = Arc::clone(&accepted);
    rig.fake.hook(move |seen| {
        if !seen.line.ends_with("/logmsgs") {
            return None;
        }
        if is_refused(&seen.texts) {
            return Some(Answer::Status(status, String::new()));
        }
        taken.lock().unwrap().extend(seen.texts.iter().cloned());
        None
    });
    accepted
}

/// A sink of small payloads, and more records than fit one.
fn in_several_payloads(rig: &Rig) -> (AlertLogicSink, Vec<String>) {
    let sink = rig.sink_with(
        AlertLogicConfig {
            max_payload_bytes: 10_000,
            ..config()
        },
        &[TENANT],
    );
    (sink, (0..400).map(|n| record(n, 400)).collect())
}

#[tokio::test]
async fn a_payload_too_large_for_the_service_is_halved_until_it_fits() {
    let rig = Rig::new();
    let accepted = refuse(&rig, 413, |texts| texts.len() > 30);
    let records = records(1_000);
    assert_eq!(
        ok(rig.sink().deliver(&rig.batch(&records).await).await),
        [] as [usize; 0]
    );
    assert_eq!(*accepted.lock().unwrap(), records);
}

#[tokio::test]
async fn one_record_that_the_service_refuses_is_named_and_all_others_arrive() {
    let rig = Rig::new();
    let records = records(1_000);
    let bad = records[617].clone();
    let accepted = refuse(&rig, 400, move |texts| texts.contains(&bad));
    let receipt = rig
        .sink()
        .deliver(&rig.batch(&records).await)
        .await
        .unwrap();
    let reason = "refused by ingest: the service does not accept the request's content (HTTP 400 Bad Request)".to_owned();
    assert_eq!(
        receipt.refused,
        [Refused {
            index_in_batch: 617,
            reason
        }]
    );
    let others: Vec<_> = records
        .iter()
        .filter(|record| **record != records[617])
        .cloned()
        .collect();
    assert_eq!(*accepted.lock().unwrap(), others);
    assert!(rig.fake.lines().len() < 40, "{}", rig.fake.lines().len());
}

#[tokio::test]
async fn a_service_that_refuses_everything_gets_no_record_quarantined() {
    let rig = Rig::new();
    refuse(&rig, 400, |_| true);
    let sink = rig.sink();
    for count in [1, 2, 500] {
        let failure = sink
            .deliver(&rig.batch(&records(count)).await)
            .await
            .unwrap_err();
        assert!(
            matches!(failure.error, Error::Refused { .. }),
            "{failure:?}"
        );
        assert_eq!((failure.delivered_count, failure.refused), (0, vec![]));
    }
    assert!(rig.fake.lines().len() < 150, "{}", rig.fake.lines().len());
}

#[tokio::test]
async fn a_lone_record_is_refused_only_while_the_service_takes_others() {
    let rig = Rig::new();
    let bad = record(7, 50);
    let text = bad.clone();
    refuse(&rig, 400, move |texts| texts.contains(&text));
    let sink = rig.sink();
    let lone = rig.batch(&[bad]).await;
    assert!(sink.deliver(&lone).await.is_err());
    sink.deliver(&rig.batch(&records(1)).await).await.unwrap();
    assert_eq!(ok(sink.deliver(&lone).await), [0]);
    rig.clock.advance(SignedDuration::from_mins(11));
    assert!(sink.deliver(&lone).await.is_err());
}

#[tokio::test]
async fn what_got_its_yes_before_a_failure_is_not_sent_again() {
    let rig = Rig::new();
    let (sink, records) = in_several_payloads(&rig);
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = Arc::clone(&accepted);
    let mut count = 0;
    rig.fake.hook(move |seen| {
        if seen.line != LOGMSGS {
            return None;
        }
        count += 1;
        if count % 3 == 0 {
            return Some(Answer::RetryAfter(503, 7));
        }
        taken.lock().unwrap().extend(seen.texts.iter().cloned());
        None
    });
    let mut batch = rig.batch(&records).await;
    let mut failures = 0;
    while let Err(failure) = sink.deliver(&batch).await {
        failures += 1;
        let Error::Unavailable { retry_after, .. } = failure.error else {
            panic!("{failure:?}")
        };
        assert_eq!(retry_after, Some(std::time::Duration::from_secs(7)));
        assert!(failure.delivered_count > 0);
        batch = batch.skip(failure.delivered_count);
    }
    assert!(failures > 2, "{failures}");
    assert_eq!(*accepted.lock().unwrap(), records);
}

#[tokio::test]
async fn a_record_too_large_even_alone_is_named_and_never_sent() {
    let rig = Rig::new();
    let mut records = records(20);
    records[11] = record(11, 90_000);
    let accepted = refuse(&rig, 500, |_| false);
    let sink = rig.sink_with(
        AlertLogicConfig {
            max_payload_bytes: 20_000,
            ..config()
        },
        &[TENANT],
    );
    assert_eq!(ok(sink.deliver(&rig.batch(&records).await).await), [11]);
    records.remove(11);
    assert_eq!(*accepted.lock().unwrap(), records);
}

#[tokio::test]
async fn a_yes_whose_body_breaks_off_is_a_yes() {
    let rig = Rig::new();
    rig.fake
        .hook(|seen| (seen.line == LOGMSGS).then_some(Answer::Broken(200)));
    rig.sink()
        .deliver(&rig.batch(&records(2)).await)
        .await
        .unwrap();
    rig.fake
        .hook(|seen| (seen.line == LOGMSGS).then_some(Answer::Broken(500)));
    let failure = rig
        .sink()
        .deliver(&rig.batch(&records(2)).await)
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Unavailable { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_batch_grows_with_what_fits_a_payload() {
    let rig = Rig::new();
    let sink = rig.sink();
    let before = sink.batch_bytes();
    let records: Vec<_> = (0..2_000)
        .map(|n| record(n, 10) + &"same ".repeat(100))
        .collect();
    sink.deliver(&rig.batch(&records).await).await.unwrap();
    assert!(sink.batch_bytes() > before, "{before}");
    assert!(sink.batch_bytes() <= 4 << 20);
}

#[tokio::test]
async fn text_is_let_go_of_while_payloads_are_taken_and_kept_once_one_is_not() {
    let rig = Rig::new();
    let records = records(100);
    let bad = records[17].clone();
    let sink = rig.sink();
    let lets_go = async |records: &[String]| {
        let is_gone = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_gone);
        let batch = rig.batch(records).await;
        let batch = batch.let_go_by(move || is_gone.store(true, Ordering::Relaxed));
        let result = sink.deliver_and_let_go(batch).await;
        (seen.load(Ordering::Relaxed), result)
    };
    let (is_gone, result) = lets_go(&records[..10]).await;
    assert!(!is_gone, "nothing was taken before");
    ok(result);
    let (is_gone, result) = lets_go(&records[..10]).await;
    assert!(is_gone);
    ok(result);
    let accepted = refuse(&rig, 400, move |texts| texts.contains(&bad));
    let (is_gone, result) = lets_go(&records).await;
    assert!(is_gone);
    let failure = result.unwrap_err();
    assert_eq!((failure.delivered_count, failure.refused), (0, Vec::new()));
    assert!(matches!(failure.error, Error::Unavailable { .. }));
    assert!(accepted.lock().unwrap().is_empty());
    let (is_gone, result) = lets_go(&records).await;
    assert!(!is_gone, "the last was not taken");
    assert_eq!(ok(result), [17]);
    assert_eq!(accepted.lock().unwrap().len(), 99);
    let (is_gone, result) = lets_go(&records[..10]).await;
    assert!(is_gone);
    ok(result);
    // Who has the text in hand goes on with it.
    assert_eq!(ok(sink.deliver(&rig.batch(&records).await).await), [17]);
}

#[tokio::test]
async fn the_text_of_a_batch_in_several_payloads_is_kept_so_that_none_is_sent_again() {
    let rig = Rig::new();
    let (sink, records) = in_several_payloads(&rig);
    for (count, lets_go) in [(10, false), (10, true), (400, false)] {
        let is_gone = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_gone);
        let batch = rig.batch(&records[..count]).await;
        let batch = batch.let_go_by(move || is_gone.store(true, Ordering::Relaxed));
        ok(sink.deliver_and_let_go(batch).await);
        assert_eq!(seen.load(Ordering::Relaxed), lets_go, "{count}");
    }
}

#[tokio::test]
async fn a_probe_signs_in_and_finds_the_way_and_registers_nothing() {
    let rig = Rig::new();
    let sink = rig.sink();
    let found = sink.probe().await.unwrap();
    assert!(found.contains("account 1342"), "{found}");
    assert!(found.contains("ingest.example.net"), "{found}");
    let lines = rig.fake.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains(" api.example.net/")));
}

#[tokio::test]
async fn a_probe_with_a_wrong_key_says_which_settings_to_look_at() {
    let rig = Rig::new();
    let sink = rig.sink();
    rig.fake.hook(|_| Some(Answer::Status(401, String::new())));
    let error = sink.probe().await.unwrap_err().to_string();
    assert!(error.contains("access_key_id and secret_key"), "{error}");
    assert!(SECRETS.iter().all(|secret| !error.contains(secret)));
}
