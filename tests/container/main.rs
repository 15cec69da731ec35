//! Containers on the real kernel. Each test starts this binary again as a small single-threaded process that plays
//! `mydocker run` (see driver.rs), and looks at it from outside.

#![expect(clippy::unwrap_used, reason = "a failed test step is a failed test")]

mod bundle_attacks;
mod bundle_cases;
mod bundle_driver;
mod cases;
mod driver;
mod leak;
mod root_fs;

use libtest_mimic::{Arguments, Trial};
use mydocker::namespaces::mount::{Propagation, set_propagation};

fn main() -> std::process::ExitCode {
    let mut args = std::env::args();
    let mode = args.nth(1);
    if mode.as_deref().is_some_and(|mode| mode.starts_with("--drive")) {
        mydocker::sys::executable::run_sealed(false).unwrap();
    }
    match mode.as_deref() {
        Some("--drive") => return driver::main(&args.next().unwrap_or_default()),
        Some("--drive-bundle") => return bundle_driver::main(&args.next().unwrap_or_default()),
        _ => {}
    }
    let root = rustix::process::geteuid().is_root();
    let missing = if !root {
        Some("needs root")
    } else if !std::path::Path::new("/bin/busybox").exists() {
        Some("needs /bin/busybox (package busybox-static)")
    } else {
        None
    };
    if missing.is_none() {
        make_own_host();
    }
    let trials = cases::all()
        .into_iter()
        .chain(bundle_cases::all())
        .chain(bundle_attacks::all())
        .map(|(name, test)| {
            let missing = missing.or(cases::missing(name));
            let name = missing.map_or(name.to_owned(), |reason| format!("{name} ({reason})"));
            Trial::test(name, move || test().map_err(Into::into)).with_ignored_flag(missing.is_some())
        })
        .collect();
    // One after the other: the leak check compares listings of all that the tests see.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Gives the tests a mount namespace of their own to be the host: others on this machine mount too. Its mounts are shared
/// among themselves, as under systemd: a container that forgot to make its own private would show up here.
fn make_own_host() {
    mydocker::sys::process::unshare(libc::CLONE_NEWNS as u64).unwrap();
    set_propagation(Propagation::RecursivePrivate).unwrap();
    set_propagation(Propagation::RecursiveShared).unwrap();
}
