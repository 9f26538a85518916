//! The pieces of work. Each is a step that every record, blob or notification pays for; their input never changes.

use std::borrow::Cow;
use std::hint::black_box;

use alertlogic::ingest::{Envelope, HostMetadata, Message, Packer, parse_creation_time};
use decode::{Limits, decode_pieces};
use deflate::{Deflater, Format};
use jiff::Timestamp;

use crate::records;

/// A piece of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    work: fn(u32),
}

pub(crate) const ALL: [Case; 5] = [
    Case {
        name: "creation_time_of_1000_records",
        work: creation_times,
    },
    Case {
        name: "decode_blob_of_1000_records",
        work: decode_blob,
    },
    Case {
        name: "deflate_1000_records",
        work: deflate_records,
    },
    Case {
        name: "notification_of_20_blobs",
        work: notification,
    },
    Case {
        name: "pack_1000_records_for_alertlogic",
        work: pack,
    },
];

impl Case {
    /// Prepares, and does the work so many times.
    pub(crate) fn run(&self, times: u32) {
        (self.work)(times);
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.name == name)
}

fn creation_times(times: u32) {
    let texts: Vec<String> = (0..1_000)
        .map(|n| {
            format!(
                "2026-{:02}-{:02}T{:02}:{:02}:{:02}",
                1 + n % 12,
                1 + n % 28,
                n % 24,
                n % 60,
                n * 7 % 60
            )
        })
        .collect();
    for _ in 0..times {
        for text in &texts {
            black_box(parse_creation_time(black_box(text)));
        }
    }
}

fn decode_blob(times: u32) {
    let blob = records::blob(1_000);
    // In pieces of the size in which they come from a connection.
    let pieces = || blob.chunks(16 << 10);
    for _ in 0..times {
        drop(black_box(decode_pieces(
            Limits::PIPELINE,
            black_box(pieces()),
        )));
    }
}

fn deflate_records(times: u32) {
    let blob = records::blob(1_000);
    let mut deflater = Deflater::new();
    let mut out = Vec::new();
    for _ in 0..times {
        out.clear();
        let fits = deflater.compress(Format::Zlib, black_box(&blob), &mut out, usize::MAX);
        fits.expect("there is any room");
        black_box(&out);
    }
}

fn notification(times: u32) {
    let body = records::notification(20);
    for _ in 0..times {
        drop(black_box(activity_api::read_notification(black_box(&body))));
    }
}

/// Encoding and compressing, at level 1.
fn pack(times: u32) {
    let records = records::records(1_000);
    let metadata = HostMetadata::new("0f3e4c6e-9c1f-4c0a-8a6e-2b1d3c4e5f60", "site.example.net");
    let envelope = Envelope {
        source_id: "6d2f7a58-1b3c-4d5e-8f90-a1b2c3d4e5f6",
        metadata: &metadata,
        now: Timestamp::UNIX_EPOCH,
    };
    let packer = Packer::new(700_000, 1);
    for _ in 0..times {
        let messages = records.iter().map(|record| Message {
            text: Cow::Borrowed(record.as_bytes()),
            ts: 1_767_225_600,
            ts_us: None,
            type_id: Some(15),
        });
        for packed in packer.pack(envelope, messages) {
            drop(black_box(packed));
        }
    }
}
