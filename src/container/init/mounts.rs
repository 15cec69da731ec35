//! The steps on the tree that need more than one call into `namespaces::mount`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::failure::StepError;
use super::stage::Stage;
use crate::container::checks::sysctl_path;
use crate::container::plan::{Role, SecurityLabel};
use crate::namespaces::mount::{
    Device, DeviceKind, FilesystemMount, IdMappedLayers, Overlay, Parents, TargetKind, bind_node, open_plain,
    open_target,
};
use crate::sys::process::{open_terminal_peer, terminal_number};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_current_root() -> Result<OwnedFd, StepError> {
    Ok(rustix::fs::openat(CWD, "/", DIRECTORY, Mode::empty())?)
}

/// Mounts the overlay over its layers, id-mapped where the parent sent such.
pub(super) fn mount_overlay(stage: &mut Stage, overlay: &Overlay) -> Result<OwnedFd, StepError> {
    if !stage.descriptors.iter().any(|(role, _)| *role == Role::LowerLayer) {
        return Ok(overlay.mount()?);
    }
    let (lower, upper) = (stage.take(&Role::LowerLayer)?, stage.take(&Role::UpperLayer)?);
    let mountpoint = stage.mountpoint.take().ok_or_else(|| StepError::unexpected("the mountpoint was not opened"))?;
    let layers = IdMappedLayers { mountpoint: mountpoint.as_fd(), lower: lower.as_fd(), upper: upper.as_fd() };
    Ok(overlay.mount_id_mapped(&layers)?)
}

/// Mounts a file system. sysfs belongs to the owner of the network namespace: where that is not ours (`network: host`
/// under a user namespace), the host's is bound, which shows the same.
///
/// proc belongs to the process namespace in the same way. The result is the mount, where it is a new one.
pub(super) fn mount(
    root: BorrowedFd<'_>,
    mount: &FilesystemMount,
    parents: &mut Parents,
) -> Result<Option<OwnedFd>, StepError> {
    let host = match mount.fstype.as_str() {
        "sysfs" => Some("/sys"),
        "proc" => Some("/proc"),
        _ => None,
    };
    match (mount.mount(root, parents), host) {
        (Ok(mount), _) => Ok(Some(mount)),
        (Err(error), Some(host)) if is_refused(&error) => {
            mount.bind_host(root, Path::new(host))?;
            *parents = Parents::default();
            Ok(None)
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// Makes a device node, or binds the host's where we may not make any.
pub(super) fn make_device(root: BorrowedFd<'_>, device: &Device, parents: &mut Parents) -> Result<(), StepError> {
    match device.make(root, parents) {
        Err(error) if is_refused(&error) && device.kind != DeviceKind::Fifo => Ok(device.bind(root)?),
        result => Ok(result?),
    }
}

fn is_refused(error: &crate::namespaces::mount::MountError) -> bool {
    error.cause().and_then(std::io::Error::raw_os_error) == Some(libc::EPERM)
}

/// Writes one file below /sys of a proc file system; says whether it is there.
pub(super) fn write_sysctl(proc: BorrowedFd<'_>, key: &str, value: &str, optional: bool) -> Result<bool, StepError> {
    let path = Path::new("sys").join(sysctl_path(key));
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let written = rustix::fs::openat2(proc, &path, flags, Mode::empty(), resolve)
        .and_then(|file| rustix::io::write(file, value.as_bytes()));
    match written {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) if optional => Ok(false),
        Err(Errno::NOENT) => Err(StepError::from(Errno::NOENT).with_hint("this kernel has no such setting")),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a label of this process's, below the proc file system that the kernel answers for.
pub(super) fn write_label(proc: BorrowedFd<'_>, label: &SecurityLabel) -> Result<(), StepError> {
    let pid = rustix::process::getpid().as_raw_nonzero();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let open = |name: &&str| rustix::fs::openat2(proc, format!("{pid}/attr/{name}"), flags, Mode::empty(), resolve);
    let opened = label.attributes().iter().map(open).find(|opened| !matches!(opened, Err(Errno::NOENT)));
    let written = opened.unwrap_or(Err(Errno::NOENT)).and_then(|file| rustix::io::write(file, label.text().as_bytes()));
    written.map(drop).map_err(|errno| {
        let error = StepError::from(errno);
        match (errno, label) {
            (Errno::NOENT, SecurityLabel::Apparmor(_)) => error
                .with_hint("no such profile is loaded: `aa-status` lists them, `apparmor_parser -a FILE` loads one"),
            (Errno::INVAL, SecurityLabel::Selinux(_)) => error.with_hint("the host's policy has no such label"),
            _ => error,
        }
    })
}

/// Opens the working directory inside the root. Links of proc ("magic links") are refused: they lead anywhere.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &Path, make: bool) -> Result<OwnedFd, StepError> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, inside, DIRECTORY, Mode::empty(), resolve) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOENT) if make => {
            let made = open_target(root, path, TargetKind::Directory)?;
            Ok(rustix::fs::openat(&made, ".", DIRECTORY, Mode::empty())?)
        }
        Err(errno) => {
            let error = StepError::from(errno).with_exit_code(126);
            Err(match errno {
                Errno::NOTDIR => error.with_hint("it is a file, or below one"),
                Errno::LOOP => error.with_hint("a link of /proc is on the way, which could lead out of the container"),
                _ => error,
            })
        }
    }
}

/// Opens a new pty: master and other side. It is of the container's own devpts; a container without one gets the host's.
pub(super) fn open_terminal(
    root: BorrowedFd<'_>,
    console: bool,
    size: Option<(u16, u16)>,
) -> Result<(OwnedFd, OwnedFd), StepError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own = rustix::fs::openat2(root, "dev/pts/ptmx", flags, Mode::empty(), resolve);
    let is_own = own.is_ok();
    let master = match own {
        // Before the root is entered this is the host's.
        Err(Errno::NOENT | Errno::NOTDIR) => rustix::fs::openat(CWD, "/dev/ptmx", flags, Mode::empty()),
        other => other,
    };
    let master = master.map_err(|errno| StepError::from(errno).with_object("/dev/pts/ptmx"))?;
    let terminal = open_terminal_peer(master.as_fd())?;
    if let Some((rows, columns)) = size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size)?;
    }
    if console {
        let node = match is_own {
            true => {
                let path = format!("/dev/pts/{}", terminal_number(master.as_fd())?);
                open_plain(root, Path::new(&path), TargetKind::File)?
            }
            false => terminal.try_clone()?,
        };
        let target = open_plain(root, Path::new("/dev/console"), TargetKind::File)?;
        bind_node(node.as_fd(), target.as_fd(), Path::new("/dev/console"))?;
        rustix::fs::fchmod(&terminal, Mode::from_raw_mode(0o600))?;
    }
    Ok((master, terminal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_into_our_own_file_and_through_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let attributes = directory.path().join(format!("{}/attr", std::process::id()));
        std::fs::create_dir_all(attributes.join("apparmor")).unwrap();
        let proc = std::fs::File::open(directory.path()).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        let read = |name: &str| std::fs::read_to_string(attributes.join(name)).unwrap();
        let clear = |name: &str| std::fs::write(attributes.join(name), "").unwrap();
        let profile = SecurityLabel::Apparmor("web".to_owned());
        ["apparmor/exec", "exec", "keycreate"].into_iter().for_each(clear);
        write_label(proc.as_fd(), &profile).unwrap();
        write_label(proc.as_fd(), &SecurityLabel::Selinux("a:b:c".to_owned())).unwrap();
        write_label(proc.as_fd(), &SecurityLabel::SelinuxKeys("a:b:d".to_owned())).unwrap();
        assert_eq!(
            (read("apparmor/exec"), read("exec"), read("keycreate")),
            ("exec web".into(), "a:b:c".into(), "a:b:d".into())
        );
        // Before Linux 5.8 there is one file for all modules.
        std::fs::remove_dir_all(attributes.join("apparmor")).unwrap();
        clear("exec");
        write_label(proc.as_fd(), &profile).unwrap();
        assert_eq!(read("exec"), "exec web");
        std::fs::write(&elsewhere, "unchanged").unwrap();
        std::fs::remove_file(attributes.join("exec")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, attributes.join("exec")).unwrap();
        let error = write_label(proc.as_fd(), &profile).unwrap_err();
        assert_eq!(
            (error.errno, std::fs::read_to_string(&elsewhere).unwrap()),
            (Some(libc::ELOOP), "unchanged".to_owned())
        );
        std::fs::remove_file(attributes.join("exec")).unwrap();
        let error = write_label(proc.as_fd(), &profile).unwrap_err();
        assert!(error.errno == Some(libc::ENOENT) && error.hint.unwrap().contains("aa-status"));
    }
}
