//! Loading and attaching the one kind of eBPF program that cgroup v2 judges devices with (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! The structures are the parts of the kernel's `union bpf_attr` that each command reads, as far as Linux 5.15 has them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands of bpf(2).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`, `BPF_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_DEVICE: u32 = 6;

/// `BPF_F_ALLOW_MULTI`: the programs of cgroups below, and others here, are asked too. `BPF_F_REPLACE` is there since Linux 5.6.
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The most programs that the kernel attaches to one cgroup (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    cgroup: i32,
    program: i32,
    attach_type: u32,
    flags: u32,
    replaced: i32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    cgroup: i32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    more: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoRequest {
    program: i32,
    len: u32,
    info: u64,
}

/// Is the beginning of `struct bpf_prog_info`, to its name.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    rest: [u64; 7],
    name: [u8; 16],
}

/// Loads a program. The instructions are an array of `struct bpf_insn`; of the name, letters, digits and `_`, 15 bytes count.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN in the first user namespace; EINVAL or EACCES where the kernel finds fault with the
/// program.
pub fn load_device_program(instructions: &[u64], name: &str) -> io::Result<OwnedFd> {
    let mut load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: instructions.as_ptr() as u64,
        // It calls no helper function that is for GPL programs alone.
        license: c"MIT".as_ptr() as u64,
        attach_type: ATTACH_DEVICE,
        ..Load::default()
    };
    for (place, byte) in load.name[..15].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    // SAFETY: the two addresses are of `instructions`, as many as `count` says, and of a string that ends in a zero; both live
    // until the call returns, and the kernel only reads them.
    let made = unsafe { bpf(PROG_LOAD, &mut load) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Attaches a program to a cgroup v2 directory: in the place of another, or beside those that are there.
///
/// # Errors
/// EPERM where an ancestor's program forbids others; ENOENT where the one to be replaced is not there.
pub fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, instead: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attach = Attach {
        cgroup: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: ATTACH_DEVICE,
        flags: ALLOW_MULTI | if instead.is_some() { REPLACE } else { 0 },
        replaced: instead.map_or(0, |program| program.as_raw_fd()),
    };
    // SAFETY: the structure holds no address.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// Takes a program off a cgroup.
///
/// # Errors
/// ENOENT where it is not attached there.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attach = Attach {
        cgroup: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: ATTACH_DEVICE,
        ..Attach::default()
    };
    // SAFETY: the structure holds no address.
    unsafe { bpf(PROG_DETACH, &mut attach) }.map(drop)
}

/// Returns the programs of this name that are attached to a cgroup itself, in the order they are asked.
///
/// # Errors
/// What the kernel says.
pub fn attached(cgroup: BorrowedFd<'_>, name: &str) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut query = Query {
        cgroup: cgroup.as_raw_fd(),
        attach_type: ATTACH_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: the address is of `ids`, which has room for as many numbers as `count` says and lives until the call returns.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let mut found = Vec::new();
    for id in ids.into_iter().take(query.count as usize) {
        match open(id) {
            Ok(program) if is_named(&program, name)? => found.push(program),
            Ok(_) => {}
            // Gone in between.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let mut by_id = ById { id, ..ById::default() };
    // SAFETY: the structure holds no address.
    let made = unsafe { bpf(PROG_GET_FD_BY_ID, &mut by_id) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

fn is_named(program: &OwnedFd, name: &str) -> io::Result<bool> {
    let mut info = Info::default();
    let mut request =
        InfoRequest { program: program.as_raw_fd(), len: size_of::<Info>() as u32, info: (&raw mut info) as u64 };
    // SAFETY: the address is of `info`, which has `len` bytes for which every content is valid, and lives until the call returns.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(info.name.split(|byte| *byte == 0).next() == Some(name.as_bytes()))
}

/// Calls bpf(2).
///
/// # Safety
/// The structure must be the part of `union bpf_attr` that the command reads, and every address in it must be valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; `attribute` has the size that is given.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attribute, size_of::<T>()) };
    match i32::try_from(done) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r0 = 1; exit`: every device may be used.
    const ALLOW: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

    #[test]
    fn the_kernel_takes_a_program_and_knows_its_name() {
        if !cfg!(target_endian = "little") {
            return;
        }
        let program = load_device_program(&ALLOW, "mydocker_test").unwrap();
        assert!(is_named(&program, "mydocker_test").unwrap());
        assert!(!is_named(&program, "mydocker").unwrap());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        // No exit.
        assert_eq!(load_device_program(&ALLOW[..1], "x").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(load_device_program(&[], "x").is_err());
    }
}
