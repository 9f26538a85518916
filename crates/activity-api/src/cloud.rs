//! Microsoft's clouds and the hosts each one answers at.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;
use url::{Host, Url};

/// Which of Microsoft's separate clouds a tenant lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Cloud {
    /// The world-wide one.
    #[default]
    Commercial,
    /// US government community cloud.
    Gcc,
    /// US government community cloud, high.
    GccHigh,
    /// US department of defense.
    Dod,
    /// China, run by 21Vianet.
    China,
}

/// Text that names none of the clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a cloud: commercial, gcc, gcc_high, dod or china")]
pub struct InvalidCloud;

/// The three services of one cloud that a collector talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Where tokens come from.
    pub login: Origin,
    /// The Activity API. Also the resource that a token is asked for.
    pub activity: Origin,
    /// Azure Resource Manager.
    pub resource_manager: Origin,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Commercial,
        Self::Gcc,
        Self::GccHigh,
        Self::Dod,
        Self::China,
    ];

    /// The name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commercial => "commercial",
            Self::Gcc => "gcc",
            Self::GccHigh => "gcc_high",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }

    /// Where this cloud answers. The first four Activity API roots are in Microsoft's reference of the Activity API;
    /// China's root is not, it is what public tools agree on, one of Microsoft's own among them.
    pub fn hosts(self) -> Hosts {
        let (login, activity, resource_manager) = match self {
            Self::Commercial => (
                "https://login.microsoftonline.com",
                "https://manage.office.com",
                "https://management.azure.com",
            ),
            Self::Gcc => (
                "https://login.microsoftonline.com",
                "https://manage-gcc.office.com",
                "https://management.azure.com",
            ),
            Self::GccHigh => (
                "https://login.microsoftonline.us",
                "https://manage.office365.us",
                "https://management.usgovcloudapi.net",
            ),
            Self::Dod => (
                "https://login.microsoftonline.us",
                "https://manage.protection.apps.mil",
                "https://management.usgovcloudapi.net",
            ),
            Self::China => (
                "https://login.partner.microsoftonline.cn",
                "https://manage.office365.cn",
                "https://management.chinacloudapi.cn",
            ),
        };
        let origin = |text: &str| Origin(text.into());
        Hosts {
            login: origin(login),
            activity: origin(activity),
            resource_manager: origin(resource_manager),
        }
    }
}

impl FromStr for Cloud {
    type Err = InvalidCloud;

    fn from_str(text: &str) -> Result<Self, InvalidCloud> {
        Self::ALL
            .into_iter()
            .find(|cloud| cloud.as_str() == text)
            .ok_or(InvalidCloud)
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Scheme, host and port of a service, and nothing else: `https://manage.office.com`.
///
/// `http` only where the host is this machine itself, for tests. A default port is left out, the host is in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// Why a text is no [`Origin`]. Says nothing of the text itself, which may be a setting with a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidOrigin {
    /// It does not begin with a scheme that a request can be sent to.
    #[error("must begin with https://")]
    NotHttps,
    /// `http`, and not to this machine itself.
    #[error("must begin with https://; http:// is only for localhost")]
    PlainHttp,
    /// `user@` or `user:password@` is in it.
    #[error("must not contain a user name or password")]
    UserInfo,
    /// Something follows the host and port.
    #[error("must end after the host and port, without a path, query or fragment")]
    NotOnlyAnOrigin,
    /// The host or the port cannot be read.
    #[error("has no readable host and port")]
    Host,
}

impl Origin {
    /// The origin without a trailing slash, as it stands before a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::NotHttps)?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(InvalidOrigin::NotHttps);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(InvalidOrigin::UserInfo);
        }
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(InvalidOrigin::NotOnlyAnOrigin);
        }
        // The URL parser forgives blanks, percent signs and letters that only look Latin. A service's address has none of them.
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if !authority.chars().all(is_plain) || authority.ends_with(':') {
            return Err(InvalidOrigin::Host);
        }
        let url =
            Url::parse(&format!("{scheme}://{authority}/")).map_err(|_| InvalidOrigin::Host)?;
        if url.port() == Some(0) {
            return Err(InvalidOrigin::Host);
        }
        let host = url.host().ok_or(InvalidOrigin::Host)?;
        if !is_https && !is_this_machine(&host) {
            return Err(InvalidOrigin::PlainHttp);
        }
        Ok(Self(url.origin().ascii_serialization().into()))
    }
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
