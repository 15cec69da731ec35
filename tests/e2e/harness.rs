//! The harness itself: a leak check that finds nothing anywhere would let every other test pass.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{Case, Sandbox, Terminal, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        what_is_left_behind_is_found: Bridge,
        a_lab_has_an_internet: Internet,
        a_terminal_is_one,
        a_sandbox_is_no_part_of_the_machine,
    ]
}

fn what_is_left_behind_is_found(sandbox: &Sandbox) {
    for (leave, mend) in [
        ("ip link add br-left type bridge", "ip link del br-left"),
        ("iptables -t nat -A POSTROUTING -j MASQUERADE", "iptables -t nat -F"),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 0 > /proc/sys/net/ipv4/ip_forward"),
        ("mkdir m; mount -t tmpfs left m", "umount m; rmdir m"),
        ("touch $MYDOCKER_RUN_DIR/projects/left", "rm $MYDOCKER_RUN_DIR/projects/left"),
        ("mkdir $MYDOCKER_DATA_DIR/containers/left", "rmdir $MYDOCKER_DATA_DIR/containers/left"),
        ("setsid sleep 60 >/dev/null 2>&1 & echo $! > pid", "kill $(cat pid)"),
    ] {
        let forwarding = sandbox.shell("cat /proc/sys/net/ipv4/ip_forward").ok().stdout;
        if leave.contains("ip_forward") && forwarding == "1\n" {
            continue; // a new namespace starts with what the machine has
        }
        sandbox.shell(leave).ok();
        let found = catch_unwind(AssertUnwindSafe(|| sandbox.expect_clean_within(0)));
        assert!(found.is_err(), "not found: {leave}");
        sandbox.shell(mend).ok();
        sandbox.expect_clean();
    }
}

fn a_lab_has_an_internet(sandbox: &Sandbox) {
    let page =
        sandbox.host(&["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", "http://198.51.100.10/"]).ok();
    assert!(page.stdout.starts_with("192.0.2.2 "), "{}", page.describe());
}

fn a_terminal_is_one(sandbox: &Sandbox) {
    let script = "tty; stty size; trap 'echo interrupted; exit 4' INT; echo ready; while true; do sleep 0.05; done";
    let words = ["sh", "-c", script].map(OsString::from);
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &words);
    terminal.wait_for("ready");
    terminal.interrupt();
    let (code, screen) = terminal.wait();
    assert_eq!(code, 4, "{screen}");
    assert!(screen.contains("/dev/pts/") && screen.contains("24 80") && screen.contains("interrupted"), "{screen}");
}

fn a_sandbox_is_no_part_of_the_machine(sandbox: &Sandbox) {
    for name in ["net", "mnt"] {
        let inside = sandbox.host(&["readlink", &format!("/proc/self/ns/{name}")]).ok().stdout;
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("ours");
        assert_ne!(inside.trim(), outside.to_string_lossy());
    }
    assert_eq!(
        sandbox.shell("ls /sys/class/net 2>/dev/null; ip -o link show | cut -d: -f2").ok().stdout.trim().lines().last(),
        Some(" lo")
    );
}
