//! What the demo shows while it runs: a live line on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::{IsTerminal as _, stdout};
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanFloatCount, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};
use simulator::Progress;

use crate::output::{self, Error};

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The display.
pub(super) struct Show {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    started: Instant,
}

impl Show {
    pub(super) fn begin(is_endless: bool, total: u64) -> Self {
        let bar = stdout().is_terminal().then(|| {
            let bar = if is_endless {
                ProgressBar::no_length()
            } else {
                ProgressBar::new(total)
            };
            bar.set_draw_target(ProgressDrawTarget::stdout_with_hz(10));
            let template = if is_endless {
                "{spinner} {human_pos} records delivered, {rate} — {msg}"
            } else {
                "{bar:30} {human_pos}/{human_len} records delivered, {rate} — {msg}"
            };
            let style = ProgressStyle::with_template(template).expect("the template is a constant");
            // Not `{per_sec}`, which shows four digits of a fraction.
            bar.set_style(style.with_key(
                "rate",
                |state: &ProgressState, out: &mut dyn fmt::Write| {
                    // What cannot be written to the line being made is left out of it.
                    out.write_str(&rate(state.per_sec())).unwrap_or_default();
                },
            ));
            bar
        });
        Self {
            bar,
            last_line: None,
            started: Instant::now(),
        }
    }

    pub(super) fn update(&mut self, progress: &Progress, file_bytes: u64) -> Result<(), Error> {
        let rest = format!(
            "{} blobs fetched, {} in the file",
            HumanCount(progress.blobs_fetched),
            HumanBytes(file_bytes)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(progress.records_acknowledged);
            bar.set_message(rest);
            Ok(())
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            self.line(progress.records_acknowledged, &rest)
        } else {
            Ok(())
        }
    }

    pub(super) fn say(&self, text: &str) -> Result<(), Error> {
        match &self.bar {
            Some(bar) => {
                bar.println(text);
                Ok(())
            }
            None => output::write_line(text),
        }
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        if let Some(bar) = &self.bar {
            bar.abandon();
            // What stays of the bar has no end of line.
            return output::write_line("");
        }
        output::write_line(format_args!(
            "done after {:.1} s",
            self.started.elapsed().as_secs_f64()
        ))
    }

    fn line(&self, delivered: u64, rest: &str) -> Result<(), Error> {
        output::write_line(format_args!(
            "{:6.1} s  {} records delivered, {rest}",
            self.started.elapsed().as_secs_f64(),
            HumanCount(delivered)
        ))
    }
}

/// Records per second as a person reads them.
fn rate(per_sec: f64) -> String {
    format!("{:.0}/s", HumanFloatCount(per_sec))
}

#[cfg(test)]
mod tests;
