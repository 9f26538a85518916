//! Buffers that are not in use, kept for the next text or body. To ask the system for half a MiB of zeros and to give it
//! back takes as long as decoding some of it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::Semaphore;

use super::UNIT_BYTES;
use super::slabs::{self, Slabs};

/// From this size on, buffers are kept. Smaller ones the allocator keeps by itself.
const KEPT_FROM_BYTES: usize = 8 * 1024;

/// How long a buffer for `bytes` is: a quarter longer at most, so that few sizes serve all.
pub(super) fn size_for(bytes: usize) -> usize {
    if bytes < KEPT_FROM_BYTES {
        return bytes;
    }
    let step = bytes.checked_next_power_of_two().unwrap_or(bytes) / 8;
    bytes.next_multiple_of(step)
}

/// From this length on a text lies in a slab. What is shorter the allocator has at hand.
const IN_SLAB_FROM_BYTES: usize = 64 * 1024;

/// Slabs at most: for most of the text and the bodies that there may be. Where much lies in slabs, holes do, too.
const MAX_SLABS: usize = 6;

/// How much memory is taken by a text or a body of `bytes`.
pub(super) fn place_for(bytes: usize) -> usize {
    match bytes < IN_SLAB_FROM_BYTES {
        true => size_for(bytes),
        false => slabs::size_for(bytes),
    }
}

/// Where a text or a body lies.
#[derive(Debug)]
pub(super) enum Place {
    /// In a buffer of its own.
    Alone(Vec<u8>),
    /// Beside others.
    InSlab(BytesMut),
}

impl Default for Place {
    fn default() -> Self {
        Self::Alone(Vec::new())
    }
}

impl Deref for Place {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Alone(buffer) => buffer,
            Self::InSlab(stretch) => stretch,
        }
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Alone(buffer) => buffer,
            Self::InSlab(stretch) => stretch,
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest buffer. What is longer is for something rare.
    longest_bytes: usize,
    /// For all of them. With more, next to nothing is asked of the system, and a busy process holds some MiB more.
    most_bytes: usize,
    /// What is kept of it though others hold the room: a batch's worth. Its buffers are given back before their room is, and
    /// who waits for that room takes them up. Without this a busy process would ask the system for all of its memory over
    /// and over.
    at_hand_bytes: usize,
    /// The length of a slab.
    slab_bytes: usize,
}

impl Bounds {
    /// Where there are `max_bytes` for all that is in flight, and texts of up to `max_text_bytes` are read in one go.
    pub(super) fn of(max_bytes: usize, max_text_bytes: usize) -> Self {
        Self {
            longest_bytes: size_for(max_text_bytes),
            most_bytes: max_bytes / 64 * 5,
            at_hand_bytes: max_bytes / 16,
            slab_bytes: max_bytes / 16,
        }
    }
}

/// What is kept, filled with whatever was in it last. What was given back first goes first.
///
/// All of it together is no more than the room that nobody holds either, so that with what is in use it is no more than
/// there may be in use: but for what is at hand, of which whoever asks for a size that is not among them has as much go.
#[derive(Debug)]
pub(super) struct Buffers {
    stores: [Arc<Semaphore>; 2],
    bounds: Bounds,
    kept: Mutex<Kept>,
    slabs: Slabs,
}

#[derive(Debug, Default)]
struct Kept {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Of those who hold room in these stores.
    pub(super) fn of(stores: [Arc<Semaphore>; 2], bounds: Bounds) -> Self {
        Self {
            stores,
            bounds,
            kept: Mutex::default(),
            slabs: Slabs::new(bounds.slab_bytes, MAX_SLABS),
        }
    }

    /// A buffer of [`size_for`] these bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let size = size_for(bytes);
        match self.find(size) {
            Some(mut buffer) => {
                buffer.resize(size, 0);
                buffer
            }
            None => {
                if size >= IN_SLAB_FROM_BYTES {
                    // What lies there unused is memory, too.
                    self.slabs.trim();
                }
                vec![0; size]
            }
        }
    }

    /// Where a text or a body of so many bytes can lie: [`place_for`] them. In it is whatever was there before.
    pub(super) fn place(&self, bytes: usize) -> Place {
        match bytes < IN_SLAB_FROM_BYTES {
            true => Place::Alone(self.take(bytes)),
            false => Place::InSlab(self.slabs.take(bytes)),
        }
    }

    /// Takes a place back.
    pub(super) fn leave(&self, place: Place) {
        match place {
            Place::Alone(buffer) => self.keep(buffer),
            Place::InSlab(stretch) => self.slabs.give(stretch),
        }
    }

    /// These bytes in a buffer of the size that fits them.
    pub(super) fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let size = size_for(bytes.len());
        // Nothing need be in it, so nobody writes zeros first.
        let mut buffer = match self.find(size) {
            Some(mut buffer) => {
                buffer.clear();
                buffer
            }
            None => Vec::with_capacity(size),
        };
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// One that is kept, of this size.
    fn find(&self, size: usize) -> Option<Vec<u8>> {
        if size < KEPT_FROM_BYTES {
            return None;
        }
        let mut kept = self.lock();
        let found = kept
            .buffers
            .iter()
            .rposition(|kept| kept.capacity() == size);
        let found = found.and_then(|at| kept.buffers.remove(at));
        let outdated = match &found {
            Some(_) => {
                kept.bytes -= size;
                Vec::new()
            }
            // What is of other sizes makes room for it.
            None => {
                let besides = self.bounds.at_hand_bytes.saturating_sub(size);
                self.outdated(&mut kept, besides)
            }
        };
        drop(kept);
        drop(outdated);
        found
    }

    /// Keeps a buffer, when it is one of ours.
    pub(super) fn keep(&self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        let kept_sizes = KEPT_FROM_BYTES..=self.bounds.longest_bytes;
        if !kept_sizes.contains(&size) || size != size_for(size) {
            return;
        }
        let mut kept = self.lock();
        kept.bytes += size;
        kept.buffers.push_back(buffer);
        let outdated = self.outdated(&mut kept, self.bounds.at_hand_bytes);
        // Given back to the system while nobody waits here.
        drop(kept);
        drop(outdated);
    }

    /// What is more than the room that nobody holds, and so many bytes besides.
    fn outdated(&self, kept: &mut Kept, besides: usize) -> Vec<Vec<u8>> {
        let free_units: usize = self
            .stores
            .iter()
            .map(|store| store.available_permits())
            .sum();
        let mut outdated = Vec::new();
        let most_bytes = self
            .bounds
            .most_bytes
            .min(free_units * UNIT_BYTES + besides);
        while kept.bytes > most_bytes
            && let Some(oldest) = kept.buffers.pop_front()
        {
            kept.bytes -= oldest.capacity();
            outdated.push(oldest);
        }
        outdated
    }

    /// Gives all of them back to the system.
    pub(super) fn clear(&self) {
        let kept = std::mem::take(&mut *self.lock());
        drop(kept);
        self.slabs.trim();
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
        let buffers = Buffers::of(
            [Arc::clone(&store), Arc::new(Semaphore::new(0))],
            Bounds::of(64 << 20, 1 << 20),
        );
        let buffer = buffers.take(300_000);
        let at = buffer.as_ptr();
        buffers.keep(buffer);
        let again = buffers.take(310_000);
        assert_eq!(again.as_ptr(), at, "it is of the same size");
        buffers.keep(again);
        assert_eq!(buffers.count(), 1);
        drop(buffers.take(300_000));
        buffers.keep(vec![0; 300_000]);
        buffers.keep(vec![0; 1_000]);
        assert_eq!(buffers.count(), 0, "no sizes of ours");
        for _ in 0..100 {
            buffers.keep(vec![0; 512 * 1024]);
        }
        assert_eq!(buffers.count(), 10, "as many as are kept at most");
        buffers.keep(vec![0; 64 * 1024]);
        assert_eq!(buffers.count(), 10, "the oldest made room");
        let held = store.try_acquire_many(4096).unwrap();
        drop(buffers.take(700_000));
        assert_eq!(
            buffers.count(),
            7,
            "others hold the room, and one of another size is taken"
        );
        drop(held);
        buffers.clear();
        assert_eq!(buffers.count(), 0);
    }
}
