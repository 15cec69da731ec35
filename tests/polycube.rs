//! The plugin `polycube` against a stand-in for polycubed that wires real bridges, links, routes and address translation.
//! Each test has a host of its own, a fresh network namespace with an "internet" behind it.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod polycubed;

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mydocker::namespaces::network::{in_namespace, open_current, raise_loopback_here};
use polycubed::{Daemon, Fault, Manner};
use serde_json::{Value, json};

const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");
const IPAM: &str = "/usr/lib/cni:/opt/cni/bin";
/// The stand-in starts several programs for a request, which takes long on a busy machine.
const PATIENT_MS: u64 = 60_000;
const BEYOND: &str = "198.51.100.10";

fn netns() -> OwnedFd {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        raise_loopback_here().unwrap();
        open_current().unwrap()
    })
    .join()
    .unwrap()
}

fn path(netns: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd())
}

fn output(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(words: &str) -> String {
    output("ip", words)
}

/// A host, the calling thread's: an uplink to an "internet" of one address, records of its own.
struct Host {
    dir: tempfile::TempDir,
    internet: OwnedFd,
    before: String,
}

/// Runs `work` as a host of its own, and compares what it has at the end with what it had.
fn on_a_host(work: impl FnOnce(&Host) + Send + 'static) {
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        raise_loopback_here().unwrap();
        let host = Host { dir: tempfile::tempdir().unwrap(), internet: internet(), before: listing() };
        work(&host);
        assert_eq!(listing(), host.before, "something is left behind");
        host.expect_no_record();
    })
    .join()
    .unwrap();
}

fn internet() -> OwnedFd {
    let netns = netns();
    ip(&format!("link add up0 type veth peer name peer0 netns {}", path(&netns)));
    ip("addr add 192.0.2.2/24 dev up0");
    ip("link set up0 up");
    ip("route add default via 192.0.2.1");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    output("iptables", "-P FORWARD DROP");
    in_namespace(netns.as_fd(), || {
        ip("addr add 192.0.2.1/24 dev peer0");
        ip(&format!("addr add {BEYOND}/32 dev lo"));
        ip("link set peer0 up");
    })
    .unwrap();
    netns
}

fn listing() -> String {
    let rules: String = output("iptables-save", "")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap().to_owned() + "\n")
        // Tables that were never looked at appear when somebody does.
        .filter(|line| !line.starts_with('*') && line != "COMMIT\n" && !line.ends_with(" ACCEPT\n"))
        .collect();
    let links: Vec<_> = ip("-o link").lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    // The carrier of a link that was made just now comes a moment later.
    let routes = ip("-4 route show table all").replace(" linkdown", "");
    format!("{links:?}\n{routes}{rules}{forwarding}")
}

struct Done {
    code: Option<i32>,
    object: Value,
    stderr: String,
    took: Duration,
}

impl Done {
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.code, Some(0), "{} {}", self.object, self.stderr);
        self.object
    }

    #[track_caller]
    fn refused(self, code: u64) -> Value {
        assert_eq!((self.code, &self.object["code"]), (Some(1), &json!(code)), "{} {}", self.object, self.stderr);
        self.object
    }
}

impl Host {
    fn conf(&self, network: &str, more: Value) -> Value {
        let third = network.bytes().fold(0_u8, u8::wrapping_add);
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": network, "type": "polycube", "timeoutMs": PATIENT_MS,
            "ipam": {"type": "host-local", "subnet": format!("10.50.{third}.0/24"), "dataDir": self.dir.path().join("ipam")},
        });
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        conf
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(open_current().unwrap())
    }

    fn start(&self, command: &str, container: &Container, conf: &Value) -> Child {
        let mut child = Command::new(MYDOCKER)
            .arg0("polycube")
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", &container.id), ("CNI_IFNAME", "eth0")])
            .envs([
                ("CNI_NETNS", container.path().as_str()),
                ("CNI_PATH", IPAM),
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ])
            .env("MYDOCKER_RUN_DIR", self.run_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        child
    }

    fn call(&self, command: &str, container: &Container, conf: &Value) -> Done {
        let begun = Instant::now();
        done(self.start(command, container, conf), begun)
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn expect_no_record(&self) {
        assert_eq!(names(&self.run_dir().join("polycube"), ".json"), Vec::<String>::new(), "records are left behind");
        let leases = std::fs::read_dir(self.dir.path().join("ipam")).into_iter().flatten().flatten();
        let leases: Vec<_> =
            leases.flat_map(|network| names(&network.path(), "")).filter(|name| name.starts_with("10.")).collect();
        assert_eq!(leases, Vec::<String>::new(), "leases are left behind");
    }
}

fn names(dir: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(ending)).collect()
}

fn done(child: Child, begun: Instant) -> Done {
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        object: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: begun.elapsed(),
    }
}

struct Container {
    id: String,
    netns: OwnedFd,
}

impl Container {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), netns: netns() }
    }

    fn path(&self) -> String {
        path(&self.netns)
    }

    fn pings(&self, address: &str) -> bool {
        let ping = || Command::new("busybox").args(["ping", "-c1", "-W2", address]).stdout(Stdio::null()).status();
        in_namespace(self.netns.as_fd(), ping).unwrap().unwrap().success()
    }

    fn has_interface(&self) -> bool {
        in_namespace(self.netns.as_fd(), || ip("-o link")).unwrap().contains("eth0")
    }
}

fn address(result: &Value) -> String {
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

#[test]
fn a_ping_reaches_the_internet_and_all_of_it_goes_again() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let (a, b) = (Container::new("a"), Container::new("b"));
        let conf = host.conf("net", json!({}));
        let result = host.call("ADD", &a, &conf).ok();
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 2, "{result}");
        assert_eq!(result["interfaces"][1]["sandbox"], a.path());
        assert_eq!(result["ips"][0]["interface"], 1);
        assert!(a.pings(BEYOND), "{result}");
        let other = host.call("ADD", &b, &conf).ok();
        assert!(b.pings(&address(&result)) && b.pings(BEYOND), "{other}");
        let mut with_result = conf.clone();
        with_result["prevResult"] = result;
        host.call("CHECK", &a, &with_result).ok();
        daemon.take_log();
        host.call("ADD", &a, &conf).refused(4);
        assert!(a.pings(BEYOND), "a second ADD must leave the first alone");
        let requests = daemon.take_log();
        assert!(requests.iter().all(|request| request.starts_with("GET")), "{requests:?}");
        in_namespace(a.netns.as_fd(), || ip("addr flush dev eth0")).unwrap();
        host.call("CHECK", &a, &with_result).refused(100);
        for container in [&a, &a, &b, &b] {
            host.call("DEL", container, &conf).ok();
            assert!(!container.has_interface());
        }
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn without_polycubed_nothing_is_made_and_everything_is_released() {
    on_a_host(|host| {
        let a = Container::new("a");
        let conf = host.conf("net", json!({"cniVersion": "1.1.0"}));
        let error = host.call("ADD", &a, &conf).refused(11);
        assert_eq!(error["msg"], "polycubed not reachable");
        assert_eq!(
            error["details"],
            "GET http://127.0.0.1:9000/polycube/v1/version: connection refused; start polycubed or set url"
        );
        assert_eq!(error["cniVersion"], "1.1.0");
        assert!(!host.dir.path().join("ipam").exists() && !host.run_dir().exists() && !a.has_interface());
        host.call("STATUS", &a, &conf).refused(50);
        assert_eq!(
            host.call("VERSION", &a, &json!({"cniVersion": "1.0.0"})).ok()["supportedVersions"],
            json!(["1.0.0", "1.1.0"])
        );
        host.call("DEL", &a, &conf).ok();
        let daemon = host.daemon();
        host.call("STATUS", &a, &conf).ok();
        let result = host.call("ADD", &a, &conf).ok();
        assert_eq!(result["interfaces"][1]["mtu"], 1500);
        // What hangs is as good as away, and is given up in time.
        let conf = impatient(&conf, 2000);
        daemon.fail_at(1, Fault::Hang);
        let status = host.call("STATUS", &a, &conf);
        assert!(status.took < Duration::from_millis(PATIENT_MS / 3), "{:?}", status.took);
        status.refused(51);
        daemon.fail_at(1, Fault::Hang);
        let mut with_result = conf.clone();
        with_result["prevResult"] = result;
        host.call("CHECK", &a, &with_result).refused(51);
        daemon.fail_at(1, Fault::Hang);
        let del = host.call("DEL", &a, &conf);
        assert!(del.stderr.contains("warning"), "{}", del.stderr);
        del.ok();
        assert!(!a.has_interface());
        daemon.go_on();
        assert_eq!(daemon.cubes().len(), 3);
        let conf = impatient(&conf, PATIENT_MS);
        host.call("GC", &a, &conf).ok();
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn three_containers_on_two_networks_at_once_share_one_bridge_router_and_nat_each() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let confs = [host.conf("one", json!({})), host.conf("two", json!({}))];
        let containers: Vec<_> = (0..6).map(|n| Container::new(&format!("c{n}"))).collect();
        let begun = Instant::now();
        let pairs = || containers.iter().enumerate().map(|(n, container)| (container, &confs[n % 2]));
        let started: Vec<_> = pairs().map(|(container, conf)| host.start("ADD", container, conf)).collect();
        let results: Vec<Value> = started.into_iter().map(|child| done(child, begun).ok()).collect();
        assert_eq!(daemon.cubes().len(), 6, "{:?}", daemon.cubes());
        assert!(containers.iter().all(|container| container.pings(BEYOND)));
        assert!(containers[0].pings(&address(&results[2])), "neighbours");
        assert!(!containers[0].pings(&address(&results[1])), "networks are kept apart");
        let log = daemon.take_log();
        let made = |path: &str| log.iter().filter(|line| line.starts_with("POST") && line.contains(path)).count();
        assert_eq!((made("/connect"), made("/attach"), made("masquerade/enable"), made("/route/")), (4, 2, 2, 2));
        let started: Vec<_> = pairs().map(|(container, conf)| host.start("DEL", container, conf)).collect();
        started.into_iter().for_each(|child| drop(done(child, begun).ok()));
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn the_hosts_rules_are_made_by_whom_the_configuration_names() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        let with = |firewall: &str| {
            let mut conf = published(host);
            conf["firewall"] = json!(firewall);
            conf
        };
        // What another table drops stays dropped where nft makes ours.
        output("iptables", "-P FORWARD ACCEPT");
        for (firewall, in_iptables, in_nft) in
            [("iptables", true, false), ("nftables", false, true), ("none", false, false)]
        {
            host.call("ADD", &a, &with(firewall)).ok();
            let iptables = output("iptables-save", "");
            assert_eq!(iptables.contains("--dport 8080"), in_iptables, "{firewall}: {iptables}");
            assert!(!iptables.contains("POLYCUBE"), "{iptables}");
            let tables = output("nft", "list tables");
            assert_eq!(tables.contains("inet mydocker"), in_nft, "{firewall}: {tables}");
            assert_eq!(a.pings(BEYOND), firewall != "none", "{firewall}");
            host.call("DEL", &a, &with(firewall)).ok();
            assert!(!output("nft", "list tables").contains("inet mydocker"), "{firewall}");
        }
        host.call("ADD", &a, &with("ufw")).refused(7);
        assert_eq!(daemon.cubes(), Vec::<String>::new());
        output("iptables", "-P FORWARD DROP");
    });
}

#[test]
fn a_published_port_leads_to_the_container() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        let conf = host.conf("net", json!({"runtimeConfig": {"portMappings": ports}}));
        host.call("ADD", &a, &conf).ok();
        assert_eq!(daemon.entries(), 1);
        let listener = in_namespace(a.netns.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
        let text = in_namespace(host.internet.as_fd(), || {
            let target: SocketAddr = "192.0.2.2:8080".parse().unwrap();
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
            text
        });
        assert_eq!(text.unwrap(), "hello");
        server.join().unwrap();
        // The second has the same number: it is refused, and leaves the first as it is.
        let b = Container::new("b");
        host.call("ADD", &b, &conf).refused(100);
        assert_eq!((daemon.entries(), b.has_interface()), (1, false));
        assert!(a.pings(BEYOND));
        host.call("DEL", &a, &conf).ok();
    });
}

/// The state after an ADD that went wrong in some place, whatever it was: the next ADD makes everything.
fn expect_convergence(host: &Host, daemon: &Daemon, container: &Container, conf: &Value, place: &str) {
    let done = host.call("ADD", container, conf);
    assert_eq!(done.code, Some(0), "{place}: {} {}", done.object, done.stderr);
    assert!(container.pings(BEYOND), "{place}");
    assert_eq!((daemon.cubes().len(), daemon.entries()), (3, 1), "{place}");
    for _ in 0..2 {
        let done = host.call("DEL", container, conf);
        assert_eq!(done.code, Some(0), "{place}: {} {}", done.object, done.stderr);
    }
    assert_eq!(daemon.cubes(), Vec::<String>::new(), "{place}");
    assert_eq!(listing(), host.before, "{place}");
    host.expect_no_record();
}

fn published(host: &Host) -> Value {
    host.conf(
        "net",
        json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
    )
}

/// The same with another time limit, for what waits for one that never comes.
fn impatient(conf: &Value, milliseconds: u64) -> Value {
    let mut conf = conf.clone();
    conf["timeoutMs"] = json!(milliseconds);
    conf
}

fn sweep_kills(fault: Fault, lists_entries: bool) {
    on_a_host(move |host| {
        let daemon = host.daemon();
        if !lists_entries {
            daemon.hide_entries();
        }
        let conf = published(host);
        for number in 1.. {
            let container = Container::new("a");
            daemon.fail_at(number, fault);
            let mut child = host.start("ADD", &container, &conf);
            let hangs = daemon.wait_for_hang(|| child.try_wait().unwrap().is_some());
            if hangs {
                child.kill().unwrap();
            }
            let code = child.wait().unwrap().code();
            daemon.go_on();
            let place = format!("{fault:?} at request {number}");
            if !hangs {
                assert_eq!((code, number > 20), (Some(0), true), "{place}");
                host.call("DEL", &container, &conf).ok();
                return;
            }
            expect_convergence(host, &daemon, &container, &conf, &place);
        }
    });
}

#[test]
fn a_kill_before_any_request_is_made_good_by_the_next_add() {
    sweep_kills(Fault::Hang, true);
}

#[test]
fn a_kill_after_any_request_is_made_good_by_the_next_add() {
    sweep_kills(Fault::HangAfter, true);
}

#[test]
fn so_it_is_where_entries_cannot_be_listed() {
    sweep_kills(Fault::HangAfter, false);
}

fn sweep_failures(fault: Fault) {
    on_a_host(move |host| {
        let daemon = host.daemon();
        let conf = published(host);
        for number in 1.. {
            let container = Container::new("a");
            daemon.fail_at(number, fault);
            let done = host.call("ADD", &container, &conf);
            daemon.go_on();
            let place = format!("{fault:?} at request {number}: {} {}", done.object, done.stderr);
            if done.code == Some(0) {
                assert!(number > 20, "{place}");
                host.call("DEL", &container, &conf).ok();
                return;
            }
            assert!(!container.has_interface(), "{place}");
            if fault == Fault::Status500 {
                assert_eq!(daemon.cubes(), Vec::<String>::new(), "{place}");
                assert_eq!(listing(), host.before, "{place}");
                host.expect_no_record();
            }
            expect_convergence(host, &daemon, &container, &conf, &place);
        }
    });
}

#[test]
fn an_add_of_which_a_request_is_answered_with_500_leaves_nothing() {
    sweep_failures(Fault::Status500);
}

#[test]
fn an_add_of_which_a_request_is_reset_is_made_good_by_the_next() {
    sweep_failures(Fault::Reset);
}

#[test]
fn an_add_of_which_an_answer_is_lost_is_made_good_by_the_next() {
    sweep_failures(Fault::ResetAfter);
}

#[test]
fn a_del_that_fails_anywhere_is_finished_by_the_next() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let conf = published(host);
        for fault in [Fault::Status500, Fault::ResetAfter, Fault::Hang] {
            for number in 1.. {
                let container = Container::new("a");
                host.call("ADD", &container, &conf).ok();
                daemon.fail_at(number, fault);
                let limit = if fault == Fault::Hang { 500 } else { PATIENT_MS };
                let done = host.call("DEL", &container, &impatient(&conf, limit));
                // A busy machine may be slower than so short a limit: that is a failure like the one that was asked for.
                let was_hit = daemon.count() >= number || done.stderr.contains("no answer in time");
                daemon.go_on();
                let place = format!("{fault:?} at request {number}: {} {}", done.object, done.stderr);
                assert!(!container.has_interface(), "{place}");
                if was_hit {
                    let done = host.call("DEL", &container, &conf);
                    assert_eq!(done.code, Some(0), "{place}, then {} {}", done.object, done.stderr);
                }
                assert_eq!(daemon.cubes(), Vec::<String>::new(), "{place}");
                assert_eq!(listing(), host.before, "{place}");
                host.expect_no_record();
                if !was_hit {
                    break;
                }
            }
        }
    });
}

#[test]
fn an_answer_of_rubbish_or_half_of_one_is_made_good_by_the_next() {
    sweep_failures(Fault::Garbage);
}

#[test]
fn an_answer_that_breaks_off_is_made_good_by_the_next() {
    sweep_failures(Fault::CutOff);
}

#[test]
fn answers_are_taken_however_they_come() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        let conf = published(host);
        for manner in [Manner::KeptAlive, Manner::Chunked, Manner::UntilClosed, Manner::Dribbled, Manner::Big] {
            daemon.answer_in(manner);
            host.call("ADD", &a, &conf).ok();
            assert!(a.pings(BEYOND), "{manner:?}");
            host.call("DEL", &a, &conf).ok();
            assert_eq!(daemon.cubes(), Vec::<String>::new(), "{manner:?}");
        }
    });
}

/// Three containers, each with a published port; the one in the middle goes.
fn entries_of_others_stay(lists_entries: bool) {
    on_a_host(move |host| {
        let daemon = host.daemon();
        if !lists_entries {
            daemon.hide_entries();
        }
        let conf = |port: u16| {
            let ports = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}, {"hostPort": port, "containerPort": 80, "protocol": "udp"}]);
            host.conf("net", json!({"runtimeConfig": {"portMappings": ports}}))
        };
        let containers: Vec<_> = (0..3_u16).map(|n| (Container::new(&format!("c{n}")), conf(8080 + n))).collect();
        let addresses: Vec<_> =
            containers.iter().map(|(one, conf)| address(&host.call("ADD", one, conf).ok())).collect();
        assert_eq!(daemon.entries(), 6);
        host.call("DEL", &containers[1].0, &containers[1].1).ok();
        assert_eq!(daemon.entries(), 4);
        let answered = |at: usize| {
            let (container, _) = &containers[at];
            let listener = in_namespace(container.netns.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
            let server = std::thread::spawn(move || drop(listener.accept().unwrap()));
            let target: SocketAddr = format!("192.0.2.2:{}", 8080 + at).parse().unwrap();
            let reached =
                in_namespace(host.internet.as_fd(), || TcpStream::connect_timeout(&target, Duration::from_secs(5)));
            assert!(reached.unwrap().is_ok(), "{} at {}", addresses[at], 8080 + at);
            server.join().unwrap();
        };
        answered(0);
        answered(2);
        // Killed between an entry and its number: the others keep theirs all the same.
        let again = Container::new("again");
        daemon.fail_at(0, Fault::Hang);
        host.call("ADD", &again, &conf(8090)).ok();
        let last = daemon.count();
        host.call("DEL", &again, &conf(8090)).ok();
        for number in last - 4..=last {
            let again = Container::new("again");
            daemon.fail_at(number, Fault::HangAfter);
            let mut child = host.start("ADD", &again, &conf(8090));
            let hangs = daemon.wait_for_hang(|| child.try_wait().unwrap().is_some());
            assert!(hangs, "request {number} of {last}");
            child.kill().unwrap();
            child.wait().unwrap();
            daemon.go_on();
            host.call("DEL", &again, &conf(8090)).ok();
            assert_eq!(daemon.entries(), 4, "after request {number}");
        }
        answered(0);
        answered(2);
        for (container, conf) in &containers {
            host.call("DEL", container, conf).ok();
        }
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn entries_of_others_stay_where_polycubed_counts_anew() {
    entries_of_others_stay(true);
}

#[test]
fn entries_of_others_stay_where_polycubed_lists_none() {
    entries_of_others_stay(false);
}

#[test]
fn redirects_are_followed_with_method_and_body() {
    on_a_host(|host| {
        let daemon = host.daemon();
        daemon.redirect(true);
        let a = Container::new("a");
        let conf = published(host);
        host.call("ADD", &a, &conf).ok();
        assert!(a.pings(BEYOND));
        host.call("DEL", &a, &conf).ok();
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn what_a_restart_of_polycubed_lost_comes_back_with_the_next_add() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let (a, b) = (Container::new("a"), Container::new("b"));
        let conf = host.conf("net", json!({}));
        host.call("ADD", &a, &conf).ok();
        daemon.restart();
        assert!(!a.pings(BEYOND));
        host.call("ADD", &b, &conf).ok();
        assert!(a.pings(BEYOND) && b.pings(BEYOND), "{:?}", daemon.cubes());
        daemon.restart();
        host.call("DEL", &a, &conf).ok();
        host.call("DEL", &b, &conf).ok();
        assert_eq!(daemon.cubes(), Vec::<String>::new());
    });
}

#[test]
fn an_interface_of_the_host_is_taken_only_by_name_and_never_the_one_with_the_default_route() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        let uplink =
            |force: bool| json!({"uplink": {"mode": "netdev", "dev": "up0", "gateway": "192.0.2.1", "force": force}});
        let error = host.call("ADD", &a, &host.conf("net", uplink(false))).refused(7);
        assert!(error["msg"].as_str().unwrap().contains("up0 carries the host's default route"), "{error}");
        assert_eq!(daemon.cubes(), Vec::<String>::new());
        let conf = host.conf("net", uplink(true));
        host.call("ADD", &a, &conf).ok();
        assert!(a.pings(BEYOND));
        assert!(!ip("-o link").contains("up0"), "the router has it");
        host.call("DEL", &a, &conf).ok();
        assert!(ip("-o addr").contains("192.0.2.2/24"), "the host has it again");
        ip("route replace default via 192.0.2.1");
    });
}

#[test]
fn cubes_of_others_are_not_taken() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        let conf = host.conf("net", json!({"bridge": "mine", "ipam": {}, "subnet": "10.60.0.0/24"}));
        daemon.ask("POST", "/polycube/v1/nat/mine/", "{}");
        let error = host.call("ADD", &a, &conf).refused(7);
        assert!(error["msg"].as_str().unwrap().contains("nat"), "{error}");
        daemon.ask("DELETE", "/polycube/v1/nat/mine/", "");
        daemon.ask("POST", "/polycube/v1/simplebridge/mine/", "{}");
        let result = host.call("ADD", &a, &conf).ok();
        assert_eq!(result["ips"][0]["address"], "10.60.0.2/24");
        assert!(a.pings(BEYOND));
        host.call("DEL", &a, &conf).ok();
        assert_eq!(daemon.cubes(), ["simplebridge mine"]);
        assert_eq!(daemon.ports("mine"), Vec::<String>::new());
        daemon.ask("DELETE", "/polycube/v1/simplebridge/mine/", "");
    });
}

#[test]
fn the_host_may_have_the_routers_address_in_the_same_namespace() {
    on_a_host(|_| {
        // As with the real daemon, whose interfaces stay in the host's namespace: what the router sends arrives as if from outside.
        ip("link add pu0 type veth peer name pr0");
        ip("addr add 169.254.64.1/30 dev pu0");
        ip("addr add 169.254.64.2/30 dev pr0");
        ip("link set pu0 up");
        ip("link set pr0 up");
        mydocker::network::polycube::disown("pr0", "169.254.64.2/30".parse().unwrap()).unwrap();
        assert!(ip("route get 169.254.64.2").contains("dev pu0"), "{}", ip("route show table all"));
        ip("link del pu0");
    });
}

/// Runs the script as a foreign runtime does: with nothing in the environment but what is named.
fn bare(script: &Path, variables: &[(&str, &str)], stdin: Stdio) -> (bool, Value) {
    let mut command = Command::new(script);
    command.env_clear().envs(variables.iter().copied()).current_dir(script.parent().unwrap());
    let done = command.stdin(stdin).output().unwrap();
    (done.status.success(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

#[test]
fn the_script_in_cni_is_the_plugin_for_any_runtime() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cni/polycube");
    let dir = tempfile::tempdir().unwrap();
    let (link, copies) = (dir.path().join("polycube"), dir.path().join("copies"));
    std::os::unix::fs::symlink(&script, &link).unwrap();
    let ours = [("MYDOCKER_BINARY", MYDOCKER), ("CNI_COMMAND", "VERSION")];
    for called in [&script, &link] {
        let (is_success, object) = bare(called, &ours, Stdio::null());
        assert!(is_success && object["supportedVersions"] == json!(["1.0.0", "1.1.0"]), "{object}");
    }
    let unreadable = Stdio::from(File::open("/").unwrap());
    let (is_success, object) = bare(&script, &ours, unreadable);
    assert!(!is_success && object["msg"] == "cannot read standard input", "{object}");
    let (_, object) = bare(&script, &ours[..1], Stdio::null());
    assert_eq!(object["msg"], "required env variables [CNI_COMMAND] missing");
    let (_, object) = bare(&script, &[ours[0], ("CNI_COMMAND", "STATUS")], Stdio::null());
    assert_eq!((&object["code"], &object["msg"]), (&json!(6), &json!("standard input is empty")));
    let (_, object) = bare(&link, &[("MYDOCKER_BINARY", "/no\"thing"), ours[1]], Stdio::null());
    assert_eq!(object["msg"], "MYDOCKER_BINARY is no program: /nothing");

    // A copy has no checkout beside it: it finds a mydocker in its own directory, never one of the directory it is called in.
    std::fs::create_dir(&copies).unwrap();
    let copy = copies.join("polycube");
    std::fs::copy(&script, &copy).unwrap();
    std::os::unix::fs::symlink("/bin/false", dir.path().join("mydocker")).unwrap();
    for path in ["", "/nonexistent"] {
        let mut command = Command::new(&copy);
        command.env_clear().env("CNI_COMMAND", "VERSION").env("PATH", path).current_dir(dir.path());
        let done = command.stdin(Stdio::null()).output().unwrap();
        let object: Value = serde_json::from_slice(&done.stdout).unwrap();
        let is_missing =
            object["msg"] == "mydocker not found" && object["details"].to_string().contains("MYDOCKER_BINARY");
        assert!(is_missing || done.status.success(), "{object}");
    }
    std::os::unix::fs::symlink(MYDOCKER, copies.join("mydocker")).unwrap();
    let (is_success, object) = bare(&copy, &ours[1..], Stdio::null());
    assert!(is_success && object["cniVersion"] == "1.1.0", "{object}");
}

/// What is there and is not as asked for is told of, and stays.
fn expect_refusals(script: &impl Fn(&str) -> std::process::Output) {
    for (other, told) in [
        ("--dev up0 --gateway 192.0.2.77 --force", "another default route"),
        ("--dev up0 --gateway 192.0.2.1 --force --address 10.10.10.9/24", "has the address 10.10.10.1/24"),
        ("--dev up0 --gateway 192.0.2.1 --force --nat internet-brg0", "is not transparent"),
        ("--dev lo --gateway 192.0.2.1", "is connected to up0"),
        ("--dev", "--dev needs a value"),
        ("--dev up0", "say --gateway"),
    ] {
        let done = script(other);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && stderr.contains(told), "{other}: {stderr}");
    }
}

#[test]
fn the_script_by_hand_makes_it_once_and_takes_it_away() {
    on_a_host(|host| {
        let daemon = host.daemon();
        let a = Container::new("a");
        // What stands for the bridge is a link that can be moved into a cube.
        ip(&format!("link add brg0 type veth peer name eth0 netns {}", path(&a.netns)));
        ip("addr add 10.10.10.1/24 dev brg0");
        ip("link set brg0 up");
        in_namespace(a.netns.as_fd(), || {
            ip("addr add 10.10.10.2/24 dev eth0");
            ip("link set eth0 up");
            ip("route add default via 10.10.10.1");
        })
        .unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let script = |words: &str| {
            let mut command = Command::new(format!("{root}/tools/polycube-internet"));
            command.args(words.split_whitespace());
            command.env("PATH", format!("{root}/tests/polycubed:{}", std::env::var("PATH").unwrap()));
            command.output().unwrap()
        };
        let polycubectl = |words: &str| output(&format!("{root}/tests/polycubed/polycubectl"), words);
        let words = "--dev up0 --gateway 192.0.2.1";
        let refused = script(words);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && stderr.contains("default route"), "{stderr}");
        assert_eq!(daemon.cubes(), Vec::<String>::new());
        for turn in 0..2 {
            daemon.take_log();
            let done = script(&format!("{words} --force"));
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(a.pings(BEYOND));
            let changes = daemon.take_log().iter().filter(|line| !line.starts_with("GET")).count();
            assert_eq!(changes > 0, turn == 0, "the second run changes nothing");
        }
        expect_refusals(&script);
        assert!(a.pings(BEYOND));
        // A router with a port of somebody else's stays; the next run makes the rest again.
        polycubectl("internet-brg0 ports add others ip=10.77.0.1/24");
        let done = script("--down");
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && stderr.contains("it has the port others"), "{stderr}");
        assert_eq!(daemon.cubes(), ["router internet-brg0"]);
        ip("addr replace 10.10.10.1/24 dev brg0");
        assert!(script(&format!("{words} --force")).status.success());
        polycubectl("internet-brg0 ports del others");
        for _ in 0..2 {
            let done = script("--down");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(daemon.cubes(), Vec::<String>::new());
        }
        ip("link del brg0");
        ip("route replace default via 192.0.2.1");
    });
}
