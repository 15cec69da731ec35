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

/// Runs a command of `compose` on files of the current directory, in an environment of its own.
fn on_files(files: &[(&str, &str)], words: &[&str], policy: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc", directory.path().join("link")).unwrap();
    let run = directory.path().join("run");
    let output = Command::new(BINARY)
        .args(["compose", "-p", "risky"])
        .args(words)
        .current_dir(directory.path())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("MYDOCKER_POLICY", policy)])
        .env("MYDOCKER_RUN_DIR", &run)
        .env("MYDOCKER_DATA_DIR", directory.path().join("state"))
        .output()
        .unwrap();
    assert!(!run.exists() && !directory.path().join("state").exists(), "nothing is made");
    let (code, errors) = told(&output);
    (code, String::from_utf8(output.stdout).unwrap(), errors)
}

const RISKY: &str = "services:
  web: {image: root_fs, command: [x], privileged: true, depends_on: [db]}
  db:
    image: root_fs
    command: [x]
    volumes: [\"./link/cron.d:/c\", \"./data:/d\"]
  plain: {image: root_fs, command: [x], ports: [\"8080:80\"]}
";
const SOUND: &str = "services: {web: {image: root_fs, command: [x], volumes: [\"./data:/d\"]}}\n";

#[test]
fn config_lists_risks() {
    let files = [("compose.yaml", RISKY)];
    let (code, text, errors) = on_files(&files, &["config", "--risks"], "");
    assert_eq!((code, &errors[..]), (0, ""));
    let first: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(first.len(), 3, "{text}");
    assert_eq!(first[0], "high: compose.yaml:2:51: web: privileged");
    assert!(
        first[1].starts_with("high: compose.yaml:6:15: db: bind of ")
            && first[1].contains("a link to /etc/cron.d, writable")
    );
    assert_eq!(first[2], "low: compose.yaml:7:49: plain: port 8080 for 80 on all addresses");
    let (code, text, _) = on_files(&files, &["config", "--risks", "--format", "json", "web"], "");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let services: Vec<&str> = json.as_array().unwrap().iter().map(|risk| risk["service"].as_str().unwrap()).collect();
    assert_eq!((code, &services[..]), (0, &["web", "db"][..]), "what is named, with all it depends on");
    assert_eq!((&json[0]["line"], &json[0]["key"]), (&2.into(), &"services.web.privileged".into()));
    let none = on_files(&[("compose.yaml", SOUND)], &["config", "--risks"], "strict");
    assert_eq!(none, (0, String::new(), "no risks found\n".to_owned()));
    // The list is for those who are refused, too.
    let (code, text, errors) = on_files(&files, &["config", "--risks", "--policy", "strict"], "");
    assert!(
        code == 2 && text.contains("low: ") && errors.contains("compose.yaml:2:51: error: the policy `strict`"),
        "{errors}"
    );
}

#[test]
fn the_strict_policy_refuses_what_takes_over_the_host() {
    let own = format!("x-mydocker: {{policy: strict}}\n{RISKY}");
    let loose = "x-mydocker: {policy: warn}\nservices: {db: {tty: true}}\n";
    let risky = [("compose.yaml", RISKY)];
    let strict = [("compose.yaml", &own[..]), ("compose.override.yaml", loose)];
    for (files, words, policy) in [
        (&risky[..], &["up", "-d", "--policy", "strict"][..], ""),
        (&risky, &["up", "-d", "--policy", "strict"], "warn"),
        (&risky, &["up", "-d"], "strict"),
        (&risky, &["up", "-d", "--policy", "warn"], "STRICT"),
        (&risky, &["up", "--no-start", "web"], "strict"),
        (&risky, &["config", "--policy", "strict"], ""),
        (&risky, &["config", "-q"], "strict"),
        (&strict, &["up", "-d"], "warn"),
        (&strict, &["config"], ""),
    ] {
        let (code, text, errors) = on_files(files, words, policy);
        assert_eq!((code, &text[..]), (2, ""), "{words:?} {errors}");
        assert_eq!(errors.matches(": error: the policy `strict` refuses ").count(), 2, "{words:?} {errors}");
        assert!(errors.contains("services.web.privileged") && errors.contains("services.db.volumes[0]"), "{errors}");
    }
    let (code, text, errors) = on_files(&[("compose.yaml", SOUND)], &["config", "--policy", "strict"], "strict");
    assert!(code == 0 && text.contains("services:"), "{errors}");
    assert_eq!(on_files(&risky, &["config", "plain"], "strict").0, 0, "what is not meant is not made");
    assert_eq!(on_files(&risky, &["config"], "").0, 0);
    // A policy that cannot be read is no policy that is passed over.
    for (files, words, policy, word) in [
        (&risky[..], &["config"][..], "strickt", "MYDOCKER_POLICY cannot be `strickt`"),
        (&risky, &["config", "--policy", "lax"], "", "lax"),
        (
            &[("compose.yaml", "x-mydocker: {polcy: strict}\nservices: {web: {image: x}}")],
            &["config"],
            "",
            "did you mean `policy`?",
        ),
        (
            &[("compose.yaml", "x-mydocker: {policy: none}\nservices: {web: {image: x}}")],
            &["config"],
            "",
            "`strict` and `warn`",
        ),
    ] {
        let (code, _, errors) = on_files(files, words, policy);
        assert!(code == 2 && errors.contains(word), "{errors}");
    }
}
