//! The file that this process runs from, in a form that no container can write to.
//!
//! A program in a container that is made to execute `/proc/self/exe` while it is still a fork of ours runs our binary in there, and gets
//! a descriptor of its file; as root it could overwrite the host's (CVE-2019-5736). Through a read-only mount that is attached nowhere,
//! no way leads back to the file, and nobody can change that mount; where mounts are refused, a sealed copy in memory is as good.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::monotonic_nanoseconds;
use super::mount::{MountChange, RDONLY, change_mount};
use super::process::execute_file;

const OWN: &str = "/proc/self/exe";
/// Tells the new program when the old one began.
const BEGAN: &str = "MYDOCKER_BEGAN";

/// Says whether nobody can write to the file through what this process runs from.
///
/// # Errors
/// /proc does not tell.
pub fn is_sealed() -> io::Result<bool> {
    // What it runs from stays what it is until the next execve(2).
    static SEALED: AtomicBool = AtomicBool::new(false);
    if SEALED.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let sealed = look_whether_sealed()?;
    SEALED.store(sealed, Ordering::Relaxed);
    Ok(sealed)
}

fn look_whether_sealed() -> io::Result<bool> {
    let path = std::fs::read_link(OWN)?;
    // A mount that is attached nowhere has its file at its own root.
    if path == Path::new("/") {
        return Ok(rustix::fs::statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY));
    }
    if !path.as_os_str().as_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let seals = rustix::fs::fcntl_get_seals(File::open(OWN)?);
    Ok(seals.is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Executes this program anew, with the same arguments and environment, from a form of its file that nobody can write to; returns
/// where it runs from one already. With `tells_time` the new program can ask [`take_beginning`].
///
/// # Errors
/// What open_tree(2), memfd_create(2), execve(2) and the like say.
pub fn run_sealed(tells_time: bool) -> io::Result<()> {
    if is_sealed()? {
        // The kernel took the number of a descriptor for its name.
        let name = env::args_os().next().unwrap_or_default();
        let name = Path::new(&name).file_name().map(|name| CString::new(name.to_owned().into_vec()));
        return name.and_then(Result::ok).map_or(Ok(()), |name| Ok(rustix::thread::set_name(&name)?));
    }
    let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
    let args: Vec<_> = env::args_os().map(text).collect::<Result<_, _>>()?;
    let env = env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        text(entry)
    });
    let began = tells_time.then(|| text(format!("{BEGAN}={}", monotonic_nanoseconds()).into()));
    let env: Vec<_> = env.chain(began).collect::<Result<_, _>>()?;
    Err(execute_file(seal()?.as_fd(), &args, &env))
}

/// Returns when [`run_sealed`] was called, in nanoseconds of CLOCK_MONOTONIC, where this program is what came of that, and takes it out of the
/// environment: nobody whom we start is told. Only a process with one thread is answered.
pub fn take_beginning() -> Option<u64> {
    let began = env::var(BEGAN).ok()?.parse().ok()?;
    let threads = std::fs::read_dir("/proc/self/task").ok()?.count();
    if threads != 1 {
        return None;
    }
    // SAFETY: no other thread can read the environment meanwhile; there is none.
    unsafe { env::remove_var(BEGAN) };
    Some(began)
}

/// Opens the program that this process runs from, in a form that nobody can write to: `/proc/self/fd/N` can be executed.
///
/// # Errors
/// What open_tree(2), memfd_create(2) and the like say.
pub fn open_executable() -> io::Result<OwnedFd> {
    if is_sealed()? {
        return Ok(rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    }
    seal()
}

fn seal() -> io::Result<OwnedFd> {
    read_only_clone().or_else(|_| sealed_copy())
}

fn read_only_clone() -> io::Result<OwnedFd> {
    let clone = open_tree(CWD, OWN, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    change_mount(clone.as_fd(), &MountChange { set: RDONLY, ..MountChange::default() })?;
    // The kernel dissolves the mount with the last descriptor that open_tree(2) gave. Until then whoever is root in a mount namespace
    // and has a descriptor of the file may make it writable again; a mount that is no namespace's cannot be changed by anybody.
    let empty_path = OpenTreeFlags::from_bits_retain(AtFlags::EMPTY_PATH.bits());
    Ok(open_tree(clone.as_fd(), "", OpenTreeFlags::OPEN_TREE_CLOEXEC | empty_path)?)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 has a setting by which only what asks for it can be executed; older kernels do not know the flag.
    let made = match rustix::fs::memfd_create(c"mydocker", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"mydocker", flags),
        made => made,
    };
    let mut copy = File::from(made?);
    io::copy(&mut File::open(OWN)?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // A descriptor that is open for writing cannot be executed.
    Ok(File::open(descriptor_path(&OwnedFd::from(copy)))?.into())
}

fn descriptor_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    /// Runs `seen_from_inside` from `executable`.
    fn run_from(executable: &OwnedFd) {
        let path = descriptor_path(executable);
        // exec closes no descriptor before it has found the file.
        let words = ["--exact", "--include-ignored", "sys::executable::tests::seen_from_inside"];
        let output = Command::new(path).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    #[ignore = "other tests start it"]
    fn seen_from_inside() {
        assert!(is_sealed().unwrap());
        // What is sealed need not be made so again.
        run_sealed(false).unwrap();
        open_executable().unwrap();
    }

    #[test]
    fn a_sealed_copy_can_be_executed_and_not_written() {
        assert!(!is_sealed().unwrap());
        let copy = sealed_copy().unwrap();
        let written = File::options().write(true).open(descriptor_path(&copy)).and_then(|mut file| file.write(b"x"));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        run_from(&copy);
    }

    #[test]
    fn a_read_only_clone_can_be_executed_and_not_changed() {
        // Without the right to mount the copy serves.
        let Ok(clone) = read_only_clone() else { return };
        let file = File::open(descriptor_path(&clone)).unwrap();
        let writable = MountChange { clear: RDONLY, ..MountChange::default() };
        change_mount(file.as_fd(), &writable).unwrap_err();
        run_from(&clone);
    }
}
