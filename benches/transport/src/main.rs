//! What a fetch costs by itself: TLS by either of its providers, over many HTTP/1.1 connections or few of HTTP/2. A server in
//! a process of its own answers with bodies as long as compressed blobs; the client does nothing with them.

mod client;
mod server;

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use client::{Cost, Http, Provider, Way};

/// Bytes of a body, as blobs of 10, 100 and 1,000 records have when compressed, and how many are fetched.
const BODIES: [(usize, usize); 3] = [(2_500, 60_000), (24_000, 30_000), (240_000, 6_000)];

/// As often everything is measured, in turn; the median counts.
const ROUNDS: usize = 3;

const WAYS: [Way; 4] = [
    Way {
        provider: Provider::Ring,
        http: Http::One,
        connections: 16,
    },
    Way {
        provider: Provider::AwsLc,
        http: Http::One,
        connections: 16,
    },
    Way {
        provider: Provider::Ring,
        http: Http::Two,
        connections: 4,
    },
    Way {
        provider: Provider::Ring,
        http: Http::Two,
        connections: 1,
    },
];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if let Some(bytes) = env::args().nth(1) {
        return runtime.block_on(server::serve(bytes.parse()?));
    }
    println!(
        "{:>8} {:<10} {:<9} {:>11} {:>10} {:>7} {:>15}",
        "bytes", "TLS", "HTTP", "connections", "requests/s", "MB/s", "CPU µs/request"
    );
    for (bytes, count) in BODIES {
        let mut costs = vec![Vec::new(); WAYS.len()];
        for _ in 0..ROUNDS {
            for (way, costs) in WAYS.iter().zip(&mut costs) {
                let server = Server::start(bytes)?;
                costs.push(runtime.block_on(client::fetch(*way, &server.address, count))?);
            }
        }
        for (way, mut costs) in WAYS.iter().zip(costs) {
            costs.sort_by(|one, other| one.cpu_seconds.total_cmp(&other.cpu_seconds));
            let cost: &Cost = costs.get(ROUNDS / 2).context("nothing was measured")?;
            let per_second = count as f64 / cost.seconds;
            println!(
                "{bytes:>8} {:<10} {:<9} {:>11} {per_second:>10.0} {:>7.1} {:>15.1}",
                way.provider.name(),
                way.http.name(),
                way.connections,
                per_second * bytes as f64 / 1e6,
                cost.cpu_seconds / count as f64 * 1e6
            );
        }
    }
    Ok(())
}

/// This program once more, as a server.
struct Server {
    process: Child,
    address: server::Address,
}

impl Server {
    fn start(bytes: usize) -> anyhow::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .arg(bytes.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("it has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = server::Address::read(&line)?;
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It runs until it is stopped.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
