//! What to run, and how much the host waits for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{ServerTls, Simulator, Site};

/// What a [`FunctionsHost`](crate::FunctionsHost) runs.
#[derive(Clone, Debug)]
pub struct FunctionsHostOptions {
    /// The deployed folder, or a zip of it.
    pub app: PathBuf,
    /// The executable, in place of the one in the folder that host.json names.
    pub executable: Option<PathBuf>,
    /// The app settings: each becomes a variable of the handler's environment, and `%NAME%` in host.json and function.json.
    pub settings: BTreeMap<String, String>,
    /// What the platform puts into the environment besides: `WEBSITE_…`, connection strings, the managed identity.
    /// `WEBSITE_HOSTNAME` is the host's own address where it is absent here.
    pub environment: BTreeMap<String, String>,
    /// The function app in the simulated Azure Resource Manager. Its app settings are the ones to begin with, and when they
    /// are replaced there the handlers are restarted with the new ones.
    pub site: Option<Site>,
    /// How long after a change in Azure Resource Manager the restart begins.
    pub restart_delay: Duration,
    /// How many instances of the app there are at the start, each with a handler of its own.
    pub instances: usize,
    /// How long a handler may take until it answers on its port.
    pub start_limit: Duration,
    /// How long a handler has from SIGTERM until SIGKILL.
    pub grace: Duration,
    /// `functionTimeout`, in place of what host.json says.
    pub function_timeout: Option<Duration>,
    /// Whether timers fire by their schedules, too, and not only when a test says so.
    pub run_schedules: bool,
    /// Whether queues are listened to.
    pub listen_to_queues: bool,
    /// The connection string with which the host itself listens to queues, in place of what the app setting that a
    /// function.json names says: for an app whose own connection is a managed identity.
    pub queue_connection: Option<String>,
    /// The longest pause between two looks into an empty queue. The real host's is a minute.
    pub queue_pause: Duration,
    /// How long a message is hidden from others at a time; renewed at half of it while its function runs.
    pub message_lease: Duration,
    /// How long a message stays hidden after a failure, in place of what host.json says.
    pub visibility_timeout: Option<Duration>,
    /// Serves HTTPS in place of HTTP.
    pub tls: Option<ServerTls>,
    /// PEM of roots to trust when the package in `WEBSITE_RUN_FROM_PACKAGE` is fetched.
    pub roots_pem: Option<String>,
}

impl FunctionsHostOptions {
    /// The app alone, without any app setting.
    pub fn new(app: impl Into<PathBuf>) -> Self {
        Self {
            app: app.into(),
            executable: None,
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            site: None,
            restart_delay: Duration::from_millis(500),
            instances: 1,
            start_limit: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            function_timeout: None,
            run_schedules: false,
            listen_to_queues: true,
            queue_connection: None,
            queue_pause: Duration::from_millis(500),
            message_lease: Duration::from_secs(600),
            visibility_timeout: None,
            tls: None,
            roots_pem: None,
        }
    }

    /// The app as the function app of a simulation: with its app settings in Azure Resource Manager, its managed identity,
    /// its name, and the simulation's certificate.
    pub fn for_simulator(app: impl AsRef<Path>, simulator: &Simulator) -> Self {
        let azure = &simulator.options().azure;
        let pairs = [
            ("WEBSITE_SITE_NAME", azure.site_name.clone()),
            ("WEBSITE_RESOURCE_GROUP", azure.resource_group.clone()),
            (
                "WEBSITE_OWNER_NAME",
                format!("{}+webspace", azure.subscription_id),
            ),
            ("WEBSITE_SKU", azure.sku.clone()),
            ("REGION_NAME", azure.location.clone()),
            ("IDENTITY_ENDPOINT", simulator.identity_endpoint()),
            ("IDENTITY_HEADER", azure.identity_header.clone()),
            ("MSI_ENDPOINT", simulator.identity_endpoint()),
            ("MSI_SECRET", azure.identity_header.clone()),
        ];
        Self {
            environment: pairs.map(|(name, value)| (name.to_owned(), value)).into(),
            site: Some(simulator.site()),
            tls: simulator.server_tls(),
            roots_pem: simulator.ca_pem().map(str::to_owned),
            ..Self::new(app.as_ref())
        }
    }

    /// Sets an app setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }
}
