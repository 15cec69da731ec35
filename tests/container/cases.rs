//! The cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mydocker::spec::{
    ByteSize, CapabilityBase, CapabilityRequest, ContainerId, ContainerRequest, IdMaps, KernelFiles, MountKind,
    MountRequest, NamespaceRequest, NamespaceSource, ResourceLimits, SeccompRequest, SignalNumber, Ulimit,
};

use super::driver::{ExecJob, Job};
use super::leak::Listing;
use super::root_fs;

pub(crate) type Case = (&'static str, fn() -> Result<(), String>);

/// Returns every case.
pub(crate) fn all() -> Vec<Case> {
    vec![
        ("exit_codes", exit_codes),
        ("two_steps", two_steps),
        ("no_plan_no_process", no_plan_no_process),
        ("command_errors", command_errors),
        ("namespaces", namespaces),
        ("mounts_as_the_ancestor_and_docker", mounts),
        ("devices_and_links", devices),
        ("the_image_stays_as_it_was", image_unchanged),
        ("no_descriptor_of_the_host", descriptors),
        ("closed_standard_descriptors", closed_stdio),
        ("masked_and_read_only_paths", protected_paths),
        ("read_only_root", read_only_root),
        ("binds", binds),
        ("volumes_are_filled_once", volumes),
        ("tmpfs", tmpfs),
        ("symlinks_stay_inside", symlinks),
        ("proc_sys_dev_links_are_refused", kernel_links),
        ("users", users),
        ("bad_passwd_files", bad_passwd),
        ("working_directories", working_directories),
        ("environment", environment),
        ("capabilities", capabilities),
        ("no_new_privs_and_seccomp", seccomp),
        ("limits", limits),
        ("sysctls", sysctls),
        ("built_in_init", built_in_init),
        ("terminal", terminal),
        ("terminal_under_init", terminal_under_init),
        ("user_namespace", user_namespace),
        ("user_namespace_of_the_ancestor", user_namespace_ancestor),
        ("exec", exec),
        ("dies_with_its_parent", dies_with_parent),
        ("strange_paths", strange_paths),
        ("cgroups_of_version_1", cgroups_v1),
        ("shared_network_namespace", shared_network),
    ]
}

/// Says what the machine lacks for a case.
pub(crate) fn missing(name: &str) -> Option<&'static str> {
    let v1 = Path::new("/sys/fs/cgroup/pids/tasks").exists();
    (name == "cgroups_of_version_1" && !v1).then_some("needs cgroups of version 1")
}

/// Is a container to be: an image, a directory of its own, a request to change.
struct Stage {
    _keep: tempfile::TempDir,
    base: PathBuf,
    job: Job,
    before: Listing,
}

impl Stage {
    fn new(script: &str) -> Self {
        Self::named(script, "c")
    }

    fn named(script: &str, name: &str) -> Self {
        let before = Listing::now();
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path().to_owned();
        root_fs::build(&base.join("image"));
        let job = Job {
            request: request(&base.join("image"), script),
            directory: base.join(name),
            seccomp: false,
            two_steps: false,
            exec: None,
            no_plan: false,
            controllers: Vec::new(),
        };
        Self { _keep: keep, base, job, before }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--drive").arg(serde_json::to_string(&self.job).unwrap());
        command
    }

    fn run(&self) -> Ran {
        Ran::from(self.command().stdin(Stdio::null()).output().unwrap())
    }

    /// Runs it and compares the machine with what it was.
    fn finish(&self) -> Ran {
        let ran = self.run();
        assert_eq!(self.before, Listing::now());
        ran
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    pub(crate) fn ok(self) -> Result<String, String> {
        if self.code == Some(0) && self.err.is_empty() { Ok(self.out) } else { Err(format!("{self:?}")) }
    }

    pub(crate) fn fails(self, code: i32, text: &str) -> Result<(), String> {
        if self.code == Some(code) && self.err.contains(text) {
            Ok(())
        } else {
            Err(format!("wanted {code} and `{text}`: {self:?}"))
        }
    }
}

pub(crate) fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(got: T, wanted: U) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

fn request(rootfs: &Path, script: &str) -> ContainerRequest {
    ContainerRequest {
        id: ContainerId::generate(),
        name: "test".to_owned(),
        rootfs: rootfs.to_owned(),
        read_only: false,
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        working_dir: None,
        user: None,
        groups: Vec::new(),
        hostname: "box".to_owned(),
        domainname: None,
        namespaces: NamespaceRequest::private(),
        mounts: Vec::new(),
        capabilities: CapabilityRequest { base: CapabilityBase::Docker, add: Vec::new(), drop: Vec::new() },
        no_new_privileges: false,
        seccomp: SeccompRequest::Default,
        devices: Vec::new(),
        device_rules: Vec::new(),
        kernel_files: KernelFiles::Protected,
        apparmor: None,
        limits: ResourceLimits::default(),
        ulimits: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        init: false,
        tty: false,
        stdin_open: false,
        stop_signal: SignalNumber::TERM,
        stop_grace_period: Duration::from_secs(10),
        extra_hosts: Vec::new(),
        dns: mydocker::spec::DnsRequest::default(),
        oom_score_adj: None,
        labels: BTreeMap::new(),
    }
}

fn exit_codes() -> Result<(), String> {
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("kill -9 $$; sleep 1", 0), ("sh -c 'kill -9 $$'; exit $?", 137)]
    {
        let ran = Stage::new(script).finish();
        // PID 1 is not killed by a signal from inside its namespace.
        equal(ran.code, Some(code)).map_err(|e| format!("{script}: {e}: {}", ran.err))?;
    }
    Ok(())
}

fn two_steps() -> Result<(), String> {
    let mut stage = Stage::new("echo hi");
    stage.job.two_steps = true;
    let ran = stage.finish();
    equal((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "hi\n", "created\n"))
}

fn no_plan_no_process() -> Result<(), String> {
    let mut stage = Stage::new("echo hi");
    stage.job.no_plan = true;
    let ran = stage.finish();
    equal((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(125), "", ""))
}

fn command_errors() -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new("");
    let bin = stage.base.join("image/bin");
    let make = |name: &str, mode: u32, text: &[u8]| {
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", 0o644, b"#!/bin/sh\n");
    make("rubbish", 0o755, b"\x00\x01\x02\x03");
    make("script", 0o755, b"#!/no/such/interpreter -x\n");
    make("elf", 0o755, &std::fs::read("/bin/true").unwrap());
    let cases: &[(&str, i32, &str)] = &[
        ("/bin/nope", 127, "/bin/nope"),
        ("nope", 127, "PATH"),
        ("/bin", 126, "directory"),
        ("/bin/plain", 126, "not executable"),
        ("plain", 126, "not executable"),
        ("/bin/rubbish", 126, "neither a program"),
        ("/bin/script", 127, "/no/such/interpreter"),
        ("/bin/elf", 127, "loader"),
        ("/etc/marker/x", 127, "/etc/marker/x"),
    ];
    for (command, code, text) in cases {
        for init in [false, true] {
            let mut stage = Stage::new("");
            stage.job.request.rootfs = bin.parent().unwrap().to_owned();
            stage.job.request.args = vec![(*command).to_owned()];
            stage.job.request.init = init;
            stage.finish().fails(*code, text).map_err(|e| format!("{command}: {e}"))?;
        }
    }
    let mut stage = Stage::new("");
    stage.job.request.args = Vec::new();
    stage.finish().fails(125, "without a command")
}

fn namespaces() -> Result<(), String> {
    let out = Stage::new("for n in mnt uts ipc pid net cgroup user; do readlink /proc/self/ns/$n; done; hostname; echo $$; ls -d /proc/[0-9]*; ip -o addr show dev lo")
        .finish()
        .ok()?;
    let lines: Vec<_> = out.lines().collect();
    for (line, name) in lines.iter().zip(["mnt", "uts", "ipc", "pid", "net", "cgroup", "user"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        equal(Path::new(line) == host, name == "user").map_err(|e| format!("{name}: {e}"))?;
    }
    equal(&lines[7..9], ["box", "1"])?;
    equal(out.contains("127.0.0.1"), true)?;
    equal(lines.iter().filter(|line| line.starts_with("/proc/")).count() <= 3, true)
}

fn mounts() -> Result<(), String> {
    let out = Stage::new("cat /proc/self/mountinfo | cut -d' ' -f5- | tr -s ' '").finish().ok()?;
    let temp = std::env::temp_dir();
    equal(out.lines().any(|line| line.contains(" ext4 ") || line.starts_with(temp.to_str().unwrap())), false)?;
    let find = |target: &str| {
        out.lines()
            .find(|line| line.starts_with(&format!("{target} ")))
            .map(str::to_owned)
            .ok_or(format!("{target}: {out}"))
    };
    for (target, parts) in [
        ("/", "overlay"),
        ("/proc", "nosuid,nodev,noexec proc"),
        ("/dev", "nosuid,noexec tmpfs mode=755"),
        ("/dev/pts", "nosuid,noexec devpts gid=5,mode=620,ptmxmode=666"),
        ("/dev/shm", "nosuid,nodev,noexec tmpfs size=65536k"),
        ("/dev/mqueue", "nosuid,nodev,noexec mqueue"),
        ("/sys", "ro,nosuid,nodev,noexec sysfs"),
    ] {
        let line = find(target)?;
        for part in parts.split([' ', ',']) {
            equal(line.split([' ', ',']).any(|have| have == part), true).map_err(|_| format!("no {part} in {line}"))?;
        }
    }
    equal(find("/dev")?.contains("relatime"), false)
}

fn devices() -> Result<(), String> {
    let script = "stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/tty /dev/random /dev/urandom; \
        for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo x >/dev/null; head -c1 /dev/urandom | wc -c; \
        umask; echo x 2>/dev/null >/dev/full || echo full";
    let mut stage = Stage::new(script);
    stage.job.request.env.insert("X".to_owned(), "y".to_owned());
    // Whatever umask we are called with.
    let ran = Ran::from(
        Command::new("/bin/sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg("--drive")
            .arg(serde_json::to_string(&stage.job).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    let out = ran.ok()?;
    equal(
        out.as_str(),
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/tty 5:0 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n1\n0022\nfull\n",
    )
}

fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            use std::os::unix::fs::MetadataExt;
            found.push(format!("{} {:o} {} {}", path.display(), metadata.mode(), metadata.uid(), metadata.mtime()));
            if metadata.is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

fn image_unchanged() -> Result<(), String> {
    let stage = Stage::new("echo new >/etc/marker; rm /bin/od; mkdir /new; chmod 700 /tmp; cat /etc/marker");
    let image = stage.base.join("image");
    std::fs::remove_dir(image.join("proc")).unwrap();
    std::fs::remove_dir(image.join("sys")).unwrap();
    let before = listing(&image);
    equal(stage.finish().ok()?, "new\n")?;
    equal(listing(&image), before)
}

fn descriptors() -> Result<(), String> {
    let mut stage = Stage::new("");
    // As PID 1 itself: a shell has descriptors of its own making.
    stage.job.request.args = ["/bin/ls", "/proc/self/fd"].map(str::to_owned).to_vec();
    let ran = Ran::from(
        Command::new("/bin/sh")
            .args(["-c", "exec 7</etc 9>/dev/null \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg("--drive")
            .arg(serde_json::to_string(&stage.job).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    // 0 to 2, and the directory that ls itself reads.
    equal(ran.ok()?, "0\n1\n2\n3\n")
}

fn closed_stdio() -> Result<(), String> {
    let stage = Stage::new("readlink /proc/self/fd/0; readlink /proc/self/fd/2; echo hi");
    let ran = Ran::from(
        Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" <&- 2>&-", "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg("--drive")
            .arg(serde_json::to_string(&stage.job).unwrap())
            .output()
            .unwrap(),
    );
    equal(ran.ok()?, "/dev/null\n/dev/null\nhi\n")
}

fn protected_paths() -> Result<(), String> {
    let script = "cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
        echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo ro; echo h 2>/dev/null >/proc/sysrq-trigger || echo ro; \
        touch /sys/firmware/x 2>/dev/null || echo ro; cat /proc/keys | wc -c; cat /proc/sys/kernel/ostype";
    equal(Stage::new(script).finish().ok()?, "0\n0\nro\nro\nro\n0\nLinux\n")
}

fn read_only_root() -> Result<(), String> {
    let mut stage = Stage::new(
        "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw; touch /new/deep/x 2>/dev/null || echo ro; pwd",
    );
    stage.job.request.read_only = true;
    stage.job.request.working_dir = Some(PathBuf::from("/new/deep"));
    equal(stage.finish().ok()?, "ro\nrw\nro\n/new/deep\n")
}

fn bind(source: &Path, target: &str, read_only: bool) -> MountRequest {
    let kind = MountKind::Bind { source: source.to_owned(), propagation: None, recursive: true };
    MountRequest { target: PathBuf::from(target), read_only, kind }
}

fn binds() -> Result<(), String> {
    let mut stage = Stage::new(
        "cat /a/f /made/here /etc/marker; touch /b/x 2>/dev/null || echo ro; touch /a/new; grep -c -e shared -e master /proc/self/mountinfo",
    );
    let source = stage.base.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "file\n").unwrap();
    stage.job.request.mounts = vec![
        bind(&source, "/a", false),
        bind(&source, "/b", true),
        bind(&source.join("f"), "/made/here", true),
        bind(&source.join("f"), "/etc/marker", false),
    ];
    let ran = stage.finish();
    equal((ran.out.as_str(), ran.err.as_str()), ("file\nfile\nfile\nro\n0\n", ""))?;
    equal(source.join("new").exists(), true)?;

    let mut stage = Stage::new("true");
    stage.job.request.mounts = vec![bind(Path::new("/no/such/source"), "/a", false)];
    stage.finish().fails(125, "mkdir -p /no/such/source")?;
    let mut stage = Stage::new("true");
    stage.job.request.mounts = vec![bind(Path::new("/etc"), "/bin/busybox", false)];
    stage.finish().fails(125, "a directory cannot be mounted on a file")?;
    for target in ["/", "/proc", "/proc/self/attr", "/a/../b", "rel"] {
        let mut stage = Stage::new("true");
        stage.job.request.mounts = vec![bind(Path::new("/etc"), target, false)];
        stage.finish().fails(125, target)?;
    }
    let mut stage = Stage::new("true");
    stage.job.request.mounts = vec![bind(Path::new("/etc"), "/a", false), bind(Path::new("/usr"), "/a/", false)];
    stage.finish().fails(125, "two mounts")
}

fn volumes() -> Result<(), String> {
    let mut stage =
        Stage::new("cat /etc/marker; stat -c '%a %u' /etc /etc/passwd; readlink /etc/link; echo changed >/etc/marker");
    let image = stage.base.join("image/etc");
    std::os::unix::fs::symlink("passwd", image.join("link")).unwrap();
    std::os::unix::fs::chown(image.join("passwd"), Some(33), None).unwrap();
    let volume = stage.base.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let kind = MountKind::Volume { source: volume.clone(), subpath: None, recursive: true, copy_up: true };
    stage.job.request.mounts = vec![MountRequest { target: PathBuf::from("/etc"), read_only: false, kind }];
    equal(stage.finish().ok()?, "from the image\n755 0\n644 33\npasswd\n")?;
    equal(stage.finish().ok()?, "changed\n755 0\n644 33\npasswd\n")?;
    equal(std::fs::read_to_string(image.join("marker")).unwrap(), "from the image\n")
}

fn tmpfs() -> Result<(), String> {
    let mut stage = Stage::new(
        "stat -c '%a %u %g' /t; dd if=/dev/zero of=/t/x bs=1024 count=2048 2>/dev/null || echo full; cp /bin/busybox /u 2>/dev/null; \
         grep -e ' /t ' /proc/mounts | cut -d' ' -f4",
    );
    let kind =
        MountKind::Tmpfs { size: Some(ByteSize(1 << 20)), mode: Some(0o750), uid: Some(7), gid: Some(8), exec: false };
    stage.job.request.mounts = vec![MountRequest { target: PathBuf::from("/t"), read_only: false, kind }];
    let out = stage.finish().ok()?;
    equal(out.starts_with("750 7 8\nfull\nrw,nosuid,nodev,noexec,"), true).map_err(|_| out)
}

fn symlinks() -> Result<(), String> {
    let mut stage = Stage::new("ls /etc/in /tmp/deep");
    let image = stage.base.join("image");
    let source = stage.base.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "x").unwrap();
    let outside = stage.base.join("outside");
    std::fs::create_dir(&outside).unwrap();
    // To the host's path and, as seen from inside, to a directory of the container.
    std::os::unix::fs::symlink("../../../../etc", image.join("up")).unwrap();
    std::os::unix::fs::symlink("/tmp", image.join("abs")).unwrap();
    std::os::unix::fs::symlink(&outside, image.join("out")).unwrap();
    stage.job.request.mounts = vec![bind(&source, "/up/in", false), bind(&source, "/abs/deep", false)];
    equal(stage.finish().ok()?, "/etc/in:\nf\n\n/tmp/deep:\nf\n")?;
    stage.job.request.mounts = vec![bind(&source, "/out", false)];
    stage.finish().fails(125, "symbolic link")?;
    equal(std::fs::read_dir(&outside).unwrap().count(), 0)?;
    std::os::unix::fs::symlink("/proc/self", image.join("p")).unwrap();
    stage.job.request.mounts = vec![bind(&source, "/p", false)];
    stage.finish().fails(125, "/p")
}

fn kernel_links() -> Result<(), String> {
    for (name, to) in
        [("proc", "/etc"), ("sys", "/"), ("dev", "/etc"), ("dev", "/proc/self/root"), ("proc", "../../../../tmp")]
    {
        let stage = Stage::new("true");
        let image = stage.base.join("image");
        std::fs::remove_dir(image.join(name)).unwrap();
        std::os::unix::fs::symlink(to, image.join(name)).unwrap();
        stage.finish().fails(125, "symbolic link").map_err(|e| format!("{name} to {to}: {e}"))?;
    }
    Ok(())
}

fn users() -> Result<(), String> {
    for (user, groups, wanted) in [
        ("", vec![], "0 0 0 /root"),
        ("web", vec![], "1000 1000 1000 4 /data"),
        ("1000", vec!["root"], "1000 1000 1000 0 4 /data"),
        ("web:adm", vec![], "1000 4 4 /data"),
        ("5000:6000", vec!["70"], "5000 6000 6000 70 /"),
    ] {
        let mut stage = Stage::new("echo $(id -u) $(id -g) $(id -G) $HOME; echo x >/dev/stderr; test -w /dev/stdout");
        stage.job.request.user = Some(user.to_owned());
        stage.job.request.groups = groups.into_iter().map(str::to_owned).collect();
        let ran = stage.finish();
        equal((ran.code, ran.out.trim(), ran.err.as_str()), (Some(0), wanted, "x\n"))?;
    }
    for (user, code) in [("nosuch", 126), ("0:nosuch", 126), ("-1", 125), ("4294967295", 125), ("1:2:3", 125)] {
        let mut stage = Stage::new("true");
        stage.job.request.user = Some(user.to_owned());
        stage.finish().fails(code, user.split(':').next_back().unwrap())?;
    }
    Ok(())
}

fn bad_passwd() -> Result<(), String> {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 4] = [
        (|path| std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap(), "1073741824"),
        (|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(), "not a regular file"),
        (|path| std::fs::create_dir(path).unwrap(), "not a regular file"),
        (|path| std::os::unix::fs::symlink("/proc/self/exe", path).unwrap(), "/etc/passwd"),
    ];
    for (spoil, text) in cases {
        let mut stage = Stage::new("true");
        let path = stage.base.join("image/etc/passwd");
        std::fs::remove_file(&path).unwrap();
        spoil(&path);
        stage.job.request.user = Some("web".to_owned());
        stage.finish().fails(126, text)?;
    }
    // A link to the host's file means a file of the container.
    let mut stage = Stage::new("true");
    let path = stage.base.join("image/etc/passwd");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(stage.base.join("secret"), "web:x:1:1::/:\n").unwrap();
    std::os::unix::fs::symlink(stage.base.join("secret"), &path).unwrap();
    stage.job.request.user = Some("web".to_owned());
    stage.finish().fails(126, "no user `web`")
}

fn working_directories() -> Result<(), String> {
    let with = |path: &str| {
        let mut stage = Stage::new("pwd");
        stage.job.request.working_dir = Some(PathBuf::from(path));
        std::os::unix::fs::symlink("/proc/self/fd", stage.base.join("image/fds")).unwrap();
        std::os::unix::fs::symlink("/proc/1/cwd", stage.base.join("image/cwd")).unwrap();
        stage.finish()
    };
    equal(with("/tmp").ok()?, "/tmp\n")?;
    equal(with("/made/for/it").ok()?, "/made/for/it\n")?;
    with("/etc/passwd").fails(126, "it is a file")?;
    with("/etc/passwd/x").fails(126, "it is a file")?;
    with("/fds/3").fails(126, "link of /proc")?;
    with("/cwd").fails(126, "link of /proc")?;
    with("/proc/self/fd/7").fails(125, "/proc")?;
    with("rel").fails(125, "not absolute")
}

fn environment() -> Result<(), String> {
    let mut stage = Stage::new("env | grep -v -e ^_= -e ^SHLVL -e ^PWD | sort");
    stage.job.request.env.insert("A".to_owned(), "b c".to_owned());
    let ran = Ran::from(stage.command().env("CANARY", "secret").stdin(Stdio::null()).output().unwrap());
    equal(
        ran.ok()?,
        "A=b c\nHOME=/root\nHOSTNAME=box\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    )
}

fn capabilities() -> Result<(), String> {
    let status = "grep -e ^Cap -e NoNew -e Seccomp: /proc/self/status | cut -f2 | tr '\\n' ' '";
    let run = |change: fn(&mut ContainerRequest)| {
        let mut stage = Stage::new(status);
        change(&mut stage.job.request);
        stage.finish().ok()
    };
    let line = |set: &str| format!("0000000000000000 {set} {set} {set} 0000000000000000 0 0 ");
    equal(run(|_| {})?, line("00000000a80425fb"))?;
    equal(run(|r| r.capabilities.base = CapabilityBase::Ancestor)?, line("00000000000425eb"))?;
    equal(run(|r| r.capabilities.drop = vec!["ALL".to_owned()])?, line("0000000000000000"))?;
    equal(run(|r| r.capabilities.add = vec!["net_admin".to_owned()])?, line("00000000a80435fb"))?;
    let out = run(|r| r.user = Some("web".to_owned()))?;
    equal(out.as_str(), "0000000000000000 0000000000000000 0000000000000000 00000000a80425fb 0000000000000000 0 0 ")
}

fn seccomp() -> Result<(), String> {
    for (no_new_privileges, user, wanted) in
        [(true, None, "1 2 "), (false, None, "0 2 "), (true, Some("web"), "1 2 "), (false, Some("web"), "0 2 ")]
    {
        for init in [false, true] {
            let mut stage = Stage::new("grep -e NoNew -e Seccomp: /proc/self/status | cut -f2 | tr '\\n' ' '");
            stage.job.seccomp = true;
            stage.job.request.init = init;
            stage.job.request.no_new_privileges = no_new_privileges;
            stage.job.request.user = user.map(str::to_owned);
            equal(stage.finish().ok()?, wanted)?;
        }
    }
    Ok(())
}

fn limits() -> Result<(), String> {
    let mut stage = Stage::new("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj");
    stage.job.request.ulimits.insert("nofile".to_owned(), Ulimit { soft: 64, hard: 100 });
    stage.job.request.ulimits.insert("core".to_owned(), Ulimit { soft: 0, hard: 0 });
    stage.job.request.oom_score_adj = Some(500);
    equal(stage.finish().ok()?, "64\n100\n0\n500\n")?;
    // Without CAP_SYS_RESOURCE: as high as allowed, and a warning that names both.
    let mut stage = Stage::new("ulimit -Hn");
    stage.job.request.ulimits.insert("nofile".to_owned(), Ulimit { soft: 1 << 20, hard: 1 << 20 });
    let ran = stage.finish();
    equal(ran.code, Some(0))?;
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let given: u64 = ran.out.trim().parse().unwrap();
    if hard < 1 << 20 && given == hard {
        equal(ran.err.contains("1048576") && ran.err.contains(&hard.to_string()), true).map_err(|_| ran.err)
    } else {
        equal(given, 1_u64 << 20)
    }
}

fn sysctls() -> Result<(), String> {
    let mut stage = Stage::new(
        "cd /proc/sys; cat net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start net/ipv4/ip_forward kernel/shmmni",
    );
    stage.job.request.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    stage.job.request.sysctls.insert("kernel.shmmni".to_owned(), "77".to_owned());
    equal(stage.finish().ok()?, "0\t2147483647\n0\n1\n77\n")?;
    let mut stage = Stage::new("true");
    stage.job.request.sysctls.insert("kernel.panic".to_owned(), "1".to_owned());
    stage.finish().fails(125, "kernel.panic")?;
    let mut stage = Stage::new("true");
    stage.job.request.sysctls.insert("net.ipv4.no_such".to_owned(), "1".to_owned());
    stage.finish().fails(125, "net.ipv4.no_such")
}

fn built_in_init() -> Result<(), String> {
    let mut stage =
        Stage::new("echo $$; (sleep 0.01 & ) ; (sleep 0 &); sleep 0.05; ps -o stat | grep -c Z; kill -TERM 1; sleep 5");
    stage.job.request.init = true;
    let ran = stage.finish();
    equal((ran.code, ran.out.as_str()), (Some(143), "2\n0\n"))?;
    for (script, code) in [
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -37 $$", 165),
        ("trap 'exit 9' USR1; kill -USR1 1; while :; do sleep 0.01; done", 9),
    ] {
        let mut stage = Stage::new(script);
        stage.job.request.init = true;
        equal(stage.finish().code, Some(code)).map_err(|e| format!("{script}: {e}"))?;
    }
    // What the init is made of stays out of sight.
    let mut stage = Stage::new("readlink /proc/1/exe || echo hidden; cat /proc/1/maps 2>/dev/null | wc -c");
    stage.job.request.init = true;
    let out = stage.finish();
    equal(out.out.as_str(), "hidden\n0\n")
}

fn terminal() -> Result<(), String> {
    let mut stage = Stage::new(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stat -c '%a %u' /dev/console; echo to >/dev/console; echo $TERM; id -u",
    );
    stage.job.request.tty = true;
    let wanted = |uid: &str| format!("/dev/pts/0\r\nall\r\n600 {uid}\r\nto\r\nxterm\r\n{uid}\r\n");
    equal(stage.finish().ok()?, wanted("0"))?;
    stage.job.request.user = Some("web".to_owned());
    equal(stage.finish().ok()?, wanted("1000"))
}

fn terminal_under_init() -> Result<(), String> {
    let mut stage = Stage::new("tty; cat /proc/self/stat | cut -d' ' -f7");
    stage.job.request.tty = true;
    stage.job.request.init = true;
    equal(stage.finish().ok()?, "/dev/pts/0\r\n34816\r\n")
}

fn user_namespace() -> Result<(), String> {
    let mut stage = Stage::new(
        "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups | tr -s ' '; touch /tmp/x /x && stat -c %u /x /etc/marker; \
         echo x >/dev/null; stat -c '%t:%T' /dev/null; cat /proc/sys/net/ipv4/ping_group_range; id -G; hostname; grep CapEff /proc/self/status | cut -f2",
    );
    stage.job.request.namespaces.user = Some(IdMaps::ancestor());
    let image = stage.base.join("image");
    let before = listing(&image);
    equal(
        stage.finish().ok()?,
        "0\n 0 100000 65536\n 0 100000 65536\nallow\n0\n0\n1:3\n0\t65535\n0 4\nbox\n00000000a80425fb\n"
            .replace("0 4", "0"),
    )?;
    equal(listing(&image), before)?;
    use std::os::unix::fs::MetadataExt;
    equal(std::fs::metadata(stage.base.join("c/layers/upper/x")).unwrap().uid(), 0)?;
    let mut stage = Stage::new("id -u; id -G; tty; touch /tmp/x");
    stage.job.request.namespaces.user = Some(IdMaps::ancestor());
    stage.job.request.user = Some("web".to_owned());
    stage.job.request.tty = true;
    equal(stage.finish().ok()?, "1000\r\n1000 4\r\n/dev/pts/0\r\n")
}

fn user_namespace_ancestor() -> Result<(), String> {
    let mut stage = Stage::new(
        "cat /proc/self/setgroups; grep CapBnd /proc/self/status | cut -f2; touch /tmp/x; grep Seccomp: /proc/self/status | cut -f2",
    );
    stage.job.request.namespaces.user = Some(IdMaps::ancestor());
    stage.job.request.capabilities.base = CapabilityBase::Ancestor;
    stage.job.request.no_new_privileges = true;
    stage.job.request.seccomp = SeccompRequest::AncestorDefault;
    stage.job.seccomp = true;
    equal(stage.finish().ok()?, "deny\n00000000000425eb\n2\n")
}

fn exec() -> Result<(), String> {
    for (init, user_namespace) in [(false, false), (true, false), (false, true)] {
        let run = |args: &[&str], user: Option<&str>, tty: bool| {
            let mut stage = Stage::new("echo x >/ready; sleep 100");
            stage.job.request.init = init;
            stage.job.request.namespaces.user = user_namespace.then(IdMaps::ancestor);
            stage.job.request.env.insert("A".to_owned(), "b".to_owned());
            let args = args.iter().map(|a| (*a).to_owned()).collect();
            stage.job.exec = Some(ExecJob { args, user: user.map(str::to_owned), tty });
            stage.finish()
        };
        let script = "echo $A $(id -u) $(cat /proc/1/comm) $(hostname); test $$ != 1; \
            for n in mnt uts ipc pid net cgroup user; do test \"$(readlink /proc/1/ns/$n)\" = \"$(readlink /proc/self/ns/$n)\" || echo $n; done; \
            ls /proc/self/fd | wc -l; grep CapBnd /proc/self/status | cut -f2";
        let out = run(&["sh", "-c", script], None, false).ok()?;
        let lines: Vec<_> = out.lines().collect();
        equal(lines[0].starts_with("b 0 ") && lines[0].ends_with(" box"), true).map_err(|_| out.clone())?;
        // /proc/1 of a built-in init is closed to others; its namespaces are those of its children.
        if !init {
            equal(&lines[1..], ["4", "00000000a80425fb"])?;
        }
        equal(run(&["sh", "-c", "exit 9"], None, false).code, Some(9))?;
        equal(run(&["id", "-u"], Some("web"), false).ok()?, "1000\n")?;
        equal(run(&["tty"], None, true).ok()?, "/dev/pts/0\r\n")?;
        run(&["/bin/nope"], None, false).fails(127, "/bin/nope")?;
        run(&["true"], Some("nosuch"), false).fails(126, "nosuch")?;
    }
    Ok(())
}

fn dies_with_parent() -> Result<(), String> {
    for init in [false, true] {
        let mut stage = Stage::new("echo up; sleep 100");
        stage.job.request.init = init;
        let mut driver = stage.command().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = driver.stdout.take().unwrap();
        let mut first = [0_u8; 3];
        std::io::Read::read_exact(&mut out, &mut first).unwrap();
        driver.kill().unwrap();
        driver.wait().unwrap();
        // The end of the pipe: the last process that could write to it is gone.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut out, &mut rest).unwrap();
        equal(rest, Vec::<u8>::new())?;
    }
    Ok(())
}

fn strange_paths() -> Result<(), String> {
    for name in ["with:colon", "with,comma", "with\\back", "with space", &"long".repeat(50)] {
        let stage = Stage::named("cat /etc/marker; touch /x", name);
        equal(stage.finish().ok()?, "from the image\n").map_err(|e| format!("{name}: {e}"))?;
        equal(stage.base.join(name).join("layers/upper/x").exists(), true)?;
    }
    Ok(())
}

fn cgroups_v1() -> Result<(), String> {
    let mut stage = Stage::new(
        "grep -e pids /proc/self/cgroup | cut -d: -f3; cat /sys/fs/cgroup/pids/tasks | head -1; touch /sys/fs/cgroup/x 2>/dev/null || echo ro; \
         echo 5 2>/dev/null >/sys/fs/cgroup/pids/pids.max || echo ro; ls /sys/fs/cgroup",
    );
    stage.job.controllers = vec!["memory".to_owned(), "pids".to_owned()];
    equal(stage.finish().ok()?, "/\n1\nro\nro\nmemory\npids\n")
}

fn shared_network() -> Result<(), String> {
    let other = NamespaceSource::Container(ContainerId::generate());
    for network in [other, NamespaceSource::Host] {
        let mut stage = Stage::new("readlink /proc/self/ns/net; ls /sys/class/net | grep -c lo");
        stage.job.request.namespaces.network = network;
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        equal(stage.finish().ok()?, format!("{}\n1\n", own.display()))?;
    }
    // The host's network namespace has another owner than a new user namespace: sysfs is bound, not mounted.
    let mut stage = Stage::new("ls /sys/class/net | grep -c lo; touch /sys/x 2>/dev/null || echo ro");
    stage.job.request.namespaces.network = NamespaceSource::Host;
    stage.job.request.namespaces.user = Some(IdMaps::ancestor());
    equal(stage.finish().ok()?, "1\nro\n")
}
