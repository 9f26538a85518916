//! The bound on memory. What is in flight is counted here before it exists: a blob's text before it is read, what a sink
//! makes of it before it is made. When there is no room, fetching waits, the socket fills, and Microsoft's end of the
//! connection waits too.
//!
//! Nobody waits in a circle. Text is read by *readers* and let go of by *sinks*. All that readers hold fits one part of the
//! store and all that sinks have under way fits the rest, so what a reader waits for is held by batches that wait for no
//! reader. Parts of a text that was inflated in one go lie in it together: all of it counts until the last of them is let go of,
//! for the store and for the sink that has it under way. A reader that holds a first piece may wait to become one of those that read whole parts, or whole texts, which
//! count as so many parts at once; these wait for nobody with a first piece. What sinks encode comes out of a store of its own, which belongs to one sink alone.

mod body;
mod buffers;
mod slabs;
mod text;
mod whole;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::body::body_bytes;
pub(crate) use self::body::{BodyRoom, KeptBody};
use self::buffers::{Bounds, Buffers, size_for};
pub use self::text::Text;
pub(crate) use self::whole::WholeText;
use self::whole::max_text_bytes;

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
/// What a blob in flight takes besides its text: its lease, its address, its state at each sink.
const BESIDES_BYTES: usize = 2 * 1024;
/// What a reader takes besides its text while it waits for Microsoft: a connection with its buffers, TLS, the inflater.
const CONNECTION_BYTES: usize = 64 * 1024;
/// The memory that all blobs in flight share.
#[derive(Debug, Clone)]
pub struct Memory {
    text: Arc<Semaphore>,
    text_units: usize,
    /// Of these, what sinks may have under way.
    sinks_units: usize,
    /// Those who read more than a first piece, each up to a part.
    growing: Arc<Semaphore>,
    growing_count: usize,
    /// One record larger than a part at a time, on top of the rest: if such records came out of the same store,
    /// two of them could each hold half of what the other waits for.
    oversize: Arc<Semaphore>,
    /// Bodies that are being read.
    bodies: Arc<Semaphore>,
    /// The longest body that is kept until it is there as a whole.
    max_kept_bytes: usize,
    max_readers: usize,
    encoded_bytes: usize,
    /// The longest text that is inflated in one go, if it is longer than a part.
    max_text_bytes: usize,
    buffers: Arc<Buffers>,
}

impl Memory {
    /// Of 64 parts of `max_bytes`, five are for text that is read, ten for text on its way to sinks, eight for the connections
    /// of those who read, eight for the bodies that come by them, and a sixth of all is for what sinks make of the text. The rest is for the program itself: its code, the ledger's cache, what lies unused in slabs and at the
    /// allocator's.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let part_units = units_of(part_bytes());
        let readers_units = (max_bytes / 64 * 5 / UNIT_BYTES).max(2 * part_units);
        // More of it for sinks: one that keeps text until it has arrived takes as much at a time as may be under way to it.
        let sinks_units = (max_bytes / 64 * 10 / UNIT_BYTES).max(2 * part_units);
        let text_units = readers_units + sinks_units;
        // Of what is the readers', a fifth for those with a first piece and the rest for those with a part.
        let growing_count = (readers_units / 5 * 4 / part_units).max(1);
        let first_pieces = (readers_units - growing_count * part_units) / units_of(first_bytes());
        let text = Arc::new(Semaphore::new(text_units));
        let bodies = Arc::new(Semaphore::new(units_of(body_bytes(max_bytes))));
        let stores = [Arc::clone(&text), Arc::clone(&bodies)];
        let max_text_bytes = max_text_bytes(max_bytes);
        let kept = Bounds::of(max_bytes, max_text_bytes.max(part_bytes()));
        Self {
            text,
            text_units,
            sinks_units,
            growing: Arc::new(Semaphore::new(growing_count)),
            growing_count,
            oversize: Arc::new(Semaphore::new(1)),
            bodies,
            max_kept_bytes: body_bytes(max_bytes) / 8,
            max_readers: first_pieces.min(max_bytes / 8 / CONNECTION_BYTES).max(2),
            encoded_bytes: max_bytes / 6,
            max_text_bytes,
            buffers: Arc::new(Buffers::of(stores, kept)),
        }
    }

    /// How many blobs may be read at once, wanting `max_concurrent`.
    #[must_use]
    pub fn concurrent_reads(&self, max_concurrent: usize) -> usize {
        max_concurrent.min(self.max_readers).max(1)
    }

    /// Room for the first piece of a blob. There must be no more readers than [`Memory::concurrent_reads`] tells.
    ///
    /// # If interrupted
    /// Nothing is held.
    pub(crate) async fn reader(&self) -> Reader {
        Reader {
            memory: self.clone(),
            first: self.acquire(units_of(first_bytes())).await,
            rest: None,
            growing: None,
            oversize: None,
        }
    }

    async fn acquire(&self, units: usize) -> Room {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let units = Arc::clone(&self.text).acquire_many_owned(units);
        Room {
            units: units.await.expect("the semaphore is never closed"),
            _oversize: None,
            buffers: Arc::clone(&self.buffers),
        }
    }

    /// Nothing is in flight, and nothing will be for a while: what is kept for later goes back to the system.
    pub(crate) fn rest(&self) {
        self.buffers.clear();
    }

    /// What each of `sink_count` sinks may have under way at once: together their part of the store. Were it more, sinks that
    /// hang could hold so much that there is no room to read for the others.
    #[must_use]
    pub fn share(&self, sink_count: usize) -> usize {
        self.sinks_units / sink_count.max(1) * UNIT_BYTES
    }

    /// What one of `sink_count` sinks may make of the text at once. It is that sink's alone: one that hangs keeps nothing
    /// from the others.
    #[must_use]
    pub(crate) fn encoding(&self, sink_count: usize) -> Encoding {
        let bytes = (self.encoded_bytes / sink_count.max(1)).max(part_bytes());
        Encoding {
            units: Arc::new(Semaphore::new(units_of(bytes))),
            total_units: units_of(bytes),
            oversize: Arc::new(Semaphore::new(1)),
        }
    }

    /// Bytes of text that may be held, one oversized record not counted.
    #[cfg(test)]
    pub(crate) fn total_bytes(&self) -> usize {
        self.text_units * UNIT_BYTES
    }

    /// Bytes held at this moment.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        (self.text_units - self.text.available_permits().min(self.text_units)) * UNIT_BYTES
    }
}

fn first_bytes() -> usize {
    decode::first_bytes(part_bytes())
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES).max(1)
}

/// Whoever reads a blob, and what is held for its buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    memory: Memory,
    /// Held to the end of the blob, also while the buffer is a larger one: in it begins what follows a part.
    first: Room,
    /// What holds the buffer, when it is larger than a first piece.
    rest: Option<Room>,
    /// The right to that.
    growing: Option<OwnedSemaphorePermit>,
    /// The right to be longer than a part, which leaves with the piece that is.
    oversize: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Lets the buffer grow to `bytes`.
    ///
    /// # If interrupted
    /// What is held is held on, and may be more than before.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        if bytes <= first_bytes() {
            return;
        }
        if self.growing.is_none() {
            let growing = Arc::clone(&self.memory.growing).acquire_owned();
            self.growing = Some(growing.await.expect("the semaphore is never closed"));
        }
        let wanted = units_of(size_for(bytes.min(part_bytes())));
        let held = self.rest.as_ref().map_or(0, Room::units);
        if wanted > held {
            let more = self.memory.acquire(wanted - held).await;
            match &mut self.rest {
                Some(rest) => rest.units.merge(more.units),
                None => self.rest = Some(more),
            }
        }
        if bytes > part_bytes() {
            self.oversize().await;
        }
    }

    /// Lets one piece of text be longer than a part.
    ///
    /// # If interrupted
    /// Nothing is held that was not before.
    pub(crate) async fn oversize(&mut self) {
        if self.oversize.is_none() {
            let permit = Arc::clone(&self.memory.oversize).acquire_owned();
            self.oversize = Some(permit.await.expect("the semaphore is never closed"));
        }
    }

    /// The room of the buffer, which leaves as a part of `part_bytes`; the blob goes on in a buffer of `buffer_bytes`.
    pub(crate) fn part(&mut self, part_bytes: usize, buffer_bytes: usize) -> Room {
        let mut room = self.rest.take().expect("a first piece is no whole part");
        if buffer_bytes > first_bytes() {
            let divided = room.units().saturating_sub(units_of(part_bytes));
            self.rest = room.units.split(divided).map(|units| Room {
                units,
                _oversize: None,
                buffers: Arc::clone(&room.buffers),
            });
        } else {
            // Blobs of many parts take turns with the others, part by part.
            self.growing = None;
        }
        room._oversize = self.oversize.take();
        room
    }

    /// A buffer of at least so many bytes, up to a part's size. To be asked for once [`Reader::grow`] has the room for it.
    pub(crate) fn buffer(&self, bytes: usize) -> Vec<u8> {
        self.memory.buffers.take(bytes)
    }

    /// A buffer that nobody needs any more.
    pub(crate) fn recycle(&self, buffer: Vec<u8>) {
        self.memory.buffers.keep(buffer);
    }

    /// The text of the last part, and its room: it waits for its batch, and holds no more than it needs until then.
    ///
    /// Copied out of its buffer when that is too large for it, for others to use whole: one that is cut short where it lies
    /// leaves a hole that fits nothing.
    pub(crate) fn last_part(self, text: &mut Vec<u8>) -> Room {
        if text.len() > part_bytes() {
            // Nobody else can use that one, and there must not be two of it.
            text.shrink_to_fit();
        } else if is_wasteful(text, text.len()) {
            let fitting = self.memory.buffers.copy(text);
            self.memory.buffers.keep(std::mem::replace(text, fitting));
        }
        let mut room = self.rest.unwrap_or(self.first);
        room.shrink(text.capacity() + BESIDES_BYTES);
        room._oversize = self.oversize;
        room
    }
}

/// Whether a buffer of another size would do for so many bytes.
fn is_wasteful(buffer: &Vec<u8>, bytes: usize) -> bool {
    // One byte more was asked for where a full buffer would say that it does not suffice.
    buffer.capacity() > size_for(bytes + 1)
}

/// Room for text. Dropping it gives it back.
#[derive(Debug)]
pub struct Room {
    units: OwnedSemaphorePermit,
    _oversize: Option<OwnedSemaphorePermit>,
    buffers: Arc<Buffers>,
}

impl Room {
    fn units(&self) -> usize {
        self.units.num_permits()
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.units() * UNIT_BYTES
    }

    /// Gives back what `bytes` do not need.
    fn shrink(&mut self, bytes: usize) {
        if let Some(surplus) = self.units().checked_sub(units_of(bytes)) {
            drop(self.units.split(surplus));
        }
    }
}

/// Where one sink counts what it makes of the text.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    units: Arc<Semaphore>,
    total_units: usize,
    /// Whatever would not leave room for anything else: one at a time, on top of the rest.
    oversize: Arc<Semaphore>,
}

impl Encoding {
    /// Room for `bytes`. Whoever waits here must hold no other room of the same sink.
    ///
    /// # If interrupted
    /// Nothing is held.
    pub(crate) async fn reserve(&self, bytes: usize) -> Encoded {
        let units = units_of(bytes);
        let is_oversize = units > self.total_units;
        let (store, permits) = match is_oversize {
            true => (&self.oversize, 1),
            false => (&self.units, u32::try_from(units).unwrap_or(u32::MAX)),
        };
        let permit = Arc::clone(store).acquire_many_owned(permits).await;
        Encoded {
            units: permit.expect("the semaphore is never closed"),
            is_oversize,
        }
    }
}

/// Room for what a sink makes of the text. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Encoded {
    units: OwnedSemaphorePermit,
    is_oversize: bool,
}

impl Encoded {
    /// Gives back what `bytes` do not need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if self.is_oversize {
            return;
        }
        if let Some(surplus) = self.units.num_permits().checked_sub(units_of(bytes)) {
            drop(self.units.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests;
