//! Texts that are inflated in one go: each has its room, and that of all its parts, before it is.
//!
//! Who reads in one go waits first for room for the body, then for room for the text, then for a scratch buffer, and never
//! the other way round. Who holds a scratch buffer waits for the ledger alone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffers::size_for;
use super::{Memory, Reader, Room, first_bytes, part_bytes, units_of};

/// Texts longer than a part that are inflated at a time: one for each core of a small machine.
const SCRATCH_COUNT: usize = 2;

/// What reading in one go needs besides the room for text.
#[derive(Debug)]
pub(super) struct Wholes {
    /// The longest text, if it is longer than a part.
    max_text_bytes: usize,
    /// The rights to a part's room that there are.
    growing: usize,
    scratch: Arc<Semaphore>,
    idle_scratch: Mutex<Vec<Vec<u8>>>,
}

impl Wholes {
    /// Of `max_bytes`, a sixteenth is for texts that are cut into parts. `growing` rights to a
    /// part's room there are, of which a text takes as many as it has parts.
    pub(super) fn new(max_bytes: usize, growing: usize) -> Self {
        Self {
            max_text_bytes: max_bytes / 16 / SCRATCH_COUNT,
            growing,
            scratch: Arc::new(Semaphore::new(SCRATCH_COUNT)),
            idle_scratch: Mutex::default(),
        }
    }

    /// Gives back to the system what is kept for later.
    pub(super) fn rest(&self) {
        drop(std::mem::take(&mut *self.idle()));
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing is left half done in the list by whoever panics.
        self.idle_scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Units of all parts of a text: each in a buffer of a size that fits it, and of two neighbors more than a part's worth.
fn units_for(text_bytes: usize) -> usize {
    match text_bytes < part_bytes() {
        true => units_of(size_for(text_bytes)),
        false => units_of(text_bytes + text_bytes / 4) + 2 * (text_bytes / part_bytes()) + 2,
    }
}

/// The rights to a part's room that this takes.
fn growing_for(text_bytes: usize) -> usize {
    units_for(text_bytes).div_ceil(units_of(part_bytes()))
}

impl Memory {
    /// Whether a text of `bytes` may be inflated in one go.
    pub(crate) fn is_whole(&self, bytes: usize) -> bool {
        (bytes < part_bytes() || bytes <= self.wholes.max_text_bytes)
            && growing_for(bytes) <= self.wholes.growing
    }
}

/// Where a text is inflated in one go. Its room is held by its reader.
#[derive(Debug)]
pub(crate) struct WholeText {
    buffer: Vec<u8>,
    len: usize,
    /// The right to a buffer that is cut into parts; without it the buffer becomes the part.
    scratch: Option<OwnedSemaphorePermit>,
    memory: Memory,
}

impl WholeText {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for WholeText {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        match self.scratch.take() {
            Some(_permit) => self.memory.wholes.idle().push(buffer),
            None => self.memory.buffers.keep(buffer),
        }
    }
}

impl Reader {
    /// Room for a text of `bytes`, of which [`Memory::is_whole`] is true, and for all of its parts. To be asked for before
    /// anything else than a first piece.
    ///
    /// # If interrupted
    /// What is held is held on.
    pub(crate) async fn whole(&mut self, bytes: usize) -> WholeText {
        let is_one_part = bytes < part_bytes();
        if bytes > first_bytes() || !is_one_part {
            let growing = u32::try_from(growing_for(bytes)).unwrap_or(u32::MAX);
            let growing = Arc::clone(&self.memory.growing).acquire_many_owned(growing);
            self.growing = Some(growing.await.expect("the semaphore is never closed"));
            self.rest = Some(self.memory.acquire(units_for(bytes)).await);
        }
        let (buffer, scratch) = if is_one_part {
            (self.memory.buffers.take(bytes), None)
        } else {
            let scratch = Arc::clone(&self.memory.wholes.scratch).acquire_owned();
            let scratch = scratch.await.expect("the semaphore is never closed");
            let mut buffer = self.memory.wholes.idle().pop().unwrap_or_default();
            if buffer.len() < bytes {
                buffer = vec![0; size_for(bytes)];
            }
            (buffer, Some(scratch))
        };
        WholeText {
            buffer,
            len: bytes,
            scratch,
            memory: self.memory.clone(),
        }
    }

    /// The text turned out to be none that can be read in one go: all that is held for it, but for a first piece.
    pub(crate) fn give_back(&mut self, text: WholeText) {
        drop(text);
        self.rest = None;
        self.growing = None;
    }

    /// A part of a text that was inflated in one go, copied out of it, and its room.
    pub(crate) fn part_of_whole(&mut self, part: &[u8]) -> (Vec<u8>, Room) {
        let copy = self.memory.buffers.copy(part);
        let units = units_of(copy.capacity());
        let rest = self.rest.as_mut();
        let units = rest.and_then(|rest| rest.units.split(units.min(rest.units())));
        let room = Room {
            units: units.expect("a text's room is enough for all of its parts"),
            _oversize: None,
            buffers: Arc::clone(&self.memory.buffers),
        };
        (copy, room)
    }

    /// As [`Reader::last_part`], of the stretch of a text that was inflated in one go.
    pub(crate) fn last_part_of_whole(
        self,
        mut text: WholeText,
        part: std::ops::Range<usize>,
    ) -> (Vec<u8>, Room) {
        let is_all = text.scratch.is_none() && part.start == 0;
        let mut part = if is_all && !is_wasteful(&text.buffer, part.len()) {
            let mut buffer = std::mem::take(&mut text.buffer);
            buffer.truncate(part.end);
            buffer
        } else {
            self.memory
                .buffers
                .copy(text.bytes().get(part).unwrap_or_default())
        };
        drop(text);
        let room = self.last_part(&mut part);
        (part, room)
    }
}

/// Whether a buffer of another size would do for so many bytes.
pub(super) fn is_wasteful(buffer: &Vec<u8>, bytes: usize) -> bool {
    // One byte more was asked for where a full buffer would say that it does not suffice.
    buffer.capacity() > size_for(bytes + 1)
}
