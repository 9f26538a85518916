//! The running simulation: opens the ports, serves on threads of its own, answers questions about what was delivered.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::Deliveries;
use crate::microsoft::webhook;
use crate::server::{Service, serve};
use crate::tls::{Tls, client_config};
use crate::world::{Origins, World};
use crate::{
    Error, Exchange, Fault, Options, Progress, Requests, ServerTls, SimClock, SinkVerdict, Site,
    Verdict,
};

/// A tenant that the simulated Microsoft knows, with the application that may read its audit records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SimulatedTenant {
    /// The tenant's GUID.
    pub tenant_id: String,
    /// The application's GUID.
    pub client_id: String,
    /// The application's secret. It is worth nothing outside the simulator.
    pub client_secret: String,
}

/// A running simulation: six services on six ports, sharing one clock and one set of records. It serves on threads of its
/// own, so that neither a busy nor a paused runtime of the caller disturbs it. Dropping it ends it.
#[derive(Debug)]
pub struct Simulator {
    world: Arc<World>,
    ca_pem: Option<String>,
    server_tls: Option<ServerTls>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Taken when it is dropped: a runtime must not be dropped by blocking inside another one.
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Opens the ports and serves until [`stop`](Self::stop) is called or the simulator is dropped.
    ///
    /// # Errors
    /// An option out of range, a bad corpus, a port that cannot be opened, certificates or threads that cannot be made.
    pub async fn start(options: Options) -> Result<Self, Error> {
        if let Some(folder) = &options.capture_ingest {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::setup("the capture folder", source))?;
        }
        let tls = if options.tls {
            Some(Tls::new(&options.public_host)?)
        } else {
            None
        };
        let roots: Vec<&str> = tls
            .iter()
            .map(|tls| tls.ca_pem.as_str())
            .chain(options.webhook_roots_pem.as_deref())
            .collect();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&roots)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(5))
            .build()
            .map_err(|source| Error::setup("the client for webhooks", source))?;

        let mut listeners = Vec::new();
        let mut origins = Origins::default();
        for (offset, (service, origin)) in [
            (Service::Microsoft, &mut origins.microsoft),
            (Service::AlertLogic, &mut origins.alertlogic),
            (Service::Hec, &mut origins.hec),
            (Service::Stranger, &mut origins.stranger),
            (Service::ResourceManager, &mut origins.resource_manager),
            (Service::Identity, &mut origins.identity),
        ]
        .into_iter()
        .enumerate()
        {
            let (listener, port) = listen(options.listen, offset)?;
            let scheme = if options.tls && service.has_tls() {
                "https"
            } else {
                "http"
            };
            *origin = format!("{scheme}://{}:{port}", options.public_host);
            listeners.push((service, listener));
        }

        let threads = options.worker_threads.max(1);
        let pushes = options.webhook_push;
        let world = Arc::new(World::new(options, origins, client)?);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("simulator")
            .enable_all()
            .build()
            .map_err(|source| Error::setup("the runtime", source))?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let acceptor = tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.server.config)));
        for (service, listener) in listeners {
            let listener = {
                let _entered = runtime.enter();
                TcpListener::from_std(listener)
                    .map_err(|source| Error::setup("a listener", source))?
            };
            let serving = serve(
                Arc::clone(&world),
                service,
                listener,
                acceptor.clone().filter(|_| service.has_tls()),
                stop.clone(),
                tasks.clone(),
            );
            tasks.spawn_on(serving, runtime.handle());
        }
        if pushes {
            tasks.spawn_on(
                webhook::run(Arc::clone(&world), stop.clone()),
                runtime.handle(),
            );
        }
        Ok(Self {
            world,
            server_tls: tls.as_ref().map(|tls| tls.server.clone()),
            ca_pem: tls.map(|tls| tls.ca_pem),
            stop,
            tasks,
            runtime: Some(runtime),
        })
    }

    /// The origin of login and the Activity API: `https://localhost:PORT`, or `http://…` without TLS.
    pub fn microsoft_origin(&self) -> String {
        self.world.origins.microsoft.clone()
    }

    /// The origin of AIMS, endpoints, azcollect and ingest.
    pub fn alertlogic_origin(&self) -> String {
        self.world.origins.alertlogic.clone()
    }

    /// The origin of the HTTP event collector.
    pub fn hec_origin(&self) -> String {
        self.world.origins.hec.clone()
    }

    /// The origin of a host that has no business with any token: what arrives there is counted as
    /// [`RequestKind::Stranger`](crate::RequestKind::Stranger), and tokens in [`Requests::leaked_tokens`].
    pub fn stranger_origin(&self) -> String {
        self.world.origins.stranger.clone()
    }

    /// The origin of Azure Resource Manager.
    pub fn resource_manager_origin(&self) -> String {
        self.world.origins.resource_manager.clone()
    }

    /// The origin of the managed identity's endpoints, always plain HTTP: that of virtual machines (IMDS) is at
    /// `/metadata/identity/oauth2/token`, that of App Service at [`identity_endpoint`](Self::identity_endpoint).
    pub fn identity_origin(&self) -> String {
        self.world.origins.identity.clone()
    }

    /// What App Service puts into `IDENTITY_ENDPOINT` and `MSI_ENDPOINT`.
    pub fn identity_endpoint(&self) -> String {
        format!("{}/msi/token", self.world.origins.identity)
    }

    /// The function app, as Azure Resource Manager has it.
    pub fn site(&self) -> Site {
        Site::new(Arc::clone(&self.world))
    }

    /// The certificate to trust, in PEM; none without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// What the services prove themselves with, for another server that is to be trusted by the same clients; none without
    /// TLS.
    pub fn server_tls(&self) -> Option<ServerTls> {
        self.server_tls.clone()
    }

    /// The tenants and their credentials.
    pub fn tenants(&self) -> &[SimulatedTenant] {
        &self.world.tenants
    }

    /// The options it was started with, among them the keys of Alert Logic and the token of HEC.
    pub fn options(&self) -> &Options {
        &self.world.options
    }

    /// The clock of all services.
    pub fn clock(&self) -> &SimClock {
        &self.world.clock
    }

    /// How far the collection has come. Cheap enough to ask for many times a second.
    pub fn progress(&self) -> Progress {
        self.world.progress()
    }

    /// What each sink got, held against what is there to be collected by the simulated time of the call.
    pub fn verdict(&self) -> Verdict {
        self.world.verdict()
    }

    /// Holds an NDJSON file against what is there to be collected: each record on a line of its own, byte for byte, once.
    ///
    /// # Errors
    /// The reader's.
    pub fn check_ndjson(&self, reader: impl BufRead) -> io::Result<SinkVerdict> {
        let World { plan, records, .. } = self.world.as_ref();
        let deliveries = Deliveries::new("ndjson", None, self.world.records_total());
        deliveries.note_ndjson(plan, records, reader)?;
        Ok(deliveries.verdict(plan, records, self.world.now_ms()))
    }

    /// Each blob as a notification would name it, whether its time has come or not.
    pub fn notifications(&self) -> Vec<serde_json::Value> {
        let blobs = 0..self.world.plan.blobs.len();
        blobs
            .filter_map(|at| webhook::notification(&self.world, at))
            .collect()
    }

    /// The bytes of all records, without anything between them.
    pub fn record_bytes_total(&self) -> u64 {
        let World { plan, records, .. } = self.world.as_ref();
        let mut text = Vec::new();
        let mut total = 0;
        for blob in &plan.blobs {
            for record in blob.first..blob.first + blob.count {
                text.clear();
                records.append(blob, record, &mut text);
                total += text.len() as u64;
            }
        }
        total
    }

    /// The requests that came so far.
    pub fn requests(&self) -> Requests {
        self.world.requests.snapshot()
    }

    /// The body of the latest check-in of each source id.
    pub fn check_ins(&self) -> HashMap<String, serde_json::Value> {
        self.world.alertlogic.check_ins()
    }

    /// The requests of the control plane so far, in order: tokens, subscriptions, AIMS, endpoints, azcollect, Resource
    /// Manager, managed identities, and whatever no service knows. Listings, blobs and records are not in it.
    pub fn transcript(&self) -> Vec<Exchange> {
        self.world.transcript.exchanges()
    }

    /// Forgets the requests in the transcript.
    pub fn clear_transcript(&self) {
        self.world.transcript.clear();
    }

    /// Makes the answer to the next check-in that is accepted ask for an update.
    pub fn force_update_at_next_check_in(&self) {
        self.world.alertlogic.force_update();
    }

    /// Makes the next requests of a kind fail.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Waits this long, in real time, before every answer from here on; none stops the waiting.
    pub fn set_latency(&self, latency: Option<Duration>) {
        self.world.faults.set_latency(latency);
    }

    /// Closes the ports and all connections, and waits until that is done.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Opens the port of one service: a free one, or the first one's number and `offset`.
fn listen(first: SocketAddr, offset: usize) -> Result<(std::net::TcpListener, u16), Error> {
    let mut address = first;
    if first.port() != 0 {
        let port = u16::try_from(offset)
            .ok()
            .and_then(|offset| first.port().checked_add(offset));
        let Some(port) = port else {
            return Err(Error::Option {
                name: "listen",
                reason: "no room for six ports from here".to_owned(),
            });
        };
        address.set_port(port);
    }
    let open = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    open().map_err(|source| Error::Listen { address, source })
}
