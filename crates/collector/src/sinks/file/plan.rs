//! What to do with the file that is found at a start: the one decision between "cut it", "go on" and "leave it alone".
//! Pure; [`super::writer`] carries it out.
//!
//! A file begins with a note beside it that carries its sequence. The note is durable before the file's first byte and goes
//! when the ledger has committed a length of it. So whatever a crash leaves behind, these three together say what the
//! bytes in the file are: the committed position, the note, and whether the file's bytes are those of the position.

use super::position::Position;

/// The file as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    Present {
        /// Bytes.
        length: u64,
        /// It is as long as the committed position at least, and the bytes before that are the ones committed.
        has_position: bool,
    },
}

/// The note beside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// Which file was begun.
    pub(super) sequence: u64,
    /// This very process wrote the note, so that the position it is compared with is from the same ledger.
    pub(super) is_ours: bool,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Cut it to the committed length and append there.
    Continue,
    /// Empty it, or create it. Nothing in it is committed.
    Begin { sequence: u64, why: Begun },
    /// Rename it out of the way, then begin this one.
    SetAside { sequence: u64 },
    /// Leave it alone.
    Refuse(Refusal),
}

/// Why a file is begun, as far as a person should hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// The first one, or the one after a rotation.
    InTurn,
    /// The committed one is gone.
    Vanished,
    /// Somebody emptied the committed one.
    Emptied,
}

/// Why the file is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It holds something, and this ledger never committed any of it.
    Foreign,
    /// It is shorter than what was committed.
    Shorter { length: u64 },
    /// It is long enough, but not what was committed.
    Different,
}

impl Refusal {
    /// What is the matter and how to mend it.
    pub(super) fn explain(self, position: Option<&Position>) -> String {
        let committed = position.map_or(0, |position| position.length);
        match self {
            Self::Foreign => "the file at `path` is not empty, and this ledger knows nothing of it. It is not touched: \
                 move it away, or name another `path`"
                .to_owned(),
            Self::Shorter { length } => format!(
                "the file at `path` has {length} bytes, but {committed} were delivered to it: somebody cut or \
                 replaced it. Put the right one back, or move this one away and a new one is begun"
            ),
            Self::Different => format!(
                "the file at `path` is not the one that records were delivered to: what stands before byte \
                 {committed} is different. Put the right one back, or move this one away and a new one is begun"
            ),
        }
    }
}

/// Decides. `next_sequence` is one that no rotated file in the folder has.
///
/// A missing or emptied file is not refused: the collector must not stand still, and lose what expires at Microsoft meanwhile,
/// because somebody moved a file that was theirs to move. It is reported instead. A file that is neither what was
/// committed nor empty may be evidence, so a person must look at it.
pub(super) fn plan_resume(
    position: Option<&Position>,
    note: Option<Note>,
    found: Found,
    next_sequence: u64,
) -> Plan {
    // A position without a byte says no more of the file's bytes than none does.
    let Some(position) = position.filter(|position| position.length > 0) else {
        return match (found, note) {
            (Found::Missing | Found::Present { length: 0, .. }, note) => {
                let sequence = note.map_or(next_sequence, |note| note.sequence.max(next_sequence));
                Plan::Begin {
                    sequence,
                    why: Begun::InTurn,
                }
            }
            (Found::Present { .. }, Some(note)) if note.is_ours => Plan::Begin {
                sequence: note.sequence,
                why: Begun::InTurn,
            },
            // An earlier process wrote it and was stopped before its first commit, as far as this ledger knows. Yet it
            // may be another ledger's, of which the file is all that is left; so it is kept, under another name.
            (Found::Present { .. }, Some(note)) => Plan::SetAside {
                sequence: note.sequence.max(next_sequence),
            },
            (Found::Present { .. }, None) => Plan::Refuse(Refusal::Foreign),
        };
    };
    match (found, note) {
        // Before the note is looked at: a crash between the note and the rename of a rotation leaves both.
        (
            Found::Present {
                has_position: true, ..
            },
            _,
        ) => Plan::Continue,
        // The rename happened, and what lies in the place is the next file, without a committed record.
        (_, Some(note)) if note.sequence > position.sequence => Plan::Begin {
            sequence: note.sequence,
            why: Begun::InTurn,
        },
        (Found::Missing, _) => Plan::Begin {
            sequence: after(position, next_sequence),
            why: Begun::Vanished,
        },
        (Found::Present { length: 0, .. }, _) => Plan::Begin {
            sequence: after(position, next_sequence),
            why: Begun::Emptied,
        },
        (Found::Present { length, .. }, _) if length < position.length => {
            Plan::Refuse(Refusal::Shorter { length })
        }
        (Found::Present { .. }, _) => Plan::Refuse(Refusal::Different),
    }
}

fn after(position: &Position, next_sequence: u64) -> u64 {
    position.sequence.saturating_add(1).max(next_sequence)
}
