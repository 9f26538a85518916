//! Tests of what is read from elsewhere: another process's view, a ledger without a process, a ledger that fails.

use super::*;

#[test]
fn a_ledger_that_fails_is_the_first_trouble_until_it_takes_a_write() {
    let live = live();
    let mut exchange = stream(ContentType::Exchange);
    exchange.expired_count = 1;
    let summary = Summary {
        streams: vec![exchange],
    };
    live.ledger_failed("no room", at("2026-07-15T20:00:00Z"));
    live.ledger_failed("still no room", at("2026-07-15T20:30:00Z"));
    let failing = view(&summary, Some(&live), now());
    assert_eq!(
        failing.troubles[0],
        "the ledger fails, first 1 h 0 min ago: still no room"
    );
    assert_eq!(failing.troubles.len(), 2);
    let trouble = failing.ledger.failing.unwrap();
    assert_eq!(trouble.since, at("2026-07-15T20:00:00Z"));

    live.ledger_ok();
    let mended = view(&summary, Some(&live), now());
    assert_eq!((mended.ledger.failing, mended.troubles.len()), (None, 1));
}

#[test]
fn the_json_reads_back_as_the_same_view() {
    let live = live();
    live.add_sink(&sink("alertlogic"));
    live.sink_ok(&sink("file"), 3, now());
    live.sink_failing(&sink("alertlogic"), 0, "503", Some(now()), now());
    live.tenant_stopped(tenant(), "no consent", None, now());
    live.poll_failed(tenant(), ContentType::Exchange, "503", None, now());
    live.ledger_failed("no room", now());
    live.delivered(100, 10, now());
    let mut exchange = stream(ContentType::Exchange);
    exchange.pending_count = 2;
    exchange.oldest_pending_created_at = Some(now());
    let summary = Summary {
        streams: vec![exchange],
    };
    for view in [
        view(&summary, Some(&live), now()),
        view(&summary, None, now()),
        view_without_ledger("gone", Some(&live), now()),
    ] {
        let json = serde_json::to_vec(&view).unwrap();
        let read: StatusView = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, view);
        assert_eq!(to_text(&read), to_text(&view));
    }
}

#[test]
fn what_a_stranger_answers_as_a_status_cannot_move_the_cursor() {
    let mut view = view(&Summary::default(), Some(&live()), now());
    let evil = "\u{1b}[2J\r".to_owned();
    view.version.clone_from(&evil);
    view.tenants[0].id.clone_from(&evil);
    view.tenants[0].streams[0].content_type.clone_from(&evil);
    view.sinks[0].name.clone_from(&evil);
    view.troubles = vec![evil];
    view.totals.pending_count = u64::MAX;
    view.totals.leased_count = 1;
    let text = to_text(&view);
    assert!(
        !text.contains(|char: char| char.is_control() && char != '\n'),
        "{text:?}"
    );
}

#[test]
fn the_ledger_alone_shows_that_something_stands_still() {
    let troubles = |streams| view(&Summary { streams }, None, now()).troubles;
    assert_eq!(troubles(Vec::new()), ["nothing was ever listed"]);

    let mut exchange = stream(ContentType::Exchange);
    exchange.listed_until = Some(now() - SignedDuration::from_mins(15));
    assert!(troubles(vec![exchange.clone()]).is_empty());

    exchange.listed_until = Some(now() - SignedDuration::from_mins(125));
    exchange.pending_count = 11;
    exchange.leased_count = 1;
    exchange.oldest_pending_created_at = Some(now() - SignedDuration::from_mins(130));
    let mut dlp = stream(ContentType::Dlp);
    dlp.listed_until = None;
    let id = tenant();
    assert_eq!(
        troubles(vec![exchange.clone(), dlp]),
        [
            format!(
                "Audit.Exchange of tenant {id} is listed without a gap only up to 2 h 5 min ago"
            ),
            format!(
                "waiting of Audit.Exchange of tenant {id}: 12 blobs, the oldest made available 2 h 10 min ago"
            ),
            format!("DLP.All of tenant {id} was never listed"),
        ]
    );
    // The running process knows the reasons, and says those.
    let summary = Summary {
        streams: vec![exchange],
    };
    assert!(view(&summary, Some(&live()), now()).troubles.is_empty());
}
