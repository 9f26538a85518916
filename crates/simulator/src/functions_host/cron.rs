//! NCRONTAB: six fields from the second to the weekday, in UTC.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// When a timer is due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// The allowed numbers, as bits. None is above 59.
#[derive(Clone, Copy, Debug)]
struct Field(u64);

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 & (1 << number) != 0)
    }

    fn numbers(self) -> impl Iterator<Item = i8> {
        (0..60).filter(move |&number| self.has(number))
    }
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// None for a text that is no schedule.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [seconds, minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return None;
        };
        // Sunday may be written as 7 too.
        let weekdays = field(weekdays, 0, 7, &WEEKDAYS, 0)?;
        let sunday = (weekdays.0 >> 7) & 1;
        Some(Self {
            seconds: field(seconds, 0, 59, &[], 0)?,
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            weekdays: Field((weekdays.0 & 0x7f) | sunday),
        })
    }

    /// The first moment after this one at which the timer is due. None when there is none in the next nine years, which is
    /// further than from one 29th of February to the next.
    pub(super) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let start = now.to_zoned(TimeZone::UTC).datetime();
        let mut date = start.date();
        for _ in 0..9 * 366 {
            let weekday = date.weekday().to_sunday_zero_offset();
            if self.months.has(date.month())
                && self.days.has(date.day())
                && self.weekdays.has(weekday)
            {
                for hour in self.hours.numbers() {
                    for minute in self.minutes.numbers() {
                        for second in self.seconds.numbers() {
                            let due = date.at(hour, minute, second, 0);
                            if due > start {
                                return Some(due.to_zoned(TimeZone::UTC).ok()?.timestamp());
                            }
                        }
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }
}

/// `*`, `5`, `1-5`, `MON-FRI`, `*/15`, `3/15`, and lists of these.
fn field(text: &str, low: u32, high: u32, names: &[&str], first_name: u32) -> Option<Field> {
    let number = |text: &str| {
        let named = names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
            .and_then(|at| u32::try_from(at).ok())
            .map(|at| at + first_name);
        named
            .or_else(|| text.parse().ok())
            .filter(|number| (low..=high).contains(number))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                Some(step.parse::<u32>().ok().filter(|&step| step > 0)?),
            ),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None if range == "*" => (low, high),
            None => {
                let from = number(range)?;
                (from, if step.is_some() { high } else { from })
            }
        };
        for value in (from..=to).step_by(usize::try_from(step.unwrap_or(1)).ok()?) {
            bits |= 1 << value;
        }
    }
    (bits != 0).then_some(Field(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, now: &str) -> String {
        Schedule::parse(schedule)
            .unwrap()
            .next_after(now.parse().unwrap())
            .map_or("never".to_owned(), |due| due.to_string())
    }

    #[test]
    fn a_schedule_says_when_it_is_due_next() {
        for (schedule, now, due) in [
            (
                "0 * * * * *",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:01:00Z",
            ),
            (
                "0 */15 * * * *",
                "2026-01-01T00:14:59.5Z",
                "2026-01-01T00:15:00Z",
            ),
            (
                "30 7/15 * * * *",
                "2026-01-01T00:07:30Z",
                "2026-01-01T00:22:30Z",
            ),
            (
                "0 0 */12 * * *",
                "2026-01-01T12:00:00Z",
                "2026-01-02T00:00:00Z",
            ),
            (
                "13 5,35 3 * * MON-FRI",
                "2026-01-02T04:00:00Z",
                "2026-01-05T03:05:13Z",
            ),
            (
                "0 0 0 29 2 *",
                "2026-01-01T00:00:00Z",
                "2028-02-29T00:00:00Z",
            ),
            (
                "0 0 0 1 Jan 7",
                "2026-01-02T00:00:00Z",
                "2034-01-01T00:00:00Z",
            ),
            ("0 0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, now), due, "{schedule}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_none() {
        for text in [
            "* * * * *",
            "60 * * * * *",
            "0 0 24 * * *",
            "0 */0 * * * *",
            "0 5-1 * * * *",
            "0 0 0 0 * *",
            "%MASTER_SCHEDULE%",
        ] {
            assert!(Schedule::parse(text).is_none(), "{text}");
        }
    }
}
