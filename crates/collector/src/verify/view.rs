//! What `verify` says, as plain data in the order in which it is said. Its JSON form is documented in docs/verify.md.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// One piece of the answer. They come in this order: the head; for each tenant and content type its stream, what of it
/// is not delivered, what only Microsoft knows of, and its end; the verdict. No more than one page of them is in memory at a
/// time.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// What is asked, and of what.
    Head(Head),
    /// A tenant's content type begins.
    Stream(StreamView),
    /// A blob of it, or a single record of one, that is not delivered.
    Undelivered(UndeliveredView),
    /// A blob of it that Microsoft lists and the ledger does not have.
    Unknown(UnknownView),
    /// It ends.
    StreamEnd(StreamEnd),
    /// The answer.
    Verdict(VerdictView),
}

/// What is asked, and of what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Head {
    /// The program's version.
    pub version: String,
    /// When it was asked.
    #[serde(serialize_with = "instant")]
    pub checked_at: Timestamp,
    /// The first instant that was asked for. Nothing: where listing began.
    #[serde(serialize_with = "some_instant")]
    pub from: Option<Timestamp>,
    /// The first instant that was not asked for any more.
    #[serde(serialize_with = "instant")]
    pub to: Timestamp,
    /// Whether Microsoft was asked too.
    pub is_again: bool,
}

/// A tenant's content type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamView {
    /// The tenant's id.
    pub tenant: String,
    /// Microsoft's name of the content type.
    pub content_type: String,
    /// Whether it is in the configuration. Else it is only in the ledger.
    pub is_configured: bool,
    /// Where listing began: nothing is owed from before. Nothing when it never did.
    #[serde(serialize_with = "some_instant")]
    pub listing_began_at: Option<Timestamp>,
    /// What was judged. Nothing where there is no such time yet.
    pub range: Option<StretchView>,
    /// Of that, how many seconds were listed to the last page.
    pub listed_secs: u64,
    /// Of how many windows.
    pub listed_window_count: u64,
    /// When the first of these was listed first.
    #[serde(serialize_with = "some_instant")]
    pub first_listed_at: Option<Timestamp>,
    /// When the last of these was listed last.
    #[serde(serialize_with = "some_instant")]
    pub last_listed_at: Option<Timestamp>,
    /// Each window was listed, for the last time, at least so many seconds after it ended. What Microsoft lists later than
    /// that after its creation can still be unknown.
    pub least_listed_after_secs: Option<u64>,
    /// From before listing began, or from after the content type was given up.
    pub not_owed: Vec<StretchView>,
    /// What should have been listed and was not.
    pub not_listed: Vec<GapView>,
    /// Blobs that every sink has.
    pub delivered_blob_count: u64,
    /// Records in them.
    pub delivered_record_count: u64,
    /// Bytes of those records.
    pub delivered_byte_count: u64,
    /// Blobs that wait or that a worker holds.
    pub pending_count: u64,
    /// Blobs set aside whole.
    pub quarantined_count: u64,
    /// Blobs that Microsoft dropped before we had them.
    pub expired_count: u64,
    /// Blobs that were in quarantine until a person dropped them.
    pub dropped_count: u64,
    /// Single records in quarantine, of blobs that are delivered but for them.
    pub quarantined_record_count: u64,
    /// Single records that were in quarantine until a person dropped them.
    pub dropped_record_count: u64,
    /// Whether the range cuts a day of which only totals are kept, so that what was delivered is of the whole day.
    pub has_whole_days: bool,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StretchView {
    /// Its first instant.
    #[serde(serialize_with = "instant")]
    pub from: Timestamp,
    /// The first instant after it.
    #[serde(serialize_with = "instant")]
    pub to: Timestamp,
}

/// A stretch of time that was not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GapView {
    /// Its first instant.
    #[serde(serialize_with = "instant")]
    pub from: Timestamp,
    /// The first instant after it.
    #[serde(serialize_with = "instant")]
    pub to: Timestamp,
    /// Why.
    pub why: GapReason,
    /// Until when all of it can be listed, where it can.
    #[serde(serialize_with = "some_instant")]
    pub listable_until: Option<Timestamp>,
}

/// Why a stretch was not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// It was not listed while Microsoft still listed it.
    TooOld,
    /// It can still be listed.
    NotYet,
    /// Its hour is not over, or has just ended.
    TooRecent,
}

/// A blob, or a single record of one, that is not delivered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndeliveredView {
    /// What it is instead.
    pub state: State,
    /// The blob's canonical id. Of a record that is being retried: its blob's, `~`, and the quarantine id.
    pub content_id: String,
    /// Zero-based index of the record within the blob. Nothing: the whole blob.
    pub record_index: Option<u64>,
    /// What `quarantine show` takes, of a single record.
    pub quarantine_id: Option<u64>,
    /// The sink that refused the record. Nothing: no sink has it.
    pub sink: Option<String>,
    /// The blob's `contentCreated`.
    #[serde(serialize_with = "instant")]
    pub created_at: Timestamp,
    /// The blob's `contentExpiration`. Nothing of a record that is being retried: its bytes are in the ledger.
    #[serde(serialize_with = "some_instant")]
    pub expires_at: Option<Timestamp>,
    /// How often the blob was tried.
    pub attempt_count: u32,
    /// Why, where that is known.
    pub reason: Option<String>,
}

/// What something is that is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits.
    Pending,
    /// A worker has it.
    Leased,
    /// It is set aside.
    Quarantined,
    /// Microsoft dropped it before we had it.
    Expired,
    /// It was set aside, and a person dropped it.
    Dropped,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Quarantined => "quarantined",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

/// A blob that Microsoft lists and the ledger does not have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnknownView {
    /// The blob's canonical id.
    pub content_id: String,
    /// `contentCreated`.
    #[serde(serialize_with = "instant")]
    pub created_at: Timestamp,
    /// `contentExpiration`.
    #[serde(serialize_with = "instant")]
    pub expires_at: Timestamp,
}

/// The end of a tenant's content type.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StreamEnd {
    /// Whether nothing of it is missing.
    pub is_complete: bool,
    /// What Microsoft's side says, where it was asked.
    pub again: Option<AgainView>,
    /// What is missing, in words.
    pub missing: Vec<String>,
}

/// What Microsoft's side says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgainView {
    /// What was listed of it.
    pub range: Option<StretchView>,
    /// How many blobs Microsoft lists.
    pub listed_blob_count: u64,
    /// How many of them the ledger does not have.
    pub unknown_count: u64,
    /// Why it could not be listed to the end.
    pub error: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerdictView {
    /// Whether nothing is missing.
    pub is_complete: bool,
    /// How many content types were judged, each tenant's counted.
    pub stream_count: u64,
    /// Of how many something is missing.
    pub incomplete_stream_count: u64,
    /// Blobs that every sink has.
    pub delivered_blob_count: u64,
    /// Records in them.
    pub delivered_record_count: u64,
}

pub(super) fn instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn some_instant<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
