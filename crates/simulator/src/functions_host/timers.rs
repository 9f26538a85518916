//! Timers: fired when a test says so, and by their schedules when that is wanted. One instance fires them, whatever their number.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::app::Trigger;
use super::cron::Schedule;
use super::diary::{Invocation, LogSource};
use super::worker::Instance;
use super::{Inner, expand, invoke};
use crate::clock::real_now;

/// The zone-less year 1 that stands for "never" on the first run.
const NEVER: &str = "0001-01-01T00:00:00";

/// Calls a timer's function on an instance. None when it is no timer's.
pub(super) async fn fire(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    function: &str,
) -> Option<Invocation> {
    let app = inner.app();
    let Some(Trigger::Timer { binding, schedule }) = app.functions.get(function) else {
        return None;
    };
    let now = real_now();
    let next = Schedule::parse(&expand(schedule, &inner.settings()))
        .and_then(|schedule| schedule.next_after(now));
    let last = inner.fired(function, now);
    let text = |at: Option<Timestamp>| at.map_or(NEVER.to_owned(), zoned);
    let mut data = serde_json::Map::new();
    data.insert(
        binding.clone(),
        json!({
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {"Last": text(last), "Next": text(next), "LastUpdated": text(last)},
            "IsPastDue": false,
        }),
    );
    let invocation = invoke::invoke(
        inner,
        instance,
        function,
        Value::Object(data),
        json!({}),
        None,
    )
    .await;
    Some(invocation)
}

/// `2026-01-01T00:15:00.0000000+00:00`, as the host writes it.
fn zoned(at: Timestamp) -> String {
    at.to_string().replace('Z', "+00:00")
}

/// Fires each timer by its schedule until the host stops.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let app = inner.app();
        let settings = inner.settings();
        let now = real_now();
        let due = app.functions.iter().filter_map(|(name, trigger)| {
            let Trigger::Timer { schedule, .. } = trigger else {
                return None;
            };
            let due = Schedule::parse(&expand(schedule, &settings))?.next_after(now)?;
            Some((due, name.clone()))
        });
        let mut due: Vec<(Timestamp, String)> = due.collect();
        due.sort();
        let first = due.first().map(|(at, _)| *at);
        // Looked at again every second, because settings and functions may change.
        let wait = first
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .unwrap_or(Duration::MAX);
        if wait > Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        tokio::time::sleep(wait).await;
        for (_, function) in due.into_iter().filter(|(at, _)| Some(*at) == first) {
            let Some(instance) = inner.ready_instance() else {
                let text = format!("{function} is due, and no handler is ready");
                inner.diary.log(0, LogSource::Host, text);
                continue;
            };
            let inner = Arc::clone(&inner);
            let stop = inner.stop.clone();
            inner.tasks.clone().spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = fire(&inner, &instance, &function) => {}
                }
            });
        }
    }
}
