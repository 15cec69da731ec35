//! Settings of a compose file that are easily accepted and forgotten: each has a test that it does something.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Case, Container, Output, Project, Sandbox, cases, eventually, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_host_has_a_name: Bridge,
        the_host_without_a_bridge,
        a_domain_name: Bridge,
        a_log_that_is_rotated,
        a_log_that_is_not_kept,
        log_options_that_are_none,
        a_network_of_a_container: Bridge,
        a_network_of_another_project: Bridge,
        a_shared_network_that_starts_anew: Bridge,
        what_a_shared_network_excludes,
        dependants_are_restarted_along,
        a_link_is_a_name_for_one: Bridge,
        reserved_addresses: Bridge,
        settings_that_are_left_out_are_told: Bridge,
        volumes_with_options,
        a_subpath_stays_in_its_volume,
        volumes_that_cannot_be,
    ]
}

/// Runs a script in a service, which must succeed.
#[track_caller]
fn inside(project: &Project<'_>, service: &str, script: &str) -> String {
    project.exec(service, &["sh", "-c", script]).ok().stdout
}

/// `up -d` of a service with one more key, in a file that is wrong.
fn up(sandbox: &Sandbox, key: &str) -> Output {
    let text = format!("services:\n  one:\n    image: root_fs\n    {key}\n    command: [sleep, '9']\n");
    fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
    sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "up", "-d"])
}

fn the_host_has_a_name(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one:
            image: root_fs
            init: true
            command: [sleep, infinity]
            extra_hosts: ["host.docker.internal:host-gateway", "far=10.1.2.3"]
            networks: [front, closed]
        networks:
          front: {ipam: {config: [{subnet: 172.31.9.0/24}]}}
          closed: {internal: true, ipam: {config: [{subnet: 172.31.8.0/24}]}}
    "#;
    let project = sandbox.project("gate", yaml);
    let told = project.up();
    assert!(!told.stderr.contains("host-gateway"), "{}", told.describe());
    let line = "172.31.9.1\thost.docker.internal\n";
    let hosts = inside(&project, "one", "cat /etc/hosts");
    assert!(hosts.contains(line) && hosts.contains("10.1.2.3\tfar\n"), "{hosts}");
    sandbox.shell("mkdir www && echo the host > www/index.html").ok();
    let server = sandbox.spawn_shell("exec busybox httpd -f -p 172.31.9.1:8099 -h www");
    let fetch = ["timeout", "2", "wget", "-q", "-O", "-", "http://host.docker.internal:8099/"];
    eventually("the host answers", || (project.exec("one", &fetch).stdout == "the host\n").then_some(()));
    server.signal(Signal::SIGKILL);
    server.wait();
    // Also after a restart, whose addresses may be others.
    project.compose(&["restart", "-t", "1"]).ok();
    assert!(inside(&project, "one", "cat /etc/hosts").contains(line));

    let root = rootfs().to_str().expect("UTF-8");
    let add = ["--add-host", "home:host-gateway"];
    let words = [&["run", "--rootfs", root], &add[..], &["grep", "home", "/etc/hosts"]].concat();
    assert_eq!(sandbox.mydocker(&words).ok().stdout, "10.10.10.1\thome\n");
    let words = [&["run", "--network", "none", "--rootfs", root], &add[..], &["grep", "home", "/etc/hosts"]].concat();
    let none = sandbox.mydocker(&words);
    assert!(none.code == 1 && none.stderr.contains("no line for home"), "{}", none.describe());
}

fn the_host_without_a_bridge(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity], extra_hosts: {home: host-gateway}}
        services:
          host: {<<: *s, network_mode: host}
          none: {<<: *s, network_mode: none}
    "#;
    let project = sandbox.project("bare", yaml);
    let up = project.up();
    assert_eq!(inside(&project, "host", "grep home /etc/hosts"), "127.0.0.1\thome\n");
    assert_ne!(project.exec("none", &["grep", "home", "/etc/hosts"]).code, 0);
    assert!(up.stderr.contains("bare-none-1 has no line for home"), "{}", up.describe());
    assert_eq!(up.stderr.matches("no line for").count(), 1, "{}", up.describe());
}

fn a_domain_name(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one:
            image: root_fs
            init: true
            command: [sleep, infinity]
            hostname: web
            domainname: example.org
          plain: {image: root_fs, init: true, command: [sleep, infinity], hostname: plain}
    "#;
    let project = sandbox.project("domain", yaml);
    project.up();
    assert_eq!(inside(&project, "one", "cat /proc/sys/kernel/domainname; hostname"), "example.org\nweb\n");
    assert!(inside(&project, "one", "cat /etc/hosts").contains("\tweb.example.org web\n"));
    assert_eq!(inside(&project, "one", "hostname -f; hostname -d"), "web.example.org\nexample.org\n");
    assert!(inside(&project, "plain", "cat /etc/hosts").contains("\tplain\n"));

    let root = rootfs().to_str().expect("UTF-8");
    let words =
        ["run", "--network", "none", "--rootfs", root, "--domainname", "d", "cat", "/proc/sys/kernel/domainname"];
    assert_eq!(sandbox.mydocker(&words).ok().stdout, "d\n");
}

fn a_log_that_is_rotated(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one:
            image: root_fs
            network_mode: none
            command: [sh, -c, "i=0; while [ $$i -lt 3000 ]; do echo line $$i; i=$$((i+1)); done"]
            logging: {driver: json-file, options: {max-size: "20k", max-file: "3"}}
    "#;
    let project = sandbox.project("rotated", yaml);
    project.up();
    let one = project.wait_exited("one");
    let directory = sandbox.data_dir().join("containers");
    let full = fs::read_dir(&directory).expect("containers").flatten();
    let full =
        full.map(|entry| entry.path()).find(|path| path.ends_with(&one.id) || path.to_string_lossy().contains(&one.id));
    let sizes: Vec<u64> = fs::read_dir(full.expect("its directory"))
        .expect("readable")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("log"))
        .map(|entry| entry.metadata().expect("there").len())
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 21_000), "{sizes:?}");
    let logs = project.logs();
    assert!(logs.ends_with("line 2999\n") && !logs.contains("line 0\n"), "{}", logs.len());
}

fn a_log_that_is_not_kept(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          one:
            image: root_fs
            network_mode: none
            command: [sh, -c, "i=0; while [ $$i -lt 3000 ]; do echo more than a pipe holds $$i; i=$$((i+1)); done"]
            logging: {driver: none}
    "#;
    let project = sandbox.project("unkept", yaml);
    let up = project.compose(&["up"]).ok();
    assert!(up.stderr.contains("one") && up.stderr.contains("log driver is `none`"), "{}", up.describe());
    assert!(!up.stdout.contains("more than"), "{}", up.describe());
    assert_eq!(project.wait_exited("one").exit_code, 0);
    let logs = project.compose(&["logs"]).ok();
    assert!(logs.stdout.is_empty() && logs.stderr.contains("unkept-one-1 has no log"), "{}", logs.describe());
}

fn log_options_that_are_none(sandbox: &Sandbox) {
    for (logging, words) in [
        ("{driver: syslog}", &["json-file", "syslog"][..]),
        ("{driver: json-fil}", &["did you mean `json-file`"]),
        ("{options: {max-size: 10x}}", &["10x"]),
        ("{options: {max-file: 0}}", &["`0`"]),
        ("{options: {max-sise: 10m}}", &["max-size"]),
    ] {
        up(sandbox, &format!("logging: {logging}")).refused(2, words);
    }
}

/// The network namespace of a container.
#[track_caller]
fn network_of(container: &Container) -> String {
    let link = fs::read_link(format!("/proc/{}/ns/net", container.pid)).expect("it runs");
    link.to_string_lossy().into_owned()
}

/// Two that share a network; `{owner}` is how the second names the first.
fn sharing(owner: &str) -> String {
    format!(
        r#"
        services:
          web:
            image: root_fs
            init: true
            command: [httpd, -f, -p, "80", -h, /www]
            hostname: shown
            domainname: example.org
            extra_hosts: ["far:10.1.2.3"]
          beside: {{image: root_fs, init: true, command: [sleep, infinity], restart: always, network_mode: "{owner}"}}
    "#
    )
}

fn a_network_of_a_container(sandbox: &Sandbox) {
    for owner in ["container:share-web-1", "service:web"] {
        let project = sandbox.project("share", &sharing(owner));
        project.up();
        let (web, beside) = (project.container("web"), project.container("beside"));
        assert_eq!(network_of(&web), network_of(&beside), "{owner}");
        let page = inside(
            &project,
            "beside",
            "wget -q -O - http://127.0.0.1/ && nslookup web 127.0.0.11 >/dev/null && echo named",
        );
        assert!(page.contains("mydocker") && page.ends_with("named\n"), "{page}");
        for script in
            ["hostname", "cat /proc/sys/kernel/domainname /etc/hostname /etc/hosts /etc/resolv.conf", "echo $HOSTNAME"]
        {
            assert_eq!(inside(&project, "web", script), inside(&project, "beside", script), "{script}");
        }
        assert!(inside(&project, "beside", "cat /etc/hosts").contains("shown.example.org"), "{owner}");
        project.down();
    }
}

fn a_network_of_another_project(sandbox: &Sandbox) {
    let one = sandbox.project("one", &sharing("service:web"));
    one.up();
    let web = one.container("web");
    for owner in ["one-web-1", &web.id, &web.id[..6]] {
        let yaml = format!(
            "\n services:\n  guest: {{image: root_fs, init: true, command: [sleep, infinity], network_mode: 'container:{owner}'}}\n"
        );
        let two = sandbox.project("two", &yaml);
        two.up();
        assert_eq!(network_of(&web), network_of(&two.container("guest")), "{owner}");
        assert_eq!(inside(&two, "guest", "hostname"), "shown\n");
        two.down();
    }
    one.compose(&["stop", "-t", "1"]).ok();
    for owner in ["one-web-1", "nosuch"] {
        let yaml = format!(
            "\n services:\n  guest: {{image: root_fs, command: [sleep, '9'], network_mode: 'container:{owner}'}}\n"
        );
        let two = sandbox.project("two", &yaml);
        two.compose(&["up", "-d"]).refused(1, &["two-guest-1", owner, "no container of this name or id runs"]);
        two.down();
    }
}

fn a_shared_network_that_starts_anew(sandbox: &Sandbox) {
    let yaml = sharing("container:share-web-1").replace("hostname: shown", "restart: always");
    let project = sandbox.project("share", &yaml);
    project.up();
    let together = |what: &str, before: &Container| {
        eventually(what, || {
            let (web, beside) = (project.container("web"), project.container("beside"));
            let both = web.state == "running" && beside.state == "running" && beside.identity() != before.identity();
            (both && web.pid > 0 && beside.pid > 0 && network_of(&web) == network_of(&beside)).then_some(beside)
        })
    };
    let before = project.container("beside");
    project.container("web").signal(Signal::SIGKILL);
    let before = together("both are in the new network after a crash", &before);
    eventually("its server answers", || {
        let page = project.exec("beside", &["wget", "-q", "-O", "-", "http://127.0.0.1/"]);
        (page.code == 0).then_some(())
    });
    project.compose(&["restart", "-t", "1", "web"]).ok();
    let before = together("both are in the new network after a restart", &before);
    // A change of the owner alone
    project.rewrite(&yaml.replace("10.1.2.3", "10.1.2.4"));
    project.up();
    together("both are in the new network after a change", &before);
    assert!(inside(&project, "beside", "cat /etc/hosts").contains("10.1.2.4"));
}

fn what_a_shared_network_excludes(sandbox: &Sandbox) {
    for key in [
        "hostname: x",
        "extra_hosts: ['a:1.2.3.4']",
        "ports: ['80']",
        "expose: ['80']",
        "mac_address: 02:42:0a:0b:00:02",
    ] {
        let name = key.split(':').next().unwrap_or_default();
        up(sandbox, &format!("{key}\n    network_mode: container:other"))
            .refused(2, &[name, "container:other", "f.yaml:4"]);
    }
    up(sandbox, "network_mode: container:bad-one-1").refused(2, &["depends on itself"]);
    up(sandbox, "network_mode: host\n    mac_address: 02:42:0a:0b:00:02").refused(2, &["mac_address", "host"]);
}

fn dependants_are_restarted_along(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
        services:
          db: *s
          web: {<<: *s, depends_on: {db: {condition: service_started, restart: true}}}
          far: {<<: *s, depends_on: {web: {condition: service_started, restart: true}}}
          other: {<<: *s, depends_on: [db]}
    "#;
    let project = sandbox.project("along", yaml);
    project.up();
    let now = || ["db", "web", "far", "other"].map(|service| project.container(service).identity());
    let before = now();
    project.compose(&["restart", "-t", "1", "db"]).ok();
    let after = now();
    assert!((0..3).all(|at| before[at] != after[at]) && before[3] == after[3], "{before:?} {after:?}");
    // It is replaced, they are not: they are started anew all the same.
    let ids = ["web", "far"].map(|service| project.container(service).id);
    project.rewrite(&yaml.replace("db: *s", "db: {<<: *s, environment: {A: b}}"));
    project.up();
    let last = now();
    assert!((0..3).all(|at| last[at] != after[at]) && last[3] == after[3], "{after:?} {last:?}");
    assert_eq!(ids, ["web", "far"].map(|service| project.container(service).id));
}

fn a_link_is_a_name_for_one(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          db: *s
          web: {<<: *s, links: ["db:database", "db"]}
          other: *s
    "#;
    let project = sandbox.project("links", yaml);
    project.up();
    let address = |name: &str| inside(&project, "web", &format!("nslookup {name} | grep Address | tail -n 1"));
    assert!(address("database").contains("10.11."), "{}", address("database"));
    assert_eq!(address("db").split_whitespace().last(), address("database").split_whitespace().last());
    assert_ne!(project.exec("other", &["nslookup", "database"]).code, 0, "an alias is the linking service's alone");
}

fn reserved_addresses(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          one: *s
          two: {<<: *s, depends_on: [one]}
        networks:
          default: {ipam: {config: [{subnet: 172.31.5.0/29, aux_addresses: {router: 172.31.5.2, printer: 172.31.5.4}}]}}
    "#;
    let project = sandbox.project("reserve", yaml);
    project.up();
    let address = |service: &str| inside(&project, service, "ip -o -4 addr show dev eth0 | awk '{print $4}'");
    assert_eq!((address("one"), address("two")), ("172.31.5.3/29\n".to_owned(), "172.31.5.5/29\n".to_owned()));
    let fixed = yaml.replace("one: *s", "one: {<<: *s, networks: {default: {ipv4_address: 172.31.5.4}}}");
    project.rewrite(&fixed);
    project.compose(&["up", "-d"]).refused(2, &["172.31.5.4", "printer"]);
    project.rewrite(yaml);
}

fn settings_that_are_left_out_are_told(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity], networks: {n: {driver_opts: {com.example.x: "1"}}}}
        services:
          one: *s
          two: *s
          bare: {image: root_fs, command: ["true"], network_mode: none, mac_address: 02:42:0a:0b:00:02, volumes: [{type: tmpfs, target: /t, bind: {propagation: shared}}]}
        networks:
          n:
            driver_opts: {com.docker.network.bridge.enable_ic: "false"}
            ipam: {config: [{subnet: 172.31.6.0/24}]}
    "#;
    let told = sandbox.project("left", yaml).up().stderr;
    for words in [
        "`com.example.x` is none that a place in a network has",
        "`com.docker.network.bridge.enable_ic` is none",
        "`mac_address` means nothing with `network_mode: none`",
        "`bind` has no meaning for a mount of another type",
    ] {
        assert_eq!(told.matches(words).count(), 1, "{words}: {told}");
    }
    for (key, words) in [
        ("runtime: runsc", &["runtime", "isolated"][..]),
        ("deploy: {restart_policy: {condition: any, max_attempts: 3}}", &["max_attempts", "on-failure"]),
        ("expose: [http]", &["expose", "http"]),
        ("links: ['one:a b']", &["a b"]),
    ] {
        up(sandbox, key).refused(2, words);
    }
}

fn volumes_with_options(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
        services:
          one: {<<: *s, volumes: ["bound:/bound", "fixed:/fixed", "memory:/memory"]}
        volumes:
          bound: {driver: local, driver_opts: {type: none, o: bind, device: ./data}}
          fixed: {driver_opts: {type: none, o: "rbind,ro", device: ./data}}
          memory: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m,mode=700"}}
          unused: {external: true}
    "#;
    let project = sandbox.project("opts", yaml);
    let missing =
        project.compose(&["up", "-d"]).refused(2, &["volumes.bound.driver_opts.device", "data does not exist"]);
    assert!(!missing.stderr.contains("opts-one-1  Creat"), "{}", missing.describe());
    let data = project.directory().join("data");
    fs::create_dir(&data).expect("our own");
    fs::write(data.join("seen"), "from the host").expect("our own");
    project.up();
    assert_eq!(inside(&project, "one", "cat /bound/seen && echo back > /bound/new"), "from the host");
    assert_eq!(fs::read_to_string(data.join("new")).expect("written through"), "back\n");
    assert_ne!(project.exec("one", &["touch", "/fixed/x"]).code, 0, "it is read-only");
    let memory = inside(&project, "one", "grep ' /memory ' /proc/mounts");
    assert!(memory.starts_with("tmpfs ") && memory.contains("size=1024k") && memory.contains("mode=700"), "{memory}");
    // Another device is another container.
    let before = project.container("one").id;
    project.rewrite(&yaml.replace("o: bind, device: ./data", "o: bind, device: ."));
    project.up();
    assert_ne!(project.container("one").id, before);
    project.compose(&["down", "-v", "-t", "1"]).ok();
    assert!(data.join("seen").exists(), "what is bound is not ours to remove");
}

fn a_subpath_stays_in_its_volume(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}
        services:
          writer: {<<: *s, volumes: ["vol:/v"]}
          reader:
            <<: *s
            profiles: [later]
            volumes: [{type: volume, source: vol, target: /part, volume: {subpath: a/part}}]
        volumes: {vol: {}}
    "#;
    let project = sandbox.project("part", yaml);
    project.up();
    inside(
        &project,
        "writer",
        "mkdir -p /v/a/part /v/etc && echo inside > /v/a/part/seen && echo volume > /v/etc/hostname",
    );
    project.compose(&["--profile", "later", "up", "-d"]).ok();
    assert_eq!(inside(&project, "reader", "cat /part/seen"), "inside\n");
    project.compose(&["--profile", "later", "stop", "-t", "1", "reader"]).ok();
    // Whoever writes to the volume makes a link to the host of what is mounted next.
    inside(&project, "writer", "rm -r /v/a/part && ln -s /etc /v/a/part");
    project.compose(&["--profile", "later", "up", "-d"]).ok();
    assert_eq!(inside(&project, "reader", "ls /part; cat /part/hostname"), "hostname\nvolume\n");
    inside(&project, "writer", "rm /v/a/part");
    project.compose(&["--profile", "later", "stop", "-t", "1", "reader"]).ok();
    project.compose(&["--profile", "later", "up", "-d"]).refused(1, &["part-reader-1", "a/part"]);
    project.compose(&["--profile", "later", "down", "-v", "-t", "1"]).ok();
}

fn volumes_that_cannot_be(sandbox: &Sandbox) {
    for (volume, words) in [
        ("{driver_opts: {type: nfs, o: addr=10.0.0.1, device: ':/x'}}", &["nfs"][..]),
        ("{driver_opts: {type: none, o: bind}}", &["device"]),
        ("{driver_opts: {o: 'bind,uid=5', device: /tmp}}", &["uid=5"]),
        ("{driver_opts: {size: 10m}}", &["size"]),
        ("{driver_opts: {type: tmpfs, o: sise=5}}", &["sise=5"]),
    ] {
        let text = format!(
            "services:\n  one: {{image: root_fs, command: [sleep, '9'], volumes: ['vol:/v']}}\nvolumes:\n  vol: {volume}\n"
        );
        fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
        sandbox.mydocker(&["compose", "-p", "bad", "-f", "f.yaml", "up", "-d"]).refused(2, words);
    }
}
