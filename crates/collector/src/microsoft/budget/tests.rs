//! The budget's rate and the order of turns, in a time that is paused.

use std::sync::Arc;

use activity_api::ContentType;
use proptest::prelude::*;

use super::pace::FLOOR_PER_MINUTE;
use super::*;

const FETCH: Use = Use::Fetching(ContentType::Exchange);
const MINUTE: Duration = Duration::from_secs(60);

/// When requests were sent, of somebody who wants to send all the time, for this long.
async fn sent_in(budget: &Budget, time: Duration) -> Vec<Instant> {
    let end = Instant::now() + time;
    let mut sent = Vec::new();
    loop {
        match tokio::time::timeout_at(end, budget.take(FETCH)).await {
            Ok(Ok(())) => sent.push(Instant::now()),
            Ok(Err(wait)) => tokio::time::sleep(wait).await,
            Err(_) => return sent,
        }
        if Instant::now() > end {
            return sent;
        }
    }
}

async fn count_in(budget: &Budget, time: Duration) -> usize {
    sent_in(budget, time).await.len()
}

/// The most that were sent in any minute.
fn busiest_minute(sent: &[Instant]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in sent.iter().enumerate() {
        while *at - sent[first] >= MINUTE {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn requests_come_up_to_the_rate_and_in_no_minute_over_it() {
    for rate in [30, 600, 2_000] {
        let budget = Budget::new(rate);
        let mut sent = sent_in(&budget, MINUTE * 2).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        sent.extend(sent_in(&budget, MINUTE * 2).await);
        let most = busiest_minute(&sent);
        assert!(most <= rate as usize, "{most} of {rate}");
        let least = rate as usize * 4 * 98 / 100;
        assert!(sent.len() >= least - 4, "{} of {rate}", sent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_minute_is_not_saved_up() {
    let budget = Budget::new(600);
    tokio::time::sleep(MINUTE * 10).await;
    let sent = sent_in(&budget, MINUTE).await;
    assert!(sent.len() <= 600, "{}", sent.len());
    let in_the_first_second = sent
        .iter()
        .filter(|at| **at - sent[0] < Duration::from_secs(1))
        .count();
    assert!(in_the_first_second <= 41, "{in_the_first_second}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_minute_has_more_requests_than_the_rate_whatever_pauses_and_refusals_come(
        rate in 30_u32..900,
        steps in proptest::collection::vec((0_u64..40_000, 0_u64..20_000, 0_u64..12), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let budget = Budget::new(rate);
            let (mut sent, mut since_refusal) = (Vec::new(), Vec::new());
            for (busy, idle, retry_after) in steps {
                let more = sent_in(&budget, Duration::from_millis(busy)).await;
                sent.extend(more.iter().copied());
                since_refusal.extend(more);
                // While the rate recovers it grows, so what it is at the end is the most that it was.
                let now = budget.per_minute();
                assert!(busiest_minute(&since_refusal) as f64 <= now.max(1.0), "{now}");
                tokio::time::sleep(Duration::from_millis(idle)).await;
                if retry_after > 8 {
                    budget.throttled(Some(Duration::from_secs(retry_after)));
                    since_refusal.clear();
                }
            }
            let most = busiest_minute(&sent);
            assert!(most <= rate as usize, "{most} of {rate}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_pauses_and_halves_once() {
    let budget = Budget::new(1_200);
    for _ in 0..20 {
        budget.throttled(Some(Duration::from_secs(5)));
    }
    assert_eq!(budget.per_minute(), 600.0);
    assert_eq!(count_in(&budget, Duration::from_millis(4_900)).await, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    budget.throttled(None);
    assert!(budget.per_minute() < 320.0, "{}", budget.per_minute());
}

#[tokio::test(start_paused = true)]
async fn what_a_refusal_adds_to_the_silence_is_told_once() {
    let budget = Budget::new(1_200);
    assert_eq!(
        budget.throttled(Some(Duration::from_secs(5))),
        Duration::from_secs(5)
    );
    assert_eq!(
        budget.throttled(Some(Duration::from_secs(5))),
        Duration::ZERO
    );
    assert_eq!(
        budget.throttled(Some(Duration::from_secs(8))),
        Duration::from_secs(3)
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_in_line_for_a_long_pause() {
    let budget = Budget::new(600);
    assert_eq!(budget.paused_for(), None);
    budget.throttled(Some(Duration::from_secs(120)));
    assert_eq!(budget.paused_for(), Some(Duration::from_secs(120)));
    let started = Instant::now();
    assert_eq!(budget.take(FETCH).await, Err(Duration::from_secs(120)));
    assert_eq!(started.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(118)).await;
    assert_eq!(budget.take(FETCH).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_is_in_line_when_a_long_pause_comes_leaves_it() {
    let budget = Budget::new(60);
    while budget.state().pace.next_at(Instant::now()) <= Instant::now() {
        budget.take(FETCH).await.unwrap();
    }
    let began = Instant::now();
    let waiting = budget.take(FETCH);
    let refusing = async { budget.throttled(Some(Duration::from_secs(300))) };
    let (waited, _) = tokio::join!(waiting, refusing);
    assert!(waited.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_rate_recovers_slowly_and_never_falls_to_nothing() {
    let budget = Budget::new(1_000);
    for _ in 0..40 {
        budget.throttled(Some(Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(budget.per_minute() >= FLOOR_PER_MINUTE);
    tokio::time::sleep(MINUTE * 30).await;
    assert_eq!(budget.per_minute(), 1_000.0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_tight_while_it_is_paused_reduced_or_used_up() {
    let budget = Budget::new(600);
    assert!(!budget.is_tight());
    count_in(&budget, Duration::from_secs(30)).await;
    assert!(!budget.is_tight(), "half of it was used");
    count_in(&budget, Duration::from_secs(25)).await;
    assert!(budget.is_tight(), "nearly all of it was used");
    tokio::time::sleep(MINUTE * 2).await;
    assert!(!budget.is_tight());
    budget.throttled(Some(Duration::from_secs(3)));
    assert!(budget.is_tight());
    tokio::time::sleep(MINUTE).await;
    assert!(budget.is_tight(), "the rate is little over a half");
    tokio::time::sleep(MINUTE * 5).await;
    assert!(!budget.is_tight());
}

/// Uses the budget for `of` with so many at once, for this long; how many requests that were.
async fn use_up(budget: &Arc<Budget>, of: Use, at_once: usize, time: Duration) -> usize {
    let end = Instant::now() + time;
    let askers = (0..at_once).map(|_| async {
        let mut count = 0;
        while let Ok(taken) = tokio::time::timeout_at(end, budget.take(of)).await {
            match taken {
                Ok(()) => count += usize::from(Instant::now() < end),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
        count
    });
    futures::future::join_all(askers).await.into_iter().sum()
}

#[tokio::test(start_paused = true)]
async fn a_content_type_with_a_large_backlog_keeps_none_of_the_others_waiting() {
    let budget = Arc::new(Budget::new(600));
    let busy = Use::Fetching(ContentType::Exchange);
    let small = Use::Fetching(ContentType::Dlp);
    let seldom = async {
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let began = Instant::now();
            budget.take(small).await.unwrap();
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let (count, longest) = tokio::join!(use_up(&budget, busy, 40, MINUTE), seldom);
    // Forty wait before it, which at this rate is four seconds; its own turn comes after at most one of theirs.
    assert!(longest <= Duration::from_millis(300), "{longest:?}");
    assert!(count > 550, "{count}");
}

#[tokio::test(start_paused = true)]
async fn content_types_that_want_much_get_the_same_share_however_many_ask_at_once() {
    let budget = Arc::new(Budget::new(600));
    let (many, few) = tokio::join!(
        use_up(&budget, Use::Fetching(ContentType::Exchange), 30, MINUTE),
        use_up(&budget, Use::Fetching(ContentType::SharePoint), 2, MINUTE),
    );
    assert!(many.abs_diff(few) <= 5, "{many} and {few}");
}

#[tokio::test(start_paused = true)]
async fn neither_listing_nor_fetching_starves_the_other() {
    let budget = Arc::new(Budget::new(600));
    let (pages, other_pages, blobs) = tokio::join!(
        use_up(&budget, Use::Listing(ContentType::Exchange), 20, MINUTE),
        use_up(&budget, Use::Listing(ContentType::General), 1, MINUTE),
        use_up(&budget, Use::Fetching(ContentType::SharePoint), 30, MINUTE),
    );
    assert!(blobs.abs_diff(pages + other_pages) <= 5, "{blobs} blobs");
    assert!(
        pages.abs_diff(other_pages) <= 5,
        "{pages} and {other_pages} pages"
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_slowest_rate_every_content_type_still_lists() {
    let budget = Arc::new(Budget::new(30));
    let fetching = use_up(
        &budget,
        Use::Fetching(ContentType::Exchange),
        30,
        MINUTE * 2,
    );
    let listing = futures::future::join_all(
        ContentType::ALL
            .into_iter()
            .map(|content_type| budget.take(Use::Listing(content_type))),
    );
    let (_, listed) = tokio::join!(fetching, listing);
    assert!(listed.iter().all(Result::is_ok), "{listed:?}");
}
