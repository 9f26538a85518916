//! Packing: records into payloads of at most so many *compressed* bytes. The vendor's library deflates what it was
//! handed and loses it when that turns out too large; here nothing is lost, what does not fit is halved and tried again,
//! and the ratio learned on the way makes that rare.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use jiff::Timestamp;
use libdeflater::{CompressionLvl, Compressor};

use super::{HostMetadata, Message, encode::encode_batch_list};

/// Whose records a payload holds.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The log source, from registration.
    pub source_id: &'a str,
    /// The host, from registration.
    pub metadata: &'a HostMetadata,
    /// When it is sent.
    pub now: Timestamp,
}

/// A request body, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The compressed batch list, in the zlib format.
    pub body: Bytes,
    /// How many messages are in it.
    pub message_count: usize,
    /// Bytes of their text.
    pub text_bytes: usize,
    /// Bytes of the batch list before compression.
    pub raw_bytes: usize,
}

/// What packing makes of the messages, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// The next of them together.
    Payload(Payload),
    /// One message that is over the limit even alone.
    TooLarge {
        /// Which of those handed over, from 0.
        index: usize,
    },
}

/// Packs messages; shared by whoever does, so that what one learned of the ratio helps all.
pub struct Packer {
    level: CompressionLvl,
    max_payload_bytes: usize,
    /// Bits of an `f32`: compressed bytes per raw byte.
    ratio: AtomicU32,
    /// What the service was seen to take, at most `max_payload_bytes`.
    learned_limit: AtomicUsize,
    /// Compressors and buffers not in use. As many come to be as there are packings at one time.
    workspaces: Mutex<Vec<Workspace>>,
}

struct Workspace {
    compressor: Compressor,
    raw: Vec<u8>,
    compressed: Vec<u8>,
}

/// Where the ratio starts. Audit records have 0.08 to 0.2; the first payload is smaller than need be, not larger.
const FIRST_RATIO: f32 = 0.25;
/// Aimed below the limit by this, because the next records never compress exactly as the last.
const HEADROOM: f32 = 1.08;
/// Raw bytes of one payload, however well they compress: this is what a packing holds in memory.
const MAX_RAW_BYTES: usize = 8 << 20;
/// Below this a payload is mostly its own envelope, and its ratio says nothing of the records.
const MIN_TELLING_BYTES: usize = 16 << 10;
/// The service is not believed to take less than this. Smaller payloads would be all overhead.
const MIN_LEARNED_LIMIT: usize = 64 << 10;

impl Packer {
    /// A packer of payloads of at most `max_payload_bytes` compressed bytes. `level` is libdeflate's, 1 (fast) to 12
    /// (small); a value beyond is brought into that range.
    #[must_use]
    pub fn new(max_payload_bytes: usize, level: u8) -> Self {
        let level = CompressionLvl::new(i32::from(level.clamp(1, 12)))
            .expect("1 to 12 are libdeflate's levels");
        Self {
            level,
            max_payload_bytes,
            ratio: AtomicU32::new(FIRST_RATIO.to_bits()),
            learned_limit: AtomicUsize::new(max_payload_bytes),
            workspaces: Mutex::default(),
        }
    }

    /// All of `messages` as payloads, each made when it is asked for.
    pub fn pack<'a, 'm, I>(&'a self, envelope: Envelope<'a>, messages: I) -> Packing<'a, I>
    where
        I: Iterator<Item = Message<'m>> + Clone,
    {
        Packing {
            packer: self,
            envelope,
            messages,
            next_index: 0,
        }
    }

    /// As many of `messages` as fit one payload, from the first on; nothing when there are none. `index` of a
    /// [`Packed::TooLarge`] is always 0.
    pub fn pack_first<'m, I>(&self, envelope: Envelope<'_>, messages: I) -> Option<Packed>
    where
        I: Iterator<Item = Message<'m>> + Clone,
    {
        let mut workspace = self.lock().pop().unwrap_or_else(|| Workspace {
            compressor: Compressor::new(self.level),
            raw: Vec::new(),
            compressed: Vec::new(),
        });
        let packed = self.pack_in(&mut workspace, envelope, &messages);
        // A giant record must not leave its memory behind.
        workspace.raw.shrink_to(MAX_RAW_BYTES + MAX_RAW_BYTES / 2);
        self.lock().push(workspace);
        packed
    }

    /// Bytes of records' text that make about one payload.
    #[must_use]
    pub fn text_bytes_per_payload(&self) -> usize {
        // The protobuf around a record and what its text has to itself are so small beside it that they go under headroom.
        self.raw_bytes_per_payload(self.learned_limit.load(Relaxed))
    }

    /// To be told when the service said that a payload of several messages is too large. Payloads become smaller then,
    /// and creep up again as the service takes them.
    pub fn note_refused(&self, body_bytes: usize) {
        let limit = (body_bytes / 4 * 3)
            .max(MIN_LEARNED_LIMIT)
            .min(self.max_payload_bytes);
        self.learned_limit.fetch_min(limit, Relaxed);
    }

    /// To be told of each payload that the service took.
    pub fn note_accepted(&self, body_bytes: usize) {
        let limit = self.learned_limit.load(Relaxed);
        if limit < self.max_payload_bytes && body_bytes > limit / 4 * 3 {
            // By a hundredth: should the limit be real, one payload in some thirty is refused for trying.
            let _old = self
                .learned_limit
                .fetch_max((limit + limit / 100).min(self.max_payload_bytes), Relaxed);
        }
    }

    fn pack_in<'m, I>(
        &self,
        workspace: &mut Workspace,
        envelope: Envelope<'_>,
        messages: &I,
    ) -> Option<Packed>
    where
        I: Iterator<Item = Message<'m>> + Clone,
    {
        let mut max_count = usize::MAX;
        loop {
            let limit = self.learned_limit.load(Relaxed);
            let max_raw = self.raw_bytes_per_payload(limit);
            let encoded = encode_batch_list(
                &mut workspace.raw,
                &envelope,
                messages.clone(),
                max_raw,
                max_count,
            );
            let raw = workspace.raw.get(encoded.start..).unwrap_or_default();
            // What the service was seen to take binds only payloads that could be made smaller.
            let limit = match encoded.message_count {
                0 => return None,
                1 => self.max_payload_bytes,
                _ => limit,
            };
            let room = workspace
                .compressor
                .zlib_compress_bound(raw.len())
                .min(limit);
            if workspace.compressed.len() < room {
                workspace.compressed.resize(room, 0);
            }
            let out = workspace.compressed.get_mut(..room).unwrap_or_default();
            // The only error is that the room does not suffice.
            if let Ok(len) = workspace.compressor.zlib_compress(raw, out) {
                // The vendor's payloads begin 78 9c. The second byte says how hard the compressor tried, which no
                // decoder looks at, so what libdeflate says of its level is brought to the same.
                if let [_, level, ..] = out {
                    *level = 0x9c;
                }
                self.learn(raw.len(), len);
                return Some(Packed::Payload(Payload {
                    body: Bytes::copy_from_slice(out.get(..len).unwrap_or_default()),
                    message_count: encoded.message_count,
                    text_bytes: encoded.text_bytes,
                    raw_bytes: raw.len(),
                }));
            }
            if encoded.message_count == 1 {
                return Some(Packed::TooLarge { index: 0 });
            }
            self.learn(raw.len(), limit);
            max_count = encoded.message_count / 2;
        }
    }

    /// Believes a worse ratio at once and a better one slowly, so that few payloads are compressed in vain.
    fn learn(&self, raw_bytes: usize, compressed_bytes: usize) {
        if raw_bytes < MIN_TELLING_BYTES {
            return;
        }
        let seen = compressed_bytes as f32 / raw_bytes as f32;
        let known = f32::from_bits(self.ratio.load(Relaxed));
        let ratio = if seen > known {
            seen
        } else {
            known + (seen - known) / 8.0
        };
        self.ratio.store(ratio.to_bits(), Relaxed);
    }

    fn raw_bytes_per_payload(&self, limit: usize) -> usize {
        let ratio = f32::from_bits(self.ratio.load(Relaxed)).clamp(0.001, 1.1);
        ((limit as f32 / (ratio * HEADROOM)) as usize).min(MAX_RAW_BYTES)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
        // Nothing is left half done in the list by whoever panics.
        self.workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("level", &self.level)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .field("ratio", &f32::from_bits(self.ratio.load(Relaxed)))
            .field("learned_limit", &self.learned_limit.load(Relaxed))
            .finish_non_exhaustive()
    }
}

/// Payloads, made one at a time. See [`Packer::pack`].
#[derive(Debug)]
pub struct Packing<'a, I> {
    packer: &'a Packer,
    envelope: Envelope<'a>,
    messages: I,
    next_index: usize,
}

impl<'m, I> Iterator for Packing<'_, I>
where
    I: Iterator<Item = Message<'m>> + Clone,
{
    type Item = Packed;

    fn next(&mut self) -> Option<Packed> {
        let packed = self
            .packer
            .pack_first(self.envelope, self.messages.clone())?;
        let (packed, count) = match packed {
            Packed::Payload(payload) => {
                let count = payload.message_count;
                (Packed::Payload(payload), count)
            }
            Packed::TooLarge { .. } => (
                Packed::TooLarge {
                    index: self.next_index,
                },
                1,
            ),
        };
        self.next_index += count;
        // The last of them, so that none is made into a message twice.
        self.messages.nth(count - 1);
        Some(packed)
    }
}
