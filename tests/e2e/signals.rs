//! Ctrl-C and its relatives: what the client of `up` makes of signals, and what becomes of the project without its client.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Case, Project, Sandbox, Terminal, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        one_interrupt_stops_in_reverse_order,
        two_interrupts_kill,
        a_terminated_client_stops_the_project,
        a_killed_client_leaves_the_project_running,
        a_lost_terminal_leaves_the_project_running,
        up_shows_output_on_a_terminal_with_colour,
        no_color_is_obeyed,
        up_into_a_pipe_that_closes,
    ]
}

/// c needs b needs a; each notes its end in a file that all share.
fn chain<'a>(sandbox: &'a Sandbox, name: &str) -> (Project<'a>, std::path::PathBuf) {
    let notes = sandbox.dir().join("notes");
    std::fs::create_dir(&notes).expect("a directory of our own");
    let yaml = format!(
        r#"
        x-service: &service
          image: root_fs
          network_mode: none
          volumes: ["{}:/notes"]
          command: [sh, -c, 'trap "echo $$NAME >> /notes/order; exit 0" TERM; echo "$$NAME is up"; while true; do sleep 0.02; done']
        services:
          a: {{<<: *service, environment: {{NAME: a}}}}
          b: {{<<: *service, environment: {{NAME: b}}, depends_on: [a]}}
          c: {{<<: *service, environment: {{NAME: c}}, depends_on: [b]}}
        "#,
        notes.display()
    );
    (sandbox.project(name, &yaml), notes.join("order"))
}

fn terminal(sandbox: &Sandbox, project: &Project<'_>, arguments: &[&str]) -> Terminal {
    // Known to the sandbox, so that it is taken down in the end
    project.compose(&["ps"]).ok();
    Terminal::start(sandbox, project.directory(), &project.words(arguments))
}

fn one_interrupt_stops_in_reverse_order(sandbox: &Sandbox) {
    let (project, order) = chain(sandbox, "chain");
    let mut terminal = terminal(sandbox, &project, &["up"]);
    terminal.wait_for("c is up");
    terminal.interrupt();
    let (code, screen) = terminal.wait();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(std::fs::read_to_string(order).expect("written"), "c\nb\na\n");
    let containers = project.containers();
    assert!(containers.iter().all(|one| one.state == "exited" && one.exit_code == 0), "{containers:?}");
}

fn two_interrupts_kill(sandbox: &Sandbox) {
    let project = sandbox.project(
        "deaf",
        r#"
        services:
          deaf:
            image: root_fs
            network_mode: none
            stop_grace_period: 1m
            command: [sh, -c, 'trap "echo not yet" TERM; echo listening; while true; do sleep 0.05; done']
        "#,
    );
    let mut terminal = terminal(sandbox, &project, &["up"]);
    terminal.wait_for("listening");
    terminal.interrupt();
    terminal.wait_for("not yet");
    let begun = Instant::now();
    terminal.interrupt();
    let (code, screen) = terminal.wait();
    assert_eq!(code, 130, "{screen}");
    assert!(begun.elapsed() < Duration::from_secs(10), "the second does not wait for the grace period");
    assert_eq!(project.wait_exited("deaf").exit_code, 137);
}

fn a_terminated_client_stops_the_project(sandbox: &Sandbox) {
    let (project, order) = chain(sandbox, "term");
    let mut up = project.spawn(&["up"]);
    up.wait_for_stdout("c is up");
    up.signal(Signal::SIGTERM);
    up.wait().ok().without_panic();
    assert_eq!(std::fs::read_to_string(order).expect("written"), "c\nb\na\n");
}

fn a_killed_client_leaves_the_project_running(sandbox: &Sandbox) {
    let (project, _) = chain(sandbox, "orphaned");
    let mut up = project.spawn(&["up"]);
    up.wait_for_stdout("c is up");
    let before = project.containers();
    up.signal(Signal::SIGKILL);
    assert_eq!(up.wait().code, 137);
    assert_eq!(project.containers(), before);
    // Another client takes its place
    let mut again = project.spawn(&["up"]);
    again.wait_for("all three shown as running", |_, stderr| {
        ["orphaned-a-1", "orphaned-c-1"].iter().all(|name| stderr.contains(name))
    });
    assert_eq!(project.containers(), before);
    again.signal(Signal::SIGINT);
    again.wait().ok();
    assert!(project.containers().iter().all(|one| one.state == "exited"));
}

fn a_lost_terminal_leaves_the_project_running(sandbox: &Sandbox) {
    let (project, _) = chain(sandbox, "hangup");
    let terminal = terminal(sandbox, &project, &["up"]);
    terminal.wait_for("c is up");
    let before = project.containers();
    // As the kernel does it when the other end of the terminal goes
    nix::sys::signal::kill(terminal.pid(), Signal::SIGHUP).expect("the client runs");
    terminal.wait();
    assert_eq!(project.containers(), before);
}

fn up_shows_output_on_a_terminal_with_colour(sandbox: &Sandbox) {
    let (project, _) = chain(sandbox, "colour");
    let mut terminal = terminal(sandbox, &project, &["up"]);
    terminal.wait_for("c is up");
    let screen = terminal.screen();
    assert!(screen.contains("\x1b["), "coloured: {screen:?}");
    let prefixes: Vec<&str> = screen.lines().filter(|line| line.contains("is up")).collect();
    assert!(prefixes.iter().all(|line| line.contains("-1") && line.contains('|')), "{prefixes:?}");
    terminal.interrupt();
    assert_eq!(terminal.wait().0, 0);
}

fn no_color_is_obeyed(sandbox: &Sandbox) {
    let (project, _) = chain(sandbox, "plain");
    sandbox.set_env("NO_COLOR", "1");
    let mut terminal = terminal(sandbox, &project, &["up"]);
    terminal.wait_for("c is up");
    let colours: Vec<String> = sgr_sequences(&terminal.screen());
    assert!(colours.iter().all(|one| one == "\x1b[m" || one == "\x1b[0m"), "{colours:?}");
    terminal.interrupt();
    assert_eq!(terminal.wait().0, 0);
}

/// `ESC [ … m`: what changes colours.
fn sgr_sequences(screen: &str) -> Vec<String> {
    let ends = |rest: &str| rest.find(|letter: char| letter.is_ascii_alphabetic());
    screen
        .match_indices("\x1b[")
        .filter_map(|(at, _)| ends(&screen[at..]).map(|end| screen[at..=at + end].to_owned()))
        .filter(|sequence| sequence.ends_with('m'))
        .collect()
}

fn up_into_a_pipe_that_closes(sandbox: &Sandbox) {
    let (project, _) = chain(sandbox, "pipe");
    project.compose(&["ps"]).ok();
    let script = format!("\"$MYDOCKER\" compose -f {} up 2>err | head -n 1", project.file().display());
    let shown = sandbox.shell(&script).ok();
    assert_eq!(shown.stdout.lines().count(), 1);
    let errors = std::fs::read_to_string(sandbox.dir().join("err")).expect("written");
    assert!(!errors.contains("panicked"), "{errors}");
    // Whether that stopped the project or left it: `down` in the end finds it either way.
    eventually("the client is gone", || {
        let clients = sandbox.shell(&format!(
            "grep -lsz '^up$' /proc/[0-9]*/cmdline | xargs -r grep -lszF {} | wc -l",
            project.file().display()
        ));
        (clients.stdout.trim() == "0").then_some(())
    });
}
