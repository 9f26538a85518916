//! What became of the records: progress while it runs, and a verdict over each sink at the end.

use std::fmt;

use serde::Serialize;

/// How far a collection has come. Cheap to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Records that this simulation has in all.
    pub records_total: u64,
    /// How many of them can never be had: in blobs that a storm lets expire or makes rubbish of, or rubbish themselves.
    pub records_impossible: u64,
    /// Records in blobs whose `contentCreated` has come, so that they can be listed.
    pub records_published: u64,
    /// Records in blobs that were named in a listing at least once.
    pub records_listed: u64,
    /// Records in blobs that were fetched at least once.
    pub records_fetched: u64,
    /// Distinct records that Alert Logic's ingest has answered 2xx for.
    pub records_acknowledged: u64,
    /// Distinct records that the HTTP event collector has answered 200 for.
    pub records_at_hec: u64,
    /// Blobs in all.
    pub blobs_total: u64,
    /// Blobs that were named in a listing at least once.
    pub blobs_listed: u64,
    /// Blobs that were fetched at least once.
    pub blobs_fetched: u64,
    /// Blob requests answered with a body, repeats included.
    pub blob_requests: u64,
    /// Bytes of records served in blobs, before compression, repeats included.
    pub blob_bytes: u64,
    /// Posts to `logmsgs` answered 2xx.
    pub ingest_posts: u64,
    /// Compressed bytes of those posts.
    pub ingest_bytes: u64,
    /// Connections that are open at Alert Logic's port. Once a client is gone, 0 means that all it had sent was taken or
    /// dropped: nothing of it will be counted any more.
    pub ingest_connections: u64,
    /// The same for the HTTP event collector's port.
    pub hec_connections: u64,
}

/// What every sink got. Sinks that got nothing at all are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// One for each sink that was used: `alertlogic`, `splunk_hec`.
    pub sinks: Vec<SinkVerdict>,
    /// What a storm made impossible of what is due. No sink is expected to have it; a collector must name it.
    pub impossible: Impossible,
}

/// What nobody can be given, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Impossible {
    /// The `contentId` of each blob that is gone when it is first fetched.
    pub expired_blobs: Vec<String>,
    /// The `contentId` of each blob whose body is never that of a blob.
    pub undecodable_blobs: Vec<String>,
    /// What stands in blobs where a record should be.
    pub undecodable_records: Vec<UndecodableRecord>,
    /// Records in all of these.
    pub record_count: u64,
}

/// A place in a blob's array that holds no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndecodableRecord {
    /// The blob's `contentId`.
    pub content_id: String,
    /// The place, counted from 0.
    pub index: u32,
}

impl Impossible {
    /// Whether all can be had.
    pub fn is_nothing(&self) -> bool {
        self.record_count == 0
    }
}

impl Verdict {
    /// Whether at least one sink was used, and all that were used are clean.
    pub fn is_clean(&self) -> bool {
        !self.sinks.is_empty() && self.sinks.iter().all(SinkVerdict::is_clean)
    }

    /// The verdict over one sink, if it was used.
    pub fn sink(&self, name: &str) -> Option<&SinkVerdict> {
        self.sinks.iter().find(|sink| sink.sink == name)
    }
}

/// What one sink got, held against what was there to be collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkVerdict {
    /// `alertlogic`, `splunk_hec` or `ndjson`.
    pub sink: String,
    /// Records in blobs whose `contentCreated` has come, without what a storm made impossible: each is due exactly once.
    pub expected: u64,
    /// Records delivered exactly once.
    pub delivered_once: u64,
    /// Records delivered more than once, but not more often than Microsoft's side served them: in that many blobs.
    pub as_often_as_served: u64,
    /// Records delivered more often than they were served, and how often.
    pub repeated: Vec<Repeated>,
    /// Records that this sink never takes, because a storm has it refuse them. They are not expected.
    pub refused: Vec<String>,
    /// Records in batches that this sink took while a storm kept its answer from the sender: each may come again for it.
    pub unanswered: u64,
    /// Records due and never delivered.
    pub missing: Vec<String>,
    /// How many of the missing are in blobs that were fetched: the collector had them in its hands.
    pub missing_fetched: u64,
    /// How many of the missing are in blobs that expired before they were fetched.
    pub missing_expired: u64,
    /// Delivered records whose `Id` was served, but whose bytes are not those served.
    pub altered: Vec<String>,
    /// The start of each delivered message that is no record of this simulation, at most the first 100.
    pub unknown: Vec<String>,
    /// How many messages are no record of this simulation.
    pub unknown_count: u64,
    /// Breaches of the sink's protocol in what was delivered (a wrong header, time, checksum …), at most the first 100.
    pub faults: Vec<String>,
    /// How many such breaches there were.
    pub fault_count: u64,
    /// For a file: lines that are not whole (no line end, or no JSON), counted from 1.
    pub torn_lines: Vec<u64>,
}

/// A record that arrived more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// The record's `Id`.
    pub id: String,
    /// How often it arrived.
    pub times: u32,
}

impl SinkVerdict {
    /// Each record that was due arrived exactly once, byte for byte, and nothing else did.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.repeated.is_empty() && self.is_clean_so_far()
    }

    /// Nothing arrived that should not have: no altered bytes, unknown records, torn lines or breaches of protocol. Says
    /// nothing on what is missing or repeated, so it is the question to ask when a collector was stopped half-way.
    pub fn is_clean_so_far(&self) -> bool {
        self.altered.is_empty()
            && self.unknown_count == 0
            && self.fault_count == 0
            && self.torn_lines.is_empty()
    }
}

impl fmt::Display for Verdict {
    /// One line for each sink under a heading, then what is wrong, the first few of each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}")?;
        for sink in &self.sinks {
            sink.write_row(f)?;
        }
        if self.sinks.is_empty() {
            writeln!(f, "no sink got anything")?;
        }
        for sink in &self.sinks {
            sink.write_details(f)?;
        }
        if !self.impossible.is_nothing() {
            writeln!(
                f,
                "impossible: {} records, in {} expired blobs, {} undecodable blobs and {} undecodable places",
                self.impossible.record_count,
                self.impossible.expired_blobs.len(),
                self.impossible.undecodable_blobs.len(),
                self.impossible.undecodable_records.len(),
            )?;
        }
        write!(
            f,
            "verdict: {}",
            if self.is_clean() {
                "clean"
            } else {
                "not clean"
            }
        )
    }
}

impl fmt::Display for SinkVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}")?;
        self.write_row(f)?;
        self.write_details(f)?;
        write!(
            f,
            "verdict: {}",
            if self.is_clean() {
                "clean"
            } else {
                "not clean"
            }
        )
    }
}

const HEADING: &str = "sink            expected        once    repeated     missing     altered     unknown      faults";
const SHOWN: usize = 5;

impl SinkVerdict {
    fn write_row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            self.sink,
            self.expected,
            self.delivered_once,
            self.repeated.len(),
            self.missing.len(),
            self.altered.len(),
            self.unknown_count,
            self.fault_count + self.torn_lines.len() as u64,
        )
    }

    fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.missing.is_empty() {
            writeln!(
                f,
                "{}: of the missing, {} were fetched and {} expired before they were fetched",
                self.sink, self.missing_fetched, self.missing_expired
            )?;
        }
        if self.as_often_as_served > 0 {
            writeln!(
                f,
                "{}: {} records came once for each blob that they are in",
                self.sink, self.as_often_as_served
            )?;
        }
        if !self.refused.is_empty() {
            writeln!(
                f,
                "{}: {} records were refused on purpose",
                self.sink,
                self.refused.len()
            )?;
        }
        for id in self.missing.iter().take(SHOWN) {
            writeln!(f, "{}: missing {id}", self.sink)?;
        }
        for repeated in self.repeated.iter().take(SHOWN) {
            writeln!(
                f,
                "{}: delivered {} times {}",
                self.sink, repeated.times, repeated.id
            )?;
        }
        for id in self.altered.iter().take(SHOWN) {
            writeln!(f, "{}: altered {id}", self.sink)?;
        }
        for start in self.unknown.iter().take(SHOWN) {
            writeln!(f, "{}: unknown {start}", self.sink)?;
        }
        for line in self.torn_lines.iter().take(SHOWN) {
            writeln!(f, "{}: torn line {line}", self.sink)?;
        }
        for fault in self.faults.iter().take(SHOWN) {
            writeln!(f, "{}: {fault}", self.sink)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_verdict_is_a_table_and_then_what_is_wrong() {
        let clean = SinkVerdict {
            sink: "alertlogic".to_owned(),
            expected: 1_000_000,
            delivered_once: 1_000_000,
            ..SinkVerdict::default()
        };
        let torn = SinkVerdict {
            sink: "ndjson".to_owned(),
            expected: 3,
            delivered_once: 1,
            repeated: vec![Repeated {
                id: "a".to_owned(),
                times: 2,
            }],
            missing: vec!["b".to_owned()],
            missing_fetched: 1,
            torn_lines: vec![4],
            ..SinkVerdict::default()
        };
        let verdict = Verdict {
            impossible: Impossible::default(),
            sinks: vec![clean, torn],
        };
        expect![[r#"
            sink            expected        once    repeated     missing     altered     unknown      faults
            alertlogic       1000000     1000000           0           0           0           0           0
            ndjson                 3           1           1           1           0           0           1
            ndjson: of the missing, 1 were fetched and 0 expired before they were fetched
            ndjson: missing b
            ndjson: delivered 2 times a
            ndjson: torn line 4
            verdict: not clean"#]].assert_eq(&verdict.to_string());
        assert!(!verdict.is_clean());
    }

    #[test]
    fn no_sink_is_no_clean_verdict() {
        assert!(!Verdict::default().is_clean());
    }
}
