//! All records of a simulation: what each one's bytes are, and which record a delivered message is.

use std::collections::HashMap;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::corpus::Corpus;
use super::shapes;
use super::template::Template;
use crate::faults::content::{self, OddRecords, Oddity};
use crate::faults::storm::SinkKind;
use crate::plan::{Blob, Plan, record_age_secs};
use crate::random::{Random, RecordIds, guid_text, mix, parse_guid, write_guid};
use crate::times::parse_creation;
use crate::{ContentType, Error, SimulatedTenant};

/// How many different shapes each tenant's content type has.
const SHAPES: u64 = 192;

/// Where the records' bytes come from.
#[derive(Debug)]
pub(crate) struct Records {
    seed: u64,
    ids: RecordIds,
    source: Source,
    odd: OddRecords,
    /// The bytes, hashed, of records that say no Id by which they could be known.
    odd_bytes: HashMap<u128, u32>,
}

#[derive(Debug)]
enum Source {
    /// By feed: `tenant * 5 + content type`.
    Generated(Vec<Vec<Template>>),
    Corpus(Box<CorpusRecords>),
}

#[derive(Debug)]
struct CorpusRecords {
    corpus: Corpus,
    lines: Vec<Line>,
    /// Record number to position in the endless repetition of the corpus.
    order: Vec<u32>,
    /// The reverse, for the first round only.
    first_round: Vec<u32>,
    /// A line's bytes, hashed, to the first line that has them.
    by_bytes: HashMap<u128, u32>,
    /// A line to the next one with the same bytes.
    same_bytes: HashMap<u32, u32>,
    /// A line's Id to the line, to tell an altered record from an unknown one.
    by_id: HashMap<u128, u32>,
}

/// What is read from a line of a corpus.
#[derive(Debug)]
struct Line {
    content_type: ContentType,
    /// Where the Id's 36 characters begin.
    id_at: Option<u32>,
    created: Option<(i64, Option<u32>)>,
    record_type: Option<String>,
}

/// What the record must be delivered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `CreationTime` in Unix seconds and microseconds; none when there is none that parses.
    pub(crate) created: Option<(i64, Option<u32>)>,
    /// `RecordType` as decimal text.
    pub(crate) record_type: Option<String>,
}

/// Which record a delivered message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// This one, byte for byte. Others may have the same bytes: see [`Records::next_same`].
    Exact(u32),
    /// It has this one's Id, but not its bytes.
    Altered(u32),
    /// None of ours.
    Unknown,
}

impl Records {
    pub(crate) fn generated(seed: u64, tenants: &[SimulatedTenant], counts: &[u32]) -> Self {
        let feeds = counts
            .iter()
            .enumerate()
            .map(|(feed, &count)| {
                let content_type = ContentType::ALL[feed % ContentType::ALL.len()];
                let Some(tenant) = tenants.get(feed / ContentType::ALL.len()) else {
                    return Vec::new();
                };
                let mut random = Random::new(seed, 0x5a_0000 + feed as u64);
                (0..SHAPES.min(u64::from(count)))
                    .map(|_| {
                        let (shape, record_type) =
                            shapes::make(content_type, &tenant.tenant_id, &mut random);
                        Template::new(&shape.write(random.chance(60)), record_type)
                    })
                    .collect()
            })
            .collect();
        Self {
            seed,
            ids: RecordIds::new(seed),
            source: Source::Generated(feeds),
            odd: OddRecords::default(),
            odd_bytes: HashMap::new(),
        }
    }

    /// Makes some of the generated records odd.
    pub(crate) fn set_odd(&mut self, odd: OddRecords, plan: &Plan) {
        self.odd = odd;
        let mut text = Vec::new();
        let mut by_bytes = HashMap::new();
        for (&record, &oddity) in &self.odd.odd {
            if oddity == Oddity::WithoutId
                && let Some(blob) = plan.blob_of(record)
            {
                text.clear();
                self.append(blob, record, &mut text);
                by_bytes.insert(xxh3_128(&text), record);
            }
        }
        self.odd_bytes = by_bytes;
    }

    /// Whether what is served in the record's place is no record.
    pub(crate) fn is_undecodable(&self, record: u32) -> bool {
        matches!(self.odd.odd.get(&record), Some(Oddity::Undecodable(_)))
    }

    /// Whether a sink never takes the record.
    pub(crate) fn is_refused(&self, sink: SinkKind, record: u32) -> bool {
        self.odd.is_refused(sink, record)
    }

    /// Takes the lines whose content type is wanted, as often as it needs for `records`; 0 means once. Returns the records of
    /// each feed besides.
    ///
    /// # Errors
    /// A line that is no JSON object, or that has no Id when it is needed more than once; no line at all.
    pub(crate) fn from_corpus(
        seed: u64,
        corpus: &Corpus,
        content_types: &[ContentType],
        tenants: usize,
        records: u64,
    ) -> Result<(Self, Vec<u32>), Error> {
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        for (at, bytes) in corpus.lines().iter().enumerate() {
            let line = read_line(bytes).map_err(|source| Error::CorpusLine {
                line: at + 1,
                source,
            })?;
            if content_types.contains(&line.content_type) {
                lines.push(line);
                kept.push(bytes.clone());
            }
        }
        let total = if records == 0 {
            lines.len() as u64
        } else {
            records
        };
        let Ok(total) = u32::try_from(total) else {
            return Err(Error::Option {
                name: "records",
                reason: "more than 4,294,967,295".to_owned(),
            });
        };
        let Ok(round) = u32::try_from(lines.len()) else {
            return Err(Error::Option {
                name: "corpus",
                reason: "more than 4,294,967,295 lines".to_owned(),
            });
        };
        if round == 0 {
            return Err(Error::Option {
                name: "corpus",
                reason: "no record of the chosen content types".to_owned(),
            });
        }
        if total > round
            && let Some(line) = lines.iter().position(|line| line.id_at.is_none())
        {
            return Err(Error::CorpusLineWithoutId { line: line + 1 });
        }
        let corpus = Corpus::from_lines(kept);
        let types: Vec<ContentType> = lines.iter().map(|line| line.content_type).collect();
        let (order, counts) = order_by_feed(&types, tenants, total);
        let mut first_round = vec![u32::MAX; round as usize];
        for (record, &position) in (0..).zip(&order) {
            if let Some(place) = first_round.get_mut(position as usize) {
                *place = record;
            }
        }
        let mut by_bytes = HashMap::with_capacity(lines.len());
        let mut same_bytes = HashMap::new();
        let mut by_id = HashMap::with_capacity(lines.len());
        // From the end, so that a chain of equal lines begins with the first.
        for (at, bytes) in (0..total.min(round)).zip(corpus.lines()).rev() {
            if let Some(next) = by_bytes.insert(xxh3_128(bytes), at) {
                same_bytes.insert(at, next);
            }
            if let Some(id) = lines.get(at as usize).and_then(|line| id_of(bytes, line)) {
                by_id.insert(id, at);
            }
        }
        let source = CorpusRecords {
            corpus,
            lines,
            order,
            first_round,
            by_bytes,
            same_bytes,
            by_id,
        };
        Ok((
            Self {
                seed,
                ids: RecordIds::new(seed),
                source: Source::Corpus(Box::new(source)),
                odd: OddRecords::default(),
                odd_bytes: HashMap::new(),
            },
            counts,
        ))
    }

    /// Appends a record's bytes.
    pub(crate) fn append(&self, blob: &Blob, record: u32, out: &mut Vec<u8>) {
        let oddity = if self.odd.odd.is_empty() {
            None
        } else {
            self.odd.odd.get(&record).copied()
        };
        let start = out.len();
        match oddity {
            None => self.append_ordinary(blob, record, out),
            Some(Oddity::Undecodable(drawn)) => content::rubbish(drawn, out),
            Some(Oddity::WithoutId) => {
                self.append_ordinary(blob, record, out);
                content::without_field(out, start, "Id");
            }
            Some(Oddity::WithoutCreationTime) => {
                self.append_ordinary(blob, record, out);
                content::without_field(out, start, "CreationTime");
            }
            Some(Oddity::Large(bytes)) => {
                self.append_ordinary(blob, record, out);
                content::lengthen(out, start, bytes);
            }
        }
    }

    fn append_ordinary(&self, blob: &Blob, record: u32, out: &mut Vec<u8>) {
        match &self.source {
            Source::Generated(feeds) => {
                if let Some(template) = self.template(feeds, blob, record) {
                    template.append(
                        self.ids.id(record),
                        self.created_secs(blob, record),
                        self.seed ^ u64::from(record),
                        out,
                    );
                }
            }
            Source::Corpus(records) => records.append(self.ids, record, out),
        }
    }

    /// Which record a message is. `scratch` is space to rebuild it in.
    pub(crate) fn identify(&self, plan: &Plan, message: &[u8], scratch: &mut Vec<u8>) -> Identity {
        if let Source::Corpus(records) = &self.source
            && let Some(&line) = records.by_bytes.get(&xxh3_128(message))
            && let Some(&record) = records.first_round.get(line as usize)
        {
            return Identity::Exact(record);
        }
        if !self.odd_bytes.is_empty()
            && let Some(&record) = self.odd_bytes.get(&xxh3_128(message))
        {
            return Identity::Exact(record);
        }
        let mut altered = None;
        let mut check = |id: &[u8]| {
            let record = self.ids.index(parse_guid(id)?)?;
            let blob = plan.blob_of(record)?;
            scratch.clear();
            self.append(blob, record, scratch);
            if scratch.as_slice() == message {
                return Some(record);
            }
            altered.get_or_insert(record);
            None
        };
        // Nested objects have an Id too, so each is tried: rebuilding the record is cheaper than parsing it.
        for at in memmem::find_iter(message, b"\"Id\":\"") {
            if let Some(id) = message.get(at + 6..at + 42)
                && let Some(record) = check(id)
            {
                return Identity::Exact(record);
            }
        }
        // Only a message that is not as served comes here, so the cost of a parse does not matter.
        let Ok(top) = serde_json::from_slice::<Top<'_>>(message) else {
            return altered.map_or(Identity::Unknown, Identity::Altered);
        };
        let Some(id) = top
            .id
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        else {
            return Identity::Unknown;
        };
        if let Some(record) = check(id.as_bytes()) {
            return Identity::Exact(record);
        }
        if let Source::Corpus(records) = &self.source
            && let Some(&line) = parse_guid(id.as_bytes()).and_then(|id| records.by_id.get(&id))
            && let Some(&record) = records.first_round.get(line as usize)
        {
            return Identity::Altered(record);
        }
        match parse_guid(id.as_bytes())
            .and_then(|id| self.ids.index(id))
            .filter(|&record| plan.blob_of(record).is_some())
        {
            Some(record) => Identity::Altered(record),
            None => Identity::Unknown,
        }
    }

    /// The next record with the very same bytes: a corpus may hold a line twice.
    pub(crate) fn next_same(&self, record: u32) -> Option<u32> {
        let Source::Corpus(records) = &self.source else {
            return None;
        };
        if records.same_bytes.is_empty() {
            return None;
        }
        let line = *records.order.get(record as usize)?;
        let next = *records.same_bytes.get(&line)?;
        records.first_round.get(next as usize).copied()
    }

    /// What the record must be delivered with.
    pub(crate) fn facts(&self, blob: &Blob, record: u32) -> Facts {
        match &self.source {
            Source::Generated(feeds) => Facts {
                created: Some((self.created_secs(blob, record), None))
                    .filter(|_| self.odd.odd.get(&record) != Some(&Oddity::WithoutCreationTime)),
                record_type: self
                    .template(feeds, blob, record)
                    .map(|template| template.record_type.to_string()),
            },
            Source::Corpus(records) => {
                let line = records
                    .position(record)
                    .and_then(|(_, line)| records.lines.get(line));
                Facts {
                    created: line.and_then(|line| line.created),
                    record_type: line.and_then(|line| line.record_type.clone()),
                }
            }
        }
    }

    /// The record's Id, or its position in the corpus where it has none.
    pub(crate) fn id_text(&self, record: u32) -> String {
        match &self.source {
            Source::Generated(_) => guid_text(self.ids.id(record)),
            Source::Corpus(records) => match records.position(record) {
                Some((0, at)) => {
                    let id = records
                        .lines
                        .get(at)
                        .zip(records.corpus.lines().get(at))
                        .and_then(|(line, bytes)| id_of(bytes, line));
                    id.map_or_else(|| format!("corpus record {}", at + 1), guid_text)
                }
                _ => guid_text(self.ids.id(record)),
            },
        }
    }

    fn template<'a>(
        &self,
        feeds: &'a [Vec<Template>],
        blob: &Blob,
        record: u32,
    ) -> Option<&'a Template> {
        let templates = feeds.get(crate::plan::feed_of(blob.tenant, blob.content_type))?;
        let count = templates.len() as u64;
        let pick = mix(self.seed.rotate_left(9) ^ u64::from(record)).checked_rem(count)?;
        templates.get(pick as usize)
    }

    fn created_secs(&self, blob: &Blob, record: u32) -> i64 {
        blob.created_ms.div_euclid(1000) - record_age_secs(self.seed, record)
    }
}

impl CorpusRecords {
    /// Which round of the corpus, and which of its lines.
    fn position(&self, record: u32) -> Option<(u32, usize)> {
        let position = *self.order.get(record as usize)?;
        let round = u32::try_from(self.lines.len()).ok()?;
        Some((
            position.checked_div(round)?,
            position.checked_rem(round)? as usize,
        ))
    }

    fn append(&self, ids: RecordIds, record: u32, out: &mut Vec<u8>) {
        let Some((round, at)) = self.position(record) else {
            return;
        };
        let (Some(bytes), Some(line)) = (self.corpus.lines().get(at), self.lines.get(at)) else {
            return;
        };
        let start = out.len();
        out.extend_from_slice(bytes);
        if round > 0
            && let Some(id_at) = line.id_at
            && let Some(place) = out.get_mut(start + id_at as usize..)
        {
            write_guid(ids.id(record), place);
        }
    }
}

/// Lays `total` positions of the repeated corpus out by tenant, then content type, each in the corpus' order.
fn order_by_feed(types: &[ContentType], tenants: usize, total: u32) -> (Vec<u32>, Vec<u32>) {
    let per_tenant = u64::from(total).div_ceil(tenants as u64).max(1);
    let mut feeds: Vec<Vec<u32>> = vec![Vec::new(); tenants * ContentType::ALL.len()];
    for (position, content_type) in (0..total).zip(types.iter().cycle()) {
        let tenant = (u64::from(position) / per_tenant) as usize;
        if let Some(feed) = feeds.get_mut(crate::plan::feed_of(tenant, *content_type)) {
            feed.push(position);
        }
    }
    let counts = feeds.iter().map(|feed| feed.len() as u32).collect();
    (feeds.concat(), counts)
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow, rename = "Id", default)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow, rename = "Id", default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "CreationTime", default)]
    creation_time: Option<&'a RawValue>,
    #[serde(borrow, rename = "RecordType", default)]
    record_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "Workload", default)]
    workload: Option<&'a RawValue>,
}

fn read_line(bytes: &Bytes) -> Result<Line, serde_json::Error> {
    let known: Known<'_> = serde_json::from_slice(bytes)?;
    let text =
        |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let record_type = known
        .record_type
        .map(|raw| raw.get().trim_matches('"').to_owned())
        .filter(|text| text != "null");
    let workload = text(known.workload).unwrap_or_default();
    let content_type = match (record_type.as_deref(), workload.as_str()) {
        // Data loss prevention of SharePoint and of Exchange has a feed of its own.
        (Some("11" | "13"), _) => ContentType::Dlp,
        (_, "Exchange") => ContentType::Exchange,
        (_, "SharePoint" | "OneDrive") => ContentType::SharePoint,
        (_, "AzureActiveDirectory") => ContentType::AzureActiveDirectory,
        _ => ContentType::General,
    };
    // The raw value borrows from the line, so the distance between the two is the value's place in it.
    let id_at = known
        .id
        .filter(|raw| parse_guid(raw.get().trim_matches('"').as_bytes()).is_some())
        .map(|raw| raw.get().as_ptr() as usize - bytes.as_ptr() as usize + 1)
        .and_then(|at| u32::try_from(at).ok());
    Ok(Line {
        content_type,
        id_at,
        created: text(known.creation_time).and_then(|time| parse_creation(&time)),
        record_type,
    })
}

fn id_of(bytes: &Bytes, line: &Line) -> Option<u128> {
    let at = line.id_at? as usize;
    parse_guid(bytes.get(at..at + 36)?)
}
