//! Where the metrics are kept until somebody asks for them, and how they are written then: the text format of Prometheus.
//!
//! `metrics-exporter-prometheus` did this before. It measures the processor's clock when it is built, which takes up to 200
//! milliseconds on a busy machine, ten times as long as the rest of a start; and it keeps every observation of a
//! histogram until its page is asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Metadata,
    Recorder, SharedString, Unit,
};

/// The upper bounds of a histogram's buckets, by its name.
pub(super) type Bounds = fn(&str) -> &'static [f64];

/// All metrics. A copy is a handle to the same ones.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Inner>);

struct Inner {
    described: Mutex<BTreeMap<String, SharedString>>,
    counters: Family<AtomicU64>,
    gauges: Family<AtomicU64>,
    histograms: Family<Buckets>,
    texts: Texts,
    bounds: Bounds,
}

/// Metrics of one kind, by the hash that their keys bring along, or by the next number where another one has that. The table
/// holds no more than this and a pointer: when it is full there are for a moment two of them, and with ten thousand tenants
/// it has a quarter of a million entries.
struct Family<T>(RwLock<Table<T>>);

type Table<T> = HashMap<u64, Arc<Entry<T>>, BuildHasherDefault<Hashed>>;

/// A metric as small as may be.
struct Entry<T> {
    name: Arc<str>,
    /// As they are written, without the braces.
    labels: Arc<str>,
    metric: T,
}

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Family<T> {
    fn get(&self, texts: &Texts, key: &Key, make: impl FnOnce() -> T) -> Arc<Entry<T>> {
        self.get_by(key.get_hash(), texts, key, make)
    }

    fn get_by(
        &self,
        hash: u64,
        texts: &Texts,
        key: &Key,
        make: impl FnOnce() -> T,
    ) -> Arc<Entry<T>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(entry) = place_of(&known, hash, key) {
            return entry;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been quicker.
        match place_of(&known, hash, key) {
            Ok(entry) => entry,
            Err(free) => {
                let entry = Arc::new(Entry {
                    name: texts.shared(key.name()),
                    labels: texts.shared(&labels_of(key)),
                    metric: make(),
                });
                known.insert(free, Arc::clone(&entry));
                entry
            }
        }
    }

    /// Writes each of them into the text of its name.
    fn write(
        &self,
        kind: &'static str,
        texts: &mut BTreeMap<Arc<str>, (&'static str, Vec<String>)>,
        mut write: impl FnMut(&Entry<T>, &mut String),
    ) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for entry in known.values() {
            let mut text = String::new();
            write(entry, &mut text);
            let of_name = texts.entry(Arc::clone(&entry.name));
            of_name.or_insert_with(|| (kind, Vec::new())).1.push(text);
        }
    }
}

/// The key's entry, or the number that is free for one. Nothing is ever taken out, so none is behind a free number.
fn place_of<T>(known: &Table<T>, hash: u64, key: &Key) -> Result<Arc<Entry<T>>, u64> {
    let mut place = hash;
    while let Some(entry) = known.get(&place) {
        if *entry.name == *key.name() && is_of(&entry.labels, key) {
            return Ok(Arc::clone(entry));
        }
        place = place.wrapping_add(1);
    }
    Err(place)
}

impl<T> Entry<T> {
    /// One line: `name{label="value"} value`.
    fn write(
        &self,
        out: &mut String,
        suffix: &str,
        bound: Option<f64>,
        value: std::fmt::Arguments<'_>,
    ) {
        let (name, labels) = (&self.name, &self.labels);
        // Writing into a text cannot fail.
        let _written = match bound {
            None if labels.is_empty() => writeln!(out, "{name}{suffix} {value}"),
            None => writeln!(out, "{name}{suffix}{{{labels}}} {value}"),
            Some(bound) => {
                let comma = if labels.is_empty() { "" } else { "," };
                let bound = Number(bound);
                writeln!(
                    out,
                    "{name}{suffix}{{{labels}{comma}le=\"{bound}\"}} {value}"
                )
            }
        };
    }
}

/// Texts that many metrics have in common, each kept once.
#[derive(Default)]
struct Texts(Mutex<HashSet<Arc<str>>>);

impl Texts {
    fn shared(&self, text: &str) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = known.get(text) {
            return Arc::clone(text);
        }
        let text: Arc<str> = text.into();
        known.insert(Arc::clone(&text));
        text
    }
}

/// A key's labels as they are written.
fn labels_of(key: &Key) -> String {
    let label = |label: &Label| format!("{}=\"{}\"", label.key(), escaped(label.value(), true));
    let labels: Vec<_> = key.labels().map(label).collect();
    labels.join(",")
}

/// Whether these are the labels of a key. Writes them out only where something in them is escaped.
fn is_of(labels: &str, key: &Key) -> bool {
    if labels.contains('\\') {
        return labels == labels_of(key);
    }
    let rest = key
        .labels()
        .enumerate()
        .try_fold(labels, |rest, (index, label)| {
            let rest = if index > 0 {
                rest.strip_prefix(',')?
            } else {
                rest
            };
            let rest = rest.strip_prefix(label.key())?.strip_prefix("=\"")?;
            rest.strip_prefix(label.value())?.strip_prefix('"')
        });
    rest == Some("")
}

/// What a key has hashed itself to.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not what a key does; right all the same.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// How many observations fell between two bounds, and their sum.
struct Buckets {
    bounds: &'static [f64],
    /// One more than there are bounds, for what is above the last.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum: AtomicU64::new(0),
        }
    }
}

impl Entry<Buckets> {
    fn write_buckets(&self, out: &mut String) {
        let Buckets {
            bounds,
            counts,
            sum,
        } = &self.metric;
        let mut count = 0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(counts) {
            count += bucket.load(Ordering::Relaxed);
            self.write(out, "_bucket", Some(bound), format_args!("{count}"));
        }
        let sum = f64::from_bits(sum.load(Ordering::Relaxed));
        self.write(out, "_sum", None, format_args!("{sum}"));
        self.write(out, "_count", None, format_args!("{count}"));
    }
}

impl HistogramFn for Entry<Buckets> {
    fn record(&self, value: f64) {
        let Buckets {
            bounds,
            counts,
            sum,
        } = &self.metric;
        let index = bounds.partition_point(|bound| *bound < value);
        if let Some(count) = counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _before = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl CounterFn for Entry<AtomicU64> {
    fn increment(&self, value: u64) {
        CounterFn::increment(&self.metric, value);
    }

    fn absolute(&self, value: u64) {
        CounterFn::absolute(&self.metric, value);
    }
}

impl GaugeFn for Entry<AtomicU64> {
    fn increment(&self, value: f64) {
        GaugeFn::increment(&self.metric, value);
    }

    fn decrement(&self, value: f64) {
        GaugeFn::decrement(&self.metric, value);
    }

    fn set(&self, value: f64) {
        GaugeFn::set(&self.metric, value);
    }
}

impl Metrics {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            described: Mutex::default(),
            counters: Family::default(),
            gauges: Family::default(),
            histograms: Family::default(),
            texts: Texts::default(),
            bounds,
        }))
    }

    /// All of them that were counted, by name.
    pub(super) fn render(&self) -> String {
        let inner = &*self.0;
        let mut texts = BTreeMap::new();
        inner.counters.write("counter", &mut texts, |entry, out| {
            let count = entry.metric.load(Ordering::Relaxed);
            entry.write(out, "", None, format_args!("{count}"));
        });
        inner.gauges.write("gauge", &mut texts, |entry, out| {
            let value = Number(f64::from_bits(entry.metric.load(Ordering::Relaxed)));
            entry.write(out, "", None, format_args!("{value}"));
        });
        inner
            .histograms
            .write("histogram", &mut texts, Entry::write_buckets);
        let described = inner
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        for (name, (kind, mut samples)) in texts {
            if let Some(description) = described.get(&*name) {
                page.push_str(&format!("# HELP {name} {}\n", escaped(description, false)));
            }
            page.push_str(&format!("# TYPE {name} {kind}\n"));
            samples.sort_unstable();
            page.extend(samples);
            page.push('\n');
        }
        page
    }

    fn describe(&self, key: &KeyName, description: SharedString) {
        let described = self.0.described.lock();
        let mut described = described.unwrap_or_else(PoisonError::into_inner);
        described.insert(key.as_str().to_owned(), description);
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, _unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn describe_gauge(&self, key: KeyName, _unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn describe_histogram(&self, key: KeyName, _unit: Option<Unit>, description: SharedString) {
        self.describe(&key, description);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(
            self.0
                .counters
                .get(&self.0.texts, key, || AtomicU64::new(0)),
        )
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.0.gauges.get(&self.0.texts, key, || AtomicU64::new(0)))
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let buckets = || Buckets::new((self.0.bounds)(key.name()));
        Histogram::from_arc(self.0.histograms.get(&self.0.texts, key, buckets))
    }
}

/// A number as Prometheus reads it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            number => write!(f, "{number}"),
        }
    }
}

/// A label's value, or a description, with what would end it written otherwise.
fn escaped(text: &str, is_quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    match is_quoted {
        true => text.replace('"', "\\\""),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_with_the_same_hash_are_two() {
        let (family, texts) = (Family::default(), Texts::default());
        let keys = ["one", "another", "a third"].map(Key::from_static_name);
        let count = |hash: u64, key: &Key| {
            let entry = family.get_by(hash, &texts, key, || AtomicU64::new(0));
            entry.metric.fetch_add(1, Ordering::Relaxed)
        };
        // The third has the number that the second took.
        for before in 0..3 {
            assert_eq!(count(u64::MAX, &keys[0]), before);
            assert_eq!(count(u64::MAX, &keys[1]), before);
            assert_eq!(count(0, &keys[2]), before);
        }
    }
}
