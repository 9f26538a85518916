//! A storm's file → [`Storm`]. Every mistake is found in one reading, and a key that means nothing is one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StrDeserializer};
use toml::{Table, Value};

use super::storm::{Class, SinkKind, Storm, StormError, StormFault, What};
use crate::RequestKind;

/// A simulated time that never comes.
const NEVER_MS: i64 = i64::MAX;
/// Longer than any simulation.
const MAX_SECS: f64 = 1e9;

pub(super) const NAMES: [&str; 30] = [
    "status",
    "throttled",
    "hangup",
    "hang",
    "slow",
    "answer_lost",
    "truncated",
    "reset",
    "drip",
    "garbage",
    "html",
    "broken_gzip",
    "hostile_page",
    "repeated_page",
    "empty_page",
    "circle",
    "hostile_uri",
    "expired",
    "undecodable_blob",
    "late",
    "not_listed",
    "not_notified",
    "huge_blob",
    "without_id",
    "without_creation_time",
    "undecodable_record",
    "repeated_record",
    "large_record",
    "refused_record",
    "clock_skew",
];

pub(super) fn storm(text: &str) -> Result<Storm, StormError> {
    let table: Table = text
        .parse()
        .map_err(|error| StormError::NotToml(Box::new(error)))?;
    let mut mistakes = Vec::new();
    let mut top = Reader::new("the storm", &table, &mut mistakes);
    let seed = top.whole("seed", 0..=u64::MAX);
    let tables = match top.get("fault") {
        None => Vec::new(),
        Some(Value::Array(items)) => items.clone(),
        Some(_) => {
            top.wrong("fault must be a list of tables: write [[fault]]");
            Vec::new()
        }
    };
    if tables.is_empty() && top.mistakes.is_empty() {
        top.wrong("no [[fault]]");
    }
    top.finish();
    let mut faults = Vec::new();
    for (number, item) in (1..).zip(&tables) {
        let place = format!("fault {number}");
        match item {
            Value::Table(table) => {
                let mut reader = Reader::new(&place, table, &mut mistakes);
                let read = fault(&mut reader);
                reader.finish();
                faults.extend(read);
            }
            _ => mistakes.push(format!("{place}: must be a table")),
        }
    }
    if mistakes.is_empty() {
        Ok(Storm { seed, faults })
    } else {
        Err(StormError::Mistakes(mistakes))
    }
}

fn fault(reader: &mut Reader<'_>) -> Option<StormFault> {
    let names = reader.texts("what");
    if names.is_empty() {
        reader.wrong("what is missing: say what goes wrong");
        reader.ignore_the_rest();
        return None;
    }
    let mut whats = Vec::new();
    for name in &names {
        match what(reader, name) {
            Some(what) => whats.push(what),
            None => reader.ignore_the_rest(),
        }
    }
    let class = whats.first()?.class();
    if whats.iter().any(|what| what.class() != class) {
        reader.wrong("what names faults of different kinds: give each kind a [[fault]] of its own");
    }
    let mut fault = StormFault {
        whats,
        kinds: Vec::new(),
        share: reader.number("share", 0.0, 1.0).unwrap_or(1.0),
        times: 1,
        at_most: reader.whole("at_most", 1..=u64::MAX),
        in_a_row: None,
        from_ms: 0,
        to_ms: NEVER_MS,
    };
    if class == Class::Request {
        for name in reader.texts("on") {
            let name: StrDeserializer<'_, ValueError> = name.as_str().into_deserializer();
            match RequestKind::deserialize(name) {
                Ok(kind) => fault.kinds.push(kind),
                Err(error) => reader.wrong(&format!("on: {error}")),
            }
        }
        if fault.kinds.is_empty() && !reader.has_mistakes {
            reader.wrong("on is missing: say which requests it meets");
        }
        fault.in_a_row = reader.whole("in_a_row", 1..=1_000_000);
    }
    if class == Class::Listing {
        fault.kinds = vec![RequestKind::Content];
    }
    let is_keyed = fault.in_a_row.is_none()
        && fault
            .kinds
            .iter()
            .all(|kind| matches!(kind, RequestKind::Blob | RequestKind::Content));
    let is_uri = fault.whats.contains(&What::HostileUri);
    if is_uri || (is_keyed && matches!(class, Class::Request | Class::Listing)) {
        fault.times = reader
            .whole("times", 1..=1_000)
            .and_then(|times| u32::try_from(times).ok())
            .unwrap_or(1);
    }
    if matches!(class, Class::Request | Class::Listing | Class::Clock) || is_uri {
        let ms = |secs: f64| (secs * 1000.0) as i64;
        fault.from_ms = reader.number("from_secs", 0.0, MAX_SECS).map_or(0, ms);
        fault.to_ms = reader.number("to_secs", 0.0, MAX_SECS).map_or(NEVER_MS, ms);
        if fault.from_ms >= fault.to_ms {
            reader.wrong("from_secs is not before to_secs");
        }
    }
    let is_endless = fault.at_most.is_none() && fault.to_ms == NEVER_MS && fault.share >= 1.0;
    if class == Class::Request && !is_keyed && is_endless && !reader.has_mistakes {
        reader.wrong("meets every request for ever: give it at_most, to_secs or a share below 1");
    }
    (!reader.has_mistakes).then_some(fault)
}

fn what(reader: &mut Reader<'_>, name: &str) -> Option<What> {
    Some(match name {
        "status" => {
            let status = reader.status(400..=599);
            What::Status(
                reader.needed("status", status)?,
                reader.secs_u32("retry_after_secs"),
            )
        }
        "throttled" => What::Throttled(
            reader.status(400..=599).unwrap_or(403),
            reader.secs_u32("retry_after_secs"),
        ),
        "hangup" => What::Hangup,
        "hang" => What::Hang(reader.duration("secs")?),
        "slow" => What::Slow(reader.duration("secs")?),
        "answer_lost" => What::AnswerLost,
        "truncated" => What::Truncated,
        "reset" => What::Reset,
        "drip" => What::Drip(reader.duration("secs")?),
        "garbage" => What::Garbage,
        "html" => What::Html(reader.status(200..=599).unwrap_or(200)),
        "broken_gzip" => What::BrokenGzip,
        "hostile_page" => What::HostilePage,
        "repeated_page" => What::RepeatedPage,
        "empty_page" => What::EmptyPage,
        "circle" => What::Circle,
        "hostile_uri" => What::HostileUri,
        "expired" => What::Expired,
        "undecodable_blob" => What::UndecodableBlob,
        "late" => {
            let shortest = reader.duration("min_secs")?;
            let longest = reader.duration("max_secs")?;
            if shortest > longest {
                reader.wrong("min_secs is more than max_secs");
            }
            What::Late(shortest, longest)
        }
        "not_listed" => What::NotListed,
        "not_notified" => What::NotNotified,
        "huge_blob" => {
            let bytes = reader.whole("bytes", 1_000_000..=100_000_000_000);
            What::HugeBlob(reader.needed("bytes", bytes)?)
        }
        "without_id" => What::WithoutId,
        "without_creation_time" => What::WithoutCreationTime,
        "undecodable_record" => What::UndecodableRecord,
        "repeated_record" => What::RepeatedRecord(reader.duration("apart_secs")?),
        "large_record" => {
            let bytes = reader.whole("bytes", 1_000..=100_000_000);
            let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
            What::LargeRecord(reader.needed("bytes", bytes)?)
        }
        "refused_record" => match reader.texts("at").as_slice() {
            [one] if one == "alertlogic" => What::RefusedRecord(SinkKind::AlertLogic),
            [one] if one == "splunk_hec" => What::RefusedRecord(SinkKind::Hec),
            _ => {
                reader.wrong("at must be \"alertlogic\" or \"splunk_hec\"");
                return None;
            }
        },
        "clock_skew" => {
            let secs = reader.number("secs", -MAX_SECS, MAX_SECS);
            What::ClockSkew((reader.needed("secs", secs)? * 1000.0) as i64)
        }
        other => {
            reader.wrong(&format!(
                "what: {other:?} is not known; one of {}",
                NAMES.join(", ")
            ));
            return None;
        }
    })
}

/// One table, the keys that were asked for, and where mistakes go.
struct Reader<'a> {
    place: &'a str,
    table: &'a Table,
    asked: BTreeSet<String>,
    mistakes: &'a mut Vec<String>,
    has_mistakes: bool,
    takes_any_key: bool,
}

impl<'a> Reader<'a> {
    fn new(place: &'a str, table: &'a Table, mistakes: &'a mut Vec<String>) -> Self {
        Self {
            place,
            table,
            asked: BTreeSet::new(),
            mistakes,
            has_mistakes: false,
            takes_any_key: false,
        }
    }

    fn get(&mut self, key: &str) -> Option<&'a Value> {
        self.asked.insert(key.to_owned());
        self.table.get(key)
    }

    fn wrong(&mut self, what: &str) {
        self.has_mistakes = true;
        let line = format!("{}: {what}", self.place);
        // A list of faults asks for the same key more than once.
        if !self.mistakes.contains(&line) {
            self.mistakes.push(line);
        }
    }

    /// Nobody can say which keys belong to a fault that is not known.
    fn ignore_the_rest(&mut self) {
        self.takes_any_key = true;
    }

    fn needed<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.table.contains_key(key) {
            self.wrong(&format!("{key} is missing"));
        }
        value
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        let items = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let texts: Option<Vec<String>> = items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect();
        texts.unwrap_or_else(|| {
            self.wrong(&format!("{key} must be a text or a list of texts"));
            Vec::new()
        })
    }

    fn number(&mut self, key: &str, least: f64, most: f64) -> Option<f64> {
        let number = match self.get(key)? {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        };
        let fitting = number.filter(|number| (least..=most).contains(number));
        if fitting.is_none() {
            self.wrong(&format!("{key} must be a number from {least} to {most}"));
        }
        fitting
    }

    fn whole(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number = self.get(key)?.as_integer();
        let fitting = number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| range.contains(number));
        if fitting.is_none() {
            let (least, most) = range.into_inner();
            self.wrong(&match most {
                u64::MAX => format!("{key} must be a whole number, at least {least}"),
                most => format!("{key} must be a whole number from {least} to {most}"),
            });
        }
        fitting
    }

    fn status(&mut self, range: std::ops::RangeInclusive<u64>) -> Option<u16> {
        let status = self.whole("status", range)?;
        u16::try_from(status).ok()
    }

    fn secs_u32(&mut self, key: &str) -> Option<u32> {
        let secs = self.whole(key, 0..=86_400)?;
        u32::try_from(secs).ok()
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let secs = self.number(key, 0.0, MAX_SECS);
        self.needed(key, secs).map(Duration::from_secs_f64)
    }

    fn finish(mut self) {
        if self.takes_any_key {
            return;
        }
        let strange: Vec<String> = self
            .table
            .keys()
            .filter(|key| !self.asked.contains(*key))
            .cloned()
            .collect();
        for key in strange {
            self.wrong(&format!("{key} means nothing here"));
        }
    }
}
