//! A blob that is too large to be made in one piece: its records are written while it is sent, so that the simulator holds
//! no more of it than a piece, and the time it takes is the client's.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::StatusCode;
use http::header::CONTENT_ENCODING;

use crate::http::{Reply, Substance, reply, with_header};
use crate::world::World;

/// Text that is made at once. As large as what a server's buffers hold anyway.
const PIECE_BYTES: usize = 128 << 10;

/// The answer with the blob of this number.
pub(super) fn reply_of(world: Arc<World>, at: usize, is_gzip: bool) -> Reply {
    let mut reply = reply(
        StatusCode::OK,
        "application/json; charset=utf-8",
        Bytes::new(),
    );
    let encoder = is_gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    let begun = Making {
        world,
        at,
        done: 0,
        encoder,
        has_ended: false,
    };
    let pieces = futures::stream::unfold(begun, |mut making| async move {
        // Others are served in between.
        tokio::task::yield_now().await;
        let piece = making.next_piece()?;
        Some((Ok(piece), making))
    });
    reply.body = Substance::Made(pieces.boxed());
    if is_gzip {
        with_header(reply, CONTENT_ENCODING, "gzip")
    } else {
        reply
    }
}

struct Making {
    world: Arc<World>,
    at: usize,
    /// Records that were written.
    done: u32,
    encoder: Option<GzEncoder<Vec<u8>>>,
    has_ended: bool,
}

impl Making {
    fn next_piece(&mut self) -> Option<Bytes> {
        while !self.has_ended {
            let text = self.next_text()?;
            self.world
                .counters
                .blob_bytes
                .fetch_add(text.len() as u64, Ordering::Relaxed);
            let piece = match &mut self.encoder {
                None => text,
                Some(encoder) => {
                    encoder.write_all(&text).ok()?;
                    if self.has_ended {
                        self.encoder.take()?.finish().ok()?
                    } else {
                        std::mem::take(encoder.get_mut())
                    }
                }
            };
            // An encoder may keep all that it was given to itself.
            if !piece.is_empty() {
                return Some(piece.into());
            }
        }
        None
    }

    fn next_text(&mut self) -> Option<Vec<u8>> {
        let blob = self.world.plan.blobs.get(self.at)?;
        let mut text = Vec::with_capacity(PIECE_BYTES + (8 << 10));
        while text.len() < PIECE_BYTES && self.done < blob.count {
            text.push(if self.done == 0 { b'[' } else { b',' });
            self.world
                .records
                .append(blob, blob.first + self.done, &mut text);
            self.done += 1;
        }
        if self.done == blob.count {
            text.push(b']');
            self.has_ended = true;
        }
        Some(text)
    }
}
