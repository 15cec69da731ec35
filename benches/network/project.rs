//! Projects of containers that do nothing, with directories and a cgroup parent of their own.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use mydocker::namespaces::network::{in_namespace, open_current};

/// The port of `b` that is published on the host.
pub const PUBLISHED: u16 = 9000;

/// Is a project; dropping it takes it down.
pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// Starts `a` and `b`, for this program to work in their network namespaces.
    pub fn of_two() -> Self {
        let published = format!("ports: ['{PUBLISHED}:{PUBLISHED}']");
        let project = Self::of([("a".to_owned(), String::new()), ("b".to_owned(), published)]);
        project.compose(&["up", "-d"]);
        project
    }

    /// Writes a project of these services, each with what its network is to be.
    pub fn of(services: impl IntoIterator<Item = (String, String)>) -> Self {
        let dir = tempfile::Builder::new().prefix("mydocker-bench-").tempdir().expect("a directory");
        let rootfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("root_fs/build");
        crate::run(rootfs.to_str().expect("UTF-8"), &[dir.path().join("rootfs").to_str().expect("UTF-8")]);
        let service = |(name, network): (String, String)| {
            format!("  {name}: {{image: root_fs, init: true, command: [sleep, infinity], {network}}}\n")
        };
        let yaml = "services:\n".to_owned() + &services.into_iter().map(service).collect::<String>();
        std::fs::write(dir.path().join("compose.yaml"), yaml).expect("our own file");
        Self { dir }
    }

    /// Runs a compose command that must succeed; returns what it prints.
    pub fn compose(&self, words: &[&str]) -> Vec<u8> {
        let dir = self.dir.path();
        let done = Command::new(env!("CARGO_BIN_EXE_mydocker"))
            .args(["compose", "-p", "bench", "-f"])
            .arg(dir.join("compose.yaml"))
            .args(words)
            .env("MYDOCKER_RUN_DIR", dir.join("run"))
            .env("MYDOCKER_DATA_DIR", dir.join("data"))
            .env("MYDOCKER_CGROUP_PARENT", format!("/{}", dir.file_name().expect("named").display()))
            .env("MYDOCKER_ROOTFS", dir.join("rootfs"))
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Opens the network namespace of a service.
    pub fn place(&self, service: &str) -> Place {
        let shown = self.compose(&["ps", "--format", "json", service]);
        let line = shown.split(|byte| *byte == b'\n').next().expect("split gives one at least");
        let row: serde_json::Value = serde_json::from_slice(line).expect("ps prints JSON");
        let pid = row["Pid"].as_i64().expect("ps prints the process");
        Place(File::open(format!("/proc/{pid}/ns/net")).expect("it runs").into())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "-t", "0"]);
    }
}

/// Is a network namespace to work in.
pub struct Place(OwnedFd);

impl Place {
    /// Returns the host's: that of this program.
    pub fn host() -> Self {
        Self(open_current().expect("/proc is mounted"))
    }

    /// Does work inside. Sockets that are made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(self.0.as_fd(), work).expect("a namespace can be entered")
    }

    /// Returns the address that packets out of it carry, which of a container is its own.
    pub fn address(&self) -> Ipv4Addr {
        let towards = |socket: std::net::UdpSocket| {
            // Connecting sends nothing, but has the kernel choose.
            socket.connect("10.0.0.1:9").and_then(|()| socket.local_addr())
        };
        match self.inside(|| std::net::UdpSocket::bind("0.0.0.0:0").and_then(towards)).expect("it has a route").ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => unreachable!("the socket is of IPv4"),
        }
    }

    /// Listens inside, on the published port.
    pub fn listen(&self, address: Ipv4Addr) -> TcpListener {
        self.inside(|| TcpListener::bind(SocketAddr::from((address, PUBLISHED)))).expect("the port is free")
    }
}
