//! Which texts are versions, and how they are ordered.

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn versions_are_ordered_as_semantic_versioning_says() {
    let ascending = [
        "0.1.0",
        "0.2.0-alpha",
        "0.2.0-alpha.1",
        "0.2.0-alpha.beta",
        "0.2.0-beta",
        "0.2.0-beta.2",
        "0.2.0-beta.11",
        "0.2.0-rc.1",
        "0.2.0",
        "0.2.1",
        "0.10.0",
        "1.0.0",
        "10.0.0",
    ];
    for (index, older) in ascending.iter().enumerate() {
        assert_eq!(version(older), version(older));
        assert_eq!(version(older).to_string(), *older);
        for newer in &ascending[index + 1..] {
            assert!(version(older) < version(newer), "{older} {newer}");
        }
    }
}

#[test]
fn what_is_no_version_is_refused() {
    for text in [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "v1.2.3",
        "1.2.x",
        "01.2.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3+build",
        "1.2.3 ",
        "1.2.-3",
        "99999999999999999999.0.0",
        "1.2.3-ü",
    ] {
        assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
    }
    assert!(
        format!("1.2.3-{}", "a".repeat(64))
            .parse::<Version>()
            .is_err()
    );
}

#[test]
fn the_running_version_can_be_read() {
    assert_eq!(Version::running().to_string(), env!("CARGO_PKG_VERSION"));
}
