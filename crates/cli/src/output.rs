//! Standard output, where data goes, and the few words to standard error. `print!` is not used for either: it panics
//! when whoever read has gone away, as `head -1` does.

use std::fmt;
use std::io::{self, Write as _, stderr, stdout};

/// Standard output did not take what was written.
#[derive(Debug)]
pub(crate) struct Error(io::Error);

impl Error {
    /// Whether whoever read has gone away: they have had enough, and nothing is wrong.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output cannot be written to")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Writes `text` to standard output as it is, and sees it out.
///
/// # Errors
/// When not all of it was taken. A command that only writes hands the error up, to where a closed output is told apart.
pub(crate) fn write(text: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut out = stdout().lock();
    out.write_all(text.as_ref())
        .and_then(|()| out.flush())
        .map_err(Error)
}

/// Writes `line` and a line break to standard output.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_line(line: impl fmt::Display) -> Result<(), Error> {
    write(format!("{line}\n"))
}

/// What came of writing, for a command that has an answer of its own in its exit code: that nobody read it is fine.
///
/// # Errors
/// Any other failure to write.
pub(crate) fn or_closed(written: Result<(), Error>) -> Result<(), Error> {
    match written {
        Err(error) if error.is_closed() => Ok(()),
        written => written,
    }
}

/// Tells a person something on standard error. Where even that is closed there is nobody to tell, and work goes on.
pub(crate) fn say(line: impl fmt::Display) {
    drop(stderr().write_all(format!("{line}\n").as_bytes()));
}
