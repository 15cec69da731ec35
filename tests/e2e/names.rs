//! The name server of each container, asked from within as a program there asks it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Case, Project, Sandbox, cases, eventually, inside_network};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        replicas_aliases_links_and_ids: Bridge,
        long_answers_are_cut_or_come_over_tcp: Bridge,
        what_is_ours_never_leaves: Bridge,
        a_name_is_there_with_its_container_and_no_longer: Bridge,
        names_survive_the_supervisor: Bridge,
        packets_that_are_none_do_no_harm: Bridge,
        connections_are_shared_and_bounded: Bridge,
        the_host_s_resolvers_are_followed: Internet + Bridge,
        a_service_s_own_resolvers: Internet + Bridge,
        resolv_conf_says_what_was_asked_for: Bridge,
    ]
}

/// Bytes that a name server has to bear, one packet a line.
const CORPUS: &str = include_str!("../dns_corpus.txt");
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// Longer than all resolvers together may take.
pub(crate) const LONG: Duration = Duration::from_secs(8);

pub(crate) fn query(name: &str, kind: RecordType, edns: bool) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
    }
    message
}

/// One datagram there and one back, in the calling thread's namespace; none where nothing comes back.
pub(crate) fn datagram(packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket.send_to(packet, SERVER).expect("sent");
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

pub(crate) fn connection(packet: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER).ok()?;
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let length = u16::try_from(packet.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes()[..], packet].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Some(reply)
}

/// Asks within a service's network namespace.
pub(crate) fn ask(project: &Project<'_>, service: &str, message: &Message) -> Message {
    let packet = message.to_vec().expect("a packet");
    let reply = within(project, service, move || datagram(&packet, LONG));
    Message::from_vec(&reply.expect("an answer")).expect("a message")
}

pub(crate) fn within<T: Send>(project: &Project<'_>, service: &str, work: impl FnOnce() -> T + Send) -> T {
    inside_network(&format!("/proc/{}/ns/net", project.container(service).pid), work)
}

/// The code of the answer and its data as text.
pub(crate) fn look(project: &Project<'_>, service: &str, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let reply = ask(project, service, &query(name, kind, false));
    (reply.metadata.response_code, reply.answers.iter().map(|record| record.data.to_string()).collect())
}

pub(crate) fn addresses(project: &Project<'_>, service: &str, name: &str) -> Vec<String> {
    let (code, mut found) = look(project, service, name, RecordType::A);
    assert_eq!(code, ResponseCode::NoError, "{name}");
    found.sort();
    found
}

fn replicas_aliases_links_and_ids(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          web: {<<: *s, scale: 3, networks: {default: {aliases: [site, site.example.test]}}}
          client: {<<: *s, links: ["web:mine"]}
          other: *s
    "#;
    let project = sandbox.project("many", yaml);
    project.up();
    let all = addresses(&project, "client", "web.");
    assert_eq!(all.len(), 3, "{all:?}");
    for name in ["site.", "SITE.example.test.", "web.many_default.", "mine."] {
        assert_eq!(addresses(&project, "client", name), all, "{name}");
    }
    let firsts: std::collections::BTreeSet<String> =
        (0..6).map(|_| look(&project, "client", "web.", RecordType::A).1.swap_remove(0)).collect();
    assert_eq!(firsts.len(), 3, "each is first in its turn: {firsts:?}");
    assert_eq!(
        look(&project, "other", "mine.", RecordType::A).0,
        ResponseCode::NXDomain,
        "a link is its owner's alone"
    );
    let none = (ResponseCode::NoError, Vec::new());
    assert_eq!(
        look(&project, "client", "other.", RecordType::AAAA),
        none,
        "there is the name, there is no such address"
    );
    assert_eq!(look(&project, "client", "web.", RecordType::TXT), none);
    for container in project.containers() {
        let one = addresses(&project, "client", &format!("{}.", container.name));
        assert_eq!(addresses(&project, "other", &format!("{}.", &container.id[..12])), one, "by its short id");
        let address: Ipv4Addr = one[0].parse().expect("an address");
        let [a, b, c, d] = address.octets();
        let backwards = look(&project, "other", &format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR);
        assert_eq!(backwards.1, [format!("{}.many_default.", container.name)]);
    }
}

fn long_answers_are_cut_or_come_over_tcp(sandbox: &Sandbox) {
    let yaml = "
        services:
          many: {image: root_fs, init: true, command: [sleep, infinity], scale: 40}
    ";
    let project = sandbox.project("long", yaml);
    project.up();
    let plain = query("many.", RecordType::A, false);
    let cut = ask(&project, "many", &plain);
    assert!(cut.metadata.truncation && cut.to_vec().expect("a packet").len() <= 512, "{cut}");
    let wide = ask(&project, "many", &query("many.", RecordType::A, true));
    assert!(!wide.metadata.truncation && wide.edns.is_some(), "{wide}");
    assert_eq!(wide.answers.len(), 40);
    let packet = plain.to_vec().expect("a packet");
    let whole = within(&project, "many", move || connection(&packet)).expect("an answer");
    let whole = Message::from_vec(&whole).expect("a message");
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 40));
}

/// Answers nothing and says what it was asked, on the host's 127.0.0.1.
fn recorder(project: &Project<'_>, host: &str) -> UdpSocket {
    let socket = within(project, host, || UdpSocket::bind("127.0.0.1:53").expect("a free port"));
    socket.set_nonblocking(true).expect("a socket of ours");
    socket
}

pub(crate) fn use_resolvers(sandbox: &Sandbox, servers: &[&str]) {
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    // Written in place: what is bound over the host's is the file, not its name.
    std::fs::write(sandbox.dir().join("resolv.conf"), lines).expect("a file of our own");
    sandbox.shell("mountpoint -q /etc/resolv.conf || mount --bind resolv.conf /etc/resolv.conf").ok();
}

fn what_is_ours_never_leaves(sandbox: &Sandbox) {
    use_resolvers(sandbox, &["127.0.0.1"]);
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          client: {<<: *s, networks: [front]}
          gone: {<<: *s, networks: [front]}
          hidden: {<<: *s, networks: {back: {aliases: [db.example.test]}}}
          host: {<<: *s, network_mode: host}
        networks: {front: , back: }
    "#;
    let project = sandbox.project("own", yaml);
    project.up();
    let asked = recorder(&project, "host");
    project.compose(&["stop", "-t", "1", "gone"]).ok();
    for name in ["nosuch.", "hidden.", "own-hidden-1.", "db.example.test.", "gone.", "gone.own_front.", "wpad."] {
        for kind in [RecordType::A, RecordType::AAAA] {
            assert_eq!(look(&project, "client", name, kind).0, ResponseCode::NXDomain, "{name} {kind}");
        }
    }
    assert_eq!(look(&project, "client", "client.", RecordType::A).0, ResponseCode::NoError);
    assert!(asked.recv(&mut [0; 512]).is_err(), "nobody outside has heard of them");
    // A resolver that says nothing holds up nothing of ours (F73), and the wait for it has an end.
    let outside = query("www.example.test.", RecordType::A, false).to_vec().expect("a packet");
    let path = format!("/proc/{}/ns/net", project.container("client").pid);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| inside_network(&path, || datagram(&outside, LONG)));
        eventually("the resolver is asked", || asked.recv(&mut [0; 512]).ok());
        assert_eq!(look(&project, "client", "client.", RecordType::A).0, ResponseCode::NoError);
        let end = slow.join().expect("no panic").expect("an answer in the end");
        assert_eq!(Message::from_vec(&end).expect("a message").metadata.response_code, ResponseCode::ServFail);
    });
    sandbox.shell("umount /etc/resolv.conf").ok();
}

fn a_name_is_there_with_its_container_and_no_longer(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services: {web: *s, client: *s}
    "#;
    let project = sandbox.project("swift", yaml);
    project.up();
    // Whoever waits for a command need not wait for the names.
    for _ in 0..5 {
        project.compose(&["stop", "-t", "1", "web"]).ok();
        assert_eq!(look(&project, "client", "web.", RecordType::A).0, ResponseCode::NXDomain);
        project.compose(&["start", "web"]).ok();
        assert_eq!(addresses(&project, "client", "web.").len(), 1);
    }
    // Nor after an end that nobody asked for.
    let path = format!("/proc/{}/ns/net", project.container("client").pid);
    let web = project.container("web");
    let packet = query("web.", RecordType::A, false).to_vec().expect("a packet");
    let begun = std::time::Instant::now();
    web.signal(Signal::SIGKILL);
    let took = eventually("the name is gone", || {
        let reply = inside_network(&path, || datagram(&packet, LONG)).expect("an answer");
        let code = Message::from_vec(&reply).expect("a message").metadata.response_code;
        (code == ResponseCode::NXDomain).then(|| begun.elapsed())
    });
    assert!(took < Duration::from_secs(2), "{took:?}");
}

fn names_survive_the_supervisor(sandbox: &Sandbox) {
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services: {web: *s, client: *s}
    "#;
    let project = sandbox.project("outlive", yaml);
    project.up();
    let path = format!("/proc/{}/ns/net", project.container("client").pid);
    let packet = query("web.", RecordType::A, false).to_vec().expect("a packet");
    for _ in 0..3 {
        kill(supervisor(sandbox), Signal::SIGKILL).expect("it runs");
        // Asked while nobody listens: the socket waits for its next server.
        let reply = inside_network(&path, || datagram(&packet, LONG)).expect("an answer, though late");
        let reply = Message::from_vec(&reply).expect("a message");
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
    }
}

fn supervisor(sandbox: &Sandbox) -> Pid {
    let is_it = |pid: &Pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"mydocker-superv"))
    };
    eventually("a supervisor runs", || sandbox.processes().into_iter().find(is_it))
}

/// The packets of the corpus: hexadecimal, `#` begins a remark.
fn corpus() -> Vec<Vec<u8>> {
    let bytes = |line: &str| -> Vec<u8> {
        let digits: Vec<u8> = line.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
        digits.chunks(2).map(byte).collect()
    };
    let lines = CORPUS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(bytes).collect()
}

fn packets_that_are_none_do_no_harm(sandbox: &Sandbox) {
    let yaml = "
        services:
          web: {image: root_fs, init: true, command: [sleep, infinity], networks: [inner]}
        networks: {inner: {internal: true}}
    ";
    let project = sandbox.project("rubbish", yaml);
    project.up();
    let served = supervisor(sandbox);
    within(&project, "web", || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for packet in corpus() {
            socket.send_to(&packet, SERVER).expect("sent");
            let Ok(mut stream) = TcpStream::connect(SERVER) else { panic!("nobody listens") };
            let length = u16::try_from(packet.len()).expect("short");
            let _ = stream.write_all(&[&length.to_be_bytes()[..], &packet].concat());
            // A promise that is not kept.
            let mut liar = TcpStream::connect(SERVER).expect("it listens");
            let _ = liar.write_all(&[0xff, 0xff]).and_then(|()| liar.write_all(&packet));
        }
    });
    assert_eq!(addresses(&project, "web", "web.").len(), 1);
    let packet = query("web.", RecordType::A, false).to_vec().expect("a packet");
    assert!(within(&project, "web", move || connection(&packet)).is_some());
    assert_eq!(supervisor(sandbox), served, "it is still the same");
}

fn connections_are_shared_and_bounded(sandbox: &Sandbox) {
    let yaml = "
        services:
          web: {image: root_fs, init: true, command: [sleep, infinity], networks: [inner]}
        networks: {inner: {internal: true}}
    ";
    let project = sandbox.project("shared", yaml);
    project.up();
    let framed = |message: &Message| {
        let packet = message.to_vec().expect("a packet");
        [&u16::try_from(packet.len()).expect("short").to_be_bytes()[..], &packet].concat()
    };
    // Several questions at once on one connection, and one that comes in pieces (RFC 7766, 6.2.1.1).
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::A, RecordType::TXT];
    let all: Vec<u8> = kinds.iter().flat_map(|kind| framed(&query("web.", *kind, false))).collect();
    let counts = within(&project, "web", || {
        let mut stream = TcpStream::connect(SERVER).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let (first, last) = all.split_at(all.len() - 5);
        stream.write_all(first).expect("sent");
        stream.write_all(last).expect("sent");
        let next = |_: &RecordType| {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("an answer");
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).expect("all of it");
            Message::from_vec(&reply).expect("a message").answers.len()
        };
        kinds.iter().map(next).collect::<Vec<_>>()
    });
    assert_eq!(counts, [1, 0, 1, 0]);
    // The longest message that there can be, and many who say nothing: the next is answered all the same, before any of
    // them is given up for its silence.
    let packet = query("web.", RecordType::A, false).to_vec().expect("a packet");
    let begun = std::time::Instant::now();
    within(&project, "web", || {
        let mut long = TcpStream::connect(SERVER).expect("it listens");
        let _ = long.write_all(&vec![0xff; 2 + 65535]);
        let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(SERVER).expect("it listens")).collect();
        assert!(connection(&packet).is_some());
        drop(silent);
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

fn the_host_s_resolvers_are_followed(sandbox: &Sandbox) {
    let yaml = "\n services:\n  client: {image: root_fs, init: true, command: [sleep, infinity]}\n";
    // Nobody is there: the next is asked.
    use_resolvers(sandbox, &["192.0.2.77", "198.51.100.10"]);
    let project = sandbox.project("follow", yaml);
    project.up();
    assert_eq!(addresses(&project, "client", "example.test."), ["198.51.100.10"]);
    assert_eq!(look(&project, "client", "example.test.", RecordType::AAAA).1, ["2001:db8:100::10"]);
    assert_eq!(look(&project, "client", "nosuch.example.", RecordType::A).0, ResponseCode::NXDomain);
    // Another network, another resolver: nothing is started anew for that.
    use_resolvers(sandbox, &["127.0.0.1"]);
    assert_eq!(look(&project, "client", "example.test.", RecordType::A).0, ResponseCode::ServFail);
    use_resolvers(sandbox, &["198.51.100.10"]);
    assert_eq!(addresses(&project, "client", "example.test."), ["198.51.100.10"]);
    sandbox.shell("umount /etc/resolv.conf").ok();
}

fn a_service_s_own_resolvers(sandbox: &Sandbox) {
    use_resolvers(sandbox, &["127.0.0.1"]);
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          own: {<<: *s, dns: 198.51.100.10, ports: [80]}
          host: *s
          inner: {<<: *s, dns: [198.51.100.10], networks: [inner]}
        networks: {default: , inner: {internal: true}}
    "#;
    let project = sandbox.project("own-dns", yaml);
    project.up();
    assert_eq!(addresses(&project, "own", "example.test."), ["198.51.100.10"]);
    assert_eq!(addresses(&project, "own", "host.").len(), 1, "our own names are ours to answer");
    assert_eq!(look(&project, "host", "example.test.", RecordType::A).0, ResponseCode::ServFail);
    // It is asked from within: who has no way out gets none by us.
    assert_eq!(look(&project, "inner", "example.test.", RecordType::A).0, ResponseCode::ServFail);
    kill(supervisor(sandbox), Signal::SIGKILL).expect("it runs");
    assert_eq!(addresses(&project, "own", "example.test."), ["198.51.100.10"], "as before");
    sandbox.shell("umount /etc/resolv.conf").ok();
}

fn resolv_conf_says_what_was_asked_for(sandbox: &Sandbox) {
    std::fs::write(sandbox.dir().join("resolv.conf"), "nameserver 192.0.2.1\nsearch corp.test\noptions timeout:1\n")
        .expect("a file of our own");
    sandbox.shell("mount --bind resolv.conf /etc/resolv.conf").ok();
    let yaml = r#"
        x-s: &s {image: root_fs, init: true, command: [sleep, infinity]}
        services:
          plain: *s
          asked: {<<: *s, dns: [192.0.2.53], dns_search: [a.test, b.test], dns_opt: ["ndots:2", rotate], domainname: d.test, hostname: h}
          none: {<<: *s, network_mode: none, dns: [192.0.2.53], dns_search: .}
    "#;
    let project = sandbox.project("conf", yaml);
    let up = project.up();
    assert!(!up.stderr.contains("dns"), "nothing is left out: {}", up.describe());
    let conf = |service: &str| project.exec(service, &["cat", "/etc/resolv.conf"]).ok().stdout;
    assert_eq!(conf("plain"), "nameserver 127.0.0.11\nsearch corp.test\noptions ndots:0 timeout:1\n");
    assert_eq!(conf("asked"), "nameserver 127.0.0.11\nsearch a.test b.test\noptions ndots:2 rotate\n");
    assert_eq!(conf("none"), "nameserver 192.0.2.53\noptions timeout:1\n");
    assert!(project.exec("asked", &["cat", "/etc/hosts"]).ok().stdout.contains("\th.d.test h\n"));
    sandbox.shell("umount /etc/resolv.conf").ok();
    let refused = sandbox.project(
        "bad",
        "services: {one: {image: root_fs, command: [a], dns: [x], dns_search: ['a b'], dns_opt: [\"a\\nnameserver 6.6.6.6\"]}}",
    );
    refused.compose(&["up", "-d"]).refused(2, &["`x` is not an IP address", "dns_search[0]", "dns_opt[0]"]);
    refused.rewrite("services: {one: {image: root_fs, command: [a]}}");
}
