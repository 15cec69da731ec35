//! What was attached, with what, and what came of it: one file an attachment, written before the first plugin runs and removed
//! when DEL has worked. DEL needs nothing else: neither the configuration's file nor the namespace.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::capability::RuntimeConfig;
use super::error::CniError;
use super::list::NetworkList;
use super::result::AttachResult;
use super::runtime::Target;
use super::version::SpecVersion;
use crate::store::{self, Durability, Loaded, ProcessIdentity, Record};

/// The file whose bytes are locked, one for each attachment (fcntl(2), "Open file description locks"). It is there for a lock of
/// the whole file by flock(2); the two kinds do not see each other.
const OWNERS: &str = "allocation.lock";
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Is one attachment as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedAttachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// The container's name, for messages.
    pub container_name: String,
    /// The id of the network of ours it belongs to; `None` where somebody attached by hand.
    pub network_id: Option<String>,
    /// The configuration that was used.
    pub list: NetworkList,
    /// The version in which the plugins were spoken to.
    pub version: SpecVersion,
    /// `CNI_NETNS`, as ADD had it.
    pub netns: String,
    /// Its inode.
    pub netns_inode: u64,
    /// The same namespace by another path, since its holder changed.
    #[serde(default)]
    pub netns_now: Option<String>,
    /// `CNI_ARGS`.
    pub args: String,
    /// The capabilities asked for.
    pub runtime: RuntimeConfig,
    /// Where its plugins lay.
    pub plugin_directories: Vec<PathBuf>,
    /// How long each may take, in milliseconds.
    pub limit_ms: u64,
    /// What the last plugin that ran made of it.
    pub result: Option<AttachResult>,
    /// Whether all plugins have run.
    pub is_complete: bool,
    /// Why DEL failed; then it is still owed, and tried again.
    #[serde(default)]
    pub owed: Option<String>,
    /// The plugin at work: whoever was killed meanwhile has not ended that one.
    #[serde(default)]
    pub plugin: Option<ProcessIdentity>,
}

impl Record for CachedAttachment {
    const VERSION: u32 = 1;
}

impl CachedAttachment {
    /// Returns what plugins are told of a namespace at this path; empty: it is gone.
    pub fn target(&self, netns: String) -> Target {
        Target {
            container_id: self.container_id.clone(),
            netns,
            ifname: self.ifname.clone(),
            args: self.args.clone(),
            runtime: self.runtime.clone(),
        }
    }

    /// Says whether both are records of one attachment, and not of a later one in its place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let of = |entry: &Self| (entry.netns.clone(), entry.netns_inode, entry.owed.is_some());
        of(self) == of(other)
    }

    /// Returns the path of the namespace, where it still leads to that one: good enough to ask, not to change anything, because
    /// the kernel gives the number to the next namespace.
    pub fn seen_netns(&self) -> Option<String> {
        let path = self.netns_now.as_ref().unwrap_or(&self.netns);
        let inode = fs::metadata(path).ok()?.ino();
        (inode == self.netns_inode).then(|| path.clone())
    }

    /// Returns the result for a plugin that is told this path: plugins compare the two.
    pub fn result_for(&self, target: &Target) -> Option<AttachResult> {
        let mut result = self.result.clone()?;
        for interface in result.interfaces.iter_mut().filter(|_| !target.netns.is_empty()) {
            if interface.sandbox.as_ref() == Some(&self.netns) {
                interface.sandbox = Some(target.netns.clone());
            }
        }
        Some(result)
    }
}

/// Is the directory of attachments, made with the first of them.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pub(super) directory: PathBuf,
    /// ADD and DEL share it, GC has it alone (SPEC.md section 3, "Lifecycle & Ordering").
    pub(super) lock: PathBuf,
}

impl Cache {
    pub(super) fn list(&self) -> Result<Vec<CachedAttachment>, CniError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.failed("list", source)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.failed("list", source))?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                found.extend(load(&path)?);
            }
        }
        found.sort_by(|a: &CachedAttachment, b| (&a.container_id, &a.ifname).cmp(&(&b.container_id, &b.ifname)));
        Ok(found)
    }

    pub(super) fn find(&self, container: &str, ifname: &str) -> Result<Option<CachedAttachment>, CniError> {
        load(&self.path(container, ifname))
    }

    pub(super) fn write(&self, attachment: &CachedAttachment) -> Result<(), CniError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| self.failed("make", source))?;
        let path = self.path(&attachment.container_id, &attachment.ifname);
        Ok(store::write_record(&path, attachment, Durability::Process)?)
    }

    pub(super) fn remove(&self, attachment: &CachedAttachment) -> Result<(), CniError> {
        store::remove(&self.path(&attachment.container_id, &attachment.ifname))?;
        // The last one takes the directory along; a writer that comes just then makes it anew or fails and says so.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }

    /// Takes one attachment for oneself, over all processes: DEL by who read the record of an earlier one would take the
    /// interface of the one that has been made since.
    pub(super) async fn own(&self, container: &str, ifname: &str) -> Result<File, CniError> {
        let path = self.lock.join(OWNERS);
        let failed = |source| CniError::Cache { operation: "lock", path: path.clone(), source };
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        // A byte for each attachment; two that share one wait for each other, and that is all.
        let digest = Sha256::digest(format!("{container}@{ifname}"));
        let byte = digest.iter().take(7).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
        let range = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
                Ok(_) => return Ok(file),
                // No thread waits in the kernel: nobody could call it back.
                Err(Errno::EAGAIN | Errno::EACCES) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// Waits for the lock: shared for ADD and DEL, alone for GC.
    pub(super) async fn lock(&self, alone: bool) -> Result<File, CniError> {
        let failed = |source| CniError::Cache { operation: "lock", path: self.lock.clone(), source };
        // The directory itself: no file has to stay for it (flock(2)).
        let file = File::open(&self.lock).map_err(failed)?;
        let (at_once, waiting) = if alone {
            (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive)
        } else {
            (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared)
        };
        if rustix::fs::flock(&file, at_once).is_ok() {
            return Ok(file);
        }
        let locked = tokio::task::spawn_blocking(move || rustix::fs::flock(&file, waiting).map(|()| file)).await;
        locked.map_err(|_| failed(io::Error::other("the waiting thread ended")))?.map_err(|errno| failed(errno.into()))
    }

    /// A container's id has no `@`, so no two attachments have one name.
    fn path(&self, container: &str, ifname: &str) -> PathBuf {
        self.directory.join(format!("{container}@{ifname}.json"))
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> CniError {
        CniError::Cache { operation, path: self.directory.clone(), source }
    }
}

fn load(path: &Path) -> Result<Option<CachedAttachment>, CniError> {
    match store::load_record(path)? {
        Loaded::Record(attachment) => Ok(Some(attachment)),
        Loaded::Absent => Ok(None),
        Loaded::SetAside { moved_to, reason } => {
            tracing::warn!(path = %path.display(), aside = %moved_to.display(), %reason, "damaged CNI attachment moved aside");
            Ok(None)
        }
    }
}
