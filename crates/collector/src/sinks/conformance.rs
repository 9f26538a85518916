//! What every sink promises, as one suite that each sink's tests run: all records arrive, exactly, in order, and a sink that
//! fails tells the truth about how far it came.

use async_trait::async_trait;

use super::{
    Receipt, Sink,
    testing::{batch, batch_of_parts, record, records},
};
use crate::record::Batch;

/// One sink with the other side that its records go to, empty at first. The suite makes one for each of its checks.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// The sink under test, resumed already.
    fn sink(&self) -> &dyn Sink;

    /// The records that the other side has as safe, in order, as whole texts.
    fn arrived(&self) -> Vec<String>;

    /// Has the next delivery of records fail when about `bytes` of their text are through; the one after that works.
    fn fail_after(&self, bytes: usize);

    /// Has the other side refuse, for good, each record that has this in its text. `false` when this other side takes
    /// everything.
    fn refuse(&self, marker: &'static str) -> bool;

    /// The record's text as it should arrive. Only a sink of lines has a reason to change it.
    fn as_it_arrives(&self, text: &str) -> String {
        text.to_owned()
    }

    /// Whether a record that a failed delivery had not counted may arrive twice.
    fn may_repeat(&self) -> bool;
}

/// Runs the whole suite.
pub(crate) async fn check<S: Subject>(subject: impl AsyncFn() -> S) {
    delivers_all_records_exactly_and_in_order(&subject().await).await;
    delivers_batches_one_after_the_other(&subject().await).await;
    an_empty_batch_is_fine(&subject().await).await;
    a_probe_delivers_nothing_and_is_in_nobodys_way(&subject().await).await;
    the_skipped_head_of_a_batch_stays_out(&subject().await).await;
    odd_records_survive(&subject().await).await;
    a_batch_larger_than_asked_for_arrives(&subject().await).await;
    refused_records_are_named_and_hold_up_no_other(&subject().await).await;
    for bytes in [0, 1, 150, 1_000, 60_000] {
        a_failure_tells_how_many_are_safe_and_the_rest_can_follow(&subject().await, bytes).await;
    }
}

async fn deliver(subject: &impl Subject, batch: &Batch) -> Receipt {
    let receipt = subject.sink().deliver(batch).await.unwrap();
    assert_eq!(receipt.refused, [], "nothing was to be refused");
    receipt
}

fn expected(subject: &impl Subject, texts: &[String]) -> Vec<String> {
    texts
        .iter()
        .map(|text| subject.as_it_arrives(text))
        .collect()
}

async fn delivers_all_records_exactly_and_in_order(subject: &impl Subject) {
    let parts = [records(0, 7), records(7, 1), records(8, 92)];
    deliver(subject, &batch_of_parts(&parts)).await;
    assert_eq!(subject.arrived(), records(0, 100));
}

async fn delivers_batches_one_after_the_other(subject: &impl Subject) {
    for number in 0..5 {
        deliver(subject, &batch(&records(number * 10, 10))).await;
        subject.sink().tick().await.unwrap();
    }
    assert_eq!(subject.arrived(), records(0, 50));
}

async fn an_empty_batch_is_fine(subject: &impl Subject) {
    deliver(subject, &batch_of_parts(&[])).await;
    deliver(subject, &batch(&records(0, 3)).skip(3)).await;
    deliver(subject, &batch(&records(0, 3))).await;
    deliver(subject, &batch_of_parts(&[Vec::new(), Vec::new()])).await;
    assert_eq!(subject.arrived(), records(0, 3));
}

async fn a_probe_delivers_nothing_and_is_in_nobodys_way(subject: &impl Subject) {
    let probe = async || assert_ne!(subject.sink().probe().await.unwrap(), "");
    probe().await;
    assert_eq!(subject.arrived(), [""; 0]);
    deliver(subject, &batch(&records(0, 3))).await;
    probe().await;
    deliver(subject, &batch(&records(3, 4))).await;
    assert_eq!(subject.arrived(), records(0, 7));
}

async fn the_skipped_head_of_a_batch_stays_out(subject: &impl Subject) {
    let parts = [records(0, 4), records(4, 4)];
    deliver(subject, &batch_of_parts(&parts).skip(5)).await;
    assert_eq!(subject.arrived(), records(5, 3));
}

async fn odd_records_survive(subject: &impl Subject) {
    let texts = vec![
        "{}".to_owned(),
        r#"{"Operation":"no id, no time"}"#.to_owned(),
        r#"{"Id":"","CreationTime":"yesterday","RecordType":"a word"}"#.to_owned(),
        r#"{"Id":17,"CreationTime":null}"#.to_owned(),
        "{\r\n\t\"Id\" : \"spread over lines\",\n\n  \"a\": [ 1,\r 2 ]\n}".to_owned(),
        r#"{"Id":"escapes","a":"line\nbreak\r, \" and \\, \u0000, \ud83d\ude00"}"#.to_owned(),
        "{\"Id\":\"unicode\",\"a\":\"ü, 日本, 😀, \u{2028}, \u{feff}, \u{7f}\"}".to_owned(),
        r#"{"Id":"numbers","a":1e400,"b":123456789012345678901234567890,"c":1.0000000000000000001}"#.to_owned(),
        r#"{"Id":"twice","Id":"twice","a":1,"a":2}"#.to_owned(),
        format!(r#"{{"Id":"one mebibyte","a":"{}"}}"#, "x".repeat(1 << 20)),
        record(1),
    ];
    deliver(subject, &batch(&texts)).await;
    assert_eq!(subject.arrived(), expected(subject, &texts));
}

async fn a_batch_larger_than_asked_for_arrives(subject: &impl Subject) {
    let each = record(0).len();
    let texts = records(0, subject.sink().batch_bytes() * 2 / each + 1);
    deliver(subject, &batch(&texts)).await;
    assert!(
        subject.arrived() == texts,
        "{} records of {} arrived",
        subject.arrived().len(),
        texts.len()
    );
}

async fn refused_records_are_named_and_hold_up_no_other(subject: &impl Subject) {
    const BAD: &str = "\"bad\"";
    if !subject.refuse(BAD) {
        return;
    }
    let mut texts = records(0, 40);
    for index in [0, 17, 18, 39] {
        texts[index] = format!(r#"{{"Id":"{index}","Operation":{BAD}}}"#);
    }
    let receipt = subject.sink().deliver(&batch(&texts)).await.unwrap();
    let refused: Vec<_> = receipt
        .refused
        .iter()
        .map(|refused| refused.index_in_batch)
        .collect();
    assert_eq!(refused, [0, 17, 18, 39]);
    for refused in &receipt.refused {
        assert!(
            !refused.reason.is_empty() && !refused.reason.contains(BAD),
            "{}",
            refused.reason
        );
    }
    let good: Vec<_> = texts
        .iter()
        .filter(|text| !text.contains(BAD))
        .cloned()
        .collect();
    assert_eq!(subject.arrived(), good);
}

async fn a_failure_tells_how_many_are_safe_and_the_rest_can_follow(
    subject: &impl Subject,
    bytes: usize,
) {
    deliver(subject, &batch(&records(0, 10))).await;
    // The failure must come before the end, wherever the sink cuts its requests.
    let texts = records(10, 2_000);
    let sent = batch(&texts);
    subject.fail_after(bytes);
    let failure = subject.sink().deliver(&sent).await.unwrap_err();
    assert!(
        failure.delivered_count < texts.len(),
        "it failed, and yet all is safe"
    );
    assert!(
        failure.to_string().contains(subject.sink().name().as_str()),
        "which sink? {failure}"
    );
    let arrived = subject.arrived();
    assert_eq!(
        arrived[10..10 + failure.delivered_count],
        texts[..failure.delivered_count],
        "counted, and not there"
    );
    if !subject.may_repeat() {
        assert_eq!(
            arrived.len(),
            10 + failure.delivered_count,
            "there, and not counted"
        );
    }

    let receipt = deliver(subject, &sent.skip(failure.delivered_count)).await;
    let mut arrived = subject.arrived();
    if subject.may_repeat() {
        arrived.sort();
        arrived.dedup();
    }
    assert_eq!(arrived, records(0, 2_010));
    subject
        .sink()
        .resume(receipt.position.as_deref())
        .await
        .unwrap();
    deliver(subject, &batch(&records(3_000, 1))).await;
    assert!(subject.arrived().contains(&record(3_000)));
}
