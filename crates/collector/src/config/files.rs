//! Reading the files that a configuration is made of, none of them without a limit: a path may name a device or a
//! database by mistake.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The file's bytes. The reason of a failure continues the sentence "the file …" and does not name the file.
pub(super) fn read_bytes(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!(
            "is longer than {max_bytes} bytes, so it cannot be the right one"
        ));
    }
    Ok(bytes)
}

/// The file's text.
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> Result<String, String> {
    String::from_utf8(read_bytes(path, max_bytes)?).map_err(|_| "is not UTF-8 text".to_owned())
}
