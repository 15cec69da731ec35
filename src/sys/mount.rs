//! mount_setattr(2), which neither of our system-call crates has.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes a mount read-only.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Ignores set-user-id bits and file capabilities.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Refuses device nodes.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Refuses the execution of programs.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// The bits of `struct mount_attr`, lowest first. The access time is a number among them: 0 is relatime, which has no name here.
const NAMES: [(u64, &str); 9] = [
    (RDONLY, "MOUNT_ATTR_RDONLY"),
    (NOSUID, "MOUNT_ATTR_NOSUID"),
    (NODEV, "MOUNT_ATTR_NODEV"),
    (NOEXEC, "MOUNT_ATTR_NOEXEC"),
    (libc::MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
    (libc::MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
    (libc::MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
    (libc::MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"),
];

/// Writes `MOUNT_ATTR_*` bits as a program in C does; `0` for none.
pub fn attribute_names(bits: u64) -> String {
    let (whole, bits) = match bits & libc::MOUNT_ATTR__ATIME {
        libc::MOUNT_ATTR__ATIME => (Some("MOUNT_ATTR__ATIME"), bits & !libc::MOUNT_ATTR__ATIME),
        _ => (None, bits),
    };
    let set = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    let names: Vec<&str> = set.chain(whole).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

/// Says what is to change about a mount (`struct mount_attr`).
#[derive(Clone, Copy, Debug, Default)]
pub struct MountChange<'a> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear, before those are set.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to leave the propagation type.
    pub propagation: u64,
    /// A user namespace whose maps the mount is to show ids through (MOUNT_ATTR_IDMAP, Linux 5.12).
    pub id_map: Option<BorrowedFd<'a>>,
    /// Changes the mounts below it too: all or none.
    pub recursive: bool,
}

/// Changes the mount behind `mount`, which is the root of it (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// EINVAL where `mount` is not a mount's root or the file system cannot be id-mapped; EPERM without CAP_SYS_ADMIN.
pub fn change_mount(mount: BorrowedFd<'_>, change: &MountChange<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set | if change.id_map.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: change.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attributes` a whole struct mount_attr of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
