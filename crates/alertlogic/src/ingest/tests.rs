//! The protobuf against the vendor's own bytes and against a generated decoder, and packing against its promises.

use std::io::Read;

use flate2::read::ZlibDecoder;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::aims::tests::token;

/// The schema for prost, from the vendor's `.proto` files, less what no message of ours has.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BatchList {
        #[prost(message, repeated, tag = "1")]
        pub(super) elem: Vec<Batch>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Batch {
        #[prost(string, required, tag = "1")]
        pub(super) source_id: String,
        #[prost(message, required, tag = "2")]
        pub(super) metadata: Metadata,
        #[prost(message, repeated, tag = "3")]
        pub(super) message: Vec<Collected>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(string, optional, tag = "1")]
        pub(super) host_uuid: Option<String>,
        #[prost(bytes = "vec", required, tag = "2")]
        pub(super) data_checksum: Vec<u8>,
        #[prost(uint64, optional, tag = "3")]
        pub(super) timestamp: Option<u64>,
        #[prost(message, optional, tag = "4")]
        pub(super) data: Option<Dict>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Dict {
        #[prost(message, repeated, tag = "1")]
        pub(super) elem: Vec<Element>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Element {
        #[prost(string, required, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Value {
        #[prost(string, optional, tag = "3")]
        pub(super) str: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Collected {
        #[prost(string, optional, tag = "1")]
        pub(super) hostname: Option<String>,
        #[prost(fixed64, required, tag = "2")]
        pub(super) message_ts: u64,
        #[prost(fixed32, required, tag = "3")]
        pub(super) priority: u32,
        #[prost(string, optional, tag = "4")]
        pub(super) prog_name: Option<String>,
        #[prost(fixed64, optional, tag = "5")]
        pub(super) pid: Option<u64>,
        #[prost(string, required, tag = "6")]
        pub(super) message: String,
        #[prost(string, required, tag = "7")]
        pub(super) message_type: String,
        #[prost(string, optional, tag = "8")]
        pub(super) message_type_id: Option<String>,
        #[prost(fixed32, optional, tag = "9")]
        pub(super) message_ts_us: Option<u32>,
        #[prost(string, optional, tag = "10")]
        pub(super) application_id: Option<String>,
    }
}

const HOST_ID: &str = "D0F5A5F4-0D5F-4B7C-8A6E-0123456789AB";
const SOURCE_ID: &str = "7B2E3F10-5C4D-4E6F-9A8B-FEDCBA987654";

/// Text, `CreationTime` and `RecordType` of the records behind `test-data/batch_list.hex`.
const GOLDEN_RECORDS: [(&str, &str, Option<i64>); 3] = [
    (
        r#"{"CreationTime":"2021-05-18T21:13:34","Id":"a","RecordType":1}"#,
        "2021-05-18T21:13:34",
        Some(1),
    ),
    (
        r#"{"CreationTime":"2018-12-19T08:18:21.1834546Z","Id":"b","RecordType":0,"N":"é€"}"#,
        "2018-12-19T08:18:21.1834546Z",
        Some(0),
    ),
    (
        r#"{"CreationTime":"2018-12-19T08:18:21.000","Id":"c"}"#,
        "2018-12-19T08:18:21.000",
        None,
    ),
];

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn metadata() -> HostMetadata {
    HostMetadata::new(HOST_ID, "site.example.net")
}

fn message(text: &str, ts: i64, ts_us: Option<u32>, type_id: Option<i64>) -> Message<'_> {
    Message {
        text: Cow::Borrowed(text.as_bytes()),
        ts,
        ts_us,
        type_id,
    }
}

fn messages(texts: &[String]) -> impl Iterator<Item = Message<'_>> + Clone {
    texts.iter().map(|text| message(text, 1, None, Some(15)))
}

fn inflate(body: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    ZlibDecoder::new(body).read_to_end(&mut raw).unwrap();
    raw
}

fn decode(body: &[u8]) -> proto::BatchList {
    proto::BatchList::decode(inflate(body).as_slice()).unwrap()
}

/// Texts that hardly compress, so that their length decides.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + (state % 95) as u8)
        })
        .collect()
}

/// Packs all of it; returns the payloads' bodies and the indexes that were too large.
fn pack_all(packer: &Packer, texts: &[String], limit: usize) -> (Vec<Vec<String>>, Vec<usize>) {
    let metadata = metadata();
    let envelope = Envelope {
        source_id: SOURCE_ID,
        metadata: &metadata,
        now: now(),
    };
    let mut payloads = Vec::new();
    let mut too_large = Vec::new();
    for packed in packer.pack(envelope, messages(texts)) {
        match packed {
            Packed::TooLarge { index } => too_large.push(index),
            Packed::Payload(payload) => {
                assert!(payload.body.len() <= limit, "{} bytes", payload.body.len());
                assert_eq!(payload.body[..2], [0x78, 0x9c]);
                assert_eq!(payload.raw_bytes, inflate(&payload.body).len());
                let mut list = decode(&payload.body);
                assert_eq!(list.elem.len(), 1);
                let batch = list.elem.remove(0);
                let texts: Vec<_> = batch
                    .message
                    .into_iter()
                    .map(|message| message.message)
                    .collect();
                assert_eq!(payload.message_count, texts.len());
                assert_eq!(
                    payload.text_bytes,
                    texts.iter().map(String::len).sum::<usize>()
                );
                payloads.push(texts);
            }
        }
    }
    (payloads, too_large)
}

#[test]
fn the_bytes_are_those_of_the_vendors_library() {
    let expected: Vec<u8> = include_str!("../../test-data/batch_list.hex")
        .split_whitespace()
        .flat_map(|line| line.as_bytes().chunks(2))
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let metadata = metadata();
    let envelope = Envelope {
        source_id: SOURCE_ID,
        metadata: &metadata,
        now: now(),
    };
    let messages = GOLDEN_RECORDS.iter().map(|(text, creation_time, type_id)| {
        let (ts, ts_us) = parse_creation_time(creation_time).unwrap();
        message(text, ts, ts_us, *type_id)
    });
    let packer = Packer::new(700_000, 1);
    let Some(Packed::Payload(payload)) = packer.pack_first(envelope, messages) else {
        panic!("no payload")
    };
    assert_eq!(inflate(&payload.body), expected);
}

#[test]
fn no_messages_make_no_payload() {
    assert_eq!(
        pack_all(&Packer::new(700_000, 1), &[], 700_000),
        (vec![], vec![])
    );
}

#[test]
fn every_compression_level_makes_a_zlib_stream_that_begins_78_9c() {
    let texts: Vec<_> = (0..50).map(|n| noise(n, 200)).collect();
    for level in 0..=13 {
        let (payloads, too_large) = pack_all(&Packer::new(700_000, level), &texts, 700_000);
        assert_eq!(
            (payloads.concat(), too_large),
            (texts.clone(), vec![]),
            "level {level}"
        );
    }
}

#[test]
fn a_message_over_the_limit_alone_is_named_and_the_others_go() {
    let mut texts: Vec<_> = (0..40).map(|n| noise(n, 300)).collect();
    texts[0] = noise(1000, 9_000);
    texts[17] = noise(1001, 9_000);
    texts[39] = noise(1002, 9_000);
    let (payloads, too_large) = pack_all(&Packer::new(5_000, 6), &texts, 5_000);
    assert_eq!(too_large, [0, 17, 39]);
    let fitting: Vec<_> = texts.into_iter().filter(|text| text.len() == 300).collect();
    assert_eq!(payloads.concat(), fitting);
}

#[test]
fn the_ratio_that_was_learned_spares_tries_and_fills_payloads() {
    let packer = Packer::new(50_000, 1);
    let texts: Vec<_> = (0..2_000)
        .map(|n| format!("{{\"Id\":\"{n}\",\"Text\":\"{}\"}}", "same ".repeat(60)))
        .collect();
    let before = packer.text_bytes_per_payload();
    pack_all(&packer, &texts, 50_000);
    assert!(
        packer.text_bytes_per_payload() > before,
        "{before} before, {packer:?}"
    );
    // Noise shows the worse ratio, and one payload of it is enough to learn that.
    let (payloads, _) = pack_all(
        &packer,
        &(0..1_000).map(|n| noise(n, 300)).collect::<Vec<_>>(),
        50_000,
    );
    assert!(
        packer.text_bytes_per_payload() < before,
        "{before} before, {packer:?}"
    );
    assert!(
        payloads[1..payloads.len() - 1]
            .iter()
            .all(|texts| texts.concat().len() > 30_000)
    );
}

#[test]
fn payloads_of_level_1_are_full_and_none_is_compressed_twice() {
    const LIMIT: usize = 60_000;
    let packer = Packer::new(LIMIT, 1);
    // Now well compressible and now not, so that no ratio learned from one payload holds for the next.
    let texts: Vec<_> = (0..3_000)
        .map(|n| match n / 300 % 2 {
            0 => format!(
                "{{\"Id\":\"{}\",{}}}",
                noise(n, 40),
                "\"same\":1,".repeat(80)
            ),
            _ => noise(n, 800),
        })
        .collect();
    let metadata = metadata();
    let envelope = Envelope {
        source_id: "source",
        metadata: &metadata,
        now: now(),
    };
    let bodies: Vec<_> = packer
        .pack(envelope, messages(&texts))
        .map(|packed| match packed {
            Packed::Payload(payload) => payload.body.len(),
            Packed::TooLarge { index } => panic!("message {index} is too large"),
        })
        .collect();
    let (last, full) = bodies.split_last().expect("there are messages");
    assert!(*last <= LIMIT);
    assert!(full.len() > 10);
    for body in full {
        // Room for one more message is left at most, as large as it can be.
        assert!((LIMIT - 1_500..=LIMIT).contains(body), "{body}");
    }
    assert_eq!(packer.retried_count(), 0);
}

#[test]
fn a_limit_learned_from_refusals_binds_until_the_service_takes_more() {
    let packer = Packer::new(400_000, 1);
    let texts: Vec<_> = (0..3_000).map(|n| noise(n, 300)).collect();
    packer.note_refused(200_000);
    let (payloads, _) = pack_all(&packer, &texts, 150_000);
    assert_eq!(payloads.concat(), texts);
    for _ in 0..200 {
        packer.note_accepted(400_000);
    }
    let (payloads, _) = pack_all(&packer, &texts, 400_000);
    assert!(payloads.iter().any(|texts| texts.concat().len() > 250_000));
    // A single message is bound by the configured limit alone: it cannot be made smaller.
    packer.note_refused(1);
    let (payloads, too_large) = pack_all(&packer, &[noise(1, 300_000)], 400_000);
    assert_eq!((payloads.len(), too_large), (1, vec![]));
}

#[test]
fn a_long_text_that_is_not_copied_makes_the_same_messages() {
    let texts = ["short".to_owned(), noise(7, 300_000), "x".repeat(200_000)];
    let (payloads, too_large) = pack_all(&Packer::new(700_000, 1), &texts, 700_000);
    assert_eq!((payloads.concat(), too_large), (texts.to_vec(), vec![]));
    let (payloads, too_large) = pack_all(&Packer::new(100_000, 1), &texts, 100_000);
    let fitting = [texts[0].clone(), texts[2].clone()];
    assert_eq!((payloads.concat(), too_large), (fitting.to_vec(), vec![1]));
}

#[test]
fn a_payload_is_bounded_before_compression_too() {
    let texts: Vec<_> = (0..20).map(|_| "x".repeat(1_000_000)).collect();
    let packer = Packer::new(10_000_000, 1);
    let (payloads, _) = pack_all(&packer, &texts, 10_000_000);
    assert!(
        payloads.iter().all(|texts| texts.len() <= 8),
        "{}",
        payloads.len()
    );
    assert_eq!(payloads.concat(), texts);
}

#[test]
fn creation_time_is_read_as_the_vendors_parser_reads_it() {
    for (text, expected) in [
        ("2018-12-19T08:18:21", Some((1_545_207_501, None))),
        ("2018-12-19T08:18:21Z", Some((1_545_207_501, None))),
        (
            "2018-12-19T08:18:21.5",
            Some((1_545_207_501, Some(500_000))),
        ),
        (
            "2018-12-19T08:18:21.0000000",
            Some((1_545_207_501, Some(0))),
        ),
        (
            "2018-12-19T08:18:21.1834546Z",
            Some((1_545_207_501, Some(183_454))),
        ),
        (
            "2018-12-19T08:18:21.123456789",
            Some((1_545_207_501, Some(123_456))),
        ),
        (
            "2018-12-19T08:18:21.5+02:00",
            Some((1_545_200_301, Some(500_000))),
        ),
        ("2018-12-19 08:18:21", Some((1_545_207_501, None))),
        ("2018-12-19", Some((1_545_177_600, None))),
        ("1970-01-01T00:00:00", Some((0, None))),
        ("1969-12-31T23:59:59.5", Some((-1, Some(500_000)))),
        ("1969-12-31T23:59:59.5+00:00", Some((-1, Some(500_000)))),
        ("2000-02-29T00:00:00", Some((951_782_400, None))),
        ("9999-12-31T23:59:59", Some((253_402_300_799, None))),
        // No 30th of February; the vendor's parser makes the 2nd of March of it.
        ("2018-02-30T00:00:00", None),
        ("2100-02-29T00:00:00", None),
        ("2018-13-01T00:00:00", None),
        ("2018-12-19T25:00:00", None),
        ("2018-12-19T08:18:21.", None),
        ("2018-12-19T08:18:21x", None),
        ("yesterday", None),
        ("é018-12-19T08:18:21", None),
        ("", None),
    ] {
        assert_eq!(parse_creation_time(text), expected, "{text}");
    }
    // Not as the vendor's parser, which has 2 µs here.
    assert_eq!(
        parse_creation_time("2018-12-19T08:18:21+02:00"),
        Some((1_545_200_301, None))
    );
}

#[test]
fn the_requests_have_the_headers_of_the_vendors_library() {
    let ingest = Endpoint::parse("ingest.example.net").unwrap();
    let request = logmsgs_request(&ingest, &token("1342"), Bytes::from_static(b"body"));
    assert_eq!(request.method(), Method::POST);
    assert_eq!(
        request.uri(),
        "https://ingest.example.net/ingest/v1/1342/data/logmsgs"
    );
    for (name, value) in [
        ("accept", "application/json"),
        ("content-type", "alertlogic.com/lm3-protobuf"),
        ("content-encoding", "deflate"),
        ("x-invoked-by", "azure_function"),
        ("x-aims-auth-token", "the-token"),
    ] {
        assert_eq!(request.headers()[name], value, "{name}");
    }
    assert!(!format!("{request:?}").contains("the-token"));

    let registered = Registered {
        source_id: "source".to_owned(),
        host_id: "host".to_owned(),
    };
    let request = lmcstats_request(&ingest, &token("1342"), &registered, 10, 1234, now());
    assert_eq!(
        request.uri(),
        "https://ingest.example.net/ingest/v1/1342/data/lmcstats"
    );
    assert_eq!(request.headers()["content-type"], "alertlogic.com/json");
    assert_eq!(request.headers()["content-encoding"], "deflate");
    assert_eq!(
        std::str::from_utf8(request.body()).unwrap(),
        concat!(
            r#"[{"inst_type":"collector","appliance_id":"","source_type":"o365","source_id":"source","host_id":"host","#,
            r#""event_count":10,"byte_count":1234,"application_id":"","timestamp":1700000000}]"#
        )
    );
}

proptest! {
    #[test]
    fn a_generated_decoder_reads_every_field_back_and_writes_the_same_bytes(
        ids in (".{0,40}", ".{0,40}", ".{0,200}"),
        seconds in 0_i64..4_000_000_000,
        contents in prop::collection::vec(
            (".{0,300}", any::<i64>(), any::<Option<u32>>(), any::<Option<i64>>()), 1..40),
    ) {
        let (source_id, host_id, hostname) = ids;
        let metadata = HostMetadata::new(&host_id, &hostname);
        let now = Timestamp::from_second(seconds).unwrap();
        let envelope = Envelope { source_id: &source_id, metadata: &metadata, now };
        let messages = contents.iter().map(|(text, ts, ts_us, type_id)| message(text, *ts, *ts_us, *type_id));
        let packer = Packer::new(700_000, 1);
        let Some(Packed::Payload(payload)) = packer.pack_first(envelope, messages) else { panic!("no payload") };
        let raw = inflate(&payload.body);
        let list = proto::BatchList::decode(raw.as_slice()).unwrap();
        prop_assert_eq!(list.encode_to_vec(), raw);

        let batch = &list.elem[0];
        prop_assert_eq!(&batch.source_id, &source_id);
        prop_assert_eq!(batch.metadata.host_uuid.as_deref(), Some(host_id.as_str()));
        prop_assert_eq!(batch.metadata.timestamp, Some(seconds as u64));
        prop_assert_eq!(&batch.metadata.data_checksum, &metadata.checksum());
        let elements: Vec<_> = batch.metadata.data.iter().flat_map(|dict| &dict.elem)
            .map(|element| (element.key.as_str(), element.value.as_ref().and_then(|value| value.str.as_deref())))
            .collect();
        prop_assert_eq!(elements, [("host_type", Some("azure_fun")), ("local_hostname", Some(hostname.as_str()))]);
        prop_assert_eq!(batch.message.len(), contents.len());
        for (sent, (text, ts, ts_us, type_id)) in batch.message.iter().zip(&contents) {
            prop_assert_eq!(sent, &proto::Collected {
                hostname: None,
                message_ts: *ts as u64,
                priority: 11,
                prog_name: Some("o365webhook".to_owned()),
                pid: None,
                message: text.clone(),
                message_type: "json/azure.o365".to_owned(),
                message_type_id: type_id.map(|id| id.to_string()),
                message_ts_us: *ts_us,
                application_id: None,
            });
        }
    }

    #[test]
    fn packing_keeps_every_message_in_order_and_every_payload_under_the_limit(
        lens in prop::collection::vec(prop_oneof![9 => 0_usize..600, 1 => 2_000_usize..6_000], 0..120),
        limit in 400_usize..8_000,
        level in 1_u8..=3,
    ) {
        let texts: Vec<_> = lens.iter().enumerate().map(|(n, len)| noise(n as u64, *len)).collect();
        let (payloads, too_large) = pack_all(&Packer::new(limit, level), &texts, limit);
        let mut delivered = payloads.concat().into_iter();
        for (index, text) in texts.iter().enumerate() {
            if too_large.contains(&index) {
                // Noise of 95 characters never compresses below four fifths, so nothing small is called too large.
                prop_assert!(text.len() + 250 > limit, "{} bytes at a limit of {limit}", text.len());
            } else {
                prop_assert_eq!(Some(text.clone()), delivered.next());
            }
        }
        prop_assert_eq!(delivered.next(), None);
    }

    #[test]
    fn any_text_as_creation_time_is_read_or_refused_but_never_panics(text in "\\PC{0,40}") {
        let _time = parse_creation_time(&text);
    }

    #[test]
    fn the_fast_path_agrees_with_a_full_parser(second in -62_135_596_800_i64..253_402_300_800) {
        let at = Timestamp::from_second(second).unwrap();
        let text = at.to_string();
        prop_assert_eq!(parse_creation_time(text.trim_end_matches('Z')), Some((second, None)), "{}", text);
    }
}
