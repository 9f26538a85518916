//! Where a blob's text comes from, piece by piece: a reply's body, inflated on the way, or bytes that are there already.

use std::collections::VecDeque;
use std::io::{BufRead, ErrorKind, Read};

use bytes::{Buf as _, Bytes};
use flate2::bufread::MultiGzDecoder;

use super::Error;
use crate::http::Body;
use crate::microsoft;

/// The blob's bytes, inflated on the way where they are compressed.
pub(super) struct Source {
    body: Inlet,
    inflow: Inflow,
}

enum Inflow {
    Plain(Pieces),
    // Boxed: the inflater's state is some 40 KiB, too much for a future that moves.
    Gzip(Box<MultiGzDecoder<Pieces>>),
}

/// Where the next piece comes from.
enum Inlet {
    Network(Body),
    Stored(VecDeque<Bytes>),
}

impl Source {
    /// The body of a reply.
    pub(super) fn new(body: Body, is_gzip: bool) -> Self {
        let pieces = Pieces::default();
        let inflow = if is_gzip {
            Inflow::Gzip(Box::new(MultiGzDecoder::new(pieces)))
        } else {
            Inflow::Plain(pieces)
        };
        Self {
            body: Inlet::Network(body),
            inflow,
        }
    }

    /// Bytes that are there already.
    pub(super) fn stored(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            // An empty piece would be taken for the end.
            body: Inlet::Stored(
                pieces
                    .into_iter()
                    .filter(|piece| !piece.is_empty())
                    .collect(),
            ),
            inflow: Inflow::Plain(Pieces::default()),
        }
    }

    /// Some bytes of the blob's text into `room`; 0 at the end.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> Result<usize, Error> {
        loop {
            let read = match &mut self.inflow {
                Inflow::Plain(pieces) => pieces.read(room),
                Inflow::Gzip(inflater) => inflater.read(room),
            };
            match read {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let piece = match &mut self.body {
                        Inlet::Network(body) => {
                            body.chunk().await.map_err(microsoft::Error::from)?
                        }
                        Inlet::Stored(pieces) => pieces.pop_front(),
                    };
                    self.pieces().refill(piece);
                }
                Err(error) => {
                    return Err(Error::Damaged {
                        what: error.to_string(),
                    });
                }
            }
        }
    }

    fn pieces(&mut self) -> &mut Pieces {
        match &mut self.inflow {
            Inflow::Plain(pieces) => pieces,
            Inflow::Gzip(inflater) => inflater.get_mut(),
        }
    }
}

/// The compressed bytes at hand, as a reader that says [`ErrorKind::WouldBlock`] when it needs the next piece: the
/// inflater then keeps its state, and the waiting is done outside it, where it is async.
#[derive(Default)]
struct Pieces {
    piece: Bytes,
    has_ended: bool,
}

impl Pieces {
    fn refill(&mut self, piece: Option<Bytes>) {
        match piece {
            Some(piece) => self.piece = piece,
            None => self.has_ended = true,
        }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.piece.is_empty() && !self.has_ended {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(&self.piece)
        }
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count);
    }
}

impl Read for Pieces {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(room)?;
        self.consume(count);
        Ok(count)
    }
}
