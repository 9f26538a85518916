//! Moments that a benchmark asks for: when a collector began to fetch, and how long each blob took from the moment at
//! which it was to be had until a sink had all of its records.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::plan::Blob;

/// The moments since the start, or since they were last cleared.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    first_blob_ms: Option<i64>,
    /// Of each sink, by its name.
    sinks: HashMap<&'static str, Taken>,
}

/// What one sink has of the blobs that were created after the start.
#[derive(Debug, Default)]
struct Taken {
    /// Records that a blob still lacks, by the number of its first record.
    lacking: HashMap<u32, u32>,
    blobs: Vec<(i64, i64)>,
}

/// The moments, as a benchmark is told them.
#[derive(Debug, Serialize)]
pub(crate) struct Moments {
    /// When the first request for a blob came, in milliseconds of the simulated time since 1970.
    first_blob_ms: Option<i64>,
    /// For each sink, for each blob that appeared after the start and that it has all of: when it was to be had, and how
    /// many milliseconds later the sink had all of it.
    taken_ms: HashMap<&'static str, Vec<(i64, i64)>>,
}

impl Measured {
    /// A blob was asked for.
    pub(crate) fn note_blob(&self, now_ms: i64) {
        self.lock().first_blob_ms.get_or_insert(now_ms);
    }

    /// A sink took a record of this blob that it did not have.
    pub(crate) fn note_taken(&self, sink: &'static str, blob: &Blob, now_ms: i64) {
        let mut inner = self.lock();
        let taken = inner.sinks.entry(sink).or_default();
        let lacking = taken.lacking.entry(blob.first).or_insert(blob.count);
        *lacking = lacking.saturating_sub(1);
        if *lacking == 0 {
            taken.lacking.remove(&blob.first);
            let took_ms = now_ms - blob.available_ms;
            taken.blobs.push((blob.available_ms, took_ms));
        }
    }

    pub(crate) fn moments(&self) -> Moments {
        let inner = self.lock();
        let blobs = |(sink, taken): (&&'static str, &Taken)| (*sink, taken.blobs.clone());
        Moments {
            first_blob_ms: inner.first_blob_ms,
            taken_ms: inner.sinks.iter().map(blobs).collect(),
        }
    }

    /// Begins anew, for the next collector.
    pub(crate) fn clear(&self) {
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
