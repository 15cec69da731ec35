//! Holds the source tree to its layers: imports point down, never up, and never across two folders of one layer;
//! `unsafe` stays in `sys`, tokio and the outside crates in the folders that own them.

#![expect(clippy::unwrap_used, reason = "a test: the panic is the message")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first; the table of docs and README.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["sys"]),
    (1, &["spec", "store"]),
    (2, &["namespaces", "capabilities", "seccomp"]),
    (3, &["keeper", "container", "network", "logs", "image", "compose"]),
    (4, &["shim", "build"]),
    (5, &["engine"]),
    (6, &["supervisor"]),
    (7, &["cli"]),
];

/// An outside crate and the only folders that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("tokio", &["supervisor", "engine", "network", "logs", "image", "cli"]),
    ("tokio_stream", &["supervisor", "engine", "network", "logs", "image", "cli"]),
    ("rtnetlink", &["network"]),
    ("libseccomp", &["seccomp"]),
    ("caps", &["capabilities"]),
    ("cgroups_rs", &["namespaces"]),
    ("serde_yaml", &["compose"]),
    ("saphyr_parser", &["compose"]),
    ("clap", &["cli"]),
    ("regex", &["cli"]),
    ("tracing_subscriber", &["cli"]),
    ("signal_hook_tokio", &["supervisor", "cli"]),
    ("hickory_proto", &["network"]),
    ("ureq", &["network"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// The folder of `src/` that a file lies in; `None` for `lib.rs` and `main.rs`.
fn folder(path: &Path) -> Option<String> {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let mut parts = below.components();
    let first = parts.next()?.as_os_str().to_str()?.to_owned();
    parts.next().map(|_| first)
}

/// Code without comments and string literals' worth of false alarms: only whole-line comments are dropped.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(n, l)| (n + 1, l)).filter(|(_, l)| !l.trim_start().starts_with("//"))
}

/// Every `word::` or `word` that follows `marker` in a line.
fn named_after<'a>(line: &'a str, marker: &str) -> Vec<&'a str> {
    line.match_indices(marker)
        .map(|(at, _)| {
            let rest = &line[at + marker.len()..];
            &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn every_folder_has_a_layer_and_a_readme() {
    let known: Vec<&str> = LAYERS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    for (path, _) in sources() {
        if let Some(name) = folder(&path) {
            assert!(known.contains(&name.as_str()), "{} lies in a folder without a layer", path.display());
            let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&name).join("README.md");
            assert!(readme.exists(), "{} is missing", readme.display());
        }
    }
}

/// Lines of a README that says something: what there is, how it works, what goes wrong.
const SHORTEST_README: usize = 12;

#[test]
fn every_folder_teaches() {
    let mut folders: Vec<PathBuf> =
        sources().into_iter().filter_map(|(path, _)| path.parent().map(Path::to_owned)).collect();
    folders.sort();
    folders.dedup();
    let lines = |folder: &PathBuf| fs::read_to_string(folder.join("README.md")).map_or(0, |text| text.lines().count());
    let wrong: Vec<_> = folders
        .iter()
        .filter(|folder| lines(folder) < SHORTEST_README)
        .map(|folder| format!("{}: {} lines", folder.display(), lines(folder)))
        .collect();
    assert!(wrong.is_empty(), "folders whose README.md is missing or says nothing:\n{}", wrong.join("\n"));
}

#[test]
fn imports_point_down() {
    let layer: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(n, names)| names.iter().map(move |name| (*name, *n))).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(own) = folder(&path) else { continue };
        for (number, line) in code_lines(&text) {
            for other in named_after(line, "crate::") {
                let Some(level) = layer.get(other) else { continue };
                if other != own && *level >= layer[own.as_str()] {
                    wrong.push(format!("{}:{number}: {own} uses {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if folder(&path).as_deref() == Some("sys") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
                && !line.contains('"')
            {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside src/sys:\n{}", wrong.join("\n"));
}

#[test]
fn outside_crates_stay_with_their_owners() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(own) = folder(&path) else { continue };
        for (number, line) in code_lines(&text) {
            for (name, owners) in OWNERS {
                let uses = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if uses && !owners.contains(&own.as_str()) {
                    wrong.push(format!("{}:{number}: {own} uses {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "outside crates where they do not belong:\n{}", wrong.join("\n"));
}

/// The most lines of a file; a longer one has two subjects. Files of nothing but tests are lists and may be longer.
const LONGEST_FILE: usize = 500;

#[test]
fn no_file_is_too_long() {
    let is_tests = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !is_tests(path) && text.lines().count() > LONGEST_FILE)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(wrong.is_empty(), "files over {LONGEST_FILE} lines:\n{}", wrong.join("\n"));
}
