//! IPv6: addresses and names, the way out, published ports from everywhere, isolation, what is refused, a supervisor's death.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Case, Project, Sandbox, cases, eventually, inside_network};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        both_addresses_and_their_names: Bridge + Ipv6,
        the_way_out_and_what_is_put_back: Internet + Bridge + Ipv6,
        published_ports_from_everywhere: Internet + Bridge + Ipv6,
        published_ports_with_nftables: Internet + Bridge + Ipv6 + Nftables,
        networks_are_isolated: Bridge + Ipv6,
        what_cannot_be_is_refused: Bridge + Ipv6,
        several_subnets: Bridge + Ipv6,
        a_network_without_ipv4: Internet + Bridge + Ipv6,
        a_supervisor_s_death: Bridge + Ipv6,
        by_hand: Bridge + Ipv6,
    ]
}

/// Two services on a network with both, one on a network with IPv4 alone.
const DUAL: &str = r#"
    x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
    services:
      web: {<<: *s, networks: {default: {ipv6_address: "fd00:77::80"}}}
      client: *s
      old: {<<: *s, networks: [v4]}
    networks:
      default: {enable_ipv6: true, ipam: {config: [{subnet: "fd00:77::/64"}]}}
      v4:
    "#;

/// The addresses of a service's `eth0` that are good beyond their link.
fn addresses(project: &Project<'_>, service: &str, family: &str) -> Vec<IpAddr> {
    let words = ["ip", "-o", family, "addr", "show", "dev", "eth0", "scope", "global"];
    let shown = project.exec(service, &words).ok().stdout;
    let fields = shown.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok());
    fields.collect()
}

fn ipv6(project: &Project<'_>, service: &str) -> IpAddr {
    *addresses(project, service, "-6").first().unwrap_or_else(|| panic!("{service} has an IPv6 address"))
}

fn namespace(project: &Project<'_>, service: &str) -> String {
    format!("/proc/{}/ns/net", project.container(service).pid)
}

/// Answers one client after the other with its label and the address that it sees, inside a namespace.
struct Echo {
    address: SocketAddr,
    namespace: String,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(namespace: &str, listen: &str, label: &'static str) -> Self {
        let listener = inside_network(namespace, || TcpListener::bind(listen).expect("a free port"));
        let address = listener.local_addr().expect("bound");
        let serve = move || {
            // A client that says something ends it.
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
                let _ = write!(stream, "{label} {peer}");
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                if matches!(stream.read(&mut [0; 1]), Ok(1)) {
                    return;
                }
            }
        };
        Self { address, namespace: namespace.to_owned(), thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let local = if self.address.is_ipv6() { "[::1]" } else { "127.0.0.1" };
        let last = format!("{local}:{}", self.address.port());
        if let Ok(mut stream) = inside_network(&self.namespace, || TcpStream::connect(last)) {
            let _ = stream.write_all(b"!");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks from within a namespace: the answer and the asker's own address.
fn ask(from: &str, to: &str) -> Option<(String, String)> {
    let to: SocketAddr = to.parse().unwrap_or_else(|_| panic!("{to} is an address with a port"));
    let mut stream = inside_network(from, || TcpStream::connect_timeout(&to, Duration::from_millis(400))).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let own = stream.local_addr().expect("connected").ip().to_string();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some((text, own))
}

fn both_addresses_and_their_names(sandbox: &Sandbox) {
    let project = sandbox.project("dual", DUAL);
    project.up();
    assert_eq!(ipv6(&project, "web").to_string(), "fd00:77::80");
    let (v4, v6) = (addresses(&project, "client", "-4"), ipv6(&project, "client"));
    let last = v4[0].to_string().rsplit('.').next().map(str::to_owned).expect("four numbers");
    assert_eq!(v6.to_string(), format!("fd00:77::{last}"), "both stand at the same place of their subnets");
    for name in ["web", "dual-web-1", "web.dual_default"] {
        project.exec("client", &["ping", "-6", "-c", "1", "-W", "2", name]).ok();
        project.exec("client", &["ping", "-4", "-c", "1", "-W", "2", name]).ok();
    }
    let dig = |service: &str, words: &str| {
        let inside =
            format!("nsenter --net={} dig @127.0.0.11 +short +tries=1 +time=2 {words}", namespace(&project, service));
        sandbox.shell(&inside).ok().stdout.trim().to_owned()
    };
    assert_eq!(dig("client", "web AAAA"), "fd00:77::80");
    assert_eq!(dig("client", "-x fd00:77::80"), "dual-web-1.dual_default.");
    assert_eq!(dig("old", "old AAAA"), "", "no data: the name is there, and has no such address");
    assert!(!dig("old", "old A").is_empty());
    let hosts = project.exec("web", &["cat", "/etc/hosts"]).ok().stdout;
    assert!(hosts.contains("fd00:77::80\t") && hosts.contains("::1\tlocalhost"), "{hosts}");
    let old = project.exec("old", &["ip", "-6", "addr", "show", "dev", "eth0"]).ok().stdout;
    assert_eq!(old, "", "not even a link-local one");
    let shown =
        project.exec("client", &["sh", "-c", "ip -6 route; cat /proc/sys/net/ipv6/conf/eth0/accept_ra"]).ok().stdout;
    assert!(shown.contains("default via fd00:77::1") && shown.trim().ends_with('0'), "{shown}");
    assert!(!project.exec("client", &["ip", "-6", "addr"]).ok().stdout.contains("tentative"));
    let ps = project.compose(&["ps", "--format", "json", "web"]).ok().stdout;
    assert!(ps.contains("fd00:77::80"), "{ps}");
    let inspected = sandbox.mydocker(&["network", "inspect", "dual_default"]).ok().stdout;
    assert!(inspected.contains("\"fd00:77::80/64\"") && inspected.contains("\"fd00:77::1\""), "{inspected}");
}

fn the_way_out_and_what_is_put_back(sandbox: &Sandbox) {
    let switches = "cat /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/up0/accept_ra";
    sandbox.shell("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; echo 1 >/proc/sys/net/ipv6/conf/up0/accept_ra").ok();
    let project = sandbox.project(
        "out",
        &DUAL
            .replace(r#", ipam: {config: [{subnet: "fd00:77::/64"}]}"#, "")
            .replace(r#"{default: {ipv6_address: "fd00:77::80"}}"#, "[default, inner]")
            .replace("      v4:\n", "      v4:\n      inner: {internal: true, enable_ipv6: true}\n")
            .replace("networks: [v4]", "networks: [inner]"),
    );
    project.up();
    assert_eq!(sandbox.shell(switches).ok().stdout, "1\n2\n", "what routers tell the host is still heard");
    let own = ipv6(&project, "client").to_string();
    assert!(own.starts_with("fd"), "a unique local address: {own}");
    project.exec("client", &["ping", "-6", "-c", "1", "-W", "2", "2001:db8:100::10"]).ok();
    let fetch = |service: &str| {
        let words = ["timeout", "2", "wget", "-q", "-O", "-", "http://[2001:db8:100::10]/"];
        Some(project.exec(service, &words)).filter(|done| done.code == 0).map(|done| done.stdout)
    };
    let seen = fetch("client").expect("the server beyond answers");
    assert!(seen.starts_with("2001:db8:2::2 "), "the server sees the host's address: {seen}");
    assert_eq!(fetch("old"), None, "an internal network has no way out");
    project.exec("old", &["ping", "-6", "-c", "1", "-W", "2", "web"]).ok();
    project.down();
    assert_eq!(sandbox.shell(switches).ok().stdout, "0\n1\n");
    // The same name, the same subnet.
    project.up();
    assert_eq!(ipv6(&project, "client").to_string(), own);
    project.down();
    sandbox.shell("echo 0 >/proc/sys/net/ipv6/conf/up0/accept_ra").ok();
}

const PORTS: &str = r#"
    x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
    services:
      web:
        <<: *s
        ports: ["5300:5000", "5300:5000/udp", "[::1]:5301:5000", "[::1]:5301:5000/udp", "[2001:db8:2::2]:5302:5000", "[::]:5303:5000", "0.0.0.0:5304:5000"]
      old: {<<: *s, networks: [v4], ports: ["5310:5000", "5310:5000/udp"]}
      sibling: *s
      stranger: {<<: *s, networks: [other]}
      host: {<<: *s, network_mode: host}
    networks: {default: {enable_ipv6: true}, other: {enable_ipv6: true}, v4: }
    "#;

fn published_ports_from_everywhere(sandbox: &Sandbox) {
    let project = sandbox.project("reach6", PORTS);
    project.up();
    let web = namespace(&project, "web");
    let _echo = Echo::start(&web, "[::]:5000", "web");
    let _old = Echo::start(&namespace(&project, "old"), "0.0.0.0:5000", "old");
    let outside = format!("/run/netns/natlab-{}-inet", sandbox.token());
    let of = |service: &str| namespace(&project, service);
    let (host, sibling, stranger) = (of("host"), of("sibling"), of("stranger"));
    const HOST: &str = "[2001:db8:2::2]";
    for (who, from, to, label) in [
        ("the host by ::1", &host, "[::1]:5300".to_owned(), "web"),
        ("the host by its address", &host, format!("{HOST}:5300"), "web"),
        ("a sibling by the host's address", &sibling, format!("{HOST}:5300"), "web"),
        ("the container itself", &web, format!("{HOST}:5300"), "web"),
        ("another network", &stranger, format!("{HOST}:5300"), "web"),
        ("outside", &outside, format!("{HOST}:5300"), "web"),
        ("outside over IPv4", &outside, "192.0.2.2:5300".to_owned(), "web"),
        ("the host, of ::1 alone", &host, "[::1]:5301".to_owned(), "web"),
        ("outside, of one address", &outside, format!("{HOST}:5302"), "web"),
        ("outside, of all of IPv6", &outside, format!("{HOST}:5303"), "web"),
        ("outside, a container with IPv4 alone", &outside, format!("{HOST}:5310"), "old"),
        ("the host by ::1, a container with IPv4 alone", &host, "[::1]:5310".to_owned(), "old"),
    ] {
        let (answer, own) = eventually(&format!("{who} is answered"), || ask(from, &to));
        assert!(answer.starts_with(label), "{who}: {answer}");
        if who.starts_with("outside") && label == "web" {
            assert_eq!(answer, format!("web {own}"), "{who}: the client's own address is seen");
        }
    }
    for (who, from, to) in [
        ("outside, of ::1 alone", &outside, format!("{HOST}:5301")),
        ("the host by ::1, of another address", &host, "[::1]:5302".to_owned()),
        ("outside over IPv4, of IPv6", &outside, "192.0.2.2:5303".to_owned()),
        ("outside over IPv6, of IPv4", &outside, format!("{HOST}:5304")),
        ("another network, by the container's own address", &stranger, format!("[{}]:5000", ipv6(&project, "web"))),
    ] {
        assert_eq!(ask(from, &to), None, "{who}");
    }
    let ps = project.compose(&["ps"]).ok().stdout;
    assert!(ps.contains("[::1]:5301->5000/tcp"), "{ps}");
    let server = |namespace: &str, at: &str| inside_network(namespace, || UdpSocket::bind(at).expect("a free port"));
    let (web_udp, old_udp) = (server(&web, "[::]:5000"), server(&of("old"), "0.0.0.0:5000"));
    for (who, server, from, to) in [
        ("the host by ::1", &web_udp, &host, "[::1]:5300".to_owned()),
        ("the host by its address", &web_udp, &host, format!("{HOST}:5300")),
        ("a sibling", &web_udp, &sibling, format!("{HOST}:5300")),
        ("the container itself", &web_udp, &web, format!("{HOST}:5300")),
        ("another network", &web_udp, &stranger, format!("{HOST}:5300")),
        ("outside", &web_udp, &outside, format!("{HOST}:5300")),
        ("the host, of ::1 alone", &web_udp, &host, "[::1]:5301".to_owned()),
        ("outside, a container with IPv4 alone", &old_udp, &outside, format!("{HOST}:5310")),
        ("the host by ::1, a container with IPv4 alone", &old_udp, &host, "[::1]:5310".to_owned()),
    ] {
        let (seen, own) = eventually(&format!("udp: {who} is answered"), || ask_udp(server, from, &to));
        assert!(who != "outside" || seen == own, "the client's own address is seen: {seen}, not {own}");
    }
    assert_eq!(ask_udp(&web_udp, &outside, &format!("{HOST}:5301")), None, "udp from outside, of ::1 alone");
}

/// Asks and answers: the address that the server sees, and the client's own. The client is connected: an answer from elsewhere is none.
fn ask_udp(server: &UdpSocket, from: &str, to: &str) -> Option<(String, String)> {
    let client = inside_network(from, || {
        let client = UdpSocket::bind("[::]:0").expect("a socket");
        client.connect(to).map(|()| client)
    });
    let client = client.ok()?;
    for socket in [server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(400))).expect("a timeout");
    }
    client.send(b"?").ok()?;
    let (_, seen) = server.recv_from(&mut [0; 8]).ok()?;
    server.send_to(b"!", seen).ok()?;
    client.recv(&mut [0; 8]).ok()?;
    Some((seen.ip().to_canonical().to_string(), client.local_addr().ok()?.ip().to_string()))
}

fn published_ports_with_nftables(sandbox: &Sandbox) {
    sandbox.set_env("MYDOCKER_FIREWALL", "nftables");
    published_ports_from_everywhere(sandbox);
}

fn networks_are_isolated(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          a: {<<: *s, networks: [one]}
          b: {<<: *s, networks: [two]}
          c: {<<: *s, networks: [two]}
        networks: {one: {enable_ipv6: true}, two: {enable_ipv6: true}}
    "#;
    let project = sandbox.project("apart6", yaml);
    project.up();
    let _echo = Echo::start(&namespace(&project, "b"), "[::]:5000", "b");
    let b = format!("[{}]:5000", ipv6(&project, "b"));
    assert!(eventually("b answers its neighbour", || ask(&namespace(&project, "c"), &b)).0.starts_with('b'));
    assert_eq!(ask(&namespace(&project, "a"), &b), None);
    // Names of another network are not answered either.
    assert_ne!(project.exec("a", &["nslookup", "-type=aaaa", "b"]).code, 0);
}

fn what_cannot_be_is_refused(sandbox: &Sandbox) {
    let service = |address: &str| {
        format!("{{image: root_fs, command: [sleep, '1'], networks: {{n: {{ipv6_address: '{address}'}}}}}}")
    };
    let network = "n: {enable_ipv6: true, ipam: {config: [{subnet: 'fd00:5::/64', aux_addresses: {x: 'fd00:5::9'}}]}}";
    for (services, networks, words) in [
        (service("fd00:6::2"), network, ["fd00:6::2", "outside", "ipv6_address"].as_slice()),
        (service("fd00:5::1"), network, &["fd00:5::1", "gateway"]),
        (service("fd00:5::"), network, &["fd00:5::", "network"]),
        (service("fd00:5::9"), network, &["fd00:5::9", "reserved for `x`"]),
        (service("10.1.0.2"), network, &["10.1.0.2", "not an IPv6 address"]),
        (service("fd00:5::2"), "n: {enable_ipv6: true}", &["fd00:5::2", "subnet of its own"]),
        (service("fd00:5::2"), "n: ", &["fd00:5::2", "enable_ipv6"]),
        (service("fd00:5::2"), "n: {ipam: {config: [{subnet: 'fd00:5::/64'}]}}", &["fd00:5::/64", "IPv6 is off"]),
        (service("fe80::2"), "n: {enable_ipv6: true, ipam: {config: [{subnet: 'fe80::/64'}]}}", &["fe80::/64"]),
        (service("fd00:5::2"), "n: {enable_ipv6: true, ipam: {config: [{subnet: 'fd00:5::1/64'}]}}", &["host bits"]),
        (service("fd00:5::2"), "n: {enable_ipv6: true, ipam: {config: [{subnet: 'fd00:5::/127'}]}}", &["too small"]),
        (
            service("fd00:5::2"),
            "n: {enable_ipv6: true, ipam: {config: [{subnet: 'fd00:5::/64', gateway: 'fd00:6::1'}]}}",
            &["gateway", "fd00:6::1"],
        ),
        (service("fd00:5::2"), "n: {enable_ipv4: false}", &["no addresses", "enable_ipv6"]),
    ] {
        let project = sandbox.project("wrong", &format!("services: {{web: {services}}}\nnetworks: {{{networks}}}\n"));
        let done = project.compose(&["up", "-d"]);
        assert!(matches!(done.code, 1 | 2), "{}", done.describe());
        let code = done.code;
        let done = done.refused(code, words);
        assert!(!done.stderr.contains("Created"), "{}", done.describe());
    }
    let two = format!("services: {{a: {0}, b: {0}}}\nnetworks: {{{network}}}\n", service("fd00:5::2"));
    let project = sandbox.project("wrong", &two);
    project.compose(&["up", "-d"]).refused(2, &["fd00:5::2", "belongs to service `a`"]);
    // What the harness takes down has to be readable.
    project.rewrite("services: {web: {image: root_fs, command: [sleep, '1']}}");
    for (words, said) in [
        (["--subnet", "fd00::/64", "--gateway", "fd01::1"].as_slice(), "fd01::1"),
        (&["--ipv6", "-o", "com.docker.network.driver.mtu=1200"], "1280"),
        (&["--subnet", "fd00::/64", "--subnet", "fd00::/80"], "overlaps"),
        (&["--ipv4=false"], "no addresses"),
        (&["--subnet", "::/64"], "not one of hosts"),
    ] {
        let done = sandbox.mydocker(&[&["network", "create"], words, &["wrong"]].concat());
        assert_ne!(done.code, 0, "{}", done.describe());
        assert!(done.stderr.contains(said) && done.stderr.matches("error:").count() == 1, "{}", done.describe());
    }
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "");
}

fn several_subnets(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          one: {<<: *s, networks: {n: {ipv4_address: 10.68.2.7, ipv6_address: "fd00:68:2::7"}}}
          two: *s
        networks:
          n:
            enable_ipv6: true
            ipam:
              config:
                - {subnet: 10.68.1.0/30}
                - {subnet: "fd00:68:1::/64"}
                - {subnet: 10.68.2.0/24, gateway: 10.68.2.9}
                - {subnet: "fd00:68:2::/64"}
          default:
    "#;
    let project = sandbox.project("several", &yaml.replace("two: *s", "two: {<<: *s, networks: [n]}"));
    project.up();
    let shown = |service: &str| [addresses(&project, service, "-4"), addresses(&project, service, "-6")].concat();
    let text = |service: &str| shown(service).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(text("one"), "10.68.2.7 fd00:68:2::7", "a fixed address may be of any");
    assert_eq!(text("two"), "10.68.1.2 fd00:68:1::2", "else the first gives it");
    let routes = project.exec("one", &["sh", "-c", "ip route; ip -6 route"]).ok().stdout;
    assert!(routes.contains("default via 10.68.2.9") && routes.contains("default via fd00:68:2::1"), "{routes}");
    // From one subnet to the other through the bridge, whose gateway of each it has.
    project.exec("two", &["ping", "-6", "-c", "1", "-W", "2", "one"]).ok();
    project.exec("two", &["ping", "-4", "-c", "1", "-W", "2", "one"]).ok();
}

fn a_network_without_ipv4(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services: {web: {<<: *s, ports: ["5300:5000"]}, client: *s}
        networks: {default: {enable_ipv4: false, enable_ipv6: true}}
    "#;
    let project = sandbox.project("only6", yaml);
    project.up();
    assert_eq!(addresses(&project, "client", "-4"), Vec::<IpAddr>::new());
    project.exec("client", &["ping", "-6", "-c", "1", "-W", "2", "web"]).ok();
    project.exec("client", &["ping", "-6", "-c", "1", "-W", "2", "2001:db8:100::10"]).ok();
    let _echo = Echo::start(&namespace(&project, "web"), "[::]:5000", "web");
    let host = format!("/run/netns/natlab-{}-host", sandbox.token());
    for to in ["127.0.0.1:5300", "192.0.2.2:5300", "[::1]:5300", "[2001:db8:2::2]:5300"] {
        let (answer, _) = eventually(&format!("{to} answers"), || ask(&host, to));
        assert!(answer.starts_with("web"), "{to}: {answer}");
    }
}

fn a_supervisor_s_death(sandbox: &Sandbox) {
    let project = sandbox.project("reborn", DUAL);
    project.up();
    let before = (project.container("web").identity(), ipv6(&project, "client"));
    let pid = std::fs::read_to_string(project.state_dir().join("supervisor.pid")).ok();
    let pids = sandbox.processes();
    // Whoever is the supervisor is told by its command line.
    let supervisor = pids.iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("supervis")
    });
    let supervisor = supervisor.unwrap_or_else(|| panic!("a supervisor among {pids:?} ({pid:?})"));
    sandbox.shell("ip -6 addr flush scope global; ip6tables -F; ip6tables -t nat -F; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding").ok();
    nix::sys::signal::kill(*supervisor, Signal::SIGKILL).expect("it runs");
    eventually("the supervisor is back", || {
        let ps = project.compose(&["ps", "-a", "--format", "json"]);
        (ps.code == 0 && ps.stdout.contains("running")).then_some(())
    });
    assert_eq!((project.container("web").identity(), ipv6(&project, "client")), before);
    let mended = "ip -6 addr show scope global; ip6tables-save -t nat; cat /proc/sys/net/ipv6/conf/all/forwarding";
    eventually("the host is as it was", || {
        let shown = sandbox.shell(mended).ok().stdout;
        let whole = shown.contains("fd00:77::1/64") && shown.contains("-s fd00:77::/64") && shown.ends_with("1\n");
        whole.then_some(())
    });
    project.exec("client", &["ping", "-6", "-c", "1", "-W", "2", "web"]).ok();
}

fn by_hand(sandbox: &Sandbox) {
    let create = [
        "network",
        "create",
        "--subnet",
        "fd00:70::/64",
        "--gateway",
        "fd00:70::99",
        "--subnet",
        "10.70.0.0/24",
        "six",
    ];
    sandbox.mydocker(&create).ok();
    let ls = sandbox.mydocker(&["network", "ls"]).ok().stdout;
    assert!(ls.contains("10.70.0.0/24,fd00:70::/64"), "{ls}");
    let words = [
        "run",
        "--rm",
        "--network",
        "six",
        "--ip6",
        "fd00:70::5",
        "root_fs",
        "ip",
        "-6",
        "addr",
        "show",
        "dev",
        "eth0",
    ];
    let run = sandbox.mydocker(&words);
    assert!(run.stdout.contains("fd00:70::5/64"), "{}", run.describe());
    let mut wrong = words;
    wrong[5] = "fd00:70::99";
    let refused = sandbox.mydocker(&wrong);
    assert!(refused.code != 0 && refused.stderr.contains("it is the gateway"), "{}", refused.describe());
    let check = sandbox.mydocker(&["network", "check", "six"]).ok().stdout;
    assert!(check.contains("fd00:70::99/64"), "{check}");
    sandbox.mydocker(&["network", "rm", "six"]).ok();
}
