//! What becomes of an answer's body on its way: cut short, broken off, dripping, or replaced by something else.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::requests::BodyHarm;
use crate::http::{Reply, Substance, status};
use crate::random::Random;

/// Pieces in which a dripping body comes.
const DRIPS: u32 = 20;
/// How much of a body that is made while it is sent arrives before it is harmed.
const LEFT_OF_STREAM: u64 = 3 << 20;

const PAGE: &str = "<!DOCTYPE html>\r\n<html><head><title>Service Unavailable</title></head><body>\
    <h2>Our services aren't available right now</h2><p>We're working to restore all services as soon as possible.</p>\
    </body></html>";

/// The answer with its body harmed.
pub(crate) fn harm(mut reply: Reply, harm: BodyHarm, drawn: u64) -> Reply {
    let mut random = Random::new(drawn, 0xb0d7);
    match harm {
        BodyHarm::Garbage => {
            let length = 1 + random.below(4096) as usize;
            let mut body: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            // A byte that begins no text in any encoding that is in use, so that no garbage is a blob by chance.
            body[0] = 0xfe;
            reply.remove_header(&CONTENT_ENCODING);
            reply.body = Substance::Whole(body.into());
        }
        BodyHarm::Html(code) => {
            reply.status = status(code);
            reply.remove_header(&CONTENT_ENCODING);
            reply.remove_header(&CONTENT_TYPE);
            reply.add_header(CONTENT_TYPE, "text/html; charset=utf-8");
            reply.body = Substance::Whole(PAGE.into());
        }
        BodyHarm::BrokenGzip => {
            let is_gzip = reply.has_header(&CONTENT_ENCODING);
            if let Substance::Whole(body) = &mut reply.body {
                let mut broken = body.to_vec();
                // Behind the head, so that it is only found out while inflating.
                let from = broken.len().min(12);
                let room = (broken.len() - from) as u64;
                for _ in 0..8 {
                    let at = from + random.below(room) as usize;
                    if let Some(byte) = broken.get_mut(at) {
                        *byte ^= 0x55;
                    }
                }
                *body = broken.into();
            }
            if !is_gzip {
                reply.add_header(CONTENT_ENCODING, "gzip");
            }
        }
        BodyHarm::Truncated => {
            let is_gzip = reply.has_header(&CONTENT_ENCODING);
            reply.body = match reply.body {
                // A proxy that cuts text and compresses what is left, or one that cuts what it passes on.
                Substance::Whole(body) if is_gzip && random.chance(50) => {
                    let text = inflate(&body);
                    let cut = random.below(text.len() as u64) as usize;
                    Substance::Whole(deflate(text.get(..cut).unwrap_or_default()))
                }
                Substance::Whole(body) => {
                    let cut = random.below(body.len() as u64) as usize;
                    Substance::Whole(body.slice(..cut))
                }
                Substance::Made(stream) => {
                    let mut left = LEFT_OF_STREAM;
                    let cut = stream.take_while(move |piece| {
                        let length = piece.as_ref().map_or(0, Bytes::len) as u64;
                        let fits = left >= length;
                        left = left.saturating_sub(length);
                        std::future::ready(fits)
                    });
                    Substance::Made(cut.boxed())
                }
                other @ Substance::Broken { .. } => other,
            };
        }
        BodyHarm::Reset => {
            reply.body = match reply.body {
                Substance::Whole(body) => Substance::Broken {
                    announced: body.len() as u64,
                    sent: body.slice(..random.below(body.len() as u64) as usize),
                },
                Substance::Made(stream) => {
                    let mut left = LEFT_OF_STREAM;
                    let breaking = stream.map(move |piece| {
                        let piece = piece?;
                        if left < piece.len() as u64 {
                            return Err(std::io::Error::other("broken off on purpose"));
                        }
                        left -= piece.len() as u64;
                        Ok(piece)
                    });
                    Substance::Made(breaking.boxed())
                }
                other @ Substance::Broken { .. } => other,
            };
        }
        BodyHarm::Drip(over) => {
            if let Substance::Whole(body) = reply.body {
                reply.body = Substance::Made(drip(body, over));
            }
        }
    }
    reply
}

fn drip(
    body: Bytes,
    over: Duration,
) -> futures::stream::BoxStream<'static, std::io::Result<Bytes>> {
    let pause = over / DRIPS;
    let piece = body.len().div_ceil(DRIPS as usize).max(1);
    futures::stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let drop = rest.split_to(piece.min(rest.len()));
        Some((Ok(drop), rest))
    })
    .boxed()
}

fn inflate(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // What we compressed ourselves; if it were not whole, a shorter text would do as well.
    drop(GzDecoder::new(body).read_to_end(&mut text));
    text
}

fn deflate(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(text)
        .and_then(|()| encoder.finish())
        .map(Bytes::from)
        .expect("writing to memory cannot fail")
}
