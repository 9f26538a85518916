//! Programs that start and programs that do not.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn program(folder: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join("o365-collector");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

async fn outcome(bytes: &[u8]) -> Result<String, TrialError> {
    let folder = tempfile::tempdir().unwrap();
    ProcessTrial
        .version_of(&program(folder.path(), bytes))
        .await
}

#[tokio::test]
async fn a_program_that_starts_tells_its_version_and_sees_no_variable_of_ours() {
    let printed = outcome(b"#!/bin/sh\necho \"o365-collector 0.2.0\"\nenv\n")
        .await
        .unwrap();
    assert!(printed.starts_with("o365-collector 0.2.0\n"));
    assert!(!printed.contains("CARGO"), "{printed}");
}

#[tokio::test]
async fn a_program_that_cannot_start_here_is_told_from_one_that_nobody_could_try() {
    for bytes in [
        b"#!/bin/sh\nexit 3\n".as_slice(),
        b"#!/no/such/loader\n",
        b"\x7fELF\x02\x01\x01 of another machine",
        b"",
    ] {
        let outcome = outcome(bytes).await;
        assert!(
            matches!(outcome, Err(TrialError::DoesNotStart(_))),
            "{outcome:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("o365-collector");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    let outcome = ProcessTrial.version_of(&path).await;
    assert!(
        matches!(outcome, Err(TrialError::Undecided(_))),
        "{outcome:?}"
    );
}
