//! What is done to both, at random.

use proptest::prelude::*;

/// Few of everything, so that steps meet each other.
const BLOB_COUNT: u8 = 24;
pub(super) const SINK_COUNT: u8 = 3;

#[derive(Debug, Clone)]
pub(super) enum Step {
    NoteSeen {
        blobs: Vec<u8>,
        via_listing: bool,
    },
    NoteListed {
        stream: u8,
        start_minute: u8,
        minutes: u8,
    },
    NoteUnlistable {
        stream: u8,
        before_minute: u8,
    },
    Lease {
        max_count: u8,
        except_tenant: Option<u8>,
        for_sinks: Vec<u8>,
        only: Vec<u8>,
        seconds: u8,
    },
    Renew {
        lease: u8,
        seconds: u8,
    },
    Acknowledge {
        lease: u8,
        sink: u8,
        part: Option<u8>,
        position: Option<u8>,
        quarantined: Option<u8>,
    },
    AcknowledgeLast {
        lease: u8,
        sink: u8,
        required: Vec<u8>,
    },
    Deliver {
        lease: u8,
        required: Vec<u8>,
        proofs: bool,
    },
    RetryLater {
        lease: u8,
        seconds: u8,
    },
    Release {
        lease: u8,
    },
    Quarantine {
        lease: u8,
    },
    Expire {
        lease: u8,
    },
    Wait {
        seconds: u8,
    },
    Count {
        counter: u8,
        increment: u8,
    },
    Compact {
        max_blobs: u8,
    },
    /// Closed as at a shutdown, and opened again.
    Restart,
    /// The files as they are at this moment, opened by another process: what a kill leaves behind.
    Crash,
}

fn some_sinks() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::subsequence(
        (0..SINK_COUNT).collect::<Vec<_>>(),
        0..=usize::from(SINK_COUNT),
    )
}

/// Mostly none: a lease of whatever is due. Some names may be of blobs that nobody has noted.
fn some_names() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::collection::vec(0..BLOB_COUNT, 1..5),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let lease = any::<u8>();
    let seconds = 0..100_u8;
    prop_oneof![
        3 => (proptest::collection::vec(0..BLOB_COUNT, 1..6), any::<bool>())
            .prop_map(|(blobs, via_listing)| Step::NoteSeen { blobs, via_listing }),
        1 => (0..4_u8, 0..60_u8, 1..20_u8)
            .prop_map(|(stream, start_minute, minutes)| Step::NoteListed { stream, start_minute, minutes }),
        1 => (0..4_u8, 0..80_u8).prop_map(|(stream, before_minute)| Step::NoteUnlistable { stream, before_minute }),
        5 => (0..6_u8, proptest::option::of(0..2_u8), some_sinks(), some_names(), seconds.clone())
            .prop_map(|(max_count, except_tenant, for_sinks, only, seconds)| Step::Lease { max_count, except_tenant, for_sinks, only, seconds }),
        2 => (lease, seconds.clone()).prop_map(|(lease, seconds)| Step::Renew { lease, seconds }),
        8 => (lease, 0..SINK_COUNT, proptest::option::of(0..3_u8), proptest::option::of(any::<u8>()), proptest::option::of(0..2_u8))
            .prop_map(|(lease, sink, part, position, quarantined)| Step::Acknowledge { lease, sink, part, position, quarantined }),
        4 => (lease, 0..SINK_COUNT, some_sinks())
            .prop_map(|(lease, sink, required)| Step::AcknowledgeLast { lease, sink, required }),
        3 => (lease, some_sinks(), any::<bool>())
            .prop_map(|(lease, required, proofs)| Step::Deliver { lease, required, proofs }),
        2 => (lease, seconds.clone()).prop_map(|(lease, seconds)| Step::RetryLater { lease, seconds }),
        1 => lease.prop_map(|lease| Step::Release { lease }),
        1 => lease.prop_map(|lease| Step::Quarantine { lease }),
        1 => lease.prop_map(|lease| Step::Expire { lease }),
        3 => seconds.prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..3_u8, any::<u8>()).prop_map(|(counter, increment)| Step::Count { counter, increment }),
        1 => (1..4_u8).prop_map(|max_blobs| Step::Compact { max_blobs }),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}
