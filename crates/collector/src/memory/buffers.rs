//! Buffers that are not in use, kept for the next text or body. To ask the system for half a MiB of zeros and to give it
//! back takes as long as decoding some of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::UNIT_BYTES;

/// From this size on, buffers are kept. Smaller ones the allocator keeps by itself.
const KEPT_FROM_BYTES: usize = 32 * 1024;
/// Longer ones are not: what they are for is rare.
const KEPT_UP_TO_BYTES: usize = 1024 * 1024;
/// For all of them. With more, next to nothing is asked of the system, and a busy process holds some MiB more.
const MAX_KEPT_BYTES: usize = 5 * 1024 * 1024;

/// How long a buffer for `bytes` is: a quarter longer at most, so that few sizes serve all.
pub(super) fn size_for(bytes: usize) -> usize {
    if bytes < KEPT_FROM_BYTES {
        return bytes;
    }
    let step = bytes.checked_next_power_of_two().unwrap_or(bytes) / 8;
    bytes.next_multiple_of(step)
}

/// What is kept, filled with whatever was in it last. What was given back first goes first.
///
/// All of it together is no more than the room that nobody holds either, so that with what is in use it is no more than
/// there may be in use.
#[derive(Debug)]
pub(super) struct Buffers {
    stores: [Arc<Semaphore>; 2],
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Of those who hold room in these stores.
    pub(super) fn of(stores: [Arc<Semaphore>; 2]) -> Self {
        Self {
            stores,
            kept: Mutex::default(),
        }
    }

    /// A buffer of [`size_for`] these bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let size = size_for(bytes);
        if size < KEPT_FROM_BYTES {
            return vec![0; size];
        }
        let mut kept = self.lock();
        let found = kept.buffers.iter().rposition(|kept| kept.len() == size);
        if let Some(buffer) = found.and_then(|at| kept.buffers.remove(at)) {
            kept.bytes -= size;
            return buffer;
        }
        // What is of other sizes makes room for it.
        let outdated = self.outdated(&mut kept);
        drop(kept);
        drop(outdated);
        vec![0; size]
    }

    /// Keeps a buffer, when it is one of ours.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if !(KEPT_FROM_BYTES..=KEPT_UP_TO_BYTES).contains(&size) || size != size_for(size) {
            return;
        }
        buffer.resize(size, 0);
        let mut kept = self.lock();
        kept.bytes += size;
        kept.buffers.push_back(buffer);
        let outdated = self.outdated(&mut kept);
        // Given back to the system while nobody waits here.
        drop(kept);
        drop(outdated);
    }

    fn outdated(&self, kept: &mut Kept) -> Vec<Vec<u8>> {
        let free_units: usize = self
            .stores
            .iter()
            .map(|store| store.available_permits())
            .sum();
        let mut outdated = Vec::new();
        let most_bytes = MAX_KEPT_BYTES.min(free_units * UNIT_BYTES);
        while kept.bytes > most_bytes
            && let Some(oldest) = kept.buffers.pop_front()
        {
            kept.bytes -= oldest.len();
            outdated.push(oldest);
        }
        outdated
    }

    /// Gives all of them back to the system.
    pub(super) fn clear(&self) {
        let kept = std::mem::take(&mut *self.lock());
        drop(kept);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().buffers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing is left half done in the list by whoever panics.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_at_most_a_quarter_longer_than_asked_for() {
        for bytes in (0..3_000_000).step_by(997) {
            let size = size_for(bytes);
            assert!(
                bytes <= size && size <= bytes + bytes / 4,
                "{size} for {bytes}"
            );
            assert_eq!(size_for(size), size, "a size is its own");
        }
        for power in 9..24 {
            assert_eq!(size_for(1 << power), 1 << power);
        }
    }

    #[test]
    fn what_is_kept_is_used_again_and_is_bounded() {
        let store = Arc::new(Semaphore::new(4096));
        let buffers = Buffers::of([Arc::clone(&store), Arc::new(Semaphore::new(0))]);
        let buffer = buffers.take(300_000);
        let at = buffer.as_ptr();
        buffers.keep(buffer);
        let again = buffers.take(310_000);
        assert_eq!(again.as_ptr(), at, "it is of the same size");
        buffers.keep(vec![0; 300_000]);
        buffers.keep(vec![0; 1_000]);
        assert_eq!(buffers.count(), 0, "no sizes of ours");
        for _ in 0..100 {
            buffers.keep(vec![0; 512 * 1024]);
        }
        assert_eq!(buffers.count(), 8, "as many as there is room for");
        buffers.keep(vec![0; 64 * 1024]);
        assert_eq!(buffers.count(), 8, "the oldest made room");
        let held = store.try_acquire_many(2048).unwrap();
        drop(buffers.take(40_000));
        assert_eq!(buffers.count(), 4, "the room is held by others");
        drop(held);
        buffers.clear();
        assert_eq!(buffers.count(), 0);
    }
}
