//! The file being written: opened, appended to, cut back, rotated. Everything here waits for the disk, so it runs where
//! waiting is allowed, one call at a time.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    FileConfig,
    archive::Archive,
    disk::{self, DataFile, Disk},
    encode::push_line,
    names::Names,
    note::{NoteFile, OnDisk},
    plan::{Begun, Found, Plan, plan_resume},
    position::{Position, TAIL_BYTES, Tail},
};
use crate::{
    clock::Clock,
    record::{Batch, Lines},
    sinks::Error,
};

/// Lines are gathered up to this and written in one call. Larger saves no time, smaller costs system calls.
const CHUNK_BYTES: usize = 256 * 1024;
/// Lines that are written from where they lie.
const RUN_BYTES: usize = 64 * 1024;

pub(super) struct Writer {
    config: FileConfig,
    names: Names,
    clock: Arc<dyn Clock>,
    disk: Box<dyn Disk>,
    /// Held until the writer goes. A file of its own, because the file being written changes at each rotation.
    lock: Option<File>,
    note: NoteFile,
    current: Option<Current>,
    lines: Vec<u8>,
    archive: Option<Archive>,
    /// The number of the call that is at work.
    call: u64,
}

struct Current {
    file: Box<dyn DataFile>,
    sequence: u64,
    /// Up to here the ledger has it.
    committed: Mark,
    /// Up to here the latest delivery wrote, when it came to its end; with that call's number.
    written: Option<(u64, Mark)>,
    /// There may be bytes behind what `committed` and `written` say.
    is_dirty: bool,
}

/// A place in the file between two lines.
#[derive(Debug, Clone, Default)]
struct Mark {
    length: u64,
    tail: Tail,
    since: Option<Timestamp>,
}

impl Writer {
    pub(super) fn new(
        config: FileConfig,
        names: Names,
        clock: Arc<dyn Clock>,
        disk: Box<dyn Disk>,
    ) -> Self {
        Self {
            note: NoteFile::new(&names),
            config,
            names,
            clock,
            disk,
            lock: None,
            current: None,
            lines: Vec::new(),
            archive: None,
            call: 0,
        }
    }

    /// Begins a call, unless a later one was here before.
    pub(super) fn start_call(&mut self, call: u64) -> Result<(), Error> {
        if call <= self.call {
            return Err(self
                .refused("two calls at a time, where only one is allowed; the later one goes on"));
        }
        self.call = call;
        Ok(())
    }

    /// See [`super::FileSink`]'s `resume`.
    pub(super) fn resume(&mut self, position: Option<&str>) -> Result<(), Error> {
        let position = position
            .map(|text| {
                Position::parse(text).ok_or_else(|| {
                    self.refused("the position in the ledger was not written by a file sink")
                })
            })
            .transpose()?;
        self.take_lock()?;
        self.open(position.as_ref())?;
        if self.archive.is_none() {
            let archive = Archive::start(
                self.names.clone(),
                self.config.compression,
                self.config.name.clone(),
            );
            self.archive = Some(
                archive
                    .map_err(|source| self.io("cannot start a thread for compression", source))?,
            );
        }
        self.sweep();
        Ok(())
    }

    /// Takes in which delivery's receipt the caller got last, which it has committed by then, and takes back what is in
    /// the file beyond that.
    pub(super) fn settle(&mut self, handed_over: u64) -> Result<(), Error> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if let Some((call, written)) = current.written.take() {
            if call == handed_over {
                current.committed = written;
            } else {
                current.is_dirty = true;
            }
        }
        if current.is_dirty {
            let cut = current.file.cut(current.committed.length);
            cut.map_err(|source| {
                io_error(
                    &self.config,
                    "cannot cut the file back to its last whole batch",
                    source,
                )
            })?;
            current.is_dirty = false;
        }
        if current.committed.length > 0 {
            self.remove_note()?;
        }
        Ok(())
    }

    /// Appends the batch and syncs; gives the position to commit.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<String, Error> {
        self.check_file()?;
        self.rotate_if_due()?;
        let now = self.clock.now();
        let Some(current) = &mut self.current else {
            return Err(self.refused("it was never resumed"));
        };
        let mut mark = current.committed.clone();
        if batch.record_count() > 0 {
            mark.since.get_or_insert(now);
            current.is_dirty = true;
            if let Err(source) =
                write_lines(current.file.as_mut(), batch, &mut self.lines, &mut mark)
            {
                // When this fails too, the file stays marked as dirty and the next call begins with cutting it.
                match current.file.cut(current.committed.length) {
                    Ok(()) => current.is_dirty = false,
                    Err(error) => {
                        warn!(sink = %self.config.name, %error, "cannot cut the file back, will retry")
                    }
                }
                return Err(io_error(&self.config, "cannot append to the file", source));
            }
            current.is_dirty = false;
        }
        let position = current.position(&mark);
        current.written = Some((self.call, mark));
        Ok(position.encode())
    }

    /// Rotates a file that is due, and has compression tried again that failed.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        if self.current.is_some() {
            self.check_file()?;
            self.rotate_if_due()?;
        }
        if self.has_archive_failed() {
            self.sweep();
        }
        Ok(())
    }

    /// Whether a rotated file waits because compression failed.
    pub(super) fn has_archive_failed(&self) -> bool {
        self.archive.as_ref().is_some_and(Archive::has_failed)
    }

    /// Waits until every rotated file is compressed.
    #[cfg(test)]
    pub(super) fn finish_archive(&mut self) {
        if let Some(archive) = self.archive.take() {
            archive.finish();
        }
    }

    fn take_lock(&mut self) -> Result<(), Error> {
        if self.lock.is_some() {
            return Ok(());
        }
        let lock = disk::open_private(&self.names.lock).map_err(|source| {
            self.io(
                "cannot open the lock file beside `path`; its folder must exist",
                source,
            )
        })?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(
                    self.refused("another collector writes the file at `path`; give each its own")
                );
            }
            Err(TryLockError::Error(source)) => {
                return Err(self.io("cannot lock the file beside `path`", source));
            }
        }
        Ok(())
    }

    /// Looks at the file and carries out what [`plan_resume`] says.
    ///
    /// # If interrupted
    /// The same plan comes out again, from the note if need be: it is written before the file that it speaks of is touched.
    fn open(&mut self, position: Option<&Position>) -> Result<(), Error> {
        self.current = None;
        let note = self.note.read();
        let note =
            note.map_err(|source| self.io("cannot read the `.begun` file beside `path`", source))?;
        if note == OnDisk::Foreign {
            return Err(self.refused("the `.begun` file beside `path` is not ours; move it away"));
        }
        let found = self.look(position)?;
        match plan_resume(position, note.into_note(), found, self.next_sequence()?) {
            Plan::Continue => {
                let position = position.expect("only a position can be continued");
                self.go_on(position)?;
                self.remove_note()
            }
            Plan::Begin { sequence, why } => {
                match why {
                    Begun::InTurn => {}
                    Begun::Vanished => {
                        warn!(sink = %self.config.name, sequence, "the file was moved away or deleted, a new one is begun");
                    }
                    Begun::Emptied => {
                        warn!(sink = %self.config.name, sequence, "somebody emptied the file, it is begun again");
                    }
                }
                self.begin(sequence)
            }
            Plan::SetAside { sequence } => {
                let aside = self.set_aside();
                let aside = aside.map_err(|source| {
                    self.io("cannot set records aside that were never committed", source)
                })?;
                warn!(sink = %self.config.name, file = %aside.display(),
                    "the file held records that this ledger never committed; they are set aside and come again");
                self.begin(sequence)
            }
            Plan::Refuse(refusal) => Err(self.refused(&refusal.explain(position))),
        }
    }

    /// Renames the file to something that is free: a program that dies again and again does so within one second.
    fn set_aside(&self) -> io::Result<PathBuf> {
        let now = self.clock.now();
        for number in 1.. {
            let aside = self.names.unconfirmed(now, number);
            match rename_to_free(&self.names.current, &aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.map(|()| aside),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// What lies at the path.
    fn look(&self, position: Option<&Position>) -> Result<Found, Error> {
        let metadata = match fs::metadata(&self.names.current) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(source) => return Err(self.io("cannot look at the file", source)),
        };
        // A pipe or a device can be neither cut nor rotated, and the mere opening of a pipe may wait forever.
        if !metadata.is_file() {
            return Err(
                self.refused("`path` names a folder, pipe or device; it must be a regular file")
            );
        }
        let length = metadata.len();
        let has_position = match position {
            Some(position) if position.length <= length => {
                let tail = File::open(&self.names.current)
                    .and_then(|file| read_tail(&file, position.length));
                let tail =
                    tail.map_err(|source| self.io("cannot read the end of the file", source))?;
                tail.fingerprint() == position.tail
            }
            _ => false,
        };
        Ok(Found::Present {
            length,
            has_position,
        })
    }

    fn go_on(&mut self, position: &Position) -> Result<(), Error> {
        let opened = self.disk.open(&self.names.current).and_then(|mut file| {
            let tail = read_tail(file.file(), position.length)?;
            file.cut(position.length)?;
            Ok((file, tail))
        });
        let (file, tail) =
            opened.map_err(|source| self.io("cannot open the file and cut it", source))?;
        let committed = Mark {
            length: position.length,
            tail,
            since: position.since,
        };
        self.current = Some(Current {
            file,
            sequence: position.sequence,
            committed,
            written: None,
            is_dirty: false,
        });
        Ok(())
    }

    /// Starts a file: first the note, then the file.
    ///
    /// # If interrupted
    /// Without the note nothing happened. With it, the file is empty or missing and is begun again.
    fn begin(&mut self, sequence: u64) -> Result<(), Error> {
        self.begin_note(sequence)?;
        let opened = self.disk.open(&self.names.current).and_then(|mut file| {
            file.cut(0)?;
            file.sync()?;
            disk::sync_folder(&self.names.folder)?;
            Ok(file)
        });
        let file = opened.map_err(|source| self.io("cannot create the file at `path`", source))?;
        let committed = Mark::default();
        self.current = Some(Current {
            file,
            sequence,
            committed,
            written: None,
            is_dirty: false,
        });
        Ok(())
    }

    /// Makes sure that the open file is still the one at `path`, and as long as we left it. Without this, a log rotation
    /// that deletes files would have us write into one that no one can ever read.
    fn check_file(&mut self) -> Result<(), Error> {
        let Some(current) = &self.current else {
            return Err(self.refused("it was never resumed"));
        };
        let looked = current.file.file().metadata().and_then(|metadata| {
            Ok((
                metadata.len(),
                disk::is_at(current.file.file(), &self.names.current)?,
            ))
        });
        let (length, is_at) =
            looked.map_err(|source| self.io("cannot look at the file", source))?;
        if is_at && length == current.committed.length {
            return Ok(());
        }
        if is_at && length > current.committed.length {
            return Err(self.refused(
                "another program writes to the file at `path`; stop it, or give us another path",
            ));
        }
        let position = current.position(&current.committed);
        self.open(Some(&position))
    }

    /// Gives the file its final name and begins the next, when its size or age says so. Called while everything in it is
    /// committed.
    ///
    /// # If interrupted
    /// The note of the next file is durable before the rename. After a crash between the two, the file still is the
    /// committed one, and goes on. After the rename, it is not, so the note counts and the next file is begun.
    fn rotate_if_due(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if !is_due(&current.committed, &self.config, now) {
            return Ok(());
        }
        let sequence = current.sequence;
        let synced = current.file.sync();
        synced.map_err(|source| {
            io_error(
                &self.config,
                "cannot sync the file before it is rotated",
                source,
            )
        })?;
        let next = sequence.saturating_add(1).max(self.next_sequence()?);
        self.begin_note(next)?;
        let rotated = self.names.rotated(sequence, now);
        rename_to_free(&self.names.current, &rotated)
            .and_then(|()| disk::sync_folder(&self.names.folder))
            .map_err(|source| self.io("cannot rename the file to rotate it", source))?;
        info!(sink = %self.config.name, file = %rotated.display(), "file rotated");
        self.begin(next)?;
        self.sweep();
        Ok(())
    }

    fn sweep(&self) {
        if let Some(archive) = &self.archive {
            archive.sweep();
        }
    }

    fn next_sequence(&self) -> Result<u64, Error> {
        let rotated = self.names.list_rotated();
        let rotated =
            rotated.map_err(|source| self.io("cannot list the folder of `path`", source))?;
        Ok(rotated
            .iter()
            .map(|rotated| rotated.sequence)
            .max()
            .unwrap_or(0)
            .saturating_add(1))
    }

    fn begin_note(&mut self, sequence: u64) -> Result<(), Error> {
        let written = self.note.write(sequence);
        written.map_err(|source| self.io("cannot write the `.begun` file beside `path`", source))
    }

    fn remove_note(&mut self) -> Result<(), Error> {
        let removed = self.note.remove();
        removed.map_err(|source| self.io("cannot remove the `.begun` file beside `path`", source))
    }

    fn refused(&self, why: &str) -> Error {
        Error::Refused {
            what: format!("sink {}: {why}", self.config.name),
        }
    }

    fn io(&self, what: &str, source: io::Error) -> Error {
        io_error(&self.config, what, source)
    }
}

impl Current {
    fn position(&self, mark: &Mark) -> Position {
        Position {
            sequence: self.sequence,
            length: mark.length,
            tail: mark.tail.fingerprint(),
            since: mark.since,
        }
    }
}

fn io_error(config: &FileConfig, what: &str, source: io::Error) -> Error {
    Error::Io {
        what: format!("sink {}: {what}", config.name),
        source,
    }
}

fn write_lines(
    file: &mut dyn DataFile,
    batch: &Batch,
    lines: &mut Vec<u8>,
    mark: &mut Mark,
) -> io::Result<()> {
    lines.clear();
    let mut append = |bytes: &[u8]| {
        file.append(bytes)?;
        mark.length += bytes.len() as u64;
        mark.tail.push(bytes);
        io::Result::Ok(())
    };
    if let Some(runs) = batch.lines() {
        for run in runs {
            push_run(lines, run.text(), &mut append)?;
            if lines.len() >= CHUNK_BYTES {
                append(lines)?;
                lines.clear();
            }
        }
    } else {
        let mut run: Option<Lines<'_>> = None;
        for record in batch.records() {
            if run.as_mut().is_some_and(|run| run.extend(&record)) {
                continue;
            }
            if let Some(run) = std::mem::replace(&mut run, record.line()) {
                push_run(lines, run.text(), &mut append)?;
            }
            if run.is_none() {
                push_line(lines, &record);
            }
            if lines.len() >= CHUNK_BYTES {
                append(lines)?;
                lines.clear();
            }
        }
        if let Some(run) = run {
            push_run(lines, run.text(), &mut append)?;
        }
    }
    append(lines)?;
    lines.clear();
    // One record of many megabytes must not keep its size in memory forever.
    lines.shrink_to(2 * CHUNK_BYTES);
    file.sync()
}

/// Appends lines that lie somewhere already: from there, when they are many or one of many megabytes, as a copy of them
/// would cost more than a call.
fn push_run(
    lines: &mut Vec<u8>,
    run: &[u8],
    append: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if run.len() < RUN_BYTES {
        lines.extend_from_slice(run);
        return Ok(());
    }
    if !lines.is_empty() {
        append(lines)?;
        lines.clear();
    }
    append(run)
}

fn is_due(mark: &Mark, config: &FileConfig, now: Timestamp) -> bool {
    let is_old = match (mark.since, config.rotate_after) {
        // A clock that was set back gives a negative age, which is no age.
        (Some(since), Some(limit)) => {
            Duration::try_from(now.duration_since(since)).is_ok_and(|age| age >= limit)
        }
        _ => false,
    };
    mark.length > 0
        && (is_old
            || config
                .rotate_bytes
                .is_some_and(|limit| mark.length >= limit))
}

/// The bytes before `length`, which the file has.
fn read_tail(mut file: &File, length: u64) -> io::Result<Tail> {
    let count = length.min(TAIL_BYTES as u64);
    file.seek(SeekFrom::Start(length - count))?;
    let mut tail = Vec::with_capacity(TAIL_BYTES);
    file.take(count).read_to_end(&mut tail)?;
    Ok(Tail::new(&tail))
}

/// Renames, but never over a file that exists: that would be evidence. No one else renames while we hold the lock.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file of that name is there",
        ));
    }
    fs::rename(from, to)
}
