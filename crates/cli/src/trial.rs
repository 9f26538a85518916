//! Starts a program of another version to see whether it runs on this machine, before it replaces this one.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use collector::updater::{Trial, TrialError};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Printing a version takes milliseconds; on a small plan that is starting other things as well, seconds.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// More than a version line has.
const MAX_OUTPUT_BYTES: u64 = 4096;
/// "Text file busy": somebody else who starts a program at this moment still holds the file that was written.
const TEXT_FILE_BUSY: ErrorKind = ErrorKind::ExecutableFileBusy;
/// How often that is waited for.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The trial by a real process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessTrial;

#[async_trait::async_trait]
impl Trial for ProcessTrial {
    async fn version_of(&self, executable: &Path) -> Result<String, TrialError> {
        let run = async {
            let mut child = start(executable).await?;
            let mut printed = Vec::new();
            if let Some(stdout) = child.stdout.take() {
                let mut stdout = stdout.take(MAX_OUTPUT_BYTES);
                let read = stdout.read_to_end(&mut printed).await;
                read.map_err(|error| undecided(&error))?;
            }
            let status = child.wait().await.map_err(|error| undecided(&error))?;
            if !status.success() {
                return Err(TrialError::DoesNotStart(format!(
                    "o365-collector --version ended with {status}"
                )));
            }
            Ok(String::from_utf8_lossy(&printed).into_owned())
        };
        tokio::time::timeout(TIME_LIMIT, run).await.map_err(|_| {
            let secs = TIME_LIMIT.as_secs();
            TrialError::Undecided(format!(
                "o365-collector --version gave no answer within {secs} s"
            ))
        })?
    }
}

async fn start(executable: &Path) -> Result<tokio::process::Child, TrialError> {
    let mut tries = 0;
    loop {
        let started = Command::new(executable)
            .arg("--version")
            // It needs none of our secrets to tell its version.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        tries += 1;
        match started {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == TEXT_FILE_BUSY && tries < BUSY_TRIES => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) => return Err(not_started(&error)),
        }
    }
}

/// The file is there: that it is not found means that its loader is not, and that it is no program, that it was built for
/// another machine.
fn not_started(error: &std::io::Error) -> TrialError {
    /// ENOEXEC, which the standard library has no kind for.
    const NO_PROGRAM: i32 = 8;
    let is_the_programs_fault = error.kind() == ErrorKind::NotFound
        || (cfg!(unix) && error.raw_os_error() == Some(NO_PROGRAM));
    if is_the_programs_fault {
        TrialError::DoesNotStart(format!("this machine cannot start it ({error})"))
    } else {
        undecided(error)
    }
}

fn undecided(error: &std::io::Error) -> TrialError {
    TrialError::Undecided(error.to_string())
}

#[cfg(test)]
mod tests;
