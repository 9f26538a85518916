//! A credential's end, which comes without a word: from that second on nothing is collected.

use jiff::{SignedDuration, Timestamp};

use crate::status::text;

/// So long before, a person is told: whom a new certificate must be asked for takes weeks.
const TELL_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a person should know of a certificate's end, and do; nothing while it is far.
pub(crate) fn ending(ends_at: Timestamp, now: Timestamp) -> Option<String> {
    let is_over = ends_at <= now;
    let verb = match is_over {
        true => "ended",
        false => "ends",
    };
    (is_over || ends_at.duration_since(now) <= TELL_BEFORE).then(|| {
        format!(
            "its certificate {verb} {}, at {}: upload a new one to the application, put it with its key into `certificate`, and \
             start the collector again",
            text::relative(ends_at, now),
            text::instant(ends_at),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_a_month_before_and_ever_after() {
        let ends_at: Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
        let told = |now: &str| ending(ends_at, now.parse().unwrap());
        assert_eq!(told("2026-03-01T11:59:59Z"), None);
        for (now, how) in [
            ("2026-03-01T12:00:00Z", "its certificate ends in 30 d 0 h"),
            ("2026-03-31T11:59:00Z", "its certificate ends in 1 min"),
            ("2026-03-31T12:00:00Z", "its certificate ended 0 s ago"),
            ("2026-04-02T13:00:00Z", "its certificate ended 2 d 1 h ago"),
        ] {
            let says = told(now).unwrap();
            assert!(says.starts_with(how), "{says}");
            assert!(
                says.contains(", at 2026-03-31 12:00:00Z: upload a new one"),
                "{says}"
            );
        }
        assert_eq!(ending(Timestamp::MAX, Timestamp::MIN), None);
    }
}
