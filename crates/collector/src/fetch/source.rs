//! Where a blob's text comes from, piece by piece: a reply's body, inflated on the way, or bytes that are there already.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use decode::inflate::{Damaged, Inflater};

use super::Error;
use super::gulp::{Gulped, Held};
use crate::http::Body;
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
    /// Kept as it comes, in the hope that it ends soon.
    Kept(Held),
    // Boxed: the inflater's state is some 40 KiB, too much for a future that moves.
    Gzip(Box<Inflater>),
    /// All of it inflated.
    Text(Gulped),
}

/// Where the next piece comes from.
enum Inlet {
    Network(Body),
    Stored(VecDeque<Bytes>),
}

impl Source {
    /// The body of a reply.
    pub(super) fn new(body: Body, is_gzip: bool) -> Self {
        Self {
            body: Inlet::Network(body),
            piece: Bytes::new(),
            inflow: match is_gzip {
                true => Inflow::Kept(Held::default()),
                false => Inflow::Plain,
            },
        }
    }

    /// Bytes that are there already.
    pub(super) fn stored(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            body: Inlet::Stored(pieces.into_iter().collect()),
            piece: Bytes::new(),
            inflow: Inflow::Plain,
        }
    }

    /// Some bytes of the blob's text into `room`; 0 at the end.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> Result<usize, Error> {
        if let Inflow::Kept(_) = self.inflow {
            self.keep().await?;
        }
        loop {
            match &mut self.inflow {
                Inflow::Text(text) => return Ok(text.read(room)),
                Inflow::Plain | Inflow::Kept(_) if self.piece.is_empty() => {}
                Inflow::Plain | Inflow::Kept(_) => {
                    let count = self.piece.len().min(room.len());
                    room[..count].copy_from_slice(&self.piece[..count]);
                    self.piece.advance(count);
                    return Ok(count);
                }
                Inflow::Gzip(inflater) => {
                    let (read, written) = inflater.inflate(&self.piece, room).map_err(damaged)?;
                    self.piece.advance(read);
                    if written > 0 {
                        return Ok(written);
                    }
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

    /// Keeps the body's pieces until it ends, and inflates them in one go, or until it is too long for that.
    ///
    /// # If interrupted
    /// What came is kept, and the next call goes on.
    async fn keep(&mut self) -> Result<(), Error> {
        while let Inflow::Kept(held) = &mut self.inflow {
            let ended = match self.body.next().await? {
                Some(piece) if held.keep(&piece) => continue,
                Some(piece) => {
                    self.piece = held.with(piece);
                    false
                }
                None => true,
            };
            self.inflow = match ended.then(|| held.gulp()).flatten() {
                Some(text) => Inflow::Text(text),
                None => {
                    if ended {
                        self.piece = held.with(Bytes::new());
                    }
                    Inflow::Gzip(Box::default())
                }
            };
        }
        Ok(())
    }
}

impl Inlet {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = match self {
            Self::Network(body) => body.chunk().await.map_err(microsoft::Error::from)?,
            Self::Stored(pieces) => pieces.pop_front(),
        };
        if piece.is_none() {
            // A body must not be asked again when it has ended.
            *self = Self::Stored(VecDeque::new());
        }
        Ok(piece)
    }
}

fn damaged(error: Damaged) -> Error {
    Error::Damaged {
        what: error.to_string(),
    }
}
