//! That the pages for people agree with the program: links, commands, configuration, the changelog.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{none, read, root, sources};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.ends_with(".md"))
    {
        let folder = root()
            .join(&source.path)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for (number, line) in source.text.lines().enumerate() {
            for target in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let path = target.split('#').next().unwrap_or_default();
                let is_elsewhere =
                    path.is_empty() || target.contains("://") || target.starts_with("mailto:");
                if !is_elsewhere && !folder.join(path).exists() {
                    broken.push(format!("{}:{}: {target}", source.path, number + 1));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn the_changelog_speaks_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let heading = format!("[{version}]");
    let changelog = read("CHANGELOG.md");
    let section = changelog
        .split("\n## ")
        .find(|section| section.starts_with(&heading));
    let section = section.unwrap_or_else(|| panic!("CHANGELOG.md has no section `## {heading}`"));
    assert!(
        section.lines().any(|line| line.starts_with("- ")),
        "`{heading}` says nothing"
    );
}

#[test]
fn the_readme_names_the_programs_commands_and_no_others() {
    let program: BTreeSet<String> = program_commands();
    let readme = read("README.md");
    let named: BTreeSet<String> = code_of(&readme)
        .iter()
        .filter_map(|code| command_in(code))
        .collect();
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(
        named
            .difference(&program)
            .map(|name| format!("README.md has `{name}`, the program does not")),
    );
    wrong.extend(
        program
            .difference(&named)
            .map(|name| format!("README.md lacks `{name}`")),
    );
    none(wrong);
}

#[test]
fn the_configuration_in_the_readme_is_accepted() {
    let readme = read("README.md");
    let example = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("o365-collector.toml");
    fs::write(&file, example.expect("README.md has an example in TOML"))
        .expect("the folder is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_o365-collector"));
    command
        .args(["config", "print", "--config"])
        .arg(&file)
        .env_clear();
    for name in readme
        .split("env = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        command.env(name, "a secret");
    }
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_test_command_and_continuous_integration_are_one() {
    assert!(
        code_of(&read("README.md"))
            .iter()
            .any(|code| code == "./scripts/test"),
        "README.md lacks ./scripts/test"
    );
    assert!(
        read(".ci/run").contains("scripts/test"),
        ".ci/run calls something else"
    );
    #[cfg(unix)]
    for path in ["scripts/test", ".ci/run"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(root().join(path))
            .expect("it was read above")
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{path} is not executable");
    }
}

/// The commands that the program's own help lists.
fn program_commands() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_o365-collector"))
        .arg("--help")
        .output()
        .expect("it starts");
    let help = String::from_utf8(output.stdout).expect("the help is text");
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap_or_else(|| panic!("no commands in the help:\n{help}"));
    let names = commands.lines().take_while(|line| !line.is_empty());
    // Two spaces and the name; a description that goes on in the next line is indented further.
    let names = names
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '));
    names
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Each line of a block of code, and each span of code in the prose.
fn code_of(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_in_block = !is_in_block;
        } else if is_in_block {
            found.push(line.trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The command of ours that a line of shell runs.
fn command_in(code: &str) -> Option<String> {
    let arguments = match code
        .trim_start_matches("./")
        .strip_prefix("o365-collector ")
    {
        Some(arguments) => arguments,
        None => code.strip_prefix("cargo run ")?.split_once("-- ")?.1,
    };
    let name = arguments.split(' ').next()?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        .then(|| name.to_owned())
}
