//! The smoke run: what `cargo fuzz` tries for hours, for seconds and without a nightly compiler. Every committed input,
//! and mutations of them by a seeded generator. An input that fails is written down, with the command that tries it again.

mod mutate;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// A target's name is that of its file in `fuzz/fuzz_targets`, and of its folders in `fuzz/corpus` and `fuzz/regressions`.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 5] = [
    ("blob", super::blob),
    ("compressed", super::compressed),
    ("content_list", super::content_list),
    ("error_reply", super::error_reply),
    ("notification", super::notification),
];

/// The same each time: what continuous integration says of a commit must not depend on the day.
const SEED: u64 = 20_260_301;

/// Mutations of each target's corpus.
const ROUNDS: u64 = 2_500;

#[test]
fn every_committed_input_keeps_its_targets_promises() {
    for (target, check) in TARGETS {
        for input in committed(target) {
            try_input(
                target,
                check,
                &input.bytes,
                &input.path.display().to_string(),
            );
        }
    }
}

#[test]
fn mutated_blobs_keep_their_promises() {
    try_mutations("blob");
}

#[test]
fn mutated_bytes_come_back_when_they_were_compressed() {
    try_mutations("compressed");
}

#[test]
fn mutated_content_lists_keep_their_promises() {
    try_mutations("content_list");
}

#[test]
fn mutated_error_replies_keep_their_promises() {
    try_mutations("error_reply");
}

#[test]
fn mutated_notifications_keep_their_promises() {
    try_mutations("notification");
}

#[test]
fn each_target_of_cargo_fuzz_is_tried_here_too() {
    let names = TARGETS.map(|(name, _)| name.to_owned());
    let files: BTreeSet<String> = folder("fuzz_targets")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, BTreeSet::from(names.clone()));
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let call = format!("collector::fuzz::{name}(");
        let path = folder("fuzz_targets").join(format!("{name}.rs"));
        assert!(fs::read_to_string(path).unwrap().contains(&call), "{call}");
    }
}

#[test]
fn the_corpus_reaches_what_the_targets_are_about() {
    let texts = |target| -> Vec<Vec<u8>> {
        committed(target)
            .into_iter()
            .map(|input| input.bytes)
            .collect()
    };
    let feed = super::feed();
    assert!(texts("notification").iter().any(|body| {
        activity_api::read_notification(body)
            .is_ok_and(|blobs| blobs.into_iter().any(|blob| blob.trust(&feed).is_ok()))
    }));
    let pages: Vec<_> = texts("content_list")
        .iter()
        .filter_map(|input| {
            let reply = super::read_reply(input);
            activity_api::read_content(&reply, &feed, activity_api::ContentType::General).ok()
        })
        .collect();
    assert!(pages.iter().any(|page| page.next_page.is_some()));
    assert!(pages.iter().any(|page| page.blobs.len() > 1));
    assert!(pages.iter().any(|page| !page.refused.is_empty()));
    let steps: BTreeSet<String> = texts("error_reply")
        .iter()
        .map(|input| activity_api::read_blob_error(&super::read_reply(input)).next_step())
        .map(|step| format!("{step:?}").split('(').next().unwrap().to_owned())
        .collect();
    assert_eq!(steps.len(), 7, "each kind of next step: {steps:?}");
}

fn try_mutations(target: &'static str) {
    let (_, check) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let seed = from_environment("O365_FUZZ_SEED").unwrap_or(SEED);
    let rounds = from_environment("O365_FUZZ_ROUNDS").unwrap_or(ROUNDS);
    println!("{rounds} mutations for {target} by the seed {seed}");
    let corpus = committed(target).into_iter().map(|input| input.bytes);
    let tokens = mutate::read_dictionary(&fs::read_to_string(folder("json.dict")).unwrap());
    let mut mutator = Mutator::new(seed, corpus.collect(), tokens);
    for round in 0..rounds {
        let input = mutator.next();
        try_input(
            target,
            check,
            &input,
            &format!("mutation {round} of seed {seed}"),
        );
    }
}

/// Writes the input down when the target panics.
fn try_input(target: &str, check: fn(&[u8]), input: &[u8], origin: &str) {
    if catch_unwind(|| check(input)).is_ok() {
        return;
    }
    let name = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(input));
    let place = root().join("target/fuzz-failures").join(target);
    fs::create_dir_all(&place).unwrap();
    let path = place.join(&name);
    fs::write(&path, input).unwrap();
    let mut shown = String::new();
    for byte in input.iter().take(300) {
        write!(shown, "{}", byte.escape_ascii()).unwrap();
    }
    panic!(
        "the target {target} fails for {origin}: {shown}\nto try it again, and to keep it as a regression:\n\
         cp target/fuzz-failures/{target}/{name} fuzz/regressions/{target}/ && cargo test -p collector every_committed_input\n"
    );
}

struct Input {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The corpus and the regressions of a target, in an order that is the same on every machine.
fn committed(target: &str) -> Vec<Input> {
    let mut inputs = Vec::new();
    for kind in ["corpus", "regressions"] {
        let Ok(entries) = folder(kind).join(target).read_dir() else {
            // Git keeps no empty folder, and a target may have no regression.
            assert_eq!(kind, "regressions", "{target} has no corpus");
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        inputs.extend(paths.into_iter().map(|path| Input {
            bytes: fs::read(&path).unwrap(),
            path,
        }));
    }
    inputs
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn folder(name: &str) -> PathBuf {
    root().join("fuzz").join(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a longer run is asked for this way, as proptest's are"
)]
fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}
