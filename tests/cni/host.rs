//! A host of its own for each test, a directory of plugins that record what they are told, and containers that are namespaces.

use std::fs;
use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mydocker::namespaces::network::{in_namespace, open_current, raise_loopback_here};
use mydocker::network::{
    AttachRequest, Attachment, DriverKind, NetworkConfig, NetworkError, Networks, PortMapping, Protocol,
};
use mydocker::spec::{Bandwidth, ContainerId};
use serde_json::{Value, json};

/// What the recorder does: it writes down command, environment and input, then does what `TYPE.rc` says, else what is right.
const RECORDER: &str = r#"#!/bin/sh
here=$(dirname "$0"); type=$(basename "$0")
input=$(cat)
if [ "$CNI_COMMAND" != VERSION ]; then
    { echo "$type $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS"; } >>"$here/calls"
    env | sort >"$here/$type.$CNI_COMMAND.env"
    printf %s "$input" >"$here/$type.$CNI_COMMAND.json"
    [ -z "$CNI_NETNS" ] || stat -Lc %i "$CNI_NETNS" >"$here/$type.$CNI_COMMAND.netns"
fi
versions='"0.3.1","0.4.0","1.0.0","1.1.0"'
[ ! -e "$here/$type.rc" ] || . "$here/$type.rc"
case $CNI_COMMAND in
VERSION) echo "{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[$versions]}" ;;
ADD) printf '{"interfaces":[{"name":"host0"},{"name":"%s","mac":"02:00:00:00:00:09","sandbox":"%s"}],
    "ips":[{"address":"10.9.0.7/24","gateway":"10.9.0.1","interface":1,"version":"4"}],"dns":{"domain":"%s.test"}}' "$CNI_IFNAME" "$CNI_NETNS" "$type" ;;
esac
"#;

/// Is what a test has.
pub(crate) struct Host {
    pub(crate) networks: Networks,
    pub(crate) dir: PathBuf,
}

/// Runs `work` as a host of its own.
pub(crate) fn on_a_host<F: Future<Output = ()>>(work: impl FnOnce(Host) -> F + Send + 'static) {
    std::thread::spawn(move || {
        unshare();
        raise_loopback_here().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let networks = Networks::open(&dir.path().join("run")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(Host { networks, dir: dir.path().to_owned() }));
    })
    .join()
    .unwrap();
}

fn unshare() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

impl Host {
    /// The directory of plugins; recorders of these types are put there.
    pub(crate) fn plugins(&self, types: &[&str]) -> PathBuf {
        let bin = self.dir.join("bin");
        fs::create_dir_all(&bin).unwrap();
        for name in types {
            fs::write(bin.join(name), RECORDER).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    /// Says what a recorder does before, or instead of, the usual.
    pub(crate) fn behave(&self, name: &str, script: &str) {
        fs::write(self.dir.join("bin").join(format!("{name}.rc")), script).unwrap();
    }

    /// The calls so far, `TYPE COMMAND` each.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("bin/calls")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    pub(crate) fn forget_calls(&self) {
        let _ = fs::remove_file(self.dir.join("bin/calls"));
    }

    /// What a recorder read at its last call of this command.
    pub(crate) fn input(&self, name: &str, command: &str) -> Value {
        let path = self.dir.join("bin").join(format!("{name}.{command}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join("bin").join(name)).unwrap()
    }

    /// Writes a configuration and returns the network that uses it.
    pub(crate) fn config(&self, list: &Value) -> NetworkConfig {
        let path = self.dir.join("net.conflist");
        fs::write(&path, list.to_string()).unwrap();
        let mut config = NetworkConfig { name: "net".into(), driver: DriverKind::Cni, ..NetworkConfig::default() };
        config.options.insert("conflist".into(), path.display().to_string());
        config.options.insert("cni_path".into(), self.dir.join("bin").display().to_string());
        config.options.insert("timeout".into(), "5".into());
        config
    }

    /// Files of attachments.
    pub(crate) fn cached(&self) -> usize {
        fs::read_dir(self.dir.join("run/networks/cni")).map_or(0, Iterator::count)
    }
}

/// A list of these plugins.
pub(crate) fn list(version: &str, plugins: &[Value]) -> Value {
    json!({"cniVersion": version, "name": "net", "plugins": plugins})
}

pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) netns: OwnedFd,
}

impl Container {
    pub(crate) fn new() -> Self {
        let fresh = std::thread::spawn(|| {
            unshare();
            open_current().unwrap()
        });
        Self { id: ContainerId::generate(), netns: fresh.join().unwrap() }
    }

    pub(crate) fn request(&self) -> AttachRequest<'_> {
        AttachRequest {
            network: "net".into(),
            container: self.id.clone(),
            container_name: "web-1".into(),
            aliases: Vec::new(),
            netns: self.netns.as_fd(),
            ifname: "eth0".parse().unwrap(),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            default_route: true,
            bandwidth: Bandwidth::default(),
            ports: Vec::new(),
            process: None,
        }
    }

    pub(crate) async fn attach(&self, networks: &Networks) -> Result<Attachment, NetworkError> {
        networks.attach(self.request()).await
    }

    pub(crate) fn inside(&self, program: &str, args: &[&str]) -> (bool, String) {
        in_namespace(self.netns.as_fd(), || run(program, args)).unwrap()
    }
}

pub(crate) fn port(host: u16, container: u16) -> PortMapping {
    PortMapping {
        host_ip: None,
        host_port: Some(host),
        host_port_to: None,
        container_port: container,
        protocol: Protocol::Tcp,
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

pub(crate) fn output(program: &str, args: &[&str]) -> String {
    let (good, text) = run(program, args);
    assert!(good, "{program} {args:?}: {text}");
    text
}

/// Links and rules of the host. Chains that are empty and lead nowhere are what some plugins leave once for all.
pub(crate) fn listing() -> String {
    let rules: String = ["filter", "nat"].map(|table| output("iptables", &["-t", table, "-S"])).concat();
    let links = output("ip", &["-o", "link"]);
    let links: Vec<&str> = links.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    format!("{links:?}\n{rules}")
}

pub(crate) fn ping(from: &Container, to: Ipv4Addr) -> bool {
    from.inside("busybox", &["ping", "-c", "1", "-W", "2", &to.to_string()]).0
}

/// Debian's place of the reference plugins.
pub(crate) fn real_plugins() -> &'static Path {
    Path::new("/usr/lib/cni")
}
