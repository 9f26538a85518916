//! What must stay true of the repository as text: which knowledge lives only where, who depends on whom, and that the
//! pages for people agree with the code. Each check lists all the places it finds, not the first.

mod crates;
mod pages;
mod rooms;

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository; its path is relative to the root, with `/` on every system.
struct Source {
    path: String,
    text: String,
}

/// Fails with every finding at once, so that one run is enough to mend them all.
fn none(found: Vec<String>) {
    assert!(
        found.is_empty(),
        "{} found:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the crate lies in the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the checkout. Walked, not asked of git: the sources may have come without it.
fn sources() -> Vec<Source> {
    let ignored: Vec<String> = read(".gitignore")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let mut found = Vec::new();
    walk(&root(), "", &ignored, &mut found);
    assert!(
        found.len() > 50,
        "only {} files were found: the walk is broken",
        found.len()
    );
    found
}

fn walk(folder: &Path, prefix: &str, ignored: &[String], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the checkout is readable") {
        let entry = entry.expect("a folder of the checkout is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name == ".git"
            || ignored
                .iter()
                .any(|pattern| is_match(pattern, &path, &name))
        {
            continue;
        }
        let kind = entry.file_type().expect("the kind of an entry is known");
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), ignored, found);
        } else if kind.is_file() {
            // What is no text has nothing to search.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push(Source { path, text });
            }
        }
    }
}

/// The few forms of a line in `.gitignore` that ours uses: `/path`, `name/`, and either with a star at its head.
fn is_match(pattern: &str, path: &str, name: &str) -> bool {
    let (pattern, text) = match pattern.strip_prefix('/') {
        Some(pattern) => (pattern, path),
        None => (pattern, name),
    };
    let pattern = pattern.trim_end_matches('/');
    match pattern.strip_prefix('*') {
        Some(end) => text.ends_with(end) && !text.contains('/'),
        None => text == pattern,
    }
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}

/// Whether a file only checks the program: test modules, integration tests, suites, simulation, fuzzing and benches.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| {
        part.starts_with("test")
            || part.ends_with("_tests.rs")
            || part.starts_with("conformance")
            || part.starts_with("fixtures")
            || part.starts_with("fuzz")
            || part == "simulation"
            || part == "planted.rs"
            || part == "benches"
    })
}

/// `path:line: text` of each line that `is_wanted`.
fn lines_where(source: &Source, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_wanted(line));
    lines
        .map(|(number, line)| format!("{}:{}: {}", source.path, number + 1, line.trim()))
        .collect()
}
