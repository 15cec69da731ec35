//! The binary as a CNI plugin: environment and standard input in, one JSON object and an exit code out.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::report;
use crate::network::polycube;

/// The name under which the binary is the plugin.
const NAME: &str = "polycube";
/// The first argument that says the same, for who cannot choose the name. No user's command begins with `@`.
const ARGUMENT: &str = "@polycube";
const RUN_DIR: &str = "/run/mydocker";

/// Says whether the binary was called as the plugin.
pub fn is_called(name: &OsStr, words: &[OsString]) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(NAME)) || words.first().is_some_and(|word| word == ARGUMENT)
}

/// Runs the plugin. Whoever runs it has no options: what it needs stands in its configuration, but for the run directory.
pub fn run() -> ExitCode {
    let run_dir = env::var_os("MYDOCKER_RUN_DIR").filter(|dir| !dir.is_empty());
    let run_dir = run_dir.map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from);
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let answer = polycube::answer(variable, &mut io::stdin().lock(), &run_dir);
    for warning in &answer.warnings {
        report::say(&format!("polycube: warning: {warning}\n"));
    }
    let printed = report::print(&answer.stdout);
    if answer.is_success && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
