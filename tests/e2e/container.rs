//! What a service's process finds around it: namespaces, files, identity, rights, limits.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::{Case, Project, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        namespaces_are_its_own,
        the_root_filesystem_is_never_changed,
        only_its_own_mounts,
        a_read_only_root_with_tmpfs,
        binds_and_named_volumes,
        user_by_name_and_number,
        capabilities_and_seccomp,
        no_new_privileges_where_asked,
        masked_and_read_only_paths,
        limits_are_in_its_cgroup: Controllers,
        too_much_memory_is_killed: Controllers,
        too_many_processes_are_refused: Controllers,
        environment_is_clean,
        names_and_hosts,
        a_terminal_for_a_service,
        working_directory,
        entrypoint_and_command,
        devices,
    ]
}

/// Brings up one service named `one` with `keys` that sleeps.
fn one<'a>(sandbox: &'a Sandbox, keys: &str) -> Project<'a> {
    let yaml = format!("\n services:\n  one: {{image: root_fs, init: true, command: [sleep, infinity], {keys}}}\n");
    let project = sandbox.project("single", &yaml);
    project.up();
    project
}

/// Runs a shell script in the container of `one`; its stdout.
fn inside(project: &Project<'_>, script: &str) -> String {
    project.exec("one", &["sh", "-c", script]).ok().stdout
}

fn namespaces_are_its_own(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none");
    let pid = project.container("one").pid;
    for name in ["mnt", "uts", "ipc", "pid", "net", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).expect("ours");
        assert_ne!(fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("it runs"), ours, "{name}");
    }
    let user = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).expect("it runs");
    assert_eq!(user(&pid.to_string()), user("self"), "no user namespace unless asked for");
    assert_eq!(inside(&project, "ls -d /proc/[0-9]* | wc -l").trim().parse::<u32>().map(|count| count < 6), Ok(true));
    assert_eq!(inside(&project, "cat /proc/self/cgroup | sed 's/.*://' | sort -u"), "/\n");
    assert_eq!(inside(&project, "ls /sys/class/net"), "lo\n");
    assert!(inside(&project, "ip addr show lo").contains("127.0.0.1/8"), "lo is up");
}

/// Names, kinds, modes, sizes and times of a tree.
fn listing(dir: &Path, found: &mut BTreeMap<PathBuf, (u32, u64, i64, i64)>) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let facts = entry.path().symlink_metadata().expect("there");
        found.insert(entry.path(), (facts.mode(), facts.size(), facts.mtime(), facts.mtime_nsec()));
        if facts.is_dir() {
            listing(&entry.path(), found);
        }
    }
}

fn the_root_filesystem_is_never_changed(sandbox: &Sandbox) {
    let whole = |root: &Path| {
        let mut found = BTreeMap::new();
        listing(root, &mut found);
        found
    };
    let root = crate::support::rootfs();
    let before = whole(root);
    let yaml = "\n services:\n  one: &s {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}\n  two: *s\n";
    let project = sandbox.project("pair", yaml);
    project.up();
    inside(&project, "echo mine > /etc/passwd; rm /bin/vi; mkdir /new; chmod 700 /www");
    assert_eq!(
        project.exec("two", &["sh", "-c", "head -c 4 /etc/passwd; ls -d /new /bin/vi; stat -c %a /www"]).stdout,
        "root/bin/vi\n755\n"
    );
    project.down();
    project.up();
    assert_eq!(inside(&project, "head -c 4 /etc/passwd"), "root", "after `down` it starts from new");
    assert_eq!(whole(root), before);
}

fn only_its_own_mounts(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none");
    let mounts = inside(&project, "cat /proc/1/mountinfo");
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for wanted in ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
        assert!(points.contains(&wanted), "{wanted} in {points:?}");
    }
    let foreign: Vec<&&str> = points
        .iter()
        .filter(|point| {
            !["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
                .iter()
                .any(|own| point.starts_with(own))
                && **point != "/"
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(inside(&project, "ls -a / | grep -E 'old|pivot' | wc -l").trim(), "0");
    // Neither side sees what the other mounts later.
    sandbox.shell("mkdir -p made && mount -t tmpfs later made").ok();
    assert!(!inside(&project, "cat /proc/1/mountinfo").contains("later"));
    sandbox.shell("umount made").ok();
}

fn a_read_only_root_with_tmpfs(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none, read_only: true, tmpfs: ['/scratch:size=1m,mode=1777', /plain]");
    let refused = project.exec("one", &["touch", "/etc/x"]);
    assert!(refused.code != 0 && refused.stderr.contains("Read-only file system"), "{}", refused.describe());
    inside(&project, "touch /scratch/x /plain/x /dev/shm/x");
    let full = project.exec("one", &["dd", "if=/dev/zero", "of=/scratch/big", "bs=64k", "count=32"]);
    assert!(full.stderr.contains("No space left"), "{}", full.describe());
    assert_eq!(inside(&project, "stat -c %a /scratch"), "1777\n");
}

fn binds_and_named_volumes(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one:
            image: root_fs
            init: true
            network_mode: none
            command: [sleep, infinity]
            volumes:
              - ./here:/rw
              - ./here:/ro:ro
              - data:/data
              - {type: bind, source: ./file, target: /etc/one-file, read_only: true}
        volumes:
          data:
    "#;
    let project = sandbox.project("volumes", yaml);
    fs::create_dir(project.directory().join("here")).expect("our own");
    fs::write(project.directory().join("file"), "content\n").expect("our own");
    project.up();
    inside(&project, "echo from inside > /rw/note; echo kept > /data/state");
    assert_eq!(fs::read_to_string(project.directory().join("here/note")).expect("written inside"), "from inside\n");
    for path in ["/ro/x", "/etc/one-file"] {
        let refused = project.exec("one", &["sh", "-c", &format!("echo x > {path}")]);
        assert!(refused.code != 0 && refused.stderr.contains("Read-only file system"), "{}", refused.describe());
    }
    assert_eq!(inside(&project, "cat /ro/note /etc/one-file"), "from inside\ncontent\n");
    let volume = sandbox.data_dir().join("volumes/volumes_data/_data/state");
    assert_eq!(fs::read_to_string(&volume).expect("named as documented"), "kept\n");
    project.down();
    project.up();
    assert_eq!(inside(&project, "cat /data/state"), "kept\n", "`down` keeps named volumes");
    project.compose(&["down", "-v", "-t", "1"]).ok();
    assert!(!volume.exists(), "`down -v` does not");
}

fn user_by_name_and_number(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, network_mode: none, command: [sh, -c, 'id; echo home=$$HOME']}
        services:
          name: {<<: *s, user: app}
          number: {<<: *s, user: "1234:4321"}
          group: {<<: *s, user: "app:users"}
    "#;
    let project = sandbox.project("users", yaml);
    let shown = project.compose(&["up", "--no-color"]).ok().stdout;
    for (service, id, home) in [
        ("name", "uid=1000(app) gid=1000(app) groups=", "/home/app"),
        ("number", "uid=1234 gid=4321", "/"),
        ("group", "uid=1000(app) gid=100(users)", "/home/app"),
    ] {
        assert!(shown.lines().any(|line| line.starts_with(service) && line.contains(id)), "{service}: {shown}");
        assert!(
            shown.lines().any(|line| line.starts_with(service) && line.ends_with(&format!("home={home}"))),
            "{service}: {shown}"
        );
    }
    let wrong = sandbox
        .project("wrong", "\n services:\n  one: {image: root_fs, network_mode: none, user: nosuch, command: [id]}\n");
    wrong.compose(&["up", "-d"]).refused(1, &["nosuch", "one"]);
}

/// One line of /proc/self/status.
fn status(project: &Project<'_>, service: &str, key: &str) -> String {
    let text = project.exec(service, &["sh", "-c", &format!("grep ^{key}: /proc/1/status")]).ok().stdout;
    text.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn capabilities_and_seccomp(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, network_mode: none, stop_grace_period: 0s, command: [sleep, infinity]}
        services:
          one: {<<: *s}
          more: {<<: *s, cap_add: [NET_ADMIN]}
          none: {<<: *s, cap_drop: [ALL]}
          few: {<<: *s, cap_drop: [ALL], cap_add: [CHOWN, net_bind_service]}
          open: {<<: *s, security_opt: ["seccomp=unconfined"]}
    "#;
    let project = sandbox.project("caps", yaml);
    project.up();
    for (service, mask) in [
        ("one", "00000000a80425fb"),
        ("more", "00000000a80435fb"),
        ("none", "0000000000000000"),
        ("few", "0000000000000401"),
    ] {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(status(&project, service, set), mask, "{set} of {service}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(&project, service, set), "0000000000000000", "{set} of {service}");
        }
    }
    assert_eq!(status(&project, "one", "Seccomp"), "2");
    assert_eq!(status(&project, "open", "Seccomp"), "0");
    assert_eq!(status(&project, "one", "NoNewPrivs"), "0");
    let refused = project.exec("one", &["unshare", "-U", "true"]);
    assert!(refused.code != 0 && refused.stderr.contains("Operation not permitted"), "{}", refused.describe());
    let mounted = project.exec("more", &["mount", "-t", "tmpfs", "x", "/mnt"]);
    assert_ne!(mounted.code, 0, "mount needs SYS_ADMIN");
}

fn no_new_privileges_where_asked(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none, security_opt: ['no-new-privileges:true']");
    assert_eq!(status(&project, "one", "NoNewPrivs"), "1");
    assert_eq!(status(&project, "one", "Seccomp"), "2");
}

fn masked_and_read_only_paths(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none");
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"] {
        let refused = project.exec("one", &["sh", "-c", &format!("[ ! -e {path} ] || echo x > {path}")]);
        assert!(
            refused.stderr.contains("Read-only") || refused.stdout.is_empty() && refused.code == 0,
            "{path}: {}",
            refused.describe()
        );
    }
    assert_eq!(inside(&project, "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c").trim(), "0");
    assert_eq!(inside(&project, "ls /sys/firmware 2>/dev/null | wc -l").trim(), "0");
    let refused = project.exec("one", &["sh", "-c", "mkdir /sys/fs/x"]);
    assert_ne!(refused.code, 0);
}

fn limits_are_in_its_cgroup(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none, mem_limit: 64m, cpus: 0.5, pids_limit: 32");
    let container = project.container("one");
    assert_eq!(
        sandbox.cgroup_file(&container.id, &["memory.limit_in_bytes", "memory.max"]).as_deref(),
        Some("67108864")
    );
    assert_eq!(sandbox.cgroup_file(&container.id, &["pids.max"]).as_deref(), Some("32"));
    let quota = sandbox.cgroup_file(&container.id, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(matches!(quota.as_deref(), Some("50000" | "50000 100000")), "{quota:?}");
    let deploy = sandbox.project(
        "deploy",
        r#"
        services:
          one:
            image: root_fs
            init: true
            network_mode: none
            command: [sleep, infinity]
            deploy: {resources: {limits: {memory: 32M, cpus: "0.25", pids: 20}}}
        "#,
    );
    deploy.up();
    let container = deploy.container("one");
    assert_eq!(
        sandbox.cgroup_file(&container.id, &["memory.limit_in_bytes", "memory.max"]).as_deref(),
        Some("33554432")
    );
    assert_eq!(sandbox.cgroup_file(&container.id, &["pids.max"]).as_deref(), Some("20"));
}

fn too_much_memory_is_killed(sandbox: &Sandbox) {
    let project = sandbox.project(
        "hungry",
        "\n services:\n  one: {image: root_fs, network_mode: none, mem_limit: 16m, command: [sh, -c, 'exec tail /dev/zero']}\n",
    );
    project.up();
    assert_eq!(project.wait_exited("one").exit_code, 137);
}

fn too_many_processes_are_refused(sandbox: &Sandbox) {
    let script = "i=0; while [ $$i -lt 20 ]; do sleep 9 & i=$$((i + 1)); done; echo no limit";
    let project = sandbox.project(
        "forks",
        &format!("\n services:\n  one: {{image: root_fs, network_mode: none, pids_limit: 8, command: [sh, -c, '{script}']}}\n"),
    );
    let up = project.compose(&["up"]).ok();
    assert!(up.stdout.contains("fork") && !up.stdout.contains("no limit"), "{}", up.describe());
}

fn environment_is_clean(sandbox: &Sandbox) {
    sandbox.set_env("CANARY", "must-not-travel"); // B44
    sandbox.set_env("NAMED", "travels");
    let yaml = r#"
        services:
          one:
            image: root_fs
            network_mode: none
            stop_grace_period: 0s
            hostname: h1
            environment: {NAMED: null, A: 'b c', EMPTY: ''}
            command: [sleep, infinity]
    "#;
    let project = sandbox.project("single", yaml);
    project.up();
    let pid = project.container("one").pid;
    let given = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let mut names: Vec<String> = given
        .split(|byte| *byte == 0)
        .filter_map(|variable| String::from_utf8_lossy(variable).split_once('=').map(|(name, _)| name.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, ["A", "EMPTY", "HOME", "HOSTNAME", "NAMED", "PATH"]);
    assert_eq!(inside(&project, "echo $NAMED/$A/$EMPTY/$HOSTNAME/$HOME"), "travels/b c//h1//root\n");
    for role in sandbox.pids() {
        let environment = fs::read(format!("/proc/{role}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("must-not-travel"), "{role} has the canary");
    }
}

fn names_and_hosts(sandbox: &Sandbox) {
    let project =
        one(sandbox, "network_mode: none, container_name: my-own, hostname: given, extra_hosts: ['far:10.1.2.3']");
    assert_eq!(project.container("one").name, "my-own");
    assert_eq!(inside(&project, "hostname; cat /etc/hostname"), "given\ngiven\n");
    let hosts = inside(&project, "cat /etc/hosts");
    assert!(hosts.contains("127.0.0.1") && hosts.contains("localhost") && hosts.contains("10.1.2.3"), "{hosts}");
    let plain = sandbox.project(
        "plain",
        "\n services:\n  one: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}\n",
    );
    plain.up();
    let id = plain.container("one").id;
    assert_eq!(plain.exec("one", &["hostname"]).ok().stdout.trim(), &id[..12], "the short id, as Docker has it");
}

fn a_terminal_for_a_service(sandbox: &Sandbox) {
    let project = sandbox.project(
        "tty",
        "\n services:\n  one: {image: root_fs, network_mode: none, tty: true, command: [sh, -c, 'tty; [ -t 0 ] && [ -t 1 ] && echo a terminal']}\n",
    );
    let up = project.compose(&["up"]).ok();
    assert!(up.stdout.contains("a terminal") && up.stdout.contains("/dev/"), "{}", up.describe());
}

fn working_directory(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, network_mode: none, command: [pwd]}
        services:
          there: {<<: *s, working_dir: /etc}
          made: {<<: *s, working_dir: /srv/new/deep}
    "#;
    let project = sandbox.project("dirs", yaml);
    let shown = project.compose(&["up", "--no-color"]).ok().stdout;
    assert!(shown.contains("| /etc\n") && shown.contains("| /srv/new/deep\n"), "B36: made if missing: {shown}");
    for (dir, code) in [("/etc/passwd", 1), ("/proc/self/fd/7", 2), ("relative", 2)] {
        let wrong = sandbox.project(
            "wrong",
            &format!(
                "\n services:\n  one: {{image: root_fs, network_mode: none, working_dir: {dir}, command: [pwd]}}\n"
            ),
        );
        let words = ["compose".as_ref(), "-f".as_ref(), wrong.file().as_os_str(), "up".as_ref(), "-d".as_ref()];
        sandbox.mydocker(&words).refused(code, &[dir]);
        sandbox.mydocker(&["compose", "-p", "wrong", "down"]);
    }
}

fn entrypoint_and_command(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, network_mode: none}
        services:
          both: {<<: *s, entrypoint: [echo, -n, a], command: [b, "c d"]}
          words: {<<: *s, command: echo 'one two'   three}
          only: {<<: *s, entrypoint: echo alone}
    "#;
    let project = sandbox.project("words", yaml);
    let shown = project.compose(&["up", "--no-color"]).ok().stdout;
    assert!(shown.contains("a b c d"), "{shown}");
    assert!(shown.contains("| one two three\n") && shown.contains("| alone\n"), "{shown}");
}

fn devices(sandbox: &Sandbox) {
    let project = one(sandbox, "network_mode: none");
    let listing = inside(
        &project,
        "cd /dev; stat -c '%n %t:%T %a' null zero full tty random urandom; for l in fd stdin stdout stderr ptmx; do readlink $l; done; stat -c %a shm pts/ptmx",
    );
    for wanted in [
        "null 1:3 666",
        "zero 1:5 666",
        "full 1:7 666",
        "tty 5:0 666",
        "random 1:8 666",
        "urandom 1:9 666",
        "/proc/self/fd\n",
        "/proc/self/fd/0",
        "pts/ptmx",
        "1777",
        "666",
    ] {
        assert!(listing.contains(wanted), "{wanted} in {listing}");
    }
    inside(&project, "echo x > /dev/null; [ $(head -c 4 /dev/urandom | wc -c) = 4 ]");
    let full = project.exec("one", &["sh", "-c", "echo x > /dev/full"]);
    assert!(full.stderr.contains("No space left"), "{}", full.describe());
    let made = project.exec("one", &["sh", "-c", "mknod /dev/sda b 8 0 && head -c 1 /dev/sda"]);
    assert_ne!(made.code, 0, "a device of the host is out of reach: {}", made.describe());
}
