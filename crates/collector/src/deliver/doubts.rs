//! Answers about a blob that prove nothing the first time (it does not exist, its body is no array): how often each was
//! given, when to ask again, and when to believe it. And how often it could not be fetched.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activity_api::{ContentId, ContentType, TenantId};
use jiff::Timestamp;

use crate::record::BlobTag;

/// How often a body that breaks off is fetched before the records in front of the damage are delivered without the rest.
/// With the pauses between, well over an hour: whatever stands between us and Microsoft is mended by then.
const DAMAGED_TRIES: u32 = 6;
/// How many attempts, whatever became of them, stand for one doubtful answer. Only a process that ends after each attempt
/// never counts enough answers itself.
const ATTEMPTS_PER_ANSWER: u32 = 10;
/// When even a blob that claims to live for ever is given up. At an hour each, far longer than Microsoft keeps anything.
const MOST_ATTEMPTS: u32 = 1_000;

/// How often in a row each blob was said to be missing, or came damaged. Counted apart from the lease's attempts, which an
/// outage of a sink drives up: the first doubtful answer after one would be the last.
///
/// Lost with the process, which only means more tries.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    doubtful: Mutex<Counts>,
    failed: Mutex<Counts>,
}

type Counts = HashMap<(TenantId, ContentType, ContentId), u32>;

/// How many attempts of which this process knows nothing count as failures of the blob.
const UNKNOWN_FAILURES: u32 = 2;

/// What a doubtful answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// There is no such blob, or what came has nothing of a blob. Believed once Microsoft would have dropped it anyway: a
    /// page of some proxy in between, or a node that lags behind, must not cost evidence that is there.
    Absent,
    /// The blob's array is damaged. Believed after some tries, because there are records in front of the damage.
    Damaged,
}

/// What to make of a doubtful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Ask again, after this long.
    AskAgain(Duration),
    /// It is so.
    Believe,
}

impl Doubts {
    /// One more doubtful answer about the blob, at its attempt number `attempts`.
    pub(super) fn judge(
        &self,
        blob: &BlobTag,
        doubt: Doubt,
        attempts: u32,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Judgement {
        let mut counts = lock(&self.doubtful);
        let count = counts.entry(name(blob)).or_default();
        *count += 1;
        let is_enough = match doubt {
            Doubt::Absent => now >= expires_at || attempts >= MOST_ATTEMPTS,
            Doubt::Damaged => {
                *count >= DAMAGED_TRIES
                    || now >= expires_at
                    || attempts >= DAMAGED_TRIES * ATTEMPTS_PER_ANSWER
            }
        };
        if is_enough {
            counts.remove(&name(blob));
            Judgement::Believe
        } else {
            Judgement::AskAgain(plan_doubtful_pause(*count))
        }
    }

    /// One more failure to fetch the blob. How many in a row a pause is to be planned for: those that were seen here, and
    /// few of the others. The lease's attempts are no such number: a sink's outage and a process that is killed again and
    /// again drive them up, and the first failure after that would cost minutes.
    pub(super) fn failed(&self, blob: &BlobTag, attempts: u32) -> u32 {
        let mut counts = lock(&self.failed);
        let count = counts.entry(name(blob)).or_default();
        *count += 1;
        attempts.min(*count + UNKNOWN_FAILURES)
    }

    /// The blob came whole, or is settled.
    pub(super) fn clear(&self, blob: &BlobTag) {
        for counts in [&self.doubtful, &self.failed] {
            let mut counts = lock(counts);
            // Nearly always there is none: no id is copied for that.
            if !counts.is_empty() {
                counts.remove(&name(blob));
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two seconds after the first answer, as most are passing; then longer by a factor of eight, up to an hour.
fn plan_doubtful_pause(count: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3600);
    Duration::from_secs(2)
        .saturating_mul(8_u32.saturating_pow(count.saturating_sub(1)))
        .min(LONGEST)
}

fn name(blob: &BlobTag) -> (TenantId, ContentType, ContentId) {
    (blob.tenant, blob.content_type, blob.content_id.clone())
}
