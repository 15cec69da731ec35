//! Containers on the real kernel. Each test starts this binary again as a small single-threaded process that plays
//! `mydocker run` (see driver.rs), and looks at it from outside.

#![expect(clippy::unwrap_used, reason = "a failed test step is a failed test")]

mod cases;
mod driver;
mod leak;
mod root_fs;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    let mut args = std::env::args();
    if args.nth(1).as_deref() == Some("--drive") {
        return driver::main(&args.next().unwrap_or_default());
    }
    let root = rustix::process::geteuid().is_root();
    let missing = if !root {
        Some("needs root")
    } else if !std::path::Path::new("/bin/busybox").exists() {
        Some("needs /bin/busybox (package busybox-static)")
    } else {
        None
    };
    let trials = cases::all()
        .into_iter()
        .map(|(name, test)| {
            let missing = missing.or(cases::missing(name));
            let name = missing.map_or(name.to_owned(), |reason| format!("{name} ({reason})"));
            Trial::test(name, move || test().map_err(Into::into)).with_ignored_flag(missing.is_some())
        })
        .collect();
    // One after the other: the leak check compares listings of the whole machine.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}
