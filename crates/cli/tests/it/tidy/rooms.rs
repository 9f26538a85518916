//! Which knowledge lives only where, and what must stand nowhere. Written as absences, since nobody sees those in code.

use super::{Source, is_test, lines_where, none, rust, sources};

/// This file spells out what it searches for, so it would find itself.
const THIS_FILE: &str = "crates/cli/tests/it/tidy/rooms.rs";

/// Longer files are two rooms behind one door. The house style asks for about 500; this is where it becomes an error.
const MAX_LINES: usize = 600;

/// Knowledge that lives in one place. Tests and benches are free to know more, and so is a comment.
struct Room {
    knowledge: &'static str,
    is_in: fn(&str) -> bool,
    lives_in: &'static [&'static str],
}

const ROOMS: [Room; 9] = [
    Room {
        knowledge: "a host name of Microsoft's",
        is_in: |line| {
            contains_any(
                line,
                &[
                    "manage.office",
                    "manage-gcc.office",
                    "manage.protection.apps.mil",
                    "login.microsoftonline",
                    "login.partner.microsoftonline",
                    "login.windows.net",
                    "management.azure.com",
                    "management.usgovcloudapi.net",
                    "management.chinacloudapi.cn",
                ],
            )
        },
        lives_in: &["crates/activity-api/", "crates/simulator/"],
    },
    Room {
        knowledge: "a host name of Azure Storage",
        is_in: |line| {
            contains_any(
                line,
                &[
                    "storage.azure.com",
                    "core.windows.net",
                    "core.usgovcloudapi.net",
                    "core.chinacloudapi.cn",
                ],
            )
        },
        lives_in: &["crates/azure/", "crates/simulator/"],
    },
    Room {
        knowledge: "an error code of Microsoft's",
        is_in: |line| has_code(line, "AF") || has_code(line, "AADSTS"),
        lives_in: &["crates/activity-api/", "crates/simulator/"],
    },
    Room {
        knowledge: "whether it runs in the Functions host",
        is_in: |line| contains_any(line, &["FUNCTIONS_", "customHandler"]),
        lives_in: &["crates/cli/", "crates/simulator/"],
    },
    Room {
        knowledge: "HTML",
        is_in: |line| {
            // In small letters only: `Response<Body>` is a type.
            contains_any(
                line,
                &["<!doctype", "<!DOCTYPE", "<html", "<body", "<div", "<table"],
            )
        },
        // The simulator imitates the pages that Microsoft's front ends answer with when they fail.
        lives_in: &["crates/collector/src/web/", "crates/simulator/"],
    },
    Room {
        knowledge: "SQL",
        is_in: |line| {
            contains_any(
                line,
                &[
                    "SELECT ",
                    "INSERT ",
                    "UPDATE ",
                    "DELETE FROM",
                    "CREATE TABLE",
                    "CREATE INDEX",
                    "PRAGMA ",
                ],
            )
        },
        lives_in: &["crates/ledger/"],
    },
    Room {
        knowledge: "opening a connection",
        is_in: |line| {
            contains_any(
                line,
                &["reqwest::", "hyper_util::client", "TcpStream::connect"],
            )
        },
        lives_in: &[
            "crates/collector/src/http.rs",
            "crates/collector/src/http/",
            "crates/simulator/",
        ],
    },
    Room {
        knowledge: "the terminal",
        is_in: |line| {
            contains_any(
                line,
                &["println!(", "print!(", "indicatif::", "is_terminal("],
            )
        },
        lives_in: &["crates/cli/"],
    },
    Room {
        knowledge: "ending the process",
        is_in: |line| contains_any(line, &["process::exit", "process::abort"]),
        // Only there are all parts that want an orderly end in sight. `exit` is banned altogether, by a lint.
        lives_in: &["crates/cli/"],
    },
];

#[test]
fn every_rust_file_begins_by_saying_what_it_is_for() {
    let silent = rust(&sources())
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: the first line is not `//! …`", source.path))
        .collect();
    none(silent);
}

#[test]
fn no_rust_file_is_two_files() {
    let long = rust(&sources())
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(source, lines)| format!("{}: {lines} lines, at most {MAX_LINES}", source.path))
        .collect();
    none(long);
}

#[test]
fn knowledge_stays_in_its_room() {
    none(strayed(&sources()));
}

#[test]
fn knowledge_out_of_its_room_is_found() {
    let planted = [
        (
            "crates/collector/src/fetch.rs",
            "let host = \"https://manage.office.com\";",
        ),
        ("crates/collector/src/fetch.rs", "if code == \"AF429\" {"),
        ("crates/ledger/src/lib.rs", "\"core.windows.net\""),
        (
            "crates/ledger/src/lib.rs",
            "var(\"FUNCTIONS_WORKER_RUNTIME\")",
        ),
        ("crates/cli/src/run.rs", "let page = \"<!DOCTYPE html>\";"),
        (
            "crates/collector/src/deliver/mod.rs",
            "\"SELECT id FROM blob\"",
        ),
        ("crates/alertlogic/src/aims.rs", "reqwest::get(uri)"),
        ("crates/ledger/src/lib.rs", "println!(\"here\");"),
        ("crates/ledger/src/lib.rs", "std::process::abort();"),
    ];
    for (path, line) in planted {
        assert_eq!(strayed(&[source(path, line)]).len(), 1, "{path}: {line}");
    }
    let at_home = [
        (
            "crates/activity-api/src/cloud.rs",
            "\"https://manage.office.com\"",
        ),
        (
            "crates/collector/src/fetch.rs",
            "// AF429 arrives as a 403.",
        ),
        ("crates/collector/src/fetch/tests.rs", "reply(\"AF429\")"),
        (
            "crates/collector/src/fetch.rs",
            "describe(\"refused with AF429\");",
        ),
    ];
    for (path, line) in at_home {
        assert_eq!(
            strayed(&[source(path, line)]),
            Vec::<String>::new(),
            "{path}: {line}"
        );
    }
}

#[test]
fn nothing_is_left_to_do_and_no_lint_is_waved_through() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path != THIS_FILE) {
        let is_rust = source.path.ends_with(".rs");
        found.extend(lines_where(source, |line| {
            words(line).any(|word| matches!(word, "TODO" | "FIXME" | "XXX" | "HACK"))
                || (is_rust
                    && contains_any(
                        line,
                        &["#[allow(", "#![allow(", "todo!(", "unimplemented!("],
                    ))
        }));
    }
    none(found);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path != THIS_FILE) {
        found.extend(lines_where(source, has_private_path));
    }
    none(found);
}

#[test]
fn a_private_path_is_told_from_a_public_one() {
    for private in [
        "see /home/ann/x",
        "(/root/.cargo)",
        "\"/tmp/x\"",
        "C:\\Users\\ann",
    ] {
        assert!(has_private_path(private), "{private}");
    }
    for public in [
        "/api/o365/webhook",
        "crates/root/x",
        "/var/lib/o365-collector",
        "https://a.net/home/x",
    ] {
        assert!(!has_private_path(public), "{public}");
    }
}

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn strayed(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in rust(sources).filter(|source| !is_test(&source.path)) {
        for room in ROOMS.iter().filter(|room| {
            !room
                .lives_in
                .iter()
                .any(|home| source.path.starts_with(home))
        }) {
            let places = lines_where(source, |line| {
                !line.trim_start().starts_with("//") && (room.is_in)(line)
            });
            found.extend(
                places
                    .into_iter()
                    .map(|place| format!("{}, in {place}", room.knowledge)),
            );
        }
    }
    found
}

fn contains_any(line: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| line.contains(needle))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
}

/// Whether a text literal of the line begins with `prefix` and two digits. Codes elsewhere are talk: a help text may
/// name the code that it explains.
fn has_code(line: &str, prefix: &str) -> bool {
    line.split('"')
        .filter_map(|text| text.strip_prefix(prefix))
        .any(|code| code.len() >= 2 && code.bytes().take(2).all(|byte| byte.is_ascii_digit()))
}

/// Whether an absolute path into folders that differ from machine to machine stands in the line.
fn has_private_path(line: &str) -> bool {
    line.contains("C:\\Users\\")
        || ["home", "root", "tmp", "Users", "work", "workspace", "mnt"]
            .iter()
            .any(|top| {
                line.match_indices(&format!("/{top}/")).any(|(start, _)| {
                    let before = line[..start].chars().next_back();
                    before.is_none_or(|before| {
                        before.is_whitespace() || "\"'`(<=,:[".contains(before)
                    })
                })
            })
}
