//! Compares `config` with what Docker Compose 2.40 prints, case by case. The cases lie in `$MYDOCKER_COMPOSE_CASES`
//! (`../shared/compose-cases` where it is not set); without them the test is listed as ignored. Cases that are known to
//! differ stand in `compose_cases_pending.txt`, each with its reason; one that agrees must leave that list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use mydocker::compose::{LoadRequest, config};
use serde_json::Value;

const PENDING: &str = include_str!("compose_cases_pending.txt");

fn main() {
    let arguments = Arguments::from_args();
    let root = std::env::var_os("MYDOCKER_COMPOSE_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/compose-cases"), PathBuf::from);
    let mut trials = Vec::new();
    for (group, files) in [("cases", &["compose.yaml"][..]), ("merge", &["base.yaml", "override.yaml"])] {
        let Ok(folders) = fs::read_dir(root.join(group)) else { continue };
        let mut folders: Vec<PathBuf> = folders.filter_map(|entry| Some(entry.ok()?.path())).collect();
        folders.sort();
        trials.extend(folders.into_iter().map(|folder| trial(group, folder, files)));
    }
    if trials.is_empty() {
        trials.push(Trial::test("compose_cases_are_absent", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(group: &str, folder: PathBuf, files: &'static [&'static str]) -> Trial {
    let name = format!("{group}/{}", folder.file_name().unwrap_or_default().to_string_lossy());
    let reason = PENDING.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(": "));
    let pending = reason.is_some();
    let agrees = compare(&folder, files);
    let ignored = pending && agrees.is_err();
    Trial::test(name, move || match (pending, agrees) {
        (true, Ok(())) => Err("it agrees: remove it from tests/compose_cases_pending.txt".into()),
        (false, result) => result.map_err(Failed::from),
        (true, Err(_)) => Ok(()),
    })
    .with_ignored_flag(ignored)
}

fn compare(folder: &Path, files: &[&str]) -> Result<(), String> {
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let request = LoadRequest {
        files: files.iter().map(PathBuf::from).collect(),
        project_name: Some("test".into()),
        working_dir: folder.clone(),
        environment: BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), "/nonexistent".to_owned()),
        ]),
        ..LoadRequest::default()
    };
    let ours = config(&request);
    let read = |name: &str| fs::read_to_string(folder.join(name));
    match (ours, read("expected.json"), read("rejected.txt")) {
        (Ok(ours), Ok(expected), _) => {
            let expected = expected.replace("@DIR@", &folder.to_string_lossy());
            let expected: Value = serde_json::from_str(&expected).map_err(|error| error.to_string())?;
            let mut differences = Vec::new();
            differ(&expected, &ours.document.json(), "", &mut differences);
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        }
        (Err(errors), Ok(_), _) => Err(format!("Compose takes it; we say:\n{errors}")),
        (Ok(_), _, Ok(rejected)) => Err(format!("Compose refuses it: {rejected}")),
        (Err(errors), _, Ok(rejected)) => {
            same_cause(&errors.to_string(), &rejected.replace("@DIR@", &folder.to_string_lossy()))
        }
        _ => Err("the case has no answer".into()),
    }
}

/// Words of messages that name nothing.
const WORDS: &str = "service has neither an image nor a build context specified invalid compose project open stat no such file or \
    directory must be mapping validating failed to error not allowed additional properties refers undefined depends on is and of \
    the null";

/// A refusal counts only if it names the same key, file or object: every name that Compose's message quotes must be in ours,
/// and one of the other words that say what it is about.
fn same_cause(ours: &str, theirs: &str) -> Result<(), String> {
    let plain = |text: &str| text.replace(['`', '\'', '"', '[', ']'], " ").to_lowercase();
    let (own, other) = (plain(ours), plain(theirs));
    let subjects: Vec<&str> = other
        .split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';' | '(' | ')'))
        .map(|word| word.rsplit('/').next().unwrap_or(word).trim_matches('.'))
        .filter(|word| word.len() > 1 && WORDS.split_whitespace().all(|common| common != *word))
        .collect();
    let told = |word: &&str| own.contains(*word) || word.split('.').all(|part| own.contains(part));
    // Names in quotes are the surest: all of them must be told.
    let quoted: Vec<String> = theirs
        .split(['"', '\''])
        .skip(1)
        .step_by(2)
        .map(|name| name.trim_start_matches("services").to_lowercase())
        .filter(|name| !name.is_empty() && !name.contains('['))
        .collect();
    if let Some(untold) = quoted.iter().find(|name| !own.contains(name.as_str())) {
        return Err(format!("`{untold}` is not named\nCompose: {theirs}\nours: {ours}"));
    }
    if theirs.contains("neither an image") {
        return if own.contains("neither an image") { Ok(()) } else { Err(format!("Compose: {theirs}\nours: {ours}")) };
    }
    if subjects.iter().any(told) { Ok(()) } else { Err(format!("Compose: {theirs}\nours: {ours}")) }
}

fn differ(expected: &Value, ours: &Value, path: &str, out: &mut Vec<String>) {
    match (expected, ours) {
        (Value::Object(expected), Value::Object(ours)) => {
            for (key, value) in expected {
                let path = format!("{path}.{key}");
                match ours.get(key) {
                    Some(own) => differ(value, own, &path, out),
                    None => out.push(format!("{path}: missing, expected {value}")),
                }
            }
            let more = ours.iter().filter(|(key, _)| !expected.contains_key(*key));
            out.extend(more.map(|(key, value)| format!("{path}.{key}: not expected, is {value}")));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (a, b)) in one.iter().zip(other).enumerate() {
                differ(a, b, &format!("{path}[{index}]"), out);
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: expected {a}, is {b}")),
    }
}
