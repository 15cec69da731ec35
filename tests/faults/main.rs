//! The catalogue of faults and bad inputs, row by row, on every way in. `README.md` beside this file says which test stands for which row;
//! here are those that no other test program has.

use std::process::ExitCode;

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest of it")]
mod support;

#[path = "../oci/bundle.rs"]
#[expect(dead_code, reason = "other test programs use the rest of it")]
mod bundle;

mod cgroups;
mod identity;
mod limits;
mod mounts;
mod table;
mod terminal;

use support::{Output, Sandbox, rootfs};

fn main() -> ExitCode {
    let modules =
        [cgroups::cases(), identity::cases(), limits::cases(), mounts::cases(), table::cases(), terminal::cases()];
    support::run_all(modules.into_iter().flatten().collect())
}

/// `up -d` of a service `web` with more lines, the first of which is line 7 of `f.yaml`.
fn up(sandbox: &Sandbox, lines: &str) -> Output {
    let head = "services:\n  web:\n    image: root_fs\n    init: true\n    network_mode: none\n    labels: [a=b]\n";
    let command = if lines.contains("command:") { "" } else { "\n    command: [sleep, infinity]" };
    up_file(sandbox, &format!("{head}    {lines}{command}\n"))
}

/// `up -d` of a whole file.
fn up_file(sandbox: &Sandbox, text: &str) -> Output {
    std::fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "up", "-d"])
}

/// `up -d` that is refused as a whole: code 2, in under two seconds, with nothing made.
#[track_caller]
fn refused_up(sandbox: &Sandbox, lines: &str, words: &[&str]) {
    up(sandbox, lines).refused(2, &[words, &["f.yaml:"]].concat());
    expect_nothing(sandbox);
}

/// `up -d` that works, and `down`.
#[track_caller]
fn good_up(sandbox: &Sandbox, lines: &str) -> Output {
    let up = up(sandbox, lines).ok();
    down(sandbox);
    up
}

#[track_caller]
fn down(sandbox: &Sandbox) {
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "down", "-t", "0"]).ok();
}

/// `mydocker run --network none --rootfs R` and then `words`.
fn run(sandbox: &Sandbox, words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[&["run", "--network", "none", "--rootfs", root], words].concat())
}

/// The ancestor's form with the same.
fn ancestor(sandbox: &Sandbox, flags: &[&str], words: &[&str]) -> Output {
    let root = rootfs().to_str().expect("UTF-8");
    sandbox.mydocker(&[flags, &["--network", "none", "--rootfs", root], words].concat())
}

/// `run` and the ancestor's form with the same long options, both refused: code 125, in under two seconds, with nothing made.
#[track_caller]
fn refused_run(sandbox: &Sandbox, options: &[&str], words: &[&str]) {
    run(sandbox, &[options, &["true"]].concat()).refused(125, words);
    ancestor(sandbox, &["-a"], &[options, &["true"]].concat()).refused(125, words);
    expect_nothing(sandbox);
}

/// `oci run` of a bundle that is changed, refused: code 125, in under two seconds, with nothing left.
#[track_caller]
fn refused_bundle(sandbox: &Sandbox, change: impl FnOnce(&mut serde_json::Value), words: &[&str]) {
    let bundle = bundle::Bundle::new(sandbox, "bad", "true");
    bundle.edit(change);
    bundle.oci(&["run", "bad"]).refused(125, words);
    bundle::expect_nothing(sandbox);
}

/// No process, no cgroup, no container.
#[track_caller]
fn expect_nothing(sandbox: &Sandbox) {
    sandbox.expect_quiet();
    assert!(sandbox.cgroups().is_empty(), "cgroups are left: {:?}", sandbox.cgroups());
    let containers = std::fs::read_dir(sandbox.data_dir().join("containers")).expect("it is there").count();
    assert_eq!(containers, 0, "containers are left");
}
