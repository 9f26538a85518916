//! An item in quarantine as people and programs are shown it. Never its bytes.

use std::fmt::Write as _;

use jiff::Timestamp;
use ledger::QuarantinedItem;
use serde::{Serialize, Serializer};

use crate::status::text::{bytes, instant, one_line};

/// An item in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemView {
    /// What `quarantine show`, `retry` and `drop` take.
    pub id: u64,
    /// The tenant's id.
    pub tenant: String,
    /// Microsoft's name of the content type.
    pub content_type: String,
    /// The blob's canonical id.
    pub content_id: String,
    /// Zero-based index of the record within the blob. Nothing: the whole blob.
    pub record_index: Option<u64>,
    /// The sink that refused it. Nothing: no sink has it.
    pub sink: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// How many bytes are kept of it.
    pub byte_count: u64,
    /// When it was set aside.
    #[serde(serialize_with = "rfc3339")]
    pub quarantined_at: Timestamp,
    /// Whether it is being tried again.
    pub is_retried: bool,
}

impl ItemView {
    /// The item as it is shown.
    #[must_use]
    pub fn new(item: &QuarantinedItem) -> Self {
        Self {
            id: item.id,
            tenant: item.tenant.to_string(),
            content_type: item.content_type.as_str().to_owned(),
            content_id: item.content_id.to_string(),
            record_index: item.record_index,
            sink: item.sink.as_ref().map(ToString::to_string),
            reason: item.reason.clone(),
            byte_count: item.byte_count,
            quarantined_at: item.quarantined_at,
            is_retried: item.is_retried,
        }
    }
}

/// The item in two lines, each ended.
#[must_use]
pub fn to_text(item: &ItemView) -> String {
    let mut out = format!("{:>4}  ", item.id);
    // Writing to a String cannot fail, so the results say nothing.
    let written = match item.record_index {
        Some(index) => write!(out, "record {index} of blob {}", one_line(&item.content_id)),
        None => write!(out, "blob {}", one_line(&item.content_id)),
    };
    written.expect("a String takes every write");
    let since = instant(item.quarantined_at);
    write!(out, ", {}, since {since}", bytes(item.byte_count)).expect("a String takes every write");
    if item.is_retried {
        out.push_str(", being retried");
    }
    let by = item.sink.as_ref().map_or_else(String::new, |sink| {
        format!(", refused by sink {}", one_line(sink))
    });
    writeln!(
        out,
        "\n      tenant {}  {}{by}: {}",
        one_line(&item.tenant),
        one_line(&item.content_type),
        one_line(&item.reason)
    )
    .expect("a String takes every write");
    out
}

fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
