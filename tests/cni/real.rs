//! The reference plugins.

use serde_json::{Value, json};

use crate::host::{Container, Host, list, listing, on_a_host, ping, port, real_plugins};

fn config(host: &Host, plugins: &[Value]) -> mydocker::network::NetworkConfig {
    let mut config = host.config(&list("1.0.0", plugins));
    config.options.insert("cni_path".into(), real_plugins().display().to_string());
    config
}

fn ipam(host: &Host, subnet: &str) -> Value {
    json!({"type": "host-local", "dataDir": host.dir.join("leases"), "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]})
}

/// Chains that bridge and ptp make for one attachment; portmap's own stay for all.
fn masquerading_chains() -> Vec<String> {
    let rules = listing();
    let chains = rules.lines().filter(|line| line.starts_with("-N CNI-"));
    let of_one =
        chains.filter(|line| !line.contains("HOSTPORT") && !line.contains("FORWARD") && !line.contains("ADMIN"));
    of_one.map(str::to_owned).collect()
}

/// Addresses that host-local has given away.
fn leases(host: &Host) -> usize {
    let entries = std::fs::read_dir(host.dir.join("leases/net")).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
        .count()
}

#[test]
fn bridge_with_all_that_can_be_chained() {
    if !real_plugins().join("bridge").exists() {
        eprintln!("needs Debian's containernetworking-plugins");
        return;
    }
    on_a_host(|host| async move {
        let plugins = [
            json!({"type": "bridge", "bridge": "cni-t0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": ipam(&host, "10.77.0.0/24"), "capabilities": {"ips": true}}),
            json!({"type": "tuning", "sysctl": {"net.ipv4.conf.all.forwarding": "1"}, "capabilities": {"mac": true}}),
            json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
            json!({"type": "firewall"}),
            json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        ];
        let mut config = config(&host, &plugins);
        let rate =
            r#"{"ingressRate": 80000000, "ingressBurst": 80000000, "egressRate": 80000000, "egressBurst": 80000000}"#;
        config.options.insert("capability.bandwidth".into(), rate.into());
        host.networks.ensure(&config).await.unwrap();
        let mut after = Vec::new();
        for _ in 0..2 {
            let (a, b) = (Container::new(), Container::new());
            let mut request = a.request();
            request.ports = vec![port(8080, 80)];
            request.mac = Some("02:00:00:00:07:01".parse().unwrap());
            request.ipv4 = Some("10.77.0.50".parse().unwrap());
            let place = host.networks.attach(request).await.unwrap();
            assert_eq!(place.address.unwrap().to_string(), "10.77.0.50/24");
            assert_eq!(place.mac.unwrap().to_string(), "02:00:00:00:07:01");
            assert!(a.inside("ip", &["link", "show", "eth0"]).1.contains("02:00:00:00:07:01"));
            let other = b.attach(&host.networks).await.unwrap();
            assert!(ping(&a, other.ip().unwrap()) && ping(&b, place.ip().unwrap()));
            assert_eq!(leases(&host), 2);
            assert!(listing().contains("--dport 8080"), "{}", listing());
            let cni = host.networks.cni();
            assert!(cni.check_attachment(b.id.as_str(), "eth0").await.unwrap());
            // portmap 1.1.1 looks for rules of IPv6 though there is no such address; the plugins before it are content.
            if let Err(error) = cni.check_attachment(a.id.as_str(), "eth0").await {
                assert!(error.to_string().contains("portmap") && error.to_string().contains("ipv6"), "{error}");
                assert!(error.hint().unwrap().contains("disableCheck"));
            }
            // The plugin reads from the address which masquerading to take away; without it, it leaves that.
            a.inside("ip", &["addr", "flush", "dev", "eth0"]);
            let error = cni.check_attachment(a.id.as_str(), "eth0").await.unwrap_err();
            assert!(error.to_string().contains("bridge"), "{error}");
            host.networks.detach_many(&[a.id.clone(), b.id.clone()]).await.unwrap();
            assert_eq!((leases(&host), host.cached()), (0, 0));
            assert!(!a.inside("ip", &["link", "show", "eth0"]).0);
            assert_eq!(masquerading_chains(), Vec::<String>::new());
            after.push(listing());
        }
        assert_eq!(after[0], after[1], "a second round leaves no more than the first");
        assert!(
            !after[0].contains("8080") && !after[0].contains("10.77.0.50") && !after[0].contains("veth"),
            "{}",
            after[0]
        );
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn ptp_and_macvlan() {
    if !real_plugins().join("ptp").exists() {
        eprintln!("needs Debian's containernetworking-plugins");
        return;
    }
    on_a_host(|host| async move {
        let before = listing();
        let ptp = json!({"type": "ptp", "ipMasq": true, "ipam": ipam(&host, "10.78.0.0/24")});
        host.networks.ensure(&config(&host, &[ptp])).await.unwrap();
        let container = Container::new();
        let place = container.attach(&host.networks).await.unwrap();
        assert!(ping(&container, place.gateway.unwrap()));
        assert!(host.networks.cni().check_attachment(container.id.as_str(), "eth0").await.unwrap());
        container.inside("ip", &["link", "del", "eth0"]);
        host.networks.detach("net", &container.id).await.unwrap();
        assert_eq!((masquerading_chains(), leases(&host)), (Vec::new(), 0));
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);

        crate::host::output("ip", &["link", "add", "parent0", "type", "veth", "peer", "name", "parent1"]);
        crate::host::output("ip", &["link", "set", "parent0", "up"]);
        crate::host::output("ip", &["link", "set", "parent1", "up"]);
        // Asked of the kernel, not of the plugin: where it has macvlan, the plugin works; where not, nothing stays of the attempt.
        let words = ["link", "add", "link", "parent0", "name", "probe0", "type", "macvlan"];
        let has_macvlan = crate::host::run("ip", &words).0;
        if has_macvlan {
            crate::host::output("ip", &["link", "delete", "probe0"]);
        }
        let before = listing();
        let macvlan =
            json!({"type": "macvlan", "master": "parent0", "mode": "bridge", "ipam": ipam(&host, "10.79.0.0/24")});
        host.networks.ensure(&config(&host, &[macvlan])).await.unwrap();
        let (a, b) = (Container::new(), Container::new());
        let made = a.attach(&host.networks).await;
        if has_macvlan {
            made.unwrap();
            let place = b.attach(&host.networks).await.unwrap();
            assert!(ping(&a, place.ip().unwrap()));
            host.networks.detach_many(&[a.id.clone(), b.id.clone()]).await.unwrap();
        } else {
            let error = made.unwrap_err().to_string();
            assert!(error.contains("not supported"), "{error}");
        }
        assert_eq!((leases(&host), host.cached()), (0, 0));
        host.networks.remove("net").await.unwrap();
        assert_eq!(listing(), before);
    });
}

#[test]
fn all_died_and_the_namespace_is_gone() {
    if !real_plugins().join("bridge").exists() {
        eprintln!("needs Debian's containernetworking-plugins");
        return;
    }
    on_a_host(|host| async move {
        let bridge = json!({"type": "bridge", "bridge": "cni-t0", "isGateway": true, "ipMasq": true, "ipam": ipam(&host, "10.77.0.0/24")});
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        host.networks.ensure(&config(&host, &[bridge, portmap])).await.unwrap();
        let container = Container::new();
        let mut request = container.request();
        request.ports = vec![port(8080, 80)];
        host.networks.attach(request).await.unwrap();
        let Host { networks, dir } = host;
        // Nobody holds it any more.
        drop((networks, container));
        let next = mydocker::network::Networks::open(&dir.join("run")).unwrap();
        next.reconcile(&|_| false).await.unwrap();
        let host = Host { networks: next, dir };
        assert_eq!((leases(&host), host.cached()), (0, 0));
        assert!(!listing().contains("8080") && !listing().contains("10.77.0."), "{}", listing());
        assert_eq!(masquerading_chains(), Vec::<String>::new());
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn addresses_of_both_families_are_recorded() {
    if !real_plugins().join("bridge").exists() {
        eprintln!("needs Debian's containernetworking-plugins");
        return;
    }
    on_a_host(|host| async move {
        let ipam = json!({
            "type": "host-local", "dataDir": host.dir.join("leases"),
            "ranges": [[{"subnet": "10.78.0.0/24"}], [{"subnet": "fd00:78::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        });
        let plugins = [
            json!({"type": "bridge", "bridge": "cni-t6", "isGateway": true, "ipam": ipam, "capabilities": {"ips": true}}),
        ];
        host.networks.ensure(&config(&host, &plugins)).await.unwrap();
        let container = Container::new();
        let mut request = container.request();
        request.ipv6 = Some("fd00:78::50".parse().unwrap());
        let place = host.networks.attach(request).await.unwrap();
        assert_eq!(place.address_v6.unwrap().to_string(), "fd00:78::50/64");
        assert_eq!(place.gateway_v6.unwrap().to_string(), "fd00:78::1");
        assert_eq!(place.ips().len(), 2, "{place:?}");
        let again = host.networks.attachments_of(&container.id).unwrap();
        assert_eq!(again, [place], "also in the record");
        host.networks.detach("net", &container.id).await.unwrap();
    });
}
