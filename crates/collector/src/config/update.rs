//! `[update]`: how the program is kept up to date.

use url::Url;

use super::keys::Kind;
use super::reader::Section;
use crate::updater::{PublicKey, public_url};

const MODES: [&str; 3] = ["package", "repository", "off"];

/// `[update]`, unless its mode is `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateConfig {
    /// A function app runs from the package that a signed manifest names. Any other host only tells of newer versions.
    Package {
        /// Where the manifest lies.
        manifest_url: Url,
        /// Whose signatures are believed, at least one.
        public_keys: Vec<PublicKey>,
    },
    /// The function app is deployed from a source repository, and told to fetch it anew at every run. Nothing is
    /// verified: whoever can write to the repository decides what runs.
    Repository,
}

pub(super) fn read(root: &mut Section<'_, '_>) -> Option<UpdateConfig> {
    root.optional_table(
        "update",
        "How the program is kept up to date. Without it nothing updates it.",
        |section| {
            let mode = section
                .choice(
                    "mode",
                    "package: the release that a signed manifest names, for a function app that runs from a package \
                     (any other host only tells of newer versions). repository: a function app that is deployed from \
                     source control is told to fetch it. off: neither.",
                    &MODES,
                )
                // Not a default that the default file could show: with the table there, a manifest must be named.
                .computed("package", "package");
            let manifest_url = section
                .text(
                    "manifest_url",
                    "Where the signed release manifest lies. Needed for the mode package.",
                )
                .try_map(Kind::Url, |text| {
                    public_url(&text).ok_or_else(|| {
                        "must be a full url that begins with https://, without a user name, a password or a #; \
                         http:// is only for an address of this machine itself"
                            .to_owned()
                    })
                })
                .optional("there is nothing to look for updates in");
            let public_keys = section
                .text(
                    "public_key",
                    "The keys that may sign a release, with commas between: each ed25519: and base64. Any one of them \
                     is enough.",
                )
                .try_map(Kind::Text, |text| {
                    PublicKey::parse_list(&text).map_err(|error| error.to_string())
                })
                .optional("the keys that were built into the program, where there are any");
            match mode? {
                "package" => read_package(section, manifest_url, public_keys),
                "repository" => Some(UpdateConfig::Repository),
                _ => None,
            }
        },
    )
}

fn read_package(
    section: &mut Section<'_, '_>,
    manifest_url: Option<Url>,
    public_keys: Option<Vec<PublicKey>>,
) -> Option<UpdateConfig> {
    // A key that is set and wrong has its error already.
    let is_set = |section: &Section<'_, '_>, name| section.origin_if_set(name).is_some();
    if !section.reader.is_describing {
        if manifest_url.is_none() && !is_set(section, "manifest_url") {
            let variable = section.variable_of("manifest_url");
            section.incomplete(
                "manifest_url",
                format!("missing: write it here, or set {variable}; or set the mode to repository or off"),
            );
        }
        if public_keys.is_none() && !is_set(section, "public_key") {
            match PublicKey::built_in() {
                Ok(keys) if !keys.is_empty() => {
                    return Some(UpdateConfig::Package {
                        manifest_url: manifest_url?,
                        public_keys: keys,
                    });
                }
                Ok(_) => section.incomplete(
                    "public_key",
                    "missing: no release key is built into this program, so it must be told whose releases to believe",
                ),
                Err(_) => section.incomplete(
                    "public_key",
                    "missing: the release key that was built into this program cannot be read",
                ),
            }
        }
    }
    Some(UpdateConfig::Package {
        manifest_url: manifest_url?,
        public_keys: public_keys?,
    })
}
