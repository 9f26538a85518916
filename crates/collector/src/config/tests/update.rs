//! `[update]`: its modes, and what each of them needs.

use expect_test::expect;

use super::super::UpdateConfig;
use super::{check_errors, read, with};
use crate::updater::PublicKey;

const KEY: &str = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn nothing_is_updated_unless_it_is_asked_for() {
    assert_eq!(read(&with(""), &[]).unwrap().update, None);
    let off = with("[update]\nmode = \"off\"");
    assert_eq!(read(&off, &[]).unwrap().update, None);
}

#[test]
fn a_manifest_and_the_keys_to_believe_make_an_update() {
    let text = with(&format!(
        "[update]\nmanifest_url = \"https://releases.example.net/m.json\"\npublic_key = \"{KEY}, {KEY}\""
    ));
    let update = read(&text, &[]).unwrap().update.unwrap();
    let UpdateConfig::Package {
        manifest_url,
        public_keys,
    } = update
    else {
        panic!("the mode is package without being named")
    };
    assert_eq!(manifest_url.as_str(), "https://releases.example.net/m.json");
    assert_eq!(public_keys, [KEY.parse().unwrap(); 2]);
    let variables = [
        ("O365_COLLECTOR_UPDATE__MODE", "repository"),
        (
            "O365_COLLECTOR_PREVIOUS_PACKAGE",
            "an app setting of the updater's",
        ),
    ];
    let update = read(&with(""), &variables).unwrap().update;
    assert_eq!(update, Some(UpdateConfig::Repository));
}

#[test]
fn whom_to_believe_must_be_told_where_no_key_is_built_in() {
    let text = with("[update]\nmanifest_url = \"https://releases.example.net/m.json\"");
    match PublicKey::built_in().unwrap().as_slice() {
        [] => check_errors(
            &text,
            &[],
            expect![[r#"
                1 mistake in the configuration:
                  test.toml:7: update.public_key: missing: no release key is built into this program, so it must be told whose releases to believe"#]],
        ),
        built_in => {
            let update = read(&text, &[]).unwrap().update;
            assert!(
                matches!(update, Some(UpdateConfig::Package { public_keys, .. }) if public_keys == built_in)
            );
        }
    }
}

#[test]
fn the_mistakes_of_an_update_are_told() {
    check_errors(
        &with(&format!("[update]\npublic_key = \"{KEY}\"")),
        &[],
        expect![[r#"
            1 mistake in the configuration:
              test.toml:7: update.manifest_url: missing: write it here, or set O365_COLLECTOR_UPDATE__MANIFEST_URL; or set the mode to repository or off"#]],
    );
    check_errors(
        &with(
            "[update]\nmode = \"git\"\nmanifest_url = \"http://releases.example.net/\"\npublic_key = \"AAAA\"",
        ),
        &[],
        expect![[r#"
            3 mistakes in the configuration:
              test.toml:8: update.mode: must be one of package, repository, off
              test.toml:9: update.manifest_url: must be a full url that begins with https://, without a user name, a password or a #; http:// is only for an address of this machine itself
              test.toml:10: update.public_key: must be public keys as `o365-collector release keygen` prints them: ed25519: and 44 characters of base64 each, with commas between"#]],
    );
}
