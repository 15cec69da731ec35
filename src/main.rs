//! The `mydocker` binary: one of the roles of a project's processes, the CNI plugin `polycube`, the OCI runtime, or the command line.
//!
//! Rust's runtime has opened /dev/null where stdin, stdout or stderr was closed before this begins, so that no file
//! of ours can become one of them; tests/cli.rs holds it to that.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use mydocker::cli;
use mydocker::keeper::{self, Role};
use mydocker::sys::executable::run_sealed;
use mydocker::sys::grow_at_once;

fn main() -> ExitCode {
    cli::report::install_panic_hook();
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    if cli::plugin::is_called(&name, &words) {
        return cli::plugin::run();
    }
    if cli::may_start_containers(&words) {
        // Mostly done already, before the C library started. Where it fails, what makes a container's process refuses to.
        let _ = run_sealed(cli::measures(&words));
    }
    if let Some(role) = words.first().and_then(|word| Role::from_argument(word)) {
        return play(role);
    }
    grow_at_once();
    if cli::oci::is_called(&name) { cli::oci::run(words) } else { cli::run(words) }
}

/// Runs one of the three processes of a project; its standard error is the project's supervision log.
fn play(role: Role) -> ExitCode {
    let result = match role {
        Role::Keeper => keeper::run(),
        Role::Shim => mydocker::shim::run(),
        Role::Supervisor => mydocker::supervisor::run(cli::start_tracing),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::report::say(&format!("error: {}: {error}\n", role.process_name().to_string_lossy()));
            ExitCode::FAILURE
        }
    }
}
