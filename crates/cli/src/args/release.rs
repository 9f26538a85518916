//! `release …`: what whoever makes a release types.

use std::path::PathBuf;

use clap::Subcommand;
use collector::updater::{PublicKey, Version};
use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseAction {
    /// Make a release key. The secret half goes into a file that only its owner may read, the public half to stdout.
    Keygen {
        /// The file to make. One that is there already is never replaced.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Sign a release: measures the package and prints the manifest.
    // A release has a version of its own to name, so the flag that every command has is not on this one.
    #[command(disable_version_flag = true)]
    Sign {
        /// The file that holds the release key (Ed25519, PKCS#8, PEM). Given twice while one key replaces another.
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
        /// The version that the package holds.
        #[arg(long)]
        version: Version,
        /// Where the package will lie: an https url that keeps working, as function apps fetch it at each start.
        #[arg(long)]
        url: String,
        /// The package.
        #[arg(long, value_name = "FILE")]
        package: PathBuf,
        /// How many of a hundred sites may have it so far.
        #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
        rollout: u8,
        /// How long after its publication it is first taken, such as 24h.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = minimum_age)]
        minimum_age: SignedDuration,
        /// The oldest version that it may replace.
        #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
        minimum_version: Version,
        /// When it is published; now, unless the manifest is signed anew to widen the rollout.
        #[arg(long, value_name = "TIME")]
        published_at: Option<Timestamp>,
    },
    /// Check a manifest, and a package with it, as the updater would.
    Verify {
        /// The manifest.
        manifest: PathBuf,
        /// The package, which is measured, opened, and its program started with --version.
        #[arg(long, value_name = "FILE")]
        package: Option<PathBuf>,
        /// The keys to believe, with commas between; the built-in ones, where there are any.
        #[arg(long, value_name = "KEYS", value_parser = PublicKey::parse_list)]
        public_key: Option<std::vec::Vec<PublicKey>>,
    },
}

fn minimum_age(text: &str) -> Result<SignedDuration, String> {
    let must = "must be a duration of hours, minutes and seconds, such as 24h or 90m";
    text.parse::<SignedDuration>()
        .ok()
        .filter(|age| !age.is_negative())
        .ok_or_else(|| must.to_owned())
}
