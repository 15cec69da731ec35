//! F67: our terminal is as it was when an `exec -t` ends, however that comes.

use std::ffi::OsString;
use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::bundle::{Bundle, expect_nothing, oci};
use crate::support::{Case, MYDOCKER, Sandbox, Terminal, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![a_terminal_of_an_exec_in_a_service, a_terminal_of_an_exec_in_a_bundle]
}

/// Runs `line` on a terminal between two looks at its modes; no shell with job control stands between that would mend it. When it has shown
/// `up`, its size changes often, and then `end` ends it. Returns what was on the screen.
fn between(sandbox: &Sandbox, line: &str, end: impl FnOnce(&mut Terminal)) -> String {
    let whole = format!("stty -g >stty-before; {line}; echo ended $?; stty -g >stty-after");
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", &whole].map(OsString::from));
    terminal.wait_for("up");
    for round in 0..300 {
        terminal.resize(20 + round % 30, 60 + round % 50);
    }
    terminal.resize(33, 77);
    terminal.wait_for("33 77");
    end(&mut terminal);
    let (code, screen) = terminal.wait();
    assert_eq!(code, 0, "{screen}");
    let read = |name: &str| fs::read_to_string(sandbox.dir().join(name)).expect("written by stty");
    assert_eq!(read("stty-before"), read("stty-after"), "{line}: {screen}");
    screen
}

/// Tells its size whenever that changes, and whenever it has waited for a while: a signal that comes before the trap is lost.
const PROGRAM: &str = "trap 'stty size' WINCH; echo u''p; while :; do read -t 1 x && exit 7; stty size; done";

fn a_terminal_of_an_exec_in_a_service(sandbox: &Sandbox) {
    let yaml = "\n services:\n  web: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}\n";
    let project = sandbox.project("term", yaml);
    project.up();
    let line = format!("{MYDOCKER} compose -f {} exec web sh -c \"{PROGRAM}\"", project.file().display());
    let screen = between(sandbox, &line, |terminal| terminal.write("\r"));
    assert!(screen.contains("ended 7"), "{screen}");
    // The supervisor dies under it: the exec is told so, or goes on with the next one's help; the terminal is as it was either way.
    between(sandbox, &line, |_| {
        let is_supervisor = |pid: &nix::unistd::Pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-superv"))
        };
        let supervisor = sandbox.processes().into_iter().find(is_supervisor).expect("it runs");
        kill(supervisor, Signal::SIGKILL).expect("it runs");
        let first = project.wait_running("web");
        first.signal(Signal::SIGKILL);
    });
    project.up();
    // The whole container is killed.
    let screen = between(sandbox, &line, |_| project.wait_running("web").signal(Signal::SIGKILL));
    assert!(screen.contains("ended 137"), "{screen}");
    project.down();
    crate::expect_nothing(sandbox);
}

fn a_terminal_of_an_exec_in_a_bundle(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "term", "exec sleep 300");
    bundle.oci(&["run", "--detach", "term"]).ok();
    let line = format!("{MYDOCKER} oci exec --tty term sh -c \"{PROGRAM}\"");
    let screen = between(sandbox, &line, |terminal| terminal.write("\r"));
    assert!(screen.contains("ended 7"), "{screen}");
    let screen = between(sandbox, &line, |_| {
        oci(sandbox, &["delete", "--force", "term"]).ok();
    });
    assert!(screen.contains("ended 137"), "{screen}");
    eventually("no process is left", || sandbox.processes().is_empty().then_some(()));
    expect_nothing(sandbox);
}
