//! Keys of partitions and rows, and the numbers that name blobs and writes.
//!
//! Keys are letters, digits and `- . _ !` and nothing else, so that they look the same in an address, in a signature
//! and in a filter.

use activity_api::{ContentId, ContentType, TenantId};
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::store::stored;

/// Facts, positions, counters and the list of tenants.
pub(super) const FACTS: &str = "facts";

/// What is set aside.
pub(super) const QUARANTINED: &str = "quarantined";

/// Rows in which processes count apart, so that they seldom wait for each other.
pub(super) const SHARDS: u64 = 8;

/// A tenant's partition.
pub(super) fn partition_of(tenant: TenantId) -> String {
    tenant.to_string()
}

/// A blob's number within its tenant: the beginning of a hash, long enough that no two are the same, by chance or
/// by intent.
pub(super) fn number_of(content_type: ContentType, content_id: &ContentId) -> u128 {
    hash(&[
        content_type.as_str().as_bytes(),
        content_id.as_str().as_bytes(),
    ])
}

/// The first half of the SHA-256 of the pieces, each with its length.
pub(super) fn hash(pieces: &[&[u8]]) -> u128 {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_be_bytes());
        context.update(piece);
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// The row that says that a blob is known.
pub(super) fn known_row(number: u128) -> String {
    format!("b-{number:032x}")
}

/// More milliseconds than there are before 1970, so that times before it are positive and sort as text.
const BEFORE_1970: i64 = 400_000_000_000_000;

/// The row of an unsettled blob.
pub(super) fn due_row(expires_at: Timestamp, number: u128) -> String {
    format!("d-{}-{number:032x}", place_of(stored(expires_at)))
}

/// A row of counts of settled blobs.
pub(super) fn counts_row(content_type: ContentType, shard: u64) -> String {
    format!("c-{}!{shard}", content_type.as_str())
}

/// The row that says where listing began.
pub(super) fn began_row(content_type: ContentType) -> String {
    format!("a-{}", content_type.as_str())
}

/// The row of listed stretches.
pub(super) fn listed_row(content_type: ContentType) -> String {
    format!("l-{}", content_type.as_str())
}

/// A time as it stands in keys: all of the same length, so that they sort.
fn place_of(milliseconds: i64) -> String {
    let place = milliseconds.saturating_add(BEFORE_1970).max(0);
    format!("{place:016}")
}

/// When the blob of such a row expires, in milliseconds.
pub(super) fn expiry_of(due_row: &str) -> Option<i64> {
    let place: i64 = due_row.strip_prefix("d-")?.get(..16)?.parse().ok()?;
    Some(place - BEFORE_1970)
}

/// The row of a listed window.
pub(super) fn window_row(content_type: ContentType, (start, end): (i64, i64)) -> String {
    format!(
        "{}{}!{}",
        windows_of(content_type),
        place_of(start),
        place_of(end)
    )
}

/// What the rows of all listed windows begin with.
pub(super) fn windows_of(content_type: ContentType) -> String {
    format!("w-{}!", content_type.as_str())
}

/// What the rows of those begin with that start at this time.
pub(super) fn windows_from(content_type: ContentType, start: i64) -> String {
    format!("{}{}", windows_of(content_type), place_of(start))
}

/// The row of what was forgotten of a day.
pub(super) fn day_row(content_type: ContentType, day: i64) -> String {
    format!("y-{}!{}", content_type.as_str(), place_of(day))
}

/// The row that says that a sink has acknowledged something.
pub(super) fn sink_row(name: &str) -> String {
    format!("k-{}", escaped(name))
}

/// Text in the alphabet of keys. Escapes of a beginning are the beginning of the whole text's escapes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'.' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("_{byte:02x}"));
        }
    }
    escaped
}

/// A filter for the rows of a partition from `from` on and before `to`.
pub(super) fn between(partition: &str, from: &str, to: &str) -> String {
    use azure::storage::tables::quoted;
    format!(
        "PartitionKey eq {} and RowKey ge {} and RowKey lt {}",
        quoted(partition),
        quoted(from),
        quoted(to)
    )
}

/// A random number that is not 0. It names a write or a lease among all that there are.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has a source of random numbers");
    u64::from_le_bytes(bytes).max(1)
}
