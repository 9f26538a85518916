//! Payloads' bodies in buffers that are used again: fresh memory from the system costs more than filling it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use deflate::Finished;

/// Buffers that are kept for later at most: those that are written to, and those of bodies that fill less.
const MAX_KEPT: usize = 2;
const MAX_KEPT_SHORT: usize = 4;
/// Shorter bodies are the allocator's.
const SHORT_FROM_BYTES: usize = 32 * 1024;

/// Buffers that no body is in.
#[derive(Debug, Default)]
pub(super) struct Bodies(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    short: Vec<Vec<u8>>,
}

impl Bodies {
    /// An empty buffer, with room for so many bytes if it is a new one.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let kept = self.lock().buffers.pop();
        kept.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// A stream as a body, and the memory that it holds. It stays where it was written when it fills most of that.
    pub(super) fn body(self: &Arc<Self>, stream: Finished) -> (Bytes, usize) {
        let (len, held_bytes) = (stream.stream().len(), stream.bytes.capacity());
        if len >= held_bytes / 2 {
            return (self.lend(stream, false), held_bytes);
        }
        if len < SHORT_FROM_BYTES {
            let body = Bytes::copy_from_slice(stream.stream());
            self.keep(stream.bytes, false);
            return (body, len);
        }
        let mut bytes = self.take_short(len);
        let held_bytes = bytes.capacity();
        bytes.extend_from_slice(stream.stream());
        self.keep(stream.bytes, false);
        (self.lend(Finished { bytes, start: 0 }, true), held_bytes)
    }

    fn lend(self: &Arc<Self>, stream: Finished, is_short: bool) -> Bytes {
        Bytes::from_owner(Body {
            stream,
            is_short,
            home: Arc::clone(self),
        })
    }

    /// An empty buffer for so many bytes, and for not many more.
    fn take_short(&self, bytes: usize) -> Vec<u8> {
        let size = bytes.next_multiple_of(SHORT_FROM_BYTES);
        let mut kept = self.lock();
        let fitting = size..=size + size / 2;
        let found = kept
            .short
            .iter()
            .position(|buffer| fitting.contains(&buffer.capacity()));
        let found = found.map(|at| kept.short.remove(at));
        drop(kept);
        found.unwrap_or_else(|| Vec::with_capacity(size))
    }

    fn keep(&self, mut buffer: Vec<u8>, is_short: bool) {
        let mut kept = self.lock();
        buffer.clear();
        if !is_short {
            if kept.buffers.len() < MAX_KEPT {
                kept.buffers.push(buffer);
            }
            return;
        }
        // What was given back first goes first, so that it is of the sizes that there are now.
        let oldest = (kept.short.len() >= MAX_KEPT_SHORT).then(|| kept.short.remove(0));
        kept.short.push(buffer);
        drop(kept);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing is left half done in the lists by whoever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body, until nobody needs it any more.
struct Body {
    stream: Finished,
    is_short: bool,
    home: Arc<Bodies>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.stream.stream()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.stream.bytes);
        self.home.keep(bytes, self.is_short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_body_is_gone_and_a_short_body_leaves_it_at_once() {
        let bodies = Arc::new(Bodies::default());
        let stream = |bytes: Vec<u8>| Finished { bytes, start: 1 };
        let mut buffer = bodies.take(100);
        buffer.resize(80, 7);
        let at = buffer.as_ptr();
        let (long, held_bytes) = bodies.body(stream(buffer));
        assert_eq!((long.as_ref(), held_bytes), ([7; 79].as_slice(), 100));
        assert!(bodies.lock().buffers.is_empty(), "a body is in it");
        drop(long);
        let mut buffer = bodies.take(100);
        assert_eq!((buffer.as_ptr(), buffer.len()), (at, 0));
        buffer.extend_from_slice(&[1, 2, 3]);
        let (short, held_bytes) = bodies.body(stream(buffer));
        assert_eq!((short.as_ref(), held_bytes), ([2, 3].as_slice(), 2));
        let again = bodies.take(100);
        assert_eq!(again.as_ptr(), at);
        for buffer in [10, 20, 30] {
            bodies.keep(Vec::with_capacity(buffer), false);
        }
        assert_eq!(bodies.lock().buffers.len(), MAX_KEPT);
    }

    #[test]
    fn a_body_that_fills_little_of_its_buffer_lies_in_one_of_its_own_size_that_is_used_again() {
        let bodies = Arc::new(Bodies::default());
        let body = |len: usize| {
            let mut buffer = Vec::with_capacity(700_000);
            buffer.resize(len + 1, 7);
            bodies.body(Finished {
                bytes: buffer,
                start: 1,
            })
        };
        let (first, held_bytes) = body(200_000);
        assert_eq!(first.len(), 200_000);
        assert!((200_000..240_000).contains(&held_bytes), "{held_bytes}");
        let at = first.as_ptr();
        drop(first);
        let (longer, _) = body(300_000);
        assert_ne!(longer.as_ptr(), at, "it does not fit");
        let (shorter, _) = body(180_000);
        assert_eq!(shorter.as_ptr(), at);
        assert!(shorter.iter().all(|byte| *byte == 7));
        drop((longer, shorter));
        let many: Vec<_> = (0..2 * MAX_KEPT_SHORT).map(|_| body(100_000)).collect();
        drop(many);
        assert_eq!(bodies.lock().short.len(), MAX_KEPT_SHORT);
    }
}
