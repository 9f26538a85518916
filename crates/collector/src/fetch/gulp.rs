//! Bodies that are short are kept until they are there as a whole and inflated in one go, which takes a third less time than
//! inflating them as they come. All of them together are bounded: beyond that, and for long bodies, the stream is inflated.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use decode::inflate::Gulp;

/// The longest body that is kept. A blob of a thousand records has less than 200 KB.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// The longest text that is inflated in one go.
const MAX_TEXT_BYTES: usize = 2 * 1024 * 1024;
/// For all bodies that are kept and all texts at one time. Part of what [`crate::memory::Memory`] leaves to connections.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Inflaters that are kept for the next body.
const MAX_IDLE: usize = 2;

/// What is held at this moment, in the whole process: what it bounds is the process's memory.
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static IDLE: Mutex<Vec<Gulp>> = Mutex::new(Vec::new());

/// A share of [`MAX_BYTES`].
#[derive(Default)]
struct Share(usize);

impl Share {
    /// Takes `bytes` more. False when there are not that many.
    fn grow(&mut self, bytes: usize) -> bool {
        let grown = HELD_BYTES.fetch_update(Relaxed, Relaxed, |held| {
            held.checked_add(bytes).filter(|held| *held <= MAX_BYTES)
        });
        if grown.is_ok() {
            self.0 += bytes;
        }
        grown.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.0, Relaxed);
    }
}

/// The head of a body.
#[derive(Default)]
pub(super) struct Held {
    body: Vec<u8>,
    share: Share,
}

impl Held {
    /// Keeps one more piece. False, and it is not kept, when the body is too long by it.
    pub(super) fn keep(&mut self, piece: &[u8]) -> bool {
        let fits = self.body.len() + piece.len() <= MAX_BODY_BYTES && self.share.grow(piece.len());
        if fits {
            self.body.extend_from_slice(piece);
        }
        fits
    }

    /// All that was kept, and `piece`, to be inflated as a stream.
    pub(super) fn with(&mut self, piece: Bytes) -> Bytes {
        if self.body.is_empty() {
            return piece;
        }
        let mut body = std::mem::take(&mut self.body);
        body.extend_from_slice(&piece);
        body.into()
    }

    /// The text, when the body is one that can be inflated in one go.
    pub(super) fn gulp(&mut self) -> Option<Gulped> {
        let len = Gulp::claimed_bytes(&self.body).filter(|len| *len <= MAX_TEXT_BYTES)?;
        let mut share = Share::default();
        if !share.grow(len) {
            return None;
        }
        let mut gulp = idle().pop().unwrap_or_default();
        match gulp.inflate(&self.body, MAX_TEXT_BYTES) {
            Some(_) => Some(Gulped {
                gulp: Some(gulp),
                len,
                read: 0,
                _share: share,
            }),
            None => {
                give_back(gulp);
                None
            }
        }
    }
}

/// A whole text.
pub(super) struct Gulped {
    /// Until it is read.
    gulp: Option<Gulp>,
    len: usize,
    read: usize,
    _share: Share,
}

impl Gulped {
    /// The next bytes into `room`; 0 at the end.
    pub(super) fn read(&mut self, room: &mut [u8]) -> usize {
        let text = self.gulp.as_ref().map(Gulp::text).unwrap_or_default();
        let rest = text.get(self.read..self.len).unwrap_or_default();
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        count
    }
}

impl Drop for Gulped {
    fn drop(&mut self) {
        if let Some(gulp) = self.gulp.take() {
            give_back(gulp);
        }
    }
}

fn give_back(gulp: Gulp) {
    let mut idle = idle();
    if idle.len() < MAX_IDLE {
        idle.push(gulp);
    }
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Gulp>> {
    // Nothing is left half done in the list by whoever panics.
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}
