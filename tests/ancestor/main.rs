//! What the ancestor promises, row by row, seen from outside. `README.md` beside this file says which test stands for which row;
//! here are those that no other test program has.

use std::process::ExitCode;

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest of it")]
mod support;

mod devices;
mod docker;
mod files;
mod identity;
mod limits;
mod rights;
mod shared;
mod table;
mod terminal;

use support::{Output, Running, Sandbox, rootfs};

fn main() -> ExitCode {
    let modules = [
        devices::cases(),
        docker::cases(),
        files::cases(),
        identity::cases(),
        limits::cases(),
        rights::cases(),
        shared::cases(),
        table::cases(),
        terminal::cases(),
    ];
    support::run_all(modules.into_iter().flatten().collect())
}

/// `mydocker run --network none --rootfs R` and then `words`.
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[&["run", "--network", "none", "--rootfs", root], words].concat())
}

/// The same, left running.
fn spawn(sandbox: &Sandbox, words: &[&str]) -> Running {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.spawn(&[&["run", "--network", "none", "--rootfs", root], words].concat())
}

/// `mydocker FLAGS --network none --rootfs R` and then `words`.
fn ancestor(sandbox: &Sandbox, flags: &[&str], words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[flags, &["--network", "none", "--rootfs", root], words].concat())
}

/// The same, left running.
fn spawn_ancestor(sandbox: &Sandbox, flags: &[&str], words: &[&str]) -> Running {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.spawn(&[flags, &["--network", "none", "--rootfs", root], words].concat())
}

/// What `readlink` shows of one of our own namespaces.
fn our_namespace(sandbox: &Sandbox, kind: &str) -> String {
    sandbox.host(&["readlink", &format!("/proc/self/ns/{kind}")]).ok().stdout
}
