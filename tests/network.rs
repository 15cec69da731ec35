//! Networks on a real kernel. Each test has a host of its own: a thread in a fresh network namespace, with a runtime whose
//! threads are born there. Nothing of the machine's own network is touched, and all of it ends with the thread.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mydocker::namespaces::network::{in_namespace, open_current, raise_loopback_here};
use mydocker::network::dns::{NameEntry, NameTable, Resolvers, open_dns_sockets, serve};
use mydocker::network::{
    AttachRequest, Attachment, DriverKind, FirewallChoice, FirewallOptions, NetworkConfig, NetworkError, Networks,
    PortMapping, PortReservation, Protocol, serve_proxy,
};
use mydocker::spec::{Bandwidth, ContainerId};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(2);
const REFUSAL: Duration = Duration::from_millis(300);

/// Runs `work` as a host of its own.
fn on_a_host<F: Future<Output = ()>>(work: impl FnOnce(Networks, PathBuf) -> F + Send + 'static) {
    std::thread::spawn(move || {
        unshare();
        raise_loopback_here().unwrap();
        let run_dir = tempfile::tempdir().unwrap();
        let networks = Networks::open(run_dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(networks, run_dir.path().to_owned()));
    })
    .join()
    .unwrap();
}

fn unshare() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

fn fresh_namespace() -> OwnedFd {
    std::thread::spawn(|| {
        unshare();
        open_current().unwrap()
    })
    .join()
    .unwrap()
}

fn config(name: &str) -> NetworkConfig {
    NetworkConfig { name: name.to_owned(), ..NetworkConfig::default() }
}

struct Container {
    id: ContainerId,
    netns: OwnedFd,
}

impl Container {
    fn new() -> Self {
        Self { id: ContainerId::generate(), netns: fresh_namespace() }
    }

    fn request(&self, network: &str, ifname: &str, ports: Vec<PortMapping>) -> AttachRequest<'_> {
        AttachRequest {
            network: network.to_owned(),
            container: self.id.clone(),
            container_name: format!("c-{}", self.id.short()),
            aliases: Vec::new(),
            netns: self.netns.as_fd(),
            ifname: ifname.parse().unwrap(),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            default_route: ifname == "eth0",
            bandwidth: Bandwidth::default(),
            ports,
            process: None,
        }
    }

    async fn attach(&self, networks: &Networks, network: &str) -> Attachment {
        networks.attach(self.request(network, "eth0", Vec::new())).await.unwrap()
    }

    /// Serves "hello from PEER" on a port, once a connection, until the thread's listener is dropped with the namespace.
    fn serve_once(&self, port: u16) -> std::thread::JoinHandle<SocketAddr> {
        // A process that another test forks at this moment holds the last listener until it executes.
        let deadline = Instant::now() + PATIENCE;
        let bind = || loop {
            match TcpListener::bind(("0.0.0.0", port)) {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                bound => return bound.unwrap(),
            }
        };
        let listener = in_namespace(self.netns.as_fd(), bind).unwrap();
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            peer
        })
    }

    fn connects(&self, to: SocketAddr, patience: Duration) -> bool {
        in_namespace(self.netns.as_fd(), || connects(to, patience)).unwrap()
    }
}

fn connects(to: SocketAddr, patience: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, patience) else { return false };
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok() && text == "hello"
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything of the host that a network may leave behind: links, addresses, routes, rules, forwarding.
fn listing() -> String {
    let rules: String = output("iptables-save", &[])
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line.split(" [").next().unwrap() + "\n");
    let links = output("ip", &["-o", "link"])
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect::<Vec<_>>();
    format!("{links:?}\n{}{rules}{}", output("ip", &["route", "show", "table", "all"]), forwarding())
}

fn forwarding() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()
}

/// Makes an "internet" behind the host: a namespace with 198.51.100.10, reached through an uplink that the host has a
/// default route over.
fn internet() -> OwnedFd {
    let netns = fresh_namespace();
    output("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "peer0"]);
    // `ip` wants a pid or a name: the file of this thread's descriptor will do.
    let holder = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/fd/{}", std::process::id(), raw(&netns)))
        .args(["sleep", "60"])
        .spawn();
    let mut holder = holder.unwrap();
    let pid = holder.id().to_string();
    let deadline = Instant::now() + PATIENCE;
    let inode = |path: String| std::fs::read_link(path).ok();
    let own = inode("/proc/thread-self/ns/net".to_owned());
    while inode(format!("/proc/{pid}/ns/net")) == own && Instant::now() < deadline {
        std::thread::yield_now();
    }
    output("ip", &["link", "set", "peer0", "netns", &pid]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    output("ip", &["addr", "add", "192.0.2.2/24", "dev", "up0"]);
    output("ip", &["link", "set", "up0", "up"]);
    in_namespace(netns.as_fd(), || {
        raise_loopback_here().unwrap();
        output("ip", &["addr", "add", "192.0.2.1/24", "dev", "peer0"]);
        output("ip", &["addr", "add", "198.51.100.10/32", "dev", "lo"]);
        output("ip", &["link", "set", "peer0", "up"]);
    })
    .unwrap();
    output("ip", &["route", "add", "default", "via", "192.0.2.1"]);
    netns
}

fn raw(fd: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(fd)
}

#[test]
fn two_containers_talk_to_each_other_and_to_the_gateway() {
    on_a_host(|networks, _dir| async move {
        let network = networks.ensure(&config("p_default")).await.unwrap();
        assert_eq!(network.subnet().unwrap().to_string(), "10.11.0.0/24");
        let (a, b) = (Container::new(), Container::new());
        let at = a.attach(&networks, "p_default").await;
        let bt = b.attach(&networks, "p_default").await;
        assert_eq!((at.ip(), bt.ip()), (Some(Ipv4Addr::new(10, 11, 0, 2)), Some(Ipv4Addr::new(10, 11, 0, 3))));
        let server = b.serve_once(80);
        assert!(a.connects((bt.ip().unwrap(), 80).into(), PATIENCE));
        assert_eq!(server.join().unwrap().ip(), at.ip().unwrap());
        in_namespace(a.netns.as_fd(), || {
            output("busybox", &["ping", "-c1", "-W2", &bt.ip().unwrap().to_string()]);
            output("busybox", &["ping", "-c1", "-W2", "10.11.0.1"]);
            let inside = output("ip", &["-br", "addr"]);
            assert!(
                inside.contains("lo") && inside.contains("127.0.0.1/8") && inside.contains("10.11.0.2/24"),
                "{inside}"
            );
            assert!(output("ip", &["route"]).contains("default via 10.11.0.1 dev eth0"));
        })
        .unwrap();
    });
}

#[test]
fn what_leaves_has_the_hosts_address_and_forwarding_is_put_back() {
    on_a_host(|networks, _dir| async move {
        let internet = internet();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        output("iptables", &["-P", "FORWARD", "DROP"]);
        networks.ensure(&config("p_default")).await.unwrap();
        networks.ensure(&NetworkConfig { internal: true, ..config("p_closed") }).await.unwrap();
        assert_eq!(forwarding(), "1\n");
        let (open, closed) = (Container::new(), Container::new());
        open.attach(&networks, "p_default").await;
        closed.attach(&networks, "p_closed").await;
        let outside = Container { id: ContainerId::generate(), netns: internet };
        let server = outside.serve_once(80);
        let target: SocketAddr = "198.51.100.10:80".parse().unwrap();
        assert!(!closed.connects(target, REFUSAL), "an internal network has no way out");
        assert!(open.connects(target, PATIENCE));
        assert_eq!(server.join().unwrap().ip().to_string(), "192.0.2.2");
        networks.detach_many(&[open.id, closed.id]).await.unwrap();
        networks.remove("p_closed").await.unwrap();
        assert_eq!(forwarding(), "1\n");
        networks.remove("p_default").await.unwrap();
        assert_eq!(forwarding(), "0\n");
    });
}

#[test]
fn packets_are_no_larger_than_the_way_out_takes() {
    on_a_host(|networks, _dir| async move {
        let _internet = internet();
        output("ip", &["link", "set", "up0", "mtu", "1420"]);
        let network = networks.ensure(&config("p_default")).await.unwrap();
        networks.ensure(&NetworkConfig { mtu: Some(1300), ..config("p_asked") }).await.unwrap();
        let (one, asked) = (Container::new(), Container::new());
        one.attach(&networks, "p_default").await;
        asked.attach(&networks, "p_asked").await;
        let inside = |container: &Container| {
            in_namespace(container.netns.as_fd(), || output("ip", &["-o", "link", "show", "eth0"])).unwrap()
        };
        assert!(inside(&one).contains("mtu 1420 "), "{}", inside(&one));
        assert!(inside(&asked).contains("mtu 1300 "), "{}", inside(&asked));
        let bridge = output("ip", &["-o", "link", "show", network.bridge_name().unwrap().as_str()]);
        assert!(bridge.contains("mtu 1420 "), "{bridge}");
    });
}

#[test]
fn networks_are_isolated_and_a_container_may_be_on_both() {
    on_a_host(|networks, _dir| async move {
        networks.ensure(&config("p_front")).await.unwrap();
        networks.ensure(&config("p_back")).await.unwrap();
        let (front, back, both) = (Container::new(), Container::new(), Container::new());
        let ft = front.attach(&networks, "p_front").await;
        let bt = back.attach(&networks, "p_back").await;
        both.attach(&networks, "p_front").await;
        networks.attach(both.request("p_back", "eth1", Vec::new())).await.unwrap();
        assert_eq!(networks.attachments_of(&both.id).unwrap().len(), 2);
        let listener = in_namespace(back.netns.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
        assert!(!front.connects((bt.ip().unwrap(), 80).into(), REFUSAL), "another network's container is out of reach");
        drop(listener);
        // Another port: a process that another test forks at this moment may hold the listener until it executes.
        for (target, server) in [(&bt, &back), (&ft, &front)] {
            let served = server.serve_once(81);
            assert!(both.connects((target.ip().unwrap(), 81).into(), PATIENCE));
            served.join().unwrap();
        }
    });
}

#[test]
fn without_icc_containers_reach_the_gateway_alone() {
    on_a_host(|networks, _dir| async move {
        let mut config = config("p_quiet");
        config.options.insert("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        networks.ensure(&config).await.unwrap();
        let (a, b) = (Container::new(), Container::new());
        a.attach(&networks, "p_quiet").await;
        let bt = b.attach(&networks, "p_quiet").await;
        let _listener = in_namespace(b.netns.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
        assert!(!a.connects((bt.ip().unwrap(), 80).into(), REFUSAL));
        in_namespace(a.netns.as_fd(), || output("busybox", &["ping", "-c1", "-W2", "10.11.0.1"])).unwrap();
    });
}

#[test]
fn twenty_at_once_have_twenty_addresses() {
    on_a_host(|networks, dir| async move {
        networks.ensure(&config("p_many")).await.unwrap();
        // A second opener of the run directory, as another process would be.
        let second = Networks::open(&dir).unwrap();
        let containers: Vec<Container> = (0..20).map(|_| Container::new()).collect();
        let attachments = {
            let attach = |(n, container): (usize, &'static Container)| {
                let networks = if n % 2 == 0 { &networks } else { &second };
                networks.attach(container.request("p_many", "eth0", Vec::new()))
            };
            let leaked: &'static [Container] = Box::leak(containers.into_boxed_slice());
            let mut found = Vec::new();
            let mut pending: Vec<_> = leaked.iter().enumerate().map(attach).map(Box::pin).collect();
            std::future::poll_fn(|context| {
                pending.retain_mut(|future| match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => {
                        found.push(done.unwrap());
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            found
        };
        let addresses: BTreeSet<_> = attachments.iter().filter_map(Attachment::ip).collect();
        assert_eq!(addresses.len(), 20);
        assert_eq!(networks.attachments("p_many").unwrap().len(), 20);
        let ids: Vec<ContainerId> = attachments.iter().map(|a| a.container.clone()).collect();
        let error = networks.remove("p_many").await.unwrap_err();
        assert!(matches!(&error, NetworkError::InUse { users, .. } if users.len() == 20), "{error}");
        networks.detach_many(&ids).await.unwrap();
        assert!(!output("ip", &["-o", "link"]).contains("veth"));
        assert!(networks.remove("p_many").await.unwrap());
    });
}

#[test]
fn ten_rounds_leave_the_host_as_it_was() {
    on_a_host(|networks, _dir| async move {
        output("iptables", &["-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"]);
        output("iptables", &["-t", "nat", "-A", "POSTROUTING", "-o", "lan0", "-j", "MASQUERADE"]);
        let before = listing();
        let mut rules = BTreeSet::new();
        for _ in 0..10 {
            networks.ensure(&config("p_default")).await.unwrap();
            let again = networks.ensure(&config("p_default")).await.unwrap();
            rules.insert(output("iptables-save", &[]).lines().filter(|line| line.starts_with("-A")).count());
            let container = Container::new();
            container.attach(&networks, &again.id).await;
            networks.detach("p_default", &container.id).await.unwrap();
            networks.detach("p_default", &container.id).await.unwrap();
            assert!(networks.remove("p_default").await.unwrap());
            assert!(!networks.remove("p_default").await.unwrap());
        }
        assert_eq!(rules.len(), 1, "the number of rules does not grow: {rules:?}");
        let after = listing();
        // Empty base chains of a table that iptables-nft opened once may stay.
        let reduced =
            |text: &str| text.lines().filter(|line| !line.starts_with([':', '*'])).collect::<Vec<_>>().join("\n");
        assert_eq!(reduced(&before), reduced(&after));
        assert!(!after.contains("MYDOCKER"));
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_a_flush_is_mended() {
    on_a_host(|networks, _dir| async move {
        let internet = Container { id: ContainerId::generate(), netns: internet() };
        networks.ensure(&config("p_front")).await.unwrap();
        networks.ensure(&config("p_back")).await.unwrap();
        let (web, neighbour) = (Container::new(), Container::new());
        neighbour.attach(&networks, "p_back").await;
        let mapping = PortMapping {
            host_ip: None,
            host_port: Some(8080),
            host_port_to: None,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let reservation = PortReservation::bind(&mapping).unwrap();
        let error = PortReservation::bind(&mapping).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let attachment = networks.attach(web.request("p_front", "eth0", vec![reservation.mapping()])).await.unwrap();
        let target: SocketAddr = (attachment.ip().unwrap(), 80).into();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_proxy(reservation.into_fd(), move || target.into()).unwrap());

        let asks = |from: OwnedFd, to: &str| {
            let (served, to) = (web.serve_once(80), to.parse::<SocketAddr>().unwrap());
            tokio::task::spawn_blocking(move || {
                let connected = in_namespace(from.as_fd(), || connects(to, PATIENCE)).unwrap();
                (connected, served)
            })
        };
        let host = || open_current().unwrap();
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        let proxied = attachment.gateway.unwrap().to_string();
        let cases = [
            (copy(&internet.netns), "192.0.2.2:8080", "192.0.2.1"),
            (host(), "192.0.2.2:8080", "192.0.2.2"),
            (host(), "127.0.0.1:8080", proxied.as_str()),
            (copy(&web.netns), "10.11.0.1:8080", proxied.as_str()),
            (copy(&neighbour.netns), "192.0.2.2:8080", proxied.as_str()),
        ];
        for (from, to, seen) in cases {
            let (connected, served) = asks(from, to).await.unwrap();
            assert!(connected, "{to}");
            assert_eq!(served.join().unwrap().ip().to_string(), seen, "{to}");
        }
        let before = output("iptables-save", &[])
            .lines()
            .filter(|l| l.starts_with("-A"))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>();
        output("iptables", &["-t", "nat", "-F"]);
        output("iptables", &["-F", "FORWARD"]);
        networks.reconcile(&|_| true).await.unwrap();
        let after = output("iptables-save", &[])
            .lines()
            .filter(|l| l.starts_with("-A"))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>();
        assert_eq!(before, after);
        networks.reconcile(&|_| false).await.unwrap();
        assert!(!output("iptables-save", &[]).contains("8080"));
        assert!(networks.attachments("p_front").unwrap().is_empty());
    });
}

#[test]
fn clashes_are_named_and_stale_links_replaced() {
    on_a_host(|networks, _dir| async move {
        output(
            "ip",
            &["link", "add", "host0", "type", "dummy-or-bridge"]
                .map(|a| if a == "dummy-or-bridge" { "bridge" } else { a }),
        );
        output("ip", &["addr", "add", "10.11.0.9/23", "dev", "host0"]);
        output("ip", &["link", "set", "host0", "up"]);
        let network = networks.ensure(&config("p_a")).await.unwrap();
        assert_eq!(
            network.subnet().unwrap().to_string(),
            "10.11.2.0/24",
            "what the host has a route to is passed over"
        );
        let taken = NetworkConfig { subnet: Some("10.11.1.0/24".parse().unwrap()), ..config("p_b") };
        let error = networks.ensure(&taken).await.unwrap_err();
        assert!(
            matches!(error, NetworkError::SubnetOverlap { .. }) && error.to_string().contains("10.11.0.0/23"),
            "{error}"
        );
        let wrong = NetworkConfig {
            bridge_name: Some("host0".parse().unwrap()),
            subnet: Some("10.44.0.0/24".parse().unwrap()),
            ..config("p_c")
        };
        let error = networks.ensure(&wrong).await.unwrap_err();
        assert!(error.to_string().contains("host0") && error.to_string().contains("10.11.0.9/23"), "{error}");
        assert_eq!(networks.list().unwrap().len(), 1);
        assert!(output("ip", &["link"]).contains("host0"), "what is not ours stays");
        let other = NetworkConfig { internal: true, ..config("p_a") };
        let error = networks.ensure(&other).await.unwrap_err();
        assert!(matches!(error, NetworkError::Different { field: "internal", .. }), "{error}");

        let (first, second) = (Container::new(), fresh_namespace());
        let attachment = first.attach(&networks, "p_a").await;
        let again = Container { id: first.id.clone(), netns: second };
        assert_eq!(
            again.attach(&networks, "p_a").await,
            attachment,
            "the same container in a new namespace, the same place"
        );
        let name = attachment.host_link.unwrap().name.to_string();
        output("ip", &["link", "del", &name]);
        output("ip", &["link", "add", &name, "type", "bridge"]);
        let third = Container { id: first.id.clone(), netns: fresh_namespace() };
        let error = networks.attach(third.request("p_a", "eth0", Vec::new())).await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        assert!(output("ip", &["link"]).contains(&name));
    });
}

#[test]
fn an_existing_bridge_with_the_right_address_is_used_and_stays() {
    on_a_host(|networks, _dir| async move {
        output("ip", &["link", "add", "brg0", "type", "bridge"]);
        output("ip", &["addr", "add", "10.10.10.1/24", "dev", "brg0"]);
        let config = NetworkConfig {
            bridge_name: Some("brg0".parse().unwrap()),
            subnet: Some("10.10.10.0/24".parse().unwrap()),
            ..config("run")
        };
        networks.ensure(&config).await.unwrap();
        let container = Container::new();
        assert_eq!(container.attach(&networks, "run").await.ip().unwrap().to_string(), "10.10.10.2");
        networks.detach("run", &container.id).await.unwrap();
        networks.remove("run").await.unwrap();
        assert!(output("ip", &["-br", "addr"]).contains("10.10.10.1/24"));
    });
}

#[test]
fn somebody_else_s_bridge_without_an_address_is_refused() {
    on_a_host(|networks, _dir| async move {
        output("ip", &["link", "add", "brg0", "type", "bridge"]);
        let before = listing();
        let config = NetworkConfig {
            bridge_name: Some("brg0".parse().unwrap()),
            subnet: Some("10.10.10.0/24".parse().unwrap()),
            ..config("run")
        };
        let error = networks.ensure(&config).await.unwrap_err().to_string();
        assert!(error.contains("brg0") && error.contains("ip link delete brg0"), "{error}");
        assert!(networks.list().unwrap().is_empty());
        assert_eq!(listing(), before);
        output("ip", &["link", "delete", "brg0"]);
        networks.ensure(&config).await.unwrap();
        networks.remove("run").await.unwrap();
    });
}

#[test]
fn a_network_whose_record_is_damaged_is_rebuilt_from_the_kernel() {
    on_a_host(|networks, dir| async move {
        // iptables makes its base chains with the first rule.
        for table in ["filter", "nat"] {
            output("iptables", &["-t", table, "-A", "OUTPUT", "-j", "ACCEPT"]);
            output("iptables", &["-t", table, "-F", "OUTPUT"]);
        }
        let before = listing();
        let wanted = NetworkConfig { internal: true, ..config("p_a") };
        let record = networks.ensure(&wanted).await.unwrap();
        let (first, second) = (Container::new(), Container::new());
        let place = first.attach(&networks, "p_a").await;
        let second_place = second.attach(&networks, "p_a").await;
        for damage in ["", "{\"version\":1,", "\u{1}\u{2}random"] {
            std::fs::write(dir.join("networks/records/p_a.json"), damage).unwrap();
            assert!(networks.list().unwrap().is_empty());
            assert_eq!(networks.lost().unwrap().into_iter().collect::<Vec<_>>(), ["p_a"]);
            assert_eq!(networks.ensure(&wanted).await.unwrap(), record, "the same bridge, id, group, subnet");
            assert_eq!(networks.attachments("p_a").unwrap(), [place.clone(), second_place.clone()]);
            assert!(networks.lost().unwrap().is_empty());
        }
        // A damaged place keeps its address until its container goes.
        let lease = format!("{}_{}.json", place.ip().unwrap(), first.id.as_str());
        std::fs::write(dir.join("networks/attachments").join(&record.id).join(lease), "").unwrap();
        assert_eq!(networks.attachments("p_a").unwrap(), [second_place]);
        assert!(networks.remove("p_a").await.unwrap_err().to_string().contains(first.id.short()));
        let third = Container::new();
        assert_ne!(third.attach(&networks, "p_a").await.ip(), place.ip());
        networks.detach_many(&[first.id, second.id, third.id]).await.unwrap();
        assert!(!output("ip", &["-br", "link"]).contains("veth"));
        networks.remove("p_a").await.unwrap();
        assert_eq!(listing(), before);
        let left: Vec<_> = std::fs::read_dir(dir.join("networks/records")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn what_is_damaged_can_be_removed() {
    on_a_host(|networks, dir| async move {
        // iptables makes its base chains with the first rule.
        for table in ["filter", "nat"] {
            output("iptables", &["-t", table, "-A", "OUTPUT", "-j", "ACCEPT"]);
            output("iptables", &["-t", table, "-F", "OUTPUT"]);
        }
        let before = listing();
        let published = [PortMapping {
            host_ip: None,
            host_port: Some(8080),
            host_port_to: None,
            container_port: 80,
            protocol: Protocol::Tcp,
        }];
        networks.ensure(&config("p_a")).await.unwrap();
        let container = Container::new();
        networks.attach(container.request("p_a", "eth0", published.to_vec())).await.unwrap();
        let mut pending = vec![dir.join("networks")];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|extension| extension == "json") {
                std::fs::write(path, "").unwrap();
            }
        }
        assert!(networks.list().unwrap().is_empty());
        networks.remove("p_a").await.unwrap();
        assert_eq!(listing(), before, "bridge, ports, rules and forwarding go all the same");
        assert!(networks.lost().unwrap().is_empty());
    });
}

#[test]
fn drivers_that_need_nothing_and_names_that_no_driver_takes() {
    on_a_host(|networks, _dir| async move {
        let before = listing();
        for driver in [DriverKind::None, DriverKind::Host] {
            let config = NetworkConfig { driver, ..config("plain") };
            networks.ensure(&config).await.unwrap();
            let container = Container::new();
            assert_eq!(container.attach(&networks, "plain").await.address, None);
            let lo = in_namespace(container.netns.as_fd(), || output("ip", &["-br", "link"])).unwrap();
            assert_eq!(lo.contains("LOOPBACK,UP"), driver == DriverKind::None, "{lo}");
            networks.remove("plain").await.unwrap();
        }
        assert_eq!(before, listing());
        for name in ["", "../x", "a b", "-n"] {
            assert!(networks.ensure(&config(name)).await.is_err(), "{name}");
            let of_cubes = NetworkConfig { driver: DriverKind::Polycube, ..config(name) };
            assert!(networks.ensure(&of_cubes).await.is_err(), "{name}");
        }
    });
}

#[test]
fn names_are_resolved_inside() {
    on_a_host(|networks, dir| async move {
        networks.ensure(&config("p_default")).await.unwrap();
        let (client, web) = (Container::new(), Container::new());
        client.attach(&networks, "p_default").await;
        let at = web.attach(&networks, "p_default").await;
        let table = NameTable::new();
        table
            .insert(NameEntry {
                network: "p_default".to_owned(),
                container: web.id.clone(),
                container_name: "p-web-1".to_owned(),
                addresses: at.ips(),
                names: vec!["web".to_owned()],
                holder: None,
            })
            .unwrap();
        // A resolver of the host's that answers nothing useful: it echoes the question as a response with NXDOMAIN.
        let upstream = tokio::net::UdpSocket::bind("127.0.0.53:53").await.unwrap();
        let resolv_conf = dir.join("resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 127.0.0.53\n").unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = upstream.recv_from(&mut buffer).await {
                buffer[2] |= 0x80;
                buffer[3] |= 3;
                upstream.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let sockets = open_dns_sockets(client.netns.as_fd()).unwrap();
        let view = table.view(["p_default".to_owned()]);
        tasks.spawn(serve(sockets, view, Some(Resolvers::from_file(resolv_conf))).unwrap());
        let dig = |args: &'static [&'static str]| {
            let netns = client.netns.try_clone().unwrap();
            tokio::task::spawn_blocking(move || {
                let args = [&["@127.0.0.11", "+time=2", "+tries=1"], args].concat();
                in_namespace(netns.as_fd(), || output("dig", &args)).unwrap()
            })
        };
        for transport in [&["+short", "web"][..], &["+short", "+tcp", "web"]] {
            assert_eq!(dig(transport).await.unwrap().trim(), at.ip().unwrap().to_string());
        }
        assert!(dig(&["nosuch"]).await.unwrap().contains("NXDOMAIN"));
        assert!(dig(&["-x", "10.11.0.3"]).await.unwrap().contains("p-web-1.p_default."));
        assert!(dig(&["example.test"]).await.unwrap().contains("status: NXDOMAIN"));
        let garbage = client.netns.try_clone().unwrap();
        in_namespace(garbage.as_fd(), || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            for length in 0..64_u8 {
                socket.send_to(&vec![0xc0 ^ length; usize::from(length)], "127.0.0.11:53").unwrap();
            }
        })
        .unwrap();
        assert_eq!(dig(&["+short", "p-web-1"]).await.unwrap().trim(), at.ip().unwrap().to_string());
    });
}

/// Has programs of iptables in front of the host's own that write down who is called.
struct CountedIptables(tempfile::TempDir);

impl CountedIptables {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Written by a process of its own: one that another test forks at this moment would hold the files open, and what
        // is open for writing is not executed.
        let script = r#"cd "$0" && for name in iptables iptables-save iptables-restore ip6tables-save ip6tables-restore; do
            printf '#!/bin/sh\necho %s >>%s/calls\nPATH=/usr/sbin:/sbin:/usr/bin:/bin exec %s "$@"\n' $name "$0" $name >$name
            chmod +x $name
        done"#;
        output("sh", &["-c", script, dir.path().to_str().unwrap()]);
        Self(dir)
    }

    fn options(&self) -> FirewallOptions {
        FirewallOptions { choice: FirewallChoice::Iptables, iptables: Some(self.0.path().join("iptables")) }
    }

    /// Lists whose rules were changed since the last question, one entry a transaction.
    fn transactions(&self) -> Vec<String> {
        let path = self.0.path().join("calls");
        let calls = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        calls.lines().filter_map(|name| name.strip_suffix("-restore")).map(str::to_owned).collect()
    }
}

/// Hears of links that are deleted in the network namespace of the calling thread.
struct DeletedLinks(OwnedFd);

impl DeletedLinks {
    fn listen() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).unwrap();
        // The protocol NETLINK_ROUTE is 0; the group is RTMGRP_LINK of linux/rtnetlink.h.
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 1)).unwrap();
        Self(socket)
    }

    /// Counts the links that went since the last question and the requests that took them: the kernel takes all links of a
    /// request down before it deletes the first.
    fn count(&self) -> (usize, usize) {
        const RTM_NEWLINK: u16 = 16;
        const RTM_DELLINK: u16 = 17;
        let (mut links, mut requests, mut deleting) = (0, 0, true);
        let (mut down, mut buffer) = (BTreeSet::new(), vec![0; 1 << 16]);
        while let Ok((length, _)) = recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
            // One datagram is one message here: nlmsghdr, then ifinfomsg, whose family is AF_BRIDGE where a port leaves.
            let message = &buffer[..length];
            let number = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
            let (kind, family, index, flags) = (number(4) as u16, i32::from(message[16]), number(20), number(24));
            let goes_down = kind == RTM_NEWLINK && flags & libc::IFF_UP as u32 == 0 && down.insert(index);
            if family == libc::AF_UNSPEC && goes_down {
                requests += usize::from(deleting);
                deleting = false;
            } else if family == libc::AF_UNSPEC && kind == RTM_DELLINK {
                links += 1;
                deleting = true;
            }
        }
        (links, requests)
    }
}

#[test]
fn twenty_containers_cost_one_transaction_and_one_deletion() {
    on_a_host(|networks, _dir| async move {
        let iptables = CountedIptables::make();
        let networks = Arc::new(networks.with_firewall(iptables.options()));
        networks.ensure(&config("p_many")).await.unwrap();
        assert_eq!(iptables.transactions(), ["iptables"], "the network's chains");
        let containers = attach_with_ports(&networks, 20).await;
        let ids: Vec<_> = containers.iter().map(|container| container.id.clone()).collect();
        let made = iptables.transactions();
        assert!(made.len() < 10, "attached at once, they share transactions: {}", made.len());
        assert_eq!(output("iptables-save", &["-t", "nat"]).matches("--to-destination").count(), 20);

        output("iptables", &["-t", "nat", "-F"]);
        networks.reconcile(&|_| true).await.unwrap();
        assert_eq!(iptables.transactions(), ["iptables"], "flushed rules");
        networks.reconcile(&|_| true).await.unwrap();
        assert!(iptables.transactions().is_empty(), "nothing to do");

        let deleted = DeletedLinks::listen();
        networks.detach_many(&ids[..10]).await.unwrap();
        assert_eq!(deleted.count(), (10, 1), "links and requests of detach_many");
        assert_eq!(iptables.transactions(), ["iptables"], "ten leave");
        // As `down` does it: containers have ended, their places go with the network.
        assert!(networks.remove_with("p_many", &|_| true).await.unwrap());
        assert_eq!(deleted.count(), (11, 1), "ten links and their bridge");
        assert_eq!(iptables.transactions(), ["iptables"], "the network goes");
    });
}

/// Attaches containers at the same time, each with a port.
async fn attach_with_ports(networks: &Arc<Networks>, count: u16) -> Vec<Container> {
    let mut pending = JoinSet::new();
    for number in 0..count {
        let networks = Arc::clone(networks);
        pending.spawn(async move {
            let container = Container::new();
            let port = PortMapping {
                host_ip: None,
                host_port: Some(8000 + number),
                host_port_to: None,
                container_port: 80,
                protocol: Protocol::Tcp,
            };
            networks.attach(container.request("p_many", "eth0", vec![port])).await.unwrap();
            container
        });
    }
    pending.join_all().await
}
