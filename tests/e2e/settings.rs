//! Settings of a compose file that are easily accepted and forgotten: each has a test that it does something.

use nix::sys::signal::Signal;

use crate::support::{Case, Project, Sandbox, cases, eventually, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_host_has_a_name: Bridge,
        the_host_without_a_bridge,
        a_domain_name: Bridge,
    ]
}

/// Runs a script in a service, which must succeed.
#[track_caller]
fn inside(project: &Project<'_>, service: &str, script: &str) -> String {
    project.exec(service, &["sh", "-c", script]).ok().stdout
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
