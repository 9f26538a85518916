//! Bytes on their way out, compressed: they come back as they were, of a reader that shares no code with the writer,
//! and the compressed bytes are no longer than was said.

use std::cell::RefCell;
use std::io::Read as _;

use deflate::{Deflater, Format};

thread_local! {
    /// One for all inputs: what an earlier one leaves behind must not matter.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// The first byte says how much is written at a time, the second how often all of it is; a third how long it may become.
pub fn compressed(input: &[u8]) {
    let &[piece, times, limit, ref text @ ..] = input else {
        return;
    };
    let text = text.repeat(usize::from(times % 32) + 1);
    let max_bytes = 20 + usize::from(limit) * 40;
    DEFLATER.with_borrow_mut(|deflater| {
        let mut whole = Vec::new();
        deflater
            .compress(Format::Gzip, &text, &mut whole, usize::MAX)
            .expect("there is room");
        assert!(whole.len() <= deflate::bound(Format::Gzip, text.len()));
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&whole[..])
            .read_to_end(&mut back)
            .expect("gzip is readable");
        assert!(back == text, "gzip reads as something else");
        let mut again = Vec::new();
        let done = deflater.compress(Format::Gzip, &text, &mut again, whole.len() - 1);
        assert!(done.is_err() && again.is_empty(), "it fits where it cannot");

        deflater.start_with_head(Format::Zlib, 8);
        let mut taken = b"head".to_vec();
        for piece in text.chunks(usize::from(piece) * 5 + 1) {
            if !deflater.fits(piece.len(), max_bytes) {
                break;
            }
            deflater.write(piece);
            taken.extend_from_slice(piece);
        }
        let finished = deflater.finish_with_head(b"head");
        let is_within = finished.stream().len() <= max_bytes;
        assert!(
            is_within || taken.len() == 4,
            "longer than it was said to fit"
        );
        let mut back = Vec::new();
        flate2::read::ZlibDecoder::new(finished.stream())
            .read_to_end(&mut back)
            .expect("zlib's format is readable");
        assert!(back == taken, "zlib's format reads as something else");
    });
}
