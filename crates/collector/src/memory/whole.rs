//! Texts that are inflated in one go: each has its room before it is, and becomes the text that all of its parts lie in.
//!
//! Who reads in one go waits first for room for the body, then for room for the text, and never the other way round.

use std::sync::Arc;

use super::buffers::{Place, place_for};
use super::{BESIDES_BYTES, Memory, Reader, Text, first_bytes, part_bytes, units_of};

/// The longest text, as a part of all memory. What is longer is inflated as a stream, which takes four times as long.
const TEXTS: usize = 24;

/// Units for a text.
fn units_for(text_bytes: usize) -> usize {
    units_of(place_for(text_bytes) + BESIDES_BYTES)
}

/// The rights to a part's room that this takes.
fn growing_for(text_bytes: usize) -> usize {
    units_for(text_bytes).div_ceil(units_of(part_bytes()))
}

/// The longest text that is inflated in one go, if it is longer than a part.
pub(super) fn max_text_bytes(max_bytes: usize) -> usize {
    max_bytes / TEXTS
}

impl Memory {
    /// Whether a text of `bytes` may be inflated in one go.
    pub(crate) fn is_whole(&self, bytes: usize) -> bool {
        (bytes < part_bytes() || bytes <= self.max_text_bytes)
            && growing_for(bytes) <= self.growing_count
    }
}

/// Where a text is inflated in one go. Its room is held by its reader.
#[derive(Debug)]
pub(crate) struct WholeText {
    place: Place,
    len: usize,
    memory: Memory,
}

impl WholeText {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.place.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.place.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for WholeText {
    fn drop(&mut self) {
        self.memory.buffers.leave(std::mem::take(&mut self.place));
    }
}

impl Reader {
    /// Room for a text of `bytes`, of which [`Memory::is_whole`] is true. To be asked for before anything else than a first
    /// piece.
    ///
    /// # If interrupted
    /// What is held is held on.
    pub(crate) async fn whole(&mut self, bytes: usize) -> WholeText {
        if bytes > first_bytes() || bytes >= part_bytes() {
            let growing = u32::try_from(growing_for(bytes)).unwrap_or(u32::MAX);
            let growing = Arc::clone(&self.memory.growing).acquire_many_owned(growing);
            self.growing = Some(growing.await.expect("the semaphore is never closed"));
            self.rest = Some(self.memory.acquire(units_for(bytes)).await);
        }
        WholeText {
            place: self.memory.buffers.place(bytes),
            len: bytes,
            memory: self.memory.clone(),
        }
    }

    /// The text turned out to be none that can be read in one go: all that is held for it, but for a first piece.
    pub(crate) fn give_back(&mut self, text: WholeText) {
        drop(text);
        self.rest = None;
        self.growing = None;
    }

    /// The text as its parts have it in common, with its room.
    pub(crate) fn share(self, mut text: WholeText) -> Arc<Text> {
        let place = std::mem::take(&mut text.place);
        let mut room = self.rest.unwrap_or(self.first);
        room.shrink(place.len() + BESIDES_BYTES);
        Arc::new(Text::new(place, Some(room)))
    }
}
