//! Gzip → text, the step before decoding. As a stream, for bodies of any length ([`Inflater`]), and in one go for a body that
//! is there as a whole ([`inflate_whole`]), which takes a quarter of the time.
//!
//! The stream is raw deflate with the framing read here: the inflater's own checksum takes as long as all its other work,
//! and a checksum made with the processor's instruction for it takes next to nothing.

mod one_go;
#[cfg(test)]
mod tests;

use flate2::{Decompress, FlushDecompress, Status};

/// Why a body is no whole gzip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not begin as gzip does, or something else follows a member.
    #[error("it is no gzip")]
    NoGzip,
    /// What is compressed is no deflate.
    #[error("its deflate stream is corrupt")]
    Deflate,
    /// The text is not what was compressed.
    #[error("its checksum does not match")]
    Checksum,
    /// It ends too soon.
    #[error("it is cut off")]
    CutOff,
}

/// The longest head of a member that is read. A head may hold names and comments of any length; no server sends any.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How a member begins.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// A member's checksum and length.
const TRAILER_BYTES: usize = 8;

/// Inflates a body that arrives in pieces, of one member or more.
#[derive(Debug)]
pub struct Inflater {
    deflate: Decompress,
    checksum: crc32fast::Hasher,
    place: Place,
    /// The head or trailer at hand, while it is incomplete.
    framing: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the head of the first member.
    FirstHead,
    Text,
    Trailer,
    /// Behind a member: the end, or the head of the next.
    NextHead,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            deflate: Decompress::new(false),
            checksum: crc32fast::Hasher::new(),
            place: Place::FirstHead,
            framing: Vec::new(),
        }
    }
}

impl Inflater {
    /// Inflates from `input` into `room`: how many bytes it read, and how many it wrote. It has read all of `input` when it
    /// did not fill `room`.
    ///
    /// # Errors
    /// When this is no gzip. What was written before is good as far as anyone can tell.
    pub fn inflate(&mut self, input: &[u8], room: &mut [u8]) -> Result<(usize, usize), Damaged> {
        let (mut read, mut written) = (0, 0);
        loop {
            let rest = input.get(read..).unwrap_or_default();
            match self.place {
                Place::Text => {
                    let room = room.get_mut(written..).unwrap_or_default();
                    let (before_in, before_out) =
                        (self.deflate.total_in(), self.deflate.total_out());
                    let status = self.deflate.decompress(rest, room, FlushDecompress::None);
                    let taken = (self.deflate.total_in() - before_in) as usize;
                    let made = (self.deflate.total_out() - before_out) as usize;
                    self.checksum.update(room.get(..made).unwrap_or_default());
                    read += taken;
                    written += made;
                    match status {
                        Ok(Status::StreamEnd) => self.place = Place::Trailer,
                        Ok(Status::Ok | Status::BufError) if taken == 0 && made == 0 => {
                            return Ok((read, written));
                        }
                        Ok(Status::Ok | Status::BufError) => {}
                        Err(_) => return Err(Damaged::Deflate),
                    }
                }
                Place::Trailer => {
                    let missing = TRAILER_BYTES - self.framing.len();
                    let taken = missing.min(rest.len());
                    self.framing.extend_from_slice(&rest[..taken]);
                    read += taken;
                    if taken < missing {
                        return Ok((read, written));
                    }
                    let found = (self.checksum.clone().finalize(), self.deflate.total_out());
                    if trailer(&self.framing) != Some((found.0, found.1 as u32)) {
                        return Err(Damaged::Checksum);
                    }
                    self.framing.clear();
                    self.place = Place::NextHead;
                }
                Place::FirstHead | Place::NextHead => {
                    if rest.is_empty() {
                        return Ok((read, written));
                    }
                    let known = self.framing.len();
                    self.framing.extend_from_slice(rest);
                    match head_len(&self.framing)? {
                        Some(len) => {
                            read += len - known;
                            self.framing.clear();
                            self.deflate.reset(false);
                            self.checksum.reset();
                            self.place = Place::Text;
                        }
                        None => {
                            read += rest.len();
                            return Ok((read, written));
                        }
                    }
                }
            }
        }
    }

    /// To be called at the end of the body, when [`Inflater::inflate`] has read all of it and writes no more.
    ///
    /// # Errors
    /// When it ended too soon.
    pub fn finish(&self) -> Result<(), Damaged> {
        if self.place == Place::NextHead && self.framing.is_empty() {
            Ok(())
        } else {
            Err(Damaged::CutOff)
        }
    }
}

/// The checksum and the length that a trailer tells.
fn trailer(bytes: &[u8]) -> Option<(u32, u32)> {
    let (checksum, rest) = bytes.split_first_chunk::<4>()?;
    let len = rest.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*checksum), u32::from_le_bytes(*len)))
}

/// The length of the member's head at the start of `bytes` (RFC 1952); nothing when more bytes are needed.
fn head_len(bytes: &[u8]) -> Result<Option<usize>, Damaged> {
    const HAS_CHECKSUM: u8 = 1 << 1;
    const HAS_EXTRA: u8 = 1 << 2;
    const HAS_NAME: u8 = 1 << 3;
    const HAS_COMMENT: u8 = 1 << 4;
    let is_magic = bytes
        .iter()
        .zip(MAGIC)
        .all(|(byte, wanted)| *byte == wanted);
    if !is_magic {
        return Err(Damaged::NoGzip);
    }
    let Some(flags) = bytes.get(3) else {
        return Ok(None);
    };
    if flags >> 5 != 0 {
        return Err(Damaged::NoGzip);
    }
    let mut len = 10;
    let unfinished = || match bytes.len() {
        0..=MAX_HEAD_BYTES => Ok(None),
        _ => Err(Damaged::NoGzip),
    };
    if flags & HAS_EXTRA != 0 {
        let Some(extra) = bytes.get(len..).and_then(|rest| rest.first_chunk::<2>()) else {
            return unfinished();
        };
        len += 2 + usize::from(u16::from_le_bytes(*extra));
    }
    for has_text in [flags & HAS_NAME != 0, flags & HAS_COMMENT != 0] {
        if has_text {
            let rest = bytes.get(len..).unwrap_or_default();
            match rest.iter().position(|byte| *byte == 0) {
                Some(zero) => len += zero + 1,
                None => return unfinished(),
            }
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        let Some(checksum) = bytes.get(len..).and_then(|rest| rest.first_chunk::<2>()) else {
            return unfinished();
        };
        if u16::from_le_bytes(*checksum) != crc32fast::hash(&bytes[..len]) as u16 {
            return Err(Damaged::NoGzip);
        }
        len += 2;
    }
    if bytes.len() < len {
        return unfinished();
    }
    Ok(Some(len))
}

/// How many bytes of text a body says that it holds. Not to be believed: it is the end of a body that may be anything.
#[must_use]
pub fn claimed_bytes(body: &[u8]) -> Option<usize> {
    let (_, len) = trailer(body.last_chunk::<TRAILER_BYTES>()?)?;
    usize::try_from(len).ok()
}

/// Inflates a whole body into `text`, which must be as long as the body [says](claimed_bytes) that its text is. True when
/// the body is a single member that holds just as much. False for anything else, be it damaged or only unusual, and what is
/// in `text` then has no meaning: [`Inflater`] tells which.
pub fn inflate_whole(body: &[u8], text: &mut [u8]) -> bool {
    try_inflate_whole(body, text).unwrap_or_default()
}

fn try_inflate_whole(body: &[u8], text: &mut [u8]) -> Option<bool> {
    let head = head_len(body).ok()??;
    let (deflate, framing) = body.get(head..)?.split_last_chunk::<TRAILER_BYTES>()?;
    let (checksum, len) = trailer(framing)?;
    if usize::try_from(len) != Ok(text.len()) {
        return None;
    }
    // Bytes behind the stream and before its trailer would be another member, or none.
    let is_single = one_go::inflate(deflate, text)? == deflate.len();
    Some(is_single && libdeflater::crc32(text) == checksum)
}
