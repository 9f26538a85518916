//! `package`: the function app as one zip, ready to be deployed. The same program always makes the same bytes, so that a
//! package can be named by its digest.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::functions::manifest::{self, EXECUTABLE};
use crate::output;

/// An executable of Linux on x86-64 begins like this: format, 64 bits, low byte first.
const ELF: &[u8] = b"\x7fELF\x02\x01";
/// Where it says which processor it is for, and what it says.
const MACHINE: std::ops::Range<usize> = 18..20;
const X86_64: [u8; 2] = [0x3e, 0];

pub(super) fn package(target: &Path, binary: Option<&Path>) -> anyhow::Result<ExitCode> {
    let own;
    let binary = match binary {
        Some(binary) => binary,
        None => {
            own = std::env::current_exe()
                .context("the path of this program is not known; name it with --binary")?;
            &own
        }
    };
    let program =
        fs::read(binary).with_context(|| format!("{} cannot be read", binary.display()))?;
    if !program.starts_with(ELF) || program.get(MACHINE) != Some(&X86_64) {
        bail!(
            "{} is no Linux program for x86-64, which is what a function app runs; name one with --binary",
            binary.display()
        );
    }
    let zip = make(&program)?;
    // Written beside it and put in its place whole: half a package could be deployed.
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let cannot = || format!("{} cannot be written", target.display());
    let mut file = tempfile::Builder::new()
        .permissions(readable())
        .tempfile_in(folder)
        .with_context(cannot)?;
    file.write_all(&zip).with_context(cannot)?;
    file.persist(target).with_context(cannot)?;
    output::write_line(format_args!("{}  {}", sha256(&zip), target.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// As any new file's; a temporary one would be its owner's alone.
fn readable() -> fs::Permissions {
    #[cfg(unix)]
    {
        std::os::unix::fs::PermissionsExt::from_mode(0o644)
    }
    #[cfg(not(unix))]
    {
        unreachable!("a package can be made of a Linux program only, and is made where one runs")
    }
}

/// The package with this program in it.
fn make(program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut files: Vec<_> = manifest::files()
        .into_iter()
        .map(|file| (file.path, file.bytes, 0o644))
        .collect();
    // Without the bit it would lie there and not start: the package is mounted as it is.
    files.push((EXECUTABLE.to_owned(), program.to_vec().into(), 0o755));
    files.sort_by(|one, other| one.0.cmp(&other.0));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes, mode) in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(6))
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        zip.start_file(path, options)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    //! A package taken apart again.

    use std::io::Read as _;

    use zip::ZipArchive;

    use super::*;

    fn program() -> Vec<u8> {
        let mut program = ELF.to_vec();
        program.resize(18, 0);
        program.extend(X86_64);
        program.resize(100_000, 7);
        program
    }

    #[test]
    fn a_package_holds_the_folder_and_a_program_that_may_be_run() {
        let zip = make(&program()).unwrap();
        let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut names = Vec::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            let name = file.name().unwrap().into_owned();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            let mode = file.unix_mode().unwrap() & 0o7777;
            let expected = if name == EXECUTABLE { 0o755 } else { 0o644 };
            assert_eq!(mode, expected, "{name}");
            assert_eq!(file.last_modified(), Some(DateTime::default()));
            match manifest::files()
                .into_iter()
                .find(|other| other.path == name)
            {
                Some(expected) => assert_eq!(expected.bytes, bytes),
                None => assert_eq!(bytes, program()),
            }
            names.push(name);
        }
        assert_eq!(
            names,
            [
                "Deliver/function.json",
                "Master/function.json",
                "O365WebHook/function.json",
                "Poll/function.json",
                "Updater/function.json",
                "host.json",
                "o365-collector",
            ]
        );
    }

    #[test]
    fn the_same_program_makes_the_same_package() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, program()).unwrap();
        let packages = ["one.zip", "two.zip"].map(|name| {
            let target = folder.path().join(name);
            package(&target, Some(&binary)).unwrap();
            fs::read(target).unwrap()
        });
        assert!(packages[0] == packages[1]);
    }

    #[test]
    fn what_a_function_app_cannot_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        let mut arm = program();
        arm[18] = 0xb7;
        for bytes in [b"MZ".to_vec(), Vec::new(), arm] {
            fs::write(&binary, bytes).unwrap();
            let error = package(&folder.path().join("out.zip"), Some(&binary)).unwrap_err();
            assert!(error.to_string().contains("--binary"), "{error}");
            assert!(!folder.path().join("out.zip").exists());
        }
    }

    #[test]
    fn a_digest_is_written_as_everybody_writes_it() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
