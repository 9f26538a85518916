//! What is under way to a sink is counted by the memory that it keeps: a text is there until the last part in it is gone.

use std::ops::Range;

use activity_api::ContentId;

use super::super::batches::{Allowance, UnderWay};
use super::*;
use crate::memory::Text;
use crate::record::{BlobPart, Layout};
use crate::sinks::testing::blob_tag;
use crate::testing::CONTENT_TYPE;

/// Parts of 100 bytes that lie in one text of 300.
fn parts() -> [BlobPart; 3] {
    let text = Arc::new(Text::alone(vec![0; 300], None));
    let tag = Arc::new(blob_tag(CONTENT_TYPE, &ContentId::canonical("a")));
    let part = |range: Range<usize>| {
        let layout = Layout::of(0, Vec::new(), &mut []);
        BlobPart::in_text(Arc::clone(&tag), layout, Arc::clone(&text), range)
    };
    [part(0..100), part(100..200), part(200..300)]
}

#[test]
fn a_text_counts_as_a_whole_and_once_until_its_last_part_has_arrived() {
    let under_way = Arc::new(UnderWay::default());
    let (one, other) = (parts(), parts());
    let first = under_way.begin([&one[0]].into_iter());
    assert_eq!(under_way.bytes(), 300);
    let second = under_way.begin([&one[1], &one[2], &other[0]].into_iter());
    assert_eq!(under_way.bytes(), 600);
    drop(first);
    assert_eq!(under_way.bytes(), 600, "two more parts lie in it");
    drop(second);
    assert_eq!(under_way.bytes(), 0);
}

#[test]
fn what_may_come_under_way_is_limited_by_what_it_would_keep_in_memory() {
    let under_way = Arc::new(UnderWay::default());
    let (one, other, third) = (parts(), parts(), parts());
    let held = under_way.begin([&one[0]].into_iter());
    let mut allowance = Allowance::of(&under_way, 700);
    assert!(allowance.takes(&one[1]), "its text is there anyhow");
    assert!(allowance.takes(&other[2]) && allowance.takes(&other[0]));
    assert!(!allowance.takes(&third[0]), "one hundred bytes are left");
    drop(held);
    let mut allowance = Allowance::of(&under_way, 10);
    assert!(allowance.takes(&one[0]), "one can always go");
    assert!(allowance.takes(&one[1]) && !allowance.takes(&other[0]));
}
