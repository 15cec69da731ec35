//! `driver: polycube` in a compose file, against the stand-in for polycubed.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use crate::polycubed::Daemon;
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_project_on_cubes: Internet + Bridge,
        a_container_outlives_a_restart_of_polycubed: Internet + Bridge,
        without_polycubed_down_leaves_a_note_and_nothing_else: Internet + Bridge,
        without_polycubed_up_fails_and_says_why: Internet + Bridge,
        options_are_checked_before_anything_is_made,
    ]
}

fn daemon(sandbox: &Sandbox) -> Daemon {
    let host = File::open(format!("/run/netns/natlab-{}-host", sandbox.token())).expect("the lab's host");
    Daemon::start(OwnedFd::from(host))
}

/// The example of compose-examples/.
fn example() -> String {
    let file = format!("{}/compose-examples/polycube/compose.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(file).expect("an example")
}

fn a_project_on_cubes(sandbox: &Sandbox) {
    let daemon = daemon(sandbox);
    sandbox.set_env("BEYOND", "198.51.100.10");
    let project = sandbox.project("polycube", &example());
    project.up();
    let logs = project.wait_for_log("outside: reached");
    assert!(logs.contains("http://web says: hello from web"), "{logs}");
    let kinds: Vec<String> =
        daemon.cubes().iter().filter_map(|cube| Some(cube.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(kinds, ["simplebridge", "nat", "router"]);
    eventually("the published port leads to the container", || {
        let inside = format!("natlab-{}-inet", sandbox.token());
        let words = ["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", "http://192.0.2.2:8080/"];
        let page = std::process::Command::new("nsenter")
            .arg(format!("--net=/run/netns/{inside}"))
            .args(words)
            .output()
            .expect("nsenter starts");
        (page.stdout == b"hello from web\n").then_some(())
    });
    for address in ["127.0.0.1", "[::1]", "192.0.2.2"] {
        let url = format!("http://{address}:8080/");
        let page = sandbox.host(&["busybox", "timeout", "5", "busybox", "wget", "-q", "-O", "-", &url]).ok();
        assert_eq!(page.stdout, "hello from web\n", "{}", page.describe());
    }
    // Rules that somebody flushed come back without a restart.
    sandbox.shell("iptables -t nat -F; iptables -F").ok();
    eventually("the uplink is masqueraded again", || {
        (project.exec("web", &["ping", "-c1", "-W2", "198.51.100.10"]).code == 0).then_some(())
    });
    project.down();
    assert_eq!(daemon.cubes(), Vec::<String>::new());
}

fn a_container_outlives_a_restart_of_polycubed(sandbox: &Sandbox) {
    let daemon = daemon(sandbox);
    sandbox.set_env("BEYOND", "198.51.100.10");
    let project = sandbox.project("polycube", &example());
    project.up();
    project.wait_for_log("outside: reached");
    project.wait_exited("client");
    daemon.restart();
    // The client is started once more, and its ADD brings back what was lost.
    project.compose(&["start", "client"]).ok();
    eventually("the client is connected again", || {
        let logs = project.compose(&["logs", "client"]).ok().stdout;
        (logs.matches("outside: reached").count() == 2).then_some(())
    });
    assert_eq!(project.exec("web", &["ping", "-c1", "-W2", "198.51.100.10"]).code, 0);
    project.down();
    assert_eq!(daemon.cubes(), Vec::<String>::new());
}

fn without_polycubed_down_leaves_a_note_and_nothing_else(sandbox: &Sandbox) {
    let daemon = daemon(sandbox);
    sandbox.set_env("BEYOND", "198.51.100.10");
    let project = sandbox.project("polycube", &example());
    project.up();
    project.wait_for_log("outside: reached");
    drop(daemon);
    project.down();
    let links = sandbox.shell("ip -o link; iptables-save; cat /proc/sys/net/ipv4/ip_forward").ok().stdout;
    assert!(!links.contains(": pu") && !links.contains("MYDOCKER") && links.ends_with("0\n"), "{links}");
    let note = sandbox.run_dir().join("polycube");
    assert!(note.is_dir(), "what polycubed still has is known");
    fs::remove_dir_all(note).expect("removed");
}

fn without_polycubed_up_fails_and_says_why(sandbox: &Sandbox) {
    let project = sandbox.project("polycube", &example());
    let up = project.compose(&["up", "-d"]).expect_code(1).without_panic();
    assert!(up.stderr.contains("polycubed not reachable"), "{}", up.describe());
    project.down();
}

fn options_are_checked_before_anything_is_made(sandbox: &Sandbox) {
    let yaml = "services: {one: {image: root_fs, command: [sleep, infinity], networks: [n]}}\n\
                networks: {n: {driver: polycube, driver_opts: {uplink_mode: netdev, uplink_dev: eth0}}}\n";
    let project = sandbox.project("wrong", yaml);
    let up = project.compose(&["up", "-d"]).expect_code(1).without_panic();
    assert!(up.stderr.contains("needs `gateway`"), "{}", up.describe());
    project.down();
}
