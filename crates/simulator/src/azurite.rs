//! Azurite: Microsoft's own emulator of Azure Storage, run as a child process. It is the one thing here that is not
//! written from the protocols, because it is better: it shares no code with anybody of ours.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::{Error, ServerTls};

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
    /// What it serves HTTPS with, where it does.
    certificate: Option<Certificate>,
}

/// A certificate's chain and its key, as files.
#[derive(Debug)]
struct Certificate {
    folder: TempDir,
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
        Self::start_with(node_modules, None).await
    }

    /// As [`start`](Self::start), with HTTPS, where it takes tokens of Entra besides its key: of each it reads the issuer,
    /// the audience and the times, and believes the signature.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the certificate cannot be written to a folder of its own.
    pub async fn start_with_tokens(node_modules: &Path, tls: &ServerTls) -> Result<Self, Error> {
        let certificate = Certificate::write(tls)
            .map_err(|cause| Error::setup("Azurite's certificate", cause))?;
        Self::start_with(node_modules, Some(certificate)).await
    }

    async fn start_with(
        node_modules: &Path,
        mut certificate: Option<Certificate>,
    ) -> Result<Self, Error> {
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
            let child = spawn(&main, ports, certificate.as_ref())
                .map_err(|cause| Error::setup("Azurite", cause))?;
            let mut azurite = Self {
                child,
                ports,
                certificate: certificate.take(),
            };
            match azurite.wait_until_it_answers().await {
                Ok(()) => return Ok(azurite),
                Err(_) if tries < MAX_TRIES => certificate = azurite.certificate.take(),
                Err(cause) => return Err(Error::setup("Azurite", cause)),
            }
        }
    }

    /// What an application setting such as `AzureWebJobsStorage` would hold.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let scheme = self.scheme();
        format!(
            "DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={KEY};\
             BlobEndpoint={};QueueEndpoint={};TableEndpoint={};",
            self.blobs(),
            self.queues(),
            self.tables()
        )
    }

    /// The account's name.
    #[must_use]
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// Where its blobs are.
    #[must_use]
    pub fn blobs(&self) -> String {
        self.at(self.ports.blob)
    }

    /// Where its queues are.
    #[must_use]
    pub fn queues(&self) -> String {
        self.at(self.ports.queue)
    }

    /// Where its tables are.
    #[must_use]
    pub fn tables(&self) -> String {
        self.at(self.ports.table)
    }

    fn at(&self, port: u16) -> String {
        let scheme = self.scheme();
        format!("{scheme}://{}:{port}/{ACCOUNT}", Ipv4Addr::LOCALHOST)
    }

    fn scheme(&self) -> &'static str {
        match self.certificate {
            Some(_) => "https",
            None => "http",
        }
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

impl Certificate {
    fn write(tls: &ServerTls) -> io::Result<Self> {
        let certificate = Self {
            folder: tempfile::tempdir()?,
        };
        fs::write(certificate.chain(), tls.chain_pem.as_bytes())?;
        fs::write(certificate.key(), tls.key_pem.as_bytes())?;
        Ok(certificate)
    }

    fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
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

fn spawn(main: &Path, ports: Ports, certificate: Option<&Certificate>) -> io::Result<Child> {
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
    if let Some(certificate) = certificate {
        command.args(["--oauth", "basic"]);
        command.arg("--cert").arg(certificate.chain());
        command.arg("--key").arg(certificate.key());
    }
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
