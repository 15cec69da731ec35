//! What services write and what is shown of it.

use crate::support::{Case, Sandbox, Terminal, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        control_characters_stay_off_the_terminal,
        bytes_pass_as_they_are_elsewhere,
        no_line_is_lost_or_mixed,
        long_lines_and_partial_lines,
        stderr_is_shown_too,
        a_slow_reader_hurts_nobody,
        logs_of_two_services_merge_by_time,
        a_container_that_closes_its_output_lives,
        logs_stay_until_down,
    ]
}

/// A terminal with `logs` of a project whose one service writes `printf` of `text`.
fn shown_on_a_terminal(sandbox: &Sandbox, text: &str) -> String {
    let yaml = format!("\n services:\n  svc: {{image: root_fs, network_mode: none, command: [printf, '{text}']}}\n");
    let project = sandbox.project("shown", &yaml);
    project.up();
    project.wait_exited("svc");
    let terminal = Terminal::start(sandbox, project.directory(), &project.words(&["logs"]));
    let (code, screen) = terminal.wait();
    assert_eq!(code, 0, "{screen}");
    project.down();
    screen
}

fn control_characters_stay_off_the_terminal(sandbox: &Sandbox) {
    // B56: OSC title, alternate screen, clear, cursor moves, bracketed paste, BEL, NUL, C1 controls, invalid UTF-8
    let text = r"\033]0;owned\007A\033[?1049hB\033[2JC\033[1;1HD\033[?2004hE\007F\000G\233HI\377J\n";
    let screen = shown_on_a_terminal(sandbox, text);
    for forbidden in ["\x1b]", "\x1b[?1049h", "\x1b[2J", "\x1b[1;1H", "\x1b[?2004h", "\x07", "\0", "\u{9b}"] {
        assert!(!screen.contains(forbidden), "{forbidden:?} reached the terminal: {screen:?}");
    }
    for letter in ["A", "B", "C", "D", "E", "F", "G", "H", "J"] {
        assert!(screen.contains(letter), "the text itself is shown: {letter} in {screen:?}");
    }
    // Colours pass, and end with the line
    let screen = shown_on_a_terminal(sandbox, r"\033[31mred\nnext\n");
    assert!(screen.contains("\x1b[31mred"), "{screen:?}");
    let after = screen.split("red").nth(1).unwrap_or_default();
    assert!(after.starts_with("\x1b[0m") || after.starts_with("\x1b[m"), "the colour ends with its line: {screen:?}");
    // A carriage return cannot write over the prefix, a line cannot pretend to be another service's
    let screen = shown_on_a_terminal(sandbox, r"real\rdb-1  | fake\n");
    assert!(!screen.contains("\rdb-1"), "{screen:?}");
    assert_eq!(
        screen
            .lines()
            .filter(|line| line.trim_start_matches(|letter: char| letter != 's').starts_with("svc-1"))
            .count(),
        1,
        "{screen:?}"
    );
}

fn bytes_pass_as_they_are_elsewhere(sandbox: &Sandbox) {
    let yaml =
        "\n services:\n  svc: {image: root_fs, network_mode: none, command: [printf, 'a\\033]0;t\\007b\\rc\\n']}\n";
    let project = sandbox.project("bytes", yaml);
    project.up();
    project.wait_exited("svc");
    let shown = project.compose(&["logs", "--no-log-prefix"]).ok().stdout;
    assert_eq!(shown, "a\x1b]0;t\x07b\rc\n");
}

fn no_line_is_lost_or_mixed(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, network_mode: none}
        services:
          a: {<<: *s, command: [sh, -c, 'seq -f "a%g." 1 20000']}
          b: {<<: *s, command: [sh, -c, 'seq -f "b%g." 1 20000 >&2']}
          c: {<<: *s, command: [sh, -c, 'i=0; while [ $$i -lt 2000 ]; do i=$$((i + 1)); echo "c$$i."; done']}
    "#;
    let project = sandbox.project(
        "lines",
        &yaml
            .replace("seq -f \"a%g.\" 1 20000", "seq 1 20000 | sed s/^/a/")
            .replace("seq -f \"b%g.\" 1 20000 >&2", "seq 1 20000 | sed s/^/b/ >&2"),
    );
    let up = project.compose(&["up", "--no-color"]).ok();
    let logs = project.logs();
    for (what, text) in [("up", &up.stdout), ("logs", &logs)] {
        for (service, count, end) in [("a", 20_000, ""), ("b", 20_000, ""), ("c", 2_000, ".")] {
            let prefix = format!("{service}-1  | {service}");
            let numbers: Vec<u32> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .map(|number| {
                    number
                        .strip_suffix(end)
                        .and_then(|number| number.parse().ok())
                        .unwrap_or_else(|| panic!("a mixed line in {what}: {number:?}"))
                })
                .collect();
            assert_eq!(numbers, (1..=count).collect::<Vec<u32>>(), "{what} of {service}");
        }
    }
}

fn long_lines_and_partial_lines(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          long: {image: root_fs, network_mode: none, command: [sh, -c, 'head -c 1000000 /dev/zero | tr "\0" x; echo; echo after']}
          prompt: {image: root_fs, init: true, network_mode: none, command: [sh, -c, 'printf "name? "; exec sleep infinity']}
    "#;
    let project = sandbox.project("long", yaml);
    project.up();
    project.wait_exited("long");
    let shown = project.compose(&["logs", "--no-log-prefix", "long"]).ok().stdout;
    assert_eq!(shown.len(), 1_000_000 + "\nafter\n".len());
    assert!(shown.lines().next().is_some_and(|line| line.len() == 1_000_000 && line.bytes().all(|byte| byte == b'x')));
    // A prompt without a line's end shows
    project.wait_for_log("name? ");
}

fn stderr_is_shown_too(sandbox: &Sandbox) {
    let project = sandbox.project(
        "streams",
        "\n services:\n  svc: {image: root_fs, network_mode: none, command: [sh, -c, 'echo out; echo err >&2; echo /dev/stderr > /dev/stderr']}\n",
    );
    let up = project.compose(&["up", "--no-color"]).ok();
    for text in ["svc-1  | out\n", "svc-1  | err\n", "svc-1  | /dev/stderr\n"] {
        assert!(up.stdout.contains(text), "{text:?}: {}", up.describe());
    }
}

fn a_slow_reader_hurts_nobody(sandbox: &Sandbox) {
    // F23: the pipe fills and stays full
    let project = sandbox.project(
        "slow",
        r#"
        services:
          loud: {image: root_fs, init: true, network_mode: none, command: [sh, -c, 'yes | head -n 500000; echo finished; exec sleep infinity']}
        "#,
    );
    project.up();
    let file = project.file().display().to_string();
    let reader = sandbox.spawn_shell(&format!("\"$MYDOCKER\" compose -f {file} logs -f | sleep 60"));
    eventually("the service is not held up", || {
        let tail = project.compose(&["logs", "--tail", "1", "--no-log-prefix"]).ok().stdout;
        tail.contains("finished").then_some(())
    });
    for pid in sandbox.processes() {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.contains("logs\0-f") || line.starts_with("sleep\x0060") {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        }
    }
    drop(reader);
}

fn logs_of_two_services_merge_by_time(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          a: {image: root_fs, network_mode: none, command: [sh, -c, 'echo 1; sleep 0.4; echo 3; sleep 0.4; echo 5']}
          b: {image: root_fs, network_mode: none, command: [sh, -c, 'sleep 0.2; echo 2; sleep 0.4; echo 4']}
    "#;
    let project = sandbox.project("merge", yaml);
    project.up();
    project.wait_exited("a");
    project.wait_exited("b");
    let stamped = project.compose(&["logs", "-t", "--no-color"]).ok().stdout;
    let times: Vec<&str> = stamped.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(times.len(), 5, "{stamped}");
    assert!(times.is_sorted(), "{stamped}");
}

fn a_container_that_closes_its_output_lives(sandbox: &Sandbox) {
    // F21
    let project = sandbox.project(
        "quiet",
        r#"
        services:
          svc: {image: root_fs, network_mode: none, command: [sh, -c, 'echo last words; exec >&- 2>&-; sleep 0.5; exit 6']}
        "#,
    );
    project.up();
    project.wait_for_log("last words");
    assert_eq!(project.wait_exited("svc").exit_code, 6);
}

fn logs_stay_until_down(sandbox: &Sandbox) {
    let project =
        sandbox.project("stay", "\n services:\n  svc: {image: root_fs, network_mode: none, command: [echo, words]}\n");
    project.up();
    let id = project.wait_exited("svc").id;
    let full = std::fs::read_dir(sandbox.data_dir().join("containers"))
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with(&id));
    let log = sandbox.data_dir().join("containers").join(full.expect("its directory")).join("log");
    let text = std::fs::read_to_string(&log).expect("where it is documented");
    let fields: Vec<&str> = text.trim_end().splitn(4, ' ').collect();
    assert_eq!(&fields[1..], ["stdout", "F", "words"], "CRI: {text}");
    assert!(fields[0].len() == 30 && fields[0].ends_with('Z'), "{text}");
    project.down();
    assert!(!log.exists());
    assert_eq!(project.compose(&["logs"]).ok().stdout, "");
}
