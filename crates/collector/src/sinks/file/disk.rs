//! The few things that are done to the file being written, behind a trait, so that a test can let the disk fill up.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use super::direct::Appender;

/// Opens files.
pub(super) trait Disk: Send + Sync {
    /// Opens the file for reading and writing, made when it is missing, never emptied.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>>;
}

/// The file being written.
pub(super) trait DataFile: Send {
    /// For looking at it only.
    fn file(&self) -> &File;
    /// Takes all of it, for the end that [`DataFile::cut`] or the last append left.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes what is not yet written, and returns once what was appended survives a loss of power.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes; the next append goes there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// The machine's own.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        Ok(Box::new(RealFile(Appender::new(open_private(path)?, path))))
    }
}

struct RealFile(Appender);

impl DataFile for RealFile {
    fn file(&self) -> &File {
        self.0.file()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.0.file().sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        // A file that has this length already is left untouched, times of change included.
        if self.0.file().metadata()?.len() != length {
            self.0.file().set_len(length)?;
        }
        self.0.go_to(length)
    }
}

/// Opens or creates a file that its owner may write and its group may read (0640): audit records are no one else's
/// business, but a log shipper in the group must be able to follow them.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

/// Makes the names in the folder survive a loss of power. Windows has no such call and needs none.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Whether `file` is the one that `path` names, and not one that was moved away or deleted.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let named = match std::fs::metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = file.metadata()?;
        Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
    }
    #[cfg(not(unix))]
    {
        Ok(named.len() == file.metadata()?.len())
    }
}
