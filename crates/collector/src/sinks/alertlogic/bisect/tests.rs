//! Any set of bad records is found, whatever the payloads, and nothing is sent twice.

use proptest::prelude::*;

use super::*;

/// A service that refuses payloads with a bad record in them. Returns the accepted records, the outcome, and how many
/// payloads that took.
fn deliver(
    record_count: usize,
    payload_count: usize,
    is_bad: impl Fn(usize) -> bool,
) -> (Vec<usize>, Result<(), String>, Progress, usize) {
    let mut progress = Progress::new(record_count);
    let mut accepted = Vec::new();
    let mut tries = 0;
    while let Some(stretch) = progress.next_stretch() {
        tries += 1;
        let payload = stretch.start..stretch.end.min(stretch.start + payload_count);
        if !payload.clone().any(&is_bad) {
            progress.accept(payload.len());
            accepted.extend(payload);
        } else if payload.len() > 1 {
            progress.split(payload.len());
        } else if let Err(reason) = progress.suspect("bad") {
            return (accepted, Err(reason), progress, tries);
        }
    }
    let outcome = progress.settle(!accepted.is_empty());
    (accepted, outcome, progress, tries)
}

proptest! {
    #[test]
    fn bad_records_are_found_and_all_others_accepted_in_order(
        record_count in 1_usize..400,
        payload_count in 1_usize..200,
        bad in prop::collection::btree_set(0_usize..400, 0..6),
    ) {
        let bad: Vec<_> = bad.into_iter().filter(|index| *index < record_count).collect();
        let good: Vec<_> = (0..record_count).filter(|index| !bad.contains(index)).collect();
        let (accepted, outcome, progress, tries) = deliver(record_count, payload_count, |index| bad.contains(&index));
        prop_assert_eq!(&accepted, &good);
        let (safe, refused) = progress.into_safe();
        let refused: Vec<_> = refused.into_iter().map(|refused| refused.index_in_batch).collect();
        if good.is_empty() {
            prop_assert!(outcome.is_err());
            prop_assert_eq!((safe, refused), (0, vec![]));
        } else {
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!((safe, refused), (record_count, bad.clone()));
        }
        // Each bad record costs at most two tries per halving.
        let halvings = payload_count.ilog2() as usize + 2;
        prop_assert!(tries <= record_count.div_ceil(payload_count) + bad.len() * 2 * halvings, "{tries}");
    }
}

#[test]
fn too_many_suspects_in_a_row_go_back_and_what_was_safe_before_stays_safe() {
    let (accepted, outcome, progress, _) = deliver(500, 10, |index| index >= 13);
    assert_eq!(accepted, (0..13).collect::<Vec<_>>());
    assert_eq!(outcome, Err("bad".to_owned()));
    assert_eq!(progress.into_safe(), (13, vec![]));
}

#[test]
fn a_record_refused_for_its_own_sake_behind_open_suspects_is_not_counted_safe() {
    let mut progress = Progress::new(4);
    progress.refuse("too large");
    progress.suspect("bad").unwrap();
    progress.refuse("too large");
    let first = Refused {
        index_in_batch: 0,
        reason: "too large".to_owned(),
    };
    assert_eq!(progress.into_safe(), (1, vec![first]));
}
