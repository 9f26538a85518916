//! Blobs of storage, which are bytes by name: for what is too large for an entity.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response};

use super::Service;
use super::authorize::{Draft, escape};
use super::error::{Error, check};

/// Creates a container; it is no failure when it is there.
#[must_use]
pub fn create_container(container: &str) -> Draft {
    Draft::new(Service::Blobs, Method::PUT, format!("/{container}")).query("restype", "container")
}

fn path(container: &str, name: &str) -> String {
    let name: Vec<_> = name.split('/').map(escape).collect();
    format!("/{container}/{}", name.join("/"))
}

/// Puts bytes under a name, over what is there.
#[must_use]
pub fn put(container: &str, name: &str, bytes: Bytes) -> Draft {
    Draft::new(Service::Blobs, Method::PUT, path(container, name))
        .header(
            HeaderName::from_static("x-ms-blob-type"),
            HeaderValue::from_static("BlockBlob"),
        )
        .body("application/octet-stream", bytes)
}

/// Reads the bytes under a name.
#[must_use]
pub fn get(container: &str, name: &str) -> Draft {
    Draft::new(Service::Blobs, Method::GET, path(container, name))
}

/// Takes the bytes under a name away.
#[must_use]
pub fn delete(container: &str, name: &str) -> Draft {
    Draft::new(Service::Blobs, Method::DELETE, path(container, name))
}

/// Whether it was done, whatever it was.
///
/// # Errors
/// What the reply means instead.
pub fn read_done(reply: &Response<Bytes>) -> Result<(), Error> {
    match check(reply) {
        Err(Error::AlreadyExists) => Ok(()),
        other => other,
    }
}

/// The bytes; [`None`] where there are none.
///
/// # Errors
/// What the reply means instead.
pub fn read(reply: &Response<Bytes>) -> Result<Option<Bytes>, Error> {
    match check(reply) {
        Ok(()) => Ok(Some(reply.body().clone())),
        Err(Error::NotFound | Error::NoContainer) => Ok(None),
        Err(error) => Err(error),
    }
}
