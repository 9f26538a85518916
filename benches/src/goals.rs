//! The goals of the project, each held against what was measured. One that is not kept is said to be so, and the suite
//! ends well all the same: on a machine with other work no figure proves a defect.

use std::fmt;

/// Goals in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Goals(Vec<Goal>);

struct Goal {
    what: String,
    measured: f64,
    bound: f64,
    is_floor: bool,
    unit: &'static str,
}

impl Goals {
    /// A figure that must not be above `bound`.
    pub(crate) fn at_most(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        bound: f64,
        unit: &'static str,
    ) {
        self.add(what.into(), measured, bound, false, unit);
    }

    /// A figure that must not be below `bound`.
    pub(crate) fn at_least(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        bound: f64,
        unit: &'static str,
    ) {
        self.add(what.into(), measured, bound, true, unit);
    }

    pub(crate) fn has_any(&self) -> bool {
        !self.0.is_empty()
    }

    fn add(&mut self, what: String, measured: f64, bound: f64, is_floor: bool, unit: &'static str) {
        self.0.push(Goal {
            what,
            measured,
            bound,
            is_floor,
            unit,
        });
    }
}

impl Goal {
    /// What is no number keeps nothing.
    fn is_kept(&self) -> bool {
        if self.is_floor {
            self.measured >= self.bound
        } else {
            self.measured <= self.bound
        }
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<70} {:>12} {:>14}", "goal", "measured", "bound")?;
        for goal in &self.0 {
            writeln!(
                f,
                "{:<70} {:>12} {:>14}  {}",
                goal.what,
                format!("{:.2}{}", goal.measured, goal.unit),
                format!(
                    "{} {}{}",
                    if goal.is_floor { "≥" } else { "≤" },
                    goal.bound,
                    goal.unit
                ),
                if goal.is_kept() { "kept" } else { "NOT KEPT" },
            )?;
        }
        let kept = self.0.iter().filter(|goal| goal.is_kept()).count();
        write!(f, "{kept} of {} goals kept", self.0.len())
    }
}
