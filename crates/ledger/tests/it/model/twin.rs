//! The ledger as maps and sets: no index, no transaction, no disk.

use std::collections::{BTreeMap, BTreeSet};

use activity_api::{ContentId, ContentType, TenantId};
use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Lease, LeaseKey, ListedStretch, SeenBlob, SeenVia, SinkName, StreamSummary,
    Summary,
};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + seconds).unwrap()
}

pub(crate) fn minute(number: u8) -> Timestamp {
    at(i64::from(number) * 60)
}

pub(crate) fn sink_of(number: u8) -> SinkName {
    format!("sink-{number}").parse().unwrap()
}

pub(crate) fn counter_of(number: u8) -> String {
    format!("counter-{number}")
}

/// Four streams: two tenants, two content types.
pub(crate) fn stream_of(number: u8) -> (TenantId, ContentType) {
    let tenant = format!("00000000-0000-0000-0000-00000000000{}", number % 2)
        .parse()
        .unwrap();
    let content_type = if number & 2 == 0 {
        ContentType::Exchange
    } else {
        ContentType::General
    };
    (tenant, content_type)
}

pub(crate) fn content_id_of(number: u8) -> ContentId {
    ContentId::canonical(&format!("blob-{number}"))
}

pub(crate) fn number_of(id: &ContentId) -> u8 {
    let number = id.as_str().strip_prefix("blob-");
    number.and_then(|number| number.parse().ok()).unwrap()
}

pub(crate) fn seen(number: u8, seen_via: SeenVia) -> SeenBlob {
    let (tenant, content_type) = stream_of(number);
    // Within three hours of the clock, some of them while the steps are done; a notification has the times wrong.
    let shift = if seen_via == SeenVia::Listing {
        0
    } else {
        1_000
    };
    SeenBlob {
        tenant,
        content_type,
        content_id: content_id_of(number),
        uri: format!("https://manage.office.com/{number}"),
        created_at: at(shift + i64::from(number)),
        expires_at: at(100 + shift + i64::from(number) * 7 % 24 / 8 * 3_600 + i64::from(number)),
        seen_via,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Leased(Timestamp),
    Waiting(Timestamp),
    Delivered,
    Quarantined,
    Expired,
}

#[derive(Debug)]
struct Blob {
    seen: SeenBlob,
    state: State,
    attempts: u32,
    key: Option<LeaseKey>,
    acknowledged: BTreeSet<(u8, AcknowledgedPart)>,
    /// Grows with each blob that is noted.
    order: u64,
}

impl Blob {
    fn is_settled(&self) -> bool {
        matches!(
            self.state,
            State::Delivered | State::Quarantined | State::Expired
        )
    }

    /// The hour of the clock in which it expires.
    fn expires_hour(&self) -> i64 {
        self.seen.expires_at.as_second() / 3_600
    }

    fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Ready => true,
            State::Leased(until) | State::Waiting(until) => until <= now,
            State::Delivered | State::Quarantined | State::Expired => false,
        }
    }

    fn has_whole(&self, sink: u8) -> bool {
        self.acknowledged.contains(&(sink, AcknowledgedPart::Whole))
    }
}

/// What a lease is asked for, in small numbers.
pub(crate) struct Wanted {
    pub(crate) max_count: u8,
    pub(crate) except_tenant: Option<u8>,
    pub(crate) for_sinks: Vec<u8>,
    pub(crate) only: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Twin {
    blobs: BTreeMap<u8, Blob>,
    /// Which blob a key was for, kept after the lease is lost.
    keys: BTreeMap<LeaseKey, u8>,
    positions: BTreeMap<u8, String>,
    counters: BTreeMap<u8, u64>,
    listed: BTreeMap<u8, BTreeSet<u8>>,
    listed_until: BTreeMap<u8, u8>,
    quarantined: BTreeSet<(ContentId, Option<u64>, Option<SinkName>)>,
    noted_count: u64,
    /// Delivered blobs that are remembered as a number only, by stream.
    forgotten: BTreeMap<u8, u64>,
}

impl Twin {
    pub(crate) fn note_seen(&mut self, blobs: &[u8], via: SeenVia, now: Timestamp) -> u64 {
        let mut new_count = 0;
        for &number in blobs {
            let seen = seen(number, via);
            let is_forgotten = self.is_forgotten(number, &seen, now);
            match self.blobs.get_mut(&number) {
                None if is_forgotten => {}
                None => {
                    self.noted_count += 1;
                    let blob = Blob {
                        seen,
                        state: State::Ready,
                        attempts: 0,
                        key: None,
                        acknowledged: BTreeSet::new(),
                        order: self.noted_count,
                    };
                    self.blobs.insert(number, blob);
                    new_count += 1;
                }
                Some(known) if via == SeenVia::Listing && !known.is_settled() => known.seen = seen,
                Some(_) => {}
            }
        }
        new_count
    }

    /// Everything here is of one day.
    fn is_forgotten(&self, number: u8, seen: &SeenBlob, now: Timestamp) -> bool {
        let stream = number % 4;
        let created_minute = seen.created_at.duration_since(at(0)).as_secs() / 60;
        let minutes = self.listed.get(&stream);
        seen.expires_at <= now
            && self.forgotten.contains_key(&stream)
            && minutes.is_some_and(|minutes| {
                u8::try_from(created_minute).is_ok_and(|minute| minutes.contains(&minute))
            })
    }

    /// Forgets what was delivered and has expired, save the blob noted last and those with something in quarantine.
    pub(crate) fn compact(&mut self, before: Timestamp, keeps_the_last: bool) -> u64 {
        let last = self.blobs.values().map(|blob| blob.order).max();
        let last = last.filter(|_| keeps_the_last);
        let quarantined = &self.quarantined;
        let forgotten: Vec<_> = self
            .blobs
            .iter()
            .filter(|(number, blob)| {
                blob.state == State::Delivered
                    && blob.seen.created_at < before
                    && blob.seen.expires_at < before
                    && Some(blob.order) != last
                    && !quarantined
                        .iter()
                        .any(|(id, ..)| *id == content_id_of(**number))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in &forgotten {
            self.blobs.remove(number);
            *self.forgotten.entry(number % 4).or_default() += 1;
        }
        forgotten.len() as u64
    }

    pub(crate) fn remembers(&self, key: LeaseKey) -> bool {
        let number = self.keys.get(&key);
        number.is_some_and(|number| self.blobs.contains_key(number))
    }

    /// Delivered, waiting or leased, quarantined and expired blobs of a stream, and its records in quarantine.
    pub(crate) fn coverage(&self, stream: u8) -> [u64; 5] {
        let Some(summary) = self.stream_summary(stream, at(0)) else {
            return [0; 5];
        };
        [
            summary.delivered_count,
            summary.pending_count + summary.leased_count,
            summary.quarantined_count,
            summary.expired_count,
            summary.quarantined_record_count,
        ]
    }

    pub(crate) fn note_listed(&mut self, stream: u8, start: u8, end: u8) {
        let minutes = self.listed.entry(stream).or_default();
        minutes.extend(start..end);
        let until = self.listed_until.entry(stream).or_insert(end);
        // What ends where listing stands has to touch it for listing to go on from there.
        while minutes.contains(until) {
            *until += 1;
        }
    }

    pub(crate) fn note_unlistable(&mut self, stream: u8, before: u8) {
        let minutes = self.listed.entry(stream).or_default();
        if let Some(until) = self.listed_until.get_mut(&stream)
            && *until < before
        {
            *until = before;
            while minutes.contains(until) {
                *until += 1;
            }
        }
    }

    pub(crate) fn stretches(&self, stream: u8) -> Vec<ListedStretch> {
        let mut stretches: Vec<(u8, u8)> = Vec::new();
        for &number in self.listed.get(&stream).into_iter().flatten() {
            match stretches.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => stretches.push((number, number + 1)),
            }
        }
        stretches
            .into_iter()
            .map(|(start, end)| ListedStretch {
                start: minute(start),
                end: minute(end),
            })
            .collect()
    }

    /// Judges which blobs are leased, in their order: as many as are due or wanted, and none before one that expires in an
    /// earlier hour. They are leased when each is handed over.
    pub(crate) fn judge_lease(&self, leased: &[u8], wanted: &Wanted, now: Timestamp) {
        let excepted = wanted.except_tenant.map(|number| stream_of(number).0);
        let (for_sinks, only) = (&wanted.for_sinks, &wanted.only);
        let mut due: Vec<_> = self
            .blobs
            .iter()
            .filter(|(_, blob)| blob.is_due(now) && Some(blob.seen.tenant) != excepted)
            .filter(|(number, _)| only.is_empty() || only.contains(number))
            .filter(|(_, blob)| {
                for_sinks.is_empty() || !for_sinks.iter().all(|sink| blob.has_whole(*sink))
            })
            .map(|(number, blob)| (blob.expires_hour(), *number))
            .collect();
        due.sort();
        let expected: Vec<_> = due.iter().map(|(hour, _)| *hour).collect();
        let count = expected.len().min(wanted.max_count.into());
        let mut hours = Vec::new();
        for number in leased {
            // What is leased twice is not found the second time.
            let found = due.iter().position(|(_, other)| other == number);
            hours.push(due.remove(found.expect("due and wanted")).0);
        }
        assert_eq!(hours, expected[..count]);
    }

    pub(crate) fn hand_over(&mut self, number: u8, lease: &Lease, until: Timestamp) {
        self.keys.insert(lease.key(), number);
        let blob = self.blobs.get_mut(&number).unwrap();
        assert_ne!(blob.key, Some(lease.key()), "a lease has a key of its own");
        blob.key = Some(lease.key());
        blob.state = State::Leased(until);
        blob.attempts += 1;
        let acknowledged: Vec<_> = blob
            .acknowledged
            .iter()
            .map(|(sink, part)| (sink_of(*sink), *part))
            .collect();
        assert_eq!(lease.acknowledged(), acknowledged);
        assert_eq!(
            (lease.attempts(), lease.leased_until()),
            (blob.attempts, until)
        );
        assert_eq!(
            (lease.tenant(), lease.content_type()),
            (blob.seen.tenant, blob.seen.content_type)
        );
        assert_eq!(
            (lease.created_at(), lease.expires_at()),
            (blob.seen.created_at, blob.seen.expires_at)
        );
        assert_eq!(lease.uri(), blob.seen.uri);
    }

    fn held(&mut self, key: LeaseKey) -> Option<&mut Blob> {
        let blob = self.blobs.get_mut(&self.keys[&key]).unwrap();
        (blob.key == Some(key) && !blob.is_settled()).then_some(blob)
    }

    pub(crate) fn renew(&mut self, key: LeaseKey, until: Timestamp) -> bool {
        self.held(key)
            .map(|blob| blob.state = State::Leased(until))
            .is_some()
    }

    pub(crate) fn acknowledge(
        &mut self,
        key: LeaseKey,
        sink: u8,
        part: AcknowledgedPart,
        position: Option<u8>,
        quarantined: Option<u8>,
    ) {
        let number = self.keys[&key];
        let blob = self.blobs.get_mut(&number).unwrap();
        if part == AcknowledgedPart::Whole {
            blob.acknowledged.retain(|(name, _)| *name != sink);
        }
        if !blob.has_whole(sink) {
            blob.acknowledged.insert((sink, part));
        }
        if let Some(position) = position {
            self.positions.insert(sink, position.to_string());
        }
        if let Some(index) = quarantined {
            self.quarantined.insert((
                content_id_of(number),
                Some(index.into()),
                Some(sink_of(sink)),
            ));
        }
    }

    pub(crate) fn deliver(
        &mut self,
        lease: &Lease,
        required: &[u8],
        proofs: bool,
    ) -> Result<(), String> {
        let had = |sink: &u8| {
            lease
                .acknowledged()
                .contains(&(sink_of(*sink), AcknowledgedPart::Whole))
        };
        if let Some(missing) = required.iter().find(|sink| !proofs && !had(sink)) {
            return Err(sink_of(*missing).to_string());
        }
        self.held(lease.key())
            .map(|blob| blob.state = State::Delivered)
            .ok_or("lost".to_owned())
    }

    /// Whether these are all on record as having the blob, and it is delivered by that.
    pub(crate) fn deliver_complete(&mut self, key: LeaseKey, required: &[u8]) -> bool {
        let Some(blob) = self.held(key) else {
            return false;
        };
        let is_complete = !required.is_empty() && required.iter().all(|sink| blob.has_whole(*sink));
        if is_complete {
            blob.state = State::Delivered;
        }
        is_complete
    }

    pub(crate) fn retry_later(&mut self, key: LeaseKey, not_before: Timestamp) -> bool {
        self.held(key)
            .map(|blob| {
                blob.state = State::Waiting(not_before);
                blob.key = None;
            })
            .is_some()
    }

    pub(crate) fn release(&mut self, key: LeaseKey) {
        if let Some(blob) = self.held(key) {
            blob.state = State::Ready;
            blob.key = None;
            blob.attempts -= 1;
        }
    }

    pub(crate) fn quarantine(&mut self, key: LeaseKey) -> bool {
        let kept = self
            .held(key)
            .map(|blob| blob.state = State::Quarantined)
            .is_some();
        if kept {
            self.quarantined
                .insert((content_id_of(self.keys[&key]), None, None));
        }
        kept
    }

    pub(crate) fn expire(&mut self, key: LeaseKey) -> bool {
        self.held(key)
            .map(|blob| blob.state = State::Expired)
            .is_some()
    }

    /// The process is gone, and its leases with it.
    pub(crate) fn reopen(&mut self) {
        for blob in self.blobs.values_mut() {
            blob.key = None;
            if matches!(blob.state, State::Leased(_)) {
                blob.state = State::Ready;
            }
        }
    }

    pub(crate) fn position(&self, sink: u8) -> Option<String> {
        self.positions.get(&sink).cloned()
    }

    pub(crate) fn count(&mut self, counter: u8, increment: u8) {
        *self.counters.entry(counter).or_default() += u64::from(increment);
    }

    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        self.counters
            .iter()
            .map(|(number, value)| (counter_of(*number), *value))
            .collect()
    }

    pub(crate) fn quarantined(&self) -> Vec<(ContentId, Option<u64>, Option<SinkName>)> {
        self.quarantined.iter().cloned().collect()
    }

    pub(crate) fn summary(&self, now: Timestamp) -> Summary {
        let mut streams: Vec<_> = (0..4)
            .filter_map(|stream| self.stream_summary(stream, now))
            .collect();
        streams.sort_by_key(|stream| (stream.tenant, stream.content_type));
        Summary { streams }
    }

    fn stream_summary(&self, stream: u8, now: Timestamp) -> Option<StreamSummary> {
        let (tenant, content_type) = stream_of(stream);
        let listed_until = self.listed_until.get(&stream).copied();
        let blobs: Vec<_> = self
            .blobs
            .iter()
            .filter(|(number, _)| *number % 4 == stream)
            .collect();
        let forgotten_count = self.forgotten.get(&stream).copied().unwrap_or_default();
        if blobs.is_empty() && listed_until.is_none() && forgotten_count == 0 {
            return None;
        }
        let count =
            |is: &dyn Fn(&Blob) -> bool| blobs.iter().filter(|(_, blob)| is(blob)).count() as u64;
        let is_held = |blob: &Blob| matches!(blob.state, State::Leased(until) if until > now);
        let unsettled = || blobs.iter().filter(|(_, blob)| !blob.is_settled());
        let delivered_count = count(&|blob| blob.state == State::Delivered) + forgotten_count;
        let ids: Vec<_> = blobs
            .iter()
            .map(|(number, _)| content_id_of(**number))
            .collect();
        let is_record = |(id, index, _): &&(ContentId, Option<u64>, Option<SinkName>)| {
            index.is_some() && ids.contains(id)
        };
        Some(StreamSummary {
            tenant,
            content_type,
            pending_count: count(&|blob| !blob.is_settled() && !is_held(blob)),
            leased_count: count(&is_held),
            delivered_count,
            quarantined_count: count(&|blob| blob.state == State::Quarantined),
            expired_count: count(&|blob| blob.state == State::Expired),
            delivered_record_count: delivered_count * 3,
            delivered_byte_count: delivered_count * 99,
            quarantined_record_count: self.quarantined.iter().filter(is_record).count() as u64,
            quarantined_byte_count: 5 * count(&|blob| blob.state == State::Quarantined),
            dropped_count: 0,
            dropped_record_count: 0,
            listed_until: listed_until.map(minute),
            oldest_pending_created_at: unsettled().map(|(_, blob)| blob.seen.created_at).min(),
            nearest_pending_expires_at: unsettled().map(|(_, blob)| blob.seen.expires_at).min(),
        })
    }
}
