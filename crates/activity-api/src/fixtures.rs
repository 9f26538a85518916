//! What the tests of several modules share: one tenant's feed, and replies made of a status and a body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{Cloud, Feed, PublisherId, Reply, TenantId};

/// The tenant of every file in `test-data`.
pub(crate) const TENANT: &str = "0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90";

/// The publisher that requests are made for.
pub(crate) const PUBLISHER: &str = "c2f0d6b4-3e19-4a87-b5d1-6f9e0a8c7d23";

/// A file of `test-data`.
macro_rules! test_data {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/test-data/", $name))
    };
}
pub(crate) use test_data;

pub(crate) fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

pub(crate) fn feed() -> Feed {
    let publisher: PublisherId = PUBLISHER.parse().unwrap();
    Feed::new(Cloud::Commercial.hosts().activity, tenant(), publisher)
}

pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) fn with_header(mut reply: Reply, name: &str, value: &str) -> Reply {
    reply.headers.append(
        name.parse::<HeaderName>().unwrap(),
        HeaderValue::from_str(value).unwrap(),
    );
    reply
}
