//! `CreationTime` as text to the seconds and microseconds that a message carries. On the way of every record.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Reads `CreationTime`: Unix seconds, and the microseconds of a fraction where there is one.
///
/// The text has no zone as a rule and is UTC; a zone that is there is heeded. As in the vendor's parser a fraction of
/// zeros is a fraction (`Some(0)`), more than six digits are cut off, and no fraction is `None`. Not as there: that one
/// takes the digits of an offset for a fraction (`…:21+02:00` would have 2 µs).
#[must_use]
pub fn parse_creation_time(text: &str) -> Option<(i64, Option<u32>)> {
    let bytes = text.as_bytes();
    let Some((date_time, rest)) = bytes.split_first_chunk::<19>() else {
        return parse_slowly(text);
    };
    let Some(seconds) = parse_19(date_time) else {
        return parse_slowly(text);
    };
    match rest {
        [] | b"Z" => Some((seconds, None)),
        [b'.', fraction @ .., b'Z'] | [b'.', fraction @ ..] if is_digits(fraction) => {
            Some((seconds, Some(micros(fraction))))
        }
        _ => parse_slowly(text),
    }
}

/// `2021-05-18T21:13:34`, what Microsoft sends.
fn parse_19(text: &[u8; 19]) -> Option<i64> {
    let number = |from: usize, len: usize| {
        text[from..from + len]
            .iter()
            .try_fold(0_i64, |number, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| number * 10 + i64::from(digit - b'0'))
            })
    };
    let punctuation = [text[4], text[7], text[10], text[13], text[16]];
    if punctuation != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap_year => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((days_since_1970(year, month, day) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Counted in years that begin in March, so that the leap day comes last, and in eras of 400 years, which all have as
/// many days.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn micros(fraction: &[u8]) -> u32 {
    let digits = fraction
        .iter()
        .map(|digit| u32::from(digit - b'0'))
        .chain(std::iter::repeat(0));
    digits.take(6).fold(0, |micros, digit| micros * 10 + digit)
}

/// Every other form of ISO 8601: an offset, a space for the `T`, a date alone.
fn parse_slowly(text: &str) -> Option<(i64, Option<u32>)> {
    let at: Timestamp = match text.parse() {
        Ok(at) => at,
        Err(_) => text
            .parse::<DateTime>()
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp(),
    };
    // Rounded down, also before 1970, so that the fraction is never negative.
    let micros = u32::try_from(at.subsec_nanosecond().rem_euclid(1_000_000_000) / 1000).ok()?;
    let seconds = at.as_second() - i64::from(at.subsec_nanosecond() < 0);
    let has_fraction = text.contains(['.', ',']);
    Some((seconds, has_fraction.then_some(micros)))
}
