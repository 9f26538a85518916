//! Batches for the tests of everything that handles records, made from texts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use activity_api::{ContentId, ContentType};
use decode::{FieldSpan, RawPart, RecordSpan};
use jiff::Timestamp;
use ledger::{LeaseKey, LeaseRequest, Ledger, SeenBlob, SeenVia, SqliteLedger};
use serde_json::value::RawValue;

use crate::{
    clock::Clock,
    record::{Batch, BlobPart, BlobTag},
};

pub(crate) const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";

/// 2026-07-16T09:00:00Z, when every blob of these tests was made available.
pub(crate) fn made_available() -> Timestamp {
    "2026-07-16T09:00:00Z".parse().unwrap()
}

/// A key of a real lease: only a ledger makes one. One is enough, for no sink looks at it.
static LEASE: LazyLock<LeaseKey> = LazyLock::new(|| {
    // On a thread of its own, because the test that asks may be inside a runtime already.
    let leased = std::thread::spawn(|| {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(folder.path().join("ledger.db")).unwrap();
        let blob = SeenBlob {
            tenant: TENANT.parse().unwrap(),
            content_type: ContentType::General,
            content_id: ContentId::canonical("blob"),
            uri: "https://manage.office.com/blob".to_owned(),
            created_at: made_available(),
            expires_at: made_available() + Duration::from_secs(7 * 24 * 3600),
            seen_via: SeenVia::Listing,
        };
        let request = LeaseRequest {
            max_count: 1,
            duration: Duration::from_secs(60),
            except_tenants: Vec::new(),
            for_sinks: Vec::new(),
            only: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            ledger
                .note_seen(vec![blob], made_available())
                .await
                .unwrap();
            ledger
                .lease(&request, made_available())
                .await
                .unwrap()
                .remove(0)
                .key()
        })
    });
    leased.join().unwrap()
});

/// The tag of a blob of [`TENANT`]'s.
pub(crate) fn blob_tag(content_type: ContentType, content_id: &ContentId) -> BlobTag {
    BlobTag {
        lease: *LEASE,
        tenant: TENANT.parse().unwrap(),
        content_type,
        content_id: content_id.clone(),
        created_at: made_available(),
    }
}

/// A part with these records, which must be JSON objects.
pub(crate) fn part(texts: &[impl AsRef<str>]) -> BlobPart {
    let mut whole = Vec::new();
    let mut spans = Vec::new();
    for text in texts {
        let text = text.as_ref();
        // What stands between two records in a blob is no part of either, so something must stand there.
        whole.extend_from_slice(if whole.is_empty() { b"[" } else { b",\n " });
        spans.push(span(text, whole.len()));
        whole.extend_from_slice(text.as_bytes());
    }
    BlobPart::new(
        Arc::new(blob_tag(
            ContentType::Exchange,
            &ContentId::canonical("blob"),
        )),
        RawPart {
            first_record: 0,
            text: whole,
            spans,
        },
        None,
    )
}

/// A batch of parts with these records.
pub(crate) fn batch_of_parts(parts: &[Vec<String>]) -> Batch {
    Batch::new(parts.iter().map(|texts| Arc::new(part(texts))).collect())
}

/// A batch of one part with these records.
pub(crate) fn batch(texts: &[impl AsRef<str>]) -> Batch {
    Batch::new(vec![Arc::new(part(texts))])
}

/// A short record that no other number gives.
pub(crate) fn record(number: usize) -> String {
    format!(
        r#"{{"CreationTime":"2026-07-16T08:{:02}:{:02}","Id":"{number:08x}-0000-4000-8000-000000000000","Operation":"Update","RecordType":1}}"#,
        number / 60 % 60,
        number % 60
    )
}

/// Short records from `first` on.
pub(crate) fn records(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(record).collect()
}

fn span(text: &str, start: usize) -> RecordSpan {
    let fields: BTreeMap<&str, &RawValue> =
        serde_json::from_str(text).expect("a test's record is a JSON object");
    let field = |name: &str| match fields.get(name).map(|value| value.get()) {
        Some(value) if value.starts_with('"') => FieldSpan {
            start: (value.as_ptr() as usize - text.as_ptr() as usize + 1)
                .try_into()
                .unwrap(),
            len: (value.len() - 2).try_into().unwrap(),
        },
        _ => FieldSpan::default(),
    };
    RecordSpan {
        start: start.try_into().unwrap(),
        len: text.len().try_into().unwrap(),
        id: field("Id"),
        creation_time: field("CreationTime"),
        record_type: fields
            .get("RecordType")
            .and_then(|value| value.get().parse().ok()),
        is_compact: is_compact(text),
    }
}

fn is_compact(text: &str) -> bool {
    let (mut in_string, mut is_escaped) = (false, false);
    text.bytes().all(|byte| {
        let is_space = !in_string && byte.is_ascii_whitespace();
        in_string ^= byte == b'"' && !is_escaped;
        is_escaped = in_string && byte == b'\\' && !is_escaped;
        !is_space
    })
}

/// A clock that stands where the test put it.
#[derive(Debug)]
pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(
            time.parse::<Timestamp>().unwrap().as_second(),
        )))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .fetch_add(by.as_secs().try_into().unwrap(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}
