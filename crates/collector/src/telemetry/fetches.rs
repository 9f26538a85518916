//! What is counted for every blob that is fetched, by metrics that are found once: to find one by its labels costs more than
//! to count.

use std::sync::OnceLock;
use std::time::Duration;

use activity_api::{ContentType, TenantId};
use metrics::{Counter, Histogram, counter, histogram};

use super::{FETCH_SECONDS, REQUESTS_TOTAL, RequestKind, RequestOutcome};

/// One tenant's. Takes next to nothing until the first blob is fetched, as there may be ten thousand tenants.
#[derive(Debug, Default)]
pub struct Fetches(OnceLock<Box<Handles>>);

struct Handles {
    tenant: String,
    answered: Counter,
    /// Each when it is first needed, so that no metric is shown of what is not collected.
    seconds: [OnceLock<Histogram>; ContentType::ALL.len()],
}

impl Fetches {
    /// Counts one request for a blob that was answered as asked.
    pub fn answered(&self, tenant: TenantId) {
        self.of(tenant).answered.increment(1);
    }

    /// Notes how long a blob took to fetch, failed attempts excluded.
    pub fn fetched(&self, tenant: TenantId, content_type: ContentType, took: Duration) {
        let handles = self.of(tenant);
        let all = ContentType::ALL.iter().zip(&handles.seconds);
        for (_, seconds) in all.filter(|(of, _)| **of == content_type) {
            let seconds = seconds.get_or_init(|| {
                let labels = [
                    ("tenant", handles.tenant.clone()),
                    ("content_type", content_type.to_string()),
                ];
                histogram!(FETCH_SECONDS, &labels)
            });
            seconds.record(took.as_secs_f64());
        }
    }

    fn of(&self, tenant: TenantId) -> &Handles {
        self.0.get_or_init(|| {
            let tenant = tenant.to_string();
            let (kind, outcome) = (RequestKind::Blob, RequestOutcome::Ok);
            let answered = counter!(
                REQUESTS_TOTAL,
                "tenant" => tenant.clone(), "kind" => kind.as_str(), "outcome" => outcome.as_str()
            );
            Box::new(Handles {
                tenant,
                answered,
                seconds: Default::default(),
            })
        })
    }
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}
