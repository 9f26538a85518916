//! What one sink was given: a count for each record, and what came that should not have.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::de::IgnoredAny;

use crate::faults::storm::SinkKind;
use crate::microsoft::records::{Identity, Records};
use crate::plan::{Fate, Plan};
use crate::{Repeated, SinkVerdict};

/// Enough to see what is wrong; a sink that gets only rubbish must not fill the memory.
const KEPT: usize = 100;

/// One byte for each record, so a million records cost a megabyte for each sink.
#[derive(Debug)]
pub(crate) struct Deliveries {
    sink: &'static str,
    /// None for a file, which refuses nothing.
    kind: Option<SinkKind>,
    counts: Vec<AtomicU8>,
    distinct: AtomicU64,
    unanswered: AtomicU64,
    used: AtomicBool,
    odd: Mutex<Odd>,
}

#[derive(Debug, Default)]
struct Odd {
    altered: BTreeSet<u32>,
    unknown: Vec<String>,
    unknown_count: u64,
    faults: Vec<String>,
    fault_count: u64,
    torn_lines: Vec<u64>,
}

impl Deliveries {
    pub(crate) fn new(sink: &'static str, kind: Option<SinkKind>, records: u32) -> Self {
        Self {
            sink,
            kind,
            counts: (0..records).map(|_| AtomicU8::new(0)).collect(),
            distinct: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            used: AtomicBool::new(false),
            odd: Mutex::default(),
        }
    }

    pub(crate) fn distinct(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that a message was delivered.
    pub(crate) fn note(&self, records: &Records, identity: Identity, message: &[u8]) {
        self.used.store(true, Ordering::Relaxed);
        match identity {
            Identity::Exact(record) => self.note_exact(records, record),
            Identity::Altered(record) => {
                self.odd().altered.insert(record);
            }
            Identity::Unknown => {
                let mut odd = self.odd();
                odd.unknown_count += 1;
                if odd.unknown.len() < KEPT {
                    let start = message.get(..80).unwrap_or(message);
                    odd.unknown
                        .push(String::from_utf8_lossy(start).into_owned());
                }
            }
        }
    }

    /// Notes a breach of the sink's protocol.
    pub(crate) fn note_fault(&self, fault: impl Into<String>) {
        self.used.store(true, Ordering::Relaxed);
        let mut odd = self.odd();
        odd.fault_count += 1;
        if odd.faults.len() < KEPT {
            odd.faults.push(fault.into());
        }
    }

    /// Notes that so many records are taken whose sender will not learn of it.
    pub(crate) fn note_unanswered(&self, records: u64) {
        self.unanswered.fetch_add(records, Ordering::Relaxed);
    }

    fn note_exact(&self, records: &Records, record: u32) {
        // Of records with the same bytes the first that has not come yet is meant; when all have come, it is a repeat.
        let mut candidate = Some(record);
        while let Some(at) = candidate {
            let Some(count) = self.counts.get(at as usize) else {
                return;
            };
            if count
                .compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                self.distinct.fetch_add(1, Ordering::Relaxed);
                return;
            }
            candidate = records.next_same(at);
        }
        if let Some(count) = self.counts.get(record as usize) {
            let more = |count: u8| Some(count.saturating_add(1));
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .unwrap_or_else(|count| count);
        }
    }

    /// Holds what came against what was due: the records of blobs that were available by `now_ms`, but for what the
    /// storm made impossible.
    pub(crate) fn verdict(&self, plan: &Plan, records: &Records, now_ms: i64) -> SinkVerdict {
        let odd = self.odd();
        let mut verdict = SinkVerdict {
            sink: self.sink.to_owned(),
            altered: odd
                .altered
                .iter()
                .map(|&record| records.id_text(record))
                .collect(),
            unknown: odd.unknown.clone(),
            unknown_count: odd.unknown_count,
            faults: odd.faults.clone(),
            fault_count: odd.fault_count,
            torn_lines: odd.torn_lines.clone(),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            ..SinkVerdict::default()
        };
        for blob in &plan.blobs {
            let is_due = blob.is_due(now_ms) && blob.fate == Fate::Good;
            for record in blob.first..blob.first + blob.count {
                let times = self
                    .counts
                    .get(record as usize)
                    .map_or(0, |count| count.load(Ordering::Relaxed));
                if records.is_undecodable(record) {
                    continue;
                }
                if self
                    .kind
                    .is_some_and(|kind| records.is_refused(kind, record))
                {
                    if is_due {
                        verdict.refused.push(records.id_text(record));
                    }
                    continue;
                }
                verdict.expected += u64::from(is_due);
                match times {
                    // An altered record is reported as that, and not as missing too.
                    0 if is_due && !odd.altered.contains(&record) => {
                        verdict.missing.push(records.id_text(record));
                        if blob.is_fetched() {
                            verdict.missing_fetched += 1;
                        } else if plan.expires_ms(blob) <= now_ms {
                            verdict.missing_expired += 1;
                        }
                    }
                    0 => {}
                    1 => verdict.delivered_once += 1,
                    times if times <= plan.served(record) => verdict.as_often_as_served += 1,
                    times => verdict.repeated.push(Repeated {
                        id: records.id_text(record),
                        times: times.into(),
                    }),
                }
            }
        }
        verdict
    }

    /// Notes each line of an NDJSON file. A line without an end, or that is no JSON object, is torn.
    pub(crate) fn note_ndjson(
        &self,
        plan: &Plan,
        records: &Records,
        mut reader: impl BufRead,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        let mut scratch = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            number += 1;
            let (text, has_end) = match line.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (line.as_slice(), false),
            };
            let identity = records.identify(plan, text, &mut scratch);
            let is_whole = matches!(identity, Identity::Exact(_))
                || serde_json::from_slice::<IgnoredAny>(text).is_ok();
            if !has_end || !is_whole {
                self.odd().torn_lines.push(number);
            } else {
                self.note(records, identity, text);
            }
        }
    }

    fn odd(&self) -> std::sync::MutexGuard<'_, Odd> {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
