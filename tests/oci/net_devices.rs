//! Network devices of the host's that go into a container (runtime specification 1.3, "Network Devices").

use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci, state};
use crate::support::{Case, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_device_keeps_what_it_was: Bridge,
        devices_change_their_names: Bridge,
        a_device_goes_into_a_namespace_that_is_joined: Bridge,
        a_device_goes_into_a_user_namespace: Bridge,
        devices_that_cannot_go: Bridge,
        a_create_that_fails_puts_them_back: Bridge,
    ]
}

fn devices(bundle: &Bundle<'_>, devices: &Value) {
    bundle.edit(|config| config["linux"]["netDevices"] = devices.clone());
}

/// A cable on the host, one end of which is to go.
fn cable(sandbox: &Sandbox, name: &str) {
    sandbox.shell(&format!("ip link add {name} type veth peer name {name}-far && ip link set {name}-far up")).ok();
}

/// What the host knows of a device, less what is counted.
fn on_host(sandbox: &Sandbox, name: &str) -> String {
    let output = sandbox.shell(&format!("ip -o link show dev {name}; ip -o address show dev {name}"));
    output.stdout.lines().map(|line| line.replace(" tentative", "")).collect::<Vec<_>>().join("\n")
}

/// Waits until the kernel has taken a namespace apart: with it goes a cable's end, and the other end with that.
#[track_caller]
fn gone(sandbox: &Sandbox, name: &str) {
    let script = format!("! ip link show {name} && ! ip link show {name}-far");
    eventually(&format!("{name} is gone"), || (sandbox.shell(&script).code == 0).then_some(()));
}

fn a_device_keeps_what_it_was(sandbox: &Sandbox) {
    let script = "ip -o link show dev dev0; ip -o address show dev dev0; cat /sys/class/net/dev0/operstate";
    let bundle = Bundle::new(sandbox, "b", script);
    bundle.mount(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
    for up in ["up", "down"] {
        cable(sandbox, "dev0");
        let script = format!(
            "ip link set dev0 {up} mtu 1410 address 02:00:00:00:00:42
             ip address add 192.0.2.7/24 brd + dev dev0
             ip address add 169.254.7.7/32 dev dev0
             ip address add 192.0.2.9/24 valid_lft 1000 preferred_lft 1000 dev dev0
             ip address add 198.51.100.11/24 scope link dev dev0
             ip address add 192.0.2.13 peer 192.0.2.99 dev dev0
             ip -6 address add 2001:db8:7::7/64 nodad dev dev0"
        );
        sandbox.shell(&format!("set -e; {script}")).ok();
        devices(&bundle, &json!({ "dev0": {} }));
        let shown = bundle.oci(&["run", "web"]).ok().stdout;
        for kept in [
            "mtu 1410",
            "02:00:00:00:00:42",
            "192.0.2.7/24 brd 192.0.2.255 scope global dev0",
            "169.254.7.7/32",
            "192.0.2.13 peer 192.0.2.99/32",
            "2001:db8:7::7/64",
            ",UP",
            "\nup\n",
        ] {
            assert!(shown.contains(kept), "{up}: {kept}: {shown}");
        }
        for left in ["192.0.2.9/", "198.51.100.11/"] {
            assert!(!shown.contains(left), "{up}: {left}: {shown}");
        }
        expect_nothing(sandbox);
        // A device of this kind goes with the namespace, and with it the other end.
        gone(sandbox, "dev0");
    }
}

fn devices_change_their_names(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "ip -o address | sort -k 2");
    for (number, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
        cable(sandbox, name);
        sandbox.shell(&format!("ip address add 192.0.2.{number}/32 dev {name}")).ok();
    }
    // Two change places, and of a template the kernel makes names.
    let asked = json!({
        "one": { "name": "two" }, "two": { "name": "one" }, "three": { "name": "card%d" }, "four": { "name": "card%d" },
    });
    devices(&bundle, &asked);
    let shown = bundle.oci(&["run", "web"]).ok().stdout;
    let address_of = |name: &str| {
        let line = shown.lines().find(|line| line.split_whitespace().nth(1) == Some(name) && line.contains("192.0.2."));
        line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or_default()
    };
    assert_eq!((address_of("one"), address_of("two")), ("192.0.2.1/32", "192.0.2.0/32"), "{shown}");
    let mut cards = [address_of("card0"), address_of("card1")];
    cards.sort_unstable();
    assert_eq!(cards, ["192.0.2.2/32", "192.0.2.3/32"], "{shown}");
    expect_nothing(sandbox);
}

/// The namespace is somebody else's: the device is still there when the container is gone.
fn a_device_goes_into_a_namespace_that_is_joined(sandbox: &Sandbox) {
    let holder = Bundle::new(sandbox, "holder", "exec sleep 300");
    holder.oci(&["run", "--detach", "holder"]).ok();
    let pid = state(sandbox, "holder")["pid"].to_string();
    let bundle = Bundle::new(sandbox, "b", "ip -o link show dev inner");
    let join = |kinds: &[&str]| {
        bundle.edit(|config| {
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                let kind = namespace["type"].as_str().unwrap().to_owned();
                if kinds.contains(&&*kind) {
                    let file = if kind == "network" { "net" } else { &kind };
                    namespace["path"] = format!("/proc/{pid}/ns/{file}").into();
                }
            }
        });
    };
    for (number, kinds) in [&["network"][..], &["network", "pid"]].into_iter().enumerate() {
        join(kinds);
        let name = format!("dev{number}");
        cable(sandbox, &name);
        devices(&bundle, &json!({ name.as_str(): { "name": "inner" } }));
        bundle.oci(&["run", "web"]).ok();
        // Its name is taken now.
        cable(sandbox, "late");
        let before = on_host(sandbox, "late");
        devices(&bundle, &json!({ "late": { "name": "inner" } }));
        bundle.oci(&["run", "web"]).refused(125, &["linux.netDevices", "late", "has an interface inner already"]);
        assert_eq!(on_host(sandbox, "late"), before);
        oci(sandbox, &["exec", "holder", "ip", "link", "show", "dev", "inner"]).ok();
        sandbox.shell(&format!("nsenter --net=/proc/{pid}/ns/net ip link delete inner; ip link delete late")).ok();
    }
    oci(sandbox, &["delete", "--force", "holder"]).ok();
    expect_nothing(sandbox);
}

fn a_device_goes_into_a_user_namespace(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "ip -o link show dev dev0 && cat /proc/self/uid_map");
    cable(sandbox, "dev0");
    devices(&bundle, &json!({ "dev0": {} }));
    bundle.edit(|config| {
        let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    });
    let output = bundle.oci(&["run", "web"]).ok();
    assert!(output.stdout.contains("100000"), "{}", output.describe());
    expect_nothing(sandbox);
}

fn devices_that_cannot_go(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    sandbox.shell("ip link add bridge0 type bridge").ok();
    cable(sandbox, "dev0");
    cable(sandbox, "dev1");
    sandbox.shell("ip link set dev0 up && ip address add 192.0.2.7/24 dev dev0").ok();
    let names = || ["dev0", "dev1", "bridge0", "lo"].map(|name| on_host(sandbox, name));
    let before = names();
    for (asked, words) in [
        (json!({ "nosuch": {} }), &["linux.netDevices", "nosuch", "there is no such interface"][..]),
        (json!({ "dev0": {}, "nosuch": {} }), &["nosuch", "there is no such interface"]),
        (json!({ "a/b": {} }), &["linux.netDevices.a/b", "not an interface name"]),
        (json!({ "0123456789abcdef": {} }), &["linux.netDevices.0123456789abcdef"]),
        (json!({ "dev0": { "name": "a b" } }), &["linux.netDevices.dev0.name", "a b"]),
        (json!({ "dev0": { "name": ".." } }), &["linux.netDevices.dev0.name"]),
        (json!({ "dev0": { "name": "%d%d" } }), &["linux.netDevices.dev0.name", "template"]),
        (
            json!({ "dev0": { "name": "same" }, "dev1": { "name": "same" } }),
            &["linux.netDevices.dev1.name", "`dev0` gets"],
        ),
        (json!({ "dev0": { "name": "dev1" }, "dev1": {} }), &["linux.netDevices.dev1.name", "`dev0` gets"]),
        (json!({ "dev0": { "name": "lo" } }), &["linux.netDevices", "has an interface lo already"]),
        (json!({ "lo": { "name": "lo2" } }), &["linux.netDevices", "lo", "moves no device of its kind"]),
        (json!({ "bridge0": {} }), &["linux.netDevices", "bridge0", "moves no device of its kind"]),
    ] {
        devices(&bundle, &asked);
        bundle.oci(&["create", "web"]).refused(1, words);
        assert_eq!(names(), before, "{asked}");
        expect_nothing(sandbox);
    }
    devices(&bundle, &json!({ "dev0": {} }));
    let words = ["linux.netDevices", "no network namespace of its own"];
    bundle.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().filter(|one| one["type"] == "network").for_each(|one| {
            one["path"] = "/proc/self/ns/net".into();
        });
    });
    bundle.oci(&["create", "web"]).refused(1, &words);
    bundle.edit(|config| config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network"));
    bundle.oci(&["create", "web"]).refused(1, &words);
    assert_eq!(names(), before);
    sandbox.shell("for name in dev0 dev1 bridge0; do ip link delete $name || exit; done").ok();
    expect_nothing(sandbox);
}

/// Devices that have moved come back as they were: names, numbers, addresses, state, the bridge they were a port of.
fn a_create_that_fails_puts_them_back(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    cable(sandbox, "dev0");
    cable(sandbox, "dev1");
    let script = "ip link add bridge0 type bridge && ip link set bridge0 up && ip link set dev1 up master bridge0 && \
                  ip link set dev0 up mtu 1410 && ip address add 192.0.2.7/24 brd + dev dev0 && \
                  ip address add 198.51.100.11/24 scope link dev dev0 && ip -6 address add 2001:db8:7::7/64 nodad dev dev0";
    sandbox.shell(script).ok();
    let names = || ["dev0", "dev1"].map(|name| on_host(sandbox, name));
    let before = names();
    devices(&bundle, &json!({ "dev0": { "name": "dev1" }, "dev1": { "name": "card%d" } }));
    let prepared: [(&str, Value); 3] = [
        ("the program", json!({ "args": ["nosuch"] })),
        ("a hook", json!({ "args": ["true"] })),
        ("a bridge behind it", json!({ "args": ["true"] })),
    ];
    for (what, process) in prepared {
        bundle.edit(|config| {
            config["process"]["args"] = process["args"].clone();
            if what == "a hook" {
                config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
            }
            if what == "a bridge behind it" {
                config["hooks"] = json!({});
                config["linux"]["netDevices"]["zbridge"] = json!({});
            }
        });
        if what == "a bridge behind it" {
            sandbox.shell("ip link add zbridge type bridge").ok();
        }
        let output = bundle.oci(&["create", "web"]).expect_code(1);
        eventually(&format!("{what}: they are as they were; {}", output.describe()), || {
            (names() == before).then_some(())
        });
        expect_nothing(sandbox);
    }
    // The same by `run`, up to the program.
    bundle.edit(|config| {
        config["linux"]["netDevices"].as_object_mut().unwrap().remove("zbridge");
        config["process"]["args"] = json!(["sh", "-c", "ip -o link show | grep -c card"]);
    });
    bundle.oci(&["run", "web"]).ok();
    sandbox.shell("ip link delete bridge0; ip link delete zbridge").ok();
    gone(sandbox, "dev0");
    gone(sandbox, "dev1");
    expect_nothing(sandbox);
}
