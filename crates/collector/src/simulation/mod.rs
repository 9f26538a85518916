//! The whole pipeline under a virtual clock and a seeded scheduler: one seed is one history, with faults of everything
//! outside and with deaths of the process at any moment at which it meets the outside.
//!
//! What is real: the pipeline from discovery to settlement, and the ledger's SQL. What is not: Microsoft, the sinks, the
//! time, and the disk. A death drops the runtime where it stands; the next life finds the ledger and the sinks as they
//! were.
//!
//! A seed that fails names the command that replays it with every step.

mod chance;
mod history;
mod ledger;
mod life;
mod microsoft;
mod notifier;
mod plan;
mod sink;
mod tests;
mod truth;
mod verdict;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use ::ledger::SqliteLedger;
use jiff::Timestamp;

use chance::Chance;
use plan::{Plan, PlannedLife, beginning};
use truth::End;
use world::World;

thread_local! {
    /// The scheduler of the simulation that runs on this thread.
    static SCHEDULER: RefCell<Option<Chance>> = const { RefCell::new(None) };
    static PART_BYTES: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which of `branches` a `select!` looks at first: by the seed in a simulation, by chance elsewhere.
pub(crate) fn first_branch(branches: u32) -> u32 {
    SCHEDULER.with_borrow_mut(|scheduler| match scheduler {
        Some(chance) => chance.below(branches as usize) as u32,
        None => tokio::macros::support::thread_rng_n(branches),
    })
}

/// How much text a part holds in the simulation that runs on this thread, if one does.
pub(crate) fn part_bytes() -> Option<usize> {
    PART_BYTES.get()
}

/// What came of one seed.
struct Outcome {
    seed: u64,
    violations: Vec<String>,
    step_count: u64,
    life_count: u32,
    digest: u64,
    lines: Vec<String>,
    ends: BTreeMap<usize, End>,
    /// The blobs in the order in which they ended.
    order: Vec<usize>,
    /// When the status first said that blobs will be lost, and when the first was.
    alarmed_at: Option<Timestamp>,
    expired_at: Option<Timestamp>,
}

/// Runs one seed from its beginning to its verdict.
fn simulate(plan: Plan, keeps_lines: bool) -> Outcome {
    let seed = plan.seed;
    SCHEDULER.set(Some(Chance::apart(seed, 3)));
    PART_BYTES.set(Some(plan::PART_BYTES));
    let world = Arc::new(World::new(plan, keeps_lines));
    let mut ledger = SqliteLedger::in_memory().unwrap();
    let mut now = beginning();
    for planned in &world.plan.lives {
        let PlannedLife { down_for, .. } = planned;
        (ledger, now) = life::live(&world, ledger, now, planned);
        now += *down_for;
    }
    world.calm_down();
    (ledger, now) = life::recover(&world, ledger, now);
    verdict::judge(&world, &ledger, now);
    SCHEDULER.set(None);
    PART_BYTES.set(None);
    let state = world.state();
    Outcome {
        seed,
        violations: state.violations().to_vec(),
        step_count: state.history.step_count(),
        life_count: state.life_count(),
        digest: state.history.digest(),
        lines: state.history.lines().to_vec(),
        ends: state.truth.ended.clone(),
        order: state.truth.order.clone(),
        alarmed_at: state.alarmed_at,
        expired_at: state.truth.expired_at,
    }
}
