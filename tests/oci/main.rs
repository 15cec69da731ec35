//! The OCI runtime from outside: `mydocker oci`, as engines call it, each test in a host of its own (see `tests/support/README.md`).

#![expect(clippy::unwrap_used, reason = "tests: the panic is the message")]

use std::process::ExitCode;

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest of it")]
mod support;

mod attacks;
mod bundle;
mod config;
mod exec;
mod faults;
mod hangs;
mod hooks;
mod host_mounts;
mod lifecycle;
mod net_devices;
mod notify;
mod own_program;
mod seccomp;
mod streams;
mod terminal;

fn main() -> ExitCode {
    let modules = [
        attacks::cases(),
        config::cases(),
        exec::cases(),
        faults::cases(),
        hangs::cases(),
        hooks::cases(),
        host_mounts::cases(),
        lifecycle::cases(),
        net_devices::cases(),
        notify::cases(),
        own_program::cases(),
        seccomp::cases(),
        streams::cases(),
        terminal::cases(),
    ];
    support::run_all(modules.into_iter().flatten().collect())
}
