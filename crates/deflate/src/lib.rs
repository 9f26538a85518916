//! A fast DEFLATE compressor (RFC 1951, with zlib's and gzip's frames) for text that repeats itself, audit records before
//! all. It exists because no other has this speed without an assembler to build it: about twice that of libdeflate's
//! level 1, at no larger output. `cargo bench -p deflate` shows both side by side.
//!
//! There are no levels. Bytes go in as they come to be, are compressed block by block while they are in the cache, and
//! [`Deflater::fits`] knows at any time whether more of them would still end within so many compressed bytes, whatever
//! they are. The same calls give the same bytes, on every machine.

mod bits;
mod block;
mod deflater;
mod frame;
mod huffman;
mod matches;
mod tokens;

pub use block::NoRoom;
pub use deflater::{Deflater, Finished, bound};
pub use frame::Format;
