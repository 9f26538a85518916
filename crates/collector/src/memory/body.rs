//! Bodies that are being read, and those that are kept until they are there as a whole: in a store of their own.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::buffers::{Place, place_for};
use super::{Memory, units_of};

/// What a body takes that is inflated while it comes, at most, however long it is: what has come of it and is not inflated,
/// here and in the buffers of the connection.
const MAX_STREAMED_BYTES: usize = 512 * 1024;
/// The same of a body whose length is not known.
const UNKNOWN_BODY_BYTES: usize = 128 * 1024;
/// Of that, what is kept of it at first.
const FIRST_KEPT_BYTES: usize = 16 * 1024;
/// What a body has in the buffers of its connection, at most.
const MAX_UNDERWAY_BYTES: usize = 256 * 1024;

/// Of `max_bytes`, those for bodies.
pub(super) fn body_bytes(max_bytes: usize) -> usize {
    (max_bytes / 8).max(MAX_STREAMED_BYTES)
}

impl Memory {
    /// Room for a body that is about to be read, of a length that its head tells. Until there is any, the body waits where it
    /// is, in the sockets and at Microsoft: many may be waited for at once, and few long ones read.
    ///
    /// To be asked for before [`super::Reader::grow`], so that who waits here has nothing that those wait for who do not.
    ///
    /// # If interrupted
    /// Nothing is held.
    pub(crate) async fn body(&self, bytes: Option<u64>) -> BodyRoom {
        let bytes = match bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)) {
            // Once as it came, and once in the buffers that it came by.
            Some(bytes) if bytes <= self.max_kept_bytes => {
                place_for(bytes) + bytes.min(MAX_UNDERWAY_BYTES)
            }
            Some(_) => MAX_STREAMED_BYTES,
            None => UNKNOWN_BODY_BYTES,
        };
        let units = u32::try_from(units_of(bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bodies).acquire_many_owned(units).await;
        BodyRoom {
            permit: permit.expect("the semaphore is never closed"),
            memory: self.clone(),
        }
    }
}

/// Room for a body. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    permit: OwnedSemaphorePermit,
    memory: Memory,
}

impl BodyRoom {
    /// What keeps the body that this is the room of, of the length that the head told. Nothing for one that is too long.
    pub(crate) fn keep(&self, length: Option<u64>) -> Option<KeptBody> {
        let bytes = match length {
            Some(length) => usize::try_from(length).ok()?,
            None => FIRST_KEPT_BYTES,
        };
        (bytes <= self.memory.max_kept_bytes).then(|| KeptBody {
            place: self.memory.buffers.place(bytes),
            filled: 0,
            memory: self.memory.clone(),
        })
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether there is room to keep so many bytes, at this moment: who holds some must not wait for more.
    fn grow(&mut self, kept_bytes: usize) -> bool {
        let wanted = units_of(kept_bytes + kept_bytes.min(MAX_UNDERWAY_BYTES));
        let more = wanted.saturating_sub(self.permit.num_permits());
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.memory.bodies).try_acquire_many_owned(more);
        let is_there = more.is_ok();
        if let Ok(more) = more {
            self.permit.merge(more);
        }
        is_there
    }
}

/// A body, or the head of one.
#[derive(Debug)]
pub(crate) struct KeptBody {
    place: Place,
    filled: usize,
    memory: Memory,
}

impl KeptBody {
    /// Keeps one more piece. False, and it is not kept, when the body is too long by it, or there is no room at this moment.
    pub(crate) fn push(&mut self, piece: &[u8], room: &mut BodyRoom) -> bool {
        let wanted = self.filled + piece.len();
        if wanted > self.place.len() && !self.grow(wanted, room) {
            return false;
        }
        match self.place.get_mut(self.filled..wanted) {
            Some(room) => room.copy_from_slice(piece),
            None => return false,
        }
        self.filled = wanted;
        true
    }

    fn grow(&mut self, wanted: usize, room: &mut BodyRoom) -> bool {
        let max_bytes = self.memory.max_kept_bytes;
        if wanted > max_bytes {
            return false;
        }
        let doubled = wanted.max(2 * self.place.len()).min(max_bytes);
        if !room.grow(place_for(doubled)) {
            return false;
        }
        let buffers = &self.memory.buffers;
        let mut place = buffers.place(doubled);
        place[..self.filled].copy_from_slice(&self.place[..self.filled]);
        buffers.leave(std::mem::replace(&mut self.place, place));
        true
    }
}

impl AsRef<[u8]> for KeptBody {
    fn as_ref(&self) -> &[u8] {
        self.place.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        self.memory.buffers.leave(std::mem::take(&mut self.place));
    }
}
