//! The limit: what this machine needs to fetch the blobs and inflate them, and to deflate their text again, doing nothing
//! else. No decoding, no ledger, no sink, no order, no second try. One line of JSON says what it took.
//!
//! The listing comes first and is not counted.

#![expect(clippy::print_stdout, reason = "its result is a line on stdout")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use benches::http::Blobs;
use benches::microsoft::{Config, Listed};
use benches::{http, process};
use clap::{Parser, ValueEnum};
use deflate::{Deflater, Format};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use reqwest::header::HeaderValue;

/// What one request to Alert Logic may carry, the default of `max_payload_bytes`.
const PAYLOAD_BYTES: usize = 700_000;
/// So that the first payload has about the right size: audit records deflate to a fifth and less.
const FIRST_BLOCK_BYTES: usize = 3_500_000;

/// Fetches all blobs of a simulator, and says what that took.
#[derive(Parser)]
struct Args {
    /// The configuration that the simulator wrote.
    config: PathBuf,
    /// What is done.
    #[arg(long, value_enum)]
    work: Work,
    /// Requests under way at once.
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Work {
    /// Fetch and inflate.
    Fetch,
    /// And deflate with libdeflate at level 1.
    Libdeflate,
    /// And deflate with the project's own engine.
    Own,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    http::install_provider();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::read(&args.config)?;
    let listed = config.list(&config.client()?).await?;
    let blobs = interleave(&listed);
    let all = Arc::new(All {
        client: config.blobs()?,
        blobs,
        next: AtomicUsize::new(0),
        work: args.work,
        benches: Mutex::default(),
    });
    let cpu_before = process::cpu_seconds("self")?;
    let started = Instant::now();
    let workers: Vec<_> = (0..args.connections)
        .map(|_| tokio::spawn(Arc::clone(&all).work_until_done()))
        .collect();
    for worker in workers {
        worker.await??;
    }
    let mut benches = std::mem::take(&mut *all.benches());
    for bench in &mut benches {
        bench.finish(args.work)?;
    }
    let result = serde_json::json!({
        "blobs": all.blobs.len(),
        "bytes": benches.iter().map(|bench| bench.bytes).sum::<u64>(),
        "deflated_bytes": benches.iter().map(|bench| bench.deflated_bytes).sum::<u64>(),
        "seconds": started.elapsed().as_secs_f64(),
        "cpu_seconds": process::cpu_seconds("self")? - cpu_before,
        "peak_mib": process::peak_mib("self")?,
    });
    println!("{result}");
    Ok(())
}

/// One blob of each tenant after the other.
fn interleave(listed: &[Listed]) -> Vec<(String, HeaderValue)> {
    let most = listed.iter().map(|tenant| tenant.blobs.len()).max();
    let of_round = |round: usize| {
        let of_tenant = move |tenant: &Listed| {
            let blob = tenant.blobs.get(round)?;
            Some((blob.content_uri.clone(), tenant.bearer.clone()))
        };
        listed.iter().filter_map(of_tenant)
    };
    (0..most.unwrap_or_default()).flat_map(of_round).collect()
}

struct All {
    client: Blobs,
    blobs: Vec<(String, HeaderValue)>,
    next: AtomicUsize,
    work: Work,
    /// What is not in use. The last one given back comes first, so there are no more of them than cores.
    benches: Mutex<Vec<Bench>>,
}

impl All {
    async fn work_until_done(self: Arc<Self>) -> anyhow::Result<()> {
        while let Some((uri, bearer)) = self.blobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let gzip = self.client.get(uri, bearer).await?;
            let bench = self.benches().pop();
            let mut bench = match bench {
                Some(bench) => bench,
                None => Bench::new()?,
            };
            bench.take(&gzip, self.work)?;
            self.benches().push(bench);
        }
        Ok(())
    }

    fn benches(&self) -> std::sync::MutexGuard<'_, Vec<Bench>> {
        self.benches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Buffers and states that are used again and again.
struct Bench {
    inflater: Decompressor,
    deflater: Compressor,
    own: Deflater,
    text: Vec<u8>,
    /// How much of `text` waits to be deflated.
    filled: usize,
    /// How much text makes a payload, as the last one had it.
    block_bytes: usize,
    payload: Vec<u8>,
    bytes: u64,
    deflated_bytes: u64,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let level = CompressionLvl::new(1)
            .ok()
            .context("libdeflate has a level 1")?;
        Ok(Self {
            inflater: Decompressor::new(),
            deflater: Compressor::new(level),
            own: Deflater::new(),
            text: Vec::new(),
            filled: 0,
            block_bytes: FIRST_BLOCK_BYTES,
            payload: Vec::new(),
            bytes: 0,
            deflated_bytes: 0,
        })
    }

    fn take(&mut self, gzip: &[u8], work: Work) -> anyhow::Result<()> {
        let length = gzip.last_chunk().context("no gzip")?;
        let end = self.filled + u32::from_le_bytes(*length) as usize;
        if self.text.len() < end {
            self.text.resize(end, 0);
        }
        let room = self.text.get_mut(self.filled..end).unwrap_or_default();
        let inflated = self.inflater.gzip_decompress(gzip, room)?;
        ensure!(inflated == room.len(), "the gzip is shorter than it says");
        self.bytes += inflated as u64;
        if work == Work::Fetch {
            return Ok(());
        }
        self.filled = end;
        if self.filled >= self.block_bytes {
            self.finish(work)?;
        }
        Ok(())
    }

    fn finish(&mut self, work: Work) -> anyhow::Result<()> {
        let text = self.text.get(..self.filled).unwrap_or_default();
        if work == Work::Fetch || text.is_empty() {
            return Ok(());
        }
        let deflated = if work == Work::Own {
            self.payload.clear();
            self.own
                .compress(Format::Zlib, text, &mut self.payload, usize::MAX)?;
            self.payload.len()
        } else {
            let bound = self.deflater.zlib_compress_bound(text.len());
            if self.payload.len() < bound {
                self.payload.resize(bound, 0);
            }
            self.deflater.zlib_compress(text, &mut self.payload)?
        };
        self.deflated_bytes += deflated as u64;
        let ratio = text.len() as f64 / deflated.max(1) as f64;
        self.block_bytes = (PAYLOAD_BYTES as f64 * ratio) as usize;
        self.filled = 0;
        Ok(())
    }
}
