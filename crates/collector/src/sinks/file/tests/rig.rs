//! A folder, a clock, a disk with a quota, and the part of the ledger that keeps the position.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use super::super::{
    Compression, FileConfig, FileSink,
    disk::{DataFile, Disk, RealDisk},
    position::Position,
};
use crate::sinks::{
    Sink,
    testing::{SetClock, batch, records},
};

pub(super) struct Rig {
    // First, so that its lock and its thread are gone before the folder is.
    pub(super) sink: FileSink,
    pub(super) config: FileConfig,
    pub(super) clock: Arc<SetClock>,
    pub(super) quota: Quota,
    /// What the ledger committed last.
    pub(super) position: Option<String>,
    pub(super) folder: TempDir,
}

pub(super) fn config(folder: &Path) -> FileConfig {
    FileConfig {
        name: "file".parse().unwrap(),
        path: folder.join("audit.ndjson"),
        rotate_bytes: None,
        rotate_after: None,
        compression: Compression::None,
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings than the plain ones.
    pub(super) fn with(set: impl FnOnce(&mut FileConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        set(&mut config);
        let clock = SetClock::at("2026-07-16T10:00:00Z");
        let quota = Quota::default();
        let sink = sink(&config, &clock, &quota);
        Self {
            sink,
            config,
            clock,
            quota,
            position: None,
            folder,
        }
    }

    pub(super) async fn resumed() -> Self {
        let rig = Self::new();
        rig.sink.resume(None).await.unwrap();
        rig
    }

    /// Another process's sink for the same file.
    pub(super) fn another_sink(&self) -> FileSink {
        sink(&self.config, &self.clock, &self.quota)
    }

    /// Delivers and commits.
    pub(super) async fn deliver(&mut self, first: usize, count: usize) {
        self.position = self
            .sink
            .deliver(&batch(&records(first, count)))
            .await
            .unwrap()
            .position;
    }

    /// Delivers what the ledger never commits.
    pub(super) async fn deliver_uncommitted(&self, first: usize, count: usize) {
        self.sink
            .deliver(&batch(&records(first, count)))
            .await
            .unwrap();
    }

    /// The process dies, and what the folder holds is all that is left.
    pub(super) fn crash(&mut self) {
        self.sink =
            FileSink::build(config(Path::new("/nowhere")), Arc::clone(&self.clock) as _).unwrap();
        self.sink = self.another_sink();
    }

    /// The process dies and the next one starts.
    pub(super) async fn restart(&mut self) {
        self.crash();
        self.resume().await;
    }

    pub(super) async fn resume(&self) {
        self.sink.resume(self.position.as_deref()).await.unwrap();
    }

    /// Why the next start is refused; checks that it changes nothing.
    pub(super) async fn resume_refused(&self) -> String {
        let before = self.text("audit.ndjson");
        let error = self
            .sink
            .resume(self.position.as_deref())
            .await
            .unwrap_err();
        assert!(
            matches!(error, crate::sinks::Error::Refused { .. }),
            "{error:?}"
        );
        assert_eq!(
            self.text("audit.ndjson"),
            before,
            "a refused file is not touched"
        );
        error.to_string()
    }

    pub(super) fn committed(&self) -> Position {
        Position::parse(self.position.as_deref().unwrap()).unwrap()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "the last line is torn: {:?}",
            text.lines().last()
        );
        text.split_terminator('\n').map(str::to_owned).collect()
    }

    /// All rotated files and the one being written, in the order of their sequences.
    pub(super) fn all_lines(&self) -> Vec<String> {
        let names = self.names().into_iter();
        let rotated = names.filter(|name| name.starts_with("audit-") && name.ends_with(".ndjson"));
        rotated
            .chain(["audit.ndjson".to_owned()])
            .flat_map(|name| self.lines(&name))
            .collect()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn append(&self, name: &str, text: &str) {
        self.write(name, &(self.text(name) + text));
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// What is in the folder, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn has_archive_failed(&self) -> bool {
        self.sink.writer.lock().unwrap().has_archive_failed()
    }

    /// Waits until rotated files are compressed.
    pub(super) fn finish_archive(&self) {
        self.sink.writer.lock().unwrap().finish_archive();
    }
}

fn sink(config: &FileConfig, clock: &Arc<SetClock>, quota: &Quota) -> FileSink {
    FileSink::build_on(
        config.clone(),
        Arc::clone(clock) as _,
        Box::new(quota.clone()),
    )
    .unwrap()
}

/// The real disk, which fails when it is told to.
#[derive(Clone, Default)]
pub(super) struct Quota(Arc<Faults>);

struct Faults {
    /// Bytes that still find room before one write fails; `NEVER` is unlimited.
    room: AtomicUsize,
    failing_syncs: AtomicUsize,
    failing_cuts: AtomicUsize,
}

const NEVER: usize = usize::MAX;

impl Default for Faults {
    fn default() -> Self {
        Self {
            room: NEVER.into(),
            failing_syncs: 0.into(),
            failing_cuts: 0.into(),
        }
    }
}

impl Quota {
    pub(super) fn fail_append_after(&self, bytes: usize) {
        self.0.room.store(bytes, Ordering::SeqCst);
    }

    pub(super) fn fail_next_sync(&self) {
        self.0.failing_syncs.store(1, Ordering::SeqCst);
    }

    pub(super) fn fail_next_cuts(&self, count: usize) {
        self.0.failing_cuts.store(count, Ordering::SeqCst);
    }
}

impl Disk for Quota {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        Ok(Box::new(QuotaFile {
            file: RealDisk.open(path)?,
            faults: Arc::clone(&self.0),
        }))
    }
}

struct QuotaFile {
    file: Box<dyn DataFile>,
    faults: Arc<Faults>,
}

fn take_one(count: &AtomicUsize) -> io::Result<()> {
    match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
        count.checked_sub(1)
    }) {
        Ok(_) => Err(io::Error::other("the disk does as the test says")),
        Err(_) => Ok(()),
    }
}

impl DataFile for QuotaFile {
    fn file(&self) -> &File {
        self.file.file()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.faults.room.load(Ordering::SeqCst);
        if room == NEVER {
            return self.file.append(bytes);
        }
        if bytes.len() <= room {
            self.faults.room.store(room - bytes.len(), Ordering::SeqCst);
            return self.file.append(bytes);
        }
        self.faults.room.store(NEVER, Ordering::SeqCst);
        self.file.append(&bytes[..room])?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        take_one(&self.faults.failing_syncs)?;
        self.file.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        take_one(&self.faults.failing_cuts)?;
        self.file.cut(length)
    }
}
