//! The file being written, past the page cache where that pays: a backlog's megabytes go straight to the disk, from a
//! buffer. The cache would cost the processor more than all else that the sink does, a page at a time, and push out of
//! memory what others need there. Little at a time goes through it: then what costs is the wait for the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use super::disk::is_at;

/// Where in the file, how many bytes, and from where in memory: all are whole blocks, or the system refuses the write. No
/// disk asks for larger ones.
const BLOCK: usize = 4096;
/// What is written at a time: a huge page. In pages of the usual size the system looks at each of them for each write, and
/// a write of a quarter costs nearly as much as this one. It is held as long as there is much to write.
const BUFFER_BYTES: usize = heap::HUGE_PAGE_BYTES;
/// What is appended at once for it to begin.
const LONG_BYTES: usize = 64 * 1024;

/// What appends to a file, of which it is the only writer. The file's own position is where the next byte goes that is not
/// written.
pub(super) struct Appender {
    file: File,
    /// The same file once more, for whole blocks; nothing where the system has no such thing.
    direct: Option<File>,
    /// Bytes that come next, from a block's border on in the file and in memory.
    waiting: Waiting,
}

impl Appender {
    /// For a file that is open, and its path.
    pub(super) fn new(file: File, path: &Path) -> Self {
        // Whatever stands against it: it is never needed.
        let direct = open_direct(path).ok();
        Self {
            direct: direct.filter(|direct| {
                is_at(&file, path).unwrap_or(false) && is_at(direct, path).unwrap_or(false)
            }),
            file,
            waiting: Waiting::default(),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes these bytes; the last of them are written by [`Appender::flush`].
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.waiting.is_empty() {
            if bytes.len() < LONG_BYTES || self.direct.is_none() {
                return self.file.write_all(bytes);
            }
            let behind_border = self.file.stream_position()? % BLOCK as u64;
            let to_border = (BLOCK - behind_border as usize) % BLOCK;
            let (now, later) = bytes.split_at(to_border.min(bytes.len()));
            self.file.write_all(now)?;
            bytes = later;
        }
        while !bytes.is_empty() {
            bytes = self.waiting.take(bytes);
            if self.waiting.is_full() {
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    /// Writes what is waiting. It may still be lost until the file is synced.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            // Little was written; there need not be a buffer for more.
            self.waiting = Waiting::default();
            return Ok(());
        }
        self.write_waiting()
    }

    /// The next byte goes here. What is waiting is forgotten.
    pub(super) fn go_to(&mut self, at: u64) -> io::Result<()> {
        self.waiting.clear();
        self.file.seek(SeekFrom::Start(at)).map(drop)
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let bytes = self.waiting.bytes();
        let mut written = 0;
        if bytes.len() >= LONG_BYTES
            && let Some(direct) = &self.direct
            && let Some(blocks) = bytes.get(..bytes.len() - bytes.len() % BLOCK)
        {
            let at = self.file.stream_position()?;
            match write_at(direct, blocks, at) {
                Ok(count) => {
                    written = count;
                    self.file.seek(SeekFrom::Start(at + count as u64))?;
                }
                // The system says what is wrong when it is asked again, below. If that goes well, this is no way to write here.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                Err(_) => self.direct = None,
            }
        }
        let rest = bytes.get(written..).unwrap_or_default();
        let result = self.file.write_all(rest);
        self.waiting.clear();
        result
    }
}

/// Bytes that begin at a block's border in memory.
#[derive(Default)]
struct Waiting {
    /// Twice what it holds, so that a huge page's border is in it. What is never touched takes no memory.
    buffer: Option<Vec<u8>>,
    /// That border.
    start: usize,
    count: usize,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_full(&self) -> bool {
        self.count == BUFFER_BYTES
    }

    fn clear(&mut self) {
        self.count = 0;
    }

    fn bytes(&self) -> &[u8] {
        let end = self.start + self.count;
        let buffer = self.buffer.as_deref().unwrap_or_default();
        buffer.get(self.start..end).unwrap_or_default()
    }

    /// Takes as many as there is room for. The others.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let buffer = self.buffer.get_or_insert_with(|| {
            // Zeros that the system makes when they are first looked at.
            let mut buffer = vec![0; 2 * BUFFER_BYTES];
            self.start = buffer.as_ptr().align_offset(BUFFER_BYTES) % BUFFER_BYTES;
            heap::prefer_huge_pages(&mut buffer);
            buffer
        });
        let from = self.start + self.count;
        let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.count));
        buffer[from..from + now.len()].copy_from_slice(now);
        self.count += now.len();
        later
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(target_os = "linux")]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn write_at(_file: &File, _bytes: &[u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        Flush,
        CutTo(prop::sample::Index),
        DirectFails,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![0..9000_usize, LONG_BYTES - 1..LONG_BYTES + 2, Just(3 * BLOCK), 500_000..2_500_000_usize]
                .prop_map(Step::Append),
            3 => Just(Step::Flush),
            1 => any::<prop::sample::Index>().prop_map(Step::CutTo),
            1 => Just(Step::DirectFails),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_file_holds_what_was_appended_whichever_way_it_took(steps in prop::collection::vec(step(), 1..12)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let open = || super::super::disk::open_private(&path).unwrap();
            let mut appender = Appender::new(open(), &path);
            let mut expected: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Append(count) => {
                        let seed = expected.len();
                        let bytes: Vec<u8> = (0..count).map(|at| (((seed + at) * 31) >> 3) as u8).collect();
                        appender.append(&bytes).unwrap();
                        expected.extend(bytes);
                    }
                    Step::Flush => {
                        appender.flush().unwrap();
                        prop_assert!(std::fs::read(&path).unwrap() == expected);
                    }
                    Step::CutTo(place) => {
                        appender.flush().unwrap();
                        let length = place.index(expected.len() + 1);
                        expected.truncate(length);
                        appender.file().set_len(length as u64).unwrap();
                        appender.go_to(length as u64).unwrap();
                    }
                    // A file that cannot be written refuses, as one does where blocks are larger.
                    Step::DirectFails => if appender.direct.is_some() {
                        appender.direct = Some(File::open(&path).unwrap());
                    }
                }
            }
            appender.flush().unwrap();
            prop_assert!(std::fs::read(&path).unwrap() == expected);
        }
    }

    #[test]
    fn what_waits_and_was_cut_off_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = super::super::disk::open_private(&path).unwrap();
        let mut appender = Appender::new(file, &path);
        appender.append(&vec![b'x'; LONG_BYTES]).unwrap();
        appender.file().set_len(0).unwrap();
        appender.go_to(0).unwrap();
        appender.append(b"y").unwrap();
        appender.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"y");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_that_names_another_file_meanwhile_is_not_written_past_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = super::super::disk::open_private(&path).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        std::fs::write(&path, b"another's").unwrap();
        let mut appender = Appender::new(file, &path);
        assert!(appender.direct.is_none());
        appender.append(&vec![b'x'; 4 * LONG_BYTES]).unwrap();
        appender.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }
}
