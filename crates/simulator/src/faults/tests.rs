//! Storms: their files, and what they make of a plan.

use std::path::Path;

use expect_test::{Expect, expect};

use super::content::{lengthen, without_field};
use super::requests::{Harm, Weather};
use super::*;
use crate::RequestKind;
use crate::random::mix;

fn check_mistakes(text: &str, expected: Expect) {
    let error = Storm::parse(text).unwrap_err();
    expected.assert_eq(&error.to_string());
}

#[test]
fn every_storm_file_can_be_read_and_is_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("storms");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulator.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if let Err(error) = Storm::from_file(&path) {
            panic!("{}: {error}", path.display());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# "),
            "{} does not say what it is",
            path.display()
        );
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/simulator.md lacks {name}"
        );
        count += 1;
    }
    assert!(count >= 12, "{count}");
}

#[test]
fn every_fault_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulator.md");
    let page = std::fs::read_to_string(page).unwrap();
    for name in read::NAMES {
        assert!(
            page.contains(&format!("| `{name}`")),
            "docs/simulator.md lacks {name}"
        );
    }
}

#[test]
fn all_mistakes_of_a_storm_are_told_at_once() {
    check_mistakes(
        r#"
        sed = 1
        [[fault]]
        what = "status"
        on = ["blob", "blub"]
        [[fault]]
        what = "hurricane"
        [[fault]]
        share = 2
        [[fault]]
        what = ["late", "expired"]
        on = "blob"
        min_secs = 5
        max_secs = 1
        [[fault]]
        what = ["hangup", "without_id"]
        on = "blob"
        share = 1.5
        from_secs = 3
        to_secs = 2
        [[fault]]
        what = "hangup"
        on = "logmsgs"
        "#,
        expect![[r#"
            the storm has mistakes:
            the storm: sed means nothing here
            fault 1: status is missing
            fault 2: what: "hurricane" is not known; one of status, throttled, hangup, hang, slow, answer_lost, truncated, reset, drip, garbage, html, broken_gzip, hostile_page, repeated_page, empty_page, circle, hostile_uri, expired, undecodable_blob, late, not_listed, not_notified, huge_blob, without_id, without_creation_time, undecodable_record, repeated_record, large_record, refused_record, clock_skew
            fault 3: what is missing: say what goes wrong
            fault 4: min_secs is more than max_secs
            fault 4: on means nothing here
            fault 5: what names faults of different kinds: give each kind a [[fault]] of its own
            fault 5: share must be a number from 0 to 1
            fault 5: from_secs is not before to_secs
            fault 6: meets every request for ever: give it at_most, to_secs or a share below 1"#]],
    );
    check_mistakes(
        "",
        expect![[r#"
        the storm has mistakes:
        the storm: no [[fault]]"#]],
    );
    check_mistakes(
        "fault = 3",
        expect![[r#"
        the storm has mistakes:
        the storm: fault must be a list of tables: write [[fault]]"#]],
    );
    check_mistakes("[[fault]", expect!["the storm is no TOML"]);
}

fn weather(text: &str) -> Weather {
    Weather::new(&Storm::parse(text).unwrap(), 7, 0)
}

fn met(weather: &Weather, key: u64) -> bool {
    weather.meet(RequestKind::Blob, Some(key), 0).harm.is_some()
}

#[test]
fn a_blob_meets_a_fault_as_often_as_it_says_and_then_never_again() {
    let storm = "[[fault]]\nwhat = 'hangup'\non = 'blob'\nshare = 0.2\ntimes = 2\n";
    let (first, second) = (weather(storm), weather(storm));
    let drawn: Vec<u64> = (0..1_000).filter(|&key| met(&first, key)).collect();
    assert!((150..250).contains(&drawn.len()), "{}", drawn.len());
    // In another order, the same blobs.
    let mut other: Vec<u64> = (0..1_000).collect();
    other.sort_by_key(|&key| mix(key));
    let mut again: Vec<u64> = other.into_iter().filter(|&key| met(&second, key)).collect();
    again.sort_unstable();
    assert_eq!(drawn, again);
    assert!(drawn.iter().all(|&key| met(&first, key)));
    assert!(!drawn.iter().any(|&key| met(&first, key)));
}

#[test]
fn requests_in_a_row_meet_a_fault_together_and_at_most_so_many() {
    let weather = weather(
        "[[fault]]\nwhat = 'status'\nstatus = 500\non = 'blob'\nshare = 0.2\nin_a_row = 5\nat_most = 40\n",
    );
    let met: Vec<bool> = (0..1_000).map(|key| met(&weather, key)).collect();
    assert_eq!(met.iter().filter(|met| **met).count(), 40);
    for five in met.chunks(5) {
        assert!(five.iter().all(|met| *met == five[0]));
    }
}

#[test]
fn a_fault_is_in_force_between_its_times_only() {
    let weather =
        weather("[[fault]]\nwhat = 'hang'\nsecs = 2\non = 'token'\nfrom_secs = 10\nto_secs = 20\n");
    let at = |ms| weather.meet(RequestKind::Token, None, ms).harm;
    assert_eq!(at(9_999), None);
    assert!(matches!(at(10_000), Some(Harm::Silence(_))));
    assert_eq!(at(20_000), None);
}

#[test]
fn a_field_is_taken_out_of_the_record_and_not_out_of_what_is_in_it() {
    let check = |text: &str, expected: &str| {
        let mut bytes = format!("[{text}").into_bytes();
        without_field(&mut bytes, 1, "Id");
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("[{expected}"));
    };
    check(r#"{"Id":"a","B":1}"#, r#"{"B":1}"#);
    check(r#"{"B":{"Id":"b"},"Id":"a"}"#, r#"{"B":{"Id":"b"}}"#);
    check(
        r#"{"B":"\",\"Id\":\"x\"","Id":"a","C":[]}"#,
        r#"{"B":"\",\"Id\":\"x\"","C":[]}"#,
    );
    check(r#"{"B":[{"Id":"b"}]}"#, r#"{"B":[{"Id":"b"}]}"#);
}

#[test]
fn a_record_is_made_as_long_as_asked() {
    let mut text = b"[{\"Id\":\"a\"}".to_vec();
    lengthen(&mut text, 1, 5_000);
    assert_eq!(text.len(), 5_001);
    serde_json::from_slice::<serde_json::Value>(&text[1..]).unwrap();
}
