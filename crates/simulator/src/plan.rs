//! The plan of a simulation: which blobs there are, whose they are, how many records each holds and when each appears.
//! Made once at the start; nothing in it changes but the marks of what was listed, notified and fetched.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ContentType;
use crate::random::{Random, mix};
use crate::times::{DAY_MS, digits, with_ms};

/// A content blob that the simulated tenant has.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) tenant: usize,
    pub(crate) content_type: ContentType,
    /// The number of its first record; the others follow.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// `contentCreated`, and the second time in its `contentId`.
    pub(crate) created_ms: i64,
    /// The first time in its `contentId`, from which its expiration counts.
    pub(crate) opened_ms: i64,
    /// When it can be listed and fetched: at its creation, but for late ones.
    pub(crate) available_ms: i64,
    /// Whether listings name it.
    pub(crate) is_listed: bool,
    /// Whether webhooks are told of it.
    pub(crate) is_notified: bool,
    pub(crate) fate: Fate,
    /// Whether it is too large to be made in one piece.
    pub(crate) is_huge: bool,
    /// Records of other blobs that it holds as well, behind its own.
    pub(crate) copies: Vec<u32>,
    marks: AtomicU8,
}

/// What becomes of a blob, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// Gone when it is first fetched.
    Expired,
    /// Its body is never what a blob is.
    Undecodable,
}

const LISTED: u8 = 1;
const FETCHED: u8 = 2;
const NOTIFIED: u8 = 4;

impl Blob {
    /// Returns whether this is the first time.
    pub(crate) fn mark_listed(&self) -> bool {
        self.marks.fetch_or(LISTED, Ordering::Relaxed) & LISTED == 0
    }

    /// Returns whether this is the first time.
    pub(crate) fn mark_fetched(&self) -> bool {
        self.marks.fetch_or(FETCHED, Ordering::Relaxed) & FETCHED == 0
    }

    pub(crate) fn mark_notified(&self) {
        self.marks.fetch_or(NOTIFIED, Ordering::Relaxed);
    }

    /// Whether a collector that asks can have its records.
    fn can_be_had(&self) -> bool {
        self.fate == Fate::Good && self.is_listed && !self.is_huge
    }

    /// Whether its records are due: its time has come and a collector was told of it, or would have been had it asked.
    pub(crate) fn is_due(&self, now_ms: i64) -> bool {
        let is_known = self.is_listed || self.marks.load(Ordering::Relaxed) & NOTIFIED != 0;
        self.available_ms <= now_ms && is_known
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.marks.load(Ordering::Relaxed) & FETCHED != 0
    }
}

/// What a plan is made from.
pub(crate) struct PlanInput {
    pub(crate) seed: u64,
    /// Records of each tenant and content type, `tenant * 5 + content type`.
    pub(crate) feed_counts: Vec<u32>,
    pub(crate) records_per_blob: u32,
    pub(crate) start_ms: i64,
    pub(crate) backlog_ms: i64,
    pub(crate) live_records_per_sec: Option<f64>,
    pub(crate) backlog_records: Option<u64>,
    pub(crate) expiration_days: u32,
    /// Blobs with so many records, over and above the others.
    pub(crate) huge_blobs: Vec<u32>,
}

/// All blobs, those of one feed (tenant and content type) side by side in the order of their creation.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) blobs: Vec<Blob>,
    feeds: Vec<Range<usize>>,
    /// The blobs of each feed that webhooks are told of, in the order in which they become available.
    pushed: Vec<Vec<usize>>,
    /// `(available, records up to and with this blob)` over all blobs, in order of time.
    published: Vec<(i64, u64)>,
    expiration_ms: i64,
    pub(crate) start_ms: i64,
    /// How often each record is served that is served more than once.
    served: HashMap<u32, u8>,
}

impl Plan {
    pub(crate) fn new(input: &PlanInput) -> Self {
        let mut random = Random::new(input.seed, 0xb10b);
        let mut blobs = Vec::new();
        let mut feeds = Vec::with_capacity(input.feed_counts.len());
        let mut first = 0;
        for (feed, &count) in input.feed_counts.iter().enumerate() {
            let from = blobs.len();
            let mut left = count;
            let mut add = |size, is_huge| {
                blobs.push(Blob {
                    tenant: feed / ContentType::ALL.len(),
                    content_type: ContentType::ALL[feed % ContentType::ALL.len()],
                    first,
                    count: size,
                    created_ms: 0,
                    opened_ms: 0,
                    available_ms: 0,
                    is_listed: true,
                    is_notified: true,
                    fate: Fate::Good,
                    is_huge,
                    copies: Vec::new(),
                    marks: AtomicU8::new(0),
                });
                first += size;
            };
            while left > 0 {
                let half = u64::from(input.records_per_blob / 2);
                let size =
                    (u64::from(input.records_per_blob) - half + random.below(2 * half + 1)).max(1);
                let size = u32::try_from(size).unwrap_or(u32::MAX).min(left);
                add(size, false);
                left -= size;
            }
            // All in one feed: they are few, and one feed must bear them.
            if Some(feed) == input.feed_counts.iter().position(|&count| count > 0) {
                for &size in &input.huge_blobs {
                    add(size, true);
                }
            }
            feeds.push(from..blobs.len());
        }
        let order = spread(&feeds);
        set_times(&mut blobs, &order, input, &mut random);
        let mut plan = Self {
            blobs,
            feeds,
            pushed: Vec::new(),
            published: Vec::new(),
            expiration_ms: i64::from(input.expiration_days) * DAY_MS,
            start_ms: input.start_ms,
            served: HashMap::new(),
        };
        plan.index_available();
        plan
    }

    /// Orders what there is by when it becomes available. To be called again when that was changed.
    pub(crate) fn index_available(&mut self) {
        let blobs = &self.blobs;
        let available = |&at: &usize| blobs.get(at).map_or(0, |blob| blob.available_ms);
        self.pushed = self
            .feeds
            .iter()
            .map(|feed| {
                let is_notified = |at: &usize| blobs.get(*at).is_some_and(|blob| blob.is_notified);
                let mut order: Vec<usize> = feed.clone().filter(is_notified).collect();
                order.sort_by_key(available);
                order
            })
            .collect();
        let mut order: Vec<usize> = (0..blobs.len()).collect();
        order.sort_by_key(available);
        let mut cumulative = 0;
        let blobs_in_order = order.iter().filter_map(|&at| blobs.get(at));
        self.published = blobs_in_order
            .map(|blob| {
                cumulative += u64::from(blob.count);
                (blob.available_ms, cumulative)
            })
            .collect();
    }

    /// The blobs of a feed with `from <= contentCreated < to` that are listed by now.
    pub(crate) fn listing(&self, feed: usize, from_ms: i64, to_ms: i64, now_ms: i64) -> Vec<usize> {
        let feed = self.feeds.get(feed).cloned().unwrap_or_default();
        let blobs = self.blobs.get(feed.clone()).unwrap_or_default();
        let from = blobs.partition_point(|blob| blob.created_ms < from_ms);
        let to = blobs
            .partition_point(|blob| blob.created_ms < to_ms)
            .max(from);
        let is_listed = |at: &usize| {
            let blob = self.blobs.get(*at);
            blob.is_some_and(|blob| blob.is_listed && blob.available_ms <= now_ms)
        };
        (feed.start + from..feed.start + to)
            .filter(is_listed)
            .collect()
    }

    /// The blobs of a feed that webhooks are told of, which became available between the two times, in that order.
    pub(crate) fn pushable(&self, feed: usize, from_ms: i64, now_ms: i64) -> &[usize] {
        let order = self.pushed.get(feed).map_or(&[][..], Vec::as_slice);
        let available = |&at: &usize| self.blobs.get(at).map_or(0, |blob| blob.available_ms);
        let from = order.partition_point(|at| available(at) < from_ms);
        let to = order.partition_point(|at| available(at) <= now_ms);
        order.get(from..to).unwrap_or_default()
    }

    /// Puts a record into a second blob of its feed, created at least `apart_ms` after its own. Whether there is one.
    /// Only between blobs that can be delivered, so that a record is never to be had from one of its blobs alone.
    pub(crate) fn repeat(&mut self, record: u32, apart_ms: i64, drawn: u64) -> bool {
        if self.served.contains_key(&record) {
            return false;
        }
        let Some(own) = self.blob_of(record).filter(|blob| blob.can_be_had()) else {
            return false;
        };
        let feed = feed_of(own.tenant, own.content_type);
        let due_ms = own.created_ms.saturating_add(apart_ms);
        let range = self.feeds.get(feed).cloned().unwrap_or_default();
        let blobs = self.blobs.get(range.clone()).unwrap_or_default();
        let from = blobs.partition_point(|blob| blob.created_ms <= due_ms);
        let Some(offset) = drawn.checked_rem((blobs.len() - from) as u64) else {
            return false;
        };
        let at = range.start + from + offset as usize;
        let Some(other) = self.blobs.get_mut(at).filter(|blob| blob.can_be_had()) else {
            return false;
        };
        other.copies.push(record);
        self.served.insert(record, 2);
        true
    }

    /// In how many blobs a record is.
    pub(crate) fn served(&self, record: u32) -> u8 {
        self.served.get(&record).copied().unwrap_or(1)
    }

    /// Whether a record is in more than one blob.
    pub(crate) fn is_repeated(&self, record: u32) -> bool {
        self.served.contains_key(&record)
    }

    /// How many records are in blobs whose time has come.
    pub(crate) fn records_published(&self, now_ms: i64) -> u64 {
        let count = self
            .published
            .partition_point(|&(available_ms, _)| available_ms <= now_ms);
        count
            .checked_sub(1)
            .and_then(|last| self.published.get(last))
            .map_or(0, |&(_, records)| records)
    }

    /// The number of the blob that holds a record.
    pub(crate) fn blob_of(&self, record: u32) -> Option<&Blob> {
        let after = self.blobs.partition_point(|blob| blob.first <= record);
        let blob = self.blobs.get(after.checked_sub(1)?)?;
        (record - blob.first < blob.count).then_some(blob)
    }

    pub(crate) fn expires_ms(&self, blob: &Blob) -> i64 {
        blob.opened_ms + self.expiration_ms
    }

    pub(crate) fn expiration_text(&self, blob: &Blob) -> String {
        with_ms(self.expires_ms(blob))
    }

    /// The `contentId` of a blob as listings have it: two times of 23 digits, the workload twice, a region. Seen in captured
    /// traffic. The digits after the milliseconds hold the blob's number here.
    pub(crate) fn content_id(&self, at: usize) -> Option<String> {
        let blob = self.blobs.get(at)?;
        let (lower, upper) = match blob.content_type {
            ContentType::AzureActiveDirectory => {
                ("audit_azureactivedirectory", "Audit_AzureActiveDirectory")
            }
            ContentType::Exchange => ("audit_exchange", "Audit_Exchange"),
            ContentType::SharePoint => ("audit_sharepoint", "Audit_SharePoint"),
            ContentType::General => ("audit_general", "Audit_General"),
            ContentType::Dlp => ("dlp_all", "DLP_All"),
        };
        Some(format!(
            "{}{:06}${}{:06}${lower}${upper}${}",
            digits(blob.opened_ms),
            at % 1_000_000,
            digits(blob.created_ms),
            at / 1_000_000,
            region(blob.tenant),
        ))
    }

    /// The blob with this `contentId`, in the form of a listing or of a notification.
    ///
    /// # Errors
    /// [`NoBlob`].
    pub(crate) fn find(&self, content_id: &str) -> Result<usize, NoBlob> {
        let mut parts = content_id.split('$');
        let (Some(opened), Some(created)) = (parts.next(), parts.next()) else {
            return Err(NoBlob::Malformed);
        };
        let (Some(low), Some(high)) = (number_after_ms(opened), number_after_ms(created)) else {
            return Err(NoBlob::Malformed);
        };
        let at = high * 1_000_000 + low;
        let listed = self.content_id(at).ok_or(NoBlob::Unknown)?;
        match content_id.strip_prefix(&listed) {
            Some("" | "$IsFromNotification") => Ok(at),
            Some(suffix) if listed.ends_with(suffix) && suffix.starts_with('$') => Ok(at),
            _ => Err(NoBlob::Unknown),
        }
    }
}

/// Why a `contentId` names no blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBlob {
    /// It has not the form of one: AF20052.
    Malformed,
    /// It has the form, but there is no such blob: AF20050.
    Unknown,
}

pub(crate) fn feed_of(tenant: usize, content_type: ContentType) -> usize {
    tenant * ContentType::ALL.len() + content_type.index()
}

/// The region at the end of a `contentId`.
pub(crate) fn region(tenant: usize) -> &'static str {
    const REGIONS: [&str; 3] = ["emea0039", "na0014", "jpn0016"];
    REGIONS[tenant % REGIONS.len()]
}

fn number_after_ms(digits: &str) -> Option<usize> {
    if digits.len() != 23 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.get(17..)?.parse().ok()
}

/// All blobs in an order in which every feed moves on evenly.
fn spread(feeds: &[Range<usize>]) -> Vec<usize> {
    let mut order: Vec<(f64, usize)> = feeds
        .iter()
        .flat_map(|feed| {
            let length = feed.len() as f64;
            feed.clone()
                .enumerate()
                .map(move |(at, blob)| ((at as f64 + 0.5) / length, blob))
        })
        .collect();
    order.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    order.into_iter().map(|(_, blob)| blob).collect()
}

fn set_times(blobs: &mut [Blob], order: &[usize], input: &PlanInput, random: &mut Random) {
    // A huge blob is one moment too: counted by its records, it would push all others together.
    let weight = |blob: &Blob| u64::from(if blob.is_huge { 1 } else { blob.count });
    let total: u64 = blobs.iter().map(weight).sum();
    let backlog_target = match input.live_records_per_sec {
        None => total,
        Some(_) => input.backlog_records.unwrap_or(total / 2),
    };
    let mut backlog_total = 0;
    for count in order.iter().filter_map(|&at| blobs.get(at)).map(weight) {
        if backlog_total >= backlog_target {
            break;
        }
        backlog_total += count;
    }
    let mut done = 0;
    for &at in order {
        let Some(blob) = blobs.get_mut(at) else {
            continue;
        };
        blob.created_ms = if done < backlog_total {
            // Strictly before the start, so that a window that ends now lists the whole backlog.
            let share = done as f64 / backlog_total as f64;
            input.start_ms - input.backlog_ms.max(1) + (share * input.backlog_ms as f64) as i64
        } else {
            let rate = input.live_records_per_sec.unwrap_or(f64::INFINITY);
            let due = (done - backlog_total + weight(blob)) as f64 / rate * 1000.0;
            input.start_ms + due as i64
        };
        blob.available_ms = blob.created_ms;
        // Captured ids have 0 to 47 minutes between their two times.
        blob.opened_ms = blob.created_ms - random.below(47 * 60_000) as i64;
        done += weight(blob);
    }
}

/// How long before `contentCreated` a record was made: by the documents typically 60 to 90 minutes, in seconds.
pub(crate) fn record_age_secs(seed: u64, index: u32) -> i64 {
    (mix(seed ^ u64::from(index).rotate_left(17)) % 5400) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(live: Option<f64>) -> Plan {
        Plan::new(&PlanInput {
            seed: 3,
            feed_counts: vec![1000, 2500, 7, 0, 333, 1000, 2500, 7, 0, 333],
            records_per_blob: 100,
            start_ms: 1_784_145_799_123,
            backlog_ms: 12 * 3_600_000,
            live_records_per_sec: live,
            backlog_records: None,
            expiration_days: 7,
            huge_blobs: Vec::new(),
        })
    }

    #[test]
    fn every_record_is_in_exactly_one_blob() {
        let plan = plan(None);
        assert_eq!(
            plan.blobs
                .iter()
                .map(|blob| u64::from(blob.count))
                .sum::<u64>(),
            7680
        );
        let mut next = 0;
        for blob in &plan.blobs {
            assert_eq!(blob.first, next);
            assert!((1..=150).contains(&blob.count));
            next += blob.count;
        }
        assert_eq!(plan.blob_of(0).unwrap().first, 0);
        assert_eq!(plan.blob_of(7679).unwrap().tenant, 1);
        assert!(plan.blob_of(7680).is_none());
    }

    #[test]
    fn without_a_live_rate_all_is_listed_at_the_start() {
        let plan = plan(None);
        assert_eq!(plan.records_published(1_784_145_799_123), 7680);
        let listed: usize = (0..10)
            .map(|feed| {
                plan.listing(
                    feed,
                    1_784_145_799_123 - 43_200_000,
                    1_784_145_799_123,
                    1_784_145_799_123,
                )
                .len()
            })
            .sum();
        assert_eq!(listed, plan.blobs.len());
    }

    #[test]
    fn with_a_live_rate_half_appears_at_that_rate() {
        let plan = plan(Some(100.0));
        let start = 1_784_145_799_123;
        let backlog = plan.records_published(start);
        assert!((3840..3990).contains(&backlog), "{backlog}");
        let later = plan.records_published(start + 10_000);
        assert!((backlog + 850..=backlog + 1000).contains(&later), "{later}");
        assert_eq!(plan.records_published(start + 40_000), 7680);
    }

    #[test]
    fn a_content_id_is_found_with_and_without_a_notifications_suffix() {
        let plan = plan(None);
        for at in 0..plan.blobs.len() {
            let id = plan.content_id(at).unwrap();
            assert_eq!(plan.find(&id), Ok(at));
            let blob = plan.blobs.get(at).unwrap();
            assert_eq!(plan.find(&format!("{id}${}", region(blob.tenant))), Ok(at));
            assert_eq!(plan.find(&format!("{id}$IsFromNotification")), Ok(at));
            assert_eq!(plan.find(&format!("{id}$x")), Err(NoBlob::Unknown));
        }
        assert_eq!(plan.find("rubbish"), Err(NoBlob::Malformed));
    }
}
