//! A text in memory, for as long as somebody needs some of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Room;
use super::buffers::Place;

/// Bytes that parts lie in, and the room they take. The last who lets go of it gives the buffer back, and then the room.
#[derive(Debug)]
pub struct Text {
    id: u64,
    place: Place,
    room: Option<Room>,
}

impl Text {
    /// What lies there, and what holds room for it; nothing where memory is not bounded.
    pub(super) fn new(place: Place, room: Option<Room>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            place,
            room,
        }
    }

    /// These bytes, in a buffer of their own.
    pub(crate) fn alone(bytes: Vec<u8>, room: Option<Room>) -> Self {
        Self::new(Place::Alone(bytes), room)
    }

    /// What it is told from all others by, those too that are gone.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.place
    }

    /// Bytes of memory that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.room.as_ref().map_or(self.place.len(), Room::bytes)
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.buffers.leave(std::mem::take(&mut self.place));
        }
    }
}
