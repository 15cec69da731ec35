//! What a container's place in a network is: how much passes, who knows of its address, how many there are.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mydocker::namespaces::network::{has_ipv6_here, in_namespace};
use mydocker::network::{AddressPool, NetworkConfig, NetworkError, Networks};
use mydocker::spec::{Bandwidth, RateLimit};

use crate::host::{Container, listing, on_a_host, output};

/// What is sent through a limited interface: at 16 Mbit/s half a second.
const AMOUNT: usize = 1_000_000;

fn config() -> NetworkConfig {
    NetworkConfig { name: "net".to_owned(), ..NetworkConfig::default() }
}

fn limit(rate: &str) -> Option<RateLimit> {
    Some(RateLimit { rate: rate.parse().unwrap(), burst: None })
}

async fn attach(networks: &Networks, bandwidth: Bandwidth) -> (Container, Ipv4Addr) {
    let container = Container::new();
    let mut request = container.request();
    request.bandwidth = bandwidth;
    let place = networks.attach(request).await.unwrap();
    assert_eq!(place.bandwidth, bandwidth);
    (container, place.ip().unwrap())
}

/// Sends from one to the other and says how long that took.
fn transfer(from: &Container, to: (&Container, Ipv4Addr)) -> Duration {
    let listener = in_namespace(to.0.netns.as_fd(), || TcpListener::bind((to.1, 0)).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received.len()
    });
    let begun = Instant::now();
    in_namespace(from.netns.as_fd(), || TcpStream::connect(address).unwrap().write_all(&vec![7; AMOUNT]).unwrap())
        .unwrap();
    assert_eq!(receiver.join().unwrap(), AMOUNT);
    begun.elapsed()
}

#[test]
fn each_direction_has_its_limit() {
    on_a_host(|host| async move {
        let before = listing();
        host.networks.ensure(&config()).await.unwrap();
        let receives = Bandwidth { ingress: limit("16mbit"), egress: None };
        let sends = Bandwidth { ingress: None, egress: limit("16mbit") };
        let (a, free) = attach(&host.networks, Bandwidth::default()).await;
        let (b, slow_in) = attach(&host.networks, receives).await;
        let (c, slow_out) = attach(&host.networks, sends).await;
        // 1,000,000 bytes are 8 Mbit: half a second at 16 Mbit/s, less the first burst.
        let half = |took: Duration| (300..3000).contains(&took.as_millis());
        let unlimited = |took: Duration| took < Duration::from_millis(250);
        let times = [
            (transfer(&a, (&b, slow_in)), true),
            (transfer(&b, (&a, free)), false),
            (transfer(&c, (&a, free)), true),
            (transfer(&a, (&c, slow_out)), false),
        ];
        for (took, is_slow) in times {
            assert!(if is_slow { half(took) } else { unlimited(took) }, "{times:?}");
        }
        let shown = c.inside("tc", &["qdisc", "show", "dev", "eth0"]).1;
        assert!(shown.contains("tbf") && shown.contains("rate 16Mbit") && shown.contains("burst 32Kb"), "{shown}");
        assert!(output("tc", &["qdisc", "show"]).contains("rate 16Mbit"));
        host.networks.detach_many(&[a.id, b.id, c.id]).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

#[test]
fn an_address_with_a_new_ethernet_address_is_reached_at_once() {
    on_a_host(|host| async move {
        let mut fixed = vec!["10.11.0.77"];
        let mut config = config();
        if has_ipv6_here() {
            fixed.push("fd00:11::77");
            config.ipv6 = true;
            config.pools.push(AddressPool::of("fd00:11::/64".parse().unwrap()));
        }
        host.networks.ensure(&config).await.unwrap();
        let (sibling, _) = attach(&host.networks, Bandwidth::default()).await;
        let neighbour = |address: &str| sibling.inside("ip", &["neigh", "show", address]).1;
        // A broadcast may be lost on a busy host; hardly twice.
        let mut missed = Vec::new();
        for last in ["0a", "0b", "0c"] {
            let container = Container::new();
            let mut request = container.request();
            request.ipv4 = Some(fixed[0].parse().unwrap());
            request.ipv6 = fixed.get(1).map(|address| address.parse().unwrap());
            let mac = format!("02:00:00:00:00:{last}");
            request.mac = Some(mac.parse().unwrap());
            host.networks.attach(request).await.unwrap();
            for address in &fixed {
                // Nobody has asked: what the sibling knew is right because it was told. What the kernel has forgotten (its table is
                // one for all namespaces) is asked for.
                let deadline = Instant::now() + Duration::from_secs(2);
                let is_right = |known: String| known.is_empty() || known.contains(&mac);
                while !is_right(neighbour(address)) && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                if !is_right(neighbour(address)) {
                    missed.push(format!("{mac}: {}", neighbour(address)));
                    continue;
                }
                let words = ["ping", "-c", "1", "-W", "2", address];
                let (good, text) = sibling.inside("busybox", &words);
                assert!(good, "the sibling reaches {mac}: {} {text}", neighbour(address));
                let (good, text) = crate::host::run("busybox", &words);
                assert!(good, "the host reaches {mac}: {text}");
            }
            host.networks.detach("net", &container.id).await.unwrap();
        }
        assert!(missed.len() <= 1, "the sibling was not told of {missed:?}");
    });
}

#[test]
fn three_hundred_in_one_network() {
    on_a_host(|host| async move {
        let before = listing();
        let config = NetworkConfig { subnet: Some("10.84.0.0/22".parse().unwrap()), ..config() };
        host.networks.ensure(&config).await.unwrap();
        // Names of interfaces in one namespace: three hundred namespaces would only cost time.
        let guests = Container::new();
        let mut ids = Vec::new();
        let mut addresses = BTreeSet::new();
        for number in 0..300 {
            let id = mydocker::spec::ContainerId::generate();
            let mut request = guests.request();
            request.container = id.clone();
            request.default_route = false;
            request.ifname = format!("eth{number}").parse().unwrap();
            addresses.insert(host.networks.attach(request).await.unwrap().ip().unwrap());
            ids.push(id);
        }
        assert_eq!(addresses.len(), 300);
        assert_eq!(addresses.last().unwrap().to_string(), "10.84.1.45", "beyond the first 256 without a gap");
        host.networks.detach_many(&ids).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

#[test]
fn a_bridge_that_is_full_says_so() {
    on_a_host(|host| async move {
        let config = NetworkConfig { subnet: Some("10.84.0.0/20".parse().unwrap()), ..config() };
        let record = host.networks.ensure(&config).await.unwrap();
        let bridge = record.bridge_name().unwrap().as_str();
        let fill = format!(
            "for n in $(seq 1023); do echo link add f$n type veth peer name g$n; echo link set f$n master {bridge}; done | ip -batch -"
        );
        output("sh", &["-c", &fill]);
        let before = listing();
        let late = Container::new();
        let error = late.attach(&host.networks).await.unwrap_err();
        let text = format!("{error}; {}", error.hint().unwrap());
        assert!(matches!(error, NetworkError::BridgeFull { .. }), "{text}");
        for word in ["1023", "net", "web-1", bridge, "several networks"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert_eq!(listing(), before);
        assert!(host.networks.attachments("net").unwrap().is_empty(), "and no address is taken");
        output("ip", &["link", "delete", "f1"]);
        late.attach(&host.networks).await.unwrap();
    });
}
