//! Where a blob's text comes from, piece by piece: a reply's body, inflated on the way, or bytes that are there already.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use decode::inflate::{Damaged, Inflater, claimed_bytes, inflate_whole};

use super::Error;
use crate::http::Body;
use crate::memory::{BodyRoom, KeptBody};
use crate::microsoft;

/// The blob's bytes, inflated on the way where they are compressed.
pub(super) struct Source {
    body: Inlet,
    /// What is at hand and not read yet.
    piece: Bytes,
    inflow: Inflow,
}

enum Inflow {
    Plain,
    /// Compressed, and so long as its head says, if it does.
    Unknown(Option<u64>),
    /// There as a whole, in the hope that it can be inflated in one go.
    Kept(KeptBody),
    // Boxed: the inflater's state is some 40 KiB, too much for a future that moves.
    Gzip(Box<Inflater>),
}

/// Where the next piece comes from: first what is here, then what a reply has.
struct Inlet {
    here: VecDeque<Bytes>,
    /// Until it has ended.
    body: Option<Body>,
}

impl Source {
    /// The body of a reply, of a length that its head may tell.
    pub(super) fn new(body: Body, is_gzip: bool, length: Option<u64>) -> Self {
        Self {
            body: Inlet {
                here: VecDeque::new(),
                body: Some(body),
            },
            piece: Bytes::new(),
            inflow: match is_gzip {
                true => Inflow::Unknown(length),
                false => Inflow::Plain,
            },
        }
    }

    /// Bytes that are there already.
    pub(super) fn stored(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            body: Inlet {
                here: pieces.into_iter().collect(),
                body: None,
            },
            piece: Bytes::new(),
            inflow: Inflow::Plain,
        }
    }

    /// Keeps a compressed body until it is there as a whole, unless it is too long for that. Then, how long its text will be,
    /// when that can be inflated in one go. `room` is the body's.
    ///
    /// # If interrupted
    /// What came is lost, and the blob must be fetched again.
    pub(super) async fn gather(
        &mut self,
        room: Option<&mut BodyRoom>,
    ) -> Result<Option<usize>, Error> {
        let (Inflow::Unknown(length), Some(room)) = (&self.inflow, room) else {
            return Ok(None);
        };
        let Some(mut kept) = room.keep(*length) else {
            self.stream([]);
            return Ok(None);
        };
        while let Some(piece) = self.body.next().await? {
            if !kept.push(&piece, room) {
                self.stream([Bytes::from_owner(kept), piece]);
                return Ok(None);
            }
        }
        let text_bytes =
            claimed_bytes(kept.as_ref()).filter(|bytes| room.memory().is_whole(*bytes));
        match text_bytes {
            Some(_) => self.inflow = Inflow::Kept(kept),
            None => self.stream([Bytes::from_owner(kept)]),
        }
        Ok(text_bytes)
    }

    /// Inflates the body that [`Source::gather`] kept into `text`, which has the length that it told. When that cannot be done
    /// in one go, false, and the body can be read as a stream.
    pub(super) fn inflate_whole(&mut self, text: &mut [u8]) -> bool {
        let Inflow::Kept(kept) = std::mem::replace(&mut self.inflow, Inflow::Plain) else {
            return false;
        };
        let is_inflated = inflate_whole(kept.as_ref(), text);
        if !is_inflated {
            self.stream([Bytes::from_owner(kept)]);
        }
        is_inflated
    }

    /// From here on it is inflated as it comes, after these pieces that came already.
    fn stream(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        self.body.here.extend(pieces);
        self.inflow = Inflow::Gzip(Box::default());
    }

    /// Some bytes of the blob's text into `room`; 0 at the end. Nothing may be kept.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> Result<usize, Error> {
        loop {
            match &mut self.inflow {
                Inflow::Gzip(inflater) => {
                    let (read, written) = inflater.inflate(&self.piece, room).map_err(damaged)?;
                    self.piece.advance(read);
                    if written > 0 {
                        return Ok(written);
                    }
                }
                _ if self.piece.is_empty() => {}
                _ => {
                    let count = self.piece.len().min(room.len());
                    room[..count].copy_from_slice(&self.piece[..count]);
                    self.piece.advance(count);
                    return Ok(count);
                }
            }
            match self.body.next().await? {
                Some(piece) => self.piece = piece,
                None => {
                    if let Inflow::Gzip(inflater) = &self.inflow {
                        inflater.finish().map_err(damaged)?;
                    }
                    return Ok(0);
                }
            }
        }
    }
}

impl Inlet {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(piece) = self.here.pop_front() {
            return Ok(Some(piece));
        }
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let piece = body.chunk().await.map_err(microsoft::Error::from)?;
        if piece.is_none() {
            // A body must not be asked again when it has ended.
            self.body = None;
        }
        Ok(piece)
    }
}

fn damaged(error: Damaged) -> Error {
    Error::Damaged {
        what: error.to_string(),
    }
}
