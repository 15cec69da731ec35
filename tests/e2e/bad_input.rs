//! Files and command lines that are wrong: refused in under two seconds with exit code 2, every fault named with its place, and
//! nothing created.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use crate::support::{Case, MYDOCKER, Output, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        files_that_are_none,
        files_without_services,
        yaml_that_is_none,
        keys_that_are_unknown_or_twice,
        wrong_types,
        all_errors_of_a_file_at_once,
        dependencies_that_cannot_be,
        names_that_are_none,
        interpolation,
        images_that_there_are_none_of,
        signals_and_grace_periods,
        restart_policies_that_are_none,
        ports_that_are_none,
        empty_commands,
        keys_that_are_not_acted_on,
        command_lines,
    ]
}

/// `up -d` of a file with this text. Its name is short, so that `file:line:column` is easy to look for.
fn up(sandbox: &Sandbox, text: &str) -> Output {
    std::fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "up", "-d"])
}

/// A service `web` with one more key, on line 4 at column 5.
fn with(sandbox: &Sandbox, key: &str) -> Output {
    up(
        sandbox,
        &format!(
            "services:\n  web:\n    image: root_fs\n    {key}\n    command: [sleep, '9']\n    network_mode: none\n"
        ),
    )
}

fn files_that_are_none(sandbox: &Sandbox) {
    let at = |file: &str| sandbox.mydocker(&["compose", "-f", file, "up", "-d"]);
    at("nosuch.yaml").refused(2, &["nosuch.yaml"]); // B01
    at("/").refused(2, &["/", "directory"]);
    sandbox.shell("mkfifo fifo").ok();
    at("fifo").refused(2, &["fifo"]);
    at("/dev/zero").refused(2, &["/dev/zero"]);
    sandbox.shell("head -c 100m /dev/zero | tr '\\0' '#' > huge.yaml").ok();
    at("huge.yaml").refused(2, &["huge.yaml"]);
    sandbox.mydocker(&["compose", "up", "-d"]).refused(2, &["compose.yaml"]);
}

fn files_without_services(sandbox: &Sandbox) {
    for text in ["", "# nothing\n", "services:\n", "services: {}\n", "---\n", "version: '3'\n"] {
        up(sandbox, text).refused(2, &["service"]); // B02
    }
}

fn yaml_that_is_none(sandbox: &Sandbox) {
    up(sandbox, "services:\n  web: [unclosed\n").refused(2, &["f.yaml:"]);
    up(sandbox, "services:\n\tweb: {}\n").refused(2, &["f.yaml:2"]);
    up(sandbox, "just words\n").refused(2, &["f.yaml:1:1"]);
    up(sandbox, "services: &a\n  web: *nosuch\n").refused(2, &["f.yaml:2"]);
    up(sandbox, "services: &a\n  web: *a\n").refused(2, &["f.yaml:"]).without_panic();
    let deep = format!("services: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    up(sandbox, &deep).refused(2, &["f.yaml:1"]);
    // Nine aliases of nine aliases …: a kilobyte that would be a gigabyte
    let bomb: String =
        (1..10).map(|n| format!("x-{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    up(sandbox, &format!("x-0: &a0 [lol]\n{bomb}services:\n  web: {{image: root_fs, command: *a9}}\n"))
        .refused(2, &["f.yaml"]);
    up(sandbox, "services:\n  web: {image: root_fs}\n\0\u{1}").refused(2, &["f.yaml"]);
    std::fs::write(sandbox.dir().join("latin.yaml"), b"services:\n  w\xfcb: {image: root_fs}\n").expect("our own");
    sandbox.mydocker(&["compose", "-f", "latin.yaml", "up", "-d"]).refused(2, &["latin.yaml"]);
}

fn keys_that_are_unknown_or_twice(sandbox: &Sandbox) {
    // B04: the place, the nearest known key, the path
    with(sandbox, "imgae: x").refused(2, &["f.yaml:4:5", "imgae", "image", "services.web"]);
    with(sandbox, "hostnme: x").refused(2, &["f.yaml:4:5", "hostname"]);
    with(sandbox, "image: twice").refused(2, &["f.yaml:4:5", "image", "twice"]);
    up(sandbox, "servces:\n  web: {image: root_fs}\n").refused(2, &["f.yaml:1:1", "services"]);
    up(sandbox, "services:\n  web: {image: root_fs}\nnetworks:\n  n: {drvier: bridge}\n")
        .refused(2, &["f.yaml:4:7", "driver"]);
    let extended =
        "x-mine: {any: thing}\nservices:\n  web: {image: root_fs, x-own: 1, network_mode: none, command: ['true']}\n";
    up(sandbox, extended).ok();
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "down"]).ok();
}

fn wrong_types(sandbox: &Sandbox) {
    // B05
    with(sandbox, "ports: '80:80'").refused(2, &["f.yaml:4:12", "services.web.ports", "list"]);
    with(sandbox, "deploy: {replicas: two}").refused(2, &["f.yaml:4:24", "replicas", "number"]);
    up(sandbox, "services:\n  web:\n    image: root_fs\n    command: {a: b}\n").refused(2, &["f.yaml:4:14", "command"]);
    with(sandbox, "environment: 5").refused(2, &["f.yaml:4:18", "environment"]);
    with(sandbox, "init: maybe").refused(2, &["f.yaml:4:11", "init"]);
    with(sandbox, "mem_limit: 6mm").refused(2, &["f.yaml:4:16", "mem_limit"]);
    with(sandbox, "cpus: lots").refused(2, &["f.yaml:4:11", "cpus"]);
    up(sandbox, "services: [web]\n").refused(2, &["f.yaml:1:11", "services"]);
    up(sandbox, "services:\n  web: text\n").refused(2, &["f.yaml:2:8", "services.web"]);
}

fn all_errors_of_a_file_at_once(sandbox: &Sandbox) {
    let text = "services:\n  web:\n    imgae: a\n    restart: sometimes\n  db:\n    image: root_fs\n    ports: 5\n    depends_on: [nosuch]\n";
    let told = up(sandbox, text).refused(2, &["f.yaml:3:5", "f.yaml:4:14", "f.yaml:7:12", "nosuch"]);
    assert!(told.stderr.contains('^'), "a caret below the place: {}", told.stderr);
    assert!(told.stderr.contains("restart: sometimes"), "the line itself: {}", told.stderr);
}

fn dependencies_that_cannot_be(sandbox: &Sandbox) {
    // B07
    let service =
        |name: &str, needs: &str| format!("  {name}: {{image: root_fs, command: ['true'], depends_on: [{needs}]}}\n");
    let cycle = format!("services:\n{}{}{}", service("a", "b"), service("b", "c"), service("c", "a"));
    let told = up(sandbox, &cycle).refused(2, &["cycle"]);
    assert!(told.stderr.contains("a → b → c → a") || told.stderr.contains("a -> b -> c -> a"), "{}", told.stderr);
    up(sandbox, &format!("services:\n{}", service("a", "a"))).refused(2, &["a"]);
    up(sandbox, &format!("services:\n{}", service("a", "nosuch"))).refused(2, &["nosuch", "f.yaml:2"]);
    with(sandbox, "depends_on: {web2: {condition: service_sometimes}}").refused(2, &["service_sometimes"]);
    with(sandbox, "networks: [nosuch]").refused(2, &["nosuch"]);
    with(sandbox, "volumes: ['nosuch:/data']").refused(2, &["nosuch"]);
}

fn names_that_are_none(sandbox: &Sandbox) {
    // B13, B14
    let long = "x".repeat(300);
    for name in ["../x", "a/b", "-rf", "", &long, "wörter", "a\\x1b[31m"] {
        let told = up(sandbox, &format!("services:\n  \"{name}\": {{image: root_fs, command: ['true']}}\n"))
            .refused(2, &["f.yaml:2"]);
        assert!(!told.stderr.contains('\x1b'), "escape codes of a file reach no terminal: {:?}", told.stderr);
    }
    for name in ["../../etc", "a b", ""] {
        with(sandbox, &format!("container_name: '{name}'")).refused(2, &["container_name"]);
    }
    let good = "services:\n  web: {image: root_fs, network_mode: none, command: ['true']}\n";
    std::fs::write(sandbox.dir().join("f.yaml"), good).expect("our own");
    for project in ["../x", "UPPER!", "-a", "a/b", "\u{1b}[31m"] {
        sandbox.mydocker(&["compose", "-p", project, "-f", "f.yaml", "up", "-d"]).expect_code(2).without_panic();
    }
}

fn interpolation(sandbox: &Sandbox) {
    with(sandbox, "hostname: ${HOST_NAME:?say which}").refused(2, &["f.yaml:4", "HOST_NAME", "say which"]);
    with(sandbox, "hostname: ${unclosed").refused(2, &["f.yaml:4:15"]);
    with(sandbox, "hostname: ${}").refused(2, &["f.yaml:4:15"]);
    let nested = format!("{}x{}", "${A:-".repeat(100), "}".repeat(100));
    with(sandbox, &format!("hostname: {nested}")).without_panic();
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "down"]);
    std::fs::write(
        sandbox.dir().join("f.yaml"),
        "services:\n  web: {image: root_fs, command: [echo, '$$HOME ${A:-${B:-c}} ${A-d}']}\n",
    )
    .expect("our own");
    let shown = sandbox.mydocker(&["compose", "-f", "f.yaml", "config", "--format", "json"]).ok().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let word = shown["services"]["web"]["command"][1].as_str().unwrap_or_default().replace("$$", "$");
    assert_eq!(word, "$HOME c d");
}

fn images_that_there_are_none_of(sandbox: &Sandbox) {
    // What works is named.
    up(sandbox, "services:\n  web: {image: 'nginx:latest'}\n")
        .refused(2, &["nginx:latest", "root_fs", "rootfs:", "f.yaml:2:16"]);
    up(sandbox, "services:\n  web: {command: ['true']}\n").refused(2, &["web", "image"]);
    up(sandbox, "services:\n  web: {build: .}\n").expect_code(2).without_panic();
    up(sandbox, "services:\n  web: {image: 'rootfs:'}\n").refused(2, &["rootfs:"]);
}

fn signals_and_grace_periods(sandbox: &Sandbox) {
    // B40
    for signal in ["SIGFOO", "'0'", "'65'", "''"] {
        with(sandbox, &format!("stop_signal: {signal}")).refused(2, &["f.yaml:4:18", "stop_signal"]);
    }
    for period in ["-1s", "'5'", "1x", "soon"] {
        with(sandbox, &format!("stop_grace_period: {period}")).refused(2, &["f.yaml:4:24", "stop_grace_period"]);
    }
    for signal in ["SIGUSR1", "usr1", "TERM", "'9'", "SIGRTMIN+3"] {
        std::fs::write(
            sandbox.dir().join("f.yaml"),
            format!("services:\n  web: {{image: root_fs, command: ['true'], stop_signal: {signal}}}\n"),
        )
        .expect("our own");
        sandbox.mydocker(&["compose", "-f", "f.yaml", "config", "-q"]).ok();
    }
}

fn restart_policies_that_are_none(sandbox: &Sandbox) {
    // B41
    for policy in ["on-failure:-1", "on-failure:x", "sometimes", "always:3"] {
        with(sandbox, &format!("restart: {policy}")).refused(2, &["f.yaml:4:14", "restart"]);
    }
    for policy in ["no", "'no'", "always", "on-failure", "on-failure:3", "unless-stopped"] {
        std::fs::write(
            sandbox.dir().join("f.yaml"),
            format!("services:\n  web: {{image: root_fs, command: ['true'], restart: {policy}}}\n"),
        )
        .expect("our own");
        sandbox.mydocker(&["compose", "-f", "f.yaml", "config", "-q"]).ok();
    }
}

fn ports_that_are_none(sandbox: &Sandbox) {
    let port = |text: &str| {
        up(
            sandbox,
            &format!("services:\n  web:\n    image: root_fs\n    command: ['true']\n    ports:\n      - {text}\n"),
        )
    };
    for text in [
        "'0:80'",
        "'80:65536'",
        "'80:-1'",
        "'80-90:80-85'",
        "'80:80; -j ACCEPT'",
        "'0.0.0.0/0 -j:80:80'",
        "'a:b'",
        "''",
    ] {
        port(text).refused(2, &["f.yaml:6:9", "services.web.ports[0]"]);
    }
    port("'1-65535:1-65535'").refused(2, &["f.yaml:6:9", "65535"]);
}

fn empty_commands(sandbox: &Sandbox) {
    // B37
    up(sandbox, "services:\n  web: {image: root_fs}\n").refused(2, &["web", "command"]);
    up(sandbox, "services:\n  web: {image: root_fs, command: []}\n").refused(2, &["web", "command"]);
    up(sandbox, "services:\n  web: {image: root_fs, command: 'unclosed \"quote'}\n").refused(2, &["f.yaml:2:"]);
    up(sandbox, "services:\n  web: {image: root_fs, command: ['true'], working_dir: relative}\n")
        .refused(2, &["relative"]); // B36
}

fn keys_that_are_not_acted_on(sandbox: &Sandbox) {
    for key in ["gpus: all", "secrets: [s]", "configs: [c]", "pid: 'service:two'", "ipc: 'service:two'"] {
        with(sandbox, key).refused(2, &["f.yaml:4", key.split(':').next().unwrap_or_default()]);
    }
    let warned = with(sandbox, "shm_size: 1m").without_panic();
    let known = warned.code == 0
        && (warned.stderr.is_empty() || warned.stderr.contains("shm_size") || !warned.stderr.contains("error"));
    assert!(known, "{}", warned.describe());
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "down"]).ok();
}

fn command_lines(sandbox: &Sandbox) {
    // B65
    sandbox.mydocker(&["compsoe"]).refused(2, &["compsoe", "compose", "help"]);
    sandbox.mydocker(&["compose", "upp"]).refused(2, &["upp", "up", "help"]);
    sandbox.mydocker(&["compose", "up", "--detahc"]).refused(2, &["--detahc", "--detach", "help"]);
    sandbox.mydocker(&["compose", "-f"]).refused(2, &["-f"]);
    sandbox.mydocker(&["compose", "exec"]).expect_code(125);
    sandbox.mydocker::<&str>(&[]).refused(2, &["command", "--help"]);
    sandbox.mydocker(&["compose", "-p", "a", "-p", "b", "ps"]).expect_code(2).without_panic();
    sandbox.mydocker(&["compose", "ps", "--format", "xml"]).refused(2, &["xml", "json"]);
    assert!(sandbox.mydocker(&["compose", "up", "--help"]).ok().stdout.contains("Example"));
    let odd = [
        OsString::from(MYDOCKER),
        "compose".into(),
        "-f".into(),
        OsString::from_vec(b"\xff\xfe.yaml".to_vec()),
        "up".into(),
    ];
    sandbox.start(sandbox.dir(), &odd, Stdio::null()).wait().expect_code(2).without_panic();
    let odd = [OsString::from(MYDOCKER), OsString::from_vec(b"\xff\xfe".to_vec())];
    sandbox.start(sandbox.dir(), &odd, Stdio::null()).wait().expect_code(2).without_panic();
    for twice in [&["compose", "-p", "a", "-p", "b", "ps"] as &[&str], &["compose", "up", "-d", "-d"]] {
        sandbox.mydocker(twice).refused(2, &["more than once", "help"]);
    }
    sandbox.mydocker(&["run", "--name", "a", "--name", "b", "x"]).refused(125, &["`--name` is given more than once"]);
    sandbox.mydocker(&["--", "compose", "ps"]).refused(2, &["compose"]);
    let root = crate::support::rootfs().to_str().expect("UTF-8");
    let after = ["run", "--network", "none", "--rootfs", root, "--", "echo", "--", "-x"];
    assert_eq!(sandbox.mydocker(&after).ok().stdout, "-- -x\n");
    let after = ["run", "--network", "none", "--rootfs", root, "echo", "--rootfs", "--", "-x"];
    assert_eq!(sandbox.mydocker(&after).ok().stdout, "--rootfs -- -x\n");
    // 100 KiB is close to what the kernel lets one argument be
    let long = "x".repeat(100_000);
    let told = sandbox.mydocker(&["compose", long.as_str()]).expect_code(2).without_panic();
    assert!(told.stderr.len() < 1000, "{} bytes", told.stderr.len());
    let (file, path) = (format!("-f{long}"), format!("/{long}"));
    for words in [
        &["compose", &file, "up"] as &[&str],
        &["run", "--rootfs", &path, "true"],
        &["--run-dir", &path, "compose", "-p", "x", "ps"],
        &["run", "--rootfs", root, "--network", "none", "--name", &long, "true"],
        &["run", "--rootfs", root, "--network", "none", "--memory", &long, "true"],
    ] {
        let told = sandbox.mydocker(words).without_panic();
        assert!([1, 2, 125].contains(&told.code) && told.stderr.len() < 2000, "{} bytes", told.stderr.len());
    }
    // As much as the kernel lets all arguments be, about 2 MiB.
    let many = [&["compose", "up"] as &[&str], &["word"; 150_000]].concat();
    sandbox.mydocker(&many).without_panic().refused(2, &["compose file"]);
}
