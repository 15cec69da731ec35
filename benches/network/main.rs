//! What networks cost: attaching and detaching one container beside the reference CNI plugins and netavark, `up` and `down` with and
//! without a network, names beside the least server there can be and dnsmasq, throughput and latency across the bridge beside loopback.
//!
//! Runs in a network and mount namespace of its own, with directories and a cgroup parent of its own; no packet leaves it:
//! `cargo bench --bench network`. A first argument that is a number is the number of attachments of each kind. It prints figures and
//! ratios and never fails for being slow.

mod names;
mod project;
mod set_up;
mod traffic;
mod up;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

const INSIDE: &str = "MYDOCKER_BENCH_INSIDE";

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("we are running");
        let error = Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        panic!("unshare: {error}");
    }
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(30);
    run("ip", &["link", "set", "lo", "up"]);
    set_up::measure(runs);
    up::measure();
    let project = project::Project::of_two();
    names::measure(&project);
    traffic::measure(&project);
}

fn run(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Finds the value below which `percent` of the times lie.
fn percentile(sorted: &[Duration], percent: f64) -> Duration {
    let place = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted[place.min(sorted.len() - 1)]
}
