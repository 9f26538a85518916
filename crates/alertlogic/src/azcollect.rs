//! Azcollect: a collector registers as a log source, checks in every 15 minutes, and deregisters at its end.

use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    Endpoint, Error, Reply,
    aims::Token,
    reply::{json_request, segment},
};

#[cfg(test)]
mod tests;

/// What the vendor calls the collector of Microsoft 365 audit logs, in paths and messages.
pub const COLLECTOR_TYPE: &str = "o365";

/// Under which name a collector is known: the place of a function app in Azure, or what stands for it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorPath {
    /// The Azure subscription's id.
    pub subscription_id: String,
    /// The Azure resource group.
    pub resource_group: String,
    /// The web app's name.
    pub app_name: String,
}

impl CollectorPath {
    fn tail(&self, checkin: &str) -> String {
        format!(
            "/azure/{COLLECTOR_TYPE}{checkin}/{}/{}/{}",
            segment(&self.subscription_id),
            segment(&self.resource_group),
            segment(&self.app_name)
        )
    }
}

/// What registration tells of a collector. Its JSON holds the client secret: it is for the wire alone.
#[derive(Serialize)]
pub struct Registration<'a> {
    /// The collector's version; the original's is `1.4.0`.
    pub version: &'a str,
    /// The directory that the application lives in.
    pub app_tenant_id: &'a str,
    /// The application, or the principal of a managed identity.
    pub client_id: &'a str,
    /// The application's secret, [`MANAGED_IDENTITY`] without one. `None` leaves the field out.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    pub client_secret: Option<&'a SecretString>,
    /// What is collected.
    pub config: CollectionConfig<'a>,
}

/// What the original sends for a client secret when it has a managed identity.
pub const MANAGED_IDENTITY: &str = "Managed Service Identity";

/// What is collected, from where.
#[derive(Debug, Clone, Serialize)]
pub struct CollectionConfig<'a> {
    /// [`COLLECTOR_TYPE`].
    #[serde(rename = "type")]
    pub collector_type: &'a str,
    /// The tenant whose records are collected.
    pub office_tenant_id: &'a str,
    /// Names of the content types.
    pub content_streams: Vec<&'a str>,
}

/// The ids that registration gives out. They are worth keeping: a second registration may make a second log source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The log source, named in every payload.
    pub source_id: String,
    /// The host, named in every payload's metadata.
    pub host_id: String,
}

/// Registers a collector.
#[must_use]
pub fn register_request(
    azcollect: &Endpoint,
    token: &Token,
    path: &CollectorPath,
    registration: &Registration<'_>,
) -> Request<Bytes> {
    json_request(
        azcollect,
        token,
        Method::POST,
        "azcollect",
        &path.tail(""),
        registration,
    )
}

/// Reads the reply to [`register_request`].
///
/// # Errors
/// The service's own, and [`Error::Malformed`] when an id is missing or empty.
pub fn read_registered(reply: &Reply, now: Timestamp) -> Result<Registered, Error> {
    #[derive(Deserialize)]
    struct Answer {
        source: Source,
    }
    #[derive(Deserialize)]
    struct Source {
        id: String,
        host: Host,
    }
    #[derive(Deserialize)]
    struct Host {
        id: String,
    }

    let Answer { source } = reply.read_json(now, "no source with an id and a host's id")?;
    if source.id.is_empty() || source.host.id.is_empty() {
        return Err(Error::Malformed {
            what: "the source's or the host's id is empty",
        });
    }
    Ok(Registered {
        source_id: source.id,
        host_id: source.host.id,
    })
}

/// What a collector tells of itself every 15 minutes.
#[derive(Debug, Clone, Serialize)]
pub struct Checkin<'a> {
    /// The collector's version.
    pub version: &'a str,
    /// The directory that the application lives in.
    pub app_tenant_id: &'a str,
    /// From registration.
    pub host_id: &'a str,
    /// From registration.
    pub source_id: &'a str,
    /// How it is.
    #[serde(flatten)]
    pub health: Health,
    /// Invocations and errors per function since the last check-in, each an object with one key.
    pub statistics: Vec<serde_json::Value>,
    /// What was delivered since the last check-in.
    #[serde(serialize_with = "as_log_stats")]
    pub collection_stats: CollectionStats,
}

/// A collector's health as a check-in words it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Health {
    /// `"status":"ok","details":[]`.
    Ok {
        /// Empty with the original; ours may say how an update stands.
        details: Vec<String>,
    },
    /// `"status":"error"` with a code and sentences.
    Error {
        /// The vendor's code: `O365000001` for a subscription that does not start, `ALAZU000004` for a plain text.
        error_code: String,
        /// Sentences for a person.
        details: Vec<String>,
    },
}

/// What was delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CollectionStats {
    /// Bytes of the records' own JSON text. The original counted the commas between the records of one delivery besides:
    /// a byte more a record, but for the last of each delivery.
    pub bytes: u64,
    /// Records.
    pub events: u64,
}

/// A check-in's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct CheckinReply {
    /// Whether the collector is asked to update itself at once.
    #[serde(default)]
    pub force_update: bool,
}

/// Checks in. Not compressed: the original was seen to send it plain.
#[must_use]
pub fn checkin_request(
    azcollect: &Endpoint,
    token: &Token,
    path: &CollectorPath,
    checkin: &Checkin<'_>,
) -> Request<Bytes> {
    json_request(
        azcollect,
        token,
        Method::POST,
        "azcollect",
        &path.tail("/checkin"),
        checkin,
    )
}

/// Reads the reply to [`checkin_request`]. A body that is empty or no object asks for nothing.
///
/// # Errors
/// The service's own.
pub fn read_checkin(reply: &Reply, now: Timestamp) -> Result<CheckinReply, Error> {
    reply.check(now)?;
    Ok(serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// Deregisters a collector: the same attributes as its registration with the ids besides.
#[must_use]
pub fn deregister_request(
    azcollect: &Endpoint,
    token: &Token,
    path: &CollectorPath,
    registration: &Registration<'_>,
    registered: &Registered,
) -> Request<Bytes> {
    #[derive(Serialize)]
    struct Deregistration<'a> {
        #[serde(flatten)]
        registration: &'a Registration<'a>,
        host_id: &'a str,
        source_id: &'a str,
    }
    let body = Deregistration {
        registration,
        host_id: &registered.host_id,
        source_id: &registered.source_id,
    };
    json_request(
        azcollect,
        token,
        Method::DELETE,
        "azcollect",
        &path.tail(""),
        &body,
    )
}

fn expose<S: Serializer>(secret: &Option<&SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_str(secret.expose_secret()),
        None => serializer.serialize_none(),
    }
}

fn as_log_stats<S: Serializer>(stats: &CollectionStats, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct PerKind<'a> {
        log: &'a CollectionStats,
    }
    PerKind { log: stats }.serialize(serializer)
}
