//! The binary, end to end, on the real kernel: each test in a host of its own (see `tests/support/README.md`).

use std::process::ExitCode;

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest of it")]
mod support;

#[path = "../polycubed/mod.rs"]
#[expect(dead_code, reason = "other test programs use the rest of it")]
mod polycubed;

mod bad_input;
mod by_name;
mod cni;
mod commands;
mod container;
mod examples;
mod faults;
mod firewall;
mod harness;
mod ipv6;
mod lan;
mod lifecycle;
mod logs;
mod names;
mod neighbours;
mod network;
mod places;
mod polycube;
mod ports;
mod processes;
mod run;
mod settings;
mod signals;
mod single;

fn main() -> ExitCode {
    let modules = [
        bad_input::cases(),
        by_name::cases(),
        cni::cases(),
        commands::cases(),
        container::cases(),
        examples::cases(),
        faults::cases(),
        firewall::cases(),
        harness::cases(),
        ipv6::cases(),
        lan::cases(),
        lifecycle::cases(),
        logs::cases(),
        names::cases(),
        neighbours::cases(),
        network::cases(),
        places::cases(),
        polycube::cases(),
        ports::cases(),
        processes::cases(),
        run::cases(),
        settings::cases(),
        signals::cases(),
        single::cases(),
    ];
    support::run_all(modules.into_iter().flatten().collect())
}
