//! C: what a container finds of files, under `-a` as under `run`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::{Case, MYDOCKER, Sandbox, Terminal, cases, rootfs};
use crate::{ancestor, run, spawn_ancestor};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        b7_the_hosts_files_keep_their_owners,
        b7_also_where_ids_cannot_be_mapped,
        c2_six_mounts,
        c3_devices_whatever_the_umask,
        c5_the_console_is_the_terminal,
        c8_volumes_in_order,
        c8_a_volume_cannot_escape,
        c11_an_environment_of_its_own,
        c14_the_kernels_files_are_covered,
        c15_umask_and_propagation,
    ]
}

/// Who owns what of a tree, with modes.
fn owners(dir: &Path, found: &mut BTreeMap<PathBuf, (u32, u32, u32)>) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let facts = entry.path().symlink_metadata().expect("there");
        found.insert(entry.path(), (facts.uid(), facts.gid(), facts.mode()));
        if facts.is_dir() {
            owners(&entry.path(), found);
        }
    }
}

fn b7_the_hosts_files_keep_their_owners(sandbox: &Sandbox) {
    let whole = || {
        let mut found = BTreeMap::new();
        owners(rootfs(), &mut found);
        found
    };
    let before = whole();
    let script = "touch /new /etc/new && chown -R 7:7 /home && chmod 700 /www && rm /bin/vi && echo x >>/etc/passwd && \
                  stat -c %u:%g /new /home/app /etc/passwd";
    let told = ancestor(sandbox, &["-aU"], &["sh", "-c", script]).ok();
    assert_eq!(told.stdout, "0:0\n7:7\n0:0\n");
    assert_eq!(whole(), before);
}

/// ramfs has no id-mapped mounts: as overlayfs itself, as kernels before 5.19 below an overlay, as tmpfs before 6.3.
fn b7_also_where_ids_cannot_be_mapped(sandbox: &Sandbox) {
    sandbox.shell("mkdir ram && mount -t ramfs ram ram && cp -a \"$MYDOCKER_ROOTFS/.\" ram && chown 3:4 ram/www").ok();
    let list = "find ram -exec stat -c '%n %u:%g %a' {} + | sort";
    let before = sandbox.shell(list).ok().stdout;
    let script = "touch /new /etc/new && chown 7:7 /home/app && rm /bin/vi && echo x >>/etc/passwd && stat -c '%u:%g %a' /new /home/app /www /tmp && \
                  head -n 1 /etc/passwd && readlink /bin/ls";
    let words = ["-aU", "--network", "none", "--rootfs", "ram", "sh", "-c", script];
    let told = sandbox.mydocker(&words).ok();
    assert_eq!(
        told.stdout,
        "0:0 644\n7:7 755\n3:4 755\n0:0 1777\nroot:x:0:0:root:/root:/bin/sh\nbusybox\n",
        "{}",
        told.describe()
    );
    assert!(told.stderr.contains("copy of") && told.stderr.lines().count() == 1, "{}", told.describe());
    assert_eq!(sandbox.shell(list).ok().stdout, before);
    sandbox.shell("umount ram && rmdir ram").ok();
}

fn c2_six_mounts(sandbox: &Sandbox) {
    let mounts = ancestor(sandbox, &["-a"], &["cat", "/proc/mounts"]).ok().stdout;
    for (point, kind, options) in [
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid", "noexec", "mode=755"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(point));
        let words: Vec<&str> = line.unwrap_or_default().split([' ', ',']).collect();
        for wanted in options.iter().chain([&kind]) {
            assert!(words.contains(wanted), "{point}: {wanted} in {line:?}");
        }
    }
}

fn c3_devices_whatever_the_umask(sandbox: &Sandbox) {
    let script = "for d in null zero full tty random urandom; do stat -c '%n %t:%T %a' /dev/$d; done; echo x >/dev/null; \
                  head -c 1 /dev/urandom | wc -c; echo x >/dev/full; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done";
    for flags in ["-a", "-aU"] {
        let line = format!("umask 077; \"$MYDOCKER\" {flags} --network none sh -c \"$SCRIPT\"");
        sandbox.set_env("SCRIPT", script);
        let told = sandbox.shell(&line);
        let nodes = "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/tty 5:0 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n1\n";
        let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
        assert_eq!(told.stdout, format!("{nodes}{links}"), "{flags}: {}", told.describe());
        assert!(told.stderr.contains("No space left"), "{}", told.describe());
    }
}

fn c5_the_console_is_the_terminal(sandbox: &Sandbox) {
    let script = "tty; stat -c '%a %t:%T' /dev/console; stat -c %t:%T $(tty); echo there >/dev/console; stty size";
    let root = rootfs().to_str().expect("UTF-8");
    let words = [MYDOCKER, "-a", "--network", "none", "--rootfs", root, "sh", "-c", script].map(OsString::from);
    let (code, screen) = Terminal::start(sandbox, sandbox.dir(), &words).wait();
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    assert_eq!(code, 0, "{screen}");
    assert!(lines[0].starts_with("/dev/pts/"), "{screen}");
    let (mode, number) = lines[1].split_once(' ').expect("mode and number");
    assert_eq!((mode, number), ("600", lines[2]), "{screen}");
    assert_eq!((lines[3], lines[4]), ("there", "24 80"), "{screen}");
}

fn c8_volumes_in_order(sandbox: &Sandbox) {
    let at = |name: &str| {
        let dir = sandbox.dir().join(name);
        fs::create_dir_all(&dir).expect("our own");
        fs::write(dir.join("name"), name).expect("our own");
        dir.to_str().expect("UTF-8").to_owned()
    };
    let (outer, inner) = (format!("{}:/d:ro", at("outer")), format!("{}:/d/name:rw", at("inner")));
    // The second lies on the first: a file of it, from a file.
    let inner = inner.replace(":/d/name", "/name:/d/name");
    let script = "cat /d/name; touch /d/x; echo more >>/d/name";
    let told = run(sandbox, &["-v", &outer, "-v", &inner, "sh", "-c", script]);
    assert!(told.stdout == "inner" && told.stderr.contains("Read-only file system"), "{}", told.describe());
    assert_eq!(fs::read_to_string(sandbox.dir().join("inner/name")).expect("written"), "innermore\n");
    run(sandbox, &["-v", &outer.replace(":ro", ":sideways"), "true"]).refused(125, &["sideways"]);
    run(sandbox, &["-v", &outer.replace("/d:", "relative:"), "true"]).refused(125, &["relative"]);
    run(sandbox, &["-v", &outer.replace("/d:", "/a/../../d:"), "true"]).refused(125, &["/a/../../d"]);
}

fn c8_a_volume_cannot_escape(sandbox: &Sandbox) {
    let root = sandbox.dir().join("root");
    sandbox.host(&["cp", "-a", rootfs().to_str().expect("UTF-8"), root.to_str().expect("UTF-8")]).ok();
    let (victim, data) = (sandbox.dir().join("victim"), sandbox.dir().join("data2"));
    for dir in [&victim, &data] {
        fs::create_dir(dir).expect("our own");
    }
    fs::write(data.join("seen"), "").expect("our own");
    symlink(&victim, root.join("out")).expect("our own");
    symlink("../../../../../..", root.join("up")).expect("our own");
    for target in ["/out", "/up/mnt/deep"] {
        let volume = format!("{}:{target}", data.display());
        let rootfs = root.to_str().expect("UTF-8");
        let script = format!("ls {target}");
        let told =
            sandbox.mydocker(&["run", "--network", "none", "--rootfs", rootfs, "-v", &volume, "sh", "-c", &script]);
        // It is mounted at what the link means inside, or refused.
        assert!(told.stdout == "seen\n" || told.code == 125, "{}", told.describe());
        assert_eq!(fs::read_dir(&victim).expect("there").count(), 0);
        assert!(!Path::new("/mnt/deep").exists());
    }
}

fn c11_an_environment_of_its_own(sandbox: &Sandbox) {
    sandbox.set_env("CANARY", "must-not-travel");
    let told = ancestor(sandbox, &["-a", "--env", "A=b"], &["env"]).ok().stdout;
    let mut names: Vec<&str> = told.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "HOME", "HOSTNAME", "PATH", "TERM"], "{told}");
    assert!(told.contains("HOME=/root\n") && told.contains("PATH=/usr/local/sbin:"), "{told}");
}

fn c14_the_kernels_files_are_covered(sandbox: &Sandbox) {
    for flags in ["-a", "-aU"] {
        let script = "cat /proc/kcore 2>/dev/null | wc -c; for f in /proc/sys/kernel/domainname /proc/irq/default_smp_affinity /proc/sysrq-trigger; do \
                      [ ! -e $f ] || { echo there; echo x >$f; }; done 2>&1; true";
        let told = ancestor(sandbox, &[flags], &["sh", "-c", script]);
        assert!(told.stdout.starts_with("0\n"), "{}", told.describe());
        let (there, refused) =
            (told.stdout.matches("there\n").count(), told.stdout.matches("Read-only file system").count());
        assert!(there > 0 && refused == there, "{}", told.describe());
    }
}

fn c15_umask_and_propagation(sandbox: &Sandbox) {
    let line = "umask 077; \"$MYDOCKER\" -a --network none sh -c umask";
    assert_eq!(sandbox.shell(line).ok().stdout, "0022\n");
    sandbox.shell("mkdir -p shared").ok();
    let bind = format!("{}:/shared", sandbox.dir().join("shared").display());
    let script = "mount -t tmpfs inside /shared && echo mounted; \
                  until [ -e /etc/hosts.go ] || grep -q go /etc/hosts; do sleep 0.05; done; cat /proc/mounts";
    let flags = ["-a", "--cap-add", "SYS_ADMIN", "--seccomp", "unconfined", "--volume", &bind];
    let mut running = spawn_ancestor(sandbox, &flags, &["sh", "-c", script]);
    running.wait_for_stdout("mounted");
    assert!(!sandbox.shell("cat /proc/mounts").ok().stdout.contains("inside"), "what it mounts the host does not see");
    sandbox.shell("mkdir -p made && mount -t tmpfs outside made").ok();
    // Its /etc/hosts is a file of the host's: so it hears that it is time to look.
    sandbox.shell("for f in data/containers/*/hosts; do echo '127.0.0.9 go' >>$f; done").ok();
    let told = sandbox.finish(running, crate::support::PATIENCE).ok().stdout;
    sandbox.shell("umount made").ok();
    assert!(!told.contains("outside"), "what the host mounts it does not see: {told}");
}
