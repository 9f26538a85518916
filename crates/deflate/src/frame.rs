//! What stands around a DEFLATE stream: nothing, zlib's format, or gzip's.

/// What stands around the compressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Nothing.
    Raw,
    /// zlib's two bytes before and an Adler-32 behind. The two bytes are 78 9c, which most writers have there; no reader
    /// looks at what they say of the compressor.
    Zlib,
    /// gzip's ten bytes before, without a name and a time, and a CRC-32 and the length behind.
    Gzip,
}

impl Format {
    pub(crate) fn head(self) -> &'static [u8] {
        match self {
            Self::Raw => &[],
            Self::Zlib => &[0x78, 0x9c],
            // No flags, no time, the fastest compression, an unknown system.
            Self::Gzip => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255],
        }
    }

    pub(crate) fn tail_bytes(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Zlib => 4,
            Self::Gzip => 8,
        }
    }

    /// Bytes around every stream.
    pub(crate) fn frame_bytes(self) -> usize {
        self.head().len() + self.tail_bytes()
    }
}

/// The checksum of what was compressed.
#[derive(Clone)]
pub(crate) enum Checksum {
    Raw,
    Zlib(simd_adler32::Adler32),
    Gzip(crc32fast::Hasher),
}

impl Checksum {
    pub(crate) fn new(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::Zlib => Self::Zlib(simd_adler32::Adler32::new()),
            Format::Gzip => Self::Gzip(crc32fast::Hasher::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Raw => (),
            Self::Zlib(adler) => adler.write(bytes),
            Self::Gzip(crc) => crc.update(bytes),
        }
    }

    /// Puts `head`, which stands before the `body_bytes` that were checked, into the account.
    pub(crate) fn put_before(&mut self, head: &[u8], body_bytes: u64) {
        match self {
            Self::Raw => (),
            Self::Zlib(adler) => {
                let head = simd_adler32::adler32(&head);
                let joined = join_adler(head, adler.finish(), body_bytes);
                *adler = simd_adler32::Adler32::from_checksum(joined);
            }
            Self::Gzip(body) => {
                let mut crc = crc32fast::Hasher::new();
                crc.update(head);
                crc.combine(body);
                *body = crc;
            }
        }
    }

    pub(crate) fn append_tail(self, out: &mut Vec<u8>, raw_bytes: u64) {
        match self {
            Self::Raw => (),
            Self::Zlib(adler) => out.extend_from_slice(&adler.finish().to_be_bytes()),
            Self::Gzip(crc) => {
                out.extend_from_slice(&crc.finalize().to_le_bytes());
                out.extend_from_slice(&(raw_bytes as u32).to_le_bytes());
            }
        }
    }
}

/// The Adler-32 of two stretches one after the other. It consists of the sum of the bytes and one, and of the sum of all
/// those sums, each modulo the largest prime below 2^16.
fn join_adler(head: u32, body: u32, body_bytes: u64) -> u32 {
    const MODULUS: u64 = 65_521;
    let halves = |adler: u32| (u64::from(adler & 0xffff), u64::from(adler >> 16));
    let ((head_low, head_high), (body_low, body_high)) = (halves(head), halves(body));
    // Each of the body's sums began at 1 and begins at the head's.
    let more = head_low + MODULUS - 1;
    let low = (body_low + more) % MODULUS;
    let high = (head_high + body_high + body_bytes % MODULUS * (more % MODULUS)) % MODULUS;
    (high << 16 | low) as u32
}
