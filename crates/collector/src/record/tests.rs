//! A record's text is where it was decoded, whoever holds it.

use std::sync::Arc;

use activity_api::ContentId;

use crate::record::{Batch, BlobPart};
use crate::sinks::testing::{blob_tag, part};
use crate::testing::CONTENT_TYPE;

#[test]
fn a_refused_record_is_set_aside_without_a_copy_and_outlives_its_part() {
    let part = Arc::new(part(&[r#"{"Id":"a"}"#, r#"{"Id":"b"}"#]));
    let record = part.records_from(1).next().unwrap();
    let kept = part.shared_text(&record);
    assert_eq!(kept.as_ptr(), record.text().as_ptr());
    let again = kept.clone();
    assert_eq!(again.as_ptr(), kept.as_ptr());
    drop((part, kept));
    assert_eq!(again, r#"{"Id":"b"}"#);
}

/// A part with what decoding makes of this text.
fn part_of(text: &str) -> Arc<BlobPart> {
    let decoded = decode::decode_whole(decode::Limits::PIPELINE, text.as_bytes());
    let tag = Arc::new(blob_tag(CONTENT_TYPE, &ContentId::canonical("a")));
    let mut parts = decoded.parts.into_iter();
    Arc::new(BlobPart::new(tag, parts.next().unwrap(), None))
}

#[test]
fn records_that_lie_together_as_lines_are_what_they_are_one_by_one() {
    for (texts, are_lines) in [
        (vec![r#"[{"Id":"a"},{"Id":"b"},{"Id":"c"}]"#], true),
        (
            vec![r#"[{"Id":"a"},{"Id":"b"}]"#, r#" [ {"Id":"c"}]"#],
            true,
        ),
        (
            vec![r#"[{"Id":"a"},{"Id":"b"}]"#, r#"[{"Id": "c"}]"#],
            false,
        ),
        (vec![r#"[{"Id":"a"}, {"Id":"b"}]"#], false),
        (vec![r#"[{"Id":"a"},7,{"Id":"b"}]"#], false),
        (vec!["[{\"Id\":\n\"a\"},{\"Id\":\"b\"}]"], false),
        (vec![r#"[{"Id":"a"},{"Id":"b"}"#], false),
    ] {
        let parts: Vec<_> = texts.iter().map(|text| part_of(text)).collect();
        let batch = Batch::new(parts);
        for skip in 0..=batch.record_count() {
            let batch = batch.clone().skip(skip);
            let mut expected = Vec::new();
            for record in batch.records() {
                expected.extend_from_slice(record.text());
                expected.push(b'\n');
            }
            let lines = batch.lines();
            let together = lines.map(|lines| {
                lines
                    .iter()
                    .flat_map(|lines| lines.text())
                    .copied()
                    .collect::<Vec<u8>>()
            });
            if skip == 0 {
                assert_eq!(together.is_some(), are_lines, "{texts:?}");
            }
            assert!(
                together.is_none_or(|together| together == expected),
                "{texts:?}"
            );
        }
        assert!(batch.without(vec![0]).lines().is_none());
    }
}
