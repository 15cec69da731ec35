//! Every kind of risk with what is like it and none.

use std::path::{Path, PathBuf};

use super::super::{LoadRequest, judge};
use super::{Host, Judgement};

/// A host on which /p/link leads to /etc, /p/round to itself, /var/run to /run, /dev/disk/by-id/root to a disk; /p/plain is a socket.
fn judged_files(files: &[&str]) -> Judgement {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..files.len()).map(|number| dir.path().join(format!("{number}.yaml"))).collect();
    for (path, text) in paths.iter().zip(files) {
        std::fs::write(path, text).unwrap();
    }
    let request = LoadRequest {
        files: paths,
        project_name: Some("p".into()),
        project_directory: Some("/p".into()),
        working_dir: dir.path().to_owned(),
        environment: [("HOME".to_owned(), "/srv/me".to_owned())].into(),
        ..LoadRequest::default()
    };
    let links = [
        ("/p/link", "/etc"),
        ("/p/up", "../etc/cron.d"),
        ("/p/round", "round"),
        ("/p/far", "link"),
        ("/var/run", "/run"),
        ("/dev/disk/by-id/root", "../../sda1"),
    ];
    let host = Host {
        home: Some(Path::new("/srv/me")),
        run_dir: Path::new("/srv/run"),
        data_dir: Path::new("/srv/data"),
        read_link: &|path| links.iter().find(|(link, _)| Path::new(link) == path).map(|(_, to)| PathBuf::from(to)),
        is_socket: &|path| path == Path::new("/p/plain"),
    };
    judge(&request, &host).map(|(judgement, _)| judgement).unwrap_or_else(|errors| panic!("{errors}"))
}

fn judged(text: &str) -> Judgement {
    judged_files(&[text])
}

/// `LEVEL KIND KEY: WHAT` of each risk of a service with some keys.
fn lines(keys: &str) -> Vec<String> {
    let more = "networks: {hosted: {external: true, name: host}}
volumes:
  plain: {}
  etc: {driver_opts: {type: none, o: bind, device: /etc}}
  etc_ro: {driver_opts: {type: none, o: 'bind,ro', device: /p/link}}
  own: {driver_opts: {type: none, o: bind, device: ./data}}
  disk: {driver_opts: {type: ext4, device: /dev/sda1}}
  memory: {driver_opts: {type: tmpfs, device: tmpfs}}
  unused: {driver_opts: {type: none, o: bind, device: /}}
secrets: {own: {file: ./secret}, hashes: {file: /etc/shadow}, told: {environment: HOME}}
configs: {own: {file: ./config}, hashes: {file: /etc/shadow}}
";
    let judgement = judged(&format!("services:\n  web:\n    image: root_fs\n    {keys}\n{more}"));
    let line = |risk: &super::Risk| {
        let key = risk.path.strip_prefix("services.web.").unwrap_or(&risk.path);
        assert!(risk.place.as_ref().is_some_and(|place| place.line > 3 || key == "image"), "{risk:?}");
        assert!(!risk.instead.is_empty() && risk.service == "web", "{risk:?}");
        format!("{} {} {key}: {}", risk.level.word(), risk.kind, risk.what)
    };
    judgement.risks.iter().map(line).collect()
}

/// What is found for some keys; nothing where it is empty.
#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (keys, wanted) in table {
        let found = lines(keys);
        let wanted: Vec<&str> = wanted.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(found, wanted, "{keys}");
    }
}

#[test]
fn privileges() {
    check(&[
        ("privileged: true", "high privileged privileged: privileged"),
        ("privileged: false", ""),
        ("use_api_socket: true", "high socket use_api_socket: use_api_socket"),
        ("use_api_socket: false", ""),
        (
            "post_start: [{command: [x], privileged: true}]",
            "high privileged post_start[0].privileged: privileged post_start",
        ),
        ("post_start: [{command: [x]}]", ""),
        ("provider: {type: cloud}", "high provider provider: provider"),
        ("credential_spec: {file: x.json}", "low credential credential_spec: credential_spec"),
        ("cgroup_parent: other", "medium cgroup cgroup_parent: cgroup_parent: other"),
    ]);
}

#[test]
fn namespaces_of_the_host() {
    check(&[
        ("network_mode: host", "high host_namespace network_mode: network_mode: host"),
        ("network_mode: none", ""),
        ("network_mode: host\n    cap_drop: [NET_RAW]", "medium host_namespace network_mode: network_mode: host"),
        ("network_mode: host\n    cap_drop: [cap_all]", "medium host_namespace network_mode: network_mode: host"),
        (
            "network_mode: host\n    cap_drop: [ALL]\n    cap_add: [net_raw]",
            "high host_namespace network_mode: network_mode: host",
        ),
        ("networks: [hosted]", "high host_namespace networks.hosted: networks.hosted: the host's network"),
        ("networks: [default]", ""),
        ("pid: host", "high host_namespace pid: pid: host"),
        ("pid: \"container:other\"", ""),
        ("ipc: host", "medium host_namespace ipc: ipc: host"),
        ("ipc: shareable", ""),
        ("uts: host", "low host_namespace uts: uts: host"),
        ("cgroup: host", "medium host_namespace cgroup: cgroup: host"),
        ("cgroup: private", ""),
        ("userns_mode: host", "low host_namespace userns_mode: userns_mode: host"),
        ("userns_mode: keep-id", ""),
    ]);
}

#[test]
fn sockets() {
    check(&[
        (
            "volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]",
            "high socket volumes[0]: socket /var/run/docker.sock",
        ),
        ("volumes: [\"/run/docker.sock:/s:ro\"]", "high socket volumes[0]: socket /run/docker.sock"),
        ("volumes: [\"/opt/x/containerd.sock:/s\"]", "high socket volumes[0]: socket /opt/x/containerd.sock"),
        (
            "volumes: [\"/run/user/7/podman/podman.sock:/s\"]",
            "high socket volumes[0]: socket /run/user/7/podman/podman.sock",
        ),
        ("volumes: [\"/opt/own.sock:/s\"]", "medium socket volumes[0]: socket /opt/own.sock"),
        ("volumes: [\"./plain:/s\"]", "medium socket volumes[0]: socket /p/plain"),
        ("volumes: [\"./socks:/s\"]", ""),
        (
            "volumes: [\"/run/mydocker/projects:/s:ro\"]",
            "high bind volumes[0]: bind of /run/mydocker/projects, read-only",
        ),
        ("volumes: [\"/srv/run/projects:/s:ro\"]", "high bind volumes[0]: bind of /srv/run/projects, read-only"),
        ("volumes: [\"/srv:/s\"]", "high bind volumes[0]: bind of /srv, writable"),
        ("volumes: [\"/run:/r:ro\"]", "high bind volumes[0]: bind of /run, read-only"),
        ("volumes: [\"/var/run:/r\"]", "high bind volumes[0]: bind of /var/run, writable"),
        ("volumes: [\"/run/dbus:/r:ro\"]", "high bind volumes[0]: bind of /run/dbus, read-only"),
        ("volumes: [\"/run/postgresql:/r\"]", "low bind volumes[0]: bind of /run/postgresql, writable"),
    ]);
}

#[test]
fn binds() {
    let bind = |source: &str, mode: &str, level: &str| {
        let way = if mode == "ro" { "read-only" } else { "writable" };
        let wanted = match level {
            "" => Vec::new(),
            level => vec![format!("{level} bind volumes[0]: bind of {source}, {way}")],
        };
        assert_eq!(lines(&format!("volumes: [\"{source}:/x:{mode}\"]")), wanted, "{source} {mode}");
    };
    for (source, writable, read_only) in [
        ("/", "high", "high"),
        ("/etc", "high", "medium"),
        ("/etc/", "high", "medium"),
        ("/etc/nginx", "high", "low"),
        ("/etc/shadow", "high", "medium"),
        ("/etc/ssl/certs", "high", ""),
        ("/etc/ssl/private/key", "high", "medium"),
        ("/etc/localtime", "medium", ""),
        ("/etcetera", "", ""),
        ("/proc", "high", "medium"),
        ("/proc/sys", "high", "low"),
        ("/sys", "high", "low"),
        ("/sys/fs/cgroup", "high", "low"),
        ("/dev", "high", "medium"),
        ("/dev/bus/usb", "medium", "medium"),
        ("/dev/null", "", ""),
        ("/boot", "high", "low"),
        ("/boot/grub", "high", "low"),
        ("/root", "high", "medium"),
        ("/root/.ssh", "high", "medium"),
        ("/root/project/data", "", ""),
        ("/home", "high", "medium"),
        ("/home/ann", "high", "medium"),
        ("/home/ann/.kube/config", "high", "medium"),
        ("/home/ann/music", "", ""),
        ("/srv/me", "high", "medium"),
        ("/srv/me/.ssh", "high", "medium"),
        ("/srv/me/src", "", ""),
        ("/var", "high", "medium"),
        ("/var/lib", "high", "medium"),
        ("/var/lib/docker/volumes", "high", "medium"),
        ("/var/lib/postgresql", "", ""),
        ("/var/log", "medium", "low"),
        ("/usr", "high", ""),
        ("/usr/local/bin", "high", ""),
        ("/usr/share/zoneinfo", "medium", ""),
        ("/lib/modules", "high", ""),
        ("/lib64", "high", ""),
        ("/tmp", "low", "low"),
        ("/tmp/own", "", ""),
        ("/tmp/.X11-unix", "medium", "medium"),
        ("/srv/data/volumes", "high", "medium"),
        ("/opt/app", "", ""),
        ("/mnt/disk", "", ""),
    ] {
        bind(source, "rw", writable);
        bind(source, "ro", read_only);
    }
}

#[test]
fn binds_in_their_other_forms() {
    check(&[
        ("volumes: [\"./data:/data\", \"plain:/p\", \"/anonymous\"]", ""),
        ("volumes: [\"~:/h\"]", "high bind volumes[0]: bind of /srv/me, writable"),
        ("volumes: [\"~/src:/h\"]", ""),
        ("volumes: [\"./link:/x:ro\"]", "medium bind volumes[0]: bind of /p/link, a link to /etc, read-only"),
        (
            "volumes: [\"./link/new/dir:/x\"]",
            "high bind volumes[0]: bind of /p/link/new/dir, a link to /etc/new/dir, writable",
        ),
        ("volumes: [\"./far:/x\"]", "high bind volumes[0]: bind of /p/far, a link to /etc, writable"),
        ("volumes: [\"./up:/x\"]", "high bind volumes[0]: bind of /p/up, a link to /etc/cron.d, writable"),
        ("volumes: [\"./round:/x\"]", ""),
        (
            "volumes: [\"./data:/x\", \"/p/../etc:/y\"]",
            "high bind volumes[1]: bind of /p/../etc, a link to /etc, writable",
        ),
        (
            "volumes: [{type: bind, source: /etc, target: /x, read_only: true, bind: {propagation: rshared}}]",
            "medium bind volumes[0]: bind of /etc, read-only
             medium propagation volumes[0].bind.propagation: propagation rshared",
        ),
        ("volumes: [{type: bind, source: ./a, target: /x, bind: {propagation: rslave}}]", ""),
        ("volumes: [{type: tmpfs, target: /etc}]", ""),
        ("volumes: [\"etc:/x\"]", "high volume volumes.etc.driver_opts.device: volume of /etc, writable"),
        ("volumes: [\"etc:/x:ro\"]", "medium volume volumes.etc.driver_opts.device: volume of /etc, read-only"),
        (
            "volumes: [\"etc_ro:/x\"]",
            "medium volume volumes.etc_ro.driver_opts.device: volume of /p/link, a link to /etc, read-only",
        ),
        ("volumes: [\"own:/x\", \"memory:/y\"]", ""),
        ("volumes: [\"disk:/x\"]", "high volume volumes.disk.driver_opts.device: volume of the device /dev/sda1"),
        (
            "secrets: [own, hashes, told]",
            "medium secret secrets.hashes.file: secret of /etc/shadow
             low secret secrets.own.file: secret of /p/secret",
        ),
        ("configs: [own, hashes]", "medium config configs.hashes.file: config of /etc/shadow"),
    ]);
    let root = judged("services: {web: {image: 'rootfs:/'}}");
    assert_eq!((root.risks.len(), root.risks[0].kind), (1, "rootfs"));
    assert!(judged("services: {web: {image: 'rootfs:/p/rootfs'}}").risks.is_empty());
}

#[test]
fn devices() {
    check(&[
        ("devices: [\"/dev/sda\"]", "high device devices[0]: device /dev/sda"),
        ("devices: [\"/dev/disk/by-id/root:/dev/x:r\"]", "high device devices[0]: device /dev/disk/by-id/root"),
        ("devices: [\"/dev/null\", \"/dev/mem\"]", "high device devices[1]: device /dev/mem"),
        ("devices: [\"/dev\"]", "high device devices[0]: device /dev"),
        ("devices: [{source: /dev/fuse}]", "low device devices[0]: device /dev/fuse"),
        ("devices: [\"/dev/input/event0\"]", "medium device devices[0]: device /dev/input/event0"),
        ("devices: [\"/dev/odd\"]", "medium device devices[0]: device /dev/odd"),
        ("devices: [\"/dev/zero\"]", ""),
        ("device_cgroup_rules: [\"a *:* rwm\"]", "high device_rule device_cgroup_rules[0]: device rule a *:* rwm"),
        ("device_cgroup_rules: [\"b 8:0 r\"]", "high device_rule device_cgroup_rules[0]: device rule b 8:0 r"),
        ("device_cgroup_rules: [\"c 1:1 r\"]", "high device_rule device_cgroup_rules[0]: device rule c 1:1 r"),
        ("device_cgroup_rules: [\"c 189:* rw\"]", "medium device_rule device_cgroup_rules[0]: device rule c 189:* rw"),
        ("device_cgroup_rules: [\"c 10:200 rw\"]", "low device_rule device_cgroup_rules[0]: device rule c 10:200 rw"),
    ]);
}

#[test]
fn capabilities() {
    for (level, names) in [
        ("high", "ALL SYS_ADMIN SYS_MODULE SYS_RAWIO DAC_READ_SEARCH BPF PERFMON MAC_ADMIN MAC_OVERRIDE"),
        (
            "medium",
            "SYS_PTRACE SYS_BOOT SYS_TIME SYSLOG NET_ADMIN SYS_RESOURCE CHECKPOINT_RESTORE AUDIT_CONTROL AUDIT_READ",
        ),
        (
            "low",
            "SYS_NICE IPC_LOCK IPC_OWNER LINUX_IMMUTABLE LEASE WAKE_ALARM BLOCK_SUSPEND SYS_PACCT SYS_TTY_CONFIG NET_BROADCAST",
        ),
    ] {
        for name in names.split(' ') {
            let wanted = format!("{level} capability cap_add[1]: capability {name}");
            assert_eq!(lines(&format!("cap_add: [chown, cap_{}]", name.to_lowercase())), [wanted]);
        }
    }
    check(&[
        // Those that every container has.
        ("cap_add: [CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD, NET_BIND_SERVICE, NET_RAW]", ""),
        ("cap_add: [SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT, AUDIT_WRITE]", ""),
        ("cap_drop: [ALL]", ""),
        (
            "network_mode: host\n    cap_drop: [NET_RAW]\n    cap_add: [NET_ADMIN]",
            "high host_namespace network_mode: network_mode: host
             high capability cap_add[0]: capability NET_ADMIN",
        ),
        (
            "pid: host\n    cap_add: [SYS_PTRACE, SYS_BOOT]",
            "high host_namespace pid: pid: host
             high capability cap_add[0]: capability SYS_PTRACE
             high capability cap_add[1]: capability SYS_BOOT",
        ),
    ]);
}

/// A new capability of the kernel's has to be judged: either every container has it, or the table knows it.
#[test]
fn every_capability_is_judged() {
    let all = crate::spec::CapabilitySet::all();
    let default = crate::spec::CapabilitySet::docker();
    let shares = super::capabilities::Shares::default();
    for name in all.names() {
        let judged = super::capabilities::judge(name.trim_start_matches("CAP_"), shares).is_some();
        assert_ne!(judged, default.contains(&name), "{name}");
    }
}

#[test]
fn what_holds_a_container() {
    check(&[
        ("security_opt: [\"seccomp=unconfined\"]", "medium security_opt security_opt[0]: seccomp=unconfined"),
        ("security_opt: [\"seccomp:unconfined\"]", "medium security_opt security_opt[0]: seccomp=unconfined"),
        ("security_opt: [\"seccomp=default\"]", ""),
        ("security_opt: [\"apparmor=unconfined\"]", "medium security_opt security_opt[0]: apparmor=unconfined"),
        ("security_opt: [\"label:disable\"]", "medium security_opt security_opt[0]: label=disable"),
        (
            "security_opt: [\"no-new-privileges:true\", \"systempaths=unconfined\"]",
            "high security_opt security_opt[1]: systempaths=unconfined",
        ),
        ("security_opt: [\"no-new-privileges:true\"]", ""),
        ("sysctls: {net.core.somaxconn: 1, kernel.shmmax: 1, fs.mqueue.msg_max: 1, kernel.domainname: x}", ""),
        (
            "sysctls: {vm.overcommit_memory: 1}",
            "medium sysctl sysctls.vm.overcommit_memory: sysctl vm.overcommit_memory",
        ),
        ("sysctls: [kernel.core_pattern=|/x]", "high sysctl sysctls.kernel.core_pattern: sysctl kernel.core_pattern"),
        (
            "network_mode: host\n    cap_drop: [ALL]\n    sysctls: {net.core.somaxconn: 1}",
            "medium host_namespace network_mode: network_mode: host
             medium sysctl sysctls.net.core.somaxconn: sysctl net.core.somaxconn",
        ),
        (
            "ipc: host\n    sysctls: {kernel.shmmax: 1}",
            "medium host_namespace ipc: ipc: host
             medium sysctl sysctls.kernel.shmmax: sysctl kernel.shmmax",
        ),
        ("oom_score_adj: -500", "medium oom oom_score_adj: oom_score_adj: -500"),
        ("oom_score_adj: 500", ""),
        ("oom_kill_disable: true", "medium oom oom_kill_disable: oom_kill_disable"),
        ("oom_kill_disable: false", ""),
    ]);
}

#[test]
fn ports_on_all_addresses() {
    check(&[
        ("ports: [\"127.0.0.1:80:80\", \"[::1]:80:80\"]", ""),
        ("ports: [\"80:80\"]", "low port ports[0]: port 80 for 80 on all addresses"),
        (
            "ports: [\"8000-8009:8000-8009\", \"127.0.0.1:1:1\", \"0.0.0.0:81:81\", \"82\"]",
            "low port ports[0]: port 8000 for 8000 on all addresses
             low port ports[2]: port 81 for 81 on all addresses
             low port ports[3]: port any for 82 on all addresses",
        ),
        ("expose: [80]", ""),
    ]);
}

#[test]
fn a_list_is_sorted_and_tells_places() {
    let judgement = judged(
        "services:\n  web:\n    image: x\n    ports: [\"80:80\"]\n    privileged: true\n  db:\n    image: x\n    volumes:\n      - /etc:/e\n    ipc: host\n",
    );
    insta::assert_snapshot!(judgement.to_text(), @r#"
    high: 0.yaml:5:17: web: privileged
      in: services.web.privileged
      it has every capability, every device and no filter: it is root of this host
      instead: name what is needed: `cap_add:`, `devices:`
    high: 0.yaml:9:9: db: bind of /etc, writable
      in: services.db.volumes[0]
      it can change what this host runs: users, services, cron jobs, libraries
      instead: a named volume, or a directory of the project's; `:ro` where it is only read
    medium: 0.yaml:10:10: db: ipc: host
      in: services.db.ipc
      it shares memory and queues with the programs of this host
      instead: leave it out: the container has a namespace of its own then
    low: 0.yaml:4:13: web: port 80 for 80 on all addresses
      in: services.web.ports[0]
      it can be reached from every network that this host is on, past most firewalls
      instead: an address before it: "127.0.0.1:8080:80"
    "#);
    let headline = "2 services can take over this host (db: bind of /etc, writable; web: privileged)";
    assert_eq!(judgement.headline().unwrap(), headline);
    let json: serde_json::Value = serde_json::from_str(&judgement.to_json()).unwrap();
    let first = &json[0];
    assert_eq!(json.as_array().unwrap().len(), 4);
    assert_eq!(
        (&first["level"], &first["kind"], &first["service"]),
        (&"high".into(), &"privileged".into(), &"web".into())
    );
    assert_eq!((&first["file"], &first["line"], &first["column"]), (&"0.yaml".into(), &5.into(), &17.into()));
    let refusal = judgement.refusal().unwrap();
    assert!(refusal.contains("0.yaml:5:17: error: ") && refusal.contains("0.yaml:9:9: error: "), "{refusal}");
    assert!(!refusal.contains("ipc"), "only what is high: {refusal}");
    let db = judgement.of_services(&["db".to_owned()].into());
    assert_eq!(db.headline().unwrap(), "1 service can take over this host (db: bind of /etc, writable)");
    let none = judged("services: {web: {image: x}}");
    assert_eq!(
        (none.to_text(), none.headline(), none.refusal(), &none.to_json()[..]),
        (String::new(), None, None, "[]")
    );
}

#[test]
fn many_are_counted() {
    let services: String = (1..=7)
        .map(|n| format!("  s{n}: {{image: x, cap_add: [ALL, BPF, SYS_ADMIN, PERFMON, SYS_RAWIO]}}\n"))
        .collect();
    let headline = judged(&format!("services:\n{services}")).headline().unwrap();
    assert!(
        headline.starts_with("7 services can take over this host (s1: capability ALL, capability BPF, "),
        "{headline}"
    );
    assert!(headline.contains("and 1 more; s2: ") && headline.ends_with("; and 3 more)"), "{headline}");
}

/// Whatever a later file says, and however it is read, strict stays strict.
#[test]
fn a_later_file_cannot_loosen_the_policy() {
    let strict = "x-mydocker: {policy: strict}\nservices: {web: {image: x}}\n";
    let service = "services: {web: {image: x}}\n";
    for over in [
        "x-mydocker: {policy: warn}\n",
        "x-mydocker: !reset null\n",
        "x-mydocker: !override {}\n",
        "x-mydocker: {policy: !reset null}\n",
        "",
    ] {
        assert!(judged_files(&[strict, &format!("{over}{service}")]).is_strict, "{over}");
    }
    assert!(judged_files(&[service, strict]).is_strict);
    assert!(judged_files(&[&format!("{service}---\n{strict}")]).is_strict);
    assert!(!judged_files(&[service]).is_strict);
    assert!(!judged_files(&[&format!("x-mydocker: {{policy: warn}}\n{service}")]).is_strict);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.yaml");
    std::fs::write(&path, strict).unwrap();
    let path = path.display();
    assert!(judged(&format!("include: [{path}]\nservices: {{db: {{image: x}}}}\n")).is_strict);
    assert!(judged(&format!("services: {{db: {{extends: {{file: {path}, service: web}}}}}}\n")).is_strict);
}
