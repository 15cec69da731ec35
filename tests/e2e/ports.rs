//! Published ports: who reaches them from where, what is shown of them, and who has them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Case, Project, Sandbox, cases, eventually, inside_network};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        ranges_and_free_ports_are_shown: Bridge,
        a_conflict_is_found_before_anything_starts: Bridge,
        a_conflict_is_found_before_anything_stops: Bridge,
        a_port_goes_from_one_service_to_another: Bridge,
        a_port_is_never_free_while_its_container_is_replaced: Bridge,
        what_is_stopped_has_no_ports: Bridge,
        ports_survive_the_supervisor: Bridge,
        a_network_says_where_its_ports_are: Bridge,
    ]
}

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SOON: Duration = Duration::from_millis(400);

/// Asks from within a namespace; the answer, and the asker's own address.
type Ask = fn(&str, (Ipv4Addr, u16)) -> Option<(String, Ipv4Addr)>;

/// Where a service's network namespace is found.
fn namespace(project: &Project<'_>, service: &str) -> String {
    format!("/proc/{}/ns/net", project.container(service).pid)
}

/// Says to everybody who asks, over tcp and udp, its own label and the address it sees. It runs in a service's network
/// namespace, as the service's program would.
struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    fn start(namespace: &str, port: u16, label: &'static str) -> Self {
        let (udp, tcp) = inside_network(namespace, || {
            (
                UdpSocket::bind(("0.0.0.0", port)).expect("a free port"),
                TcpListener::bind(("0.0.0.0", port)).expect("a free port"),
            )
        });
        let stop = Arc::new(AtomicBool::new(false));
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        tcp.set_nonblocking(true).expect("a socket of ours");
        let (of_udp, of_tcp) = (Arc::clone(&stop), Arc::clone(&stop));
        let datagrams = move || {
            while !of_udp.load(Ordering::SeqCst) {
                if let Ok((_, from)) = udp.recv_from(&mut [0; 64]) {
                    let _ = udp.send_to(format!("{label} {}", from.ip()).as_bytes(), from);
                }
            }
        };
        let connections = move || {
            while !of_tcp.load(Ordering::SeqCst) {
                match tcp.accept() {
                    Ok((mut stream, from)) => drop(write!(stream, "{label} {}", from.ip())),
                    Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
                }
            }
        };
        Self { stop, threads: vec![std::thread::spawn(datagrams), std::thread::spawn(connections)] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Asks from within a namespace; the answer with the asker's own address. The socket is connected: an answer from elsewhere is none.
fn udp(from: &str, to: (Ipv4Addr, u16)) -> Option<(String, Ipv4Addr)> {
    let socket = inside_network(from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(to).map(|()| socket)
    });
    let socket = socket.ok()?;
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let own = own_address(socket.local_addr().expect("connected"));
    let mut buffer = [0; 64];
    for _ in 0..2 {
        socket.send(b"?").ok()?;
        if let Ok(length) = socket.recv(&mut buffer) {
            return Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), own));
        }
    }
    None
}

fn tcp(from: &str, to: (Ipv4Addr, u16)) -> Option<(String, Ipv4Addr)> {
    let connect = || TcpStream::connect_timeout(&SocketAddr::from(to), SOON);
    let mut stream = inside_network(from, connect).ok()?;
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let own = own_address(stream.local_addr().expect("connected"));
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some((text, own))
}

fn own_address(address: SocketAddr) -> Ipv4Addr {
    match address {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(_) => panic!("{address}"),
    }
}

/// One service with ports at all, at one and at the loopback address, and whoever may ask for them.
const EVERYWHERE: &str = r#"
    x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
    services:
      web:
        <<: *s
        ports:
          - "5300:5000"
          - "5300:5000/udp"
          - "127.0.0.1:5301:5000"
          - "127.0.0.1:5301:5000/udp"
          - "192.0.2.2:5302:5000"
          - {target: 5000, published: 5302, host_ip: 192.0.2.2, protocol: udp}
      sibling: *s
      stranger: {<<: *s, networks: [other]}
      host: {<<: *s, network_mode: host}
    networks: {default: , other: }
    "#;

/// Run with each kind of firewall, see `firewall.rs`.
pub(crate) fn tcp_and_udp_from_everywhere(sandbox: &Sandbox) {
    let project = sandbox.project("reach", EVERYWHERE);
    project.up();
    // Also bridged packets pass through the firewall, where the module for that is there.
    let filtered =
        sandbox.shell("cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo none").ok().stdout;
    let web = namespace(&project, "web");
    let echo = Echo::start(&web, 5000, "web");
    let outside = format!("/run/netns/natlab-{}-inet", sandbox.token());
    let (host, sibling, stranger) =
        (namespace(&project, "host"), namespace(&project, "sibling"), namespace(&project, "stranger"));
    let lo = Ipv4Addr::LOCALHOST;
    let [a, b, c, _] = address(&project, "web").octets();
    let gateway = Ipv4Addr::new(a, b, c, 1);
    let asks: [(&str, Ask); 2] = [("tcp", tcp), ("udp", udp)];
    for (protocol, ask) in asks {
        for (who, from, to, port) in [
            ("the host by 127.0.0.1", &host, lo, 5300),
            ("the host by its address", &host, HOST, 5300),
            ("the host by the bridge's address", &host, gateway, 5300),
            ("a sibling by the host's address", &sibling, HOST, 5300),
            ("a sibling by the gateway", &sibling, gateway, 5300),
            ("the container itself", &web, HOST, 5300),
            ("another network", &stranger, HOST, 5300),
            ("outside", &outside, HOST, 5300),
            ("the host, of 127.0.0.1 alone", &host, lo, 5301),
            ("outside, of one address", &outside, HOST, 5302),
            ("a sibling, of one address", &sibling, HOST, 5302),
            ("the host, of one address", &host, HOST, 5302),
        ] {
            let (answer, own) =
                eventually(&format!("{protocol} from {who} (bridge-nf: {filtered})"), || ask(from, (to, port)));
            assert!(answer.starts_with("web "), "{protocol} from {who}: {answer}");
            if who.starts_with("outside") {
                assert_eq!(answer, format!("web {own}"), "the client's own address is seen");
            }
        }
        for (who, from, to, port) in [
            ("outside, of 127.0.0.1 alone", &outside, HOST, 5301),
            ("a sibling, of 127.0.0.1 alone", &sibling, HOST, 5301),
            ("the host by another address", &host, lo, 5302),
            ("another network, by the container's own address", &stranger, address(&project, "web"), 5000),
        ] {
            assert_eq!(ask(from, (to, port)), None, "{protocol} from {who}");
        }
    }
    drop(echo);
    project.down();
}

fn address(project: &Project<'_>, service: &str) -> Ipv4Addr {
    let shown = project.exec(service, &["ip", "-o", "-4", "addr", "show", "dev", "eth0"]).ok().stdout;
    let field = shown.split_whitespace().nth(3).and_then(|field| field.split('/').next()).unwrap_or_default();
    field.parse().unwrap_or_else(|_| panic!("an address in {shown}"))
}

/// Run with each kind of firewall, see `firewall.rs`.
pub(crate) fn a_udp_flow_finds_the_next_container(sandbox: &Sandbox) {
    let yaml = r#"
        services:
          web: {image: root_fs, init: true, command: [sleep, infinity], ports: ["5300:5000/udp"], stop_grace_period: 1s}
    "#;
    let project = sandbox.project("flow", yaml);
    project.up();
    let outside = format!("/run/netns/natlab-{}-inet", sandbox.token());
    // One client, one port: one flow for as long as it goes on.
    let client = inside_network(&outside, || UdpSocket::bind("192.0.2.1:4000").expect("the lab's address"));
    client.connect((HOST, 5300)).expect("a route");
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let hears = |label: &str| {
        let mut buffer = [0; 64];
        let _ = client.send(b"?");
        let length = client.recv(&mut buffer).ok()?;
        String::from_utf8_lossy(&buffer[..length]).starts_with(label).then_some(())
    };
    let echo = Echo::start(&namespace(&project, "web"), 5000, "first");
    eventually("the first container answers", || hears("first"));
    drop(echo);
    // It takes another address, so that the old flow leads nowhere.
    project.rewrite(
        &yaml
            .replace("stop_grace_period: 1s", "stop_grace_period: 2s, networks: {default: {ipv4_address: 10.11.0.77}}")
            .replace("services:", "networks: {default: {ipam: {config: [{subnet: 10.11.0.0/24}]}}}\n        services:"),
    );
    let sender = client.try_clone().expect("a duplicate");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where something fails: the scope waits for its thread.
        let _stopper = Stopper(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let _ = sender.send(b"still there?");
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        project.down();
        project.up();
        let _echo = Echo::start(&namespace(&project, "web"), 5000, "second");
        eventually("the second container answers the same flow", || hears("second"));
        // Its own address is seen: it comes by the rule, not by our proxy.
        let _ = client.send(b"?");
        let mut buffer = [0; 64];
        let length = eventually("an answer", || client.recv(&mut buffer).ok());
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), "second 192.0.2.1");
    });
    project.down();
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn ranges_and_free_ports_are_shown(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          any: {<<: *s, scale: 3, ports: ["8000-8002:80"]}
          one: {<<: *s, ports: ["8001-8003:80/udp", "8003:81", "9000-9002:90-92", "127.0.0.1::100"]}
          none: *s
    "#;
    let project = sandbox.project("ranges", yaml);
    project.up();
    let port = |words: &[&str]| project.compose(&[&["port"], words].concat()).ok().stdout;
    let mut any: Vec<String> = ["1", "2", "3"].iter().map(|index| port(&["--index", index, "any", "80"])).collect();
    any.sort();
    assert_eq!(any, ["0.0.0.0:8000\n", "0.0.0.0:8001\n", "0.0.0.0:8002\n"]);
    assert_eq!(port(&["any", "80"]), port(&["--index", "1", "any", "80"]));
    assert_eq!(port(&["one", "91"]), "0.0.0.0:9001\n");
    assert_eq!(port(&["one", "81"]), "0.0.0.0:8003\n");
    let udp = port(&["--protocol", "udp", "one", "80"]);
    assert!(["0.0.0.0:8001\n", "0.0.0.0:8002\n", "0.0.0.0:8003\n"].contains(&udp.as_str()), "{udp}");
    let free = port(&["one", "100"]);
    assert!(free.starts_with("127.0.0.1:") && !free.ends_with(":0\n"), "{free}");
    let ps = project.compose(&["ps"]).ok().stdout;
    assert!(ps.contains(&format!("{}->100/tcp", free.trim())), "{ps}");
    project.compose(&["port", "one", "7"]).refused(1, &["7/tcp", "ranges-one-1"]);
    project.compose(&["port", "--index", "4", "any", "80"]).refused(1, &["any", "4"]);
    project.compose(&["port", "nosuch", "80"]).refused(2, &["nosuch"]);
    project.compose(&["port", "any", "0"]).refused(2, &["0"]);
    // All of the range are taken.
    let more = project.compose(&["up", "-d", "--scale", "any=4"]).refused(1, &["8000-8002", "ranges-any-4"]);
    assert!(!more.stderr.contains("Created"), "{}", more.describe());
}

fn a_conflict_is_found_before_anything_starts(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          first: *s
          web: {<<: *s, depends_on: [first], ports: ["8080:80", "8081:81/udp"]}
    "#;
    let project = sandbox.project("early", yaml);
    let listener = sandbox.spawn_shell("exec busybox nc -l -p 8080");
    eventually("nc listens", || sandbox.shell("busybox netstat -ltn").stdout.contains(":8080").then_some(()));
    project.compose(&["up", "-d"]).refused(1, &[":8080", "early-web-1", &listener.pid().to_string()]); // F54
    assert_eq!(project.containers(), [], "nothing was made");
    drop(listener);
    project.up();
    // A container of another project is called by its name.
    let other = sandbox.project("late", &yaml.replace("8081:81/udp", "8090:81"));
    other.compose(&["up", "-d"]).refused(1, &[":8080", "late-web-1", "early-web-1"]);
    assert_eq!(other.containers(), []);
    other.rewrite(&yaml.replace("8080:80", "8090:80"));
    other.compose(&["up", "-d"]).refused(1, &["udp", ":8081", "late-web-1", "early-web-1"]);
    assert_eq!(other.containers(), []);
    // What is stopped has given its ports up; what is started again asks for them first.
    project.compose(&["stop", "-t", "1"]).ok();
    other.up();
    project.compose(&["up", "-d"]).refused(1, &[":8081", "early-web-1", "late-web-1"]);
    assert!(project.containers().iter().all(|one| one.state == "exited"), "{:?}", project.containers());
    // Two of one file, of which neither says it by the letter.
    let twice = sandbox.project(
        "twice",
        r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services: {a: {<<: *s, ports: ["8100:80"]}, b: {<<: *s, ports: ["127.0.0.1:8100:80"]}}
        "#,
    );
    let refused = twice.compose(&["up", "-d"]);
    assert!([1, 2].contains(&refused.code) && refused.stderr.contains("8100"), "{}", refused.describe());
    assert_eq!(twice.containers(), []);
    twice.rewrite("services: {a: {image: root_fs, command: [a]}}");
}

fn a_port_goes_from_one_service_to_another(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          a: {<<: *s, ports: ["8080:80"]}
          b: {<<: *s, ports: ["8081:80"]}
    "#;
    let project = sandbox.project("moved", yaml);
    project.up();
    // The same ports again: those that are there do not stand in the way of their successors.
    project.compose(&["up", "-d", "--force-recreate"]).ok();
    assert_eq!(project.compose(&["port", "a", "80"]).ok().stdout, "0.0.0.0:8080\n");
    project.rewrite(&yaml.replace("8081", "8082"));
    project.up();
    project.rewrite(&yaml.replace("8080", "8081").replace(
        "8081:80\"]}\n          b: {<<: *s, ports: [\"8081",
        "8081:80\"]}\n          b: {<<: *s, ports: [\"8082",
    ));
    project.up();
    assert_eq!(project.compose(&["port", "a", "80"]).ok().stdout, "0.0.0.0:8081\n");
    assert_eq!(project.compose(&["port", "b", "80"]).ok().stdout, "0.0.0.0:8082\n");
}

/// The sandbox's own network namespace, by way of a service that has it.
const HOST_SERVICE: &str = "host: {image: root_fs, init: true, network_mode: host, command: [sleep, infinity]}";

fn a_conflict_is_found_before_anything_stops(sandbox: &Sandbox) {
    let yaml = format!(
        r#"
        x-s: &s {{image: root_fs, init: true, command: [sleep, infinity], stop_grace_period: 1s}}
        services:
          web: {{<<: *s, ports: ["127.0.0.1:8080:80"]}}
          other: {{<<: *s}}
          {HOST_SERVICE}
    "#
    );
    let project = sandbox.project("upheld", &yaml);
    project.up();
    let host = namespace(&project, "host");
    let listen = |address: &'static str| inside_network(&host, || TcpListener::bind(address).expect("a free port"));
    let us = std::process::id().to_string();
    let identities = || project.containers().iter().map(|one| (one.id.clone(), one.identity())).collect::<Vec<_>>();
    let before = identities();
    // A port more, which somebody has; and one that the container has itself, to be had at all addresses.
    let taken = listen("127.0.0.1:8090");
    project.rewrite(&yaml.replace("127.0.0.1:8080:80\"", "127.0.0.1:8080:80\", \"8090:81\""));
    project.compose(&["up", "-d"]).refused(1, &[":8090", "upheld-web-1", &us, "e2e"]);
    assert_eq!(identities(), before, "nothing was stopped");
    drop(taken);
    let taken = listen("127.0.0.2:8080");
    project.rewrite(&yaml.replace("127.0.0.1:8080:80", "8080:80"));
    project.compose(&["up", "-d"]).refused(1, &[":8080", "upheld-web-1", &us, "e2e"]);
    assert_eq!(identities(), before, "nothing was stopped");
    drop(taken);
    // Two of one file, in place of one that has the port.
    project.rewrite(&yaml.replace("other: {<<: *s}", "other: {<<: *s, ports: [\"8080:80\"]}"));
    project.compose(&["up", "-d", "--force-recreate"]).refused(1, &[":8080"]);
    assert_eq!(identities(), before, "nothing was stopped");
    project.rewrite(&yaml.replace("127.0.0.1:8080:80", "8080:80"));
    project.up();
    assert_eq!(project.compose(&["port", "web", "80"]).ok().stdout, "0.0.0.0:8080\n");
    // A `start` of several begins none where one cannot be.
    project.compose(&["stop", "-t", "1", "web", "other"]).ok();
    let _taken = listen("0.0.0.0:8080");
    for command in ["start", "restart"] {
        project.compose(&[command, "other", "web"]).refused(1, &[":8080", "upheld-web-1", &us]);
        for service in ["web", "other"] {
            assert_eq!(project.container(service).state, "exited", "{command} {service}");
        }
    }
}

fn a_port_is_never_free_while_its_container_is_replaced(sandbox: &Sandbox) {
    let yaml = format!(
        r#"
        x-s: &s {{image: root_fs, init: true, command: [sleep, infinity], stop_grace_period: 1s}}
        services:
          web: {{<<: *s, ports: ["8080:80", "8081:81/udp", "127.0.0.1:8082:82"]}}
          all: {{<<: *s, scale: 3, ports: ["8000-8002:80"]}}
          along: {{<<: *s, ports: ["8083:83"], depends_on: {{web: {{condition: service_started, restart: true}}}}}}
          {HOST_SERVICE}
    "#
    );
    let project = sandbox.project("seamless", &yaml);
    project.up();
    let host = namespace(&project, "host");
    // Somebody who waits for his chance, over and over.
    let (stop, attempts) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopper = Stopper(&stop);
        let thief = scope.spawn(|| {
            inside_network(&host, || {
                let mut stolen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    for port in [8080, 8082, 8083, 8000, 8001, 8002] {
                        stolen.extend(TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port));
                    }
                    stolen.extend(UdpSocket::bind(("127.0.0.1", 8081)).is_ok().then_some(8081));
                    attempts.fetch_add(1, Ordering::SeqCst);
                }
                stolen
            })
        });
        for command in [
            &["up", "-d", "--force-recreate", "web", "along"][..],
            &["up", "-d", "--force-recreate", "all"],
            &["restart", "-t", "1"],
        ] {
            let before = attempts.load(Ordering::SeqCst);
            project.compose(command).ok();
            assert!(attempts.load(Ordering::SeqCst) > before + 10, "{command:?}");
        }
        project.rewrite(&yaml.replace("8080:80", "8080:90"));
        project.up();
        stop.store(true, Ordering::SeqCst);
        assert_eq!(thief.join().expect("no panic"), Vec::<u16>::new());
    });
    assert_eq!(project.compose(&["port", "web", "90"]).ok().stdout, "0.0.0.0:8080\n");
    let _echo = Echo::start(&namespace(&project, "web"), 90, "web");
    let host = namespace(&project, "host");
    eventually("the new one is reached", || tcp(&host, (Ipv4Addr::LOCALHOST, 8080)));
}

fn what_is_stopped_has_no_ports(sandbox: &Sandbox) {
    let yaml = format!(
        r#"
        services:
          web: {{image: root_fs, init: true, command: [sleep, infinity], ports: ["8080:80", "8080:80/udp"]}}
          {HOST_SERVICE}
    "#
    );
    let project = sandbox.project("freed", &yaml);
    project.up();
    let host = namespace(&project, "host");
    for _ in 0..5 {
        project.compose(&["stop", "-t", "1", "web"]).ok();
        inside_network(&host, || {
            TcpListener::bind("0.0.0.0:8080").expect("a free port");
            UdpSocket::bind("0.0.0.0:8080").expect("a free port");
        });
        project.compose(&["start", "web"]).ok();
    }
    project.compose(&["stop", "-t", "1", "web"]).ok();
    let ps = project.compose(&["ps", "-a", "web"]).ok().stdout;
    assert!(ps.contains("Exited") && !ps.contains("8080"), "{ps}");
    project.compose(&["port", "web", "80"]).refused(1, &["web"]);
}

fn ports_survive_the_supervisor(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          web: {<<: *s, ports: ["8000-8010:5000", "5000/udp"]}
          host: {<<: *s, network_mode: host}
    "#;
    let project = sandbox.project("kept", yaml);
    project.up();
    let _echo = Echo::start(&namespace(&project, "web"), 5000, "web");
    let host = namespace(&project, "host");
    let shown = |protocol: &str| project.compose(&["port", "--protocol", protocol, "web", "5000"]).ok().stdout;
    let number = |text: &str| text.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let before = [shown("tcp"), shown("udp")];
    let is_it = |pid: &nix::unistd::Pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-superv"))
    };
    let supervisor = sandbox.processes().into_iter().find(is_it).expect("it runs");
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    eventually("tcp is carried again", || tcp(&host, (Ipv4Addr::LOCALHOST, number(&before[0]))));
    eventually("udp is carried again", || udp(&host, (Ipv4Addr::LOCALHOST, number(&before[1]))));
    assert_eq!([shown("tcp"), shown("udp")], before);
}

fn a_network_says_where_its_ports_are(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          web: {<<: *s, ports: ["5300:5000", "5300:5000/udp", "127.0.0.2:5301:5000"]}
          host: {<<: *s, network_mode: host}
        networks: {default: {name: bound, driver_opts: {com.docker.network.bridge.host_binding_ipv4: 127.0.0.1}}}
    "#;
    let project = sandbox.project("bound", yaml);
    project.up();
    let (host, other) = (namespace(&project, "host"), Ipv4Addr::new(127, 0, 0, 2));
    let shown_and_reached = |project: &Project<'_>| {
        let shown = project.compose(&["port", "--protocol", "udp", "web", "5000"]).ok().stdout;
        assert_eq!(shown, "127.0.0.1:5300\n");
        let _echo = Echo::start(&namespace(project, "web"), 5000, "web");
        for (protocol, ask) in [("tcp", tcp as Ask), ("udp", udp)] {
            eventually(&format!("{protocol} at the address"), || ask(&host, (Ipv4Addr::LOCALHOST, 5300)));
            assert_eq!(ask(&host, (other, 5300)), None, "{protocol} at another");
        }
        // Nothing of ours holds the others.
        inside_network(&host, || {
            TcpListener::bind((other, 5300)).expect("a free port");
            UdpSocket::bind((other, 5300)).expect("a free port");
        });
    };
    shown_and_reached(&project);
    let echo = Echo::start(&namespace(&project, "web"), 5000, "web");
    eventually("an address of its own", || tcp(&host, (other, 5301)));
    drop(echo);
    // Also where another project's file says nothing about it: the network does.
    let guest = sandbox.project(
        "guest",
        r#"
        services: {web: {image: root_fs, init: true, command: [sleep, infinity], ports: ["5300:5000", "5300:5000/udp"]}}
        networks: {default: {name: bound, external: true}}
        "#,
    );
    guest.compose(&["up", "-d"]).refused(1, &["127.0.0.1:5300", "bound-web-1"]);
    project.compose(&["stop", "-t", "1", "web"]).ok();
    guest.up();
    shown_and_reached(&guest);
    guest.down();
    project.down();
}
