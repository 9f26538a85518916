//! A record's text is where it was decoded, whoever holds it.

use std::sync::Arc;

use crate::sinks::testing::part;

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
