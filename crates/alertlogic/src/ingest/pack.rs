//! Packing: records into payloads of at most so many *compressed* bytes. The vendor's library deflates what it was
//! handed and loses it when that turns out too large; here nothing is lost.
//!
//! Level 1 is our own compressor. It takes record after record and knows before each whether it still fits, so nothing is
//! compressed twice and the batch list never stands in memory whole. Higher levels are libdeflate's, which wants all of
//! it at once: what does not fit is halved and tried again, and the ratio learned on the way makes that rare.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use deflate::{Deflater, Format};
use jiff::Timestamp;
use libdeflater::{CompressionLvl, Compressor};

use super::{
    HostMetadata, Message,
    body::Bodies,
    encode::{
        LIST_HEAD_BYTES, batched_len, encode_batch_head, encode_batch_list, encode_list_head,
        put_after_text, put_batched, put_before_text,
    },
};

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
    /// Bytes of memory that `body` holds.
    pub held_bytes: usize,
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
    /// libdeflate's; with none the compressor is ours.
    level: Option<CompressionLvl>,
    max_payload_bytes: usize,
    /// Payloads that turned out too large after they were compressed.
    retried_count: AtomicUsize,
    /// Bits of an `f32`: compressed bytes per raw byte.
    ratio: AtomicU32,
    /// What the service was seen to take, at most `max_payload_bytes`.
    learned_limit: AtomicUsize,
    /// Compressors and buffers not in use. As many come to be as there are packings at one time.
    workspaces: Mutex<Vec<Workspace>>,
    bodies: Arc<Bodies>,
}

enum Workspace {
    Ours {
        deflater: Box<Deflater>,
        /// One record at a time.
        message: Vec<u8>,
    },
    Libdeflate {
        compressor: Compressor,
        raw: Vec<u8>,
        compressed: Vec<u8>,
    },
}

/// Where the ratio starts. Audit records have 0.08 to 0.2; the first payload is smaller than need be, not larger.
const FIRST_RATIO: f32 = 0.25;
/// Aimed below the limit by this, because the next records never compress exactly as the last.
const HEADROOM: f32 = 1.08;
/// Raw bytes of one payload, however well they compress: this is what a packing holds in memory above level 1, and what
/// the service has to hold that inflates it.
const MAX_RAW_BYTES: usize = 8 << 20;
/// What a buffer may keep for the next packing. A giant record must not leave its memory behind.
const MAX_KEPT_BYTES: usize = MAX_RAW_BYTES + MAX_RAW_BYTES / 2;
/// From this length on a text is not copied for the little that stands before and behind it. What is shorter costs more as
/// three pieces than as a copy.
const LONG_TEXT_BYTES: usize = 512;
/// What our compressor holds.
const DEFLATER_BYTES: usize = 512 << 10;
/// Below this a payload is mostly its own envelope, and its ratio says nothing of the records.
const MIN_TELLING_BYTES: usize = 16 << 10;
/// The service is not believed to take less than this. Smaller payloads would be all overhead.
const MIN_LEARNED_LIMIT: usize = 64 << 10;

impl Packer {
    /// A packer of payloads of at most `max_payload_bytes` compressed bytes. `level` is 1 (fast) to 12 (small), from 2 on
    /// libdeflate's; a value beyond is brought into that range.
    #[must_use]
    pub fn new(max_payload_bytes: usize, level: u8) -> Self {
        let libdeflates =
            |level| CompressionLvl::new(i32::from(level)).expect("1 to 12 are libdeflate's levels");
        Self {
            level: (level > 1).then(|| libdeflates(level.min(12))),
            max_payload_bytes,
            retried_count: AtomicUsize::new(0),
            ratio: AtomicU32::new(FIRST_RATIO.to_bits()),
            learned_limit: AtomicUsize::new(max_payload_bytes),
            workspaces: Mutex::default(),
            bodies: Arc::default(),
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
        let kept = self.lock().pop();
        let mut workspace = kept.unwrap_or_else(|| self.workspace());
        let packed = match &mut workspace {
            Workspace::Ours { deflater, message } => {
                self.pack_streaming(deflater, message, &envelope, messages)
            }
            Workspace::Libdeflate {
                compressor,
                raw,
                compressed,
            } => {
                let packed = self.pack_whole(compressor, raw, compressed, &envelope, &messages);
                raw.shrink_to(MAX_KEPT_BYTES);
                packed
            }
        };
        self.lock().push(workspace);
        packed
    }

    fn workspace(&self) -> Workspace {
        match self.level {
            None => Workspace::Ours {
                deflater: Box::default(),
                message: Vec::new(),
            },
            Some(level) => Workspace::Libdeflate {
                compressor: Compressor::new(level),
                raw: Vec::new(),
                compressed: Vec::new(),
            },
        }
    }

    /// Payloads that were compressed, turned out too large, and were compressed again with fewer messages.
    #[must_use]
    pub fn retried_count(&self) -> usize {
        self.retried_count.load(Relaxed)
    }

    /// What packing takes at its peak for messages with so much text, the payload itself with it.
    #[must_use]
    pub fn packing_bytes(&self, text_bytes: usize) -> usize {
        let body_bytes = self.max_payload_bytes.min(text_bytes);
        match self.level {
            // The window, and what the body has grown to before it is cut to size.
            None => DEFLATER_BYTES + 2 * body_bytes,
            Some(_) => text_bytes + text_bytes / 8 + 2 * body_bytes,
        }
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

    fn pack_streaming<'m>(
        &self,
        deflater: &mut Deflater,
        buffer: &mut Vec<u8>,
        envelope: &Envelope<'_>,
        messages: impl Iterator<Item = Message<'m>>,
    ) -> Option<Packed> {
        // What the service was seen to take binds only payloads that could be made smaller.
        let limit = self.learned_limit.load(Relaxed);
        let batch_head = encode_batch_head(envelope);
        let head_room = LIST_HEAD_BYTES + batch_head.len();
        // Far behind the limit nothing more is compressed: of a giant record only that it is too large is of interest.
        let most_bytes = self.max_payload_bytes + 2 * head_room;
        deflater.write_to(self.bodies.take(most_bytes));
        deflater.start_with_head(Format::Zlib, head_room);
        deflater.give_up_behind(most_bytes);
        let (mut message_count, mut text_bytes, mut messages_bytes) = (0, 0, 0);
        for message in messages {
            let len = batched_len(&message);
            if message_count > 0
                && (messages_bytes + len > MAX_RAW_BYTES || !deflater.fits(len, limit))
            {
                break;
            }
            write_batched(deflater, buffer, &message);
            message_count += 1;
            text_bytes += message.text.len();
            messages_bytes += len;
        }
        if message_count == 0 {
            return None;
        }
        let head = encode_list_head(&batch_head, messages_bytes);
        let finished = deflater.finish_with_head(&head);
        let (body, held_bytes) = self.bodies.body(finished);
        if deflater.was_given_up() || body.len() > self.max_payload_bytes {
            return Some(Packed::TooLarge { index: 0 });
        }
        let raw_bytes = head.len() + messages_bytes;
        self.learn(raw_bytes, body.len());
        Some(Packed::Payload(Payload {
            body,
            message_count,
            text_bytes,
            raw_bytes,
            held_bytes,
        }))
    }

    fn pack_whole<'m, I>(
        &self,
        compressor: &mut Compressor,
        buffer: &mut Vec<u8>,
        compressed: &mut Vec<u8>,
        envelope: &Envelope<'_>,
        messages: &I,
    ) -> Option<Packed>
    where
        I: Iterator<Item = Message<'m>> + Clone,
    {
        let mut max_count = usize::MAX;
        loop {
            let limit = self.learned_limit.load(Relaxed);
            let max_raw = self.raw_bytes_per_payload(limit);
            let encoded = encode_batch_list(buffer, envelope, messages.clone(), max_raw, max_count);
            let raw = buffer.get(encoded.start..).unwrap_or_default();
            // What the service was seen to take binds only payloads that could be made smaller.
            let limit = match encoded.message_count {
                0 => return None,
                1 => self.max_payload_bytes,
                _ => limit,
            };
            let room = compressor.zlib_compress_bound(raw.len()).min(limit);
            if compressed.len() < room {
                compressed.resize(room, 0);
            }
            let out = compressed.get_mut(..room).unwrap_or_default();
            // The only error is that the room does not suffice.
            if let Ok(len) = compressor.zlib_compress(raw, out) {
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
                    held_bytes: len,
                }));
            }
            if encoded.message_count == 1 {
                return Some(Packed::TooLarge { index: 0 });
            }
            self.learn(raw.len(), limit);
            self.retried_count.fetch_add(1, Relaxed);
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

/// Writes a message as it stands in a batch, all but a short one's text from where it lies: it is not needed a second time.
fn write_batched(deflater: &mut Deflater, buffer: &mut Vec<u8>, message: &Message<'_>) {
    buffer.clear();
    if message.text.len() < LONG_TEXT_BYTES {
        put_batched(buffer, message);
        deflater.write(buffer);
        return;
    }
    put_before_text(buffer, message);
    deflater.write(buffer);
    deflater.write(&message.text);
    buffer.clear();
    put_after_text(buffer, message);
    deflater.write(buffer);
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
