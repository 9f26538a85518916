//! `release keygen|sign|verify`: for whoever makes releases, and whoever wants to check one.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use collector::clock::{Clock as _, SystemClock};
use collector::updater::{
    Manifest, PublicKey, SigningKey, Trial as _, check_version, measure, public_url, sign,
    unpack_executable, verify as verify_manifest,
};
use zeroize::Zeroizing;

use crate::args::ReleaseAction;
use crate::output;
use crate::trial::ProcessTrial;

pub(super) async fn release(action: ReleaseAction) -> anyhow::Result<ExitCode> {
    match action {
        ReleaseAction::Keygen { key } => keygen(&key)?,
        ReleaseAction::Sign {
            key,
            version,
            url,
            package,
            rollout,
            minimum_age,
            minimum_version,
            published_at,
        } => {
            let keys = key
                .iter()
                .map(|path| read_key(path))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let url = public_url(&url).context(
                "--url must be a full url that begins with https://, without a user name, a password or a #",
            )?;
            let (sha256, size) = measure(&mut open(&package)?)
                .with_context(|| format!("the package {}", package.display()))?;
            let manifest = Manifest {
                version,
                url,
                sha256,
                size,
                rollout_percent: rollout,
                minimum_age,
                published_at: published_at.unwrap_or_else(|| SystemClock.now()),
                minimum_version,
            };
            let text = sign(&manifest, &keys);
            // What the updater would refuse must not be published.
            let public: Vec<_> = keys.iter().map(SigningKey::public).collect();
            verify_manifest(text.as_bytes(), &public)
                .context("what was given makes no manifest")?;
            output::write_line(text)?;
        }
        ReleaseAction::Verify {
            manifest,
            package,
            public_key,
        } => verify(&manifest, package, public_key).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn keygen(path: &Path) -> anyhow::Result<()> {
    let (key, pem) = SigningKey::generate()?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("the key file {} cannot be made", path.display()))?;
    file.write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("the key file {} cannot be written", path.display()))?;
    output::write_line(key.public())?;
    output::say(format_args!(
        "the secret half is in {}: whoever has it can make every collector run what they like",
        path.display()
    ));
    Ok(())
}

async fn verify(
    manifest: &Path,
    package: Option<PathBuf>,
    public_key: Option<Vec<PublicKey>>,
) -> anyhow::Result<()> {
    let keys = match public_key {
        Some(keys) => keys,
        None => PublicKey::built_in().context("the key that was built into this program")?,
    };
    anyhow::ensure!(
        !keys.is_empty(),
        "no release key is built into this program: name one with --public-key"
    );
    let text = std::fs::read(manifest)
        .with_context(|| format!("the manifest {} cannot be read", manifest.display()))?;
    let manifest = verify_manifest(&text, &keys)?;
    if let Some(path) = package {
        check_package(&path, &manifest)
            .await
            .with_context(|| format!("the package {}", path.display()))?;
    }
    output::write(format!(
        "version          {}\nurl              {}\nsha256           {}\nsize             {}\nrollout          {} %\n\
         published        {}\ntaken from       {}\nminimum version  {}\n",
        manifest.version,
        manifest.url,
        manifest.sha256,
        manifest.size,
        manifest.rollout_percent,
        manifest.published_at,
        manifest.due_at(),
        manifest.minimum_version,
    ))?;
    Ok(())
}

async fn check_package(path: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let mut package = open(path)?;
    let (sha256, size) = measure(&mut package)?;
    anyhow::ensure!(
        sha256 == manifest.sha256 && size == manifest.size,
        "it is not the one that was signed: its size or digest differs from the manifest's"
    );
    let folder = tempfile::tempdir()?;
    let executable = unpack_executable(package, folder.path())?;
    let printed = ProcessTrial.version_of(&executable).await?;
    check_version(&printed, manifest)?;
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let pem = std::fs::read(path)
        .map(Zeroizing::new)
        .with_context(|| format!("the key file {} cannot be read", path.display()))?;
    SigningKey::from_pem(&pem).with_context(|| format!("the key file {}", path.display()))
}
