//! Images, bundles and callers that mean ill, and a look at the host afterwards. What needs no binary is in `tests/container`
//! (`bundle_attacks.rs`), what concerns our own program in `own_program.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci};
use crate::support::{Case, Output, Sandbox, Terminal, cases, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        annotations_give_no_rights,
        a_working_directory_behind_a_descriptor,
        targets_and_kernel_directories_as_links,
        a_fake_proc_of_the_bundle,
        groups_and_capabilities_of_the_caller,
        a_terminal_of_the_caller_cannot_be_typed_into,
        users_that_are_none,
        users_files_that_the_container_spoils,
        the_release_agent_of_the_host,
        ids_that_are_paths,
        ten_thousand_mounts,
    ]
}

/// `mydocker run` with `options`, on a root file system.
fn run(sandbox: &Sandbox, options: &[&str], root: &Path, command: &[&str]) -> Output {
    let root = root.to_str().unwrap();
    sandbox.mydocker(&[&["run", "--network", "none"], options, &["--rootfs", root], command].concat())
}

/// Makes a directory of the sandbox's that nothing is to come into.
fn outside(sandbox: &Sandbox) -> std::path::PathBuf {
    let outside = sandbox.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("marker"), "of the host").unwrap();
    outside
}

fn expect_untouched(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["marker"]);
    let marker = fs::metadata(outside.join("marker")).unwrap();
    assert_eq!((marker.mode() & 0o7777, marker.uid(), marker.len()), (0o644, 0, 11));
}

/// Annotations are passed on from users of a cluster, and from images.
fn annotations_give_no_rights(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "id -u; id -G; exec sleep 300");
    bundle.edit(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let names = ["user", "groups", "init", "deny-setgroups"].map(|name| format!("io.mydocker.{name}"));
        let notes = names.into_iter().zip(["0", "0", "true", "true"].map(Value::from));
        config["annotations"] = Value::Object(notes.collect());
        config["process"]["args"] = json!(["sh", "-c", "id -u; id -G"]);
    });
    assert_eq!(bundle.oci(&["run", "web"]).ok().stdout, "1000\n1000\n");
    bundle.edit(|config| config["process"]["args"] = json!(["sleep", "300"]));
    bundle.oci(&["run", "--detach", "web"]).ok();
    assert_eq!(
        oci(sandbox, &["exec", "web", "sh", "-c", "id -u; id -G; readlink /proc/1/exe"]).ok().stdout,
        "1000\n1000\n/bin/busybox\n"
    );
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

/// CVE-2024-21626: a descriptor of the host's that was forgotten, and a working directory behind it.
fn a_working_directory_behind_a_descriptor(sandbox: &Sandbox) {
    let outside = outside(sandbox);
    let held: Vec<String> = (3..=9).map(|number| format!("{number}< {}", outside.display())).collect();
    let held = held.join(" ");
    let script = "cat marker ../marker ../../marker";
    let bundle = Bundle::new(sandbox, "b", script);
    let waiting = Bundle::new(sandbox, "waiting", "exec sleep 300");
    waiting.oci(&["run", "--detach", "waiting"]).ok();
    let file = sandbox.dir().join("compose.yaml");
    for cwd in (3..=12)
        .map(|number| format!("/proc/self/fd/{number}"))
        .chain(["/proc/self/cwd".to_owned(), "/proc/1/root".to_owned()])
    {
        bundle.edit(|config| config["process"]["cwd"] = cwd.as_str().into());
        let yaml = format!(
            "services: {{one: {{image: root_fs, network_mode: none, working_dir: {cwd}, command: [sh, -c, '{script}']}}}}"
        );
        fs::write(&file, yaml).unwrap();
        for command in [
            format!("oci run -b {} web", bundle.dir.display()),
            format!("oci exec --cwd {cwd} waiting sh -c '{script}'"),
            format!("run --network none -w {cwd} root_fs sh -c '{script}'"),
            format!("compose -f {} up --no-color", file.display()),
        ] {
            let output = sandbox.shell(&format!("\"$MYDOCKER\" {command} {held}"));
            assert!(output.code != 0 && !output.stdout.contains("of the host"), "{}", output.describe());
            output.without_panic();
        }
        // The file is refused as it is read: there is nothing to take down.
        sandbox.mydocker(&["compose", "-f", file.to_str().unwrap(), "down"]).refused(2, &["working directory"]);
    }
    oci(sandbox, &["delete", "--force", "waiting"]).ok();
    expect_untouched(&outside);
}

fn targets_and_kernel_directories_as_links(sandbox: &Sandbox) {
    let outside = outside(sandbox);
    let bundle = Bundle::with_own_root(sandbox, "b", "true");
    let root = bundle.dir.join("rootfs");
    symlink(&outside, root.join("out")).unwrap();
    symlink("../../../../../../../..", root.join("up")).unwrap();
    let source = bundle.dir.join("x");
    for target in ["/out/x".to_owned(), format!("/up{}/x", outside.display()), "/proc/self/cwd/x".to_owned()] {
        run(sandbox, &["-v", &format!("{}:{target}", source.display())], &root, &["true"]).without_panic();
        run(sandbox, &["--tmpfs", &target], &root, &["true"]).without_panic();
        let other = Bundle::new(sandbox, "other", "true");
        other.edit(|config| config["root"] = json!({ "path": root }));
        other.mount(json!({ "destination": target, "type": "bind", "source": source, "options": ["bind"] }));
        other.oci(&["run", "web"]).without_panic();
        expect_untouched(&outside);
    }
    for name in ["proc", "sys", "dev"] {
        fs::remove_dir(root.join(name)).unwrap();
        symlink(&outside, root.join(name)).unwrap();
        let refused = ["symbolic link"];
        run(sandbox, &[], &root, &["true"]).refused(125, &refused);
        bundle.edit(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
        });
        bundle.oci(&["run", "web"]).refused(125, &refused);
        expect_untouched(&outside);
        fs::remove_file(root.join(name)).unwrap();
        fs::create_dir(root.join(name)).unwrap();
    }
    // A /dev of the image's, in which the devices are links to a file of the host.
    let marker = outside.join("marker");
    for name in ["null", "console", "ptmx", "tty", "stdin", "fd"] {
        symlink(&marker, root.join("dev").join(name)).unwrap();
    }
    fs::create_dir(root.join("dev/pts")).unwrap();
    bundle.edit(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        config["linux"]["maskedPaths"] = json!(["/etc/passwd", "/x"]);
        config["linux"]["readonlyPaths"] = json!(["/out"]);
    });
    for terminal in [false, true] {
        bundle.edit(|config| config["process"]["terminal"] = terminal.into());
        bundle.oci(&["run", "web"]).without_panic();
        expect_untouched(&outside);
    }
    expect_nothing(sandbox);
}

/// Somebody else's files where the kernel's are expected: nothing of ours is written there.
fn a_fake_proc_of_the_bundle(sandbox: &Sandbox) {
    let bundle = Bundle::with_own_root(sandbox, "b", "true");
    let fake = bundle.dir.join("x");
    let files = [
        "sys/net/ipv4/ip_forward",
        "self/attr/exec",
        "self/attr/keycreate",
        "self/oom_score_adj",
        "self/timens_offsets",
        "self/setgroups",
    ];
    let files: Vec<_> = files.iter().map(|file| fake.join(file)).collect();
    for file in &files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "unchanged").unwrap();
    }
    bundle.edit(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["process"]["oomScoreAdj"] = 500.into();
    });
    bundle.mount(json!({ "destination": "/proc", "type": "bind", "source": "x", "options": ["bind"] }));
    let expect_unchanged =
        || files.iter().for_each(|file| assert_eq!(fs::read_to_string(file).unwrap(), "unchanged", "{file:?}"));
    bundle.oci(&["run", "web"]).without_panic();
    expect_unchanged();
    // A security module that this host lacks is not written to in the hope that it is there.
    for (label, text) in [("apparmorProfile", "docker-default"), ("selinuxLabel", "system_u:system_r:container_t:s0")] {
        bundle.edit(|config| config["process"][label] = text.into());
        bundle.oci(&["run", "web"]).refused(125, &[label]);
        bundle.edit(|config| config["process"][label] = Value::Null);
        expect_unchanged();
    }
    expect_nothing(sandbox);
}

/// Groups and inheritable capabilities (CVE-2022-29162) of whoever calls us stay outside, also of a user namespace.
fn groups_and_capabilities_of_the_caller(sandbox: &Sandbox) {
    let script = "grep -E 'CapInh|CapAmb' /proc/self/status | tr -d '\\t'; id -G; cat /x/secret";
    let bundle = Bundle::with_own_root(sandbox, "b", script);
    let secret = bundle.dir.join("x/secret");
    fs::write(&secret, "secret").unwrap();
    sandbox.shell(&format!("chown 0:4242 {0} && chmod 0640 {0}", secret.display())).ok();
    let caller = "exec setpriv --inh-caps +chown,+dac_override,+net_admin --ambient-caps +net_admin --groups 0,4242";
    let wanted = "CapInh:0000000000000000\nCapAmb:0000000000000000\n1000\n";
    bundle.edit(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        config["process"]["capabilities"] = json!({});
    });
    let waiting = |bundle: &Bundle<'_>, name: &str| {
        bundle.edit(|config| config["process"]["args"] = json!(["sleep", "300"]));
        bundle.oci(&["run", "--detach", name]).ok();
        bundle.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    };
    let both = |name: &str| {
        waiting(&bundle, name);
        for command in [
            format!("run -b {} web", bundle.dir.display()),
            format!("exec {name} sh -c \"{}\"", script.replace('\\', "\\\\")),
        ] {
            let output = sandbox.shell(&format!("{caller} \"$MYDOCKER\" oci {command}"));
            assert_eq!(output.stdout, wanted, "{}", output.describe());
            assert!(output.stderr.to_lowercase().contains("permission denied"), "{}", output.describe());
        }
        oci(sandbox, &["delete", "--force", name]).ok();
    };
    both("plain");
    sandbox.shell(&format!("chown -R 100000:100000 {}/rootfs", bundle.dir.display())).ok();
    bundle.edit(|config| {
        let maps = json!([{ "containerID": 0, "hostID": 100000, "size": 65536 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().filter(|mount| mount["destination"] == "/dev/pts").for_each(|mount| {
            mount["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
        });
    });
    both("mapped");
    let bind = format!("{}:/x:ro", bundle.dir.join("x").display());
    for user_namespace in [&[][..], &["-aU"]] {
        let words = match user_namespace {
            [] => format!("run --network none -u 1000 -v {bind} root_fs"),
            _ => format!("-aU --network none --user 1000 --volume {bind}"),
        };
        let output =
            sandbox.shell(&format!("{caller} \"$MYDOCKER\" {words} sh -c \"{}\"", script.replace('\\', "\\\\")));
        let shown = &output.stdout;
        assert!(shown.starts_with("CapInh:0000000000000000\nCapAmb:0000000000000000\n"), "{}", output.describe());
        assert!(!shown.contains("4242") && !shown.contains("secret"), "{}", output.describe());
    }
    expect_nothing(sandbox);
}

/// TIOCSTI puts bytes into the input of the terminal that is the session's own.
fn a_terminal_of_the_caller_cannot_be_typed_into(sandbox: &Sandbox) {
    let script = "cut -d\\  -f 7 /proc/self/stat; cat </dev/tty; echo ended";
    let bundle = Bundle::new(sandbox, "b", script);
    let waiting = Bundle::new(sandbox, "waiting", "exec sleep 300");
    waiting.oci(&["run", "--detach", "waiting"]).ok();
    for command in [
        format!("oci run -b {} web", bundle.dir.display()),
        format!("oci exec waiting sh -c '{script}'"),
        format!("run --network none root_fs sh -c '{script}'"),
    ] {
        let line = format!("exec \"$MYDOCKER\" {command}");
        let terminal = Terminal::start(sandbox, sandbox.dir(), &["sh", "-c", &line].map(Into::into));
        let (code, screen) = terminal.wait();
        // No terminal has number 0. What goes to stdout and to stderr arrives in any order.
        assert!(code == 0 && screen.lines().any(|line| line == "0"), "{command}: {code} {screen}");
        assert!(screen.contains("/dev/tty") && screen.contains("ended"), "{command}: {screen}");
    }
    oci(sandbox, &["delete", "--force", "waiting"]).ok();
}

fn users_that_are_none(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "--detach", "web"]).ok();
    let yaml = "\n services:\n  one: {image: root_fs, network_mode: none, init: true, command: [sleep, infinity]}\n";
    let project = sandbox.project("users", yaml);
    project.up();
    for user in ["1000x", "0x0", "+0", " 0", "0 ", "4294967296", "-1", "18446744073709551616", "0:0x"] {
        for output in [
            oci(sandbox, &["exec", &format!("--user={user}"), "web", "id"]),
            run(sandbox, &[&format!("--user={user}")], rootfs(), &["id"]),
            project.compose(&["exec", "-T", &format!("--user={user}"), "one", "id"]),
        ] {
            assert!(output.code != 0 && output.stdout.is_empty(), "{}", output.describe());
            output.without_panic();
        }
    }
    oci(sandbox, &["delete", "--force", "web"]).ok();
}

/// A container may change its own files after it was started; somebody enters it later.
fn users_files_that_the_container_spoils(sandbox: &Sandbox) {
    let yaml = "\n services:\n  one: {image: root_fs, network_mode: none, init: true, command: [sleep, infinity]}\n";
    let project = sandbox.project("passwd", yaml);
    project.up();
    let bundle = Bundle::with_own_root(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "--detach", "web"]).ok();
    for spoil in [
        "mkfifo /etc/passwd",
        "truncate -s 1G /etc/passwd",
        "ln -s /proc/1/root/etc/passwd /etc/passwd",
        "ln -s /etc/passwd /etc/passwd",
        "mkdir /etc/passwd",
        "mknod /etc/passwd c 1 5",
    ] {
        let script = format!("rm -rf /etc/passwd; {spoil}");
        project.exec("one", &["sh", "-c", &script]);
        oci(sandbox, &["exec", "web", "sh", "-c", &script]);
        let output = project.compose(&["exec", "-T", "--user", "app", "one", "id"]).refused(126, &["/etc/passwd"]);
        assert!(output.stdout.is_empty(), "{spoil}: {}", output.describe());
        // Numbers need no such file.
        let output = oci(sandbox, &["exec", "--user", "1000:1000", "web", "grep", "^Uid:", "/proc/self/status"]).ok();
        assert!(output.stdout.contains("1000"), "{spoil}");
        assert!(output.took.as_secs() < 2, "{spoil}: {}", output.describe());
    }
    oci(sandbox, &["delete", "--force", "web"]).ok();
}

/// CVE-2022-0492: what the kernel runs, as root of the host, when a cgroup is empty.
fn the_release_agent_of_the_host(sandbox: &Sandbox) {
    let agents = || {
        let found =
            sandbox.shell("grep -s '' $(find /sys/fs/cgroup -maxdepth 2 -name release_agent) /dev/null; true").ok();
        found.stdout
    };
    let before = agents();
    let script = "
        mkdir -p /tmp/cg
        for controller in memory pids cpu rdma devices; do
            mount -t cgroup -o $controller cgroup /tmp/cg && break
        done
        mount -o remount,rw,bind /sys/fs/cgroup; mount -o remount,rw /sys/fs/cgroup
        for file in $(find /sys/fs/cgroup /tmp/cg -name release_agent -o -name notify_on_release); do
            echo found $file; echo /nonexistent-agent >$file
        done
        for dir in $(find /sys/fs/cgroup /tmp/cg -maxdepth 1 -mindepth 1 -type d); do
            [ -e $dir/release_agent ] && echo agent; mkdir $dir/x/y; done
        echo ended";
    let bundle = Bundle::new(sandbox, "b", script);
    bundle.mount(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }));
    let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
    bundle.mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }));
    for namespace in [false, true] {
        if namespace {
            bundle
                .edit(|config| config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" })));
        }
        let output = bundle.oci(&["run", "web"]);
        assert!(output.stdout.ends_with("ended\n"), "{}", output.describe());
        assert_eq!(agents(), before, "{}", output.describe());
    }
    // With the right to mount, a cgroup namespace hides the root of each hierarchy, where that file is.
    for more in [&[][..], &["--cap-add", "SYS_ADMIN"]] {
        let output = run(sandbox, &[&["--tmpfs", "/tmp"], more].concat(), rootfs(), &["sh", "-c", script]);
        assert!(
            output.stdout.ends_with("ended\n") && !output.stdout.contains("release_agent"),
            "{}",
            output.describe()
        );
        assert_eq!(agents(), before, "{}", output.describe());
    }
    expect_nothing(sandbox);
}

fn ids_that_are_paths(sandbox: &Sandbox) {
    let outside = outside(sandbox);
    let long = "a".repeat(1025);
    let bundle = Bundle::new(sandbox, "b", "true");
    for id in [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../outside",
        &format!("..{}", outside.display()),
        "a\nb",
        "a b",
        "ä",
        "%2e%2e",
        &long,
    ] {
        for command in [
            &["state"][..],
            &["start"],
            &["kill"],
            &["delete"],
            &["delete", "--force"],
            &["pause"],
            &["resume"],
            &["ps"],
        ] {
            let words = [command, &["--", id]].concat();
            oci(sandbox, &words).refused(2, &["invalid container id"]);
        }
        oci(sandbox, &["exec", "--", id, "true"]).refused(2, &["invalid container id"]);
        bundle.oci(&["create", "--", id]).expect_code(2);
        bundle.oci(&["run", "--", id]).expect_code(2);
    }
    expect_untouched(&outside);
    expect_nothing(sandbox);
}

fn ten_thousand_mounts(sandbox: &Sandbox) {
    const COUNT: usize = 10_000;
    let bundle = Bundle::new(sandbox, "b", "grep -c ' /tmp/m' /proc/self/mountinfo");
    fs::create_dir(bundle.dir.join("x")).unwrap();
    for source in ["tmpfs", "x"] {
        bundle.edit(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.truncate(4);
            mounts.extend((0..COUNT).map(|number| match source {
                "tmpfs" => json!({ "destination": format!("/tmp/m{number}"), "type": "tmpfs", "source": source, "options": ["size=4k"] }),
                _ => json!({ "destination": format!("/tmp/m{number}"), "type": "bind", "source": source, "options": ["bind"] }),
            }));
        });
        let output = bundle.oci(&["run", "web"]).without_panic();
        match output.code {
            0 => assert_eq!(output.stdout, format!("{COUNT}\n")),
            // As many descriptors as sources are more than a process may have.
            _ => assert!(output.stderr.contains("open files"), "{}", output.describe()),
        }
        expect_nothing(sandbox);
    }
}
