//! Bundles: what config.json says, seen from inside and from outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bundle_driver::BundleJob;
use super::cases::{Case, Ran, equal};
use super::leak::Listing;
use super::root_fs;

/// Returns every case.
pub(crate) fn all() -> Vec<Case> {
    vec![
        ("bundle_ordinary", ordinary),
        ("bundle_shares_what_it_does_not_name", shared_namespaces),
        ("bundle_joins_namespaces", joined_namespaces),
        ("bundle_time_namespace", time_namespace),
        ("bundle_user_namespace", user_namespace),
        ("bundle_joins_a_user_namespace", joined_user_namespace),
        ("bundle_mount_options", mount_options),
        ("bundle_mount_targets", mount_targets),
        ("bundle_id_mapped_mounts", id_mapped_mounts),
        ("bundle_devices", devices),
        ("bundle_process", process),
        ("bundle_capabilities", capabilities),
        ("bundle_scheduling", scheduling),
        ("bundle_programs_that_are_not_there", missing_programs),
        ("bundle_hooks", hooks),
        ("bundle_hooks_that_fail", failing_hooks),
        ("bundle_root", root),
        ("bundle_terminal", terminal),
        ("bundle_exec", exec),
        ("bundle_refusals", refusals),
    ]
}

/// Is a bundle to be run.
pub(crate) struct Bundle {
    _keep: tempfile::TempDir,
    pub(crate) base: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) config: Value,
    pub(crate) job: BundleJob,
    before: Listing,
}

impl Bundle {
    pub(crate) fn new(script: &str) -> Self {
        let before = Listing::now();
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path().to_owned();
        let rootfs = base.join("rootfs");
        root_fs::build(&rootfs);
        let job = BundleJob { bundle: base.clone(), ..BundleJob::default() };
        Self { _keep: keep, rootfs, config: config(script), job, base, before }
    }

    /// Sets the value at a JSON pointer; objects on the way are made.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = &mut at[key];
        }
        *at = value;
    }

    pub(crate) fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(crate) fn run(&self) -> Ran {
        fs::write(self.base.join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--drive-bundle").arg(serde_json::to_string(&self.job).unwrap());
        let ran = Ran::from(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(self.before, Listing::now());
        ran
    }
}

fn config(script: &str) -> Value {
    let capabilities =
        json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"]);
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "hostname": "box",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
}

fn ordinary() -> Result<(), String> {
    let script = "echo $$; hostname; id; pwd; echo $HOME; grep ' / ' /proc/mounts | wc -l; ip link | grep -c UP; \
                  ls /proc/self/fd | wc -l; exit 3";
    let ran = Bundle::new(script).run();
    equal(ran.code, Some(3))?;
    equal(ran.out.as_str(), "1\nbox\nuid=0(root) gid=0(root)\n/\n/root\n1\n1\n4\n").map_err(|e| e + &ran.err)
}

fn inode(path: &str) -> String {
    fs::read_link(path).unwrap().display().to_string()
}

fn shared_namespaces() -> Result<(), String> {
    let mut bundle = Bundle::new("cd /proc/self/ns; for n in pid net uts ipc mnt; do readlink $n; done");
    bundle.set("/linux/namespaces", json!([{ "type": "mount" }]));
    bundle.set("/hostname", json!(""));
    let out = bundle.run().ok()?;
    let lines: Vec<_> = out.lines().collect();
    for (name, line) in ["pid", "net", "uts", "ipc"].into_iter().zip(&lines) {
        equal(*line, inode(&format!("/proc/self/ns/{name}")).as_str())?;
    }
    if lines[4] == inode("/proc/self/ns/mnt") { Err("the host's mounts".to_owned()) } else { Ok(()) }
}

/// Is a process in namespaces of its own, for others to join.
struct Holder(std::process::Child);

impl Holder {
    fn new(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(child)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn joined_namespaces() -> Result<(), String> {
    let mut bundle = Bundle::new("cd /proc/self/ns; for n in net uts ipc; do readlink $n; done; echo $$");
    let holder = Holder::new(&["--net", "--uts", "--ipc"]);
    let join = |kind: &str, name: &str| json!({ "type": kind, "path": holder.path(name) });
    let list = [
        join("network", "net"),
        join("uts", "uts"),
        join("ipc", "ipc"),
        json!({"type": "mount"}),
        json!({"type": "pid"}),
    ];
    bundle.set("/linux/namespaces", json!(list));
    let wanted: Vec<_> = ["net", "uts", "ipc"].map(|name| inode(&holder.path(name))).to_vec();
    bundle.before = Listing::now();
    equal(bundle.run().ok()?, format!("{}\n1\n", wanted.join("\n")))?;
    // A process namespace holds for children alone: its file is the maker's.
    bundle.set("/process/args", json!(["/bin/sh", "-c", "readlink /proc/self/ns/pid; test $$ != 1"]));
    bundle.set(
        "/linux/namespaces",
        json!([{"type": "mount"}, {"type": "pid", "path": "/proc/self/ns/pid"}, {"type": "uts"}]),
    );
    equal(bundle.run().ok()?, format!("{}\n", inode("/proc/self/ns/pid")))?;
    bundle.set("/linux/namespaces", json!([{"type": "mount"}, join("network", "uts"), {"type": "uts"}]));
    bundle.run().fails(125, "it is no net namespace")
}

fn time_namespace() -> Result<(), String> {
    let mut bundle = Bundle::new("cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    bundle.set(
        "/linux/timeOffsets",
        json!({ "boottime": { "secs": 50_000_000 }, "monotonic": { "secs": 1, "nanosecs": 5 } }),
    );
    let out = bundle.run().ok()?;
    let uptime: u64 = out.lines().next().and_then(|line| line.parse().ok()).ok_or(out.clone())?;
    if uptime < 50_000_000 || out.contains(&inode("/proc/self/ns/time")) { Err(out) } else { Ok(()) }
}

fn give_to(rootfs: &std::path::Path, id: u32) {
    let status = Command::new("chown").args(["-hR", &format!("{id}:{id}")]).arg(rootfs).status().unwrap();
    assert!(status.success());
}

fn user_namespace() -> Result<(), String> {
    let script =
        "id -u; cat /proc/self/uid_map | tr -s ' '; touch /tmp/x; stat -c %u:%a /dev/null; echo > /dev/null; echo $$";
    let mut bundle = Bundle::new(script);
    give_to(&bundle.rootfs, 100_000);
    fs::set_permissions(&bundle.base, fs::Permissions::from_mode(0o700)).unwrap();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.set("/linux/uidMappings", maps.clone());
    bundle.set("/linux/gidMappings", maps);
    equal(bundle.run().ok()?, "0\n 0 100000 65536\n0:666\n1\n")?;
    equal(fs::metadata(bundle.rootfs.join("tmp/x")).unwrap().uid(), 100_000)
}

fn joined_user_namespace() -> Result<(), String> {
    let holder = Holder::new(&["--user", "--map-root-user", "--net"]);
    let mut bundle = Bundle::new("readlink /proc/self/ns/user; readlink /proc/self/ns/net; echo $$; hostname");
    let list = json!([
        { "type": "user", "path": holder.path("user") }, { "type": "network", "path": holder.path("net") },
        { "type": "mount" }, { "type": "pid" }, { "type": "uts" }, { "type": "ipc" },
    ]);
    bundle.set("/linux/namespaces", list);
    let (user, net) = (inode(&holder.path("user")), inode(&holder.path("net")));
    equal(bundle.run().ok()?, format!("{user}\n{net}\n1\nbox\n"))
}

fn mount_options() -> Result<(), String> {
    let script = "grep -E ' /(a|b|c|d)( |/)' /proc/mounts | cut -d' ' -f2,4 | sort; stat -c %a /a; cat /d/marker; \
                  touch /b/x 2>/dev/null || echo denied; touch /b/below/x 2>/dev/null || echo denied below";
    let mut bundle = Bundle::new(script);
    for name in ["host", "host/below"] {
        fs::create_dir(bundle.base.join(name)).unwrap();
    }
    fs::create_dir(bundle.rootfs.join("d")).unwrap();
    fs::write(bundle.rootfs.join("d/marker"), "copied\n").unwrap();
    bundle.mount(json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs",
        "options": ["size=4k", "mode=711", "noatime", "nodiratime", "nosymfollow", "lazytime", "nodev", "defaults", "silent"] }));
    bundle.mount(json!({ "destination": "/b", "source": "host", "options": ["rbind", "ro", "rnosuid"] }));
    bundle.mount(json!({ "destination": "/b/below", "type": "tmpfs", "source": "tmpfs" }));
    bundle.mount(json!({ "destination": "/c", "type": "none", "source": "host", "options": ["bind", "noexec", "exec", "relatime"] }));
    bundle.mount(json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"] }));
    let out = bundle.run().ok()?;
    let line = |target: &str| out.lines().find_map(|line| line.strip_prefix(target)).unwrap_or_default().to_owned();
    for (target, wanted) in [
        ("/a ", &["nodev", "noatime", "nodiratime", "nosymfollow", "size=4k"][..]),
        ("/b ", &["ro", "nosuid"]),
        ("/b/below ", &["rw"]),
        ("/c ", &["rw", "relatime"]),
        ("/d ", &["ro"]),
    ] {
        let options = line(target);
        for option in wanted {
            if !options.split([',', ' ']).any(|one| one == *option) {
                return Err(format!("{target}: no {option} in {out}"));
            }
        }
    }
    if line("/c ").contains("noexec") || !out.ends_with("711\ncopied\ndenied\n") { Err(out) } else { Ok(()) }
}

fn mount_targets() -> Result<(), String> {
    let script = "cat /new/deep/file; ls /relative /up; cat /proc/uptime; ls -d /twice/*";
    let mut bundle = Bundle::new(script);
    fs::write(bundle.base.join("file"), "bound\n").unwrap();
    for name in ["one", "two"] {
        fs::create_dir(bundle.base.join(name)).unwrap();
        fs::write(bundle.base.join(name).join(name), "").unwrap();
    }
    bundle
        .mount(json!({ "destination": "/new/deep/file", "type": "bind", "source": "file", "options": ["bind", "ro"] }));
    bundle.mount(json!({ "destination": "relative", "type": "bind", "source": "one" }));
    bundle.mount(json!({ "destination": "/tmp/../../up", "type": "bind", "source": "one" }));
    bundle.mount(json!({ "destination": "/proc/uptime", "type": "bind", "source": "file" }));
    bundle.mount(json!({ "destination": "/twice", "type": "bind", "source": "one" }));
    bundle.mount(json!({ "destination": "/twice", "type": "bind", "source": "two" }));
    equal(bundle.run().ok()?, "bound\n/relative:\none\n\n/up:\none\nbound\n/twice/two\n")?;
    bundle.mount(json!({ "destination": "/x", "type": "bind", "source": "/no/such/source" }));
    bundle.run().fails(125, "No such file or directory")?;
    // What is mounted on / is the root.
    let mut bundle = Bundle::new("ls /");
    root_fs::build(&bundle.base.join("other"));
    fs::create_dir(bundle.base.join("other/only-here")).unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "destination": "/", "source": "other", "options": ["rbind"] }));
    let out = bundle.run().ok()?;
    if out.contains("only-here") { Ok(()) } else { Err(out) }
}

fn id_mapped_mounts() -> Result<(), String> {
    let mut bundle = Bundle::new("stat -c %u:%g /mapped /plain");
    fs::create_dir(bundle.base.join("owned")).unwrap();
    give_to(&bundle.base.join("owned"), 1000);
    let maps = json!([{ "containerID": 1000, "hostID": 2000, "size": 1 }]);
    bundle.mount(json!({ "destination": "/mapped", "source": "owned", "options": ["bind", "idmap"],
        "uidMappings": maps, "gidMappings": maps }));
    bundle.mount(json!({ "destination": "/plain", "source": "owned", "options": ["bind"] }));
    equal(bundle.run().ok()?, "2000:2000\n1000:1000\n")
}

fn devices() -> Result<(), String> {
    let script = "for d in null full; do stat -c '%n %F %t:%T %a %u' /dev/$d; done; stat -c '%F %a %u:%g' /dev/pipe /dev/own/null; \
                  readlink /dev/fd; readlink /dev/ptmx; echo > /dev/own/null; touch /dev/x 2>/dev/null || echo denied";
    let mut bundle = Bundle::new(script);
    bundle.set(
        "/linux/devices",
        json!([
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 6 },
            { "path": "/dev/own/null", "type": "u", "major": 1, "minor": 3 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 7, "gid": 8 },
        ]),
    );
    bundle.config["mounts"][1]["options"] = json!(["ro", "mode=755"]);
    let ran = bundle.run();
    let wanted = "/dev/null character special file 1:3 600 5\n/dev/full character special file 1:7 666 0\n\
                  fifo 640 7:8\ncharacter special file 666 0:0\n/proc/self/fd\npts/ptmx\ndenied\n";
    equal(ran.out.as_str(), wanted)
}

fn process() -> Result<(), String> {
    let script = "id -u; id -g; id -G; pwd; umask; echo $HOME $A; grep NoNewPrivs /proc/self/status | tr -d '\\t'; ulimit -n; \
                  cat /proc/self/oom_score_adj; hostname; cat /proc/sys/kernel/domainname";
    let mut bundle = Bundle::new(script);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 5, "umask": 0o77, "additionalGids": [7, 40] }));
    bundle.set("/process/cwd", json!("/made/for/it"));
    bundle.set("/process/env", json!(["PATH=/bin", "A=b"]));
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]));
    bundle.set("/process/oomScoreAdj", json!(500));
    bundle.set("/domainname", json!("corp"));
    let wanted = "1000\n5\n5 7 40\n/made/for/it\n0077\n/data b\nNoNewPrivs:1\n100\n500\nbox\ncorp\n";
    equal(bundle.run().ok()?, wanted)
}

fn capabilities() -> Result<(), String> {
    let mut bundle = Bundle::new("grep ^Cap /proc/self/status | tr -d '\\t'");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
        }),
    );
    let zeros = |digits: &str| format!("{digits:0>16}");
    let wanted = format!("CapInh:{0}\nCapPrm:{0}\nCapEff:{0}\nCapBnd:{1}\nCapAmb:{0}\n", zeros("1"), zeros("a1"));
    equal(bundle.run().ok()?, wanted)?;
    bundle.set("/process/capabilities", json!({ "bounding": ["CAP_CHOWN", "CAP_MOON"] }));
    let ran = bundle.run();
    let zero = zeros("0");
    equal(ran.out, format!("CapInh:{zero}\nCapPrm:{zero}\nCapEff:{zero}\nCapBnd:{}\nCapAmb:{zero}\n", zeros("1")))?;
    if ran.err.contains("CAP_MOON") { Ok(()) } else { Err(ran.err) }
}

fn scheduling() -> Result<(), String> {
    let mut bundle = Bundle::new("cut -d' ' -f41,19 /proc/self/stat; cat /proc/self/personality");
    bundle.set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 }));
    bundle.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }));
    bundle.set("/linux/personality", json!({ "domain": "LINUX32" }));
    bundle.set("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT" }));
    equal(bundle.run().ok()?, "5 3\n00000008\n")?;
    bundle.set("/process/ioPriority/priority", json!(9));
    bundle.run().fails(125, "process.ioPriority.priority")
}

fn missing_programs() -> Result<(), String> {
    let mut bundle = Bundle::new("");
    fs::write(bundle.rootfs.join("bin/data"), "no program").unwrap();
    symlink("/bin/busybox", bundle.rootfs.join("data/absolute")).unwrap();
    for (program, code, text) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "No such file or directory"),
        ("data", 126, "Permission denied"),
        ("/bin", 126, "Permission denied"),
        ("./nosuch", 127, "No such file or directory"),
    ] {
        bundle.set("/process/args", json!([program]));
        bundle.run().fails(code, text).map_err(|e| format!("{program}: {e}"))?;
    }
    bundle.set("/process/cwd", json!("/bin"));
    for program in ["./true", "true", "/bin/true"] {
        bundle.set("/process/args", json!([program]));
        bundle.run().ok().map_err(|e| format!("{program}: {e}"))?;
    }
    Ok(())
}

fn hooks() -> Result<(), String> {
    let mut bundle = Bundle::new("cat /created /started");
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs" }));
    bundle.set("/annotations", json!({ "a.b": "c" }));
    let rootfs = bundle.rootfs.display().to_string();
    let host = format!(
        "cat > {rootfs}/created; echo $0 $1 $A >> {rootfs}/created; test $(readlink /proc/self/ns/uts) != \"$UTS\""
    );
    let uts = inode("/proc/self/ns/uts");
    fs::write(bundle.rootfs.join("started"), "").unwrap();
    fs::set_permissions(bundle.rootfs.join("started"), fs::Permissions::from_mode(0o666)).unwrap();
    bundle.set("/hooks", json!({
        "createRuntime": [{ "path": "/bin/true" }],
        "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", host, "name", "one"], "env": ["A=b", "PATH=/bin:/usr/bin", format!("UTS={uts}")], "timeout": 10 }],
        "startContainer": [{ "path": "/bin/busybox", "args": ["sh", "-c", "/bin/cat > /started; /bin/echo >> /started"] }],
    }));
    let ran = bundle.run();
    equal((ran.code, ran.err.as_str()), (Some(0), "hooks due\n"))?;
    let states: Vec<_> = ran.out.lines().collect();
    let (created, line) =
        states[0].split_once('}').map(|_| states[0].rsplit_once('}').unwrap()).ok_or(ran.out.clone())?;
    equal(line, "name one b")?;
    let created: Value = serde_json::from_str(&format!("{created}}}")).map_err(|e| e.to_string())?;
    let started: Value = serde_json::from_str(states[1]).map_err(|e| e.to_string())?;
    for state in [&created, &started] {
        let wanted = json!({ "ociVersion": "1.2.0", "id": "box", "status": "created", "pid": 1,
            "bundle": bundle.base.display().to_string(), "annotations": { "a.b": "c" } });
        equal(state, &wanted)?;
    }
    Ok(())
}

fn failing_hooks() -> Result<(), String> {
    for (kind, hook, text) in [
        (
            "createContainer",
            json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo so it is >&2; exit 4"] }),
            "so it is",
        ),
        ("createContainer", json!({ "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1 }), "timeout of 1 s"),
        ("createContainer", json!({ "path": "/no/such" }), "No such file or directory"),
        ("startContainer", json!({ "path": "/bin/false" }), "startContainer hook /bin/false"),
        ("startContainer", json!({ "path": "bin/false" }), "hooks.startContainer.path"),
        ("createContainer", json!({ "path": "/bin/true", "timeout": 0 }), "hooks.createContainer.timeout"),
    ] {
        let mut bundle = Bundle::new("echo ran");
        bundle.set("/hooks", json!({ kind: [hook] }));
        let ran = bundle.run();
        equal(ran.out.as_str(), "")?;
        ran.fails(125, text)?;
    }
    Ok(())
}

fn root() -> Result<(), String> {
    let script = "touch /x 2>/dev/null || echo denied; grep ' / ' /proc/self/mountinfo | grep -o 'shared:\\|unbindable\\|master:'; \
                  cd ..; ls -d /bin; cat /etc/marker";
    for (propagation, shown) in
        [("shared", "shared:\n"), ("unbindable", "unbindable\n"), ("rprivate", ""), ("slave", "master:\n")]
    {
        let mut bundle = Bundle::new(script);
        bundle.set("/root/readonly", json!(true));
        bundle.set("/linux/rootfsPropagation", json!(propagation));
        let ran = bundle.run();
        equal(ran.out, format!("denied\n{shown}/bin\nfrom the image\n"))
            .map_err(|e| format!("{propagation}: {e} {}", ran.err))?;
    }
    let mut bundle = Bundle::new("ls -d /bin /etc/marker; wc -l < /proc/mounts; ls /..");
    bundle.job.no_pivot = true;
    let out = bundle.run().ok()?;
    if out.starts_with("/bin\n/etc/marker\n") && !out.contains("boot") { Ok(()) } else { Err(out) }
}

fn terminal() -> Result<(), String> {
    let mut bundle = Bundle::new("tty; stty size; stat -c %t /dev/console; readlink /proc/self/fd/0");
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({ "height": 12, "width": 34 }));
    equal(bundle.run().ok()?, "/dev/pts/0\r\n12 34\r\n88\r\n/dev/pts/0\r\n")?;
    // Without a devpts of its own it gets one of the host's.
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "devpts");
    bundle.set("/process/args", json!(["/bin/sh", "-c", "stty size; stat -c %t /dev/console"]));
    equal(bundle.run().ok()?, "12 34\r\n88\r\n")
}

fn exec() -> Result<(), String> {
    let mut bundle = Bundle::new("touch /ready; sleep 600");
    let script = "id -u; id -G; pwd; umask; echo $A; grep CapEff /proc/self/status | tr -d '\\t'; grep Cpus_allowed_list /proc/self/status | tr -d '\\t'; exit 6";
    bundle.job.exec = Some(json!({
        "user": { "uid": 1000, "gid": 5, "umask": 0o27, "additionalGids": [9] },
        "args": ["sh", "-c", script], "env": ["PATH=/bin", "A=b"], "cwd": "/data",
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] },
        "execCPUAffinity": { "initial": "0-1", "final": "0" },
        "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 7 },
        "scheduler": { "policy": "SCHED_OTHER", "nice": 3 },
    }));
    let ran = bundle.run();
    equal(ran.out.as_str(), "1000\n5 9\n/data\n0027\nb\nCapEff:0000000000000020\nCpus_allowed_list:0\n")
        .map_err(|e| e + &ran.err)?;
    equal(ran.code, Some(6))?;
    for (args, code, text) in [
        (json!(["nosuch"]), 127, "executable file not found in $PATH"),
        (json!(["/etc/passwd"]), 126, "Permission denied"),
    ] {
        fs::remove_file(bundle.rootfs.join("ready")).unwrap();
        bundle.job.exec = Some(json!({ "args": args, "cwd": "/", "env": ["PATH=/bin"] }));
        bundle.run().fails(code, text)?;
    }
    Ok(())
}

fn refusals() -> Result<(), String> {
    let mounted = json!([{ "type": "mount" }]);
    let apparmor = match fs::exists("/sys/module/apparmor").unwrap() {
        true => "ask for the AppArmor profile strange",
        false => "process.apparmorProfile: this host has no AppArmor",
    };
    for (pointer, value, text) in [
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/args", json!([]), "process.args"),
        ("/process/apparmorProfile", json!("strange"), apparmor),
        ("/process/selinuxLabel", json!("a:b:c"), "process.selinuxLabel"),
        ("/linux/mountLabel", json!("a:b:c"), "linux.mountLabel: this host has no SELinux"),
        ("/linux/namespaces", json!([{ "type": "user" }]), "mount"),
        ("/linux/namespaces", mounted.clone(), "hostname"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "mount" }, { "type": "uts" }]), "named twice"),
        ("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 1 }]), "linux.uidMappings"),
        ("/linux/timeOffsets", json!({ "boottime": { "secs": 1 } }), "linux.timeOffsets"),
        ("/linux/sysctl", json!({ "vm.swappiness": "1" }), "linux.sysctl.vm.swappiness"),
        ("/linux/sysctl", json!({ "kernel.hostname": "a" }), "the key `hostname`"),
        ("/linux/rootfsPropagation", json!("moon"), "propagation `moon`"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/mounts/0", json!({ "destination": "/proc", "type": "tmpfs" }), "mounts[0].destination"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "a" }]), "linux.devices[/dev/x].type"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }]),
            "process.rlimits",
        ),
    ] {
        let mut bundle = Bundle::new("echo ran");
        match pointer.strip_prefix("/mounts/0") {
            Some(_) => bundle.config["mounts"][0] = value,
            None => bundle.set(pointer, value),
        }
        bundle.run().fails(125, text).map_err(|e| format!("{pointer}: {e}"))?;
    }
    let mut bundle = Bundle::new("echo ran");
    bundle.set("/linux/namespaces", mounted);
    bundle.set("/hostname", json!(""));
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.run().fails(125, "no net namespace of its own")?;
    bundle.set("/linux/namespaces", json!([{ "type": "mount" }, { "type": "network", "path": "/proc/self/ns/net" }]));
    bundle.run().fails(125, "no net namespace of its own")
}
