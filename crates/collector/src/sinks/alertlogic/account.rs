//! One registered log source per tenant: registered once, told of changes, checked in, deregistered. The sink delivers
//! by it and Master looks after it; both share one token and one set of addresses.

use std::{collections::BTreeMap, sync::Arc};

use activity_api::TenantId;
use alertlogic::{
    aims::Token,
    azcollect::{
        self, Checkin, CheckinReply, CollectionConfig, CollectionStats, CollectorPath, Health,
        MANAGED_IDENTITY, Registered, Registration,
    },
    ingest::HostMetadata,
};
use http::StatusCode;
use ledger::{Ledger, SinkName};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    AlertLogicConfig, TenantIdentity,
    service::{CallError, Service},
};
use crate::{clock::Clock, http::Transport, sinks::Error};

/// The version that is told to the service.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The log sources of one access key's account.
pub struct Account {
    service: Arc<Service>,
    tenants: BTreeMap<TenantId, Tenant>,
}

struct Tenant {
    identity: TenantIdentity,
    path: CollectorPath,
    /// Locked while registering, so that concurrent deliveries register the tenant once.
    slot: Mutex<Option<Slot>>,
}

#[derive(Clone)]
struct Slot {
    source: Arc<Source>,
    /// Whether the service was told what is configured at present.
    is_told: bool,
}

/// One tenant's log source.
pub(super) struct Source {
    pub(super) registered: Registered,
    pub(super) metadata: HostMetadata,
}

/// What a check-in says besides who we are.
#[derive(Debug, Clone)]
pub struct Tally {
    /// How the collector is.
    pub health: Health,
    /// Invocations and errors per function, each an object with one key.
    pub statistics: Vec<serde_json::Value>,
    /// What was delivered.
    pub collection_stats: CollectionStats,
}

/// What the ledger keeps of a registration. It is good for the same collector at the same account only.
#[derive(Serialize, Deserialize)]
struct RegistrationFact {
    api: String,
    account_id: String,
    #[serde(flatten)]
    path: CollectorPath,
    #[serde(flatten)]
    registered: Registered,
    /// What the service was told; nothing in a fact of an earlier format.
    #[serde(default)]
    told: Option<Told>,
    /// The configured ids that these took the place of.
    #[serde(default)]
    replaces: Option<Registered>,
}

/// What of the configuration the service is told, as far as it may change.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    client_id: String,
    content_streams: Vec<String>,
}

impl Account {
    /// An account for these tenants. Nothing is sent until somebody asks for something.
    ///
    /// # Errors
    /// [`Error::Refused`] when `api`, `azcollect` or `ingest` is no address.
    pub fn build(
        config: AlertLogicConfig,
        tenants: Vec<TenantIdentity>,
        http: Arc<dyn Transport>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let is_only_one = tenants.len() == 1;
        let tenants = tenants.into_iter().map(|identity| {
            let name = &config.collector_name;
            let path = CollectorPath {
                subscription_id: config.subscription_id.clone(),
                resource_group: config.resource_group.clone(),
                app_name: match is_only_one {
                    true => name.clone(),
                    false => format!("{name}-{}", identity.tenant),
                },
            };
            let tenant = Tenant {
                path,
                slot: Mutex::default(),
                identity,
            };
            (tenant.identity.tenant, tenant)
        });
        Ok(Self {
            tenants: tenants.collect(),
            service: Arc::new(Service::build(config, http, ledger, clock)?),
        })
    }

    /// The name of the sink that delivers to it.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.service.config().name
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &AlertLogicConfig {
        self.service.config()
    }

    /// The tenants that have a log source here, or will.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.keys().copied()
    }

    /// Whether it has this tenant.
    pub(crate) fn is_of(&self, tenant: TenantId) -> bool {
        self.tenants.contains_key(&tenant)
    }

    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The hosts of azcollect and ingest, as the app settings keep them: without a scheme where it is https.
    ///
    /// # Errors
    /// When one has to be looked up and is not to be had.
    ///
    /// # If interrupted
    /// They are in the ledger before they are used.
    pub async fn endpoints(&self) -> Result<(String, String), Error> {
        let bare = |endpoint: alertlogic::Endpoint| {
            let text = endpoint.as_str();
            text.strip_prefix("https://").unwrap_or(text).to_owned()
        };
        let azcollect = bare(self.service.azcollect().await?);
        Ok((azcollect, bare(self.service.ingest().await?)))
    }

    /// The tenant's log source: as configured, else as registered before, else registered now.
    ///
    /// # If interrupted
    /// As [`Account::register`].
    pub(super) async fn source(&self, tenant: TenantId) -> Result<Arc<Source>, Error> {
        let tenant = self.tenant(tenant)?;
        let mut slot = tenant.slot.lock().await;
        Ok(self.known_or_registered(tenant, &mut slot).await?.source)
    }

    /// The tenant's ids, registered now where it has none, and registered again where what the service was told of it
    /// has changed: the same path gives the same ids.
    ///
    /// # Errors
    /// When the service or the ledger does not answer, or refuses.
    ///
    /// # If interrupted
    /// As [`Account::register`].
    pub async fn registered(&self, tenant: TenantId) -> Result<Registered, Error> {
        let tenant = self.tenant(tenant)?;
        let mut slot = tenant.slot.lock().await;
        let known = self.known_or_registered(tenant, &mut slot).await?;
        if known.is_told {
            return Ok(known.source.registered.clone());
        }
        info!(sink = %self.name(), tenant = %tenant.identity.tenant, "the configuration changed, registering again");
        self.register_into(tenant, &mut slot).await
    }

    /// Registers the tenant, whether it is registered or not: the same path gives the same ids.
    ///
    /// # Errors
    /// As [`Account::registered`].
    ///
    /// # If interrupted
    /// The ids are in the ledger before they are used. Between the service's yes and that they are lost, and the next
    /// run registers under the same path again. Two processes that register at once do no harm, for the same reason.
    pub async fn register(&self, tenant: TenantId) -> Result<Registered, Error> {
        let tenant = self.tenant(tenant)?;
        let mut slot = tenant.slot.lock().await;
        self.register_into(tenant, &mut slot).await
    }

    /// Deregisters the tenant and forgets its ids. Nothing when it was not registered.
    ///
    /// # Errors
    /// When the service or the ledger does not answer, or refuses. A source that the service does not know is as good
    /// as deregistered.
    ///
    /// # If interrupted
    /// The ids are forgotten after the service's yes, so that it can be said again.
    pub async fn deregister(&self, tenant: TenantId) -> Result<Option<Registered>, Error> {
        let what = "deregister at azcollect";
        let tenant = self.tenant(tenant)?;
        let mut slot = tenant.slot.lock().await;
        let Some((registered, _)) = self.known(tenant).await? else {
            return Ok(None);
        };
        let azcollect = self.service.azcollect().await?;
        let tenant_id = tenant.identity.tenant.to_string();
        let client_id = tenant.identity.client_id.to_string();
        // Without the secret: what ends needs none, and the original leaves it out too.
        let registration = registration(&tenant.identity, &tenant_id, &client_id, None);
        let make = |token: &Token| {
            azcollect::deregister_request(
                &azcollect,
                token,
                &tenant.path,
                &registration,
                &registered,
            )
        };
        let reply = self.service.call(what, make).await;
        let reply = reply.map_err(CallError::into_inner)?;
        if reply.status != StatusCode::NOT_FOUND {
            reply
                .check(self.service.now())
                .map_err(|error| self.service.describe(what, &error))?;
        }
        self.service
            .remember(&fact_key(tenant), &None::<RegistrationFact>)
            .await?;
        *slot = None;
        info!(sink = %self.name(), tenant = %tenant_id, source_id = registered.source_id, "deregistered");
        Ok(Some(registered))
    }

    /// Checks the tenant in. A source that the service no longer knows is registered again and checked in then.
    ///
    /// # Errors
    /// As [`Account::registered`].
    ///
    /// # If interrupted
    /// The service has the check-in or has not; which is not known, and the next one reports the same again.
    pub async fn check_in(&self, tenant: TenantId, tally: &Tally) -> Result<CheckinReply, Error> {
        let registered = self.registered(tenant).await?;
        match self.check_in_as(tenant, &registered, tally).await? {
            Some(reply) => Ok(reply),
            None => {
                warn!(sink = %self.name(), %tenant, source_id = registered.source_id, "the service does not know the source, registering again");
                let registered = self.register(tenant).await?;
                let reply = self.check_in_as(tenant, &registered, tally).await?;
                reply.ok_or_else(|| Error::Refused {
                    what: format!(
                        "sink {}: check in at azcollect: the service does not know the source that it has just registered",
                        self.name()
                    ),
                })
            }
        }
    }

    /// Nothing when the service does not know the source.
    async fn check_in_as(
        &self,
        tenant: TenantId,
        registered: &Registered,
        tally: &Tally,
    ) -> Result<Option<CheckinReply>, Error> {
        let what = "check in at azcollect";
        let path = &self.tenant(tenant)?.path;
        let azcollect = self.service.azcollect().await?;
        let checkin = Checkin {
            version: VERSION,
            app_tenant_id: &tenant.to_string(),
            host_id: &registered.host_id,
            source_id: &registered.source_id,
            health: tally.health.clone(),
            statistics: tally.statistics.clone(),
            collection_stats: tally.collection_stats,
        };
        let make = |token: &Token| azcollect::checkin_request(&azcollect, token, path, &checkin);
        let reply = self.service.call(what, make).await;
        let reply = reply.map_err(CallError::into_inner)?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        azcollect::read_checkin(&reply, self.service.now())
            .map(Some)
            .map_err(|error| self.service.describe(what, &error))
    }

    fn tenant(&self, tenant: TenantId) -> Result<&Tenant, Error> {
        self.tenants.get(&tenant).ok_or_else(|| Error::Refused {
            what: format!("sink {}: tenant {tenant} is not configured", self.name()),
        })
    }

    async fn known_or_registered(
        &self,
        tenant: &Tenant,
        slot: &mut Option<Slot>,
    ) -> Result<Slot, Error> {
        if let Some(slot) = slot {
            return Ok(slot.clone());
        }
        if let Some((registered, is_told)) = self.known(tenant).await? {
            return Ok(self.keep(tenant, slot, registered, is_told));
        }
        self.register_into(tenant, slot).await?;
        slot.clone().ok_or_else(|| Error::Unavailable {
            what: "the registration is gone".to_owned(),
            retry_after: None,
        })
    }

    /// The ids that are configured or were registered before, and whether the service knows the present configuration.
    async fn known(&self, tenant: &Tenant) -> Result<Option<(Registered, bool)>, Error> {
        let account_id = self.service.account_id().await?;
        let fact = self
            .service
            .recall::<RegistrationFact>(&fact_key(tenant))
            .await?
            .filter(|fact| {
                fact.path == tenant.path
                    && fact.account_id == account_id
                    && fact.api == self.service.api().as_str()
            });
        let is_told = |told: &Option<Told>| {
            told.as_ref()
                .is_none_or(|told| *told == Told::of(&tenant.identity))
        };
        match (self.configured_ids(), fact) {
            // Registered again since, and the settings do not have the new ids yet.
            (Some(configured), Some(fact)) if fact.replaces.as_ref() == Some(&configured) => {
                Ok(Some((fact.registered, is_told(&fact.told))))
            }
            (Some(configured), Some(fact)) if fact.registered == configured => {
                Ok(Some((configured, is_told(&fact.told))))
            }
            (Some(configured), _) => {
                // As the original, which then never registers; what changes from here on is told.
                self.note(tenant, configured.clone()).await?;
                Ok(Some((configured, true)))
            }
            (None, Some(fact)) => Ok(Some((fact.registered, is_told(&fact.told)))),
            (None, None) => Ok(None),
        }
    }

    fn configured_ids(&self) -> Option<Registered> {
        let config = self.service.config();
        Some(Registered {
            source_id: config.source_id.clone()?,
            host_id: config.host_id.clone()?,
        })
    }

    async fn register_into(
        &self,
        tenant: &Tenant,
        slot: &mut Option<Slot>,
    ) -> Result<Registered, Error> {
        let registered = self.ask_to_register(tenant).await?;
        self.note(tenant, registered.clone()).await?;
        info!(sink = %self.name(), tenant = %tenant.identity.tenant, source_id = registered.source_id, "registered");
        self.keep(tenant, slot, registered.clone(), true);
        Ok(registered)
    }

    async fn ask_to_register(&self, tenant: &Tenant) -> Result<Registered, Error> {
        let what = "register at azcollect";
        let azcollect = self.service.azcollect().await?;
        let identity = &tenant.identity;
        let tenant_id = identity.tenant.to_string();
        let client_id = identity.client_id.to_string();
        // Without a secret the original is a managed identity and says so in its place.
        let no_secret = SecretString::from(MANAGED_IDENTITY);
        let secret = identity.client_secret.as_ref().unwrap_or(&no_secret);
        let is_secret_told = self.service.config().register_client_secret;
        let registration = registration(
            identity,
            &tenant_id,
            &client_id,
            is_secret_told.then_some(secret),
        );
        let make = |token: &Token| {
            azcollect::register_request(&azcollect, token, &tenant.path, &registration)
        };
        let reply = self.service.call(what, make).await;
        let reply = reply.map_err(CallError::into_inner)?;
        azcollect::read_registered(&reply, self.service.now())
            .map_err(|error| self.service.describe(what, &error))
    }

    /// Puts a registration into the ledger.
    async fn note(&self, tenant: &Tenant, registered: Registered) -> Result<(), Error> {
        let replaces = self.configured_ids().filter(|ids| *ids != registered);
        let fact = RegistrationFact {
            api: self.service.api().to_string(),
            account_id: self.service.account_id().await?,
            path: tenant.path.clone(),
            registered,
            told: Some(Told::of(&tenant.identity)),
            replaces,
        };
        self.service.remember(&fact_key(tenant), &fact).await
    }

    fn keep(
        &self,
        tenant: &Tenant,
        slot: &mut Option<Slot>,
        registered: Registered,
        is_told: bool,
    ) -> Slot {
        let local_hostname = self.service.config().local_hostname.as_deref();
        let local_hostname = local_hostname.unwrap_or(&tenant.path.app_name);
        let metadata = HostMetadata::new(&registered.host_id, local_hostname);
        let kept = Slot {
            source: Arc::new(Source {
                registered,
                metadata,
            }),
            is_told,
        };
        *slot = Some(kept.clone());
        kept
    }
}

impl Told {
    fn of(identity: &TenantIdentity) -> Self {
        Self {
            client_id: identity.client_id.to_string(),
            content_streams: identity
                .content_types
                .iter()
                .map(|content_type| content_type.as_str().to_owned())
                .collect(),
        }
    }
}

fn fact_key(tenant: &Tenant) -> String {
    tenant.identity.tenant.to_string()
}

fn registration<'a>(
    identity: &'a TenantIdentity,
    tenant_id: &'a str,
    client_id: &'a str,
    client_secret: Option<&'a SecretString>,
) -> Registration<'a> {
    Registration {
        version: VERSION,
        app_tenant_id: tenant_id,
        client_id,
        client_secret,
        config: CollectionConfig {
            collector_type: azcollect::COLLECTOR_TYPE,
            office_tenant_id: tenant_id,
            content_streams: identity
                .content_types
                .iter()
                .map(|content_type| content_type.as_str())
                .collect(),
        },
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("sink", self.name())
            .finish_non_exhaustive()
    }
}
