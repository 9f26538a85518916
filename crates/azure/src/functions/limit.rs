//! How long one invocation may take: `functionTimeout`, in host.json or in the setting that overrides it.

use std::time::Duration;

use serde_json::Value;

/// What the host allows where nothing is said, on the plan that allows least.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long one invocation may take before the host gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// So long.
    After(Duration),
    /// As long as it likes.
    Never,
}

/// What stands in `functionTimeout` is no time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "functionTimeout must be a time span such as 00:10:00 (hours, minutes, seconds), or -1 for none"
)]
pub struct InvalidTimeout;

impl std::str::FromStr for TimeLimit {
    type Err = InvalidTimeout;

    /// `[days.]hours:minutes:seconds[.fraction]`, or `-1`.
    fn from_str(text: &str) -> Result<Self, InvalidTimeout> {
        let text = text.trim();
        if text == "-1" || text == "-00:00:01" {
            return Ok(Self::Never);
        }
        // Digits alone: a sign is none of a time span's, and `u64` would take a plus.
        let number = |text: &str, limit: u64| {
            (!text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().ok())
                .flatten()
                .filter(|number: &u64| *number < limit)
                .ok_or(InvalidTimeout)
        };
        let mut parts = text.split(':');
        let (Some(first), Some(minutes), Some(seconds), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidTimeout);
        };
        let (days, hours) = match first.split_once('.') {
            Some((days, hours)) => (number(days, 1_000_000)?, number(hours, 24)?),
            None => (0, number(first, 24)?),
        };
        let seconds = match seconds.split_once('.') {
            Some((seconds, fraction)) => {
                number(fraction, u64::MAX)?;
                number(seconds, 60)?
            }
            None => number(seconds, 60)?,
        };
        let total = (days * 24 + hours) * 3600 + number(minutes, 60)? * 60 + seconds;
        match total {
            0 => Err(InvalidTimeout),
            total => Ok(Self::After(Duration::from_secs(total))),
        }
    }
}

/// `functionTimeout` of a host.json; nothing where it has none, or is not the JSON that the host would start with.
///
/// # Errors
/// When what stands there is no time span.
pub fn read_host_json(text: &[u8]) -> Result<Option<TimeLimit>, InvalidTimeout> {
    let Ok(Value::Object(host)) = serde_json::from_slice(text) else {
        return Ok(None);
    };
    match host.get("functionTimeout") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some),
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => Ok(Some(TimeLimit::Never)),
        Some(_) => Err(InvalidTimeout),
    }
}
