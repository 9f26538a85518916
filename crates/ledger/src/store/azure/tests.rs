//! What needs no account: the order of keys, rows there and back, and texts of every length.

use activity_api::{ContentId, ContentType};
use azure::storage::entity::Entity;
use jiff::Timestamp;

use crate::{AcknowledgedPart, PartKey, SinkName};

use super::names::{due_row, escaped, number_of};
use super::rows::{End, EndKind, Known, MAX_TEXT, State, Unsettled, set_text, text};

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

fn part(number: u64) -> AcknowledgedPart {
    AcknowledgedPart::Part(PartKey {
        first_record: number,
        record_count: u64::MAX,
        fingerprint: u64::MAX - number,
    })
}

fn unsettled() -> Unsettled {
    let content_id = ContentId::canonical("20251009$audit$na0018");
    Unsettled {
        tenant: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        number: number_of(ContentType::Dlp, &content_id),
        content_type: ContentType::Dlp,
        content_id,
        noted_by: u64::MAX,
        uri: "https://example.net/\u{0}\u{1f600}".into(),
        created_at: at(-5),
        expires_at: Timestamp::MAX,
        attempts: u32::MAX,
        not_before: i64::MIN,
        leased_until: i64::MAX,
        announced_until: 0,
        token: 7,
        reason: String::new(),
        acknowledged: vec![
            (sink("a"), part(1)),
            (sink("a"), part(2)),
            (sink("b"), AcknowledgedPart::Whole),
        ],
        item: Some(8),
        is_part: true,
        written_by: 9,
    }
}

#[test]
fn rows_of_unsettled_blobs_sort_by_expiry() {
    let times = [
        Timestamp::MIN,
        at(-1),
        at(0),
        at(1),
        at(1_760_000_000_000),
        Timestamp::MAX,
    ];
    let rows = times.map(|time| due_row(time, u128::MAX));
    assert!(rows.is_sorted(), "{rows:?}");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
}

#[test]
fn no_two_names_run_together() {
    let number = |id: &str| number_of(ContentType::Exchange, &ContentId::canonical(id));
    assert_ne!(number("a"), number("b"));
    let other = number_of(ContentType::General, &ContentId::canonical("a"));
    assert_ne!(number("a"), other);
    for (text, expected) in [
        ("", ""),
        ("a.B-9", "a.B_2d9"),
        ("_", "_5f"),
        ("é", "_c3_a9"),
    ] {
        assert_eq!(escaped(text), expected);
    }
}

#[test]
fn a_row_comes_back_as_it_was() {
    let blob = unsettled();
    let mut expected = blob.clone();
    // The last second of the year 9999 is cut off.
    expected.expires_at = at(Timestamp::MAX.as_second() * 1_000);
    let read = Unsettled::read(blob.tenant, &blob.to_entity()).unwrap();
    assert_eq!(read, expected);

    let end = End {
        kind: EndKind::Expired,
        token: u64::MAX,
        at: at(1),
        reason: "gone".into(),
        record_count: u64::MAX,
        byte_count: 2,
        quarantined_count: 3,
        attempts: 4,
        uri: "https://example.net/".into(),
        whole: "a,b".into(),
    };
    let unsettled = State::Unsettled {
        due_row: "d".into(),
    };
    for state in [State::Settled(end), unsettled] {
        let known = Known {
            content_type: blob.content_type,
            content_id: blob.content_id.clone(),
            noted_by: 5,
            is_listed: true,
            created_at: Some(at(-5)),
            expires_at: None,
            is_part: true,
            state,
        };
        let entity = known.to_entity(blob.tenant, blob.number);
        assert_eq!(Known::read(&entity).unwrap(), known);
    }
}

#[test]
fn a_row_of_somebody_else_is_damage_and_no_panic() {
    let row = Entity::new("p", "r");
    assert!(Unsettled::read(unsettled().tenant, &row).is_err());
    assert!(Known::read(&row).is_err());
    let mut row = unsettled().to_entity();
    set_text(&mut row, "Acknowledged", "[[1]]");
    assert!(Unsettled::read(unsettled().tenant, &row).is_err());
}

#[test]
fn a_text_is_kept_whole_up_to_what_a_row_holds() {
    for letter in ["a", "é", "\u{1f600}", "\u{0}"] {
        for length in [0, 1, 31_999, 32_000, 32_001, 100_000, MAX_TEXT] {
            let whole = letter.repeat(length / letter.len());
            let mut entity = Entity::new("p", "r");
            set_text(&mut entity, "T", &whole);
            assert!(
                text(&entity, "T").as_deref() == Some(&whole),
                "{letter:?} {length}"
            );
        }
        let mut entity = Entity::new("p", "r");
        set_text(&mut entity, "T", &letter.repeat(1_000_000));
        assert!(text(&entity, "T").unwrap().len() < 400_000);
    }
}

#[test]
fn acknowledgements_that_no_row_has_room_for_are_left_out_and_whole_ones_never() {
    let mut blob = unsettled();
    blob.acknowledged = (0..10_000)
        .map(|number| (sink("a"), part(number)))
        .collect();
    blob.acknowledged.push((sink("z"), AcknowledgedPart::Whole));
    let read = Unsettled::read(blob.tenant, &blob.to_entity()).unwrap();
    assert!(read.has_whole(&sink("z")));
    assert!(read.acknowledged.len() > 2_000);
    assert!(
        read.acknowledged
            .iter()
            .all(|part| blob.acknowledged.contains(part))
    );
}
