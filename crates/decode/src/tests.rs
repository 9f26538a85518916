//! What decoding makes of whole, odd, broken and hostile blobs, however their bytes are cut into pieces.

use proptest::prelude::*;

use super::*;

/// All records' texts, all undecodable ones, and what is wrong with the whole.
type Outcome = (
    Vec<(String, Option<String>, Option<String>, Option<i64>, bool)>,
    Vec<Undecodable>,
    Option<Error>,
);

fn decode(blob: &[u8], piece: usize) -> Outcome {
    let decoded = decode_pieces(Limits::PIPELINE, blob.chunks(piece));
    assert_eq!(decode_whole(Limits::PIPELINE, blob), decoded);
    let mut records = Vec::new();
    let mut next = 0;
    for part in decoded.parts {
        assert_eq!(
            part.first_record, next,
            "parts number their records without gaps"
        );
        next += part.spans.len() as u64;
        records.extend(part.spans.iter().map(|span| {
            let text = &part.text[span.start as usize..][..span.len as usize];
            let text = std::str::from_utf8(text).unwrap();
            let field = |field: FieldSpan| {
                let value = &text[field.start as usize..][..field.len as usize];
                (!value.is_empty()).then(|| value.to_owned())
            };
            (
                text.to_owned(),
                field(span.id),
                field(span.creation_time),
                span.record_type,
                span.is_compact,
            )
        }));
    }
    let broken = decoded.broken.map(|(error, _)| error);
    (records, decoded.undecodable, broken)
}

fn texts(blob: &str) -> Vec<String> {
    let (records, undecodable, broken) = decode(blob.as_bytes(), usize::MAX);
    assert_eq!((undecodable, broken), (Vec::new(), None), "{blob}");
    records.into_iter().map(|record| record.0).collect()
}

#[test]
fn a_record_keeps_its_bytes() {
    let odd = r#"{"Id":"a\/b","n":12345678901234567890,"f":1.0e-7,"u":"\ud83d\ude00é","n2":null,"x":[true,false,{}],"e":[]}"#;
    assert_eq!(texts(&format!("[{odd}]")), [odd]);
    assert_eq!(texts(&format!(" [ {odd} ,\r\n{odd}\t] \n")), [odd, odd]);
    assert_eq!(texts("[]"), Vec::<String>::new());
    assert_eq!(texts("\u{feff}[{}]"), ["{}"]);
}

#[test]
fn the_three_fields_are_read_from_the_top_level_only() {
    let blob = r#"[{"x":{"Id":"inner","RecordType":9},"Id":"outer","CreationTime":"2026-01-01T00:00:00","RecordType":15}]"#;
    let (records, _, _) = decode(blob.as_bytes(), usize::MAX);
    let (_, id, time, record_type, compact) = records[0].clone();
    assert_eq!(
        (id.as_deref(), time.as_deref(), record_type, compact),
        (Some("outer"), Some("2026-01-01T00:00:00"), Some(15), true)
    );
}

#[test]
fn fields_of_another_kind_count_as_absent() {
    for record in [
        r#"{"Id":7,"CreationTime":null,"RecordType":"1"}"#,
        r#"{"Id":"","CreationTime":{},"RecordType":1.5}"#,
        r#"{"Id":"a","Id":1,"CreationTime":"b","CreationTime":[],"RecordType":1,"RecordType":true}"#,
        r#"{"Id":{"Id":"x"},"RecordType":99999999999999999999}"#,
    ] {
        let (records, undecodable, _) = decode(format!("[{record}]").as_bytes(), usize::MAX);
        assert_eq!(undecodable, Vec::new());
        let (_, id, time, record_type, _) = records[0].clone();
        assert_eq!((id, time, record_type), (None, None, None), "{record}");
    }
}

#[test]
fn white_space_between_tokens_is_noticed() {
    let (records, _, _) = decode(b"[{\"a\": 1},{\"a\":\"b c\"},{\n}]", usize::MAX);
    assert_eq!(
        records.iter().map(|record| record.4).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[test]
fn a_bad_record_is_set_apart_and_the_rest_is_read() {
    for bad in [
        r#"{"a":}"#,
        r#"{"a" 1}"#,
        r#"{"a":tru}"#,
        r#"{a:1}"#,
        r#"{"a":1,}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        "{\"a\":\"\u{1}\"}",
        r#"{"a":-}"#,
        "42",
        "\"text\"",
        "null",
        "[1,2]",
        r#"{"a":[1}}"#,
        "nonsense",
        r#"{"a":+1}"#,
    ] {
        let blob = format!(r#"[{{"Id":"1"}},{bad},{{"Id":"2"}}]"#);
        let (records, undecodable, broken) = decode(blob.as_bytes(), usize::MAX);
        assert_eq!(broken, None, "{bad}");
        assert_eq!(
            records
                .iter()
                .map(|record| record.0.as_str())
                .collect::<Vec<_>>(),
            [r#"{"Id":"1"}"#, r#"{"Id":"2"}"#],
            "{bad}"
        );
        assert_eq!(undecodable.len(), 1, "{bad}: {undecodable:?}");
        assert_eq!(String::from_utf8_lossy(&undecodable[0].bytes), bad);
        assert_eq!(undecodable[0].index_in_array, 1);
    }
}

#[test]
fn invalid_utf_8_is_set_apart() {
    let (records, undecodable, broken) = decode(b"[{\"a\":\"\xff\"},{}]", usize::MAX);
    assert_eq!((records.len(), undecodable.len(), broken), (1, 1, None));
    assert_eq!(undecodable[0].bytes, b"{\"a\":\"\xff\"}");
}

#[test]
fn two_bad_records_in_a_row_are_two() {
    let (_, undecodable, _) = decode(b"[{\"a\":},{\"b\":}]", usize::MAX);
    assert_eq!(
        undecodable
            .iter()
            .map(|bad| bad.index_in_array)
            .collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn what_is_no_array_is_said_to_be_none() {
    for (blob, error) in [
        ("", Error::Truncated),
        ("  ", Error::Truncated),
        ("[", Error::Truncated),
        (r#"[{"a":1}"#, Error::Truncated),
        (r#"[{"a":1},"#, Error::Truncated),
        (r#"[{"a":"#, Error::Truncated),
        ("<html>busy</html>", Error::NotAnArray),
        (r#"{"error":{"code":"AF50000"}}"#, Error::NotAnArray),
        ("[{}][{}]", Error::TrailingBytes),
        ("[]x", Error::TrailingBytes),
    ] {
        assert_eq!(decode(blob.as_bytes(), usize::MAX).2, Some(error), "{blob}");
    }
}

#[test]
fn a_truncated_array_gives_the_records_before_the_cut() {
    let (records, _, broken) = decode(br#"[{"Id":"1"},{"Id":"2"},{"Id":"3"#, 3);
    assert_eq!((records.len(), broken), (2, Some(Error::Truncated)));
}

#[test]
fn a_deep_record_is_set_apart_without_using_the_stack() {
    let deep = format!("[{}{},{{}}]", "[".repeat(100_000), "]".repeat(100_000));
    let (records, undecodable, broken) = decode(deep.as_bytes(), usize::MAX);
    assert_eq!((records.len(), undecodable.len(), broken), (1, 1, None));
}

#[test]
fn a_record_over_the_limit_is_set_apart_with_its_head() {
    let blob = format!(
        r#"[{{"Id":"1"}},{{"a":"{}"}},{{"Id":"2"}}]"#,
        "x".repeat(MAX_RECORD_BYTES)
    );
    let (records, undecodable, broken) = decode(blob.as_bytes(), 1 << 16);
    assert_eq!((records.len(), undecodable.len(), broken), (2, 1, None));
    assert_eq!(undecodable[0].bytes.len(), KEPT_BYTES);
    assert!(
        undecodable[0].reason.contains("longer than"),
        "{}",
        undecodable[0].reason
    );
}

#[test]
fn a_record_larger_than_a_part_is_read_whole() {
    let large = format!(r#"{{"Id":"1","a":"{}"}}"#, "y".repeat(3 * PART_BYTES));
    let blob = format!(r#"[{{"Id":"0"}},{large},{{"Id":"2"}}]"#);
    let (records, undecodable, broken) = decode(blob.as_bytes(), 10_000);
    assert_eq!((undecodable, broken), (Vec::new(), None));
    assert_eq!(records[1].0, large);
    assert_eq!(records.len(), 3);
}

#[test]
fn the_same_blob_makes_the_same_parts_however_it_arrives() {
    let blob = format!(
        "[{}]",
        (0..5_000)
            .map(|n| format!(r#"{{"Id":"{n}","pad":"{}"}}"#, "p".repeat(n % 700)))
            .collect::<Vec<_>>()
            .join(",")
    );
    let keys = |piece: usize| {
        let parts = decode_pieces(Limits::PIPELINE, blob.as_bytes().chunks(piece)).parts;
        let keys = parts
            .iter()
            .map(|part| (part.first_record, part.spans.len(), fingerprint(&part.text)));
        keys.collect::<Vec<_>>()
    };
    let whole = keys(usize::MAX);
    assert!(whole.len() > 2, "{}", whole.len());
    assert_eq!(whole, keys(1_000));
    assert_eq!(whole, keys(16_384));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        ".{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,8}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_object_that_a_library_writes_is_read_back(values in prop::collection::vec(prop::collection::btree_map(".{0,8}", json(), 0..6), 0..8), pretty: bool, piece in 1_usize..64) {
        let values: Vec<_> = values.into_iter().map(|map| serde_json::Value::Object(map.into_iter().collect())).collect();
        let blob = if pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) }.unwrap();
        let (records, undecodable, broken) = decode(blob.as_bytes(), piece);
        prop_assert_eq!((undecodable, broken), (Vec::new(), None));
        let read: Vec<serde_json::Value> = records.iter().map(|record| serde_json::from_str(&record.0).unwrap()).collect();
        // The library itself does not read back every number exactly as it wrote it, so what it reads is compared.
        let written: Vec<serde_json::Value> = serde_json::from_str(&blob).unwrap();
        prop_assert_eq!(read, written);
    }

    /// Judged by a library's parser: what we call a record is one, and what is one we call so.
    #[test]
    fn a_library_agrees_on_what_is_json(text in r#"[\[\]{}",:\\ 0-9a-ftrulnse.+-]{0,24}"#) {
        let element = format!("{{\"k\":{text}}}");
        let (records, undecodable, broken) = decode(format!("[{element}]").as_bytes(), usize::MAX);
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&element).is_ok();
        let is_whole = undecodable.is_empty() && broken.is_none() && records.len() == 1;
        // Text that closes the record early may make two records of it, which is the array's business.
        if is_json {
            prop_assert!(is_whole, "{element} -> {undecodable:?} {broken:?}");
        } else if is_whole {
            prop_assert_eq!(&records[0].0, &element);
            prop_assert!(false, "{element} is no JSON");
        }
    }

    /// The rule by which parts are cut is one, also where records are longer than parts, or none.
    #[test]
    fn a_text_is_cut_alike_where_it_lies_and_as_it_comes(
        elements in prop::collection::vec((0_usize..60, prop::sample::select(&["{\"a\":\"", "[\"", "x", "{\"a\":\"\\"][..])), 0..20),
        separator in prop::sample::select(&[",", " ,\n", ""][..]),
        part_bytes in 1_usize..80,
        record_bytes in 8_usize..100,
        piece in 1_usize..90,
        cut in 0_usize..4,
    ) {
        let elements: Vec<_> = elements.iter().map(|(len, head)| {
            let end = if head.starts_with('{') { "\"}" } else { "\"]" };
            format!("{head}{}{end}", "y".repeat(*len))
        }).collect();
        let text = format!("[{}]", elements.join(separator));
        let text = &text.as_bytes()[..text.len() - cut.min(text.len())];
        let limits = Limits { part_bytes, record_bytes, kept_bytes: 24 };
        prop_assert_eq!(decode_whole(limits, text), decode_pieces(limits, text.chunks(piece)));
    }

    #[test]
    fn no_byte_string_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        decode(&bytes, piece);
        let mut array = b"[".to_vec();
        array.extend(&bytes);
        array.push(b']');
        decode(&array, piece);
    }
}
