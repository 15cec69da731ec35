//! What the programs decide: asked of an interpreter for every number of every architecture, and of the kernel.

use libseccomp::{ScmpArch, ScmpSyscall};

use super::filter::INSTRUCTION;
use super::profile::{NEWEST, X32};
use super::*;
use crate::spec::{CapabilitySet, SeccompRequest};
use crate::sys;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
pub(super) const X86_64: u32 = 0xc000_003e;
pub(super) const I386: u32 = 0x4000_0003;

/// Runs a program on one call, as the kernel would (the classic BPF that seccomp(2) takes), and returns its verdict.
pub(super) fn verdict(filter: &CompiledFilter, arch: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (at, arg) in args.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&arg.to_ne_bytes());
    }
    let program = filter.as_bytes().as_chunks::<INSTRUCTION>().0;
    let (mut at, mut a) = (0, 0u32);
    let mut memory = [0u32; 16];
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = program[at];
        let (code, k) = (u32::from(u16::from_ne_bytes([c0, c1])), u32::from_ne_bytes([k0, k1, k2, k3]));
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
            0x60 => a = memory[k as usize],
            0x02 => memory[k as usize] = a,
            0x54 => a &= k,
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x05 => at += k as usize,
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
        at += 1;
    }
}

fn built(request: &SeccompRequest, capabilities: CapabilitySet) -> CompiledFilter {
    compile(request, &capabilities).unwrap().unwrap()
}

fn default() -> CompiledFilter {
    built(&SeccompRequest::Default, CapabilitySet::docker())
}

fn number(name: &str) -> u32 {
    u32::try_from(ScmpSyscall::from_name_by_arch(name, ScmpArch::X8664).unwrap().as_raw_syscall()).unwrap()
}

/// The verdict on a call of x86_64.
pub(super) fn on(filter: &CompiledFilter, name: &str, args: &[u64]) -> u32 {
    verdict(filter, X86_64, number(name), args)
}

/// Calls that libseccomp 2.5 has no name for.
const NEWER: [(u32, &str); 12] = [
    (335, "uretprobe"),
    (457, "statmount"),
    (458, "listmount"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
    (462, "mseal"),
    (463, "setxattrat"),
    (464, "getxattrat"),
    (465, "listxattrat"),
    (466, "removexattrat"),
    (467, "open_tree_attr"),
];

#[cfg(target_arch = "x86_64")]
#[test]
fn the_allow_list_is_the_one_that_is_written_down() {
    let filter = default();
    let name = |number: u32| match NEWER.iter().find(|(newer, _)| *newer == number) {
        Some((_, name)) => Some((*name).to_owned()),
        None => ScmpSyscall::from(i32::try_from(number).unwrap()).get_name_by_arch(ScmpArch::X8664).ok(),
    };
    let mut allowed: Vec<String> = (0..1024)
        .filter(|number| verdict(&filter, X86_64, *number, &[]) == ALLOW)
        .map(|number| name(number).unwrap_or_else(|| panic!("{number} is allowed and nobody knows it")))
        .collect();
    allowed.sort();
    let mut written: Vec<&str> = include_str!("allowed.txt").lines().collect();
    written.sort_unstable();
    assert_eq!(allowed, written);
}

#[test]
fn known_and_refused_is_eperm_and_newer_than_the_list_is_enosys() {
    let filter = default();
    for name in
        ["keyctl", "mount", "unshare", "setns", "bpf", "io_uring_setup", "open_tree", "kexec_load", "userfaultfd"]
    {
        assert_eq!(on(&filter, name, &[]), EPERM, "{name}");
    }
    for number in [459, 460, 461] {
        assert_eq!(verdict(&filter, X86_64, number, &[]), EPERM, "{number}");
        assert_eq!(verdict(&filter, X86_64, X32 + number, &[]), EPERM, "x32 {number}");
        assert_eq!(verdict(&filter, I386, number, &[]), EPERM, "i386 {number}");
    }
    for number in [336, 337, 400, 423, NEWEST + 1, NEWEST + 1000, X32 - 1, X32 + 600, u32::MAX] {
        assert_eq!(verdict(&filter, X86_64, number, &[]), ENOSYS, "{number}");
    }
    for number in [387, 392, NEWEST + 1, u32::MAX] {
        assert_eq!(verdict(&filter, I386, number, &[]), ENOSYS, "i386 {number}");
    }
}

#[test]
fn other_machines_programs_die() {
    // AUDIT_ARCH_S390X on a PC: only a hostile program says so.
    assert_eq!(verdict(&default(), 0x8000_0016, 1, &[]), libc::SECCOMP_RET_KILL_THREAD);
}

#[test]
fn clone_makes_threads_and_processes_and_no_namespaces() {
    let filter = default();
    let thread = 0x003d_0f00;
    assert_eq!(on(&filter, "clone", &[thread]), ALLOW);
    assert_eq!(on(&filter, "clone", &[libc::SIGCHLD as u64]), ALLOW);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWCGROUP]
    {
        assert_eq!(on(&filter, "clone", &[flag as u64 | libc::SIGCHLD as u64]), EPERM, "{flag:#x}");
    }
    assert_eq!(on(&filter, "clone3", &[]), ENOSYS);
    let admin = built(&SeccompRequest::Default, "SYS_ADMIN".parse::<CapabilitySet>().unwrap());
    for name in ["clone3", "mount", "unshare", "setns", "bpf", "fsopen"] {
        assert_eq!(on(&admin, name, &[]), ALLOW, "{name}");
    }
    assert_eq!(verdict(&admin, X86_64, 459, &[]), ALLOW);
    assert_eq!(on(&admin, "clone", &[libc::CLONE_NEWUSER as u64]), ALLOW);
}

#[test]
fn each_capability_lifts_its_own_calls() {
    let bare = built(&SeccompRequest::Default, CapabilitySet::EMPTY);
    for (capability, call) in [
        ("SYS_CHROOT", "chroot"),
        ("SYS_BOOT", "reboot"),
        ("SYS_MODULE", "finit_module"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "kcmp"),
        ("SYS_RAWIO", "iopl"),
        ("SYS_TIME", "clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
        ("SYS_NICE", "mbind"),
        ("SYSLOG", "syslog"),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
        ("DAC_READ_SEARCH", "open_by_handle_at"),
    ] {
        let with = built(&SeccompRequest::Default, capability.parse().unwrap());
        assert_eq!((on(&bare, call, &[]), on(&with, call, &[])), (EPERM, ALLOW), "{capability} {call}");
    }
}

#[test]
fn arguments_are_compared_as_the_kernel_reads_them() {
    let filter = default();
    let high = 1 << 32;
    for (family, expected) in
        [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
    {
        assert_eq!(on(&filter, "socket", &[family]), expected, "{family}");
        // The family is an int: what stands above its 32 bits changes nothing.
        assert_eq!(on(&filter, "socket", &[family | high]), expected, "{family} with more bits");
        assert_eq!(verdict(&filter, X86_64, X32 + 41, &[family]), expected, "x32 {family}");
        assert_eq!(verdict(&filter, I386, 359, &[family]), expected, "i386 {family}");
        assert_eq!(verdict(&filter, I386, 102, &[1, family]), ALLOW, "socketcall is as Docker has it");
    }
    for (persona, expected) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x20000, ALLOW),
        (0x20008, ALLOW),
        (0xffff_ffff, ALLOW),
        (0x40000, EPERM),
        (9, EPERM),
        (0xffff_fff7, EPERM),
    ] {
        assert_eq!(on(&filter, "personality", &[persona]), expected, "{persona:#x}");
        assert_eq!(verdict(&filter, I386, 136, &[persona]), expected, "i386 {persona:#x}");
    }
}

#[test]
fn the_ancestor_refuses_more_and_no_capability_helps() {
    for capabilities in [CapabilitySet::ancestor(), CapabilitySet::all()] {
        let filter = built(&SeccompRequest::AncestorDefault, capabilities);
        let (suid, sgid) = (u64::from(libc::S_ISUID), u64::from(libc::S_ISGID));
        for mode in [suid | 0o755, sgid | 0o755, suid | sgid] {
            assert_eq!(on(&filter, "chmod", &[0, mode]), EPERM);
            assert_eq!(on(&filter, "fchmod", &[0, mode]), EPERM);
            assert_eq!(on(&filter, "fchmodat", &[0, 0, mode]), EPERM);
            assert_ne!(verdict(&filter, X86_64, 452, &[0, 0, mode]), ALLOW, "fchmodat2");
        }
        assert_eq!(on(&filter, "chmod", &[0, 0o1777]), ALLOW);
        assert_eq!(on(&filter, "ioctl", &[0, libc::TIOCSTI]), EPERM);
        assert_eq!(on(&filter, "ioctl", &[0, libc::TIOCSTI | 1 << 32]), EPERM);
        assert_eq!(on(&filter, "ioctl", &[0, 0x541c]), EPERM);
        assert_eq!(on(&filter, "ioctl", &[0, libc::TIOCGWINSZ]), ALLOW);
        for name in "acct add_key adjtimex bpf clock_adjtime clock_settime create_module delete_module finit_module \
            get_kernel_syms get_mempolicy init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind \
            mount move_pages name_to_handle_at nfsservctl open_by_handle_at perf_event_open personality pivot_root \
            process_vm_readv process_vm_writev ptrace query_module quotactl reboot request_key set_mempolicy setns \
            settimeofday swapoff swapon sysfs umount2 unshare uselib userfaultfd ustat io_uring_setup io_uring_enter \
            io_uring_register open_tree fsopen fsconfig fsmount fspick move_mount mount_setattr migrate_pages pidfd_getfd"
            .split_whitespace()
        {
            assert_eq!(on(&filter, name, &[0xffff_ffff]), EPERM, "{name}");
        }
        assert_eq!(on(&filter, "clone3", &[]), ENOSYS);
        assert_eq!(on(&filter, "clone", &[libc::CLONE_NEWUSER as u64]), EPERM);
        assert_eq!(on(&filter, "socket", &[2]), ALLOW);
        assert_eq!(on(&built(&SeccompRequest::Ancestor, capabilities), "socket", &[2]), EPERM);
    }
}

#[test]
fn unconfined_is_no_filter() {
    assert!(compile(&SeccompRequest::Unconfined, &CapabilitySet::docker()).unwrap().is_none());
}

fn profile(text: &str) -> Result<Option<CompiledFilter>, SeccompError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.json");
    std::fs::write(&path, text).unwrap();
    compile(&SeccompRequest::File(path), &CapabilitySet::docker())
}

#[test]
fn a_profile_of_ones_own() {
    let filter = profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
              {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
              {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"], "minKernel": "4.8"}},
              {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
              {"names": ["umount2"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
              {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
              {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                 {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
              {"name": "clone", "action": "SCMP_ACT_ALLOW", "args":
                 [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
              {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
            ]}"#,
    );
    let filter = filter.unwrap().unwrap();
    let eacces = libc::SECCOMP_RET_ERRNO | 13;
    for (name, args, expected) in [
        ("read", &[][..], ALLOW),
        ("chroot", &[], ALLOW),
        ("mount", &[], eacces),
        ("umount2", &[], eacces),
        ("reboot", &[], eacces),
        ("socket", &[1], ALLOW),
        ("socket", &[2], ALLOW),
        ("socket", &[3], eacces),
        ("clone", &[17], ALLOW),
        ("clone", &[0x1000_0000], eacces),
        ("ptrace", &[], ENOSYS),
        ("chown", &[], eacces),
    ] {
        assert_eq!(on(&filter, name, args), expected, "{name} {args:?}");
    }
    // Newer than everything the profile names.
    assert_eq!(verdict(&filter, X86_64, 466, &[]), ENOSYS);
    assert_eq!(verdict(&filter, I386, 3, &[]), ALLOW);
}

#[test]
fn a_profile_that_cannot_be_understood_is_an_error_that_says_where() {
    for (text, expected) in [
        ("{", "understand seccomp profile"),
        (r#"{"defaultAction": "SCMP_ACT_SMILE"}"#, "`SCMP_ACT_SMILE` as an action"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["PDP11"]}"#, "`PDP11` as an architecture"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 0, "value": 1, "op": "LIKE"}]}]}"#,
            "`LIKE` as a comparison",
        ),
    ] {
        let error = profile(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let missing = compile(&SeccompRequest::File("/nonexistent/p.json".into()), &CapabilitySet::EMPTY).unwrap_err();
    assert_eq!(missing.to_string(), "read seccomp profile /nonexistent/p.json");
}

/// Runs checks in a thread that has a filter; without TSYNC it is the thread's alone, and gone with it.
fn under(filter: CompiledFilter, checks: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        sys::seccomp::install(filter.as_bytes()).unwrap();
        checks();
    })
    .join()
    .unwrap();
}

#[test]
fn the_kernel_takes_the_default_and_obeys() {
    use nix::errno::Errno;
    use nix::sched::CloneFlags;
    under(default(), || {
        assert_eq!(nix::sched::unshare(CloneFlags::CLONE_NEWUTS), Err(Errno::EPERM));
        let flags = nix::mount::MsFlags::MS_BIND;
        // Refused before the kernel sees that there is no such directory.
        assert_eq!(nix::mount::mount(Some("/nowhere"), "/nowhere", Some(""), flags, Some("")), Err(Errno::EPERM));
        assert_eq!(rustix::system::sethostname(b"x"), Err(rustix::io::Errno::PERM));
        // Threads and processes: clone3 is answered ENOSYS and libc falls back to clone.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        assert!(std::process::Command::new("true").status().unwrap().success());
    });
}

#[test]
fn the_kernel_takes_the_ancestors_and_obeys() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    std::fs::write(&file, "").unwrap();
    under(built(&SeccompRequest::AncestorDefault, CapabilitySet::ancestor()), move || {
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
        mode(0o755).unwrap();
        for special in [0o4755, 0o2755, 0o6755] {
            assert_eq!(mode(special).unwrap_err().raw_os_error(), Some(libc::EPERM), "{special:o}");
        }
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    });
    under(built(&SeccompRequest::Ancestor, CapabilitySet::ancestor()), || {
        let error = std::net::TcpListener::bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
}

#[test]
fn a_cached_program_is_the_same_and_a_foreign_one_is_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("seccomp");
    // A set that no other test compiles: this process must not have it yet.
    let odd: CapabilitySet = "LEASE".parse().unwrap();
    let filter = compile_cached(&cache, &SeccompRequest::Default, &odd).unwrap().unwrap();
    let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let key = file.file_stem().unwrap().to_str().unwrap();
    assert_eq!(cache::read(&cache, key).unwrap(), filter);
    let mode =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&file, 0o666);
    assert!(cache::read(&cache, key).is_none(), "others may write the file");
    mode(&file, 0o600);
    mode(&cache, 0o777);
    assert!(cache::read(&cache, key).is_none(), "others may write the directory");
    mode(&cache, 0o700);
    std::os::unix::fs::chown(&file, Some(1), None).unwrap();
    assert!(cache::read(&cache, key).is_none(), "another user's file");
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(cache::read(&cache, key).is_none(), "a damaged file");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    assert!(cache::read(&cache, key).is_none(), "a link");
}

/// The differential test: `MYDOCKER_SECCOMP_PEER=default.json` names Docker's own profile.
#[test]
#[ignore = "needs $MYDOCKER_SECCOMP_PEER, a copy of Docker's default.json"]
fn docker_decides_the_same() {
    let path = std::env::var_os("MYDOCKER_SECCOMP_PEER").unwrap();
    for capabilities in [CapabilitySet::EMPTY, CapabilitySet::docker(), CapabilitySet::all()] {
        let ours = built(&SeccompRequest::Default, capabilities);
        let theirs = built(&SeccompRequest::File(path.clone().into()), capabilities);
        println!("{ours:?} {theirs:?}");
        for (arch, base) in [(X86_64, 0), (X86_64, X32), (I386, 0)] {
            for number in base..base + 560 {
                for args in [&[][..], &[1], &[8], &[38], &[39], &[40], &[0x7e02_0000], &[0x1000_0011], &[0x003d_0f00]] {
                    let (we, they) = (verdict(&ours, arch, number, args), verdict(&theirs, arch, number, args));
                    let scmp = if arch == I386 {
                        ScmpArch::X86
                    } else if base == X32 {
                        ScmpArch::X32
                    } else {
                        ScmpArch::X8664
                    };
                    let name = ScmpSyscall::from(i32::try_from(number).unwrap()).get_name_by_arch(scmp);
                    if let (Ok(name), true) = (name, we != they) {
                        print!("{name} ");
                        println!("{arch:#x} {number:#x} {args:x?}: ours {we:#x}, theirs {they:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn it_survives_json() {
    let filter = default();
    let json = serde_json::to_string(&filter).unwrap();
    assert_eq!(serde_json::from_str::<CompiledFilter>(&json).unwrap(), filter);
    assert!(serde_json::from_str::<CompiledFilter>("[]").is_err());
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    use super::plan::{BuiltIn, Plan};
    use std::time::{Duration, Instant};
    let dir = tempfile::tempdir().unwrap();
    let mean = |work: &mut dyn FnMut()| {
        let before = Instant::now();
        (0..100).for_each(|_| work());
        before.elapsed() / 100
    };
    for which in [BuiltIn::Docker, BuiltIn::Ancestor { socket: false }] {
        let plan = || Plan::built_in(which, CapabilitySet::docker()).unwrap();
        let filter = plan().compile().unwrap();
        let planned = mean(&mut || drop(plan()));
        let compiled = mean(&mut || drop(plan().compile().unwrap()));
        let key = || compile::name(which, CapabilitySet::docker());
        cache::write(dir.path(), &key(), &filter);
        let cached = mean(&mut || drop(cache::read(dir.path(), &key()).unwrap()));
        let install = |filter: CompiledFilter| {
            let before = Instant::now();
            sys::seccomp::install(filter.as_bytes()).unwrap();
            before.elapsed()
        };
        let installed = (0..100).map(|_| std::thread::scope(|s| s.spawn(|| install(filter.clone())).join().unwrap()));
        let installed = installed.sum::<Duration>() / 100;
        println!(
            "{which:?}: {filter:?}, plan {planned:?}, compile {compiled:?}, from the cache {cached:?}, install {installed:?}"
        );
    }
}
