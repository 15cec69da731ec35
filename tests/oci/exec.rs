//! Another process in a container.

use serde_json::json;

use crate::bundle::{Bundle, expect_nothing, oci, state};
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        options_say_who_it_is,
        a_file_says_who_it_is,
        a_detached_process_goes_on,
        words_of_failures,
        users_are_numbers,
        capabilities_are_added,
        a_variable_takes_the_place_of_the_container_s,
        a_cgroup_below_the_container_s_is_joined,
        debugging_tells_the_steps,
    ]
}

/// A container that waits.
fn waiting<'a>(sandbox: &'a Sandbox) -> Bundle<'a> {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "--detach", "web"]).ok();
    bundle
}

fn end(sandbox: &Sandbox) {
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn options_say_who_it_is(sandbox: &Sandbox) {
    waiting(sandbox);
    let script = "id -u; id -g; id -G; pwd; echo $A; hostname; exit 7";
    let options = ["exec", "--user", "5:6", "--additional-gids", "8", "--cwd", "/tmp", "--env", "A=b", "web"];
    let output = oci(sandbox, &[&options[..], &["sh", "-c", script]].concat()).expect_code(7);
    assert_eq!(output.stdout, "5\n6\n6 8\n/tmp\nb\nbox\n");
    // After the id, and behind `--`.
    let output = oci(sandbox, &["exec", "web", "-u", "5", "--", "id", "-u"]).ok();
    assert_eq!(output.stdout, "5\n");
    let output = sandbox.shell("printf 'a\\0b' | $MYDOCKER oci exec web cat | od -c | head -1").ok();
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["0000000", "a", "\\0", "b"]);
    end(sandbox);
}

fn a_variable_takes_the_place_of_the_container_s(sandbox: &Sandbox) {
    waiting(sandbox);
    let output = oci(sandbox, &["exec", "--env", "TERM=dumb", "--env", "A=b=c", "web", "env"]).ok();
    let lines = |name: &str| output.stdout.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    assert_eq!((lines("TERM="), lines("A=")), (vec!["TERM=dumb"], vec!["A=b=c"]), "{}", output.describe());
    assert_eq!(lines("HOME=").len(), 1, "{}", output.describe());
    end(sandbox);
}

fn a_cgroup_below_the_container_s_is_joined(sandbox: &Sandbox) {
    waiting(sandbox);
    let below = sandbox.cgroups().into_iter().find(|dir| dir.ends_with("web")).unwrap().join("below");
    std::fs::create_dir(&below).unwrap();
    let output = oci(sandbox, &["exec", "--cgroup", "below", "web", "cat", "/proc/self/cgroup"]).ok();
    let joined = output.stdout.lines().filter(|line| line.ends_with("/web/below")).count();
    assert_eq!(joined, 1, "{}", output.describe());
    for (bad, words) in [("nosuch", "no such cgroup"), ("../web", "`..` components"), ("below/..", "`..` components")] {
        oci(sandbox, &["exec", "--cgroup", bad, "web", "true"]).refused(125, &[bad, words]);
    }
    std::fs::remove_dir(&below).unwrap();
    end(sandbox);
}

fn a_file_says_who_it_is(sandbox: &Sandbox) {
    waiting(sandbox);
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $A; exit 9"], "cwd": "/tmp", "env": ["PATH=/bin", "A=c"],
        "user": { "uid": 7, "gid": 8 },
    });
    let file = sandbox.dir().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let output = oci(sandbox, &["exec", "--process", file.to_str().unwrap(), "web"]).expect_code(9);
    assert_eq!(output.stdout, "7\n/tmp\nc\n");
    std::fs::write(&file, "{").unwrap();
    oci(sandbox, &["exec", "-p", file.to_str().unwrap(), "web"]).refused(125, &["parse", "process.json"]);
    oci(sandbox, &["exec", "-p", "/nosuch", "web"]).refused(125, &["open /nosuch", "no such file or directory"]);
    oci(sandbox, &["exec", "web"]).refused(125, &["no command"]);
    end(sandbox);
}

fn a_detached_process_goes_on(sandbox: &Sandbox) {
    waiting(sandbox);
    let file = sandbox.dir().join("pid");
    let words = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), "web", "sleep", "301"];
    oci(sandbox, &words).ok();
    let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, "sleep\u{0}301\u{0}");
    assert_eq!(sandbox.processes().len(), 2, "nothing of ours stays");
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    eventually("it goes with its container", || sandbox.processes().is_empty().then_some(()));
    end(sandbox);
}

fn words_of_failures(sandbox: &Sandbox) {
    waiting(sandbox);
    for (program, code, words) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/bin/nosuch", 127, "/bin/nosuch: no such file or directory"),
        ("/etc", 126, "/etc: permission denied"),
        ("/etc/passwd", 126, "/etc/passwd: permission denied"),
    ] {
        oci(sandbox, &["exec", "web", program]).refused(code, &[words]);
        let log = sandbox.dir().join(format!("log-{code}"));
        let words_of_log = ["--log", log.to_str().unwrap(), "--log-format", "json", "exec", "--detach", "web", program];
        oci(sandbox, &words_of_log).refused(1, &[words]);
        let text = std::fs::read_to_string(&log).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(
            last["msg"].as_str().unwrap().contains(words) && last["time"].as_str().unwrap().ends_with('Z'),
            "{text}"
        );
    }
    assert_eq!(state(sandbox, "web")["status"], "running");
    end(sandbox);
}

fn users_are_numbers(sandbox: &Sandbox) {
    waiting(sandbox);
    for bad in ["1000x", "root", "-1", "4294967295", "1:2:3", ""] {
        let option = format!("--user={bad}");
        oci(sandbox, &["exec", &option, "web", "true"]).refused(2, &["UID"]);
    }
    oci(sandbox, &["exec", "--user", "4294967294", "web", "true"]).ok();
    end(sandbox);
}

fn capabilities_are_added(sandbox: &Sandbox) {
    waiting(sandbox);
    let effective = |words: &[&str]| {
        let line =
            oci(sandbox, &[&["exec"], words, &["web", "grep", "CapEff", "/proc/self/status"]].concat()).ok().stdout;
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let before = effective(&[]);
    assert_eq!(effective(&["--cap", "CAP_FOWNER", "--cap", "fsetid"]), before | 1 << 3 | 1 << 4);
    oci(sandbox, &["exec", "--cap", "CAP_NOSUCH", "web", "true"]).refused(125, &["CAP_NOSUCH"]);
    end(sandbox);
}

fn debugging_tells_the_steps(sandbox: &Sandbox) {
    let bundle = waiting(sandbox);
    let affinity = json!({ "initial": "0" });
    let process = json!({ "args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "execCPUAffinity": affinity });
    let file = bundle.dir.join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let words = ["exec", "--process", file.to_str().unwrap(), "web"];
    assert_eq!(oci(sandbox, &words).ok().stderr, "");
    let told = oci(sandbox, &[&["--debug"], &words[..]].concat()).ok().stderr;
    assert!(told.contains("debug: run on the processors [0], affinity: 0x1\n"), "{told}");
    assert!(told.contains("debug: execute [\"true\"]\n"), "{told}");
    end(sandbox);
}
