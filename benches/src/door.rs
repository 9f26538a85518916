//! The webhook's door: notifications at a steady pace into the real program while it collects what they name, and how long
//! each waits for the 200 that says that its blobs are in the ledger.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use benches::microsoft::{Blob, Config};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::args::{Common, Door, Sink, folder};
use crate::collector::{Collector, Setup};
use crate::goals::Goals;
use crate::simulator::{Options, Simulator};

const BLOBS_PER_NOTIFICATION: usize = 3;
/// What a notification counts as that the door had no room for. Microsoft would send it again.
const TURNED_AWAY: Duration = Duration::from_secs(10);
/// About what the ledger adds to its log for a notification and what is delivered beside it.
const SYNCED_BYTES: usize = 16 * 1024;
/// How much room the syncs go round in, like the ledger's log.
const ROUND_BYTES: usize = 4 * 1024 * 1024;
const SYNC_COUNT: usize = 500;
const SYNC_PAUSE: Duration = Duration::from_millis(4);
const AUTH_ID: &str = "a-bench-of-the-collector";

pub(crate) fn measure(common: &Common, door: &Door, goals: &mut Goals) -> anyhow::Result<()> {
    let notifications = (door.per_second * door.seconds) as usize;
    // A fifth more than are told of: those of the last two hours are left to the listings.
    let blobs = notifications * BLOBS_PER_NOTIFICATION;
    let options = Options {
        records: (blobs + blobs / 4) as u64,
        records_per_blob: 1,
        tenants: 1,
        ..Options::default()
    };
    let simulator = Simulator::start(common, &options)?;
    let config = Config::read(&simulator.config_file())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let bodies = runtime.block_on(bodies(&config, notifications))?;
    // The simulated Microsoft is not told where the door is (no listing of more than an hour, no webhook that it could
    // validate), so that the blobs are new to the collector when we tell of them.
    let setup = Setup::new(Sink::Alertlogic)
        .set("poll", "lookback_hours", 1)
        .set(
            "webhook",
            "public_url",
            "http://127.0.0.1:9/api/o365/webhook",
        )
        .set("webhook", "auth_id", AUTH_ID);
    let collector = Collector::start(common, &simulator, setup)?;
    std::thread::sleep(Duration::from_secs(2));
    let address = format!("http://{}/api/o365/webhook", collector.address);
    let mut took = runtime.block_on(paced(address, bodies, door.per_second))?;
    let cpu = collector.process.cpu_seconds()?;
    collector.end()?;
    took.sort();
    let at = |part: f64| percentile(&took, part);
    let turned_away = took.iter().filter(|took| **took == TURNED_AWAY).count();
    println!(
        "\ndoor: {} notifications/s of {BLOBS_PER_NOTIFICATION} blobs for {} s, into the real program, which fetches them: request to \
         durable 200: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms; {turned_away} turned away, counted as ten seconds; \
         the collector's CPU {cpu:.2} s",
        door.per_second,
        door.seconds,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    let synced = syncs()?;
    println!(
        "the disk alone, right after: {} KiB written and synced: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms; a 200 waits for one sync \
         that is under way and for its own",
        SYNCED_BYTES / 1024,
        percentile(&synced, 0.5),
        percentile(&synced, 0.99),
        percentile(&synced, 1.0),
    );
    goals.at_most(
        "door: p99 from request to durable 200",
        at(0.99),
        10.0,
        " ms",
    );
    Ok(())
}

/// What Microsoft would post of blobs that are older than the collector looks back.
async fn bodies(config: &Config, count: usize) -> anyhow::Result<Vec<String>> {
    let client = config.client()?;
    let mut listed = config.list(&client).await?;
    let blobs = listed
        .first_mut()
        .map(|tenant| std::mem::take(&mut tenant.blobs));
    let mut blobs = blobs.context("a tenant")?;
    blobs.sort_by(|one, other| one.content_created.cmp(&other.content_created));
    let tenant = config.tenants.first().context("a tenant")?;
    let bodies: Vec<String> = blobs
        .chunks_exact(BLOBS_PER_NOTIFICATION)
        .take(count)
        .map(|blobs| body(&tenant.id, blobs))
        .collect();
    ensure!(bodies.len() == count, "too few blobs are listed");
    Ok(bodies)
}

fn body(tenant: &str, blobs: &[Blob]) -> String {
    let row = |blob: &Blob| {
        serde_json::json!({
            "tenantId": tenant,
            "clientId": tenant,
            "contentType": blob.content_type,
            "contentId": blob.content_id,
            "contentUri": blob.content_uri,
            "contentCreated": blob.content_created,
            "contentExpiration": blob.content_expiration,
        })
    };
    serde_json::Value::from_iter(blobs.iter().map(row)).to_string()
}

/// Sends at the pace whatever the answers do, so that a slow answer cannot hide those it keeps waiting. The time counts
/// from the moment at which a notification was due.
async fn paced(
    address: String,
    bodies: Vec<String>,
    per_second: u64,
) -> anyhow::Result<Vec<Duration>> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()?;
    let address: Arc<str> = address.into();
    let pause = Duration::from_secs(1) / u32::try_from(per_second)?;
    let started = Instant::now();
    let mut sent = JoinSet::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let due_at = started + pause * u32::try_from(number)?;
        sleep_until(due_at).await;
        let (client, address) = (client.clone(), Arc::clone(&address));
        sent.spawn(async move {
            let request = client
                .post(&*address)
                .header("Webhook-AuthID", AUTH_ID)
                .header("Content-Type", "application/json; charset=utf-8")
                .body(body);
            let status = request.send().await?.status();
            ensure!(
                matches!(status.as_u16(), 200 | 503),
                "answered with {status}"
            );
            Ok(if status == 200 {
                due_at.elapsed()
            } else {
                TURNED_AWAY
            })
        });
    }
    let mut took = Vec::new();
    while let Some(latency) = sent.join_next().await {
        took.push(latency??);
    }
    Ok(took)
}

/// How long syncs take that nothing of ours goes with, on the disk that the ledger was on.
fn syncs() -> anyhow::Result<Vec<Duration>> {
    let dir = folder()?;
    let mut file = File::create(dir.path().join("synced"))?;
    file.write_all(&vec![1; ROUND_BYTES])?;
    file.sync_all()?;
    let mut took = Vec::with_capacity(SYNC_COUNT);
    for number in 0..SYNC_COUNT {
        let at = number * SYNCED_BYTES % ROUND_BYTES;
        file.seek(SeekFrom::Start(at as u64))?;
        let started = Instant::now();
        file.write_all(&[2; SYNCED_BYTES])?;
        file.sync_all()?;
        took.push(started.elapsed());
        std::thread::sleep(SYNC_PAUSE);
    }
    took.sort();
    Ok(took)
}

/// Milliseconds.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted
        .get(index)
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1_000.0)
}
