//! How fast records become request bodies: encoded and compressed, on generated records and, when the environment
//! variable `O365_BENCH_CORPUS` names an NDJSON file, on its lines. One thread; the figures are per record and per byte
//! of the records' text.

#![expect(
    clippy::print_stdout,
    reason = "a bench says on the terminal what it left out"
)]

use std::{borrow::Cow, fmt::Write as _};

use alertlogic::ingest::{Envelope, HostMetadata, Message, Packed, Packer, parse_creation_time};
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use jiff::Timestamp;

/// The vendor's older limit, the default of ours.
const MAX_PAYLOAD_BYTES: usize = 700_000;
const GENERATED_COUNT: usize = 20_000;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2, 4, 6, 9])]
fn generated(bencher: Bencher<'_, '_>, level: u8) {
    pack(bencher, level, &generate());
}

#[divan::bench(args = [1, 2, 4, 6, 9])]
fn corpus(bencher: Bencher<'_, '_>, level: u8) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench has no configuration to take the file from"
    )]
    let Ok(path) = std::env::var("O365_BENCH_CORPUS") else {
        println!("not run: O365_BENCH_CORPUS names no file");
        return;
    };
    let text = std::fs::read_to_string(path).expect("O365_BENCH_CORPUS names a readable file");
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // Enough for several payloads, however small the file is.
    let rounds = (GENERATED_COUNT / lines.len().max(1)).max(1);
    let records: Vec<_> = std::iter::repeat_n(lines, rounds).flatten().collect();
    pack(bencher, level, &records);
}

fn pack(bencher: Bencher<'_, '_>, level: u8, records: &[String]) {
    let creation_times: Vec<_> = records.iter().map(|record| creation_time(record)).collect();
    let text_bytes: usize = records.iter().map(String::len).sum();
    let metadata = HostMetadata::new("0f3e4c6e-9c1f-4c0a-8a6e-2b1d3c4e5f60", "site.example.net");
    let envelope = Envelope {
        source_id: "6d2f7a58-1b3c-4d5e-8f90-a1b2c3d4e5f6",
        metadata: &metadata,
        now: Timestamp::UNIX_EPOCH,
    };
    let packer = Packer::new(MAX_PAYLOAD_BYTES, level);
    bencher
        .counter(ItemsCount::new(records.len()))
        .counter(BytesCount::new(text_bytes))
        .bench_local(|| {
            let messages = records
                .iter()
                .zip(&creation_times)
                .map(|(record, creation_time)| {
                    let (ts, ts_us) = parse_creation_time(creation_time).unwrap_or_default();
                    Message {
                        text: Cow::Borrowed(record.as_bytes()),
                        ts,
                        ts_us,
                        type_id: Some(15),
                    }
                });
            let mut body_bytes = 0;
            for packed in packer.pack(envelope, messages) {
                match packed {
                    Packed::Payload(payload) => body_bytes += payload.body.len(),
                    Packed::TooLarge { index } => panic!("record {index} is too large"),
                }
            }
            body_bytes
        });
    println!(
        "level {level}: {} payloads turned out too large and were compressed again",
        packer.retried_count()
    );
}

fn creation_time(record: &str) -> &str {
    let key = "\"CreationTime\":\"";
    let start = record.find(key).map_or(0, |at| at + key.len());
    record.get(start..start + 19).unwrap_or_default()
}

/// Records of about 1 KB in the shape of a sign-in: ids that do not compress amid names that do.
fn generate() -> Vec<String> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..GENERATED_COUNT)
        .map(|n| {
            let mut record = format!(
                r#"{{"CreationTime":"2026-11-{:02}T{:02}:{:02}:{:02}","Id":"{:016x}{:016x}","Operation":"UserLoggedIn","#,
                1 + n % 28,
                n % 24,
                n % 60,
                n * 7 % 60,
                next(),
                next()
            );
            record.push_str(r#""RecordType":15,"ResultStatus":"Success","Workload":"AzureActiveDirectory","ExtendedProperties":["#);
            for name in ["UserAgent", "UserAuthenticationMethod", "RequestType", "ResultStatusDetail", "KeepMeSignedIn"] {
                let value = next();
                write!(record, r#"{{"Name":"{name}","Value":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {value:x}"}},"#)
                    .expect("a String takes any text");
            }
            record.push_str(r#"{"Name":"Last","Value":"1"}],"Actor":["#);
            for kind in 0..5 {
                write!(record, r#"{{"ID":"{:016x}-{:016x}","Type":{kind}}},"#, next(), next())
                    .expect("a String takes any text");
            }
            write!(record, r#"{{"ID":"user{}@example.net","Type":5}}],"ClientIP":"10.{}.{}.{}"}}"#, n % 500, n % 256, n / 256, n % 7)
                .expect("a String takes any text");
            record
        })
        .collect()
}
