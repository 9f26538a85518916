//! Who depends on whom, and that the map in ARCHITECTURE.md shows the crates and modules there are.

use std::collections::BTreeSet;
use std::process::Command;

use super::{is_test, lines_where, none, read, root, rust, sources};

/// Which crates of the workspace each may use: in the program, and in its tests besides.
const EDGES: [(&str, &[&str], &[&str]); 12] = [
    ("activity-api", &[], &[]),
    ("alertlogic", &["deflate"], &[]),
    ("azure", &["activity-api"], &[]),
    ("decode", &[], &[]),
    ("deflate", &[], &[]),
    ("heap", &[], &[]),
    ("ledger", &["activity-api", "azure"], &["simulator"]),
    (
        "collector",
        &[
            "activity-api",
            "alertlogic",
            "azure",
            "decode",
            "deflate",
            "heap",
            "ledger",
        ],
        &["simulator"],
    ),
    (
        "cli",
        &[
            "activity-api",
            "alertlogic",
            "azure",
            "collector",
            "heap",
            "ledger",
            "simulator",
        ],
        &[],
    ),
    // Nothing, not even in its tests: a field misread in both could agree with itself.
    ("simulator", &[], &[]),
    // The rest it sees from outside, as processes.
    ("benches", &["activity-api", "deflate", "ledger"], &[]),
    (
        "instructions",
        &["activity-api", "alertlogic", "decode", "deflate"],
        &[],
    ),
];

/// A dependency that gives a crate a power which only that crate should have.
const OUTSIDE_EDGES: [(&str, &[&str]); 5] = [
    ("rusqlite", &["ledger"]),
    ("tokio-postgres", &["ledger"]),
    ("clap", &["benches", "cli"]),
    ("axum", &["cli", "collector", "simulator"]),
    ("askama", &["collector"]),
];

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let mut wrong = Vec::new();
    let packages = packages();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let expected: BTreeSet<&str> = EDGES.iter().map(|(name, ..)| *name).collect();
    if names != expected {
        wrong.push(format!(
            "the crates are {names:?}, the design has {expected:?}"
        ));
    }
    for package in &packages {
        let Some((_, always, in_tests)) = EDGES.iter().find(|(name, ..)| *name == package.name)
        else {
            continue;
        };
        for (dependency, is_for_tests) in &package.dependencies {
            let dependency = dependency.as_str();
            let is_allowed =
                always.contains(&dependency) || (*is_for_tests && in_tests.contains(&dependency));
            if names.contains(dependency) && !is_allowed {
                wrong.push(format!("{} must not depend on {dependency}", package.name));
            }
            let owners = OUTSIDE_EDGES
                .iter()
                .find(|(outside, _)| *outside == dependency);
            if owners.is_some_and(|(_, owners)| !owners.contains(&package.name.as_str())) {
                wrong.push(format!("{dependency} is not for {}", package.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn lock_files_name_public_registries_only() {
    let mut found = Vec::new();
    for source in &sources() {
        let (key, registry) = match source.path.rsplit('/').next().unwrap_or_default() {
            "Cargo.lock" => (
                "source = \"",
                "registry+https://github.com/rust-lang/crates.io-index\"",
            ),
            "package-lock.json" => ("\"resolved\": \"", "https://registry.npmjs.org/"),
            _ => continue,
        };
        found.extend(lines_where(source, |line| {
            line.split_once(key)
                .is_some_and(|(_, place)| !place.starts_with(registry))
        }));
    }
    none(found);
}

#[test]
fn the_map_names_every_crate_and_module_and_invents_none() {
    let page = read("ARCHITECTURE.md");
    let (drawn, mut wrong) = read_map(&page);
    let built = modules();
    wrong.extend(
        built
            .difference(&drawn)
            .map(|path| format!("ARCHITECTURE.md: the map lacks {path}")),
    );
    for path in drawn.difference(&built) {
        // A file in a folder need not be on the map, but may be.
        if !root().join(path).exists() {
            wrong.push(format!(
                "ARCHITECTURE.md: the map has {path}, which does not exist"
            ));
        }
    }
    none(wrong);
}

/// A crate of the workspace and what it depends on; the flag is set for what only its tests use.
struct Package {
    name: String,
    dependencies: Vec<(String, bool)>,
}

/// What cargo itself makes of the manifests.
fn packages() -> Vec<Package> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root());
    let output = command.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo lists the packages");
    let package = |package: &serde_json::Value| Package {
        name: text(&package["name"]),
        dependencies: package["dependencies"]
            .as_array()
            .expect("cargo lists a package's dependencies")
            .iter()
            .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
            .collect(),
    };
    packages.iter().map(package).collect()
}

/// What must be on the map: each crate, each module directly in its `src`, and below that each module with a folder. A
/// module is its file, or its folder where that holds the `mod.rs`.
fn modules() -> BTreeSet<String> {
    let sources = sources();
    let files: BTreeSet<&str> = rust(&sources).map(|source| source.path.as_str()).collect();
    let mut found = BTreeSet::new();
    for path in &files {
        let parts: Vec<&str> = path.split('/').collect();
        let ["crates", name, "src", inside @ ..] = parts.as_slice() else {
            continue;
        };
        found.insert(format!("crates/{name}"));
        if is_test(&inside.join("/")) {
            continue;
        }
        for depth in 1..inside.len() {
            let module = format!("crates/{name}/src/{}", inside[..depth].join("/"));
            let file = format!("{module}.rs");
            let has_file = files.contains(file.as_str());
            found.insert(if has_file { file } else { format!("{module}/") });
        }
        if let [file] = inside
            && !matches!(*file, "lib.rs" | "main.rs")
        {
            found.insert((*path).to_owned());
        }
    }
    found
}

/// The map's crates (`### `crates/x``) and modules (`- `a.rs`, `b/`: what for`), and what in it has another form.
fn read_map(page: &str) -> (BTreeSet<String>, Vec<String>) {
    let map = page
        .split("\n## ")
        .find(|part| part.starts_with("Map"))
        .expect("ARCHITECTURE.md has a part `## Map`");
    let mut drawn = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut crate_path = String::new();
    for line in map.lines().skip(1) {
        if let Some(heading) = line.strip_prefix("### ") {
            crate_path = heading.split('`').nth(1).unwrap_or_default().to_owned();
            drawn.insert(crate_path.clone());
        } else if let Some(item) = line.strip_prefix("- ") {
            match item.split_once("`: ") {
                Some((names, _)) => {
                    let names = names
                        .split('`')
                        .filter(|name| !name.is_empty() && *name != ", ");
                    drawn.extend(names.map(|name| format!("{crate_path}/src/{name}")));
                }
                None => wrong.push(format!(
                    "ARCHITECTURE.md: no `module`: and what it is for in {line:?}"
                )),
            }
        }
    }
    (drawn, wrong)
}
