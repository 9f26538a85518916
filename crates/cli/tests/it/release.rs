//! Making and checking a release, as whoever makes one does, with real files and a real program to try.
#![cfg(unix)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::{describe, program};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command
        .current_dir(folder)
        .args(["release"])
        .args(arguments);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", describe(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A package whose program says that it is this version, or whatever else the script does.
fn package(folder: &Path, script: &str) {
    let file = fs::File::create(folder.join("package.zip")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in [("host.json", "{}"), ("o365-collector", script)] {
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

const SIGN: [&str; 9] = [
    "sign",
    "--key",
    "key.pem",
    "--version",
    "0.2.0",
    "--url",
    "https://releases.example.net/o365-collector-0.2.0.zip",
    "--package",
    "package.zip",
];

#[test]
fn a_release_is_signed_and_checked_as_the_updater_would() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let public = text(&run(folder, &["keygen", "--key", "key.pem"]));
    let mode = fs::metadata(folder.join("key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    package(folder, "#!/bin/sh\necho \"o365-collector 0.2.0\"\n");
    let more = [
        "--rollout",
        "10",
        "--minimum-age",
        "90m",
        "--minimum-version",
        "0.1.0",
    ];
    let manifest = text(&run(folder, &[SIGN.as_slice(), &more].concat()));
    fs::write(folder.join("manifest.json"), &manifest).unwrap();
    let verify = [
        "verify",
        "manifest.json",
        "--package",
        "package.zip",
        "--public-key",
        public.trim(),
    ];
    let shown = text(&run(folder, &verify));
    for line in [
        "version          0.2.0",
        "rollout          10 %",
        "minimum version  0.1.0",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    // The secret half is in no output.
    let pem = fs::read_to_string(folder.join("key.pem")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!format!("{public}{manifest}{shown}").contains(secret));

    // A key is never written over.
    let again = run(folder, &["keygen", "--key", "key.pem"]);
    assert_eq!(again.status.code(), Some(1), "{}", describe(&again));
    assert_eq!(fs::read_to_string(folder.join("key.pem")).unwrap(), pem);

    // Another package, one that does not start, one of another version.
    for script in [
        "#!/bin/sh\nexit 3\n",
        "#!/bin/sh\necho \"o365-collector 0.3.0\"\n",
    ] {
        package(folder, script);
        let altered = run(folder, &verify);
        assert_eq!(altered.status.code(), Some(1), "{}", describe(&altered));
        assert!(describe(&altered).contains("not the one that was signed"));
        let manifest = text(&run(folder, &SIGN));
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        let unfit = run(folder, &verify);
        assert_eq!(unfit.status.code(), Some(1), "{}", describe(&unfit));
        assert!(
            describe(&unfit).contains("does not start here"),
            "{}",
            describe(&unfit)
        );
        assert!(unfit.stdout.is_empty());
    }
}

#[test]
fn a_manifest_is_believed_only_with_the_key_that_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let old = text(&run(folder, &["keygen", "--key", "key.pem"]));
    let new = text(&run(folder, &["keygen", "--key", "new.pem"]));
    package(folder, "#!/bin/sh\n");
    let both = [SIGN.as_slice(), &["--key", "new.pem"]].concat();
    for (arguments, is_known_by_new) in [(SIGN.as_slice(), false), (&both, true)] {
        let manifest = text(&run(folder, arguments));
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        let check = |key: &str| {
            run(
                folder,
                &["verify", "manifest.json", "--public-key", key.trim()],
            )
        };
        assert!(check(&old).status.success());
        assert_eq!(check(&new).status.success(), is_known_by_new);
    }
}

#[test]
fn what_no_updater_would_take_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    text(&run(folder, &["keygen", "--key", "key.pem"]));
    package(folder, "#!/bin/sh\n");
    for (wrong, right, code) in [
        (
            "https://releases.example.net/o365-collector-0.2.0.zip",
            "http://releases.example.net/p.zip",
            1,
        ),
        ("0.2.0", "latest", 64),
        ("key.pem", "package.zip", 1),
        ("package.zip", "nowhere.zip", 1),
    ] {
        let arguments = SIGN.map(|argument| if argument == wrong { right } else { argument });
        let refused = run(folder, &arguments);
        assert_eq!(refused.status.code(), Some(code), "{}", describe(&refused));
        assert!(refused.stdout.is_empty());
    }
}
