use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// Is the name of a project's socket within its directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// For ourselves alone.
const PRIVATE: u32 = 0o700;
/// Can be passed through, not listed: the root of a user namespace is not our user, and has to reach its own files.
const PASSABLE: u32 = 0o711;
/// Is a volume's content, whose owner the container may change.
const OPEN: u32 = 0o755;

/// Knows where everything of ours lies.
///
/// `run` holds what ends with the boot (sockets, locks, records of what runs), `data` what does not (volumes, logs,
/// writable layers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    run: PathBuf,
    data: PathBuf,
}

impl Directories {
    /// Names the two; nothing is made or looked at yet.
    pub fn new(run: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), data: data.into() }
    }

    /// Makes both with their first level, and refuses those that somebody else could change under us.
    ///
    /// # Errors
    /// [`StoreError::Directory`], [`StoreError::Untrusted`], and [`StoreError::Write`] when nothing can be written.
    pub fn create(&self) -> Result<(), StoreError> {
        for (root, mode) in [(&self.run, PRIVATE), (&self.data, PASSABLE)] {
            make_all(root, mode)?;
            let fd = open_path(root, OFlags::empty()).map_err(|errno| directory_failed(root, errno.into()))?;
            check_owner(root, &metadata(&fd, root)?)?;
        }
        check_way(&self.run)?;
        for directory in [self.run.join("projects"), self.run.join("foreground"), self.networks()] {
            make(&directory, PRIVATE)?;
        }
        for directory in [self.data.join("containers"), self.data.join("volumes")] {
            make(&directory, PASSABLE)?;
        }
        probe_writable(&self.run)
    }

    /// Makes sure of what [`create`](Self::create) makes, for a process that will be over in a moment: where all is
    /// there, it looks once at each of the two and at what leads to the first.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn ensure(&self) -> Result<(), StoreError> {
        // It is made last.
        if !self.data.join("volumes").is_dir() {
            return self.create();
        }
        for root in [&self.run, &self.data] {
            match fs::metadata(root) {
                Ok(found) => check_owner(root, &found)?,
                Err(_) => return self.create(),
            }
        }
        check_way(&self.run)
    }

    /// Returns the run directory.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Returns the data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns `<run>/networks`: leases and locks of networks.
    pub fn networks(&self) -> PathBuf {
        self.run.join("networks")
    }

    /// Returns `<run>/projects/<project>`.
    pub fn project(&self, project: &str) -> PathBuf {
        self.run.join("projects").join(project)
    }

    /// Returns `<data>/containers/<id>`.
    pub fn container(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    /// Returns `<data>/containers/<id>/log`.
    pub fn log(&self, id: &str) -> PathBuf {
        self.container(id).join("log")
    }

    /// Returns `<data>/volumes/<name>/_data`.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.data.join("volumes").join(name).join("_data")
    }

    /// Makes and opens a project's directory. Those above it must be there: see [`Directories::create`].
    ///
    /// # Errors
    /// [`StoreError::Directory`].
    pub fn create_project(&self, project: &str) -> Result<ProjectDirectory, StoreError> {
        check_name(project)?;
        let path = self.project(project);
        make(&path, PRIVATE)?;
        ProjectDirectory::open(&path)
    }

    /// Opens a project's directory; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Directory`] and [`StoreError::Untrusted`].
    pub fn open_project(&self, project: &str) -> Result<Option<ProjectDirectory>, StoreError> {
        match ProjectDirectory::open(&self.project(project)) {
            Err(StoreError::Directory { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Lists the projects that have a directory, sorted.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn projects(&self) -> Result<Vec<String>, StoreError> {
        list(&self.run.join("projects"))
    }

    /// Lists the volumes, sorted.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn volumes(&self) -> Result<Vec<String>, StoreError> {
        list(&self.data.join("volumes"))
    }

    /// Lists the containers that have a directory, sorted.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn containers(&self) -> Result<Vec<String>, StoreError> {
        list(&self.data.join("containers"))
    }

    /// Makes a container's directory and returns its path.
    ///
    /// # Errors
    /// [`StoreError::Directory`].
    pub fn create_container(&self, id: &str) -> Result<PathBuf, StoreError> {
        check_name(id)?;
        let path = self.container(id);
        make(&path, PASSABLE)?;
        Ok(path)
    }

    /// Makes a volume's content directory if it is not there, and returns its path.
    ///
    /// # Errors
    /// [`StoreError::Directory`].
    pub fn create_volume(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_name(name)?;
        let path = self.volume(name);
        if let Some(above) = path.parent() {
            make(above, PASSABLE)?;
        }
        // Only what is new gets a mode: a container may have changed that of its volume.
        if !path.is_dir() {
            make(&path, OPEN)?;
        }
        Ok(path)
    }

    /// Removes a project's directory with all in it; that there is none is no error.
    ///
    /// # Errors
    /// [`StoreError::Remove`].
    pub fn remove_project(&self, project: &str) -> Result<(), StoreError> {
        check_name(project)?;
        remove_tree(&self.project(project))
    }

    /// Removes a container's directory with all in it; that there is none is no error.
    ///
    /// # Errors
    /// [`StoreError::Remove`].
    pub fn remove_container(&self, id: &str) -> Result<(), StoreError> {
        check_name(id)?;
        remove_tree(&self.container(id))
    }

    /// Removes a volume with its content; that there is none is no error.
    ///
    /// # Errors
    /// [`StoreError::Remove`].
    pub fn remove_volume(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        remove_tree(&self.data.join("volumes").join(name))
    }
}

/// Is an open directory of a project.
///
/// A socket's address holds 107 bytes of path (unix(7)); through the descriptor it is short however long the path is.
#[derive(Debug)]
pub struct ProjectDirectory {
    fd: OwnedFd,
    path: PathBuf,
}

impl ProjectDirectory {
    /// Opens a directory that must be ours and no link.
    ///
    /// # Errors
    /// [`StoreError::Directory`] and [`StoreError::Untrusted`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fd = open_path(path, OFlags::NOFOLLOW).map_err(|errno| directory_failed(path, errno.into()))?;
        check_owner(path, &metadata(&fd, path)?)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a short path to a file in it that is good in this process while this value lives.
    pub fn by_descriptor(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{file}", self.fd.as_raw_fd()))
    }

    /// Returns the short path of the project's socket, to bind or to connect to.
    pub fn socket(&self) -> PathBuf {
        self.by_descriptor(CONTROL_SOCKET)
    }
}

impl AsFd for ProjectDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn directory_failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Directory { path: path.to_owned(), source }
}

fn open_path(path: &Path, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | extra, Mode::empty())
}

fn metadata(fd: &OwnedFd, path: &Path) -> Result<Metadata, StoreError> {
    let failed = |source| directory_failed(path, source);
    File::from(fd.try_clone().map_err(failed)?).metadata().map_err(failed)
}

/// Makes a directory and those above it; those above get the usual mode, the last one `mode`.
fn make_all(path: &Path, mode: u32) -> Result<(), StoreError> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(|source| directory_failed(above, source))?;
    }
    make(path, mode)
}

/// Makes one directory; one that is there is left as it is.
fn make(path: &Path, mode: u32) -> Result<(), StoreError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken bits.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        // mkdir(2) looks at the file system's state before it looks whether the name is taken.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|source| directory_failed(path, source))
}

/// Refuses a path that another user made a link at or can put another directory at. Sockets and locks lie there.
fn check_way(path: &Path) -> Result<(), StoreError> {
    let link = fs::symlink_metadata(path).map_err(|source| directory_failed(path, source))?;
    if link.is_symlink() && !is_trusted(link.uid()) {
        return Err(untrusted(path, format!("it is a symbolic link made by user {}", link.uid())));
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = fs::metadata(above).map_err(|source| directory_failed(above, source))?;
    let open_to_all = parent.mode() & 0o002 != 0 && parent.mode() & 0o1000 == 0;
    if open_to_all || !is_trusted(parent.uid()) {
        return Err(untrusted(path, format!("others can replace it through {}", above.display())));
    }
    Ok(())
}

/// Refuses a directory that another user owns or may write to.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), StoreError> {
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(untrusted(path, format!("user {} owns it, and we are user {own}", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        return Err(untrusted(path, format!("others may write to it (mode {:04o})", found.mode() & 0o7777)));
    }
    Ok(())
}

/// Root can change anything anyway.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn untrusted(path: &Path, reason: String) -> StoreError {
    StoreError::Untrusted { path: path.to_owned(), reason }
}

/// Writes one page into a file without a name: that the file system is full or read-only is said before anything starts,
/// and a kill leaves nothing behind.
fn probe_writable(directory: &Path) -> Result<(), StoreError> {
    let mode = Mode::RUSR | Mode::WUSR;
    let written = match rustix::fs::open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(fd) => File::from(fd).write_all(&[0; 4096]),
        // A file system without such files (open(2)): the first record will tell.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    };
    written.map_err(|source| StoreError::Write { path: directory.to_owned(), source })
}

/// Refuses a name that could lead out of the directory it is meant for.
fn check_name(name: &str) -> Result<(), StoreError> {
    let sound = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if sound { Ok(()) } else { Err(StoreError::Name(name.to_owned())) }
}

/// Lists the directories in a directory; what else lies there is not ours.
fn list(directory: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(entry.file_name().into_string().ok().filter(|name| check_name(name).is_ok()));
        }
    }
    found.sort();
    Ok(found)
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(source) if Errno::from_io_error(&source) != Some(Errno::NOENT) => {
            Err(StoreError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directories_are_made_with_their_modes_and_listed() {
        let base = tempfile::tempdir().unwrap();
        let dirs = Directories::new(base.path().join("run/mydocker"), base.path().join("lib/mydocker"));
        dirs.create().unwrap();
        dirs.create().unwrap();
        let (project, id) = ("shop", "0123abcd");
        dirs.create_project(project).unwrap();
        let container = dirs.create_container(id).unwrap();
        let volume = dirs.create_volume("shop_db").unwrap();
        assert_eq!(dirs.log(id), container.join("log"));
        assert!(volume.ends_with("volumes/shop_db/_data"));
        assert_eq!((mode(dirs.run()), mode(&dirs.project(project))), (0o700, 0o700));
        assert_eq!((mode(dirs.data()), mode(&container), mode(&volume)), (0o711, 0o711, 0o755));
        fs::write(dirs.data().join("containers/README"), "not ours").unwrap();
        assert_eq!(dirs.containers().unwrap(), [id]);
        assert_eq!(dirs.projects().unwrap(), [project]);
        assert_eq!(dirs.volumes().unwrap(), ["shop_db"]);
        for _ in 0..2 {
            dirs.remove_project(project).unwrap();
            dirs.remove_container(id).unwrap();
            dirs.remove_volume("shop_db").unwrap();
        }
        assert!(dirs.open_project(project).unwrap().is_none());
        assert!(dirs.projects().unwrap().is_empty());
    }

    #[test]
    fn a_socket_under_a_long_path_can_be_reached() {
        let base = tempfile::tempdir().unwrap();
        let dirs = Directories::new(base.path().join("r".repeat(200)), base.path().join("data"));
        dirs.create().unwrap();
        let server = dirs.create_project("shop").unwrap();
        let _listener = UnixListener::bind(server.socket()).unwrap();
        let client = dirs.open_project("shop").unwrap().unwrap();
        UnixStream::connect(client.socket()).unwrap();
    }

    #[test]
    fn what_others_could_change_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("data");
        let run = base.path().join("run");
        fs::create_dir(&run).unwrap();
        let refused = |why: &str| {
            let error = Directories::new(&run, &data).create().unwrap_err();
            assert!(matches!(&error, StoreError::Untrusted { reason, .. } if reason.contains(why)), "{error}");
            assert!(error.hint().is_some());
        };
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
        refused("may write");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&run, Some(1234), None).unwrap();
        refused("user 1234 owns it");
        std::os::unix::fs::chown(&run, Some(0), None).unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        refused("others can replace it");
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let (real, _) = (base.path().join("real"), fs::rename(&run, base.path().join("real")).unwrap());
        std::os::unix::fs::symlink(&real, &run).unwrap();
        Directories::new(&run, &data).create().unwrap();
        std::os::unix::fs::lchown(&run, Some(1234), None).unwrap();
        refused("link made by user 1234");
    }

    #[test]
    fn a_link_in_place_of_a_project_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let dirs = Directories::new(base.path().join("run"), base.path().join("data"));
        dirs.create().unwrap();
        std::os::unix::fs::symlink("/etc", dirs.project("shop")).unwrap();
        assert!(matches!(dirs.open_project("shop"), Err(StoreError::Directory { .. })));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let dirs = Directories::new(base.path().join("run"), base.path().join("data"));
        dirs.create().unwrap();
        for name in ["", "..", ".", "a/../../..", "/etc", "a\0b"] {
            assert!(matches!(dirs.remove_container(name), Err(StoreError::Name(_))), "{name}");
            assert!(matches!(dirs.create_volume(name), Err(StoreError::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("file"), "").unwrap();
        let error = Directories::new(base.path().join("file/run"), base.path().join("data")).create().unwrap_err();
        assert!(error.hint().unwrap().contains("in the way"), "{error:?}");
    }
}
