//! `driver: cni`, `network` and `cni` by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::{Case, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        services_on_a_list_of_real_plugins: Plugins + Bridge,
        an_external_network_is_a_list_of_its_name,
        del_follows_every_end,
        a_list_that_cannot_be_used_is_told_before_anything_runs,
        all_of_ours_are_killed_and_del_is_run,
        the_time_limit_ends_a_plugin_that_hangs,
        networks_by_hand: Bridge,
        any_process_is_attached: Bridge,
        plugins_by_hand,
    ]
}

/// A plugin that writes down its calls; `fail` beside it names commands that it refuses.
const RECORDER: &str = r#"#!/bin/sh
here=$(dirname "$0"); cat >"$here/last.$CNI_COMMAND"
[ "$CNI_COMMAND" = VERSION ] || echo "$CNI_COMMAND $CNI_IFNAME ${CNI_NETNS:+netns}" >>"$here/calls"
if grep -q "^$CNI_COMMAND$" "$here/fail" 2>/dev/null; then echo '{"code": 77, "msg": "not today"}'; exit 1; fi
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) echo '{"ips":[{"address":"10.66.0.2/24"}]}' ;;
esac
"#;

/// Puts the recorder and a list of it beside the sandbox's files; returns where plugins lie.
fn recorder(sandbox: &Sandbox) -> String {
    let bin = sandbox.dir().join("plugins");
    fs::create_dir_all(&bin).expect("ours");
    fs::write(bin.join("recorder"), RECORDER).expect("ours");
    fs::set_permissions(bin.join("recorder"), fs::Permissions::from_mode(0o755)).expect("ours");
    sandbox.set_env("CNI_PATH", bin.as_os_str());
    bin.display().to_string()
}

fn write_list(project: &Project<'_>, name: &str) {
    let list = format!(r#"{{"cniVersion": "1.1.0", "name": "{name}", "plugins": [{{"type": "recorder"}}]}}"#);
    fs::create_dir_all(project.directory().join("cni")).expect("ours");
    fs::write(project.directory().join(format!("cni/{name}.conflist")), list).expect("ours");
}

fn calls(bin: &str) -> Vec<String> {
    fs::read_to_string(format!("{bin}/calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

const ONE: &str = r#"
    services:
      web: {image: root_fs, init: true, command: [sleep, infinity], networks: [net]}
    networks: {net: {driver: cni, driver_opts: {conflist: recorded}}}
"#;

fn services_on_a_list_of_real_plugins(sandbox: &Sandbox) {
    let project = sandbox.project(
        "real",
        r#"
        services:
          web: {image: root_fs, init: true, command: [httpd, -f, -p, "80", -h, /www], networks: [net], ports: ["8093:80"]}
          client: {image: root_fs, init: true, command: [sleep, infinity], networks: {net: {ipv4_address: 10.67.0.9}}}
        networks: {net: {driver: cni, driver_opts: {conflist: realnet}}}
        "#,
    );
    let leases = sandbox.dir().join("leases");
    let list = format!(
        r#"{{"cniVersion": "1.1.0", "name": "realnet", "plugins": [
            {{"type": "bridge", "bridge": "cni-real0", "isGateway": true, "ipMasq": true, "capabilities": {{"ips": true}},
              "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.67.0.0/24"}}]],
                        "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
            {{"type": "firewall"}}, {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#,
        leases.display()
    );
    fs::create_dir_all(project.directory().join("cni")).expect("ours");
    fs::write(project.directory().join("cni/50-real.conflist"), list).expect("ours");
    project.up();
    let shown = project.exec("client", &["ip", "-o", "-4", "addr", "show", "dev", "eth0"]).ok().stdout;
    assert!(shown.contains("10.67.0.9/24"), "{shown}");
    for name in ["web", "real-web-1"] {
        let page = project.exec("client", &["timeout", "5", "wget", "-q", "-O", "-", &format!("http://{name}/")]).ok();
        assert!(page.stdout.contains("mydocker"), "{}", page.describe());
    }
    project.exec("client", &["ping", "-c", "1", "-W", "2", "10.67.0.1"]).ok();
    sandbox.host(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8093/"]).ok();
    let rules = sandbox.shell("iptables -t nat -S").ok().stdout;
    assert!(rules.contains("--dport 8093"), "{rules}");
    sandbox.mydocker(&["network", "inspect", "real_net"]).ok();
    project.compose(&["restart", "-t", "1", "client"]).ok();
    assert!(project.exec("client", &["ip", "-4", "addr"]).ok().stdout.contains("10.67.0.9/24"));
    project.down();
    let rules = sandbox.shell("iptables -S; iptables -t nat -S").ok().stdout;
    assert!(!rules.contains("8093") && !rules.contains("10.67.0."), "{rules}");
    let left = fs::read_dir(leases.join("realnet")).expect("host-local's");
    assert!(
        left.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with("10.")),
        "addresses are free again"
    );
    // What these plugins leave once for all is theirs.
    sandbox.shell("ip link delete cni-real0; iptables -F; iptables -t nat -F; iptables -X; iptables -t nat -X; echo 0 >/proc/sys/net/ipv4/ip_forward").ok();
}

fn an_external_network_is_a_list_of_its_name(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let yaml = ONE.replace("{driver: cni, driver_opts: {conflist: recorded}}", "{external: true, name: recorded}");
    let project = sandbox.project("outer", &yaml);
    project.compose(&["up", "-d"]).refused(1, &["recorded"]);
    write_list(&project, "recorded");
    project.up();
    assert_eq!(calls(&bin), ["ADD eth0 netns"]);
    project.down();
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    assert!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout.contains("recorded"), "it is not the project's");
    sandbox.mydocker(&["network", "prune"]).ok();
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "");
}

fn del_follows_every_end(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("ends", ONE);
    write_list(&project, "recorded");
    let took = |what: &str, wanted: &[&str]| {
        assert_eq!(calls(&bin), wanted, "{what}");
        let _ = fs::remove_file(format!("{bin}/calls"));
    };
    // A program that is not there
    project.rewrite(&ONE.replace("[sleep, infinity]", "[/no/such/program]").replace("init: true, ", ""));
    assert_ne!(project.compose(&["up", "-d"]).code, 0);
    took("a failed start", &["ADD eth0 netns", "DEL eth0 netns"]);
    project.down();
    project.rewrite(ONE);
    fs::write(format!("{bin}/fail"), "ADD\n").expect("ours");
    project.compose(&["up", "-d"]).refused(1, &["recorder", "not today", "77", "ADD"]);
    took("a failed ADD", &["ADD eth0 netns", "DEL eth0 netns"]);
    fs::remove_file(format!("{bin}/fail")).expect("ours");
    project.up();
    project.container("web").signal(Signal::SIGKILL);
    project.wait_exited("web");
    eventually("DEL after a kill", || (calls(&bin).len() == 2).then_some(()));
    took("a kill", &["ADD eth0 netns", "DEL eth0 netns"]);
    project.compose(&["start"]).ok();
    // DEL that fails is told, keeps nothing from going, and is made up for.
    fs::write(format!("{bin}/fail"), "DEL\n").expect("ours");
    let down = project.compose(&["down", "-t", "1"]);
    assert!(down.code == 1 && down.stderr.contains("not today"), "{}", down.describe());
    took("a failed DEL", &["ADD eth0 netns", "DEL eth0 netns"]);
    fs::remove_file(format!("{bin}/fail")).expect("ours");
    fs::remove_file(project.directory().join("cni/recorded.conflist")).expect("ours");
    sandbox.mydocker(&["network", "prune"]).ok();
    took("prune", &["DEL eth0 "]);
}

fn a_list_that_cannot_be_used_is_told_before_anything_runs(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("unusable", ONE);
    project.compose(&["up", "-d"]).refused(1, &["recorded", "/etc/cni/net.d", "--cni-conf-dir"]);
    write_list(&project, "recorded");
    let path = project.directory().join("cni/recorded.conflist");
    for (text, word) in [
        (r#"{"cniVersion": "1.1.0", "name": "recorded", "plugins": [{"type": "../../bin/sh"}]}"#, "../../bin/sh"),
        (r#"{"cniVersion": "1.1.0", "name": "recorded;reboot", "plugins": [{"type": "recorder"}]}"#, "recorded;reboot"),
        (r#"{"cniVersion": "1.1.0", "name": "recorded", "plugins": [{"type": "nosuch"}]}"#, "nosuch"),
        (r#"{"cniVersion": "1.1.0", "name": "recorded", "plugins": []}"#, "no plugins"),
        ("{", "recorded.conflist"),
    ] {
        fs::write(&path, text).expect("ours");
        project.compose(&["up", "-d"]).refused(1, &[word]);
    }
    write_list(&project, "recorded");
    project.rewrite(&ONE.replace("networks: [net]}", "networks: [net], ports: [\"8094:80\"]}"));
    project.compose(&["up", "-d"]).refused(1, &["`ports`", "portMappings"]);
    project.rewrite(&ONE.replace("conflist: recorded", "conflist: recorded, conflst: x"));
    project.compose(&["up", "-d"]).refused(1, &["conflst"]);
    assert!(calls(&bin).is_empty());
}

fn all_of_ours_are_killed_and_del_is_run(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("killed", ONE);
    write_list(&project, "recorded");
    project.up();
    for pid in sandbox.processes() {
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
    sandbox.expect_quiet();
    project.down();
    let seen = calls(&bin);
    // Who starts next takes back what was made, without the namespace; what it starts again goes with `down`.
    assert!(
        seen.len().is_multiple_of(2)
            && seen[1] == "DEL eth0 "
            && seen.last().is_some_and(|last| last.starts_with("DEL")),
        "{seen:?}"
    );
    let told = fs::read_to_string(format!("{bin}/last.DEL")).expect("it was called");
    assert!(told.contains("prevResult") && told.contains("10.66.0.2"), "{told}");
}

fn the_time_limit_ends_a_plugin_that_hangs(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("hanging", ONE);
    write_list(&project, "recorded");
    let hangs =
        RECORDER.replace("case $CNI_COMMAND in", "[ $CNI_COMMAND != ADD ] || exec sleep 600\ncase $CNI_COMMAND in");
    fs::write(format!("{bin}/recorder"), &hangs).expect("ours");
    project.rewrite(&ONE.replace("conflist: recorded", "conflist: recorded, timeout: 0.5"));
    project.compose(&["up", "-d"]).refused(1, &["recorder", "ADD", "0.5 s", "timeout"]);
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
}

fn networks_by_hand(sandbox: &Sandbox) {
    sandbox.mydocker(&["network", "create", "--subnet", "10.68.0.0/24", "--label", "a=b", "back"]).ok();
    sandbox.mydocker(&["network", "create", "back"]).refused(1, &["back"]);
    let listed = sandbox.mydocker(&["network", "ls"]).ok().stdout;
    assert!(listed.contains("back") && listed.contains("bridge") && listed.contains("10.68.0.0/24"), "{listed}");
    sandbox.mydocker(&["network", "ls", "--format", "json"]).ok();
    assert!(sandbox.mydocker(&["network", "inspect", "back"]).ok().stdout.contains("10.68.0.1"));
    let project = sandbox.project(
        "byhand",
        "
        services: {web: {image: root_fs, init: true, command: [sleep, infinity], networks: [back]}}
        networks: {back: {external: true, name: back}}
        ",
    );
    project.up();
    let checked = sandbox.mydocker(&["network", "check"]).ok().stdout;
    assert!(checked.contains("bridge br-") && checked.contains("byhand-web-1: 10.68.0.2/24"), "{checked}");
    sandbox.mydocker(&["network", "rm", "back"]).refused(1, &["byhand-web-1"]);
    assert_eq!(sandbox.mydocker(&["network", "prune"]).ok().stdout, "");
    sandbox.shell("ip link set $(ip -o link show type bridge | cut -d' ' -f2 | tr -d :) down").ok();
    assert_eq!(sandbox.mydocker(&["network", "check", "back"]).code, 1);
    project.down();
    sandbox.mydocker(&["network", "rm", "back"]).ok();
    for wrong in [&["network", "inspect", "nosuch"][..], &["network", "rm", "../x"], &["network", "check", "nosuch"]] {
        assert_eq!(sandbox.mydocker(wrong).code, 1);
    }
}

fn any_process_is_attached(sandbox: &Sandbox) {
    let one = sandbox.spawn_shell("exec unshare --net sleep 1000");
    let two = sandbox.spawn_shell("exec unshare --net sleep 1000");
    let pid = |running: &crate::support::Running| running.pid().to_string();
    let own = fs::read_link("/proc/self/ns/net").expect("proc");
    for running in [&one, &two] {
        let path = format!("/proc/{}/comm", running.pid());
        eventually("it sleeps", || (fs::read_to_string(&path).ok()?.trim() == "sleep").then_some(()));
        assert_ne!(fs::read_link(format!("/proc/{}/ns/net", running.pid())).expect("it runs"), own);
    }
    let first = sandbox.mydocker(&["network", "attach", "--pid", &pid(&one), "--address", "10.10.10.7"]).ok().stdout;
    assert_eq!(first, "10.10.10.7/24\n");
    let second = sandbox.mydocker(&["network", "attach", "--pid", &pid(&two), "--ifname", "net0"]).ok().stdout;
    assert!(second.starts_with("10.10.10."), "{second}");
    sandbox.host(&["nsenter", "-t", &pid(&two), "-n", "busybox", "ping", "-c1", "-W2", "10.10.10.7"]).ok();
    sandbox.host(&["nsenter", "-t", &pid(&one), "-n", "busybox", "ping", "-c1", "-W2", "10.10.10.1"]).ok();
    let routes = sandbox.host(&["nsenter", "-t", &pid(&two), "-n", "ip", "route"]).ok().stdout;
    assert!(routes.contains("default via 10.10.10.1 dev net0"), "{routes}");
    sandbox.mydocker(&["network", "rm", "bridge"]).refused(1, &["in use", "process"]);
    // A supervisor that starts does not take them off.
    let project = sandbox.project("beside", "services: {a: {image: root_fs, init: true, command: [sleep, infinity]}}");
    project.up();
    sandbox.host(&["nsenter", "-t", &pid(&two), "-n", "busybox", "ping", "-c1", "-W2", "10.10.10.7"]).ok();
    project.down();
    sandbox.mydocker(&["network", "attach", "--pid", "999999999"]).refused(1, &["999999999"]);
    sandbox.mydocker(&["network", "attach", "--pid", "1"]);
    for running in [one, two] {
        running.signal(Signal::SIGKILL);
        running.wait();
    }
    sandbox.mydocker(&["network", "rm", "bridge"]).ok();
}

fn plugins_by_hand(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let conf = sandbox.dir().join("recorded.conf");
    fs::write(
        &conf,
        r#"{"cniVersion": "1.1.0", "name": "recorded", "type": "recorder", "capabilities": {"mac": true}}"#,
    )
    .expect("ours");
    let conf = conf.display().to_string();
    let sleeper = sandbox.spawn_shell("exec unshare --net sleep 1000");
    let comm = format!("/proc/{}/comm", sleeper.pid());
    eventually("it sleeps", || (fs::read_to_string(&comm).ok()?.trim() == "sleep").then_some(()));
    let netns = format!("/proc/{}/ns/net", sleeper.pid());
    let add =
        ["cni", "add", "--netns", &netns, "--container-id", "c1", "--capability", r#"mac="02:00:00:00:00:01""#, &conf];
    let added = sandbox.mydocker(&add).ok();
    assert!(added.stdout.contains("10.66.0.2/24") && added.stdout.contains("1.1.0"), "{}", added.describe());
    assert!(fs::read_to_string(format!("{bin}/last.ADD")).expect("called").contains("02:00:00:00:00:01"));
    sandbox.mydocker(&add).refused(1, &["c1", "eth0"]);
    sandbox.mydocker(&["cni", "check", "--container-id", "c1"]).ok();
    sandbox.mydocker(&["cni", "status", &conf]).ok();
    sandbox.mydocker(&["cni", "gc", &conf]).ok();
    assert!(fs::read_to_string(format!("{bin}/last.GC")).expect("called").contains(r#""containerID":"c1""#));
    sandbox.mydocker(&["cni", "del", "--container-id", "c1"]).ok();
    sandbox.mydocker(&["cni", "del", "--container-id", "c1"]).refused(1, &["c1"]);
    for (id, ns) in [("../c1", netns.as_str()), ("c1", "/no/such/netns"), ("c 1", netns.as_str())] {
        assert_eq!(sandbox.mydocker(&["cni", "add", "--netns", ns, "--container-id", id, &conf]).code, 1);
    }
    sandbox
        .mydocker(&["cni", "add", "--netns", &netns, "--capability", "ips=[\"10.0.0.1\"]", &conf])
        .refused(1, &["ips"]);
    assert_eq!(calls(&bin), ["ADD eth0 netns", "CHECK eth0 netns", "STATUS  ", "GC  ", "DEL eth0 netns"]);
    sleeper.signal(Signal::SIGKILL);
    sleeper.wait();
}
