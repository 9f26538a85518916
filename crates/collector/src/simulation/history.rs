//! What happened, step by step: a step is each moment at which the pipeline meets the outside, and the process can die at
//! any of them.

use std::hash::Hasher as _;

use xxhash_rust::xxh3::Xxh3Default;

/// The steps of one simulation.
pub(crate) struct History {
    step_count: u64,
    digest: Xxh3Default,
    lines: Option<Vec<String>>,
    /// The step at which the present life ends.
    dies_at: Option<u64>,
    is_dead: bool,
}

impl History {
    /// One whose lines are kept, or only digested.
    pub(crate) fn new(keeps_lines: bool) -> Self {
        Self {
            step_count: 0,
            digest: Xxh3Default::new(),
            lines: keeps_lines.then(Vec::new),
            dies_at: None,
            is_dead: false,
        }
    }

    pub(crate) fn begin_life(&mut self, dies_in: Option<usize>) {
        self.dies_at = dies_in.map(|steps| self.step_count + steps as u64);
        self.is_dead = false;
    }

    /// One more step. Whether the process dies at it.
    pub(crate) fn step(&mut self, what: &str) -> bool {
        self.step_count += 1;
        self.note(what);
        let dies = self.dies_at == Some(self.step_count);
        if dies {
            self.is_dead = true;
            self.note("the process dies");
        }
        dies
    }

    /// Something worth knowing that is no step.
    pub(crate) fn note(&mut self, what: &str) {
        self.digest.write(what.as_bytes());
        self.digest.write_u8(b'\n');
        if let Some(lines) = &mut self.lines {
            lines.push(what.to_owned());
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(crate) fn step_count(&self) -> u64 {
        self.step_count
    }

    /// What two equal histories have in common and no two others.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.digest()
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
