//! Azurite: Microsoft's own emulator of Azure Storage, run as a child process. It is the one thing here that is not
//! written from the protocols, because it is better: it shares no code with anybody of ours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Error;

/// Far longer than it takes to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The ports are free when they are chosen; somebody else may have one by the time it is opened.
const MAX_TRIES: usize = 3;

/// The emulator's account and key, which Microsoft publishes.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running emulator with tables, queues and blobs in memory. It ends when this is dropped, and when this process ends
/// in whatever way: it reads a pipe that only this process holds open.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    blob: u16,
    queue: u16,
    table: u16,
}

impl Azurite {
    /// Starts the emulator that npm installed into this `node_modules` folder, on free ports of the loopback address,
    /// and returns when it answers.
    ///
    /// # Errors
    /// When there is no Node, no emulator in the folder, or it does not answer in time.
    pub async fn start(node_modules: &Path) -> Result<Self, Error> {
        let main = node_modules.join("azurite/dist/src/azurite.js");
        let main = std::path::absolute(&main).unwrap_or(main);
        if !main.is_file() {
            let missing = io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} does not exist", main.display()),
            );
            return Err(Error::setup("Azurite", missing));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let ports = Ports::free().map_err(|cause| Error::setup("Azurite's ports", cause))?;
            let child = spawn(&main, ports).map_err(|cause| Error::setup("Azurite", cause))?;
            let mut azurite = Self { child, ports };
            match azurite.wait_until_it_answers().await {
                Ok(()) => return Ok(azurite),
                Err(_) if tries < MAX_TRIES => {}
                Err(cause) => return Err(Error::setup("Azurite", cause)),
            }
        }
    }

    /// What an application setting such as `AzureWebJobsStorage` would hold.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let Ports { blob, queue, table } = self.ports;
        let at = |port: u16| format!("http://{}:{port}/{ACCOUNT}", Ipv4Addr::LOCALHOST);
        format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};\
             BlobEndpoint={};QueueEndpoint={};TableEndpoint={};",
            at(blob),
            at(queue),
            at(table)
        )
    }

    async fn wait_until_it_answers(&mut self) -> io::Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        for port in [self.ports.blob, self.ports.queue, self.ports.table] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = self.child.try_wait()? {
                    return Err(io::Error::other(format!("it ended at once: {status}")));
                }
                if Instant::now() > until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // Fails only when it has ended already, which is what is wanted.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

impl Ports {
    fn free() -> io::Result<Self> {
        // All three are held until all are known, so that they differ.
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = [listen()?, listen()?, listen()?];
        let [blob, queue, table] = listeners.map(|listener| listener.local_addr());
        Ok(Self {
            blob: blob?.port(),
            queue: queue?.port(),
            table: table?.port(),
        })
    }
}

fn spawn(main: &Path, ports: Ports) -> io::Result<Child> {
    // Its own command line has nothing that ends it with its parent, so it is loaded from a line that does.
    let load = format!(
        "process.stdin.resume(); process.stdin.on('end', () => process.exit(0)); require({:?});",
        main.display().to_string()
    );
    let host = Ipv4Addr::LOCALHOST.to_string();
    let mut command = Command::new("node");
    // The second argument stands where a script's name would.
    command.args(["-e", &load, "azurite"]);
    command.args(["--inMemoryPersistence", "--silent"]);
    command.args(["--skipApiVersionCheck", "--disableTelemetry"]);
    for (service, port) in [
        ("blob", ports.blob),
        ("queue", ports.queue),
        ("table", ports.table),
    ] {
        command.args([format!("--{service}Host"), host.clone()]);
        command.args([format!("--{service}Port"), port.to_string()]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
