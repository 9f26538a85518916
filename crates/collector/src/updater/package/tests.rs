//! What is fetched is exactly what was signed, or nothing; what is opened is a function app of ours.

use std::collections::BTreeMap;
use std::sync::Mutex;

use zip::write::SimpleFileOptions;

use super::super::manifest::tests::manifest;
use super::*;
use crate::http::Error;

/// A package with these files in it.
pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A package that holds a function app whose program is this text.
pub(crate) fn package_of(program: &str) -> Vec<u8> {
    zip_of(&[("host.json", b"{}"), (EXECUTABLE, program.as_bytes())])
}

/// A status, a target, a body.
type Reply = (u16, Option<String>, Vec<u8>);

/// Answers by url.
#[derive(Default)]
pub(crate) struct FakeServer {
    replies: Mutex<BTreeMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
}

impl FakeServer {
    pub(crate) fn put(&self, url: &str, status: u16, body: impl Into<Vec<u8>>) {
        let reply = (status, None, body.into());
        self.replies.lock().unwrap().insert(url.to_owned(), reply);
    }

    fn redirect(&self, url: &str, target: &str) {
        let reply = (302, Some(target.to_owned()), Vec::new());
        self.replies.lock().unwrap().insert(url.to_owned(), reply);
    }

    pub(crate) fn count(&self, url: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == url).count()
    }
}

#[async_trait]
impl Transport for FakeServer {
    async fn send(&self, request: Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let url = request.uri().to_string();
        self.asked.lock().unwrap().push(url.clone());
        let reply = self.replies.lock().unwrap().get(&url).cloned();
        let Some((status, target, body)) = reply else {
            let what = "connection refused".to_owned();
            return Err(Error::Connection { what });
        };
        let mut response = http::Response::builder().status(status);
        if let Some(target) = target {
            response = response.header(header::LOCATION, target);
        }
        // In pieces, as from a socket.
        let pieces: Vec<_> = body
            .chunks(700)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        Ok(response
            .body(Body::from_stream(futures::stream::iter(pieces)))
            .unwrap())
    }
}

fn manifest_of(package: &[u8]) -> Manifest {
    Manifest {
        sha256: Sha256::of(package),
        size: package.len() as u64,
        ..manifest()
    }
}

#[tokio::test]
async fn a_package_is_fetched_whole_and_measured() {
    let (server, package) = (FakeServer::default(), package_of("#!/bin/sh\n"));
    let manifest = manifest_of(&package);
    server.put(manifest.url.as_str(), 200, package.clone());
    let mut file = download(&server, &manifest).await.unwrap();
    assert_eq!(
        measure(&mut file).unwrap(),
        (manifest.sha256, manifest.size)
    );
}

#[tokio::test]
async fn other_bytes_than_the_signed_ones_are_refused() {
    let (server, package) = (FakeServer::default(), package_of("#!/bin/sh\n"));
    let manifest = manifest_of(&package);
    let mut altered = package.clone();
    altered[10] ^= 1;
    let longer = [package.as_slice(), b"x"].concat();
    let shorter = package[1..].to_vec();
    for (body, what) in [(altered, "digest"), (longer, "size"), (shorter, "size")] {
        server.put(manifest.url.as_str(), 200, body);
        let refused = download(&server, &manifest).await.unwrap_err();
        assert!(
            matches!(refused, PackageError::Altered(which) if which == what),
            "{refused}"
        );
    }
    server.put(manifest.url.as_str(), 404, package);
    let refused = download(&server, &manifest).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the package cannot be fetched: HTTP 404 Not Found"
    );
}

#[tokio::test]
async fn redirects_are_followed_to_https_only_and_not_for_ever() {
    let (server, url) = (FakeServer::default(), "https://a.example/m".to_owned());
    let parsed: Url = url.parse().unwrap();
    server.redirect(&url, "/n");
    server.redirect("https://a.example/n", "https://b.example/o");
    server.put("https://b.example/o", 200, "text");
    let bytes = fetch_manifest(&server, &parsed, 100).await.unwrap();
    assert_eq!(bytes, "text");
    assert!(fetch_manifest(&server, &parsed, 3).await.is_err());
    server.redirect("https://b.example/o", "http://b.example/o");
    assert!(fetch_manifest(&server, &parsed, 100).await.is_err());
    assert_eq!(server.count("http://b.example/o"), 0);
    server.redirect("https://b.example/o", &url);
    assert!(fetch_manifest(&server, &parsed, 100).await.is_err());
    assert_eq!(server.count(&url), 5);
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, PackageError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = unpack_executable(file, folder.path())?;
    Ok(std::fs::read(path).unwrap())
}

#[test]
fn the_program_is_taken_out_of_a_function_app() {
    let program = "#!/bin/sh\n".repeat(10_000);
    assert_eq!(unpack(&package_of(&program)).unwrap(), program.as_bytes());
}

#[test]
fn what_is_no_function_app_of_ours_is_refused() {
    let good = package_of("#!/bin/sh\n");
    let mut damaged = good.clone();
    // Inside of the first entry's data or header, wherever that is: it is then no entry, or its checksum is wrong.
    let at = good
        .windows(EXECUTABLE.len())
        .position(|window| window == EXECUTABLE.as_bytes())
        .unwrap();
    damaged[at + EXECUTABLE.len() + 3] ^= 0xff;
    for bytes in [
        Vec::new(),
        b"<html>".to_vec(),
        zip_of(&[]),
        zip_of(&[(EXECUTABLE, b"x")]),
        zip_of(&[("host.json", b"{}")]),
        zip_of(&[("host.json", b"{}"), ("../o365-collector", b"x")]),
        damaged,
    ] {
        let refused = unpack(&bytes).unwrap_err();
        assert!(matches!(refused, PackageError::Unfit(_)), "{refused}");
    }
}

#[test]
fn a_program_that_names_another_version_is_refused() {
    let manifest = manifest();
    assert!(check_version("o365-collector 0.2.0\n", &manifest).is_ok());
    for printed in ["", "o365-collector 0.2.1\n", "0.2.0-rc.1", "10.2.0"] {
        assert!(check_version(printed, &manifest).is_err(), "{printed}");
    }
}
