//! The host metadata of every payload: which host sent it, and a checksum by which the service sees that it changed.

use jiff::Timestamp;
use sha1::{Digest, Sha1};

use super::encode::{Tag, put_bytes, put_u64};

/// `host_type` of every host: a function app, which is what the service knows this collector as.
const HOST_TYPE: &str = "azure_fun";

/// A host as ingest knows it. Made once; only the time differs between payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMetadata {
    host_id: String,
    /// The encoded `alc_dict.dict`.
    data: Vec<u8>,
    checksum: [u8; 20],
}

impl HostMetadata {
    /// The metadata of a host: its id from registration and its name, the site's in a function app.
    #[must_use]
    pub fn new(host_id: &str, local_hostname: &str) -> Self {
        let mut data = Vec::new();
        for (key, value) in [("host_type", HOST_TYPE), ("local_hostname", local_hostname)] {
            let mut text = Vec::new();
            put_bytes(&mut text, Tag::bytes(3), value.as_bytes());
            let mut element = Vec::new();
            put_bytes(&mut element, Tag::bytes(1), key.as_bytes());
            put_bytes(&mut element, Tag::bytes(2), &text);
            put_bytes(&mut data, Tag::bytes(1), &element);
        }
        let mut metadata = Self {
            host_id: host_id.to_owned(),
            data,
            checksum: [0; 20],
        };
        // Over the message with an empty checksum and without a time: so the vendor's library does it.
        metadata.checksum = Sha1::digest(metadata.encode_with(&[], None)).into();
        metadata
    }

    /// SHA-1 over what does not change.
    #[must_use]
    pub fn checksum(&self) -> [u8; 20] {
        self.checksum
    }

    /// The `host_metadata.metadata` message, sent at `now`.
    #[must_use]
    pub fn encode(&self, now: Timestamp) -> Vec<u8> {
        // A clock before 1970 is a broken one; the service is told 0 rather than a time far ahead.
        self.encode_with(
            &self.checksum,
            Some(u64::try_from(now.as_second()).unwrap_or(0)),
        )
    }

    fn encode_with(&self, checksum: &[u8], timestamp: Option<u64>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.host_id.len() + self.data.len() + 48);
        put_bytes(&mut out, Tag::bytes(1), self.host_id.as_bytes());
        put_bytes(&mut out, Tag::bytes(2), checksum);
        if let Some(timestamp) = timestamp {
            put_u64(&mut out, Tag::varint(3), timestamp);
        }
        put_bytes(&mut out, Tag::bytes(4), &self.data);
        out
    }
}
