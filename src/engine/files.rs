//! The files of one container on the host: overlay directories and the three files below /etc that engines generate.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::container::{ContainerError, ContainerPaths};
use crate::network::dns;
use crate::spec::{ContainerId, ContainerRequest, HostAddress, NamespaceSource};
use crate::store::{Directories, StoreError};

/// Says which file of a container could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Its directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layers of its root.
    #[error(transparent)]
    Layers(#[from] ContainerError),
    /// A file or directory in it.
    #[error("write {}", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Says where a container's names are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver<'a> {
    /// By our own server in its network namespace.
    Embedded,
    /// As on the host.
    Host,
    /// As in the container whose network it shares, which has this directory.
    SharedWith(&'a Path),
}

/// The three files below /etc that we generate.
const GENERATED: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Says where a container stands on its networks, for its /etc/hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Its own, in the order of its interfaces.
    pub own: Vec<IpAddr>,
    /// The host's, as the container reaches it: the gateway of its first bridge.
    pub host: Option<IpAddr>,
}

impl Addresses {
    /// Before any network is attached only a container without a network namespace of its own knows where the host is.
    fn without_networks(namespace: &NamespaceSource) -> Self {
        let host = (*namespace == NamespaceSource::Host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Self { own: Vec::new(), host }
    }

    /// Names what was asked to lead to the host and cannot, as a warning.
    pub fn missing_host(&self, request: &ContainerRequest) -> Option<String> {
        let asked: Vec<&str> = request
            .extra_hosts
            .iter()
            .filter(|(_, address)| *address == HostAddress::HostGateway)
            .map(|(name, _)| name.as_str())
            .collect();
        let known = self.host.is_some() || request.namespaces.network == NamespaceSource::Host;
        (!asked.is_empty() && !known).then(|| {
            format!(
                "{} has no line for {} in its /etc/hosts: `host-gateway` is the gateway of its first bridge, and it is on none",
                request.name,
                asked.join(", ")
            )
        })
    }
}

/// Is the directory of one container, `<data>/containers/<id>`.
#[derive(Clone, Debug)]
pub struct ContainerFiles {
    directory: PathBuf,
}

impl ContainerFiles {
    /// Names the directory without making it.
    pub fn of(dirs: &Directories, id: &ContainerId) -> Self {
        Self { directory: dirs.container(id.as_str()) }
    }

    /// Names a directory of the same form that is no container's.
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes the directory and all in it that is not there yet.
    ///
    /// # Errors
    /// [`FilesError`] with the path.
    pub fn create(dirs: &Directories, request: &ContainerRequest, resolver: Resolver<'_>) -> Result<Self, FilesError> {
        let files = Self { directory: dirs.create_container(request.id.as_str())? };
        files.paths().create(&request.rootfs)?;
        let resolv_conf = match resolver {
            Resolver::SharedWith(owner) => {
                files.share(owner)?;
                return Ok(files);
            }
            Resolver::Host => dns::plain_resolv_conf(&host_resolv_conf(), &request.dns),
            // Behind our own server the host's search list stays and its servers go.
            Resolver::Embedded => dns::resolv_conf(&host_resolv_conf(), &request.dns),
        };
        files.write("hostname", &format!("{}\n", request.hostname))?;
        files.write("resolv.conf", &resolv_conf)?;
        files.write_hosts(request, &Addresses::without_networks(&request.namespaces.network))?;
        Ok(files)
    }

    /// Has the three files in common with another container: they change for both, and stay when either goes.
    fn share(&self, owner: &Path) -> Result<(), FilesError> {
        for name in GENERATED {
            let (path, theirs) = (self.directory.join(name), owner.join(name));
            let linked = match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => fs::hard_link(&theirs, &path),
            };
            let shared = match linked {
                // It lies in another data directory, on another file system.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::copy(&theirs, &path).map(|_| ()),
                other => other,
            };
            shared.map_err(|source| FilesError::Write { path, source })?;
        }
        Ok(())
    }

    /// Removes the directory with all in it.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn remove(self, dirs: &Directories, id: &ContainerId) -> Result<(), FilesError> {
        // Most containers write nothing: then every name is known, and no directory has to be read.
        if self.remove_unwritten().is_ok() { Ok(()) } else { Ok(dirs.remove_container(id.as_str())?) }
    }

    fn remove_unwritten(&self) -> io::Result<()> {
        self.remove_generated()?;
        self.clear_work()?;
        for directory in [&self.work(), &self.upper(), &self.overlay(), &self.directory] {
            fs::remove_dir(directory)?;
        }
        Ok(())
    }

    /// Removes the files that a container has got from us, and may have changed.
    pub(super) fn remove_generated(&self) -> io::Result<()> {
        GENERATED.iter().try_for_each(|name| fs::remove_file(self.directory.join(name)))
    }

    /// Takes away what the kernel leaves in the work directory of a `volatile` overlay.
    pub(super) fn clear_work(&self) -> io::Result<()> {
        let inner = self.work().join("work");
        let mark = inner.join("incompat");
        match fs::remove_file(mark.join("volatile/dirty")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed?;
                fs::remove_dir(mark.join("volatile"))?;
                fs::remove_dir(&mark)?;
                fs::remove_dir(&inner)
            }
        }
    }

    /// Writes /etc/hosts anew, in place: it is bound into the container.
    ///
    /// # Errors
    /// [`FilesError`] with the path.
    pub fn write_hosts(&self, request: &ContainerRequest, addresses: &Addresses) -> Result<(), FilesError> {
        self.write("hosts", &hosts(request, addresses))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), FilesError> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|source| FilesError::Write { path, source })
    }

    /// Names them as the launch plan wants them. The overlay is mounted over the directory that holds its own layers: that
    /// is one directory less to make and remove, and nobody inside needs to see them.
    pub fn paths(&self) -> ContainerPaths {
        ContainerPaths {
            mountpoint: self.overlay(),
            upper: self.upper(),
            work: self.work(),
            hosts: Some(self.directory.join("hosts")),
            hostname: Some(self.directory.join("hostname")),
            resolv_conf: Some(self.directory.join("resolv.conf")),
        }
    }

    /// Returns the directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory that holds the overlay's two.
    pub fn overlay(&self) -> PathBuf {
        self.directory.join("overlay")
    }

    /// Returns the directory that takes all that the container writes.
    pub fn upper(&self) -> PathBuf {
        self.overlay().join("upper")
    }

    /// Returns the directory that overlayfs works in.
    pub fn work(&self) -> PathBuf {
        self.overlay().join("work")
    }
}

fn hosts(request: &ContainerRequest, addresses: &Addresses) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (name, address) in &request.extra_hosts {
        let address = match address {
            HostAddress::Ip(ip) => Some(*ip),
            HostAddress::HostGateway => addresses.host,
        };
        if let Some(address) = address {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    for address in &addresses.own {
        let _ = match &request.domainname {
            Some(domain) => writeln!(text, "{address}\t{host}.{domain} {host}", host = request.hostname),
            None => writeln!(text, "{address}\t{}", request.hostname),
        };
    }
    text
}

fn host_resolv_conf() -> String {
    // A host without the file resolves no names, and neither does its container.
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}
