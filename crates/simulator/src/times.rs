//! Times as the services write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

pub(crate) const DAY_MS: i64 = 86_400_000;

/// A time from milliseconds since 1970. Out of range becomes 1970: the plan makes no such time.
pub(crate) fn from_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `2026-07-15T20:03:19.123Z`, as `contentCreated`.
pub(crate) fn with_ms(ms: i64) -> String {
    let time = civil(ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// `20260715200319123`, as at the start of a `contentId`'s times.
pub(crate) fn digits(ms: i64) -> String {
    let time = civil(ms);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}{:03}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// `2026-01-01 00:00:00Z`, as in Entra's errors.
pub(crate) fn spaced(now: Timestamp) -> String {
    with_ms(now.as_millisecond())
        .replace('T', " ")
        .get(..19)
        .map(|text| format!("{text}Z"))
        .unwrap_or_default()
}

/// The `Date` header.
pub(crate) fn http_date(now: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let time = Offset::UTC.to_datetime(now);
    let day = DAYS
        .get(time.weekday().to_monday_zero_offset() as usize)
        .copied()
        .unwrap_or("Mon");
    let month = MONTHS
        .get((time.month() - 1) as usize)
        .copied()
        .unwrap_or("Jan");
    format!(
        "{day}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT",
        time.day(),
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Writes the zone-less `2026-07-15T20:03:19` of `CreationTime` into 19 bytes; a shorter place is left as it is.
pub(crate) fn write_zoneless(secs: i64, place: &mut [u8]) {
    let time = civil(secs.saturating_mul(1000));
    let Some(place) = place.first_chunk_mut::<19>() else {
        return;
    };
    *place = *b"0000-00-00T00:00:00";
    let year = time.year().unsigned_abs();
    for (at, value) in [
        (0, year / 100),
        (2, year % 100),
        (5, u16::from(time.month().unsigned_abs())),
        (8, u16::from(time.day().unsigned_abs())),
        (11, u16::from(time.hour().unsigned_abs())),
        (14, u16::from(time.minute().unsigned_abs())),
        (17, u16::from(time.second().unsigned_abs())),
    ] {
        place[at] = b'0' + (value / 10 % 10) as u8;
        place[at + 1] = b'0' + (value % 10) as u8;
    }
}

/// A time in a request: a date, or a date and time down to minutes or finer, with or without `Z`. UTC either way.
pub(crate) fn parse_request(text: &str) -> Option<i64> {
    let zoneless = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let time: DateTime = zoneless.parse().ok()?;
    Some(
        time.to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

/// A record's `CreationTime`: Unix seconds, and the microseconds of its fraction where it has one.
pub(crate) fn parse_creation(text: &str) -> Option<(i64, Option<u32>)> {
    let zoneless = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let time: DateTime = zoneless.parse().ok()?;
    let instant = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let micros = u32::try_from(time.subsec_nanosecond() / 1000).ok()?;
    Some((instant.as_second(), (micros != 0).then_some(micros)))
}

fn civil(ms: i64) -> DateTime {
    Offset::UTC.to_datetime(from_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_requested_time_is_understood() {
        let expected = 1_784_145_780_000;
        for text in [
            "2026-07-15T20:03",
            "2026-07-15T20:03:00",
            "2026-07-15T20:03:00.000Z",
            "2026-07-15T20:03:00Z",
        ] {
            assert_eq!(parse_request(text), Some(expected), "{text}");
        }
        assert_eq!(parse_request("2026-07-15"), Some(1_784_073_600_000));
        assert_eq!(parse_request("yesterday"), None);
    }

    #[test]
    fn written_times_read_back() {
        let ms = 1_784_145_799_123;
        assert_eq!(with_ms(ms), "2026-07-15T20:03:19.123Z");
        assert_eq!(digits(ms), "20260715200319123");
        let mut place = [0; 19];
        write_zoneless(1_784_145_799, &mut place);
        assert_eq!(&place, b"2026-07-15T20:03:19");
        assert_eq!(
            parse_creation("2026-07-15T20:03:19"),
            Some((1_784_145_799, None))
        );
        assert_eq!(
            parse_creation("2026-07-15T20:03:19.5"),
            Some((1_784_145_799, Some(500_000)))
        );
        assert_eq!(http_date(from_ms(ms)), "Wed, 15 Jul 2026 20:03:19 GMT");
        assert_eq!(spaced(from_ms(ms)), "2026-07-15 20:03:19Z");
    }
}
