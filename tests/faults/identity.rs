//! B35, B36, B37, B40: who runs, where, what, and how it is ended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::bundle::{Bundle, expect_nothing};
use crate::support::{Case, Sandbox, cases};
use crate::{ancestor, good_up, refused_bundle, refused_run, refused_up, run, up};

pub(crate) fn cases() -> Vec<Case> {
    cases![users_that_are_none, accounts_of_odd_images, working_directories, commands_that_are_none, stop_signals]
}

fn users_that_are_none(sandbox: &Sandbox) {
    for user in ["-1", "4294967295", "1:2:3", "99999999999", "0:", ":0", "0:4294967295"] {
        refused_up(sandbox, &format!("user: '{user}'"), &["f.yaml:7:11", "services.web.user", user]);
        refused_run(sandbox, &["--user", user], &["user", user]);
    }
    refused_up(sandbox, "user: 4294967295", &["f.yaml:7:11", "must be a string"]);
    for group in ["-1", "4294967295"] {
        refused_up(sandbox, &format!("group_add: ['{group}']"), &["services.web.group_add[0]"]);
        refused_run(sandbox, &[&format!("--group-add={group}")], &["group", group]);
    }
    for user in ["nosuch", "0:nosuch"] {
        run(sandbox, &["--user", user, "true"]).refused(126, &["nosuch", "in the container's /etc/"]);
        ancestor(sandbox, &["-a"], &["--user", user, "true"]).refused(126, &["nosuch"]);
        up(sandbox, &format!("user: '{user}'")).refused(1, &["bad-web-1", "nosuch", "in the container's /etc/"]);
        crate::down(sandbox);
        crate::expect_nothing(sandbox);
    }
    // The greatest number means "no change" to setresuid(2): the process would go on as root.
    for (user, key) in [
        (json!({"uid": 4_294_967_295_u32, "gid": 0}), "process.user.uid"),
        (json!({"uid": 0, "gid": 4_294_967_295_u32}), "process.user.gid"),
        (json!({"uid": 0, "gid": 0, "additionalGids": [4_294_967_295_u32]}), "process.user.additionalGids"),
        (json!({"uid": -1, "gid": 0}), "process.user.uid"),
        (json!({"uid": 99_999_999_999_u64, "gid": 0}), "process.user.uid"),
    ] {
        refused_bundle(sandbox, |config| config["process"]["user"] = user, &[key]);
    }
}

/// The files of an image are read inside it, and not beyond a size.
fn accounts_of_odd_images(sandbox: &Sandbox) {
    let image = sandbox.dir().join("image");
    sandbox.shell(&format!("mkdir {0} && cp -a \"$MYDOCKER_ROOTFS\"/. {0}", image.display())).ok();
    let passwd = image.join("etc/passwd");
    let root = image.to_str().expect("UTF-8");
    let make = |script: &str| {
        let _ = fs::remove_file(&passwd);
        sandbox.shell(&script.replace("PASSWD", passwd.to_str().expect("UTF-8"))).ok();
    };
    for (script, words) in [
        ("mkfifo PASSWD", &["/etc/passwd is not a regular file"] as &[&str]),
        ("truncate -s 1G PASSWD", &["/etc/passwd has 1073741824 bytes"]),
        ("ln -s passwd PASSWD", &["/etc/passwd", "symbolic links"]),
        ("ln -s /dev/zero PASSWD", &["/etc/passwd is not a regular file"]),
        // It leads to the image's, which has none.
        ("ln -s /etc/shadow PASSWD", &["no user `daemon`"]),
        ("echo daemon:x:-1:1::/:/bin/sh > PASSWD", &["no user `daemon`"]),
    ] {
        make(script);
        let words_of_run = ["run", "--network", "none", "--rootfs", root, "--user", "daemon", "true"];
        sandbox.mydocker(&words_of_run).refused(126, words);
        let text = "services:\n  web: {image: 'rootfs:./image', network_mode: none, user: daemon, command: ['true']}\n";
        crate::up_file(sandbox, text).refused(1, words);
        crate::down(sandbox);
    }
    // One of the host's own names, which the image does not have.
    let _ = fs::remove_file(&passwd);
    symlink("/etc/passwd-of-the-host", &passwd).expect("our own");
    sandbox
        .mydocker(&["run", "--network", "none", "--rootfs", root, "--user", "daemon", "true"])
        .refused(126, &["daemon"]);
}

fn working_directories(sandbox: &Sandbox) {
    for dir in ["relative", "../x"] {
        refused_up(sandbox, &format!("working_dir: {dir}"), &["f.yaml:7:18", "is not absolute", "write `/"]);
        refused_run(sandbox, &["--workdir", dir], &["working directory", "absolute"]);
        refused_bundle(sandbox, |config| config["process"]["cwd"] = json!(dir), &["process.cwd", "not absolute"]);
    }
    for dir in ["/proc/self/fd/7", "/proc/1/cwd", "/proc"] {
        refused_up(sandbox, &format!("working_dir: {dir}"), &["f.yaml:7:18", "/proc"]);
        refused_run(sandbox, &["--workdir", dir], &["/proc"]);
    }
    let bundle = Bundle::new(sandbox, "cwd", "pwd");
    for dir in ["/proc/self/fd/7", "/etc/passwd"] {
        bundle.edit(|config| config["process"]["cwd"] = json!(dir)).oci(&["run", "cwd"]).refused(126, &[dir]);
    }
    expect_nothing(sandbox);
    run(sandbox, &["--workdir", "/etc/passwd", "true"]).refused(126, &["/etc/passwd", "a file"]);
    up(sandbox, "working_dir: /etc/passwd").refused(1, &["/etc/passwd", "a file"]);
    crate::down(sandbox);
    assert_eq!(run(sandbox, &["--workdir", "/made/here", "pwd"]).ok().stdout, "/made/here\n");
    good_up(sandbox, "working_dir: /made/here");
}

fn commands_that_are_none(sandbox: &Sandbox) {
    // An empty program's name.
    for lines in ["command: []", "command: ['']", "command: ['', x]"] {
        refused_up(sandbox, lines, &["f.yaml:7", "services.web.command", "nothing to run"]);
    }
    run(sandbox, &[""]).refused(125, &["without a command"]);
    refused_bundle(sandbox, |config| config["process"]["args"] = json!([]), &["process.args"]);
    let place = |name: &str, text: &str| {
        let file = sandbox.dir().join(name);
        fs::write(&file, text).expect("our own");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("our own");
        format!("{}:/x", file.display())
    };
    let (broken, scripted) = (place("broken", "\x7fELFbroken"), place("scripted", "#!/nosuch/sh\n"));
    for (volume, program, code, word) in [
        (None, "nosuch", 127, "not found in $PATH"),
        (None, "/bin/nosuch", 127, "No such file"),
        (None, "/etc", 126, "it is a directory"),
        (None, "/etc/hosts", 126, "not executable"),
        (Some(&broken), "/x", 126, "neither a program for this machine nor a script"),
        (Some(&scripted), "/x", 127, "names the interpreter /nosuch/sh"),
    ] {
        let options = volume.map_or(Vec::new(), |volume| vec!["--volume", volume.as_str()]);
        run(sandbox, &[&options as &[&str], &[program]].concat()).refused(code, &[program, word]);
        ancestor(sandbox, &["-a"], &[&options as &[&str], &[program]].concat()).refused(code, &[program, word]);
        let volumes = volume.map_or(String::new(), |volume| format!("volumes: ['{volume}']\n    "));
        up(sandbox, &format!("{volumes}command: ['{program}']")).refused(1, &["bad-web-1", program, word]);
        crate::down(sandbox);
        let bundle = Bundle::new(sandbox, "command", "true");
        bundle.edit(|config| config["process"]["args"] = json!([program]));
        if let Some((source, target)) = volume.and_then(|volume| volume.split_once(':')) {
            bundle.edit(|config| config["root"]["readonly"] = json!(false));
            bundle.edit(|config| config["process"]["args"] = json!(["/tmp/x"]));
            let target = format!("/tmp{target}");
            bundle.mount(json!({ "destination": target, "type": "bind", "source": source, "options": ["bind"] }));
        }
        bundle.oci(&["run", "command"]).refused(code, &[word]);
        expect_nothing(sandbox);
    }
}

fn stop_signals(sandbox: &Sandbox) {
    for signal in ["SIGFOO", "0", "65", "", "kill me"] {
        refused_up(sandbox, &format!("stop_signal: '{signal}'"), &["f.yaml:7:18", "services.web.stop_signal"]);
        refused_run(sandbox, &["--stop-signal", signal], &["--stop-signal"]);
    }
    for grace in ["-1s", "5", "1x"] {
        refused_up(
            sandbox,
            &format!("stop_grace_period: '{grace}'"),
            &["f.yaml:7:24", "services.web.stop_grace_period"],
        );
    }
    refused_run(sandbox, &["--stop-timeout", "x"], &["--stop-timeout"]);
    for signal in ["kill", "SIGUSR1", "usr1", "9", "RTMIN+3", "SIGRTMAX-1"] {
        good_up(sandbox, &format!("stop_signal: '{signal}'"));
        run(sandbox, &["--stop-signal", signal, "true"]).ok();
    }
}
