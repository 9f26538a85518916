//! Payloads' bodies in buffers that are used again: fresh memory from the system costs more than filling it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use deflate::Finished;

/// Buffers that are kept for later at most.
const MAX_KEPT: usize = 2;

/// Buffers that no body is in.
#[derive(Debug, Default)]
pub(super) struct Bodies(Mutex<Vec<Vec<u8>>>);

impl Bodies {
    /// An empty buffer, with room for so many bytes if it is a new one.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let kept = self.lock().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// A stream as a body, and the memory that it holds. It stays where it was written when it fills most of that.
    pub(super) fn body(self: &Arc<Self>, stream: Finished) -> (Bytes, usize) {
        let (len, held_bytes) = (stream.stream().len(), stream.bytes.capacity());
        if len < held_bytes / 2 {
            let body = Bytes::copy_from_slice(stream.stream());
            self.keep(stream.bytes);
            return (body, len);
        }
        let body = Body {
            stream,
            home: Arc::clone(self),
        };
        (Bytes::from_owner(body), held_bytes)
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        let mut kept = self.lock();
        if kept.len() < MAX_KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing is left half done in the list by whoever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body, until nobody needs it any more.
struct Body {
    stream: Finished,
    home: Arc<Bodies>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.stream.stream()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.home.keep(std::mem::take(&mut self.stream.bytes));
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
        assert!(bodies.lock().is_empty(), "a body is in it");
        drop(long);
        let mut buffer = bodies.take(100);
        assert_eq!((buffer.as_ptr(), buffer.len()), (at, 0));
        buffer.extend_from_slice(&[1, 2, 3]);
        let (short, held_bytes) = bodies.body(stream(buffer));
        assert_eq!((short.as_ref(), held_bytes), ([2, 3].as_slice(), 2));
        let again = bodies.take(100);
        assert_eq!(again.as_ptr(), at);
        for buffer in [10, 20, 30] {
            bodies.keep(Vec::with_capacity(buffer));
        }
        assert_eq!(bodies.lock().len(), MAX_KEPT);
    }
}
