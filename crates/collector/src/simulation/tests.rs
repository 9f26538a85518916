//! Thousands of seeds, one seed again, and bugs planted to see that they are found.

mod backlog;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::env::{Lookup as _, ProcessEnv};
use crate::planted::{self, Bug};

/// How many seeds a plain run of the tests goes through.
const SEED_COUNT: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    ProcessEnv.get(variable)?.parse().ok()
}

/// Runs seeds from `first` on, on every core, until `count` are done or one is found wrong; that one, and how many ran.
fn search(first: u64, count: u64, bug: Option<Bug>) -> (Option<Outcome>, u64) {
    let next = AtomicU64::new(first);
    let steps = AtomicU64::new(0);
    let lives = AtomicU64::new(0);
    let found: Mutex<Option<Outcome>> = Mutex::new(None);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                planted::plant(bug);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || found.lock().unwrap().is_some() {
                        return;
                    }
                    let outcome = simulate(Plan::of(seed), false);
                    steps.fetch_add(outcome.step_count, Ordering::Relaxed);
                    lives.fetch_add(u64::from(outcome.life_count), Ordering::Relaxed);
                    if !outcome.violations.is_empty() {
                        let mut found = found.lock().unwrap();
                        // The smallest of those that run at once, so that a run repeats itself.
                        if found.as_ref().is_none_or(|other| outcome.seed < other.seed) {
                            *found = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    let ran = next.load(Ordering::Relaxed).min(first + count) - first;
    eprintln!(
        "{ran} seeds, {} lives, {} steps",
        lives.into_inner(),
        steps.into_inner()
    );
    (found.into_inner().unwrap(), ran)
}

fn tell(outcome: &Outcome) -> String {
    format!(
        "seed {} is wrong:\n  {}\nsee every step of it with\n  O365_SIM_SEED={} cargo test -p collector --lib simulation::tests::one_seed_is_replayed -- --nocapture",
        outcome.seed,
        outcome.violations.join("\n  "),
        outcome.seed
    )
}

/// `O365_SIM_SEEDS` asks for more of them, and `O365_SIM_FIRST` for others.
#[test]
fn whatever_fails_and_whenever_it_dies_nothing_is_lost() {
    let count = number("O365_SIM_SEEDS").unwrap_or(SEED_COUNT);
    let first = number("O365_SIM_FIRST").unwrap_or(0);
    if let (Some(outcome), _) = search(first, count, None) {
        panic!("{}", tell(&outcome));
    }
}

/// `O365_SIM_SEED` says which.
#[test]
fn one_seed_is_replayed() {
    let outcome = simulate(Plan::of(number("O365_SIM_SEED").unwrap_or(1)), true);
    if number("O365_SIM_SEED").is_some() {
        eprintln!("{}", outcome.lines.join("\n"));
    }
    assert!(outcome.violations.is_empty(), "{}", tell(&outcome));
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..25 {
        let first = simulate(Plan::of(seed), true);
        let second = simulate(Plan::of(seed), true);
        let differs = first
            .lines
            .iter()
            .zip(&second.lines)
            .position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!(
                "seed {seed} differs at step {at}:\n{}\nand then\n{}\nor\n{}",
                first.lines[at.saturating_sub(5)..at].join("\n"),
                first.lines[at],
                second.lines[at]
            );
        }
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

fn is_found(bug: Bug) {
    let (found, ran) = search(0, 400, Some(bug));
    let outcome = found.unwrap_or_else(|| panic!("{bug:?} was not found in {ran} seeds"));
    eprintln!(
        "{bug:?} was found by seed {}, of {ran}: {}",
        outcome.seed, outcome.violations[0]
    );
}

#[test]
fn an_acknowledgement_before_sending_is_found() {
    is_found(Bug::AcknowledgesBeforeSending);
}

#[test]
fn a_last_page_that_is_dropped_is_found() {
    is_found(Bug::DropsTheLastPage);
}

#[test]
fn a_lease_that_is_forgotten_is_found() {
    is_found(Bug::ForgetsALease);
}
