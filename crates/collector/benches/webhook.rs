//! How long Microsoft waits for its 200: notifications over real HTTP on the loopback interface into a real ledger
//! file, first at a steady pace, then as fast as they are answered. Run with `cargo bench -p collector --bench webhook`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use activity_api::{ContentType, Feed, Origin, TenantId};
use anyhow::{Context, ensure};
use collector::clock::{Clock, SystemClock};
use collector::discover::notify::Feeds;
use collector::status::Live;
use collector::telemetry::Telemetry;
use collector::web::{AuthId, WebState, Webhook, router, serve};
use ledger::{Ledger, SqliteLedger};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";
const AUTH_ID: &str = "bench-auth-id";
const BLOBS_PER_NOTIFICATION: u64 = 3;
/// As many as the door lets in at once: more would be turned away, which is not what is measured here.
const CONNECTIONS: usize = 32;
const PACE: u64 = 500;
const PACED_SECONDS: u64 = 10;
const FULL_SPEED: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Not the system's temporary folder: that may be memory, and then a synced write costs nothing.
    let folder =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a folder for the ledger")?;
    println!(
        "one synced write of 4 KiB on this disk: {:.2} ms (median of 200)",
        synced_write(folder.path())?
    );

    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder.path().join("ledger.db"))?);
    let tenant: TenantId = TENANT.parse()?;
    let origin: Origin = "https://manage.office.com".parse()?;
    let webhook = Webhook {
        auth_id: Some(AuthId::new(&SecretString::from(AUTH_ID))?),
        feeds: Feeds::from_iter([(
            Feed::new(origin, tenant, tenant.into()),
            ContentType::ALL.to_vec(),
        )]),
        news: Arc::default(),
    };
    let live = Live::new(SystemClock.now());
    let state = WebState::new(
        Arc::clone(&ledger),
        live,
        Telemetry::install(),
        Arc::new(SystemClock),
        Some(webhook),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, router(state), std::future::pending()));

    let numbers = Arc::new(AtomicU64::new(0));
    let mut latencies = paced(address, &numbers).await?;
    latencies.sort();
    println!(
        "{PACE} notifications/s of {BLOBS_PER_NOTIFICATION} blobs for {PACED_SECONDS} s: request to durable 200: \
         p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
        percentile(&latencies, 0.999),
        percentile(&latencies, 1.0),
    );
    let mut latencies = full_speed(address, &numbers).await?;
    latencies.sort();
    println!(
        "as fast as they are answered, {CONNECTIONS} connections: {:.0} notifications/s, p50 {:.2} ms, p99 {:.2} ms",
        latencies.len() as f64 / FULL_SPEED.as_secs_f64(),
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
    );

    let noted: u64 = ledger
        .summary(SystemClock.now())
        .await?
        .streams
        .iter()
        .map(|stream| stream.pending_count)
        .sum();
    let sent = numbers.load(Ordering::Relaxed) * BLOBS_PER_NOTIFICATION;
    ensure!(
        noted == sent,
        "{sent} blobs were answered with 200 and {noted} are in the ledger"
    );
    println!("all {noted} blobs are in the ledger");
    Ok(())
}

/// Sends at the pace whatever the answers do, so that a slow answer cannot hide those it keeps waiting. The time
/// counts from the moment at which a notification was due.
async fn paced(
    address: std::net::SocketAddr,
    numbers: &Arc<AtomicU64>,
) -> anyhow::Result<Vec<Duration>> {
    let (due, queue) = mpsc::unbounded_channel::<Instant>();
    let queue = Arc::new(Mutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (queue, numbers) = (Arc::clone(&queue), Arc::clone(numbers));
        let mut stream = connect(address).await?;
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(due_at) = { queue.lock().await.recv().await } {
                notify(&mut stream, numbers.fetch_add(1, Ordering::Relaxed)).await?;
                latencies.push(due_at.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let started = Instant::now();
    for number in 0..PACE * PACED_SECONDS {
        let due_at = started + Duration::from_secs(number) / PACE as u32;
        sleep_until(due_at).await;
        due.send(due_at)?;
    }
    drop(due);
    join(workers).await
}

async fn full_speed(
    address: std::net::SocketAddr,
    numbers: &Arc<AtomicU64>,
) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + FULL_SPEED;
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let numbers = Arc::clone(numbers);
        let mut stream = connect(address).await?;
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let started = Instant::now();
                notify(&mut stream, numbers.fetch_add(1, Ordering::Relaxed)).await?;
                latencies.push(started.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    join(workers).await
}

async fn join(
    mut workers: JoinSet<anyhow::Result<Vec<Duration>>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    Ok(latencies)
}

async fn connect(address: std::net::SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn notify(stream: &mut TcpStream, number: u64) -> anyhow::Result<()> {
    let entries: Vec<String> = (0..BLOBS_PER_NOTIFICATION)
        .map(|index| {
            let id = format!("2026071520450077{number:08}${index:023}$audit_exchange$Audit_Exchange$na0018");
            format!(
                r#"{{"tenantId":"{TENANT}","clientId":"{TENANT}","contentType":"Audit.Exchange","contentId":"{id}","contentUri":"https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{id}","contentCreated":"2026-07-15T20:45:00.774Z","contentExpiration":"2026-07-22T20:45:00.774Z"}}"#
            )
        })
        .collect();
    let body = format!("[{}]", entries.join(","));
    let request = format!(
        "POST /api/o365/webhook HTTP/1.1\r\nHost: localhost\r\nWebhook-AuthID: {AUTH_ID}\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let reply = read_reply(stream).await?;
    ensure!(
        reply.starts_with("HTTP/1.1 200 "),
        "not answered with 200: {reply}"
    );
    Ok(())
}

async fn read_reply(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut reply = Vec::new();
    loop {
        ensure!(
            stream.read_buf(&mut reply).await? > 0,
            "the connection was closed"
        );
        let text = std::str::from_utf8(&reply)?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.context("no length in the reply")?.parse::<usize>()? {
                return Ok(text.to_owned());
            }
        }
    }
}

/// Milliseconds of a synced write, to compare the figures with.
fn synced_write(folder: &std::path::Path) -> anyhow::Result<f64> {
    let mut file = File::create(folder.join("synced"))?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort();
    Ok(percentile(&took, 0.5))
}

/// Milliseconds.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted
        .get(index)
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1_000.0)
}
