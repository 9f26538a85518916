//! What must hold when the storm is over and everything had its time.

use activity_api::{Window, earliest_hour};
use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use ledger::{BlobName, Ledger as _, SqliteLedger};

use super::plan::Plan;
use super::truth::End;
use super::world::{State, World};

impl State {
    /// What has not come to its end yet, in words.
    pub(crate) fn unfinished(&self, plan: &Plan) -> Vec<String> {
        let now = self.now();
        let mut unfinished = Vec::new();
        for tenant in &plan.tenants {
            for content_type in &plan.content_types {
                // It may have to wait until its subscription can be started again.
                if !self.truth.is_listed((*tenant, *content_type)) {
                    unfinished.push(format!("{content_type} of {tenant} was never listed"));
                }
            }
        }
        if let Some((at, blob, _)) = self.truth.next_notification() {
            unfinished.push(format!("blob {blob} is to be notified at {at}"));
        }
        for (index, blob) in plan.blobs.iter().enumerate() {
            // One that is gone by now and was never noted could not be had by anybody who was down meanwhile.
            let must_be_noted = self.truth.is_in_reach(blob) && now < blob.expires_at;
            if must_be_noted && !self.truth.noted.contains(&index) {
                unfinished.push(format!("blob {index} was never noted"));
            }
            if self.truth.noted.contains(&index) && !self.truth.ended.contains_key(&index) {
                unfinished.push(format!("blob {index} is noted and has no end"));
            }
        }
        unfinished
    }

    /// The names of the blobs that are known and have no end.
    pub(crate) fn waiting(&self, plan: &Plan) -> Vec<BlobName> {
        let noted = self.truth.noted.iter();
        noted
            .filter(|index| !self.truth.ended.contains_key(index))
            .map(|index| {
                let blob = &plan.blobs[*index];
                BlobName {
                    tenant: blob.tenant,
                    content_type: blob.content_type,
                    content_id: activity_api::ContentId::canonical(&blob.id),
                }
            })
            .collect()
    }
}

/// Judges the end of a simulation at `now`.
pub(crate) fn judge(world: &World, ledger: &SqliteLedger, now: Timestamp) {
    let plan = &world.plan;
    let mut wrongs = world.state().unfinished(plan);
    let owed = world.state().truth.owed.clone();
    let lost = owed.into_iter().filter(|index| {
        let blob = &plan.blobs[*index];
        let truth = &world.state().truth;
        !truth.noted.contains(index) && truth.is_in_reach(blob) && now < blob.expires_at
    });
    wrongs.extend(lost.map(|index| format!("blob {index} was listed and is not noted")));
    judge_sinks(world, &mut wrongs);
    judge_quarantine(world, ledger, &mut wrongs);
    judge_numbers(world, ledger, now, &mut wrongs);
    judge_coverage(world, ledger, now, &mut wrongs);
    for wrong in wrongs {
        world.violate(wrong);
    }
}

/// A sink with a position has each record once.
fn judge_sinks(world: &World, wrongs: &mut Vec<String>) {
    let state = world.state();
    for (sink, planned) in world.plan.sinks.iter().enumerate() {
        if !planned.has_position {
            continue;
        }
        let mut records = state.taken[sink].records.clone();
        records.truncate(state.truth.position(sink));
        records.sort_unstable();
        let repeated = records.windows(2).filter(|pair| pair[0] == pair[1]);
        wrongs.extend(repeated.map(|pair| format!("sink {sink} has {:?} twice", pair[0])));
    }
}

/// What is in quarantine, with its bytes, is what had to be set aside, once.
fn judge_quarantine(world: &World, ledger: &SqliteLedger, wrongs: &mut Vec<String>) {
    let state = world.state();
    let items = now_or_never(ledger.quarantined(0, 10_000)).unwrap();
    for item in &items {
        let id = item.content_id.as_str();
        let Some(blob) = state.truth.blob(item.tenant, item.content_type, id) else {
            wrongs.push(format!("{id} is in quarantine and does not exist"));
            continue;
        };
        let planned = &world.plan.blobs[blob];
        let Some(index) = item.record_index else {
            if state.truth.ended.get(&blob) != Some(&End::Quarantined) {
                wrongs.push(format!("blob {blob} is in quarantine and not quarantined"));
            }
            continue;
        };
        let expected = match &item.sink {
            None => planned
                .no_records()
                .find(|(at, _)| *at as u64 == index)
                .map(|(_, text)| text),
            Some(_) => planned.record(index as usize),
        };
        let bytes = now_or_never(ledger.quarantined_bytes(item.id)).unwrap();
        if expected.map(str::as_bytes) != bytes.as_deref() {
            wrongs.push(format!(
                "element {index} of blob {blob} is in quarantine with other bytes"
            ));
        }
    }
    for (blob, index, sink) in &state.truth.set_aside {
        let planned = &world.plan.blobs[*blob];
        let name = sink.map(|sink| world.plan.sinks[sink].name);
        let found = items.iter().filter(|item| {
            item.record_index == Some(*index)
                && item.content_id.as_str() == planned.id
                && item.tenant == planned.tenant
                && item.sink.as_ref().map(ledger::SinkName::as_str) == name
        });
        let count = found.count();
        if count != 1 {
            wrongs.push(format!(
                "{index} of blob {blob} is {count} times in quarantine"
            ));
        }
    }
}

/// The ledger's numbers are those of the truth.
fn judge_numbers(world: &World, ledger: &SqliteLedger, now: Timestamp, wrongs: &mut Vec<String>) {
    let state = world.state();
    let summary = now_or_never(ledger.summary(now)).unwrap();
    for stream in &summary.streams {
        let count = |wanted: End| {
            let ended = state.truth.ended.iter().filter(|(index, end)| {
                let blob = &world.plan.blobs[**index];
                **end == wanted
                    && blob.tenant == stream.tenant
                    && blob.content_type == stream.content_type
            });
            ended.count() as u64
        };
        let said = (
            stream.delivered_count,
            stream.quarantined_count,
            stream.expired_count,
        );
        let so = (
            count(End::Delivered),
            count(End::Quarantined),
            count(End::Expired),
        );
        if said != so {
            wrongs.push(format!("the ledger counts {said:?} and it is {so:?}"));
        }
    }
}

/// Nothing between the first window ever listed and now is left out, and nothing counts as listed that was not.
fn judge_coverage(world: &World, ledger: &SqliteLedger, now: Timestamp, wrongs: &mut Vec<String>) {
    let week = SignedDuration::from_hours(24 * 8);
    let range = Window::new(now - week, now).unwrap();
    for tenant in &world.plan.tenants {
        for content_type in &world.plan.content_types {
            let coverage = now_or_never(ledger.coverage(*tenant, *content_type, range)).unwrap();
            let said = coverage.windows.iter().map(|listed| listed.window);
            let said = merged(said.collect());
            // A gap that can be listed no more stays one, and is shown as one.
            let gaps = said
                .windows(2)
                .filter(|pair| pair[1].start() > earliest_hour(now));
            if said.is_empty() || gaps.count() > 0 {
                wrongs.push(format!("{content_type} is listed with gaps: {said:?}"));
            }
            let state = world.state();
            let so = merged(state.listings.all_completed(*tenant, *content_type));
            let is_so = |window: &Window| {
                so.iter()
                    .any(|listed| listed.start() <= window.start() && window.end() <= listed.end())
            };
            let lies = said.iter().filter(|window| !is_so(window));
            wrongs.extend(lies.map(|window| format!("{window:?} counts as listed and was not")));
        }
    }
}

/// The windows, those that touch as one.
fn merged(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_unstable();
    let mut merged: Vec<Window> = Vec::new();
    for window in windows {
        match merged.last_mut() {
            Some(last) if window.start() <= last.end() => {
                *last = Window::new(last.start(), last.end().max(window.end())).unwrap();
            }
            _ => merged.push(window),
        }
    }
    merged
}

/// The answer of a ledger that waits for nothing.
fn now_or_never<T>(answer: impl Future<Output = T>) -> T {
    answer
        .now_or_never()
        .expect("it answers when it is polled once")
}
