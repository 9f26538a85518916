//! A release's package: fetched and measured before anything in it is looked at, then opened to try what it holds.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use ring::digest::{Context, SHA256};
use tokio::time::timeout;
use url::Url;

use super::manifest::MAX_PACKAGE_BYTES;
use super::{Manifest, Sha256, public_url};
use crate::http::{Body, Transport};

/// What the Functions host starts; host.json beside it says so.
const EXECUTABLE: &str = "o365-collector";
/// Without it the package is no function app, and the Functions host would find nothing to run.
const HOST_FILE: &str = "host.json";
/// Larger than the executable ever gets, smaller than what fills the temporary folder of a small plan.
const MAX_EXECUTABLE_BYTES: u64 = 300 * 1024 * 1024;
/// Addresses one after another. Releases are often kept where the first address only points to another.
const MAX_REDIRECTS: usize = 5;
/// Half of what a function may take in all: there must be time left for what follows.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// A manifest is small; its server answers at once or is ill.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a package (or a manifest) could not be had, or is not what was promised.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The server does not give it out.
    #[error("{what} cannot be fetched: {why}")]
    Fetch {
        /// The manifest or the package.
        what: &'static str,
        /// The status or the connection's trouble.
        why: String,
    },
    /// Other bytes than those that were signed for.
    #[error("the package is not the one that was signed: its {0} differs from the manifest's")]
    Altered(&'static str),
    /// No zip, or without what a function app needs.
    #[error("the package is no function app that can run here: {0}")]
    Unfit(&'static str),
    /// This machine's disk.
    #[error("the package cannot be kept for a trial: {0}")]
    Disk(#[from] std::io::Error),
}

/// Runs a program to see whether it starts. Which processes are started, and how, is the host's matter.
#[async_trait]
pub trait Trial: Send + Sync {
    /// What `executable --version` prints.
    ///
    /// # Errors
    /// [`TrialError::DoesNotStart`] when it will not here, [`TrialError::Undecided`] when nobody can tell.
    async fn version_of(&self, executable: &Path) -> Result<String, TrialError>;
}

/// Why a trial did not go well.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It was started and failed, or is of a kind that this machine cannot start.
    #[error("the new version does not start here: {0}")]
    DoesNotStart(String),
    /// It may be the machine's fault: no room, too busy, programs not allowed in the temporary folder.
    #[error("the new version cannot be tried here: {0}")]
    Undecided(String),
}

/// Fetches a small text, such as the manifest.
pub(super) async fn fetch_manifest(
    http: &dyn Transport,
    url: &Url,
    max_bytes: usize,
) -> Result<Bytes, PackageError> {
    let what = "the release manifest";
    let failed = |why: &dyn std::fmt::Display| PackageError::Fetch {
        what,
        why: why.to_string(),
    };
    let fetch = async {
        let body = get(http, url, what).await?;
        body.collect(max_bytes).await.map_err(|why| failed(&why))
    };
    timeout(MANIFEST_TIMEOUT, fetch)
        .await
        .map_err(|_| failed(&"it took too long"))?
}

/// Fetches the manifest's package into a file without a name, as it arrives, and verifies its size and digest.
///
/// # If interrupted
/// The file goes with the process.
pub(super) async fn download(
    http: &dyn Transport,
    manifest: &Manifest,
) -> Result<File, PackageError> {
    let what = "the package";
    let failed = |why: &dyn std::fmt::Display| PackageError::Fetch {
        what,
        why: why.to_string(),
    };
    let fetch = async {
        let mut file = tempfile::tempfile()?;
        let mut body = get(http, &manifest.url, what).await?;
        let mut digest = Context::new(&SHA256);
        let mut size = 0_u64;
        while let Some(chunk) = body.chunk().await.map_err(|why| failed(&why))? {
            size = size.saturating_add(chunk.len() as u64);
            if size > manifest.size {
                return Err(PackageError::Altered("size"));
            }
            digest.update(&chunk);
            // A chunk is small and the file in the page cache: not worth a thread.
            file.write_all(&chunk)?;
        }
        if size != manifest.size {
            return Err(PackageError::Altered("size"));
        }
        if Sha256::from(digest.finish()) != manifest.sha256 {
            return Err(PackageError::Altered("digest"));
        }
        Ok(file)
    };
    timeout(DOWNLOAD_TIMEOUT, fetch)
        .await
        .map_err(|_| failed(&"it took too long"))?
}

/// Sends a GET, and follows where it is pointed. Nothing that is sent is a secret and what arrives is verified, so it
/// may lead anywhere that is `https`.
async fn get(http: &dyn Transport, url: &Url, what: &'static str) -> Result<Body, PackageError> {
    let failed = |why: String| PackageError::Fetch { what, why };
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let request = Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            .header(header::ACCEPT, "*/*")
            .body(Bytes::new())
            .map_err(|_| failed("its url cannot be requested".to_owned()))?;
        let reply = http
            .send(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = reply.status();
        if status == StatusCode::OK {
            return Ok(reply.into_body());
        }
        let target = reply.headers().get(header::LOCATION);
        let (true, Some(target)) = (status.is_redirection(), target) else {
            return Err(failed(format!("HTTP {status}")));
        };
        url = target
            .to_str()
            .ok()
            .and_then(|target| url.join(target).ok())
            .and_then(|target| public_url(target.as_str()))
            .ok_or_else(|| failed("it leads to an address that is not https".to_owned()))?;
    }
    Err(failed(format!("more than {MAX_REDIRECTS} redirects")))
}

/// The digest and size of a package on disk.
///
/// # Errors
/// When it cannot be read, or is larger than any package may be.
pub fn measure(file: &mut File) -> Result<(Sha256, u64), PackageError> {
    file.seek(SeekFrom::Start(0))?;
    let mut digest = Context::new(&SHA256);
    let mut size = 0_u64;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        digest.update(bytes);
        size = size.saturating_add(read as u64);
        if size > MAX_PACKAGE_BYTES {
            return Err(PackageError::Unfit("it is larger than any package may be"));
        }
    }
    Ok((digest.finish().into(), size))
}

/// Takes the executable out of a package, into `folder`. Blocks.
///
/// # Errors
/// When the package is no zip, holds no function app of ours, or the folder takes no file.
///
/// # If interrupted
/// The folder is the caller's, and temporary.
pub fn unpack_executable(package: File, folder: &Path) -> Result<PathBuf, PackageError> {
    let mut package = package;
    package.seek(SeekFrom::Start(0))?;
    let mut archive =
        zip::ZipArchive::new(package).map_err(|_| PackageError::Unfit("it is no zip"))?;
    if archive.by_name(HOST_FILE).is_err() {
        return Err(PackageError::Unfit("there is no host.json in it"));
    }
    let entry = archive
        .by_name(EXECUTABLE)
        .map_err(|_| PackageError::Unfit("there is no o365-collector in it"))?;
    let path = folder.join(EXECUTABLE);
    let mut file = create_executable(&path)?;
    let size =
        std::io::copy(&mut entry.take(MAX_EXECUTABLE_BYTES + 1), &mut file).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                    PackageError::Unfit("it is damaged inside")
                }
                _ => PackageError::Disk(error),
            }
        })?;
    if size > MAX_EXECUTABLE_BYTES {
        return Err(PackageError::Unfit("its program is larger than any may be"));
    }
    file.sync_all()?;
    Ok(path)
}

#[cfg(unix)]
fn create_executable(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(path)
}

#[cfg(not(unix))]
fn create_executable(path: &Path) -> std::io::Result<File> {
    File::create_new(path)
}

/// Whether the new version starts here, and is the one that it says it is.
///
/// # If interrupted
/// Nothing was changed: what was unpacked lies in a temporary folder.
pub(super) async fn try_out(
    trial: &dyn Trial,
    package: File,
    manifest: &Manifest,
) -> Result<(), TryError> {
    let folder = tempfile::tempdir().map_err(PackageError::Disk)?;
    let into = folder.path().to_owned();
    let unpacked = tokio::task::spawn_blocking(move || unpack_executable(package, &into)).await;
    let executable = unpacked
        .map_err(|_| PackageError::Unfit("opening it failed"))?
        .map_err(TryError::Package)?;
    let printed = trial.version_of(&executable).await?;
    check_version(&printed, manifest)?;
    Ok(())
}

/// Whether what `--version` printed names the manifest's version.
///
/// # Errors
/// [`TrialError::DoesNotStart`] when it names another.
pub fn check_version(printed: &str, manifest: &Manifest) -> Result<(), TrialError> {
    let names_it = printed.split_whitespace().any(|word| {
        word.parse()
            .is_ok_and(|version: super::Version| version == manifest.version)
    });
    names_it.then_some(()).ok_or_else(|| {
        TrialError::DoesNotStart("its --version names another version than the manifest".to_owned())
    })
}

/// Why a package was not found fit.
#[derive(Debug, thiserror::Error)]
pub(super) enum TryError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    Trial(#[from] TrialError),
}

#[cfg(test)]
pub(super) mod tests;
