//! Rows as values, and back.

use std::sync::Arc;

use activity_api::{ContentId, ContentType, TenantId};
use azure::storage::entity::{Entity, Stored, Value};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::stored;
use crate::{AcknowledgedPart, Error, PartKey, SinkName};

use super::names::{due_row, known_row, partition_of};

/// What a property holds at most: 32,768 UTF-16 units, less some to be on the safe side of a surrogate pair.
const MAX_PIECE: usize = 32_000;

/// Pieces of one text. The whole row may have 1 MiB, which is 16 pieces of two bytes a unit.
const MAX_PIECES: usize = 12;

/// The row that says that a blob is known, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) content_type: ContentType,
    pub(super) content_id: ContentId,
    /// Names the write that added it.
    pub(super) noted_by: u64,
    /// Whether what is known of it comes from a listing.
    pub(super) is_listed: bool,
    /// Of rows that were written before this was kept, not known.
    pub(super) created_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    /// Whether it was made to retry a single record: it is in no total.
    pub(super) is_part: bool,
    pub(super) state: State,
}

/// Where a blob stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// In the row of this name.
    Unsettled { due_row: String },
    /// Over.
    Settled(End),
}

/// How a blob ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: EndKind,
    /// The lease that ended it.
    pub(super) token: u64,
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) record_count: u64,
    pub(super) byte_count: u64,
    pub(super) quarantined_count: u64,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// Of a quarantined blob, where to fetch it again; else empty.
    pub(super) uri: String,
    /// Of a quarantined blob, the sinks that have all of it, as one text.
    pub(super) whole: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndKind {
    Delivered,
    Quarantined,
    Expired,
    Dropped,
}

impl EndKind {
    const ALL: [Self; 4] = [
        Self::Delivered,
        Self::Quarantined,
        Self::Expired,
        Self::Dropped,
    ];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Quarantined => "quarantined",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

impl Known {
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Settled(_))
    }

    pub(super) fn to_entity(&self, tenant: TenantId, number: u128) -> Entity {
        let mut entity = Entity::new(partition_of(tenant), known_row(number));
        set_text(&mut entity, "Type", self.content_type.as_str());
        set_text(&mut entity, "Id", self.content_id.as_str());
        set_number(&mut entity, "NotedBy", self.noted_by);
        entity.set("Listed", Value::Bool(self.is_listed));
        if let Some(created_at) = self.created_at {
            set_instant(&mut entity, "CreatedAt", created_at);
        }
        if let Some(expires_at) = self.expires_at {
            set_instant(&mut entity, "ExpiresAt", expires_at);
        }
        if self.is_part {
            entity.set("IsPart", Value::Bool(true));
        }
        match &self.state {
            State::Unsettled { due_row } => set_text(&mut entity, "Due", due_row),
            State::Settled(end) => {
                set_text(&mut entity, "End", end.kind.as_str());
                set_number(&mut entity, "EndedBy", end.token);
                set_instant(&mut entity, "EndedAt", end.at);
                set_text(&mut entity, "Reason", &end.reason);
                set_number(&mut entity, "Records", end.record_count);
                set_number(&mut entity, "Bytes", end.byte_count);
                set_number(&mut entity, "Quarantined", end.quarantined_count);
                set_number(&mut entity, "Attempts", end.attempts.into());
                if !end.uri.is_empty() {
                    set_text(&mut entity, "Uri", &end.uri);
                }
                if !end.whole.is_empty() {
                    set_text(&mut entity, "Whole", &end.whole);
                }
            }
        }
        entity
    }

    pub(super) fn read(entity: &Entity) -> Result<Self, Error> {
        let state = match text(entity, "End") {
            None => State::Unsettled {
                due_row: text(entity, "Due").ok_or_else(|| corrupt("a blob without a state"))?,
            },
            Some(end) => State::Settled(End {
                kind: EndKind::parse(&end).ok_or_else(|| corrupt("a blob's end"))?,
                token: number(entity, "EndedBy")?,
                at: instant(entity, "EndedAt")?,
                reason: text(entity, "Reason").unwrap_or_default(),
                record_count: number(entity, "Records")?,
                byte_count: number(entity, "Bytes")?,
                quarantined_count: number(entity, "Quarantined")?,
                attempts: small_number(entity, "Attempts"),
                uri: text(entity, "Uri").unwrap_or_default(),
                whole: text(entity, "Whole").unwrap_or_default(),
            }),
        };
        Ok(Self {
            content_type: content_type(entity)?,
            content_id: content_id(entity)?,
            noted_by: number(entity, "NotedBy")?,
            is_listed: is_set(entity, "Listed"),
            created_at: known_instant(entity, "CreatedAt")?,
            expires_at: known_instant(entity, "ExpiresAt")?,
            is_part: is_set(entity, "IsPart"),
            state,
        })
    }
}

/// Everything that changes while a blob is unsettled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsettled {
    pub(super) tenant: TenantId,
    pub(super) number: u128,
    pub(super) content_type: ContentType,
    pub(super) content_id: ContentId,
    pub(super) noted_by: u64,
    pub(super) uri: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) attempts: u32,
    /// Milliseconds since 1970, the least there are when it need not wait.
    pub(super) not_before: i64,
    /// The same for a lease.
    pub(super) leased_until: i64,
    /// The same for a message in the queue.
    pub(super) announced_until: i64,
    /// The lease; 0 when there is none.
    pub(super) token: u64,
    /// Why it waits.
    pub(super) reason: String,
    /// Ordered.
    pub(super) acknowledged: Vec<(SinkName, AcknowledgedPart)>,
    /// The item of quarantine that it retries.
    pub(super) item: Option<u64>,
    /// Whether it was made for that, of a single record.
    pub(super) is_part: bool,
    /// Names the write that made it so.
    pub(super) written_by: u64,
}

/// An unsettled blob's row with the etag that names its state.
#[derive(Debug, Clone)]
pub(super) struct DueRow {
    pub(super) blob: Unsettled,
    pub(super) etag: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPart {
    Whole(String),
    Part(String, u64, u64, u64),
}

impl Unsettled {
    pub(super) fn due_row(&self) -> String {
        due_row(self.expires_at, self.number)
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.not_before <= now && self.leased_until <= now
    }

    /// The order in which blobs are leased.
    pub(super) fn place(&self) -> (Timestamp, Timestamp, TenantId, u128) {
        (self.expires_at, self.created_at, self.tenant, self.number)
    }

    pub(super) fn has_whole(&self, sink: &SinkName) -> bool {
        self.acknowledged
            .iter()
            .any(|(name, part)| name == sink && *part == AcknowledgedPart::Whole)
    }

    /// Adds what a sink has.
    pub(super) fn acknowledge(&mut self, sink: &SinkName, part: AcknowledgedPart) {
        if self.has_whole(sink) {
            return;
        }
        if part == AcknowledgedPart::Whole {
            self.acknowledged.retain(|(name, _)| name != sink);
        }
        let added = (sink.clone(), part);
        if let Err(place) = self.acknowledged.binary_search(&added) {
            self.acknowledged.insert(place, added);
        }
    }

    /// The sinks that have all of it, as one text: equal for equal sets.
    pub(super) fn whole_sinks(&self) -> String {
        whole_sinks(
            self.acknowledged
                .iter()
                .filter(|(_, part)| *part == AcknowledgedPart::Whole)
                .map(|(sink, _)| sink),
        )
    }

    pub(super) fn to_entity(&self) -> Entity {
        let mut entity = Entity::new(partition_of(self.tenant), self.due_row());
        set_text(&mut entity, "Type", self.content_type.as_str());
        set_text(&mut entity, "Id", self.content_id.as_str());
        set_number(&mut entity, "NotedBy", self.noted_by);
        set_text(&mut entity, "Uri", &self.uri);
        set_instant(&mut entity, "CreatedAt", self.created_at);
        set_instant(&mut entity, "ExpiresAt", self.expires_at);
        set_number(&mut entity, "Attempts", self.attempts.into());
        entity.set("NotBefore", Value::Int64(self.not_before));
        entity.set("LeasedUntil", Value::Int64(self.leased_until));
        entity.set("AnnouncedUntil", Value::Int64(self.announced_until));
        set_number(&mut entity, "Token", self.token);
        set_text(&mut entity, "Reason", &self.reason);
        set_text(&mut entity, "Whole", &self.whole_sinks());
        set_text(&mut entity, "Acknowledged", &self.written_parts());
        set_number(&mut entity, "WrittenBy", self.written_by);
        if let Some(item) = self.item {
            set_number(&mut entity, "Item", item);
        }
        if self.is_part {
            entity.set("IsPart", Value::Bool(true));
        }
        entity
    }

    /// As JSON, whole ones first: of parts that no row has room for, the last are left out, and those records are
    /// offered to their sink again should this worker die.
    fn written_parts(&self) -> String {
        let mut parts: Vec<_> = self
            .acknowledged
            .iter()
            .map(|(sink, part)| match part {
                AcknowledgedPart::Whole => WrittenPart::Whole(sink.to_string()),
                AcknowledgedPart::Part(part) => WrittenPart::Part(
                    sink.to_string(),
                    part.first_record,
                    part.record_count,
                    part.fingerprint,
                ),
            })
            .collect();
        parts.sort_by_key(|part| matches!(part, WrittenPart::Part(..)));
        // The longest part: a name of 64 letters and three numbers of 20 digits.
        parts.truncate(MAX_PIECE * MAX_PIECES / 140);
        serde_json::to_string(&parts).expect("names and numbers make JSON")
    }

    pub(super) fn read(tenant: TenantId, entity: &Entity) -> Result<Self, Error> {
        let parts: Vec<WrittenPart> =
            serde_json::from_str(&text(entity, "Acknowledged").unwrap_or_default())
                .map_err(|error| corrupt_by("acknowledgements", error))?;
        let mut acknowledged = parts
            .into_iter()
            .map(|part| {
                let (sink, part) = match part {
                    WrittenPart::Whole(sink) => (sink, AcknowledgedPart::Whole),
                    WrittenPart::Part(sink, first_record, record_count, fingerprint) => {
                        let part = PartKey {
                            first_record,
                            record_count,
                            fingerprint,
                        };
                        (sink, AcknowledgedPart::Part(part))
                    }
                };
                let sink = sink
                    .parse()
                    .map_err(|error| corrupt_by("a sink's name", error))?;
                Ok((sink, part))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        acknowledged.sort();
        let content_type = content_type(entity)?;
        let content_id = content_id(entity)?;
        let milliseconds = |name| entity.int64(name).ok_or_else(|| corrupt("a stored time"));
        Ok(Self {
            tenant,
            number: super::names::number_of(content_type, &content_id),
            content_type,
            content_id,
            noted_by: number(entity, "NotedBy")?,
            uri: text(entity, "Uri").unwrap_or_default(),
            created_at: instant(entity, "CreatedAt")?,
            expires_at: instant(entity, "ExpiresAt")?,
            attempts: small_number(entity, "Attempts"),
            not_before: milliseconds("NotBefore")?,
            leased_until: milliseconds("LeasedUntil")?,
            announced_until: milliseconds("AnnouncedUntil")?,
            token: number(entity, "Token")?,
            reason: text(entity, "Reason").unwrap_or_default(),
            acknowledged,
            item: entity.int64("Item").map(i64::cast_unsigned),
            is_part: is_set(entity, "IsPart"),
            written_by: number(entity, "WrittenBy")?,
        })
    }
}

impl DueRow {
    pub(super) fn read(tenant: TenantId, stored: Stored) -> Result<Self, Error> {
        Ok(Self {
            blob: Unsettled::read(tenant, &stored.entity)?,
            etag: stored.etag,
        })
    }
}

/// A set of sinks as one text: equal for equal sets.
pub(super) fn whole_sinks<'a>(sinks: impl Iterator<Item = &'a SinkName>) -> String {
    let mut names: Vec<_> = sinks.map(SinkName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

/// Sets a text of any length up to what a row holds; what is over is cut off. Text with control characters is kept as
/// bytes, as not every reader of a table takes them.
pub(super) fn set_text(entity: &mut Entity, name: &str, text: &str) {
    if text.chars().any(char::is_control) {
        for (index, piece) in text
            .as_bytes()
            .chunks(MAX_PIECE)
            .take(MAX_PIECES)
            .enumerate()
        {
            entity.set(piece_name(name, index), Value::Binary(piece.to_vec()));
        }
        return;
    }
    let mut rest = text;
    for index in 0..MAX_PIECES {
        // By bytes, of which a text has at least as many as UTF-16 units.
        let end = rest.floor_char_boundary(MAX_PIECE);
        let (piece, after) = rest.split_at(end);
        entity.set(piece_name(name, index), Value::Text(piece.into()));
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// How long a text may be to be kept whole.
pub(super) const MAX_TEXT: usize = (MAX_PIECE - 3) * MAX_PIECES;

fn piece_name(name: &str, index: usize) -> String {
    match index {
        0 => name.to_owned(),
        index => format!("{name}{index}"),
    }
}

/// A text as [`set_text`] set it.
pub(super) fn text(entity: &Entity, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for index in 0..MAX_PIECES {
        match entity.properties.get(&piece_name(name, index)) {
            Some(Value::Text(piece)) => bytes.extend_from_slice(piece.as_bytes()),
            Some(Value::Binary(piece)) => bytes.extend_from_slice(piece),
            _ if index == 0 => return None,
            _ => break,
        }
    }
    // A text that was cut off may end within a letter.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn set_number(entity: &mut Entity, name: &str, number: u64) {
    entity.set(name, Value::Int64(number.cast_signed()));
}

/// A number as [`set_number`] set it.
pub(super) fn number(entity: &Entity, name: &str) -> Result<u64, Error> {
    entity
        .int64(name)
        .map(i64::cast_unsigned)
        .ok_or_else(|| corrupt("a stored number"))
}

/// A number that rows of earlier programs lack: 0 there.
pub(super) fn later_number(entity: &Entity, name: &str) -> u64 {
    entity.int64(name).map_or(0, i64::cast_unsigned)
}

fn small_number(entity: &Entity, name: &str) -> u32 {
    u32::try_from(later_number(entity, name)).unwrap_or(u32::MAX)
}

pub(super) fn is_set(entity: &Entity, name: &str) -> bool {
    entity.properties.get(name) == Some(&Value::Bool(true))
}

fn known_instant(entity: &Entity, name: &str) -> Result<Option<Timestamp>, Error> {
    entity.int64(name).map(to_instant).transpose()
}

pub(super) fn set_instant(entity: &mut Entity, name: &str, instant: Timestamp) {
    entity.set(name, Value::Int64(stored(instant)));
}

pub(super) fn instant(entity: &Entity, name: &str) -> Result<Timestamp, Error> {
    let milliseconds = entity.int64(name).ok_or_else(|| corrupt("a stored time"))?;
    to_instant(milliseconds)
}

pub(super) fn to_instant(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| corrupt_by("a stored time", error))
}

pub(super) fn content_type(entity: &Entity) -> Result<ContentType, Error> {
    let text = text(entity, "Type").unwrap_or_default();
    text.parse()
        .map_err(|error| corrupt_by("a content type", error))
}

pub(super) fn content_id(entity: &Entity) -> Result<ContentId, Error> {
    let id = text(entity, "Id").ok_or_else(|| corrupt("a content id"))?;
    Ok(ContentId::canonical(&id))
}

#[derive(Debug, thiserror::Error)]
#[error("it is not there, or is nothing that this program writes")]
struct NotOurs;

/// What is stored is nothing that this program stores.
pub(super) fn corrupt(what: &'static str) -> Error {
    corrupt_by(what, NotOurs)
}

pub(super) fn corrupt_by(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Corrupt {
        what,
        source: Arc::new(source),
    }
}
