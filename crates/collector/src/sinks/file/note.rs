//! The note beside a file that has no committed record yet: which one it is, by its sequence. What it is for stands in `plan.rs`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use super::{disk, names::Names, plan::Note};

pub(super) struct NoteFile {
    path: PathBuf,
    folder: PathBuf,
    /// Which file this process wrote the note for.
    begun: Option<u64>,
    /// Kept, so that a delivery need not look.
    is_there: bool,
}

/// What was found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDisk {
    Nothing,
    Note(Note),
    /// Something else. Not from a crash of ours, for a note gets its name as a whole.
    Foreign,
}

impl OnDisk {
    pub(super) fn into_note(self) -> Option<Note> {
        match self {
            Self::Note(note) => Some(note),
            Self::Nothing | Self::Foreign => None,
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NoteText {
    sequence: u64,
}

impl NoteFile {
    pub(super) fn new(names: &Names) -> Self {
        Self {
            path: names.note.clone(),
            folder: names.folder.clone(),
            begun: None,
            is_there: false,
        }
    }

    pub(super) fn read(&mut self) -> io::Result<OnDisk> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.is_there = false;
                return Ok(OnDisk::Nothing);
            }
            Err(error) => return Err(error),
        };
        self.is_there = true;
        Ok(match serde_json::from_slice(&text) {
            Ok(NoteText { sequence }) => OnDisk::Note(Note {
                sequence,
                is_ours: self.begun == Some(sequence),
            }),
            Err(_) => OnDisk::Foreign,
        })
    }

    /// Returns once the note survives a loss of power.
    ///
    /// # If interrupted
    /// The old note or none is there, or the whole of this one: it gets its name by a rename.
    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        let text = serde_json::to_vec(&NoteText { sequence }).expect("a number is always JSON");
        let unfinished = self.path.with_added_extension("tmp");
        let mut file = disk::open_private(&unfinished)?;
        file.set_len(0)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        self.is_there = true;
        self.begun = Some(sequence);
        disk::sync_folder(&self.folder)
    }

    /// Not synced: a note that comes back after a loss of power is outdone by the committed position.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        if self.is_there {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.is_there = false,
            }
        }
        Ok(())
    }
}
