//! The backends. SQL and table layout live here and nowhere else.

pub mod azure;
pub mod postgres;
pub mod sqlite;
mod windows;

use jiff::Timestamp;

/// An instant as it is stored: milliseconds since 1970, UTC.
///
/// The last second of the year 9999 is cut off, because jiff counts milliseconds only up to its beginning: a blob with
/// such a time could be stored and never be read again.
fn stored(instant: Timestamp) -> i64 {
    instant
        .as_millisecond()
        .min(Timestamp::MAX.as_second().saturating_mul(1_000))
}

/// The expiry, as it is stored, of what does not expire: its bytes are in the ledger and not Microsoft's to drop.
fn never() -> i64 {
    stored(Timestamp::MAX)
}

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
