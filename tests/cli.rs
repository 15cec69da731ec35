//! What only the binary can show: exit codes, streams, closed descriptors.

#![expect(clippy::unwrap_used, reason = "a test: the panic is the message")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_mydocker");

fn mydocker(words: &[&str]) -> Output {
    Command::new(BINARY).args(words).env_remove("RUST_BACKTRACE").stdin(Stdio::null()).output().unwrap()
}

fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// Runs a line of sh(1) in which `$M` is the binary.
fn shell(line: &str) -> Output {
    Command::new("/bin/sh").args(["-c", line]).env("M", BINARY).output().unwrap()
}

#[test]
fn usage_errors_have_the_family_s_code_the_nearest_word_and_a_pointer_to_help() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["compse"], 2, "did you mean `compose`?"),
        (&["compose", "up", "--dettach"], 2, "`mydocker compose up --help`"),
        (&["compose"], 2, "`mydocker compose --help`"),
        (&["run", "--memry", "1m"], 125, "did you mean `--memory`?"),
        (&["compose", "exec", "--usr", "x"], 125, "did you mean `--user`?"),
        (&["-U", "/bin/true"], 125, "`-a`"),
        (&["-a"], 125, "no command"),
        (&["-ac", "-M", "5x", "/bin/true"], 125, "1 to 4294967296"),
    ];
    for (words, code, part) in cases {
        let output = mydocker(words);
        let (found, text) = told(&output);
        assert_eq!(found, *code, "{words:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains("\nhint: ") && text.contains(part), "{words:?}: {text}");
        assert!(output.stdout.is_empty());
    }
    let bad = Command::new(BINARY).arg(OsStr::from_bytes(b"compose\xff")).output().unwrap();
    assert!(told(&bad).1.contains("not valid UTF-8"), "{bad:?}");
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn help_is_for_stdout_and_has_the_ancestor_s_form() {
    for words in [&["-h"][..], &["--help"], &["-a", "-h"]] {
        let output = mydocker(words);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!((told(&output).0, &told(&output).1[..]), (0, ""));
        for part in ["-U", "1-4294967296", "1073741824", "1-100", "25", "10-32768", "64", "10-1000"] {
            assert!(text.contains(part), "{words:?} lacks {part}: {text}");
        }
    }
}

#[test]
fn a_reader_that_is_gone_is_a_quiet_end() {
    let output = shell("{ \"$M\" --help; echo $? >&3; } 3>&2 2>/dev/null | true; exit 0");
    let code = String::from_utf8(output.stderr).unwrap();
    assert!(["0\n", "141\n"].contains(&&code[..]), "{code}");
    let output = shell("exec 3>&1; \"$M\" version >/dev/full; echo $? >&3");
    assert_eq!(output.stdout, b"1\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("No space left"));
}

#[test]
fn closed_standard_streams_are_null_devices_from_the_start() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        // A file opened by us must not become fd 0, 1 or 2: all three exist, and are /dev/null where they were closed.
        let output = shell(&format!("\"$M\" version {closed}; echo $?"));
        assert!(output.stdout.ends_with(b"0\n"), "{closed}: {output:?}");
        let output = shell(&format!("\"$M\" compse {closed}; echo $?"));
        assert!(output.stdout.ends_with(b"2\n"), "{closed}: {output:?}");
    }
}

const WITH_VARIABLES: &str = r#"
name: v
services:
  a:
    image: ${IMAGE:-root_fs}
    command: echo $$HOME ${X} ${Y:?why} ${Z:+alt${W-w}}
    ports: ["${PORT:-8080}:80"]
    tty: ${TTY:-false}
    volumes: ["./data:/data"]
    depends_on: [nosuch]
    env_file: missing.env
"#;

/// Runs `compose config` on [`WITH_VARIABLES`] in a directory of its own, with one variable set.
fn config(options: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("compose.yaml"), WITH_VARIABLES).unwrap();
    let output = Command::new(BINARY)
        .args(["compose", "config"])
        .args(options)
        .current_dir(directory.path())
        .env_clear()
        .env("Y", "yes")
        .output()
        .unwrap();
    let (code, errors) = told(&output);
    (code, String::from_utf8(output.stdout).unwrap(), errors)
}

#[test]
fn config_shows_a_file_before_each_phase() {
    let (code, _, errors) = config(&[]);
    assert_eq!(code, 2);
    assert!(errors.contains("`nosuch`") && errors.contains("missing.env"), "{errors}");
    let (code, text, _) = config(&["--no-normalize", "--no-consistency"]);
    assert_eq!(code, 0);
    // It can be read again: the dollar that is meant as such is written as such.
    assert!(text.contains("- $$HOME\n") && text.contains("- yes\n") && text.contains("- path: /"), "{text}");
    assert!(!text.contains("networks:"), "nothing is filled in: {text}");
    let raw = ["--no-interpolate", "--no-normalize", "--no-consistency", "--no-path-resolution"];
    let (code, text, errors) = config(&raw);
    assert_eq!((code, &errors[..]), (0, ""));
    for part in [
        "echo $$HOME ${X} ${Y:?why}",
        "- ${PORT:-8080}:80",
        "tty: ${TTY:-false}",
        "source: ./data",
        "path: missing.env",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(config(&[&raw[..], &["-o", path]].concat()), (0, String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    assert_eq!(config(&[&raw[..], &["-o", "/nonexistent/x"]].concat()).0, 1);
}

#[test]
fn config_lists_variables() {
    let (code, text, _) = config(&["--variables"]);
    let expected = "\
NAME    REQUIRED   DEFAULT VALUE   ALTERNATE VALUE
IMAGE   false      root_fs
PORT    false      8080
TTY     false      false
W       false      w
X       false
Y       true
Z       false                      alt${W-w}
";
    assert_eq!((code, &text[..]), (0, expected));
    let (code, text, _) = config(&["--environment"]);
    assert_eq!((code, &text[..]), (0, "COMPOSE_PROJECT_NAME=v\nY=yes\n"));
}
