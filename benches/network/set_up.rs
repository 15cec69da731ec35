//! Attaching one container to a network and taking it off again, beside the reference CNI plugins and netavark.
//!
//! Ours is called as the supervisor calls it, within a process that lives; plugins and netavark are programs, as their engines start
//! them. All take turns, each with a fresh network namespace; namespaces are made and dropped outside the measured time.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mydocker::namespaces::network::open_current;
use mydocker::network::{AttachRequest, NetworkConfig, Networks, PortMapping, Protocol};
use mydocker::spec::ContainerId;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::percentile;

/// The port that each publishes in turn.
const PORT: u16 = 8090;

/// Measures all that are installed and prints two tables.
pub fn measure(runs: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    for publishes in [false, true] {
        let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Ours::open(dir.path(), publishes))];
        match Chain::find(dir.path(), publishes) {
            Some(chain) => contenders.push(Box::new(chain)),
            None => println!("the reference CNI plugins are not installed"),
        }
        match Netavark::find(dir.path(), publishes) {
            Some(netavark) => contenders.push(Box::new(netavark)),
            None => println!("netavark is not installed"),
        }
        table(runs, publishes, &contenders);
        for contender in contenders {
            contender.end();
        }
    }
}

fn table(runs: usize, publishes: bool, contenders: &[Box<dyn Contender>]) {
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    // The first turn makes the bridge and fills caches; it does not count.
    for turn in 0..=runs {
        for (contender, (there, back)) in contenders.iter().zip(&mut times) {
            let container = Container { id: ContainerId::generate(), netns: fresh_namespace() };
            let begun = Instant::now();
            contender.attach(&container);
            let attached = begun.elapsed();
            let begun = Instant::now();
            contender.detach(&container);
            if turn > 0 {
                there.push(attached);
                back.push(begun.elapsed());
            }
        }
    }
    let what = if publishes { "one published port" } else { "no published port" };
    println!("\none container, {what}, {runs} times each; ms");
    println!("{:<44} {:>24}          {:>24}", "", "attach", "detach");
    println!(
        "{:<44} {:>8} {:>7} {:>7} {:>6}   {:>8} {:>7} {:>7} {:>6}",
        "", "min", "median", "p95", "ratio", "min", "median", "p95", "ratio"
    );
    let first = times.first_mut().map(|(there, back)| (median(there), median(back))).expect("ours is there");
    for (contender, (there, back)) in contenders.iter().zip(&mut times) {
        println!("{:<44} {}   {}", contender.name(), columns(there, first.0), columns(back, first.1));
    }
}

fn columns(times: &mut [Duration], yardstick: Duration) -> String {
    let median = median(times);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let ratio = median.as_secs_f64() / yardstick.as_secs_f64();
    let (least, late) = (millis(percentile(times, 0.0)), millis(percentile(times, 95.0)));
    format!("{least:>8.2} {:>7.2} {late:>7.2} {ratio:>6.1}", millis(median))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    percentile(times, 50.0)
}

fn fresh_namespace() -> OwnedFd {
    let born = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
        open_current().expect("/proc is mounted")
    });
    born.join().expect("it ends")
}

struct Container {
    id: ContainerId,
    netns: OwnedFd,
}

impl Container {
    /// Names the namespace for another process.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())
    }
}

/// Is who attaches containers.
trait Contender {
    fn name(&self) -> &str;
    fn attach(&self, container: &Container);
    fn detach(&self, container: &Container);
    /// Leaves nothing behind that would be in the way of the next table.
    fn end(&self) {}
}

struct Ours {
    networks: Networks,
    runtime: Runtime,
    ports: Vec<PortMapping>,
}

impl Ours {
    fn open(dir: &Path, publishes: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let networks = Networks::open(&dir.join("run")).expect("a run directory");
        let config = NetworkConfig { name: "bench".to_owned(), ..NetworkConfig::default() };
        runtime.block_on(networks.ensure(&config)).expect("a network");
        let port = PortMapping {
            host_ip: None,
            host_port: Some(PORT),
            host_port_to: None,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        Self { networks, runtime, ports: publishes.then_some(port).into_iter().collect() }
    }
}

impl Contender for Ours {
    fn name(&self) -> &str {
        "mydocker"
    }

    fn attach(&self, container: &Container) {
        let request = AttachRequest {
            network: "bench".to_owned(),
            container: container.id.clone(),
            container_name: "bench".to_owned(),
            aliases: Vec::new(),
            netns: container.netns.as_fd(),
            ifname: "eth0".parse().expect("a good name"),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            default_route: true,
            bandwidth: mydocker::spec::Bandwidth::default(),
            ports: self.ports.clone(),
            process: None,
        };
        self.runtime.block_on(self.networks.attach(request)).expect("it attaches");
    }

    fn detach(&self, container: &Container) {
        self.runtime.block_on(self.networks.detach("bench", &container.id)).expect("it detaches");
    }

    fn end(&self) {
        self.runtime.block_on(self.networks.remove("bench")).expect("nobody uses it");
    }
}

/// Is the chain of plugins that engines use with CNI, called as the specification has it and with nothing around that.
struct Chain {
    directory: PathBuf,
    plugins: Vec<Value>,
}

impl Chain {
    fn find(dir: &Path, publishes: bool) -> Option<Self> {
        let directories = ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from);
        let directory = directories.into_iter().find(|directory| directory.join("bridge").exists())?;
        let runtime = if publishes {
            json!({"portMappings": [{"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}]})
        } else {
            json!({})
        };
        let ipam = json!({
            "type": "host-local",
            "dataDir": dir.join("host-local"),
            "ranges": [[{"subnet": "10.88.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        });
        let plugins = vec![
            json!({"type": "bridge", "bridge": "cni-bench", "isGateway": true, "ipMasq": true, "ipam": ipam}),
            json!({"type": "portmap", "capabilities": {"portMappings": true}, "runtimeConfig": runtime}),
            json!({"type": "firewall"}),
        ];
        Some(Self { directory, plugins })
    }

    fn call(&self, command: &str, plugin: &Value, container: &Container, previous: &Value) -> Value {
        let mut request = plugin.clone();
        request["cniVersion"] = json!("1.0.0");
        request["name"] = json!("bench");
        if !previous.is_null() {
            request["prevResult"] = previous.clone();
        }
        let kind = plugin["type"].as_str().expect("we wrote it");
        let mut call = Command::new(self.directory.join(kind));
        call.env("CNI_COMMAND", command).env("CNI_CONTAINERID", container.id.as_str()).env("CNI_IFNAME", "eth0");
        call.env("CNI_NETNS", container.path()).env("CNI_PATH", &self.directory);
        let said = feed(call, &request.to_string());
        serde_json::from_slice(&said).unwrap_or_default()
    }
}

impl Contender for Chain {
    fn name(&self) -> &str {
        "CNI: bridge, host-local, portmap, firewall"
    }

    fn attach(&self, container: &Container) {
        let add = |previous: Value, plugin: &Value| self.call("ADD", plugin, container, &previous);
        let result = self.plugins.iter().fold(Value::Null, add);
        fs::write(self.result(container), result.to_string()).expect("our own file");
    }

    fn detach(&self, container: &Container) {
        let kept = fs::read(self.result(container)).expect("ADD was before it");
        let result = serde_json::from_slice(&kept).expect("we wrote it");
        for plugin in self.plugins.iter().rev() {
            self.call("DEL", plugin, container, &result);
        }
    }
}

impl Chain {
    /// Names the file in which a runtime has to keep the result for DEL.
    fn result(&self, container: &Container) -> PathBuf {
        let kept = self.plugins[0]["ipam"]["dataDir"].as_str().expect("we wrote it");
        Path::new(kept).with_file_name(container.id.as_str())
    }
}

/// Is podman's program for networks. The engine chooses addresses for it.
struct Netavark {
    program: PathBuf,
    file: PathBuf,
}

impl Netavark {
    fn find(dir: &Path, publishes: bool) -> Option<Self> {
        let places = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"].map(PathBuf::from);
        let program = places.into_iter().find(|place| place.exists())?;
        let port = json!({"host_ip": "", "host_port": PORT, "container_port": 80, "protocol": "tcp", "range": 1});
        let settings = json!({
            "container_id": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "container_name": "bench",
            "networks": {"bench": {"interface_name": "eth0", "static_ips": ["10.89.0.2"]}},
            "network_info": {"bench": {
                "name": "bench",
                "id": "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e",
                "driver": "bridge",
                "network_interface": "podman-bench",
                "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}],
                "ipv6_enabled": false,
                "internal": false,
                "dns_enabled": false,
                "ipam_options": {"driver": "host-local"},
            }},
            "port_mappings": publishes.then_some(port).into_iter().collect::<Vec<_>>(),
        });
        let file = dir.join("netavark.json");
        fs::write(&file, settings.to_string()).expect("our own file");
        Some(Self { program, file })
    }

    fn call(&self, command: &str, container: &Container) {
        let mut call = Command::new(&self.program);
        call.arg("--config").arg(self.file.with_file_name("netavark")).arg("--file").arg(&self.file);
        call.arg(command).arg(container.path());
        feed(call, "");
    }
}

impl Contender for Netavark {
    fn name(&self) -> &str {
        "netavark"
    }

    fn attach(&self, container: &Container) {
        self.call("setup", container);
    }

    fn detach(&self, container: &Container) {
        self.call("teardown", container);
    }
}

/// Runs a program that must succeed; returns what it prints.
fn feed(mut call: Command, input: &str) -> Vec<u8> {
    let mut child = call
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{call:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(input.as_bytes()).unwrap_or_else(|error| panic!("{call:?}: {error}"));
    drop(stdin);
    let done = child.wait_with_output().expect("it is our child");
    let words = || String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{call:?}: {}", words());
    done.stdout
}
