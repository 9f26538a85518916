//! The counts that are written down, and by which compiler's code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml");

#[derive(Default)]
pub(crate) struct Baseline {
    /// What `rustc --version` said.
    pub(crate) rustc: String,
    pub(crate) counts: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Worse,
    Better,
    /// There is nothing to compare with.
    Unknown,
}

impl Baseline {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let table: toml::Table = fs::read_to_string(PATH)
            .context(PATH)?
            .parse()
            .context(PATH)?;
        let rustc = table.get("rustc").and_then(toml::Value::as_str);
        let counts = table.get("instructions").and_then(toml::Value::as_table);
        let counts = counts.context("no table of instructions")?.iter();
        let counts = counts.map(|(case, count)| {
            let count = count
                .as_integer()
                .and_then(|count| u64::try_from(count).ok());
            Ok((
                case.clone(),
                count.with_context(|| format!("{case} has no count"))?,
            ))
        });
        Ok(Self {
            rustc: rustc.context("no rustc")?.to_owned(),
            counts: counts.collect::<anyhow::Result<_>>()?,
        })
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let mut text = String::from(
            "# Instructions of each case of this crate, once. `scripts/bench instructions` compares, and\n\
             # `scripts/bench instructions write` writes this file anew: when the work became less, or more for a good reason.\n",
        );
        writeln!(text, "rustc = {:?}\n\n[instructions]", self.rustc)?;
        for (case, count) in &self.counts {
            writeln!(text, "{case} = {count}")?;
        }
        fs::write(PATH, text).context(PATH)
    }

    /// The count that is written down, and how much more `count` is.
    pub(crate) fn judge(&self, case: &str, count: u64, allowed: f64) -> (u64, f64, Verdict) {
        let Some(&before) = self.counts.get(case) else {
            return (0, 0.0, Verdict::Unknown);
        };
        let change = count as f64 / before as f64 - 1.0;
        let verdict = if change > allowed {
            Verdict::Worse
        } else if change < -allowed {
            Verdict::Better
        } else {
            Verdict::Same
        };
        (before, change, verdict)
    }
}
