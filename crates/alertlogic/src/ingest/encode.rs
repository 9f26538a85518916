//! The protobuf, written by hand into one buffer: fields in the order of their numbers, as the vendor's classes write
//! them, so that the bytes are the same. A generated encoder would want every record copied into a message first.

use super::{Envelope, MESSAGE_TYPE, Message, PRIORITY, PROG_NAME};

/// A field's number and its wire type, as they precede its value.
#[derive(Clone, Copy)]
pub(super) struct Tag(u8);

impl Tag {
    pub(super) const fn varint(field: u8) -> Self {
        Self(field << 3)
    }

    pub(super) const fn fixed64(field: u8) -> Self {
        Self(field << 3 | 1)
    }

    pub(super) const fn bytes(field: u8) -> Self {
        Self(field << 3 | 2)
    }

    pub(super) const fn fixed32(field: u8) -> Self {
        Self(field << 3 | 5)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_bytes(out: &mut Vec<u8>, tag: Tag, value: &[u8]) {
    out.push(tag.0);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

pub(super) fn put_u64(out: &mut Vec<u8>, tag: Tag, value: u64) {
    out.push(tag.0);
    put_varint(out, value);
}

fn bytes_len(value: &[u8]) -> usize {
    1 + varint_len(value.len() as u64) + value.len()
}

/// A batch list in a buffer. It begins at `start`, not at 0: its head is written last, when the length is known.
pub(super) struct Encoded {
    pub(super) start: usize,
    pub(super) message_count: usize,
    pub(super) text_bytes: usize,
}

/// Encodes messages from the first on, until the next would make the buffer longer than `max_bytes` or `max_count` are
/// in it, but at least one. An empty `messages` gives `message_count` 0.
pub(super) fn encode_batch_list<'m>(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    messages: impl Iterator<Item = Message<'m>>,
    max_bytes: usize,
    max_count: usize,
) -> Encoded {
    let head = encode_batch_head(envelope);
    let room = LIST_HEAD_BYTES + head.len();
    out.clear();
    out.resize(room, 0);
    let mut encoded = Encoded {
        start: room,
        message_count: 0,
        text_bytes: 0,
    };
    for message in messages.take(max_count) {
        let whole_len = batched_len(&message);
        if encoded.message_count > 0 && out.len() + whole_len > max_bytes {
            break;
        }
        put_batched(out, &message);
        encoded.message_count += 1;
        encoded.text_bytes += message.text.len();
    }

    let prefix = encode_list_head(&head, out.len() - room);
    encoded.start = room - prefix.len();
    out[encoded.start..room].copy_from_slice(&prefix);
    encoded
}

/// What stands at the head of a batch, before its messages.
pub(super) fn encode_batch_head(envelope: &Envelope<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    put_bytes(&mut head, Tag::bytes(1), envelope.source_id.as_bytes());
    put_bytes(
        &mut head,
        Tag::bytes(2),
        &envelope.metadata.encode(envelope.now),
    );
    head
}

/// What stands at the head of a list of one batch, before the batch's messages, of which there are `messages_bytes`.
pub(super) fn encode_list_head(batch_head: &[u8], messages_bytes: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(LIST_HEAD_BYTES + batch_head.len());
    head.push(Tag::bytes(1).0);
    put_varint(&mut head, (batch_head.len() + messages_bytes) as u64);
    head.extend_from_slice(batch_head);
    head
}

/// What [`encode_list_head`] puts before the batch's head, at most.
pub(super) const LIST_HEAD_BYTES: usize = 1 + 10;

/// Bytes of a message in a batch.
pub(super) fn batched_len(message: &Message<'_>) -> usize {
    let len = message_len(message, &TypeId::new(message.type_id));
    1 + varint_len(len as u64) + len
}

/// Appends a message as it stands in a batch.
pub(super) fn put_batched(out: &mut Vec<u8>, message: &Message<'_>) {
    put_before_text(out, message);
    out.extend_from_slice(&message.text);
    put_after_text(out, message);
}

/// What stands before the text of a message in a batch.
pub(super) fn put_before_text(out: &mut Vec<u8>, message: &Message<'_>) {
    out.push(Tag::bytes(3).0);
    put_varint(
        out,
        message_len(message, &TypeId::new(message.type_id)) as u64,
    );
    out.push(Tag::fixed64(2).0);
    // A time before 1970 keeps its two's complement, as in the vendor's classes.
    out.extend_from_slice(&message.ts.to_le_bytes());
    out.push(Tag::fixed32(3).0);
    out.extend_from_slice(&PRIORITY.to_le_bytes());
    put_bytes(out, Tag::bytes(4), PROG_NAME.as_bytes());
    out.push(Tag::bytes(6).0);
    put_varint(out, message.text.len() as u64);
}

/// What stands behind it.
pub(super) fn put_after_text(out: &mut Vec<u8>, message: &Message<'_>) {
    put_bytes(out, Tag::bytes(7), MESSAGE_TYPE.as_bytes());
    if let Some(type_id) = TypeId::new(message.type_id).as_bytes() {
        put_bytes(out, Tag::bytes(8), type_id);
    }
    if let Some(micros) = message.ts_us {
        out.push(Tag::fixed32(9).0);
        out.extend_from_slice(&micros.to_le_bytes());
    }
}

fn message_len(message: &Message<'_>, type_id: &TypeId) -> usize {
    let fixed = 9 + 5 + bytes_len(PROG_NAME.as_bytes()) + bytes_len(MESSAGE_TYPE.as_bytes());
    fixed
        + bytes_len(&message.text)
        + type_id.as_bytes().map_or(0, bytes_len)
        + message.ts_us.map_or(0, |_| 5)
}

/// A record type as decimal text, without an allocation for each record.
struct TypeId {
    digits: [u8; 20],
    start: usize,
    is_some: bool,
}

impl TypeId {
    fn new(value: Option<i64>) -> Self {
        let mut text = Self {
            digits: [0; 20],
            start: 20,
            is_some: value.is_some(),
        };
        let Some(value) = value else { return text };
        let mut rest = value.unsigned_abs();
        loop {
            text.push_front(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            text.push_front(b'-');
        }
        text
    }

    /// 20 characters are enough: `i64::MIN` has 19 digits and a sign.
    fn push_front(&mut self, character: u8) {
        self.start -= 1;
        self.digits[self.start] = character;
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.is_some.then(|| &self.digits[self.start..])
    }
}
