//! A process that runs beside the suite, until it is asked to end or the suite goes on without it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use benches::process;

/// A process. Dropping it kills it.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it and waits until it says `ready` on standard error. Gives the line in which it did.
    pub(crate) fn start(command: &mut Command, ready: &str) -> anyhow::Result<(Self, String)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{:?} cannot be started", command.get_program()))?;
        let stderr = child.stderr.take().context("standard error is a pipe")?;
        let running = Self(child);
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.contains(ready) {
                // The rest is read so that the program never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok((running, line));
            }
            said.push(line);
        }
        bail!(
            "the program ended before it said {ready:?}; it said:\n{}",
            said.join("\n")
        )
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }

    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(&self.id())
    }

    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        process::resident_mib(&self.id())
    }

    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        process::peak_mib(&self.id())
    }

    /// Ends it in good order. Whether it was content.
    pub(crate) fn interrupt(mut self) -> anyhow::Result<bool> {
        Command::new("kill").args(["-INT", &self.id()]).status()?;
        Ok(self.0.wait()?.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails when the process has ended, which is as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
