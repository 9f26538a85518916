//! A leased blob → its records: the request, the inflating, and the pull through `decode`, piece by piece, so that a
//! blob of any size passes through two buffers.

#[cfg(test)]
mod tests;

use std::io::{BufRead, ErrorKind, Read};
use std::sync::Arc;

use activity_api::NextStep;
use bytes::{Buf as _, Bytes};
use flate2::bufread::MultiGzDecoder;

use crate::decode::{self, Advance, Decoder, Totals, Undecodable};
use crate::http::Body;
use crate::memory::Memory;
use crate::microsoft::{self, Microsoft, is_gzip};
use crate::record::{BlobPart, BlobTag};

/// Where a blob's pieces go while it is read.
pub(crate) trait Outlet: Send {
    /// Takes a part. It waits for nothing: the part carries its memory, which bounds how many there are.
    fn part(&mut self, part: BlobPart);

    /// Sets stretches aside that are no records.
    ///
    /// # Errors
    /// When the ledger did not take them: the blob must be fetched again.
    fn undecodable(
        &mut self,
        stretches: Vec<Undecodable>,
    ) -> impl Future<Output = Result<(), ledger::Error>> + Send;
}

/// A blob that was read to its end.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The last part, held back so that who delivers it can know that it is the last.
    pub(crate) last_part: Option<BlobPart>,
    pub(crate) totals: Totals,
    /// The body is no whole JSON array: why, and the bytes that could not be placed.
    pub(crate) broken: Option<decode::Broken>,
}

/// Why a blob could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not hand it out.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// The body broke off, or is no gzip although it is said to be.
    #[error("the blob's body is damaged: {what}")]
    Damaged {
        /// How, for a person.
        what: String,
    },
    /// The ledger did not take what had to be set aside.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Microsoft(error) => error.next_step(),
            Self::Damaged { .. } | Self::Ledger(_) => NextStep::RetryAfter(None),
        }
    }
}

/// Fetches the blob at `uri` and hands its parts to `outlet`, except for the last, which is returned.
///
/// # Errors
/// What [`Error::next_step`] tells. Parts that were handed out before are whole and may be delivered all the same.
///
/// # If interrupted
/// The lease runs out and the blob is fetched again. A sink sees the parts again that it had not acknowledged.
pub(crate) async fn fetch_blob(
    microsoft: &Microsoft,
    uri: &str,
    tag: &Arc<BlobTag>,
    memory: &Memory,
    outlet: &mut impl Outlet,
) -> Result<Fetched, Error> {
    let mut room = memory.part().await;
    let response = microsoft.open_blob(tag.content_type, uri).await?;
    let (head, body) = response.into_parts();
    let mut source = Source::new(body, is_gzip(&head.headers));
    let mut decoder = Decoder::new();
    loop {
        match decoder.advance() {
            Advance::Read => match source.read(decoder.room()).await? {
                0 => break,
                count => decoder.filled(count),
            },
            Advance::Part(part) => {
                let full = std::mem::replace(&mut room, memory.part().await);
                outlet.part(part.into_part(Arc::clone(tag), Some(full)));
                set_aside(&mut decoder, outlet).await?;
            }
            Advance::Grow(bytes) => {
                memory.oversize(&mut room).await;
                decoder.grow(bytes);
            }
            Advance::Broken => break,
        }
    }
    let (part, totals, broken) = decoder.finish();
    set_aside(&mut decoder, outlet).await?;
    let last_part = part.map(|part| {
        room.shrink(part.capacity_bytes());
        part.into_part(Arc::clone(tag), Some(room))
    });
    Ok(Fetched {
        last_part,
        totals,
        broken,
    })
}

async fn set_aside(decoder: &mut Decoder, outlet: &mut impl Outlet) -> Result<(), Error> {
    let stretches = decoder.take_undecodable();
    if stretches.is_empty() {
        Ok(())
    } else {
        Ok(outlet.undecodable(stretches).await?)
    }
}

/// The blob's bytes, inflated on the way where they are compressed.
struct Source {
    body: Body,
    inflow: Inflow,
}

enum Inflow {
    Plain(Pieces),
    // Boxed: the inflater's state is some 40 KiB, too much for a future that moves.
    Gzip(Box<MultiGzDecoder<Pieces>>),
}

impl Source {
    fn new(body: Body, is_gzip: bool) -> Self {
        let pieces = Pieces::default();
        let inflow = if is_gzip {
            Inflow::Gzip(Box::new(MultiGzDecoder::new(pieces)))
        } else {
            Inflow::Plain(pieces)
        };
        Self { body, inflow }
    }

    /// Some bytes of the blob's text into `room`; 0 at the end.
    async fn read(&mut self, room: &mut [u8]) -> Result<usize, Error> {
        loop {
            let read = match &mut self.inflow {
                Inflow::Plain(pieces) => pieces.read(room),
                Inflow::Gzip(inflater) => inflater.read(room),
            };
            match read {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let piece = self.body.chunk().await.map_err(microsoft::Error::from)?;
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
