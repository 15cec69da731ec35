//! The profiles as data: which calls are refused, what lifts each refusal, and what number space it was written for.
//!
//! An allow-list is two things: the refusals below, and a bound on what is known at all ([`KNOWN`]). What lies within the
//! bound and is not refused is allowed; `allowed.txt` spells that list out and a test compares the two.

use std::ops::RangeInclusive;

use libseccomp::ScmpArch;

use super::guard::Check;
use super::plan::{Arg, Deny};

/// A group of system calls that are refused for one reason.
pub(super) struct Refusal {
    /// What lifts the refusal: any one of these capabilities. Nothing does where it is empty.
    pub lifted_by: &'static [&'static str],
    /// What is refused.
    pub calls: &'static [Deny],
}

const fn call(name: &'static str) -> Deny {
    Deny { name, errno: libc::EPERM, arg: None }
}

/// Refuses a call whose argument has one of these bits, or this value in its lower 32 bits.
const fn when(name: &'static str, index: u32, mask: u64, value: u64) -> Deny {
    Deny { name, errno: libc::EPERM, arg: Some(Arg { index, mask, value }) }
}

/// Refuses a call as if the kernel were too old to have it, so that a libc takes the older call it knows.
const fn absent(name: &'static str) -> Deny {
    Deny { name, errno: libc::ENOSYS, arg: None }
}

/// Compares an argument that the kernel reads as a 32-bit number. A comparison of all 64 bits would let the same number
/// pass with a bit set above them.
const INT: u64 = 0xffff_ffff;

/// The namespace flags of clone(2). CLONE_NEWTIME is none of them: in `clone` its bit belongs to the exit signal.
const NAMESPACES: [u64; 7] = [
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];

const fn namespace(at: usize) -> Deny {
    when("clone", 0, NAMESPACES[at], NAMESPACES[at])
}

/// What Docker's profile refuses, after its documentation (docs.docker.com/engine/security/seccomp) and its published list.
pub(super) const DOCKER: &[Refusal] = &[
    // Mounting and everything else that CAP_SYS_ADMIN is asked for anyway: the filter is the second lock.
    Refusal {
        lifted_by: &["SYS_ADMIN"],
        calls: &[
            call("mount"),
            call("umount"),
            call("umount2"),
            call("mount_setattr"),
            call("move_mount"),
            call("open_tree"),
            call("fsopen"),
            call("fsconfig"),
            call("fsmount"),
            call("fspick"),
            call("quotactl"),
            call("quotactl_fd"),
            call("fanotify_init"),
            call("lookup_dcookie"),
            call("sethostname"),
            call("setdomainname"),
            call("lsm_get_self_attr"),
            call("lsm_set_self_attr"),
            call("lsm_list_modules"),
        ],
    },
    // New namespaces: a user namespace gives every capability inside, and with them the kernel's least tested paths.
    Refusal {
        lifted_by: &["SYS_ADMIN"],
        calls: &[
            call("setns"),
            call("unshare"),
            // Its flags lie in memory where a filter cannot look; without it a libc falls back to clone, which can be judged.
            absent("clone3"),
            namespace(0),
            namespace(1),
            namespace(2),
            namespace(3),
            namespace(4),
            namespace(5),
            namespace(6),
        ],
    },
    // Programs for the kernel, and looking into it.
    Refusal { lifted_by: &["SYS_ADMIN", "BPF"], calls: &[call("bpf")] },
    Refusal { lifted_by: &["SYS_ADMIN", "PERFMON"], calls: &[call("perf_event_open")] },
    Refusal { lifted_by: &["SYS_ADMIN", "SYSLOG"], calls: &[call("syslog")] },
    Refusal { lifted_by: &["SYS_MODULE"], calls: &[call("init_module"), call("finit_module"), call("delete_module")] },
    // A file by its handle instead of its path: the way out of a container called Shocker.
    Refusal { lifted_by: &["DAC_READ_SEARCH"], calls: &[call("open_by_handle_at")] },
    Refusal { lifted_by: &["SYS_BOOT"], calls: &[call("reboot")] },
    Refusal { lifted_by: &["SYS_CHROOT"], calls: &[call("chroot")] },
    Refusal { lifted_by: &["SYS_PACCT"], calls: &[call("acct")] },
    Refusal { lifted_by: &["SYS_RAWIO"], calls: &[call("iopl"), call("ioperm")] },
    Refusal { lifted_by: &["SYS_TTY_CONFIG"], calls: &[call("vhangup")] },
    // Other processes. ptrace and process_vm_* pass: since Linux 4.8 a tracer cannot change a call behind the filter.
    Refusal { lifted_by: &["SYS_PTRACE"], calls: &[call("kcmp"), call("pidfd_getfd"), call("process_madvise")] },
    // The clocks are the whole machine's.
    Refusal {
        lifted_by: &["SYS_TIME"],
        calls: &[call("settimeofday"), call("stime"), call("clock_settime"), call("clock_settime64")],
    },
    Refusal {
        lifted_by: &["SYS_NICE"],
        calls: &[call("mbind"), call("get_mempolicy"), call("set_mempolicy"), call("set_mempolicy_home_node")],
    },
    Refusal { lifted_by: &[], calls: NEVER },
    Refusal { lifted_by: &[], calls: OBSOLETE },
];

/// What no capability lifts.
const NEVER: &[Deny] = &[
    // Keyrings have no namespace of their own outside a user namespace.
    call("add_key"),
    call("request_key"),
    call("keyctl"),
    // Work done by kernel threads, past this filter.
    call("io_uring_setup"),
    call("io_uring_enter"),
    call("io_uring_register"),
    // Handling page faults in user space widens every race in the kernel.
    call("userfaultfd"),
    call("kexec_load"),
    call("kexec_file_load"),
    call("pivot_root"),
    call("swapon"),
    call("swapoff"),
    call("move_pages"),
    call("migrate_pages"),
];

/// What no current program calls, or what no current kernel has.
const OBSOLETE: &[Deny] = &[
    call("_sysctl"),
    call("sysfs"),
    call("ustat"),
    call("uselib"),
    call("nfsservctl"),
    call("create_module"),
    call("get_kernel_syms"),
    call("query_module"),
    call("getpmsg"),
    call("putpmsg"),
    call("afs_syscall"),
    call("tuxcall"),
    call("security"),
    call("vserver"),
    // 32-bit x86 and arm only.
    call("vm86"),
    call("vm86old"),
    call("break"),
    call("oldstat"),
    call("oldfstat"),
    call("oldlstat"),
    call("oldolduname"),
    call("olduname"),
    call("stty"),
    call("gtty"),
    call("nice"),
    call("ftime"),
    call("prof"),
    call("profil"),
    call("lock"),
    call("mpx"),
    call("ulimit"),
    call("idle"),
    call("bdflush"),
    call("readdir"),
    call("signal"),
    call("sigaction"),
    call("sigsuspend"),
    call("sigpending"),
    call("sgetmask"),
    call("ssetmask"),
    call("pciconfig_iobase"),
    call("pciconfig_read"),
    call("pciconfig_write"),
    call("usr26"),
    call("usr32"),
    call("get_tls"),
];

/// What the ancestor refuses beyond Docker, all but `socket`, with the calls that its list was too old to name.
pub(super) const ANCESTOR: &[Deny] = &[
    // A program that runs with another user's rights cannot be made.
    when("chmod", 1, S_ISUID, S_ISUID),
    when("chmod", 1, S_ISGID, S_ISGID),
    when("fchmod", 1, S_ISUID, S_ISUID),
    when("fchmod", 1, S_ISGID, S_ISGID),
    when("fchmodat", 2, S_ISUID, S_ISUID),
    when("fchmodat", 2, S_ISGID, S_ISGID),
    when("fchmodat2", 2, S_ISUID, S_ISUID),
    when("fchmodat2", 2, S_ISGID, S_ISGID),
    // Typing into the terminal that the container was started from.
    when("ioctl", 1, INT, libc::TIOCSTI),
    when("ioctl", 1, INT, TIOCLINUX),
    // Not lifted by any capability in this profile.
    call("setns"),
    call("unshare"),
    absent("clone3"),
    when("clone", 0, libc::CLONE_NEWUSER as u64, libc::CLONE_NEWUSER as u64),
    call("mount"),
    call("umount"),
    call("umount2"),
    call("open_tree"),
    call("move_mount"),
    call("mount_setattr"),
    call("fsopen"),
    call("fsconfig"),
    call("fsmount"),
    call("fspick"),
    call("quotactl"),
    call("acct"),
    call("bpf"),
    call("perf_event_open"),
    call("lookup_dcookie"),
    call("name_to_handle_at"),
    call("open_by_handle_at"),
    call("init_module"),
    call("finit_module"),
    call("delete_module"),
    call("ioperm"),
    call("iopl"),
    call("reboot"),
    call("kcmp"),
    call("ptrace"),
    call("process_vm_readv"),
    call("process_vm_writev"),
    call("pidfd_getfd"),
    call("mbind"),
    call("get_mempolicy"),
    call("set_mempolicy"),
    call("adjtimex"),
    call("clock_adjtime"),
    call("clock_adjtime64"),
    call("clock_settime"),
    call("clock_settime64"),
    call("settimeofday"),
    call("stime"),
    call("personality"),
];

const S_ISUID: u64 = libc::S_ISUID as u64;
const S_ISGID: u64 = libc::S_ISGID as u64;

/// ioctl_console(2): among much else, pastes into the console.
const TIOCLINUX: u64 = 0x541c;

/// Calls that are judged by their first argument, in the guard.
///
/// personality(2): PER_LINUX, PER_LINUX32, either with UNAME26, and 0xffffffff, which only asks. socket(2): the kernel's crypto
/// engine and the hypervisor's socket have no namespaces; told to libseccomp, the rule would close `socketcall` to every family,
/// which is how old 32-bit programs make theirs.
pub(super) const CHECKED: &[(&str, Check)] = &[
    ("personality", Check::Bits { allowed: 0x0002_0008, but: u32::MAX }),
    ("socket", Check::Not(&[libc::AF_ALG as u32, libc::AF_VSOCK as u32])),
];

/// The numbers of calls that libseccomp may be too old to name; since 424 a number is the same on every architecture.
pub(super) const NEW_NUMBERS: &[(&str, u32)] = &[
    ("mount_setattr", 442),
    ("quotactl_fd", 443),
    ("set_mempolicy_home_node", 450),
    ("fchmodat2", 452),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
];

/// The newest call that this list has judged: removexattrat, of Linux 6.13.
pub(super) const NEWEST: u32 = 466;

/// Marks the numbers of the x32 way of calling a 64-bit x86 kernel.
pub(super) const X32: u32 = 0x4000_0000;

/// One architecture: its name in Rust and in libseccomp, the value the filter sees, the numbers that were judged, and the
/// architectures whose programs it runs too.
pub(super) struct Architecture {
    pub arch: ScmpArch,
    /// AUDIT_ARCH_*, what `seccomp_data.arch` holds.
    pub audit: u32,
    pub known: &'static [RangeInclusive<u32>],
}

const X86_64: Architecture = Architecture {
    arch: ScmpArch::X8664,
    audit: 0xc000_003e,
    // 335 is uretprobe; what lies between it and 424 came later, or is reserved. x32 has 32 calls of its own.
    known: &[0..=335, 424..=NEWEST, X32..=X32 + 334, X32 + 424..=X32 + NEWEST, X32 + 512..=X32 + 547],
};
const X86: Architecture = Architecture { arch: ScmpArch::X86, audit: 0x4000_0003, known: &[0..=386, 393..=NEWEST] };
const AARCH64: Architecture =
    Architecture { arch: ScmpArch::Aarch64, audit: 0xc000_00b7, known: &[0..=243, 260..=294, 424..=NEWEST] };
const ARM: Architecture =
    Architecture { arch: ScmpArch::Arm, audit: 0x4000_0028, known: &[0..=401, 403..=NEWEST, 0xf_0001..=0xf_0006] };
const RISCV64: Architecture =
    Architecture { arch: ScmpArch::Riscv64, audit: 0xc000_00f3, known: &[0..=243, 258..=294, 424..=NEWEST] };

/// The architectures by Rust's name of the machine: its own first, then those whose programs it runs too, as Docker.
pub(super) const KNOWN: &[(&str, &[Architecture])] =
    &[("x86_64", &[X86_64, X86]), ("aarch64", &[AARCH64, ARM]), ("riscv64", &[RISCV64])];
