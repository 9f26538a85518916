//! Reading the times that Microsoft writes, in the forms that really arrive.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::{Timestamp, civil, fmt::rfc2822, tz::TimeZone};

/// The longest wait that a `Retry-After` is believed. Microsoft's longest wording is "in an hour"; a larger number is a mistake
/// that would stop a tenant's collection until its content has expired.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A time with a zone, or one without, which is UTC by Microsoft's reference of the Activity API.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<civil::DateTime>().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// A time as requests carry it: UTC to the millisecond. Microsoft documents no fraction, but other collectors send one successfully.
pub(crate) fn write_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The sender's clock, from the `Date` header.
pub(crate) fn read_date(headers: &HeaderMap) -> Option<Timestamp> {
    parse_http_date(headers.get(header::DATE)?.to_str().ok()?)
}

/// How long to wait, from the `Retry-After` header in either of its forms.
///
/// The form with a date is measured against the reply's own `Date`, so that a wrong clock on this machine does not matter;
/// without one it cannot be measured and says nothing.
pub(crate) fn read_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let secs = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(secs).min(LONGEST_WAIT));
    }
    let wait = parse_http_date(text)?.duration_since(read_date(headers)?);
    Some(
        Duration::try_from(wait)
            .unwrap_or(Duration::ZERO)
            .min(LONGEST_WAIT),
    )
}

fn parse_http_date(text: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(text.trim()).ok()?.timestamp())
}

#[cfg(test)]
mod tests;
