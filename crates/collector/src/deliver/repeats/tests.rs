//! Which records are left out of a batch, as numbers.

use activity_api::ContentType;

use super::*;
use crate::testing::tenant;

fn key(id: u32) -> RecordKey {
    RecordKey::new(tenant(), ContentType::Exchange, &id.to_string())
}

/// A batch of records with these ids, 0 for none.
fn claim(claims: &Claims, ids: &[u32]) -> Option<Claim> {
    let keys = ids.iter().map(|id| (*id > 0).then(|| key(*id))).collect();
    claims.claim(keys).ok()
}

fn plan(ids: &[u32], known: &[bool]) -> Repeats {
    let claim = claim(&Claims::default(), ids).unwrap();
    let keys = claim.keys().to_vec();
    let distinct = distinct_of(&keys);
    Repeats::plan(keys, &distinct, known)
}

fn refused(index_in_batch: usize) -> Refused {
    Refused {
        index_in_batch,
        reason: "too long".to_owned(),
    }
}

fn indexes(repeats: &Repeats) -> Vec<usize> {
    repeats.left_out.iter().map(|(index, _)| *index).collect()
}

#[test]
fn what_is_known_or_stands_before_is_left_out_and_what_has_no_id_never_is() {
    let repeats = plan(&[1, 0, 2, 1, 0, 3, 2], &[false, true, false]);
    assert_eq!(distinct_of(&repeats.keys), [key(1), key(2), key(3)]);
    assert_eq!(indexes(&repeats), [2, 3, 6]);
    assert_eq!(repeats.taken(7, &[]), [key(1), key(3)]);
    assert_eq!(repeats.taken(5, &[]), [key(1)]);
    assert_eq!(repeats.duplicate_count(7, &[]), 3);
    assert_eq!(repeats.duplicate_count(3, &[]), 1);
}

#[test]
fn a_repetition_of_a_refused_record_is_refused_as_well_and_neither_is_remembered() {
    let repeats = plan(&[1, 2, 1, 2, 1], &[false, false]);
    let mut all = vec![refused(0)];
    repeats.refuse_repetitions(&mut all);
    let places: Vec<_> = all.iter().map(|refused| refused.index_in_batch).collect();
    assert_eq!(places, [0, 2, 4]);
    assert!(all[1].reason.contains("too long"), "{}", all[1].reason);
    assert_eq!(repeats.taken(5, &all), [key(2)]);
    assert_eq!(repeats.duplicate_count(5, &all), 1);
}

#[test]
fn an_id_is_claimed_by_one_batch_at_a_time() {
    let claims = Claims::default();
    let first = claim(&claims, &[1, 2, 1, 0]).unwrap();
    let second = claim(&claims, &[3, 0]).unwrap();
    assert!(claim(&claims, &[4, 2]).is_none());
    drop(second);
    assert!(claim(&claims, &[4, 2]).is_none());
    let third = claim(&claims, &[3, 4]).unwrap();
    drop(first);
    assert!(claim(&claims, &[1, 2]).is_some());
    assert!(claim(&claims, &[4]).is_none());
    drop(third);
    assert!(claim(&claims, &[4]).is_some());
}
