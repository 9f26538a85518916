//! What the demo shows while it runs: a live line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, stdout};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use simulator::Progress;

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
                "{spinner} {human_pos} records delivered, {per_sec} — {msg}"
            } else {
                "{bar:30} {human_pos}/{human_len} records delivered, {per_sec} — {msg}"
            };
            bar.set_style(
                ProgressStyle::with_template(template).expect("the template is a constant"),
            );
            bar
        });
        Self {
            bar,
            last_line: None,
            started: Instant::now(),
        }
    }

    pub(super) fn update(&mut self, progress: &Progress, file_bytes: u64) {
        let rest = format!(
            "{} blobs fetched, {} in the file",
            HumanCount(progress.blobs_fetched),
            HumanBytes(file_bytes)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(progress.records_acknowledged);
            bar.set_message(rest);
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            self.line(progress.records_acknowledged, &rest);
        }
    }

    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => println!("{text}"),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        } else {
            println!("done after {:.1} s", self.started.elapsed().as_secs_f64());
        }
    }

    fn line(&self, delivered: u64, rest: &str) {
        println!(
            "{:6.1} s  {} records delivered, {rest}",
            self.started.elapsed().as_secs_f64(),
            HumanCount(delivered)
        );
    }
}
