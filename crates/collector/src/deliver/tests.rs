//! Passes of delivering, with a scripted Microsoft, scripted sinks and a real ledger.

mod batches;
mod blobs;
mod expiring;
mod fairness;
mod interleavings;
mod ledger_trouble;
mod letting_go;
mod outages;
mod quarantine;
mod repeats;
mod restarts;
mod sinks;
mod stopping;
mod under_way;

use ledger::Lease;
use tokio::time::Instant;

use super::in_flight::{Ending, InFlight};
use super::*;
use crate::testing::{FakeSink, Scene, other_tenant, tenant};

const MIB: usize = 1024 * 1024;
const LEASE: Duration = Duration::from_secs(600);

/// A deliverer of the scene's two tenants to these sinks.
fn deliverer(scene: &Scene, sinks: &[&Arc<FakeSink>]) -> Arc<Deliverer> {
    deliverer_with(scene, sinks, 16, 64 * MIB)
}

fn deliverer_with(
    scene: &Scene,
    sinks: &[&Arc<FakeSink>],
    max_concurrent: usize,
    max_memory_bytes: usize,
) -> Arc<Deliverer> {
    let tenants = [tenant(), other_tenant()].map(|id| (id, Arc::new(scene.door(id))));
    let sinks = sinks.iter().map(|sink| {
        let sink: Arc<dyn Sink> = Arc::<FakeSink>::clone(sink);
        let health = Arc::new(Health::new(sink.name().clone()));
        (sink, health)
    });
    Arc::new(Deliverer {
        tenants: tenants.into_iter().collect(),
        sinks: sinks.collect(),
        ledger: Arc::<crate::testing::TestLedger>::clone(&scene.ledger),
        clock: scene.clock(),
        live: Live::new(scene.now()),
        memory: Memory::new(max_memory_bytes),
        quarantine: Arc::new(Bound::new(1 << 30, Live::new(scene.now()))),
        max_concurrent,
        pauses: Arc::new(Pauses::default()),
        doubts: Doubts::default(),
        unsettled: Arc::default(),
        lease: LEASE,
        wanted: Arc::default(),
        news: Arc::default(),
        dedupe: None,
    })
}

/// One pass that nobody stops. All memory is given back behind it.
async fn pass(deliverer: &Arc<Deliverer>) -> PassCounts {
    let counts = deliverer
        .deliver_due(&CancellationToken::new(), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        deliverer.memory.held_bytes(),
        0,
        "a pass leaves no memory held"
    );
    counts
}

/// One pass, beside what the test does, until it is in a hurry.
fn in_background(
    deliverer: &Arc<Deliverer>,
    hurry: &CancellationToken,
) -> tokio::task::JoinHandle<PassCounts> {
    let (deliverer, hurry) = (Arc::clone(deliverer), hurry.clone());
    tokio::spawn(async move {
        let never = CancellationToken::new();
        deliverer.deliver_due(&never, &hurry).await.unwrap()
    })
}

/// Passes, with the pauses that a host makes, until nothing is pending.
async fn deliver_all(scene: &Scene, deliverer: &Arc<Deliverer>) {
    for looked in 0..1_000 {
        pass(deliverer).await;
        let stream = scene.stream().await;
        assert_eq!(stream.leased_count, 0, "a pass leaves no lease held");
        if stream.pending_count == 0 {
            return;
        }
        // As a host looks at first; then in strides, because some pauses are long and a week must pass.
        let stride = if looked < 100 { 2 } else { 1_200 };
        tokio::time::sleep(Duration::from_secs(stride)).await;
    }
    panic!("some blobs never end: {:?}", scene.stream().await);
}

/// What is kept of an item in quarantine.
async fn bytes_of(scene: &Scene, item: &ledger::QuarantinedItem) -> Vec<u8> {
    let bytes = scene.ledger.quarantined_bytes(item.id).await.unwrap();
    bytes.unwrap()
}

/// The attempts that the ledger has counted for the one blob that waits, this look not included.
async fn attempts(scene: &Scene) -> u32 {
    let request = LeaseRequest {
        max_count: 10,
        duration: LEASE,
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    };
    let leases = scene
        .ledger
        .lease(&request, scene.now() + Duration::from_secs(7 * 24 * 3600))
        .await
        .unwrap();
    let [lease] = <[Lease; 1]>::try_from(leases).expect("one blob waits");
    let attempts = lease.attempts() - 1;
    scene.ledger.release(vec![lease]).await.unwrap();
    attempts
}
