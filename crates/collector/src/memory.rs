//! The bound on memory: blobs' text in flight is counted here before it is read, and given back when the last sink
//! lets go of it. When it is used up, fetching waits, the socket fills, and Microsoft's end of the connection waits too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// [`decode::PART_BYTES`], save in a simulation, whose parts hold a few records each.
pub(crate) fn part_bytes() -> usize {
    #[cfg(test)]
    if let Some(bytes) = crate::simulation::part_bytes() {
        return bytes;
    }
    decode::PART_BYTES
}

/// A permit stands for this many bytes.
const UNIT_BYTES: usize = 1024;

/// The memory that all blobs in flight share.
#[derive(Debug, Clone)]
pub struct Memory {
    units: Arc<Semaphore>,
    total_units: usize,
    /// One record larger than a part at a time, on top of the rest: if such records came out of the same store,
    /// two of them could each hold half of what the other waits for.
    oversize: Arc<Semaphore>,
}

impl Memory {
    /// A store of a third of `max_bytes`; the rest is for what the sinks make of the records (their encoded and
    /// compressed forms), for buffers of connections and for the ledger.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let total_units = (max_bytes / 3 / UNIT_BYTES).max(4 * part_bytes() / UNIT_BYTES);
        Self {
            units: Arc::new(Semaphore::new(total_units)),
            total_units,
            oversize: Arc::new(Semaphore::new(1)),
        }
    }

    /// How many blobs may be read at once, wanting `max_concurrent`. Each holds a part's worth while it waits for
    /// another, so at most half of the store may be held that way, or all of them could wait for each other.
    #[must_use]
    pub fn concurrent_reads(&self, max_concurrent: usize) -> usize {
        max_concurrent
            .min(self.total_units / 2 / (part_bytes() / UNIT_BYTES))
            .max(1)
    }

    /// Room for one part's buffer.
    ///
    /// # If interrupted
    /// Nothing is held.
    pub async fn part(&self) -> Room {
        let units = u32::try_from(part_bytes() / UNIT_BYTES).expect("a part is far under 4 TiB");
        let units = Arc::clone(&self.units)
            .acquire_many_owned(units)
            .await
            .expect("the semaphore is never closed");
        Room {
            units,
            oversize: None,
        }
    }

    /// Lets the buffer in `room` grow past a part's size.
    ///
    /// # If interrupted
    /// `room` is as it was.
    pub async fn oversize(&self, room: &mut Room) {
        if room.oversize.is_none() {
            let permit = Arc::clone(&self.oversize)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            room.oversize = Some(permit);
        }
    }

    /// What each of `sink_count` sinks may have under way at once: together half of the store. Were it more, sinks that
    /// hang could hold so much that there is no room to read for the others.
    #[must_use]
    pub fn share(&self, sink_count: usize) -> usize {
        self.total_units / 2 / sink_count.max(1) * UNIT_BYTES
    }

    /// Bytes of text that may be held, one oversized record not counted.
    #[cfg(test)]
    pub(crate) fn total_bytes(&self) -> usize {
        self.total_units * UNIT_BYTES
    }

    /// Bytes held at this moment.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        (self.total_units - self.units.available_permits().min(self.total_units)) * UNIT_BYTES
    }
}

/// A part's worth of the store. Dropping it gives it back.
#[derive(Debug)]
pub struct Room {
    units: OwnedSemaphorePermit,
    oversize: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Gives back what a part of `bytes` does not need.
    pub fn shrink(&mut self, bytes: usize) {
        let needed = bytes.div_ceil(UNIT_BYTES).max(1);
        if let Some(surplus) = self.units.num_permits().checked_sub(needed) {
            drop(self.units.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decode::PART_BYTES;

    #[tokio::test]
    async fn a_small_part_gives_back_what_it_does_not_need() {
        let memory = Memory::new(8 * 1024 * 1024);
        let mut room = memory.part().await;
        assert_eq!(memory.held_bytes(), PART_BYTES);
        room.shrink(1_500);
        assert_eq!(memory.held_bytes(), 2 * UNIT_BYTES);
        drop(room);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn readers_never_hold_more_than_half() {
        assert_eq!(Memory::new(64 * 1024 * 1024).concurrent_reads(16), 16);
        assert_eq!(Memory::new(64 * 1024 * 1024).concurrent_reads(1_000), 21);
        assert_eq!(Memory::new(0).concurrent_reads(16), 2);
    }
}
