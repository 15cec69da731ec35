//! The drivers `macvlan` and `ipvlan`.

use std::net::Ipv4Addr;

use mydocker::network::{DriverKind, NetworkConfig, NetworkError, Networks};

use crate::host::{Container, Host, listing, on_a_host, output, ping};

/// Whether the kernel has interfaces of this kind; asked of the kernel itself, not of the code under test.
fn kernel_has(kind: &str) -> bool {
    let words = ["--net", "sh", "-c"];
    let script =
        format!("ip link add parent0 type veth peer name parent1 && ip link add link parent0 name guest0 type {kind}");
    std::process::Command::new("unshare").args(words).arg(script).output().unwrap().status.success()
}

fn config(driver: DriverKind, options: &[(&str, &str)]) -> NetworkConfig {
    NetworkConfig {
        name: "net".to_owned(),
        driver,
        subnet: Some("10.81.0.0/24".parse().unwrap()),
        options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..NetworkConfig::default()
    }
}

/// A LAN: `lan0` is the host's interface, `router0` the router's, 10.81.0.1.
fn lan() -> Container {
    let router = Container::new();
    output("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "router0"]);
    output("ip", &["link", "set", "lan0", "up"]);
    let holder = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&router.netns));
    // `ip` takes a pid or a name below /run/netns; a process inside has the first.
    let mut inside = std::process::Command::new("nsenter")
        .arg(format!("--net={holder}"))
        .args(["sh", "-c", "echo; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(inside.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    output("ip", &["link", "set", "router0", "netns", &inside.id().to_string()]);
    inside.kill().unwrap();
    inside.wait().unwrap();
    for words in ["addr add 10.81.0.1/24 dev router0", "link set router0 up", "link set lo up"] {
        let (good, text) = router.inside("ip", &words.split(' ').collect::<Vec<_>>());
        assert!(good, "{text}");
    }
    router
}

async fn attach(networks: &Networks, ipv4: Option<&str>, mac: Option<&str>) -> (Container, Ipv4Addr) {
    let container = Container::new();
    let mut request = container.request();
    request.ipv4 = ipv4.map(|text| text.parse().unwrap());
    request.mac = mac.map(|text| text.parse().unwrap());
    let place = networks.attach(request).await.unwrap();
    (container, place.ip().unwrap())
}

#[test]
fn containers_are_neighbours_of_the_host() {
    if !kernel_has("macvlan") {
        return on_a_host(|host| refused(host, DriverKind::Macvlan, "CONFIG_MACVLAN"));
    }
    on_a_host(|host| async move {
        let router = lan();
        let before = listing();
        host.networks.ensure(&config(DriverKind::Macvlan, &[("parent", "lan0")])).await.unwrap();
        assert_eq!(listing(), before, "neither rules nor interfaces");
        let (a, _) = attach(&host.networks, None, None).await;
        let (b, at) = attach(&host.networks, Some("10.81.0.50"), Some("02:00:00:00:00:50")).await;
        assert_eq!(at.to_string(), "10.81.0.50");
        assert!(ping(&a, at) && ping(&router, at), "siblings and neighbours");
        assert!(ping(&a, "10.81.0.1".parse().unwrap()), "the router");
        let seen = b.inside("ip", &["-d", "link", "show", "eth0"]).1;
        assert!(seen.contains("02:00:00:00:00:50") && seen.contains("mode bridge"), "{seen}");
        let routes = a.inside("ip", &["route"]).1;
        assert!(routes.contains("default via 10.81.0.1 dev eth0"), "{routes}");
        let taken = Container::new();
        let mut request = taken.request();
        request.ipv4 = Some(at);
        let error = host.networks.attach(request).await.unwrap_err().to_string();
        assert!(error.contains("10.81.0.50") && error.contains("net") && error.contains("web-1"), "{error}");
        let error = host.networks.remove("net").await.unwrap_err();
        assert!(matches!(error, NetworkError::InUse { .. }), "{error}");
        // The interface goes at once, although the namespace is still there: its address is free for the next.
        host.networks.detach("net", &b.id).await.unwrap();
        assert!(!b.inside("ip", &["link", "show", "eth0"]).0);
        let (c, again) = attach(&host.networks, Some("10.81.0.50"), Some("02:00:00:00:00:50")).await;
        assert!(ping(&router, again));
        host.networks.detach_many(&[a.id.clone(), c.id.clone()]).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

async fn refused(host: Host, driver: DriverKind, option: &str) {
    let before = listing();
    let error = host.networks.ensure(&config(driver, &[])).await.unwrap_err();
    let text = format!("{error} {}", error.hint().unwrap());
    assert!(text.contains(option) && text.contains("modprobe") && text.contains("net"), "{text}");
    assert_eq!(listing(), before);
    assert!(host.networks.list().unwrap().is_empty());
}

#[test]
fn ipvlan_shares_the_parents_ethernet_address() {
    if !kernel_has("ipvlan") {
        return on_a_host(|host| refused(host, DriverKind::Ipvlan, "CONFIG_IPVLAN"));
    }
    for mode in ["l2", "l3", "l3s"] {
        on_a_host(move |host| async move {
            let router = lan();
            let before = listing();
            let options = [("parent", "lan0"), ("ipvlan_mode", mode)];
            host.networks.ensure(&config(DriverKind::Ipvlan, &options)).await.unwrap();
            let (a, first) = attach(&host.networks, None, None).await;
            let (_b, second) = attach(&host.networks, None, None).await;
            assert!(ping(&a, second), "{mode}");
            let routes = a.inside("ip", &["route"]).1;
            if mode == "l2" {
                assert!(ping(&router, first) && routes.contains("default via 10.81.0.1"), "{routes}");
            } else {
                assert!(routes.contains("default dev eth0"), "{routes}");
            }
            let mut request = router.request();
            request.mac = Some("02:00:00:00:00:50".parse().unwrap());
            let error = host.networks.attach(request).await.unwrap_err().to_string();
            assert!(error.contains("02:00:00:00:00:50"), "{error}");
            let ids: Vec<_> =
                host.networks.attachments("net").unwrap().into_iter().map(|place| place.container).collect();
            assert_eq!(ids.len(), 2);
            host.networks.detach_many(&ids).await.unwrap();
            host.networks.remove("net").await.unwrap();
            assert_eq!(listing(), before);
        });
    }
}

#[test]
fn without_a_parent_they_have_each_other() {
    if !kernel_has("macvlan") {
        return on_a_host(|host| refused(host, DriverKind::Macvlan, "CONFIG_MACVLAN"));
    }
    on_a_host(|host| async move {
        let before = listing();
        let internal = NetworkConfig { internal: true, ..config(DriverKind::Macvlan, &[("parent", "nosuch0")]) };
        for config in [config(DriverKind::Macvlan, &[]), internal] {
            let record = host.networks.ensure(&config).await.unwrap();
            let parent = record.lan.unwrap().parent;
            assert!(listing().contains(parent.as_str()), "{}", listing());
            let (a, _) = attach(&host.networks, None, None).await;
            let (b, at) = attach(&host.networks, None, None).await;
            assert!(ping(&a, at));
            assert!(!a.inside("ip", &["route"]).1.contains("default"), "there is nothing out there");
            // Somebody took the parent, and with it the interfaces: the network comes back, and new containers work.
            output("ip", &["link", "delete", parent.as_str()]);
            host.networks.detach_many(&[a.id.clone(), b.id.clone()]).await.unwrap();
            host.networks.reconcile(&|_| true).await.unwrap();
            let (c, _) = attach(&host.networks, None, None).await;
            let (d, at) = attach(&host.networks, None, None).await;
            assert!(ping(&c, at));
            host.networks.detach_many(&[c.id.clone(), d.id.clone()]).await.unwrap();
            host.networks.remove("net").await.unwrap();
            assert_eq!(listing(), before);
        }
    });
}

#[test]
fn a_vlan_is_made_and_taken_away() {
    if !kernel_has("macvlan") || !kernel_has("vlan id 5") {
        return on_a_host(|host| async move {
            let router = lan();
            let error = host.networks.ensure(&config(DriverKind::Macvlan, &[("parent", "lan0.5")])).await.unwrap_err();
            assert!(error.hint().unwrap().contains("CONFIG_VLAN_8021Q"), "{error}");
            assert!(host.networks.list().unwrap().is_empty());
            drop(router);
        });
    }
    on_a_host(|host| async move {
        let router = lan();
        for words in [
            "link add link router0 name router0.5 type vlan id 5",
            "addr add 10.82.0.1/24 dev router0.5",
            "link set router0.5 up",
        ] {
            assert!(router.inside("ip", &words.split(' ').collect::<Vec<_>>()).0);
        }
        let before = listing();
        let first = config(DriverKind::Macvlan, &[("parent", "lan0.5")]);
        let first = NetworkConfig { subnet: Some("10.82.0.0/24".parse().unwrap()), ..first };
        let second = NetworkConfig { name: "second".to_owned(), subnet: None, ..first.clone() };
        host.networks.ensure(&first).await.unwrap();
        host.networks.ensure(&second).await.unwrap();
        let (a, _) = attach(&host.networks, None, None).await;
        assert!(ping(&a, "10.82.0.1".parse().unwrap()), "the VLAN's router");
        host.networks.detach("net", &a.id).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert!(listing().contains("lan0.5"), "another network shares it");
        host.networks.remove("second").await.unwrap();
        assert_eq!(listing(), before);
        // One that was there before stays.
        output("ip", &["link", "add", "link", "lan0", "name", "lan0.5", "type", "vlan", "id", "5"]);
        output("ip", &["link", "set", "lan0.5", "up"]);
        let before = listing();
        host.networks.ensure(&first).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

#[test]
fn parents_that_cannot_be_are_named() {
    if !kernel_has("macvlan") {
        return on_a_host(|host| refused(host, DriverKind::Macvlan, "CONFIG_MACVLAN"));
    }
    on_a_host(|host| async move {
        let router = lan();
        output("ip", &["link", "add", "br9", "type", "bridge"]);
        output("ip", &["link", "add", "port9", "type", "veth", "peer", "name", "peer9"]);
        output("ip", &["link", "set", "port9", "master", "br9", "up"]);
        output("ip", &["link", "add", "down9", "type", "veth", "peer", "name", "updown9"]);
        let before = listing();
        for (parent, words) in [
            ("nosuch0", ["no interface `nosuch0`", "ip link"]),
            ("nosuch0.7", ["neither an interface `nosuch0.7` nor a `nosuch0`", "ip link"]),
            ("port9", ["port of the bridge br9", "port9"]),
            ("down9", ["ip link set down9 up", "net"]),
        ] {
            let error = host.networks.ensure(&config(DriverKind::Macvlan, &[("parent", parent)])).await.unwrap_err();
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(host.networks.list().unwrap().is_empty(), "nothing is left of it");
            assert_eq!(listing(), before);
        }
        let passthru = config(DriverKind::Macvlan, &[("parent", "lan0"), ("macvlan_mode", "passthru")]);
        host.networks.ensure(&passthru).await.unwrap();
        let other = NetworkConfig {
            name: "other".to_owned(),
            subnet: None,
            ..config(DriverKind::Macvlan, &[("parent", "lan0")])
        };
        let error = host.networks.ensure(&other).await.unwrap_err().to_string();
        assert!(error.contains("passthru") && error.contains("lan0") && error.contains("net"), "{error}");
        let (a, at) = attach(&host.networks, None, None).await;
        assert!(ping(&router, at));
        let second = Container::new();
        let error = second.attach(&host.networks).await.unwrap_err().to_string();
        assert!(error.contains("one user") && error.contains("lan0"), "{error}");
        host.networks.detach("net", &a.id).await.unwrap();
        let (b, _) = attach(&host.networks, None, None).await;
        host.networks.detach("net", &b.id).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

#[test]
fn another_supervisor_takes_the_interfaces_over() {
    if !kernel_has("macvlan") {
        return on_a_host(|host| refused(host, DriverKind::Macvlan, "CONFIG_MACVLAN"));
    }
    on_a_host(|host| async move {
        let _router = lan();
        host.networks.ensure(&config(DriverKind::Macvlan, &[("parent", "lan0")])).await.unwrap();
        let (a, at) = attach(&host.networks, None, None).await;
        let (lost, _) = attach(&host.networks, None, None).await;
        // A kill: nothing of it but the records.
        let next = Networks::open(&host.dir.join("run")).unwrap();
        next.resume(&a.id, std::os::fd::AsFd::as_fd(&a.netns)).unwrap();
        let live = a.id.clone();
        next.reconcile(&|id| *id == live).await.unwrap();
        assert_eq!(next.attachments("net").unwrap().len(), 1, "the dead one's place is given up");
        next.detach("net", &a.id).await.unwrap();
        assert!(!a.inside("ip", &["link", "show", "eth0"]).0);
        // The dead one's namespace is only now on its way, and its address waits for that.
        let address = lost.inside("ip", &["-4", "-o", "addr", "show", "dev", "eth0"]).1;
        let address = address.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        drop(lost);
        drop(host.networks);
        let (b, again) = attach(&next, Some(&address), None).await;
        assert_ne!(again, at);
        next.detach("net", &b.id).await.unwrap();
        next.remove("net").await.unwrap();
    });
}
