//! Names across projects, and across `run`: who is on one network finds each other there, whoever started it.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::names::{LONG, addresses, datagram, look, query};
use crate::support::{Case, Container, Project, Sandbox, cases, eventually, inside_network, rootfs};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        projects_on_one_network_know_each_other: Bridge,
        a_name_comes_and_goes_with_its_container: Bridge,
        names_outlive_both_supervisors: Bridge,
        run_and_projects_know_each_other: Bridge,
    ]
}

const ONE: &str = r#"
    x-s: &s {image: root_fs, init: true, command: [sleep, infinity], stop_grace_period: 1s}
    services:
      web: {<<: *s, networks: {shared: {aliases: [site.example.test]}}}
      db: {<<: *s, networks: [default]}
    networks: {default: , shared: {external: true}}
    "#;

/// The same name for a service as in the other, and a network of its own.
const TWO: &str = r#"
    x-s: &s {image: root_fs, init: true, command: [sleep, infinity], stop_grace_period: 1s}
    services:
      web: {<<: *s, scale: 2, networks: [shared]}
      client: {<<: *s, networks: [shared, default]}
    networks: {default: , shared: {external: true}}
    "#;

fn absent(project: &Project<'_>, service: &str, name: &str) {
    assert_eq!(look(project, service, name, RecordType::A), (ResponseCode::NXDomain, Vec::new()), "{name}");
}

fn projects_on_one_network_know_each_other(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "shared"]).ok();
    let (one, two) = (sandbox.project("one", ONE), sandbox.project("two", TWO));
    one.up();
    two.up();
    let own = addresses(&one, "web", "one-web-1.");
    let theirs = [addresses(&one, "web", "two-web-1."), addresses(&one, "web", "two-web-2.")].concat();
    let client = addresses(&one, "web", "client.");
    // Services of one name are one name, for both, and take turns.
    let mut all = [own.clone(), theirs].concat();
    all.sort();
    for (project, service) in [(&one, "web"), (&two, "client")] {
        assert_eq!(addresses(project, service, "web."), all);
        assert_eq!(addresses(project, service, "WEB.shared."), all);
        let firsts: std::collections::BTreeSet<String> =
            (0..6).map(|_| look(project, service, "web.", RecordType::A).1.swap_remove(0)).collect();
        assert_eq!(firsts.len(), 3, "{firsts:?}");
    }
    assert_eq!(addresses(&two, "client", "site.example.test."), own);
    let id = two.container("client").id;
    assert_eq!(addresses(&one, "web", &format!("{}.", &id[..12])), client);
    let mut octets: Vec<&str> = client[0].split('.').collect();
    octets.reverse();
    let backwards = look(&one, "web", &format!("{}.in-addr.arpa.", octets.join(".")), RecordType::PTR);
    assert_eq!(backwards.1, ["two-client-1.shared."]);
    // What is on another network is nobody's business, whoever has a place on both.
    for (project, service, name) in [(&two, "client", "db."), (&one, "db", "client."), (&one, "db", "two-web-1.")] {
        absent(project, service, name);
    }
    two.down();
    assert_eq!(addresses(&one, "web", "web."), own);
    absent(&one, "web", "client.");
    one.down();
    sandbox.mydocker(&["network", "rm", "shared"]).ok();
}

fn a_name_comes_and_goes_with_its_container(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "shared"]).ok();
    let (one, two) = (sandbox.project("one", ONE), sandbox.project("two", TWO));
    one.up();
    let path = format!("/proc/{}/ns/net", one.container("web").pid);
    let asks = |name: &str| {
        let packet = query(name, RecordType::A, false).to_vec().expect("a packet");
        let reply = inside_network(&path, || datagram(&packet, LONG)).expect("an answer");
        Message::from_vec(&reply).expect("a message").metadata.response_code
    };
    // As soon as somebody is told that it runs, it is found.
    for _ in 0..5 {
        let mut up = two.spawn(&["up", "-d", "client"]);
        up.wait_for("it is said to have started", |_, stderr| {
            stderr.lines().any(|line| line.contains("two-client-1") && line.contains("Started"))
        });
        assert_eq!(asks("client."), ResponseCode::NoError);
        up.wait().ok();
        two.compose(&["stop", "client"]).ok();
        assert_eq!(asks("client."), ResponseCode::NXDomain);
        two.compose(&["start", "client"]).ok();
        assert_eq!(asks("client."), ResponseCode::NoError);
        two.compose(&["rm", "-s", "-f", "client"]);
        two.compose(&["down"]).ok();
        assert_eq!(asks("client."), ResponseCode::NXDomain);
    }
    // An end that nobody asked for.
    two.up();
    two.container("client").signal(Signal::SIGKILL);
    eventually("the name is gone", || (asks("client.") == ResponseCode::NXDomain).then_some(()));
    two.down();
    one.down();
    sandbox.mydocker(&["network", "rm", "shared"]).ok();
}

fn supervisors(sandbox: &Sandbox) -> Vec<Pid> {
    let is_one = |pid: &Pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-superv"))
    };
    sandbox.processes().into_iter().filter(is_one).collect()
}

fn names_outlive_both_supervisors(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "shared"]).ok();
    let (one, two) = (sandbox.project("one", ONE), sandbox.project("two", TWO));
    one.up();
    two.up();
    let (web, client) = (one.container("web"), two.container("client"));
    let asks = |container: &Container, name: &str| {
        let packet = query(name, RecordType::A, false).to_vec().expect("a packet");
        let path = format!("/proc/{}/ns/net", container.pid);
        let reply = inside_network(&path, || datagram(&packet, LONG)).expect("an answer, though late");
        let reply = Message::from_vec(&reply).expect("a message");
        (reply.metadata.response_code, reply.answers.len())
    };
    for _ in 0..3 {
        let both = eventually("two supervisors", || Some(supervisors(sandbox)).filter(|found| found.len() == 2));
        for pid in both {
            kill(pid, Signal::SIGKILL).expect("it runs");
            assert_eq!(asks(&web, "client."), (ResponseCode::NoError, 1));
            assert_eq!(asks(&client, "web."), (ResponseCode::NoError, 3));
        }
    }
    // Also what changes after that is heard of.
    eventually("two supervisors", || (supervisors(sandbox).len() == 2).then_some(()));
    two.compose(&["stop", "web"]).ok();
    assert_eq!(asks(&client, "web."), (ResponseCode::NoError, 1));
    one.compose(&["stop", "web"]).ok();
    assert_eq!(asks(&client, "web.").0, ResponseCode::NXDomain);
    one.down();
    two.down();
    sandbox.mydocker(&["network", "rm", "shared"]).ok();
}

fn run_and_projects_know_each_other(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "--subnet", "10.77.0.0/24", "shared"]).ok();
    sandbox.mydocker(&["network", "create", "--subnet", "10.78.0.0/24", "second"]).ok();
    let one = sandbox.project("one", ONE);
    one.up();
    let root = rootfs().to_str().expect("UTF-8");
    let words =
        ["run", "--rootfs", root, "--init", "--name", "solo", "--network", "shared", "--network-alias", "alone"];
    let more = ["--ip", "10.77.0.77", "--mac-address", "02:00:00:00:00:77", "--link", "one-web-1:mine"];
    let second = ["--network", "name=second,alias=other,ip=10.78.0.78", "--hostname", "h", "--domainname", "d.test"];
    let files =
        ["--dns", "192.0.2.53", "--dns-search", "a.test", "--dns-option", "ndots:3", "--add-host", "up:host-gateway"];
    let script = "nslookup web 127.0.0.11; nslookup mine 127.0.0.11; ip -o addr; ip route; cat /etc/resolv.conf /etc/hosts; \
                  echo ready; sleep 1000";
    let mut run = sandbox.spawn(&[&words[..], &more, &second, &files, &["sh", "-c", script]].concat());
    let shown = run.wait_for("it is ready", |stdout, _| stdout.contains("ready"));
    let web = &addresses(&one, "web", "web.")[0];
    assert!(shown.matches(&format!("Address: {web}\n")).count() >= 2, "by the service's name and by the link: {shown}");
    for line in [
        "inet 10.77.0.77/24",
        "inet 10.78.0.78/24",
        "default via 10.78.0.1",
        "nameserver 127.0.0.11\nsearch a.test\noptions ndots:3\n",
        "10.77.0.77\th.d.test h",
        "10.78.0.1\tup",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    for name in ["solo.", "alone.", "h."] {
        assert_eq!(addresses(&one, "web", name), ["10.77.0.77"], "{name}");
    }
    absent(&one, "web", "other.");
    let seen = one.exec("web", &["sh", "-c", "ping -c1 alone >/dev/null; ip neigh"]).ok().stdout;
    assert!(seen.contains("02:00:00:00:00:77"), "{seen}");
    run.signal(Signal::SIGTERM);
    run.wait();
    absent(&one, "web", "solo.");
    // Who is killed takes his name along, though nobody has swept it yet.
    let mut killed = sandbox.spawn(&[&words[..], &["sh", "-c", "echo ready; sleep 1000"]].concat());
    killed.wait_for("it is ready", |stdout, _| stdout.contains("ready"));
    assert_eq!(addresses(&one, "web", "solo.").len(), 1);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    absent(&one, "web", "solo.");
    absent(&one, "web", "alone.");
    // The next one takes away what is left of it.
    sandbox.mydocker(&[&words[..], &["true"]].concat()).ok();
    let refused = [&words[..], &["--link", "nosuch", "true"]].concat();
    sandbox.mydocker(&refused).refused(125, &["nosuch", "shared", "one-web-1"]);
    one.down();
    sandbox.mydocker(&["network", "rm", "shared", "second"]).ok();
}
