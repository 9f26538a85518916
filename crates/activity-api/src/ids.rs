//! Names of things in Microsoft's API, as types: tenants, applications, publishers, content types and content blobs.

use std::{fmt, str::FromStr};

use thiserror::Error;
use uuid::Uuid;

/// Text that is not the id it was taken for.
///
/// The message says what was expected and never repeats the text, because ids are read from settings and from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {expected}")]
pub struct InvalidId {
    expected: &'static str,
}

const A_GUID: &str = "a GUID: 32 hexadecimal digits grouped as 8-4-4-4-12 with hyphens, like 01234567-89ab-cdef-0123-456789abcdef";

fn parse_guid(text: &str) -> Result<Uuid, InvalidId> {
    // Only the hyphenated form: Microsoft prints no other, and the tenant's id is compared as a path segment.
    text.parse::<uuid::fmt::Hyphenated>()
        .map(uuid::fmt::Hyphenated::into_uuid)
        .map_err(|_| InvalidId { expected: A_GUID })
}

macro_rules! guid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Read from text in any case, printed hyphenated in lower case.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The same id from a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id as a UUID.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_guid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Padded, so that a width in a format string makes columns.
                f.pad(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

guid_id! {
    /// A customer's directory. Every path of the API has it.
    TenantId
}

guid_id! {
    /// An application registered with Microsoft; a token is issued to one.
    ClientId
}

guid_id! {
    /// Who the requests are counted for: the tenant of whoever wrote the collector, or the collected tenant itself.
    ///
    /// Requests that name none share one pool with every other nameless caller in the world, by Microsoft's reference of the Activity API.
    PublisherId
}

impl From<TenantId> for PublisherId {
    fn from(tenant: TenantId) -> Self {
        Self(tenant.0)
    }
}

/// One of the five feeds that a tenant's records come in, by Microsoft's reference of the Activity API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentType {
    /// Entra ID: sign-ins and directory changes.
    AzureActiveDirectory,
    /// Exchange: mailbox and administrator audit.
    Exchange,
    /// SharePoint and OneDrive.
    SharePoint,
    /// Everything that has no feed of its own.
    General,
    /// Matches of data loss prevention rules, from every workload.
    Dlp,
}

impl ContentType {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 5] = [
        Self::AzureActiveDirectory,
        Self::Exchange,
        Self::SharePoint,
        Self::General,
        Self::Dlp,
    ];

    /// Microsoft's name for it, as it stands in requests and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::Dlp => "DLP.All",
        }
    }

    /// Reads Microsoft's name, in any case.
    ///
    /// # Errors
    /// [`InvalidId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        Self::ALL
            .into_iter()
            .find(|content_type| content_type.as_str().eq_ignore_ascii_case(text))
            .ok_or(InvalidId {
                expected: "a content type: Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General or DLP.All",
            })
    }
}

impl FromStr for ContentType {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of one content blob within a tenant and content type, in the one form that both a listing and a notification agree on.
///
/// The text is opaque: nothing else may be read from it, least of all its expiry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(Box<str>);

/// What notifications of 2017 put after the id.
const NOTIFICATION_SUFFIX: &str = "$IsFromNotification";

/// Below this many `$`-separated segments nothing is taken off. An id begins with two timestamps that may be equal, and they are no suffix.
const FEWEST_SEGMENTS: usize = 3;

impl ContentId {
    /// The id without what notifications add to it: a trailing `$IsFromNotification`, or the last segment said twice
    /// (`…$na0018$na0018`), both seen in captured traffic. A collector that compared the raw ids would take a blob twice.
    ///
    /// Done until nothing more comes off, so that an id already canonical stays as it is. The comparison minds the case:
    /// an id without a region ends in `$audit_exchange$Audit_Exchange`, and those two are not a repetition.
    pub fn canonical(raw: &str) -> Self {
        let mut id = raw;
        loop {
            let shorter = without_notification_suffix(id);
            if shorter.len() == id.len() {
                return Self(id.into());
            }
            id = shorter;
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn without_notification_suffix(id: &str) -> &str {
    if let Some(rest) = id.strip_suffix(NOTIFICATION_SUFFIX)
        && !rest.is_empty()
    {
        return rest;
    }
    if id.split('$').count() > FEWEST_SEGMENTS
        && let Some((rest, last)) = id.rsplit_once('$')
        && let Some((_, before)) = rest.rsplit_once('$')
        && last == before
    {
        return rest;
    }
    id
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
