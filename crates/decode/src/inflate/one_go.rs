//! The library that inflates in one go, called without its safe wrapper: that does not tell how much of the input was
//! taken, and so not whether something follows.

#![expect(
    unsafe_code,
    reason = "it is C, and its safe wrapper keeps to itself how much of the input was taken"
)]

use std::{
    cell::RefCell,
    ptr::{NonNull, null_mut},
};

use libdeflate_sys::{
    libdeflate_alloc_decompressor, libdeflate_decompressor, libdeflate_deflate_decompress_ex,
    libdeflate_free_decompressor, libdeflate_result_LIBDEFLATE_SUCCESS,
};

/// The library's tables; it clears them when it makes them, which takes as long as inflating some kilobytes.
struct Decompressor(NonNull<libdeflate_decompressor>);

impl Decompressor {
    /// Nothing when there is no memory.
    fn new() -> Option<Self> {
        // SAFETY: it takes nothing, and says by null that there is nothing.
        NonNull::new(unsafe { libdeflate_alloc_decompressor() }).map(Self)
    }

    fn inflate(&mut self, deflate: &[u8], text: &mut [u8]) -> Option<usize> {
        let mut taken = 0;
        // SAFETY: the decompressor is the library's own and nobody else's, as it is borrowed for writing; the two slices are
        // readable and writable for as many bytes as are said; without a place for how much was made, all of `text` is.
        let result = unsafe {
            libdeflate_deflate_decompress_ex(
                self.0.as_ptr(),
                deflate.as_ptr().cast(),
                deflate.len(),
                text.as_mut_ptr().cast(),
                text.len(),
                &raw mut taken,
                null_mut(),
            )
        };
        (result == libdeflate_result_LIBDEFLATE_SUCCESS).then_some(taken)
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: it came from the library, and goes once.
        unsafe { libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

/// Fills `text` from the stream at the start of `deflate`, which must hold just as much. How many bytes the stream has;
/// nothing when it is another length's, or damaged.
pub(super) fn inflate(deflate: &[u8], text: &mut [u8]) -> Option<usize> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Decompressor::new();
        }
        kept.as_mut()?.inflate(deflate, text)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::DeflateEncoder};

    use super::*;

    #[test]
    fn a_stream_says_where_it_ends_and_fills_its_own_length_alone() {
        let text = b"records, records, records".repeat(1_000);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).unwrap();
        let stream = encoder.finish().unwrap();
        let len = stream.len();
        let followed = [stream.as_slice(), b"more"].concat();
        // The same tables serve one after the other, a damaged one between them.
        for _ in 0..2 {
            let mut made = vec![0; text.len()];
            assert_eq!(inflate(&followed, &mut made), Some(len));
            assert_eq!(made, text);
            assert_eq!(inflate(&stream[..len - 1], &mut made), None);
            assert_eq!(inflate(&stream, &mut vec![0; text.len() - 1]), None);
            assert_eq!(inflate(&stream, &mut vec![0; text.len() + 1]), None);
        }
        assert_eq!(inflate(&[3, 0], &mut []), Some(2), "an empty stream");
        assert_eq!(inflate(&[], &mut []), None);
    }
}
