//! The runtime's directory: one directory a container, found and locked by its id.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Container, ContainerRecord, OciError, OciId};
use crate::store::{Durability, FileLock, StoreError, read_record, write_json_atomic, write_record};

/// So long a command waits for another that works on the same container.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a lock.
pub(super) const LOOK: Duration = Duration::from_millis(2);

pub(in crate::engine) const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const LOCK: &str = "lock";
const SOCKET: &str = "start.sock";

/// Is the directory of all containers of one runtime (`--root`).
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

/// Is the directory of one container.
#[derive(Clone, Debug)]
pub struct ContainerDirectory {
    id: OciId,
    path: PathBuf,
}

/// Is what a runtime's directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The containers.
    pub containers: Vec<Container>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

impl StateRoot {
    /// Names the directory; nothing is looked at.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes a container's directory, locked. One in which nobody had come as far as a record is taken over.
    ///
    /// # Errors
    /// [`OciError::Exists`].
    pub fn claim(&self, id: &OciId) -> Result<(ContainerDirectory, FileLock), OciError> {
        let private = |recursive| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(recursive);
            builder
        };
        private(true).create(&self.0).map_err(file("make", &self.0))?;
        let directory = self.directory(id);
        loop {
            match private(false).create(&directory.path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if directory.has_record() {
                        return Err(OciError::Exists(id.to_string()));
                    }
                }
                Err(source) => return Err(file("make", &directory.path)(source)),
            }
            match FileLock::try_acquire(&directory.path.join(LOCK)) {
                Ok(lock) if !directory.has_record() => return Ok((directory, lock)),
                Ok(_) | Err(StoreError::Locked { .. }) => return Err(OciError::Exists(id.to_string())),
                // Removed by somebody else between the two calls.
                Err(StoreError::Lock { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Finds a container's directory and what is recorded of it.
    ///
    /// # Errors
    /// [`OciError::Unknown`] where there is none, or nothing was made of it but the directory.
    pub fn find(&self, id: &OciId) -> Result<(ContainerDirectory, ContainerRecord), OciError> {
        let directory = self.directory(id);
        match directory.record()? {
            Some(record) => Ok((directory, record)),
            None => Err(OciError::Unknown(id.to_string())),
        }
    }

    /// Names a container's directory, whether it is there or not.
    pub fn directory(&self, id: &OciId) -> ContainerDirectory {
        ContainerDirectory { id: id.clone(), path: self.0.join(id.file_name()) }
    }

    /// Lists the containers, by their ids. What cannot be read is left out with a warning.
    ///
    /// # Errors
    /// [`OciError::File`].
    pub fn list(&self) -> Result<Listing, OciError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(source) => return Err(file("list", &self.0)(source)),
        };
        let mut listing = Listing::default();
        for entry in entries.flatten() {
            match read_record::<ContainerRecord>(&entry.path().join(RECORD)) {
                Ok(Some(record)) => {
                    let directory = ContainerDirectory { id: record.id.clone(), path: entry.path() };
                    listing.containers.push(Container { directory, record });
                }
                Ok(None) => {}
                Err(error) => listing.warnings.push(OciError::from(error).line()),
            }
        }
        listing.containers.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(listing)
    }
}

impl ContainerDirectory {
    /// Returns the container's id.
    pub fn id(&self) -> &OciId {
        &self.id
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has_record(&self) -> bool {
        self.path.join(RECORD).exists()
    }

    /// Reads the record; `None` where there is none.
    ///
    /// # Errors
    /// [`OciError::Store`] where it is damaged or a later version's.
    pub fn record(&self) -> Result<Option<ContainerRecord>, OciError> {
        Ok(read_record(&self.path.join(RECORD))?)
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// [`OciError::Store`].
    pub fn write_record(&self, record: &ContainerRecord) -> Result<(), OciError> {
        Ok(write_record(&self.path.join(RECORD), record, Durability::Process)?)
    }

    /// Reads the configuration that the container was created with.
    ///
    /// # Errors
    /// [`OciError::File`] and [`OciError::Json`].
    pub fn config(&self) -> Result<Spec, OciError> {
        let path = self.path.join(CONFIG);
        let text = fs::read(&path).map_err(file("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| OciError::Json { path, source })
    }

    /// Keeps the configuration: whatever becomes of the bundle's, this container has this one.
    ///
    /// # Errors
    /// [`OciError::Store`].
    pub fn write_config(&self, spec: &Spec) -> Result<(), OciError> {
        Ok(write_json_atomic(&self.path.join(CONFIG), spec)?)
    }

    /// Locks the container against other commands that change it.
    ///
    /// # Errors
    /// [`OciError::Busy`] where another works on it for too long; [`OciError::Unknown`] where it is gone.
    pub fn lock(&self) -> Result<FileLock, OciError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match FileLock::try_acquire(&self.path.join(LOCK)) {
                Ok(lock) => return Ok(lock),
                Err(StoreError::Locked { holder, .. }) if Instant::now() >= deadline => {
                    return Err(OciError::Busy { id: self.id.to_string(), holder });
                }
                Err(StoreError::Locked { .. }) => std::thread::sleep(LOOK),
                Err(StoreError::Lock { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(OciError::Unknown(self.id.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the socket at which the container's process will wait for `start`.
    ///
    /// # Errors
    /// [`OciError::Kernel`].
    pub fn listen(&self) -> Result<OwnedFd, OciError> {
        let failed = |errno: Errno| OciError::kernel("make the socket for `start`")(errno.into());
        let socket = unix_socket().map_err(failed)?;
        let (_directory, address) = self.socket_address()?;
        match rustix::net::bind(&socket, &address) {
            // Left by a `create` that was killed.
            Err(Errno::ADDRINUSE) => {
                fs::remove_file(self.path.join(SOCKET)).map_err(file("remove", &self.path))?;
                rustix::net::bind(&socket, &address).map_err(failed)?;
            }
            bound => bound.map_err(failed)?,
        }
        rustix::net::listen(&socket, 16).map_err(failed)?;
        Ok(socket)
    }

    /// Connects to the container's process; `None` where it does not wait for `start`: it has executed its program, or ended.
    ///
    /// # Errors
    /// [`OciError::Kernel`].
    pub fn connect(&self) -> Result<Option<OwnedFd>, OciError> {
        let failed = |errno: Errno| OciError::kernel("connect to the container's process")(errno.into());
        let socket = unix_socket().map_err(failed)?;
        let (_directory, address) = self.socket_address()?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(Some(socket)),
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// An address has room for 107 bytes, a path may have more: it is named through a descriptor of its directory.
    fn socket_address(&self) -> Result<(File, SocketAddrUnix), OciError> {
        let open = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&self.path);
        let directory = open.map_err(file("open", &self.path))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_fd().as_raw_fd());
        let address = SocketAddrUnix::new(path).map_err(|errno| OciError::kernel("name a socket")(errno.into()))?;
        Ok((directory, address))
    }

    /// Removes everything; the record goes first, for what is left without one is nobody's.
    ///
    /// # Errors
    /// [`OciError::File`].
    pub fn remove(&self) -> Result<(), OciError> {
        for path in [self.path.join(RECORD), self.path.join(LOCK)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(file("remove", &path)(source)),
                _ => {}
            }
        }
        match fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file("remove", &self.path)(source)),
            _ => Ok(()),
        }
    }
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// Makes an error of a call on one file.
pub(super) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OciError {
    let path = path.to_owned();
    move |source| OciError::File { operation, path, source }
}
