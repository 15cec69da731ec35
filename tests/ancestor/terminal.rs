//! A11: our terminal is as it was, whatever the end.

use std::ffi::OsString;
use std::fs;

use crate::support::{Case, Sandbox, Terminal, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a11_our_terminal_after_signals,
        a11_our_terminal_after_failures,
        a11_our_terminal_while_it_runs,
        a11_a_terminal_that_hangs_up,
    ]
}

const RUN: &str = "\"$MYDOCKER\" run -it --network none --rootfs \"$MYDOCKER_ROOTFS\"";

/// Runs `line` in a shell on a terminal, between two looks at its modes, and returns what was on the screen.
fn between(sandbox: &Sandbox, line: &str, signal: Option<&str>) -> String {
    // No shell with job control stands between: it would mend the terminal itself. The inner one leaves its number.
    fs::write(sandbox.dir().join("line"), format!("echo $$ >pid; exec {line}")).expect("our own");
    let whole = "stty -g >stty-before; sh ./line; echo ended $?; stty -g >stty-after";
    let terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", whole].map(OsString::from));
    if let Some(signal) = signal {
        terminal.wait_for("up");
        let pid = eventually("its number", || {
            fs::read_to_string(sandbox.dir().join("pid")).ok().filter(|pid| pid.ends_with('\n'))
        });
        sandbox.host(&["kill", signal, pid.trim()]).ok();
    }
    let (code, screen) = terminal.wait();
    assert_eq!(code, 0, "{screen}");
    let read = |name: &str| fs::read_to_string(sandbox.dir().join(name)).expect("written by stty");
    assert_eq!(read("stty-before"), read("stty-after"), "{line} {signal:?}: {screen}");
    screen
}

fn a11_our_terminal_after_signals(sandbox: &Sandbox) {
    for (signal, code) in [("-TERM", 143), ("-HUP", 129), ("-INT", 130), ("-QUIT", 131)] {
        let screen = between(sandbox, &format!("{RUN} sh -c 'echo u''p; exec sleep 60'"), Some(signal));
        assert!(screen.contains(&format!("ended {code}")), "{signal}: {screen}");
    }
}

fn a11_our_terminal_after_failures(sandbox: &Sandbox) {
    for (rest, code) in [
        ("/bin/nosuch", 127),
        ("--user nosuch true", 126),
        ("sh -c 'kill -9 1; exit 5'", 5),
        ("sh -c 'stty raw -echo'", 0),
    ] {
        let screen = between(sandbox, &format!("{RUN} {rest}"), None);
        assert!(screen.contains(&format!("ended {code}")), "{rest}: {screen}");
    }
}

fn a11_our_terminal_while_it_runs(sandbox: &Sandbox) {
    let line = format!("stty -g >stty-before; {RUN} sh -c 'echo up; read x; echo got $x'; stty -g >stty-after");
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", &line].map(OsString::from));
    terminal.wait_for("up");
    // Each of the two terminals could echo what is typed: exactly one does.
    terminal.write("typed\n");
    terminal.wait_for("got typed");
    let (code, screen) = terminal.wait();
    assert_eq!((code, screen.matches("typed").count()), (0, 2), "{screen}");
}

fn a11_a_terminal_that_hangs_up(sandbox: &Sandbox) {
    let words = ["sh", "-c", &format!("exec {RUN} sh -c 'echo up; exec sleep 60'")].map(OsString::from);
    let terminal = Terminal::start(sandbox, sandbox.dir(), &words);
    terminal.wait_for("up");
    // Its master goes: the kernel sends SIGHUP to the session.
    drop(terminal);
    eventually("the container ends, too", || sandbox.pids().is_empty().then_some(()));
    crate::run(sandbox, &["true"]).ok();
}
