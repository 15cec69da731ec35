//! Everything in `compose-examples/`, and `tools/demo`.

use std::fs;

use crate::support::{Case, MYDOCKER, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        hello,
        chain: Internet + Bridge,
        crash_restart: Bridge,
        two_networks: Bridge,
        ports: Bridge,
        limits: Bridge + Controllers,
        cni: Plugins + Bridge,
        ipv6: Internet + Bridge + Ipv6,
        every_example_has_a_test_and_a_line,
        demo: Internet + Bridge,
    ]
}

/// A project of a copy of an example's file.
fn example<'a>(sandbox: &'a Sandbox, name: &str) -> Project<'a> {
    let file = format!("{}/compose-examples/{name}/compose.yaml", env!("CARGO_MANIFEST_DIR"));
    sandbox.project(name, &fs::read_to_string(file).expect("an example"))
}

fn hello(sandbox: &Sandbox) {
    let up = example(sandbox, "hello").compose(&["up", "--no-color"]).ok();
    assert!(up.stdout.contains("hello-1  | hello from a container\n"), "{}", up.describe());
}

fn chain(sandbox: &Sandbox) {
    sandbox.set_env("BEYOND", "198.51.100.10");
    let project = example(sandbox, "chain");
    project.compose(&["ps"]).ok();
    let mut up = project.spawn(&["up", "--no-color"]);
    up.wait_for("every service's work", |stdout, _| {
        let says =
            |service: &str, text: &str| stdout.lines().any(|line| line.starts_with(service) && line.contains(text));
        says("setup-1", "writing the page")
            && says("client-1", "http://web says: hello from web")
            && says("client-1", "bytes from 10.11.")
            && says("client-1", "bytes from 198.51.100.10")
            && stdout.matches("crashing now").count() >= 4
    });
    up.signal(nix::sys::signal::Signal::SIGINT);
    let up = up.wait().ok().without_panic();
    assert!(!up.stdout.contains("says: nothing") && !up.stdout.contains("100% packet loss"), "{}", up.describe());
    assert!(project.containers().iter().all(|one| one.state == "exited"));
}

fn crash_restart(sandbox: &Sandbox) {
    let project = example(sandbox, "crash-restart");
    project.up();
    assert_eq!(project.wait_exited("never").exit_code, 3);
    assert_eq!(project.wait_exited("done").exit_code, 0);
    let crashes = |service: &str| project.compose(&["logs", service]).ok().stdout.matches("crashing with 3").count();
    eventually("three-times started four times", || (crashes("three-times") == 4).then_some(()));
    assert_eq!(project.wait_exited("three-times").exit_code, 3);
    eventually("always goes on", || (crashes("always") >= 4).then_some(()));
    assert_eq!((crashes("never"), project.container("steady").state.as_str()), (1, "running"));
}

fn two_networks(sandbox: &Sandbox) {
    let project = example(sandbox, "two-networks");
    project.up();
    let logs = project.wait_for_log("db: ");
    assert!(logs.contains("db: not reached") && !logs.contains("db: reached"), "{logs}");
    eventually("the row comes through the proxy and the published port", || {
        let page =
            sandbox.host(&["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]);
        (page.stdout == "row 1\n").then_some(())
    });
}

fn ports(sandbox: &Sandbox) {
    let project = example(sandbox, "ports");
    project.up();
    let shown = |words: &[&str]| project.compose(&[&["port"], words].concat()).ok().stdout;
    let page = |place: &str| {
        eventually(&format!("{place} answers"), || {
            let url = format!("http://{}/", place.replace("0.0.0.0", "127.0.0.1"));
            let got = sandbox.host(&["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", &url]);
            (got.code == 0).then_some(got.stdout)
        })
    };
    let web = shown(&["web", "80"]);
    let web: Vec<&str> = web.lines().collect();
    assert_eq!((web.len(), web[0], web[1]), (3, "0.0.0.0:8080", "127.0.0.1:8081"));
    let free: u16 = web[2].rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    assert!(free >= 1024, "{web:?}");
    for place in web.iter().chain(&["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"]) {
        assert!(page(place).contains("mydocker"), "{place}");
    }
    let replicas: std::collections::BTreeSet<String> =
        ["1", "2", "3"].iter().map(|index| page(shown(&["--index", index, "many", "80"]).trim())).collect();
    assert_eq!(replicas.len(), 3, "each answers at its own port: {replicas:?}");
    assert_eq!(shown(&["--protocol", "udp", "counter", "5300"]), "0.0.0.0:5300\n");
    // From a sibling, by the host's address on the bridge.
    let own = format!("/proc/{}/ns/net", project.container("web").pid);
    let count = || page("127.0.0.1:5301").split(' ').next().and_then(|count| count.parse::<u32>().ok());
    let before = eventually("it counts", count);
    let gateway = {
        let routes = project.exec("web", &["ip", "route"]).ok().stdout;
        routes.split_whitespace().nth(2).expect("default via ADDRESS").to_owned()
    };
    crate::support::inside_network(&own, || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"one more", format!("{gateway}:5300")).expect("sent")
    });
    eventually("it has arrived", || count().filter(|now| *now > before));
}

fn limits(sandbox: &Sandbox) {
    let project = example(sandbox, "limits");
    project.up();
    assert_eq!(project.wait_exited("hungry").exit_code, 137);
    project.wait_exited("many");
    project.wait_exited("bare");
    let logs = project.logs();
    assert!(logs.contains("fork") && !logs.contains("no limit met"), "{logs}");
    for wanted in ["uid=1000(app)", "Read-only file system", "CapEff:\t0000000000000000"] {
        assert!(logs.contains(wanted), "{wanted} in {logs}");
    }
}

fn cni(sandbox: &Sandbox) {
    let list = format!("{}/compose-examples/cni/cni/example.conflist", env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(list).expect("an example");
    // The leases of this test, not the machine's.
    let leases = sandbox.dir().join("leases").display().to_string();
    let project = example(sandbox, "cni");
    fs::create_dir_all(project.directory().join("cni")).expect("ours");
    let moved = list.replace("/run/cni-example", &leases);
    assert_ne!(list, moved);
    fs::write(project.directory().join("cni/example.conflist"), moved).expect("ours");
    project.up();
    let logs = project.wait_for_log("made by plugins");
    assert!(logs.contains("10.42.0.9/24"), "{logs}");
    let page = sandbox.host(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]).ok();
    assert_eq!(page.stdout, "made by plugins\n");
    project.down();
    sandbox.shell("ip link delete cni-example0; for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done; echo 0 >/proc/sys/net/ipv4/ip_forward").ok();
}

fn ipv6(sandbox: &Sandbox) {
    sandbox.set_env("BEYOND", "2001:db8:100::10");
    let project = example(sandbox, "ipv6");
    project.up();
    assert_eq!(project.wait_exited("client").exit_code, 0);
    project.wait_exited("old");
    let logs = project.logs();
    for wanted in
        ["web over IPv6 says: hello over both", "web over IPv4 says: hello over both", "old has 0 lines of IPv6"]
    {
        assert!(logs.contains(wanted), "{wanted} in {logs}");
    }
    assert_eq!(logs.matches(" 0% packet loss").count(), 2, "{logs}");
    for url in ["http://127.0.0.1:8080/", "http://[::1]:8080/", "http://[::1]:8081/"] {
        let page = sandbox.host(&["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", url]).ok();
        assert_eq!(page.stdout, "hello over both\n", "{url}");
    }
}

fn every_example_has_a_test_and_a_line(_: &Sandbox) {
    let dir = format!("{}/compose-examples", env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(format!("{dir}/README.md")).expect("a README");
    let tests: Vec<String> =
        ["hello", "chain", "crash-restart", "two-networks", "ports", "limits", "cni", "ipv6", "polycube"]
            .map(str::to_owned)
            .to_vec();
    for entry in fs::read_dir(dir).expect("there").flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(readme.contains(&format!("({name}/compose.yaml)")), "{name} has no line in the README");
        assert!(tests.contains(&name), "{name} has no test");
    }
}

fn demo(sandbox: &Sandbox) {
    // In a lab of its own, started by itself; --binary spares it the build.
    let script = format!("{}/tools/demo --lab --seconds 5 --binary {MYDOCKER}", env!("CARGO_MANIFEST_DIR"));
    let running = sandbox.spawn_shell(&format!("unset MYDOCKER_MARK; exec {script}"));
    let demo = sandbox.finish(running, crate::support::PATIENCE * 3).ok().without_panic();
    for text in ["hello from web", "bytes from 198.51.100.10", "crashing now"] {
        assert!(demo.stdout.contains(text), "{text}: {}", demo.describe());
    }
    assert!(demo.stderr.contains("nothing is left"), "{}", demo.describe());
}
