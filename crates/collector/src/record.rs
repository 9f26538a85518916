//! Records on their way from `decode` to the sinks: one blob's stretch ([`BlobPart`]) and what a sink is handed ([`Batch`]).

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use activity_api::{ContentId, ContentType, TenantId};
use bytes::Bytes;
use decode::{FieldSpan, RawPart, RecordSpan};
use jiff::Timestamp;
use ledger::{BlobName, LeaseKey, PartKey};

use crate::memory::{Encoded, Encoding, Room, Text};

/// Which blob a record came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobTag {
    /// Ties the part to its lease in the ledger.
    pub lease: LeaseKey,
    /// Whose record it is.
    pub tenant: TenantId,
    /// The feed it was listed in.
    pub content_type: ContentType,
    /// The blob's canonical id.
    pub content_id: ContentId,
    /// When Microsoft made the blob available.
    pub created_at: Timestamp,
}

impl BlobTag {
    /// What names the blob, in every ledger.
    pub(crate) fn name(&self) -> BlobName {
        BlobName {
            tenant: self.tenant,
            content_type: self.content_type,
            content_id: self.content_id.clone(),
        }
    }
}

/// Consecutive records of one blob, in a text that it may share with its neighbors. Parts of a blob are cut by a fixed rule,
/// so that fetching the blob again makes the same parts and a sink's earlier yes can be recognized by [`PartKey`].
#[derive(Debug)]
pub struct BlobPart {
    blob: Arc<BlobTag>,
    layout: Layout,
    /// Held until the last sink lets go of the last part in it: this is what bounds memory.
    text: Arc<Text>,
    /// Where in the text the part lies.
    range: Range<usize>,
}

/// What is known of a part's bytes.
#[derive(Debug)]
pub(crate) struct Layout {
    key: PartKey,
    spans: Vec<RecordSpan>,
    /// All records are lines as they lie, one directly behind the other.
    are_lines: bool,
}

impl Layout {
    /// Of a part's bytes as they came. Afterwards a line feed stands behind each record.
    pub(crate) fn of(first_record: u64, spans: Vec<RecordSpan>, text: &mut [u8]) -> Self {
        let key = PartKey {
            first_record,
            record_count: spans.len() as u64,
            fingerprint: decode::fingerprint(text),
        };
        // What stands between records is nobody's: with a line feed in place of each comma they are lines where they lie.
        let mut starts = spans.iter().skip(1).map(|span| span.start as usize);
        let mut are_lines = true;
        for span in &spans {
            let end = span.start as usize + span.len as usize;
            let next = starts.next();
            let behind = end..next.unwrap_or(text.len());
            are_lines &= span.is_compact && next.is_none_or(|next| next == end + 1);
            match text.get_mut(behind).and_then(<[u8]>::first_mut) {
                Some(behind) => *behind = b'\n',
                None => are_lines = false,
            }
        }
        Self {
            key,
            spans,
            are_lines,
        }
    }
}

impl BlobPart {
    /// A part that is alone in its text.
    pub(crate) fn new(blob: Arc<BlobTag>, mut part: RawPart, memory: Option<Room>) -> Self {
        let range = 0..part.text.len();
        let layout = Layout::of(part.first_record, part.spans, &mut part.text);
        Self::in_text(
            blob,
            layout,
            Arc::new(Text::alone(part.text, memory)),
            range,
        )
    }

    /// The part that lies in this stretch of a text.
    pub(crate) fn in_text(
        blob: Arc<BlobTag>,
        layout: Layout,
        text: Arc<Text>,
        range: Range<usize>,
    ) -> Self {
        Self {
            blob,
            layout,
            text,
            range,
        }
    }

    /// What it is known by, without its records and their text.
    pub(crate) fn bare(&self) -> Self {
        static NOTHING: LazyLock<Arc<Text>> =
            LazyLock::new(|| Arc::new(Text::alone(Vec::new(), None)));
        Self {
            blob: Arc::clone(&self.blob),
            layout: Layout {
                key: self.layout.key,
                spans: Vec::new(),
                are_lines: false,
            },
            text: Arc::clone(&NOTHING),
            range: 0..0,
        }
    }

    /// The blob's bytes, save that behind a record stands a line feed.
    fn bytes(&self) -> &[u8] {
        self.text
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }

    /// The text that the part lies in.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// The blob that the part was cut from.
    #[must_use]
    pub fn blob(&self) -> &BlobTag {
        &self.blob
    }

    /// What the ledger knows this part by.
    #[must_use]
    pub fn key(&self) -> PartKey {
        self.layout.key
    }

    /// How many records the part has.
    #[must_use]
    pub fn record_count(&self) -> usize {
        // Also of one that is bare.
        usize::try_from(self.layout.key.record_count).unwrap_or(usize::MAX)
    }

    /// Bytes of all its records' text.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.range.len()
    }

    /// The text of one of its records where it lies: no copy, and the part stays for as long as it is needed.
    pub(crate) fn shared_text(self: &Arc<Self>, record: &Record<'_>) -> Bytes {
        debug_assert!(std::ptr::eq(record.part, &raw const **self));
        let start = record.span.start as usize;
        Bytes::from_owner(Kept(Arc::clone(self))).slice(start..start + record.span.len as usize)
    }

    /// The records from `from` on as lines where they lie, when all of the part's are. No look is taken at each.
    fn lines_from(&self, from: usize) -> Option<Lines<'_>> {
        let spans = &self.layout.spans;
        let (first, last) = (spans.get(from)?, spans.last()?);
        self.layout.are_lines.then(|| Lines {
            part: self,
            range: first.start as usize..last.start as usize + last.len as usize + 1,
        })
    }

    /// The records from `from` (an index into the part) on.
    pub fn records_from(&self, from: usize) -> impl Iterator<Item = Record<'_>> + Clone {
        let spans = &self.layout.spans;
        spans
            .get(from..)
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(move |(index, span)| Record {
                part: self,
                span: *span,
                index: (from + index) as u64,
            })
    }
}

/// A part, for as long as somebody needs some of its bytes.
struct Kept(Arc<BlobPart>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// One audit record: the exact JSON text that Microsoft sent, outer white space removed.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    part: &'a BlobPart,
    span: RecordSpan,
    index: u64,
}

impl<'a> Record<'a> {
    /// The record's JSON text. `decode` made sure that it is one whole JSON object in UTF-8.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        let start = self.span.start as usize;
        &self.part.bytes()[start..start + self.span.len as usize]
    }

    /// `Id` as written, or nothing when it is missing, empty or no string.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.field(self.span.id)
    }

    /// `CreationTime` as written: 19 characters without a zone as a rule.
    #[must_use]
    pub fn creation_time(&self) -> Option<&'a str> {
        self.field(self.span.creation_time)
    }

    /// `RecordType`, a whole number.
    #[must_use]
    pub fn record_type(&self) -> Option<i64> {
        self.span.record_type
    }

    /// Whether there is no white space between its tokens, so that it is one line as it stands.
    #[must_use]
    pub fn is_compact(&self) -> bool {
        self.span.is_compact
    }

    /// The record as a line where it lies, when it is one.
    pub(crate) fn line(&self) -> Option<Lines<'a>> {
        let range = self.span.start as usize..self.end() + 1;
        let has_end = self.part.bytes().get(self.end()) == Some(&b'\n');
        (self.is_compact() && has_end).then_some(Lines {
            part: self.part,
            range,
        })
    }

    /// Where in its part it ends.
    fn end(&self) -> usize {
        self.span.start as usize + self.span.len as usize
    }

    /// The blob it came in.
    #[must_use]
    pub fn blob(&self) -> &'a BlobTag {
        &self.part.blob
    }

    /// Its place in the blob, from 0.
    #[must_use]
    pub fn index_in_blob(&self) -> u64 {
        self.part.layout.key.first_record + self.index
    }

    fn field(&self, field: FieldSpan) -> Option<&'a str> {
        let start = field.start as usize;
        let text = self.text().get(start..start + field.len as usize)?;
        std::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty())
    }
}

/// Records that lie one behind the other as lines.
pub(crate) struct Lines<'a> {
    part: &'a BlobPart,
    range: Range<usize>,
}

impl<'a> Lines<'a> {
    /// Their bytes, each record's with a line feed behind it.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.part
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }

    /// Takes in the record that lies directly behind. False when this one does not, or is no line.
    pub(crate) fn extend(&mut self, record: &Record<'_>) -> bool {
        let is_next =
            std::ptr::eq(self.part, record.part) && self.range.end == record.span.start as usize;
        let line = record.line().filter(|_| is_next);
        if let Some(line) = &line {
            self.range.end = line.range.end;
        }
        line.is_some()
    }
}

impl std::fmt::Debug for Record<'_> {
    /// Never the text: records hold personal data and a log line is no place for it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("content_id", &self.part.blob.content_id)
            .field("index_in_blob", &self.index_in_blob())
            .field("bytes", &self.span.len)
            .finish_non_exhaustive()
    }
}

/// What a sink is handed: parts of blobs, in order, less what the sink took before.
#[derive(Debug, Clone)]
pub struct Batch {
    parts: Vec<Arc<BlobPart>>,
    /// Records that are not to be delivered, by their place among all of the parts', in order.
    left_out: Arc<[usize]>,
    /// How many of the others at the batch's head are out already, when an earlier try got part of the way.
    skip: usize,
    /// Where what the sink makes of it is counted; nothing where memory is not bounded.
    encoding: Option<Encoding>,
    let_go: Option<LetGo>,
}

/// How whoever keeps a batch's text for another try is told that there will be none.
#[derive(Clone)]
struct LetGo(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for LetGo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LetGo")
    }
}

impl Batch {
    /// A batch of these parts.
    #[must_use]
    pub fn new(parts: Vec<Arc<BlobPart>>) -> Self {
        Self {
            parts,
            left_out: Arc::default(),
            skip: 0,
            encoding: None,
            let_go: None,
        }
    }

    /// The same batch, of which what its sink makes is counted in `encoding`.
    #[must_use]
    pub(crate) fn counted_in(mut self, encoding: &Encoding) -> Self {
        self.encoding = Some(encoding.clone());
        self
    }

    /// Waits for room for `bytes` that a sink is about to make of these records. To be dropped when they are gone, and
    /// before more is asked for.
    ///
    /// # If interrupted
    /// Nothing is held.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<Encoded> {
        match &self.encoding {
            Some(encoding) => Some(encoding.reserve(bytes).await),
            None => None,
        }
    }

    /// The same batch, of which `let_go` is told when its text is needed no more.
    #[must_use]
    pub(crate) fn let_go_by(mut self, let_go: impl Fn() + Send + Sync + 'static) -> Self {
        self.let_go = Some(LetGo(Arc::new(let_go)));
        self
    }

    /// The same batch of these parts, which are the same with their records.
    #[must_use]
    pub(crate) fn of_parts(mut self, parts: Vec<Arc<BlobPart>>) -> Self {
        debug_assert!(
            parts
                .iter()
                .map(|part| part.key())
                .eq(self.parts.iter().map(|part| part.key()))
        );
        self.parts = parts;
        self
    }

    /// Whether somebody keeps the text for another try, who can be told that there will be none.
    pub(crate) fn is_kept(&self) -> bool {
        self.let_go.is_some()
    }

    /// Lets go of the text: the sink holds what it made of all that is left of it. Should that not arrive, the blobs are
    /// fetched again.
    pub(crate) fn let_go(self) {
        let Self { parts, let_go, .. } = self;
        drop(parts);
        if let Some(LetGo(let_go)) = let_go {
            let_go();
        }
    }

    /// The same batch without its first `count` records.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip += count;
        self
    }

    /// The same batch without these records of its parts (indexes into all of them, in order), which are not delivered.
    #[must_use]
    pub(crate) fn without(mut self, left_out: Vec<usize>) -> Self {
        debug_assert!(self.left_out.is_empty() && self.skip == 0 && left_out.is_sorted());
        self.left_out = left_out.into();
        self
    }

    /// The place, among all records of the parts, of the one that [`Batch::records`] would give as number `index` if none
    /// were skipped.
    pub(crate) fn place_of(&self, index: usize) -> usize {
        let mut place = index;
        for left_out in self.left_out.iter() {
            if *left_out > place {
                break;
            }
            place += 1;
        }
        place
    }

    /// Whose records they are, if they are one tenant's.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        let mut tenants = self.parts.iter().map(|part| part.blob.tenant);
        let first = tenants.next()?;
        tenants.all(|tenant| tenant == first).then_some(first)
    }

    /// The parts it was made of, whatever has been skipped.
    #[must_use]
    pub fn parts(&self) -> &[Arc<BlobPart>] {
        &self.parts
    }

    /// Records still to deliver.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.record_count())
            .sum::<usize>()
            .saturating_sub(self.left_out.len() + self.skip)
    }

    /// Bytes of the text of all its parts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.text_bytes()).sum()
    }

    /// The records still to deliver, in order, as lines that lie together; nothing when some are no lines, or are left out.
    pub(crate) fn lines(&self) -> Option<Vec<Lines<'_>>> {
        if !self.left_out.is_empty() {
            return None;
        }
        let mut skip = self.skip;
        let stretches = self.parts.iter().filter_map(|part| {
            let from = skip.min(part.record_count());
            skip -= from;
            (from < part.record_count()).then(|| part.lines_from(from))
        });
        stretches.collect()
    }

    /// The records still to deliver, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> + Clone {
        let mut skip = self.place_of(self.skip);
        let mut place = skip;
        let all = self.parts.iter().flat_map(move |part| {
            let from = skip.min(part.record_count());
            skip -= from;
            part.records_from(from)
        });
        all.filter(move |_| {
            place += 1;
            self.left_out.binary_search(&(place - 1)).is_err()
        })
    }
}
