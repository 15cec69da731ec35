//! `driver: cni`, `network` and `cni` by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Case, Project, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        services_on_a_list_of_real_plugins: Plugins + Bridge,
        an_external_network_is_a_list_of_its_name,
        del_follows_every_end,
        a_program_that_is_not_there_gives_its_place_back_once,
        a_list_that_cannot_be_used_is_told_before_anything_runs,
        all_of_ours_are_killed_and_del_is_run,
        the_time_limit_ends_a_plugin_that_hangs,
        ctrl_c_ends_a_plugin_that_hangs_in_up,
        ctrl_c_ends_a_plugin_that_hangs_in_run,
        ctrl_c_ends_a_plugin_that_hangs_by_hand,
        a_stop_of_one_service_ends_its_hanging_plugin,
        a_plugin_that_outlives_its_supervisor_is_ended_before_del,
        what_is_owed_holds_nobody_up_and_is_paid_by_any_later_start,
        run_takes_the_name_of_a_list,
        a_plugin_that_wants_them_gets_all_names,
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

fn a_plugin_that_wants_them_gets_all_names(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let list = sandbox.dir().join("lists");
    fs::create_dir(&list).expect("ours");
    let conf = r#"{"cniVersion": "1.1.0", "name": "recorded", "type": "recorder", "capabilities": {"aliases": true}}"#;
    fs::write(list.join("recorded.conf"), conf).expect("ours");
    sandbox.set_env("MYDOCKER_CNI_CONF_DIR", list.as_os_str());
    let told = |command: &str| {
        let text = fs::read_to_string(format!("{bin}/last.{command}")).expect("it was called");
        let (_, names) =
            text.split_once("\"aliases\":[").unwrap_or_else(|| panic!("{command} is told no names: {text}"));
        names.split(']').next().unwrap_or_default().to_owned()
    };
    let yaml = ONE.replace("networks: [net]", "networks: {net: {aliases: [www, site.example.test]}}");
    let project = sandbox.project("called", &yaml);
    project.up();
    let names = told("ADD");
    assert!(names.starts_with(r#""called-web-1","#), "{names}");
    for name in ["web", "www", "site.example.test"] {
        assert_eq!(names.matches(&format!("\"{name}\"")).count(), 1, "{name}: {names}");
    }
    project.down();
    assert_eq!(told("DEL"), names, "DEL is told what ADD was");
    sandbox
        .mydocker(&["run", "--network", "recorded", "--network-alias", "db", "--name", "one", "root_fs", "true"])
        .ok();
    let names = told("ADD");
    assert!(names.starts_with(r#""one","#) && names.contains(r#""db""#), "{names}");
    sandbox.mydocker(&["network", "prune"]).ok();
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

fn a_program_that_is_not_there_gives_its_place_back_once(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("nosuch", &ONE.replace("[sleep, infinity]", "[/nosuch]"));
    write_list(&project, "recorded");
    let up = project.compose(&["up", "-d"]);
    assert!(up.code != 0 && up.stderr.contains("/nosuch"), "{}", up.describe());
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    project.down();
    assert_eq!(calls(&bin).len(), 2, "and not again");
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

/// A recorder that hangs in one command, with a process of its own: both note themselves in `pids`.
fn hang(bin: &str, command: &str) {
    let hangs = format!(
        r#"if [ $CNI_COMMAND = {command} ]; then
            sleep 600 <&- >&- 2>&- & echo $! >>"$here/pids"; echo $$ >>"$here/pids"
            wait
        fi
        case $CNI_COMMAND in"#
    );
    fs::write(format!("{bin}/recorder"), RECORDER.replace("case $CNI_COMMAND in", &hangs)).expect("ours");
}

fn wait_for_hang(bin: &str) {
    eventually("a plugin hangs", || {
        (fs::read_to_string(format!("{bin}/pids")).ok()?.lines().count() == 2).then_some(())
    });
}

/// Waits until none of a hanging plugin's processes is left.
fn expect_ended(bin: &str) {
    let pids = fs::read_to_string(format!("{bin}/pids")).expect("written");
    eventually("the plugin's process group is gone", || {
        let runs = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        (!pids.lines().any(runs)).then_some(())
    });
    fs::remove_file(format!("{bin}/pids")).expect("there");
}

/// Less than the plugin's time limit by far, and than a second where the machine is not busy.
const AT_ONCE: Duration = Duration::from_secs(5);

fn ctrl_c_ends_a_plugin_that_hangs_in_up(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("cancelled", ONE);
    write_list(&project, "recorded");
    hang(&bin, "ADD");
    let up = project.spawn(&["up"]);
    wait_for_hang(&bin);
    let begun = Instant::now();
    up.signal(Signal::SIGINT);
    up.wait_within(AT_ONCE).expect_code(0).without_panic();
    assert!(begun.elapsed() < AT_ONCE);
    expect_ended(&bin);
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    project.down();
    assert_eq!(calls(&bin).len(), 2, "nothing was left");
}

fn ctrl_c_ends_a_plugin_that_hangs_in_run(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let list = sandbox.dir().join("lists");
    fs::create_dir(&list).expect("ours");
    fs::write(list.join("recorded.conf"), r#"{"cniVersion": "1.1.0", "name": "recorded", "type": "recorder"}"#)
        .expect("ours");
    sandbox.set_env("MYDOCKER_CNI_CONF_DIR", list.as_os_str());
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        hang(&bin, "ADD");
        let run = sandbox.spawn(&["run", "--network", "recorded", "root_fs", "true"]);
        wait_for_hang(&bin);
        run.signal(signal);
        run.wait_within(AT_ONCE).expect_code(code).without_panic();
        expect_ended(&bin);
        assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
        fs::remove_file(format!("{bin}/calls")).expect("there");
    }
    // One that hangs in DEL is left by a second Ctrl-C, and its turn comes with the next run.
    hang(&bin, "DEL");
    let run = sandbox.spawn(&["run", "--network", "recorded", "root_fs", "true"]);
    wait_for_hang(&bin);
    eventually("a second Ctrl-C leaves", || {
        run.signal(Signal::SIGINT);
        (run.stderr().contains("the next start takes them away")).then_some(())
    });
    run.wait_within(AT_ONCE).expect_code(0).without_panic();
    expect_ended(&bin);
    fs::write(format!("{bin}/recorder"), RECORDER).expect("ours");
    fs::remove_file(format!("{bin}/calls")).expect("there");
    sandbox.mydocker(&["run", "--network", "none", "root_fs", "true"]).ok();
    assert_eq!(calls(&bin), ["DEL eth0 "], "the namespace is gone by now");
    sandbox.mydocker(&["network", "prune"]).ok();
}

fn ctrl_c_ends_a_plugin_that_hangs_by_hand(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let conf = sandbox.dir().join("recorded.conf");
    fs::write(&conf, r#"{"cniVersion": "1.1.0", "name": "recorded", "type": "recorder"}"#).expect("ours");
    let conf = conf.display().to_string();
    let sleeper = sandbox.spawn_shell("exec unshare --net sleep 1000");
    let comm = format!("/proc/{}/comm", sleeper.pid());
    eventually("it sleeps", || (fs::read_to_string(&comm).ok()?.trim() == "sleep").then_some(()));
    let netns = format!("/proc/{}/ns/net", sleeper.pid());
    hang(&bin, "ADD");
    let add = sandbox.spawn(&["cni", "add", "--netns", &netns, "--container-id", "c1", &conf]);
    wait_for_hang(&bin);
    add.signal(Signal::SIGINT);
    let ended = add.wait_within(AT_ONCE).expect_code(130).without_panic();
    assert!(ended.stderr.contains("interrupted"), "{}", ended.describe());
    expect_ended(&bin);
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    sandbox.mydocker(&["cni", "del", "--container-id", "c1"]).refused(1, &["c1"]);
    // In DEL, too: it is known what is left.
    hang(&bin, "DEL");
    sandbox.mydocker(&["cni", "add", "--netns", &netns, "--container-id", "c1", &conf]).ok();
    let del = sandbox.spawn(&["cni", "del", "--container-id", "c1"]);
    wait_for_hang(&bin);
    del.signal(Signal::SIGTERM);
    del.wait_within(AT_ONCE).expect_code(143).without_panic();
    expect_ended(&bin);
    fs::write(format!("{bin}/recorder"), RECORDER).expect("ours");
    sandbox.mydocker(&["cni", "del", "--container-id", "c1"]).ok();
    sleeper.signal(Signal::SIGKILL);
    sleeper.wait();
}

fn a_stop_of_one_service_ends_its_hanging_plugin(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("stopped", ONE);
    write_list(&project, "recorded");
    hang(&bin, "ADD");
    let up = project.spawn(&["up", "-d"]);
    wait_for_hang(&bin);
    project.compose(&["stop", "web"]).ok();
    let up = up.wait_within(AT_ONCE).expect_code(1).without_panic();
    assert!(up.stderr.contains("given up"), "{}", up.describe());
    expect_ended(&bin);
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    fs::write(format!("{bin}/recorder"), RECORDER).expect("ours");
    // A stop that is over is in nobody's way.
    project.compose(&["start"]).ok();
    project.wait_running("web");
    project.down();
}

fn a_plugin_that_outlives_its_supervisor_is_ended_before_del(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("outlived", ONE);
    write_list(&project, "recorded");
    hang(&bin, "ADD");
    let up = project.spawn(&["up", "-d"]);
    wait_for_hang(&bin);
    let hanging = fs::read_to_string(format!("{bin}/pids")).expect("written");
    let is_plugin = |pid: &nix::unistd::Pid| hanging.lines().any(|line| line == pid.to_string());
    for pid in sandbox.processes().into_iter().filter(|pid| !is_plugin(pid)) {
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
    assert_ne!(up.wait_within(AT_ONCE).code, 0);
    fs::write(format!("{bin}/recorder"), RECORDER).expect("ours");
    project.down();
    expect_ended(&bin);
    let seen = calls(&bin);
    assert_eq!(seen[..2], ["ADD eth0 netns", "DEL eth0 "], "{seen:?}");
}

fn what_is_owed_holds_nobody_up_and_is_paid_by_any_later_start(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let project = sandbox.project("owing", ONE);
    write_list(&project, "recorded");
    project.up();
    fs::write(format!("{bin}/fail"), "DEL\n").expect("ours");
    let down = project.compose(&["down", "-t", "1"]).expect_code(1);
    assert!(down.stderr.contains("not today"), "{}", down.describe());
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    // The network has gone all the same; only DEL is owed.
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "");
    fs::remove_file(format!("{bin}/fail")).expect("ours");
    // Now the plugin hangs in DEL: another project starts beside that, at once, and stops.
    hang(&bin, "DEL");
    let other = sandbox.project(
        "other",
        "services: {a: {image: root_fs, init: true, network_mode: none, command: [sleep, infinity]}}",
    );
    let begun = Instant::now();
    other.up();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    wait_for_hang(&bin);
    other.down();
    expect_ended(&bin);
    // Killed in the middle of all that, it is still known; the next start pays.
    fs::write(format!("{bin}/recorder"), RECORDER).expect("ours");
    let _ = fs::remove_file(format!("{bin}/calls"));
    other.up();
    eventually("DEL is made up for", || (calls(&bin) == ["DEL eth0 "]).then_some(()));
    other.down();
    project.down();
    assert_eq!(calls(&bin).len(), 1, "and once");
}

fn run_takes_the_name_of_a_list(sandbox: &Sandbox) {
    let bin = recorder(sandbox);
    let list = sandbox.dir().join("lists");
    fs::create_dir(&list).expect("ours");
    sandbox.set_env("MYDOCKER_CNI_CONF_DIR", list.as_os_str());
    let run = ["run", "--network", "recorded", "root_fs", "true"];
    sandbox.mydocker(&run).refused(125, &["recorded", "cni-conf-dir"]);
    let conf = list.join("50-any.conflist");
    fs::write(&conf, r#"{"cniVersion": "1.1.0", "name": "recorded", "plugins": [{"type": "recorder"}]}"#)
        .expect("ours");
    sandbox.mydocker(&run).ok();
    assert_eq!(calls(&bin), ["ADD eth0 netns", "DEL eth0 netns"]);
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "", "it goes with the last that is on it");
    let path = conf.display().to_string();
    sandbox.mydocker(&["run", "--network", &path, "root_fs", "true"]).ok();
    assert_eq!(calls(&bin).len(), 4);
    // What somebody made by hand stays.
    sandbox.mydocker(&["network", "create", "--driver", "cni", "recorded"]).ok();
    sandbox.mydocker(&run).ok();
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "recorded\n");
    sandbox.mydocker(&["network", "rm", "recorded"]).ok();
    sandbox
        .mydocker(&["run", "--network", "recorded", "-p", "8095:80", "root_fs", "true"])
        .refused(125, &["portMappings"]);
    fs::write(&conf, "{").expect("ours");
    sandbox.mydocker(&["run", "--network", "50-any", "root_fs", "true"]).refused(125, &["50-any.conflist"]);
    sandbox.mydocker(&run).refused(125, &["recorded", "50-any.conflist"]);
    assert_eq!(sandbox.mydocker(&["network", "ls", "-q"]).ok().stdout, "");
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
    let ours = sandbox.spawn_shell("exec sleep 1000");
    let pid = |running: &crate::support::Running| running.pid().to_string();
    let own = fs::read_link("/proc/self/ns/net").expect("proc");
    for running in [&one, &two, &ours] {
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
    let told = sandbox.mydocker(&["network", "attach", "--pid", &pid(&ours)]);
    told.refused(2, &["our own network namespace", "unshare --net"]);
    for running in [one, two, ours] {
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
    sandbox.mydocker(&add).refused(1, &["c1", "eth0", "cni del"]);
    // What cannot be attached never takes another's attachment away, and nothing of it stays.
    for (ns, id, told) in [("/proc/self/ns/net", "c1", "own"), ("/etc/passwd", "c9", "no network namespace")] {
        sandbox.mydocker(&["cni", "add", "--netns", ns, "--container-id", id, &conf]).refused(1, &[ns, told]);
    }
    sandbox
        .mydocker(&["cni", "add", "--netns", &netns, "--container-id", "c1", "--args", "x", &conf])
        .refused(1, &["`x`"]);
    sandbox.mydocker(&["cni", "del", "--container-id", "c9"]).refused(1, &["c9", "--container-id"]);
    assert_eq!(calls(&bin), ["ADD eth0 netns"]);
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
