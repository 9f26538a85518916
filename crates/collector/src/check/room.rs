//! Room on the disks that are written to: one that is full stops collecting, and few look at it before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::status::text;

/// Less than this is told. The ledger of a large tenant grows by less in a month; a file takes it in an hour.
const LITTLE: u64 = 1 << 30;

/// How much room there is in each of these folders, those of one disk in one finding. Nothing of a folder that does not say.
pub fn of_disks<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Vec<Finding> {
    let mut disks: BTreeMap<u64, (u64, Vec<PathBuf>)> = BTreeMap::new();
    for folder in folders {
        let Some((disk, free)) = free_bytes(folder) else {
            continue;
        };
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let (_, known) = disks.entry(disk).or_insert_with(|| (free, Vec::new()));
        if !known.contains(&folder) {
            known.push(folder);
        }
    }
    let findings = disks.into_values().map(|(free, folders)| {
        let folders: Vec<_> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        judge(free, &folders.join(" and "))
    });
    findings.collect()
}

fn judge(free: u64, folders: &str) -> Finding {
    let left = text::bytes(free);
    match free < LITTLE {
        false => Finding::fine("room", format!("{left} are free in {folders}")),
        true => Finding::note(
            "room",
            format!(
                "only {left} are free in {folders}: make room, or name another disk; when it is full nothing is lost, but nothing \
                 is collected"
            ),
        ),
    }
}

/// Which disk a folder is on, and how much of it this user may still write.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let disk = std::fs::metadata(folder).ok()?.dev();
    let found = rustix::fs::statvfs(folder).ok()?;
    Some((disk, found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    #[test]
    fn little_room_is_told_and_much_is_fine() {
        assert_eq!(judge(LITTLE, "/srv").verdict, Verdict::Fine);
        let little = judge(LITTLE - 1, "/srv");
        assert_eq!(little.verdict, Verdict::Note);
        assert!(
            little
                .says
                .starts_with("only 1.0 GiB are free in /srv: make room"),
            "{little:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn folders_of_one_disk_are_told_together_and_none_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&other).unwrap();
        let missing = folder.path().join("missing");
        let found = of_disks([&*one, &*missing, &*other, &*one]);
        assert_eq!(found.len(), 1, "{found:?}");
        let both = format!("{} and {}", one.display(), other.display());
        assert!(found[0].says.contains(&both), "{found:?}");
        assert_eq!(found[0].says.matches("one").count(), 1, "{found:?}");
    }
}
