//! When a batch's text is let go of: once Splunk has taken all of it, while the indexers keep up.

use std::sync::atomic::AtomicBool;

use super::*;

/// Delivers; whether the text was let go of.
async fn deliver(sink: &SplunkHecSink, texts: &[String]) -> (bool, Result<Receipt, Failure>) {
    let is_gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_gone);
    let batch = batch(texts).let_go_by(move || is_gone.store(true, Ordering::SeqCst));
    let result = sink.deliver_and_let_go(batch).await;
    (seen.load(Ordering::SeqCst), result)
}

#[tokio::test(start_paused = true)]
async fn text_is_let_go_of_while_the_indexers_keep_up_and_kept_once_they_do_not() {
    let fake = Fake::new(true);
    let sink = sink(&fake, |config| {
        config.acknowledge_within = Duration::from_secs(30)
    });
    let (is_gone, result) = deliver(&sink, &records(0, 3)).await;
    assert!(result.is_ok() && !is_gone, "nothing was indexed before");
    let (is_gone, result) = deliver(&sink, &records(3, 3)).await;
    assert!(result.is_ok() && is_gone);
    fake.lose(2);
    let (is_gone, result) = deliver(&sink, &records(6, 3)).await;
    assert!(is_gone);
    assert_eq!(result.unwrap_err().delivered_count, 0);
    let (is_gone, result) = deliver(&sink, &records(6, 3)).await;
    assert!(result.is_ok() && !is_gone, "the last was not indexed");
    assert_eq!(fake.indexed(), records(0, 9));
}

#[tokio::test(start_paused = true)]
async fn what_splunk_refuses_is_refused_with_its_text() {
    let fake = Fake::new(true);
    let sink = sink(&fake, |_| {});
    deliver(&sink, &records(0, 3)).await.1.unwrap();
    let texts = records(3, 3);
    let marker: &'static str = Box::leak(texts[1].clone().into_boxed_str());
    fake.refuse(marker);
    let (is_gone, result) = deliver(&sink, &texts).await;
    assert!(!is_gone);
    let refused = result.unwrap().refused;
    let indexes: Vec<_> = refused.iter().map(|one| one.index_in_batch).collect();
    assert_eq!(indexes, [1]);
}
