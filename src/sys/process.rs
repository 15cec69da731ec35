//! What a new process has to set right about itself: signals, descriptors, privileges, its terminal.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Gives the signals in `ignored` (bit n - 1 for signal n) their default action and blocks none: with what CLONE_CLEAR_SIGHAND
/// does, all signals are then as a program started by init finds them.
///
/// The system call is made directly: libc keeps signals 32 and 33 to itself and would refuse them.
pub fn reset_signals(ignored: u64) {
    let default = [0_u64; 4]; // struct kernel_sigaction: SIG_DFL, no flags, no restorer, empty mask
    for signal in (1..=64).filter(|signal| ignored & (1 << (signal - 1)) != 0) {
        // SAFETY: `default` is as long as the kernel's sigaction of 64-bit machines and SIG_DFL runs no code of ours.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u8>(), 8) };
    }
    unblock_signals();
}

/// Blocks no signal (sigprocmask(2)).
pub fn unblock_signals() {
    let empty = 0_u64;
    // SAFETY: `empty` is a kernel signal set of the eight bytes given; no old set is asked for.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut::<u8>(), 8)
    };
}

/// Puts `fds` at the numbers 0, 1, 2, … without close-on-exec for the first `stdio` of them, and closes all others. A number that
/// has `None` is taken until the next execve(2), so that nothing else gets it and survives, and is not open after that.
///
/// Whatever numbers they have now, none is overwritten before it was moved. The result is what comes after the first `stdio`.
///
/// # Errors
/// EMFILE where the table has no room for the copies; `InvalidInput` where the first is `None`.
pub fn place_descriptors(fds: &[Option<BorrowedFd<'_>>], stdio: usize) -> io::Result<Vec<OwnedFd>> {
    let count = fds.len() as RawFd;
    let filler = fds.first().copied().flatten().ok_or(io::ErrorKind::InvalidInput)?;
    // What stands where another is to be goes above all of them first.
    let mut sources = Vec::with_capacity(fds.len());
    for (target, fd) in fds.iter().enumerate() {
        let mut source = fd.unwrap_or(filler).as_raw_fd();
        if source < count && source != target as RawFd {
            // SAFETY: F_DUPFD_CLOEXEC takes a borrowed, open descriptor and a lower bound.
            source = check(i64::from(unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, count) }))? as RawFd;
        }
        sources.push(source);
    }
    let mut placed = Vec::new();
    for (target, source) in sources.into_iter().enumerate() {
        let target_fd = target as RawFd;
        let stays = target < stdio && fds[target].is_some();
        let done = if source == target_fd {
            // SAFETY: F_SETFD takes a flag and changes nothing else.
            unsafe { libc::fcntl(target_fd, libc::F_SETFD, if stays { 0 } else { libc::FD_CLOEXEC }) }
        } else {
            // SAFETY: the source is open, as we have borrowed or made it; the target is one of those this function replaces.
            unsafe { libc::dup3(source, target_fd, if stays { 0 } else { libc::O_CLOEXEC }) }
        };
        check(i64::from(done))?;
        if target >= stdio {
            // SAFETY: the number is open, and whoever owned it does so no more: this process has nothing but what is placed here.
            placed.push(unsafe { OwnedFd::from_raw_fd(target_fd) });
        }
    }
    close_from(count)?;
    Ok(placed)
}

/// Closes every descriptor from `first` up (close_range(2), Linux 5.9).
///
/// Only for a process that is about to become another program: owners of these descriptors must never be dropped.
fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller is a fresh child that leaves by execve or _exit, so no owner of a closed number is used again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Sets close-on-exec on every descriptor from `first` up (close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11).
///
/// # Errors
/// EINVAL on kernels before 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call changes a flag of descriptors and closes none.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from 3 up that this program was started with (close_range(2), Linux 5.9).
///
/// # Errors
/// `Unsupported` where the process has begun to use descriptors of its own; ENOSYS on older kernels.
pub fn close_inherited() -> io::Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    close_from(3)
}

/// Takes the first `count` descriptors from 3 on that this program was started with, by duplicates with close-on-exec, and sets
/// close-on-exec on all others: no program that we start has them by accident. One that is not open is `None`; the last is open.
///
/// # Errors
/// EMFILE where there is no room for the copies.
pub fn take_inherited(count: u32) -> io::Result<Vec<Option<OwnedFd>>> {
    let mut taken = Vec::new();
    for number in 3..3 + count as RawFd {
        // SAFETY: F_GETFD asks for a flag; of a number that is not open it is EBADF.
        let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        taken.push(is_open.then_some(number));
    }
    let used = taken.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    taken.truncate(used);
    let copy = |number: RawFd| {
        // SAFETY: F_DUPFD_CLOEXEC takes a number, open as we saw, and a lower bound; the number stays whoever's it is.
        let copy = check(i64::from(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3 + used as RawFd) }))?;
        // SAFETY: fcntl has just opened this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
    };
    let taken = taken.into_iter().map(|number| number.map(copy).transpose()).collect::<io::Result<_>>()?;
    // Kernels before 5.11 cannot; what we open ourselves has the flag in any case.
    let _ = close_on_exec_from(3);
    Ok(taken)
}

/// The form that execve(2) takes lists in: pointers, and a null pointer behind the last.
fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Replaces this program (execve(2)). Comes back only with an error.
pub fn execute(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this program by the file that a descriptor is open on (execveat(2)). Comes back only with an error.
pub fn execute_file(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the path is an empty C string; both lists end with a null pointer and point to strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Has the program that `command` starts killed when the thread that starts it ends (PR_SET_PDEATHSIG), however that ends.
pub fn kill_with_us(command: &mut std::process::Command) {
    let ask = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(io::Error::from)
    };
    // SAFETY: between fork(2) and execve(2) the closure makes one system call, and takes no memory and no lock.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, ask) };
}

/// Sets the user and group ids of this single-threaded process: real, effective and saved.
///
/// Groups come first, then the group, then the user: after setresuid(2) we may change neither.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID, EINVAL for an id that the user namespace does not map.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        // SAFETY: the pointer and the count are those of one slice.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Makes `terminal` the controlling terminal of this session leader (TIOCSCTTY, ioctl_tty(2)).
///
/// # Errors
/// EPERM for a process that leads no session or has a terminal.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number, not a pointer.
    check(i64::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// Unlocks the other side of the pty master and opens it through the master (TIOCSPTLCK, TIOCGPTPEER of Linux 4.13):
/// no path that the container could have changed is looked up.
///
/// # Errors
/// ENOTTY where `master` is no pty master.
pub fn open_terminal_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    let fd = check(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }))?;
    // SAFETY: the ioctl has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Returns the number of a pty: the N of /dev/pts/N (TIOCGPTN).
///
/// # Errors
/// ENOTTY where `master` is no pty master.
pub fn terminal_number(master: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    check(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }))?;
    Ok(number)
}

/// Makes a descriptor of `fd` at the standard number `target` (0, 1 or 2), kept over execve.
///
/// # Errors
/// EBADF for a target over 2.
pub fn replace_stdio(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&target) {
        return Err(Errno::BADF.into());
    }
    // SAFETY: 0, 1 and 2 have no owner in Rust's standard library that closes them.
    check(i64::from(unsafe { libc::dup2(fd.as_raw_fd(), target) })).map(drop)
}

/// Joins namespaces: those in `kinds` of the process behind a pidfd (Linux 5.8), or the one that `fd` is open on.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in the namespace's owning user namespace; EINVAL for a kind that is not the
/// descriptor's.
pub fn join_namespaces(fd: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    // SAFETY: a borrowed descriptor and a number; the process is single-threaded where the kind demands it (the kernel checks).
    check(i64::from(unsafe { libc::setns(fd.as_raw_fd(), kinds as libc::c_int) })).map(drop)
}

/// Leaves the shared namespaces of `kinds` for new ones (unshare(2)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn unshare(kinds: u64) -> io::Result<()> {
    // SAFETY: only namespaces are unshared, never the descriptor table or memory.
    check(i64::from(unsafe { libc::unshare(kinds as libc::c_int) })).map(drop)
}

/// Is one rlimit by number, as prlimit(2) takes it.
///
/// # Errors
/// EPERM where the hard limit would rise without CAP_SYS_RESOURCE; EINVAL where soft is over hard.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a whole struct rlimit.
    check(i64::from(unsafe { libc::setrlimit(resource as _, &raw const limit) })).map(drop)
}

/// Returns soft and hard limit of a resource (getrlimit(2)).
///
/// # Errors
/// EINVAL for a number that is no resource.
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a whole struct rlimit for the kernel to fill.
    check(i64::from(unsafe { libc::getrlimit(resource as _, &raw mut limit) }))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Blocks every signal (sigprocmask(2)), libc's own two included.
pub fn block_signals() {
    let full = u64::MAX;
    // SAFETY: `full` is a kernel signal set of the eight bytes given; no old set is asked for.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const full, std::ptr::null_mut::<u8>(), 8)
    };
}

/// Waits for a blocked signal and takes it (sigwaitinfo(2)); real-time signals too.
///
/// # Errors
/// EINTR.
pub fn wait_for_signal() -> io::Result<i32> {
    let full = u64::MAX;
    let null = std::ptr::null_mut::<u8>();
    // SAFETY: `full` is a kernel signal set of the eight bytes given; neither siginfo nor a timeout is asked for.
    check(unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const full, null, null, 8) })
        .map(|signal| signal as i32)
}

/// Sends any signal, real-time ones included, to one process (kill(2)).
///
/// # Errors
/// ESRCH where it is gone; EINVAL for a pid below 1.
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    if pid < 1 {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}
