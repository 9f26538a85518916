//! What becomes of rotated files: compressed one after the other on a thread of their own, which gives way at once when the
//! program stops.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use ledger::SinkName;
use tracing::{debug, warn};

use super::{
    Compression,
    disk::{open_private, sync_folder},
    names::{Names, RotatedState},
};

/// gzip's own default, and zstd's: a rotated file is read rarely and kept long.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// Between two pieces the thread looks whether it is to stop.
const PIECE_BYTES: usize = 256 * 1024;

/// The thread.
pub(super) struct Archive {
    wake: Option<mpsc::Sender<()>>,
    flags: Arc<Flags>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Flags {
    is_stopping: AtomicBool,
    has_failed: AtomicBool,
}

impl Archive {
    /// Starts the thread; it waits for [`Archive::sweep`].
    pub(super) fn start(
        names: Names,
        compression: Compression,
        sink: SinkName,
    ) -> io::Result<Self> {
        let (wake, woken) = mpsc::channel();
        let flags = Arc::new(Flags::default());
        let seen = Arc::clone(&flags);
        let thread = std::thread::Builder::new().name(format!("{sink}-archive")).spawn(move || {
            while let Ok(()) = woken.recv() {
                // Calls that came in meanwhile are answered by the same sweep.
                while woken.try_recv().is_ok() {}
                let swept = sweep(&names, compression, &seen.is_stopping);
                seen.has_failed.store(swept.is_err(), Ordering::Release);
                match swept {
                    Ok(()) => {}
                    Err(_) if seen.is_stopping.load(Ordering::Acquire) => {}
                    Err(error) => warn!(%sink, %error, "a rotated file could not be compressed, will retry"),
                }
            }
        })?;
        Ok(Self {
            wake: Some(wake),
            flags,
            thread: Some(thread),
        })
    }

    /// Has the thread go through all rotated files.
    pub(super) fn sweep(&self) {
        if let Some(wake) = &self.wake
            && wake.send(()).is_err()
        {
            warn!(
                "the thread that compresses rotated files is gone; they stay as they are until the next start"
            );
        }
    }

    /// Whether the latest sweep did not go all the way.
    pub(super) fn has_failed(&self) -> bool {
        self.flags.has_failed.load(Ordering::Acquire)
    }

    /// Waits until all that was asked for is done.
    #[cfg(test)]
    pub(super) fn finish(mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.flags.is_stopping.store(true, Ordering::Release);
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!(
                "the thread that compresses rotated files panicked; the next start takes them up"
            );
        }
    }
}

/// Compresses what is to be compressed and clears away what an interrupted sweep left.
///
/// # If interrupted
/// A half-written `.tmp` is deleted by the next sweep and made again. When both the rotated file and its compressed copy
/// are there, the next sweep compares them and deletes the former.
pub(super) fn sweep(
    names: &Names,
    compression: Compression,
    is_stopping: &AtomicBool,
) -> io::Result<()> {
    let mut found = names.list_rotated()?;
    found.sort_by_key(|rotated| rotated.sequence);
    for unfinished in found
        .iter()
        .filter(|rotated| rotated.state == RotatedState::Unfinished)
    {
        for suffix in [".gz.tmp", ".zst.tmp"] {
            remove_if_there(
                &names
                    .folder
                    .join(format!("{}{suffix}", unfinished.plain_name)),
            )?;
        }
    }
    for plain in found
        .iter()
        .filter(|rotated| rotated.state == RotatedState::Plain)
    {
        let path = names.folder.join(&plain.plain_name);
        let copy = found.iter().find_map(|other| match other.state {
            RotatedState::Compressed(how) if other.plain_name == plain.plain_name => Some(how),
            _ => None,
        });
        match copy.or(Some(compression).filter(|how| *how != Compression::None)) {
            Some(how) => compress(&path, how, &names.folder, is_stopping)?,
            None => continue,
        }
    }
    Ok(())
}

/// Puts a compressed copy in the file's place.
fn compress(
    plain: &Path,
    how: Compression,
    folder: &Path,
    is_stopping: &AtomicBool,
) -> io::Result<()> {
    let Some(suffix) = how.suffix() else {
        return Ok(());
    };
    let name = plain
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let copy = folder.join(format!("{name}{suffix}"));
    if copy.try_exists()? {
        // Ours is whole when it has its name. But it may be a person's, made by hand and not to its end.
        if !holds(&copy, how, plain, is_stopping)? {
            warn!(file = %copy.display(), "is no faithful copy of the file beside it; both are kept, look at them");
            return Ok(());
        }
    } else {
        let unfinished = folder.join(format!("{name}{suffix}.tmp"));
        let target = open_private(&unfinished)?;
        target.set_len(0)?;
        let target = match how {
            Compression::None => return Ok(()),
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(target, flate2::Compression::new(GZIP_LEVEL));
                copy_pieces(plain, &mut encoder, is_stopping)?;
                encoder.finish()?
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                copy_pieces(plain, &mut encoder, is_stopping)?;
                encoder.finish()?
            }
        };
        target.sync_all()?;
        fs::rename(&unfinished, &copy)?;
        sync_folder(folder)?;
    }
    fs::remove_file(plain)?;
    debug!(file = %copy.display(), "rotated file compressed");
    Ok(())
}

fn copy_pieces(from: &Path, to: &mut impl Write, is_stopping: &AtomicBool) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        stop_if_asked(is_stopping)?;
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => to.write_all(&piece[..count])?,
        }
    }
}

/// Whether the compressed file unpacks to the plain one, checksum included. What cannot be unpacked does not.
fn holds(
    copy: &Path,
    how: Compression,
    plain: &Path,
    is_stopping: &AtomicBool,
) -> io::Result<bool> {
    let packed = BufReader::new(File::open(copy)?);
    let mut unpacked: Box<dyn Read> = match how {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
    };
    let mut plain = File::open(plain)?;
    let (mut left, mut right) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        stop_if_asked(is_stopping)?;
        let count = plain.read(&mut left)?;
        // One more byte is asked for at the end, to see that the copy ends there too.
        let wanted = count.max(1);
        let mut got = 0;
        while got < wanted {
            match unpacked.read(&mut right[got..wanted]) {
                Ok(0) => break,
                Ok(more) => got += more,
                // A copy that ends in the middle has given all its text already, and only its checksum tells.
                Err(_) => return Ok(false),
            }
        }
        if got != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn stop_if_asked(is_stopping: &AtomicBool) -> io::Result<()> {
    if is_stopping.load(Ordering::Acquire) {
        return Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the program is stopping",
        ));
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
