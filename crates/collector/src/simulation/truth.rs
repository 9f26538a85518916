//! What is so, kept beside the ledger by whoever stands outside, and the rules that must hold at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use activity_api::{ContentType, TenantId, Window};
use jiff::Timestamp;
use ledger::{AcknowledgedPart, Lease, LeaseKey, SeenBlob, SinkCommit, SinkName};

use super::plan::{Plan, PlannedBlob};
use super::sink::Taken;

/// How a blob ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Quarantined,
    Expired,
}

/// What the ledger has said yes to, and what it was told.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    by_id: BTreeMap<(String, String, String), usize>,
    sink_names: Vec<SinkName>,
    /// Blobs that Microsoft listed, or that a notification named which we answered with 200.
    pub(crate) owed: BTreeSet<usize>,
    pub(crate) noted: BTreeSet<usize>,
    pub(crate) ended: BTreeMap<usize, End>,
    /// In the order in which they ended.
    pub(crate) order: Vec<usize>,
    /// When the first blob was found to be gone.
    pub(crate) expired_at: Option<Timestamp>,
    leases: BTreeMap<LeaseKey, Leased>,
    /// The lease that a blob is under, and until when.
    live: BTreeMap<usize, (LeaseKey, Timestamp)>,
    /// Blob, sink, and what of it the ledger has the sink's yes to.
    had: BTreeMap<(usize, usize), BTreeSet<AcknowledgedPart>>,
    /// Blob, index, and the sink that refused it; none where it cannot be decoded.
    pub(crate) set_aside: BTreeSet<(usize, u64, Option<usize>)>,
    positions: BTreeMap<usize, usize>,
    /// How often each blob came damaged.
    pub(crate) damaged: BTreeMap<usize, u32>,
    /// What was listed at all.
    listed: BTreeSet<(TenantId, ContentType)>,
    /// Where listing began.
    began: BTreeMap<(TenantId, ContentType), Timestamp>,
    /// Notifications that are yet to be taken, the next one first.
    notifications: BTreeSet<(Timestamp, usize, &'static str)>,
}

#[derive(Debug)]
struct Leased {
    blob: usize,
    had: BTreeMap<usize, BTreeSet<AcknowledgedPart>>,
}

/// What is wrong.
pub(crate) type Wrong = Result<(), String>;

macro_rules! must {
    ($claim:expr, $($what:tt)*) => {
        if !$claim {
            return Err(format!($($what)*));
        }
    };
}

impl Truth {
    pub(crate) fn new(plan: &Plan) -> Self {
        let by_id = plan.blobs.iter().enumerate();
        Self {
            by_id: by_id
                .map(|(index, blob)| (key(blob.tenant, blob.content_type, &blob.id), index))
                .collect(),
            notifications: plan
                .blobs
                .iter()
                .enumerate()
                .flat_map(|(index, blob)| {
                    let all = blob.notifications.iter();
                    all.map(move |planned| (planned.at, index, planned.suffix))
                })
                .collect(),
            sink_names: plan
                .sinks
                .iter()
                .map(|sink| sink.name.parse().unwrap())
                .collect(),
            ..Self::default()
        }
    }

    /// Nobody works on anything: leases are freed.
    pub(crate) fn begin_life(&mut self) {
        self.live.clear();
    }

    pub(crate) fn blob(
        &self,
        tenant: impl ToString,
        content_type: impl ToString,
        id: &str,
    ) -> Option<usize> {
        self.by_id.get(&key(tenant, content_type, id)).copied()
    }

    pub(crate) fn sink(&self, name: &SinkName) -> usize {
        let mut names = self.sink_names.iter();
        names.position(|known| known == name).unwrap()
    }

    pub(crate) fn note_seen(&mut self, plan: &Plan, seen: &[SeenBlob]) -> Wrong {
        for blob in seen {
            let id = blob.content_id.as_str();
            let Some(index) = self.blob(blob.tenant, blob.content_type, id) else {
                return Err(format!("a blob was noted that does not exist: {id}"));
            };
            let planned = &plan.blobs[index];
            must!(
                blob.created_at == planned.created_at && blob.expires_at == planned.expires_at,
                "blob {index} was noted with other times than it has"
            );
            self.noted.insert(index);
        }
        Ok(())
    }

    pub(crate) fn leased(&mut self, leases: &[Lease], now: Timestamp) -> Wrong {
        for lease in leases {
            let id = lease.content_id().as_str();
            let Some(blob) = self.blob(lease.tenant(), lease.content_type(), id) else {
                return Err(format!("a blob was leased that does not exist: {id}"));
            };
            must!(
                self.noted.contains(&blob),
                "blob {blob} was leased before it was noted"
            );
            if let Some(end) = self.ended.get(&blob) {
                return Err(format!("blob {blob} was leased although it is {end:?}"));
            }
            if let Some((_, until)) = self.live.get(&blob) {
                must!(*until <= now, "blob {blob} was leased twice at once");
            }
            let had = (0..self.sink_names.len())
                .map(|sink| {
                    let had = self.had.get(&(blob, sink)).cloned();
                    (sink, had.unwrap_or_default())
                })
                .collect();
            self.live.insert(blob, (lease.key(), lease.leased_until()));
            self.leases.insert(lease.key(), Leased { blob, had });
        }
        Ok(())
    }

    pub(crate) fn renewed(&mut self, keys: &[LeaseKey], lost: &[LeaseKey], until: Timestamp) {
        for key in keys.iter().filter(|key| !lost.contains(key)) {
            if let Some(leased) = self.leases.get(key) {
                self.live.insert(leased.blob, (*key, until));
            }
        }
    }

    pub(crate) fn given_back(&mut self, key: LeaseKey) {
        if let Some(leased) = self.leases.get(&key) {
            let blob = leased.blob;
            if self.live.get(&blob).is_some_and(|(live, _)| *live == key) {
                self.live.remove(&blob);
            }
        }
    }

    /// A sink is handed a record under a lease.
    pub(crate) fn offered(&self, plan: &Plan, offer: &Offer<'_>) -> Wrong {
        let Offer {
            sink,
            key,
            blob,
            index,
            text,
        } = *offer;
        must!(
            self.noted.contains(&blob),
            "blob {blob} was delivered before it was noted"
        );
        must!(
            plan.blobs[blob].record(index as usize) == Some(text),
            "record {index} of blob {blob} was delivered with another text or number"
        );
        let Some(leased) = self.leases.get(&key) else {
            return Err(format!("blob {blob} was delivered without a lease"));
        };
        must!(
            leased.blob == blob,
            "blob {blob} was delivered under another's lease"
        );
        let had = leased.had.get(&sink).into_iter().flatten();
        must!(
            !had.clone().any(|part| covers(part, index)),
            "record {index} of blob {blob} was delivered again to sink {sink}, whose yes the ledger had"
        );
        Ok(())
    }

    /// The ledger has a sink's yes.
    pub(crate) fn acknowledged(
        &mut self,
        plan: &Plan,
        taken: &Taken,
        commit: &SinkCommit,
    ) -> Wrong {
        let sink = self.sink(&commit.sink);
        for record in &commit.quarantined {
            let id = record.content_id.as_str();
            let blob = self.blob(record.tenant, record.content_type, id);
            let blob = blob.ok_or("a record of no blob was set aside")?;
            let planned = plan.blobs[blob].records().nth(record.record_index as usize);
            must!(
                planned.is_some_and(|(text, refused_by)| text.as_bytes() == record.bytes
                    && refused_by.contains(&sink)),
                "record {} of blob {blob} was set aside for sink {sink}, which would take it",
                record.record_index
            );
            self.set_aside
                .insert((blob, record.record_index, Some(sink)));
        }
        if let Some(position) = &commit.position {
            let position = position.parse().unwrap();
            must!(
                taken.records.len() >= position,
                "sink {sink} has {} records and its position is {position}",
                taken.records.len()
            );
            self.positions.insert(sink, position);
        }
        for (key, part) in &commit.acknowledged {
            let Some(leased) = self.leases.get(key) else {
                return Err("an acknowledgement is of a lease that never was".to_owned());
            };
            let blob = leased.blob;
            for (index, _) in plan.blobs[blob].records().enumerate() {
                if covers(part, index as u64) {
                    self.must_have(plan, taken, sink, blob, index as u64)
                        .map_err(|wrong| format!("acknowledged {part:?}: {wrong}"))?;
                }
            }
            self.had.entry((blob, sink)).or_default().insert(*part);
        }
        Ok(())
    }

    /// Whether the sink has the record for good, or it is set aside.
    pub(crate) fn must_have(
        &self,
        plan: &Plan,
        taken: &Taken,
        sink: usize,
        blob: usize,
        index: u64,
    ) -> Wrong {
        if self.set_aside.contains(&(blob, index, Some(sink))) {
            return Ok(());
        }
        let safe = match plan.sinks[sink].has_position {
            true => self.positions.get(&sink).copied().unwrap_or_default(),
            false => taken.records.len(),
        };
        let has = taken
            .records
            .iter()
            .take(safe)
            .any(|has| *has == (blob, index));
        must!(
            has,
            "sink {sink} does not have record {index} of blob {blob}"
        );
        Ok(())
    }

    /// The ledger settled a blob.
    pub(crate) fn settled(
        &mut self,
        plan: &Plan,
        taken: &[Taken],
        key: LeaseKey,
        end: End,
        now: Timestamp,
    ) -> Wrong {
        let Some(leased) = self.leases.get(&key) else {
            return Err("a blob was settled under a lease that never was".to_owned());
        };
        let blob = leased.blob;
        self.given_back(key);
        self.order.push(blob);
        if let Some(before) = self.ended.insert(blob, end) {
            return Err(format!("blob {blob} was {before:?} and is now {end:?}"));
        }
        let planned = &plan.blobs[blob];
        if end == End::Expired {
            self.expired_at.get_or_insert(now);
        }
        match end {
            End::Delivered => {
                must!(
                    !planned.is_torn,
                    "torn blob {blob} was delivered as a whole"
                );
                for (sink, taken) in taken.iter().enumerate() {
                    for (index, _) in planned.records().enumerate() {
                        self.must_have(plan, taken, sink, blob, index as u64)
                            .map_err(|wrong| format!("delivered: {wrong}"))?;
                    }
                }
                for (index, _) in planned.no_records() {
                    must!(
                        self.set_aside.contains(&(blob, index as u64, None)),
                        "what is no record at {index} of blob {blob} was not set aside"
                    );
                }
            }
            End::Quarantined => must!(
                self.may_be_given_up(planned, blob, now),
                "blob {blob} was quarantined although it is whole"
            ),
            End::Expired => must!(
                now >= planned.expires_at,
                "blob {blob} was expired {} before its time",
                planned.expires_at.duration_since(now)
            ),
        }
        Ok(())
    }

    fn may_be_given_up(&self, planned: &PlannedBlob, blob: usize, now: Timestamp) -> bool {
        const DAMAGED_TRIES: u32 = 6;
        planned.is_torn
            || now >= planned.expires_at
            || self
                .damaged
                .get(&blob)
                .is_some_and(|count| *count >= DAMAGED_TRIES)
    }

    /// The ledger says that a window is listed. `completed` are the blobs of each listing of it that went to its end.
    pub(crate) fn listed(
        &mut self,
        stream: (TenantId, ContentType),
        window: Window,
        completed: &[BTreeSet<usize>],
    ) -> Wrong {
        self.began(stream, window.start());
        self.listed.insert(stream);
        must!(
            !completed.is_empty(),
            "{}..{} counts as listed, and no listing of it went to its last page",
            window.start(),
            window.end()
        );
        let is_noted = |blobs: &BTreeSet<usize>| blobs.is_subset(&self.noted);
        must!(
            completed.iter().any(is_noted),
            "{}..{} counts as listed, and not all of its blobs are noted",
            window.start(),
            window.end()
        );
        Ok(())
    }

    /// Listing of a tenant's content type reaches back to here.
    pub(crate) fn began(&mut self, stream: (TenantId, ContentType), at: Timestamp) {
        let began = self.began.entry(stream).or_insert(at);
        *began = at.min(*began);
    }

    /// Whether any window of it was listed.
    pub(crate) fn is_listed(&self, stream: (TenantId, ContentType)) -> bool {
        self.listed.contains(&stream)
    }

    /// Whether listing reaches back to the blob.
    pub(crate) fn is_in_reach(&self, blob: &PlannedBlob) -> bool {
        let began = self.began.get(&(blob.tenant, blob.content_type));
        began.is_some_and(|began| *began <= blob.created_at)
    }

    /// The notification that is due next.
    pub(crate) fn next_notification(&self) -> Option<(Timestamp, usize, &'static str)> {
        self.notifications.first().copied()
    }

    /// It was answered with 200.
    pub(crate) fn notified(&mut self) {
        self.notifications.pop_first();
    }

    /// It was not, and comes again.
    pub(crate) fn not_notified(&mut self, now: Timestamp) {
        if let Some((_, blob, suffix)) = self.notifications.pop_first() {
            self.notifications
                .insert((now + Duration::from_secs(60), blob, suffix));
        }
    }

    pub(crate) fn position(&self, sink: usize) -> usize {
        self.positions.get(&sink).copied().unwrap_or_default()
    }
}

/// A record in a sink's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) sink: usize,
    pub(crate) key: LeaseKey,
    pub(crate) blob: usize,
    pub(crate) index: u64,
    pub(crate) text: &'a str,
}

fn covers(part: &AcknowledgedPart, index: u64) -> bool {
    match part {
        AcknowledgedPart::Whole => true,
        AcknowledgedPart::Part(part) => {
            (part.first_record..part.first_record + part.record_count).contains(&index)
        }
    }
}

fn key(tenant: impl ToString, content_type: impl ToString, id: &str) -> (String, String, String) {
    (tenant.to_string(), content_type.to_string(), id.to_owned())
}
