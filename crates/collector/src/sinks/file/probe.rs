//! Whether the file could be written to, found without touching it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use ledger::SinkName;

use super::names::Names;
use crate::sinks::Error;

/// What is at the path, and that it may be written to.
///
/// # Errors
/// [`Error::Refused`] when there is no folder, or something else than a file; [`Error::Io`] when it may not be written to.
pub(super) fn probe(name: &SinkName, names: &Names) -> Result<String, Error> {
    // Whole paths: a relative one begins at a folder that whoever reads it may not be in.
    let folder = whole(&names.folder);
    let refused = |what: String| Error::Refused {
        what: format!("sink {name}: {what}"),
    };
    let failed = |what: String| {
        let what = format!("sink {name}: {what}");
        |source: io::Error| Error::Io { what, source }
    };
    match fs::metadata(&names.folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(refused(format!(
                "{folder} is no folder; name another file in `path`"
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused(format!(
                "the folder {folder} does not exist; create it, or name another file in `path`"
            )));
        }
        Err(error) => {
            return Err(failed(format!("the folder {folder} cannot be looked at"))(
                error,
            ));
        }
    }
    // It has no name, so that nothing is left of it whatever happens.
    let made = tempfile::tempfile_in(&names.folder);
    made.map_err(failed(format!(
        "files must be made in {folder}; allow that to the user that the collector runs as"
    )))?;
    let path = whole(&names.current);
    match fs::metadata(&names.current) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(format!("{path} is made at the first start"))
        }
        Err(error) => Err(failed(format!("{path} cannot be looked at"))(error)),
        // The mere opening of a pipe may wait forever.
        Ok(found) if !found.is_file() => Err(refused(
            "`path` names a folder, pipe or device; it must be a regular file".to_owned(),
        )),
        Ok(found) => {
            let opened = OpenOptions::new().write(true).open(&names.current);
            opened.map_err(failed(format!(
                "{path} must be written to; allow that to the user that the collector runs as"
            )))?;
            Ok(format!(
                "{path} has {} bytes and may be written to",
                found.len()
            ))
        }
    }
}

fn whole(path: &Path) -> String {
    let whole = std::path::absolute(path);
    whole.as_deref().unwrap_or(path).display().to_string()
}
