//! D: capabilities and the filter, asked from inside by perl, which can make any system call by its number. It and its
//! libraries are the host's, bound into the container.

use std::collections::BTreeMap;

use nix::libc;

use crate::support::{Case, Output, Sandbox, cases};
use crate::{ancestor, run};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        d1_the_keep_set_also_with_ids_mapped,
        d3_capabilities_that_are_added: Bridge,
        d6_argument_rules_of_the_ancestor: Perl,
        d7_calls_that_the_ancestor_refuses: Perl,
        d8_the_ancestors_whole_list: Perl,
        d9_holes_that_came_later: Perl,
        d10_no_filter_and_ones_own: Perl,
        d11_a_failing_exec_is_still_told,
    ]
}

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;

/// The directories that perl needs.
const PERL: [&str; 6] = ["--volume", "/usr:/usr:ro", "--volume", "/lib:/lib:ro", "--volume", "/lib64:/lib64:ro"];

/// Runs a line of perl under `-a` with more flags.
fn perl(sandbox: &Sandbox, flags: &[&str], script: &str) -> Output {
    ancestor(sandbox, &[&["-a"], flags, &PERL].concat(), &["/usr/bin/perl", "-e", script]).ok()
}

/// Makes each call with arguments that do no harm wherever it is let through, and returns its errno by name; 0 is success.
fn errors(sandbox: &Sandbox, flags: &[&str], calls: &[(&str, i64)]) -> BTreeMap<String, i32> {
    let list: Vec<String> = calls.iter().map(|(name, number)| format!("[\"{name}\",{number}]")).collect();
    let script = format!(
        "for ({}) {{ my $r = syscall($_->[1], -1, -1, -1, -1, -1, -1); print \"$_->[0] \", ($r == -1 ? $!+0 : 0), \"\\n\" }}",
        list.join(",")
    );
    let told = perl(sandbox, flags, &script).stdout;
    let line = |line: &str| line.split_once(' ').and_then(|(name, errno)| Some((name.to_owned(), errno.parse().ok()?)));
    let found: BTreeMap<String, i32> = told.lines().filter_map(line).collect();
    assert_eq!(found.len(), calls.len(), "{told}");
    found
}

fn d1_the_keep_set_also_with_ids_mapped(sandbox: &Sandbox) {
    let told = ancestor(sandbox, &["-aU"], &["grep", "Cap", "/proc/self/status"]).ok().stdout;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000000425eb",
        "CapEff:\t00000000000425eb",
        "CapBnd:\t00000000000425eb",
        "CapAmb:\t0000000000000000",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
}

fn d3_capabilities_that_are_added(sandbox: &Sandbox) {
    let make = "ip link add v0 type veth peer name v1 && ip link show v0";
    assert_ne!(run(sandbox, &["sh", "-c", make]).code, 0);
    run(sandbox, &["--cap-add", "NET_ADMIN", "sh", "-c", make]).ok();
    let told = run(sandbox, &["--cap-drop", "ALL", "grep", "Cap", "/proc/self/status"]).ok().stdout;
    assert!(told.lines().all(|line| line.ends_with("\t0000000000000000")), "{told}");
    run(sandbox, &["--cap-add", "NET_ADMN", "true"]).refused(125, &["NET_ADMN", "NET_ADMIN"]);
}

fn d6_argument_rules_of_the_ancestor(sandbox: &Sandbox) {
    // chmod, fchmod, fchmodat, fchmodat2 with the setuid and the setgid bit; unshare, clone and clone3 with a user namespace.
    let script = r#"
        sub told { my ($name, $r) = @_; print "$name ", ($r == -1 ? $!+0 : 0), "\n" }
        my $path = "/tmp/x"; open(my $file, ">", $path); my $fd = fileno($file);
        for my $bit (04000, 02000) {
            told("chmod", syscall(CHMOD, $path, 0755 | $bit));
            told("fchmod", syscall(FCHMOD, $fd, 0755 | $bit));
            told("fchmodat", syscall(FCHMODAT, -100, $path, 0755 | $bit, 0));
            told("fchmodat2", syscall(452, -100, $path, 0755 | $bit, 0));
        }
        told("plain", syscall(FCHMODAT, -100, $path, 0700, 0));
        told("unshare", syscall(UNSHARE, 0x10000000));
        my $pid = syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0); exit 9 if $pid == 0; told("clone", $pid);
        my $args = pack("Q11", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0);
        $pid = syscall(435, $args, 88); exit 9 if $pid == 0; told("clone3", $pid);
        my $c = "x"; told("tiocsti", syscall(IOCTL, 0, 0x5412, $c)); told("tioclinux", syscall(IOCTL, 0, 0x541c, $c));
    "#;
    let script = [
        ("FCHMODAT", libc::SYS_fchmodat),
        ("FCHMOD", libc::SYS_fchmod),
        ("UNSHARE", libc::SYS_unshare),
        ("CLONE", libc::SYS_clone),
        ("IOCTL", libc::SYS_ioctl),
        #[cfg(target_arch = "x86_64")]
        ("CHMOD", libc::SYS_chmod),
    ]
    .into_iter()
    .fold(script.to_owned(), |text, (name, number)| text.replace(&format!("({name},"), &format!("({number},")));
    let script = script.lines().filter(|line| !line.contains("CHMOD,")).collect::<Vec<_>>().join("\n");
    for line in perl(sandbox, &[], &script).stdout.lines() {
        let (name, errno) = line.split_once(' ').expect("name and number");
        let wanted: &[i32] = match name {
            "plain" => &[0],
            // libc falls back to clone(2).
            "clone3" => &[ENOSYS],
            "fchmodat2" => &[EPERM, ENOSYS],
            _ => &[EPERM],
        };
        assert!(wanted.iter().any(|errno_| errno == errno_.to_string()), "{line}");
    }
}

/// What the ancestor refuses whatever its arguments, less `socket`; the calls of machines that this is not are left out.
fn refused() -> Vec<(&'static str, i64)> {
    vec![
        ("acct", libc::SYS_acct),
        ("add_key", libc::SYS_add_key),
        ("adjtimex", libc::SYS_adjtimex),
        ("bpf", libc::SYS_bpf),
        ("clock_adjtime", libc::SYS_clock_adjtime),
        ("clock_settime", libc::SYS_clock_settime),
        ("delete_module", libc::SYS_delete_module),
        ("finit_module", libc::SYS_finit_module),
        ("get_mempolicy", libc::SYS_get_mempolicy),
        ("init_module", libc::SYS_init_module),
        ("kcmp", libc::SYS_kcmp),
        ("kexec_load", libc::SYS_kexec_load),
        ("kexec_file_load", libc::SYS_kexec_file_load),
        ("keyctl", libc::SYS_keyctl),
        ("mbind", libc::SYS_mbind),
        ("mount", libc::SYS_mount),
        ("move_pages", libc::SYS_move_pages),
        ("name_to_handle_at", libc::SYS_name_to_handle_at),
        ("nfsservctl", libc::SYS_nfsservctl),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("personality", libc::SYS_personality),
        ("pivot_root", libc::SYS_pivot_root),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("ptrace", libc::SYS_ptrace),
        ("quotactl", libc::SYS_quotactl),
        ("reboot", libc::SYS_reboot),
        ("request_key", libc::SYS_request_key),
        ("set_mempolicy", libc::SYS_set_mempolicy),
        ("setns", libc::SYS_setns),
        ("settimeofday", libc::SYS_settimeofday),
        ("swapoff", libc::SYS_swapoff),
        ("swapon", libc::SYS_swapon),
        ("umount2", libc::SYS_umount2),
        ("unshare", libc::SYS_unshare),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("lookup_dcookie", 212),
    ]
    .into_iter()
    .chain(older())
    .collect()
}

/// Those that only this machine's oldest programs know.
#[cfg(target_arch = "x86_64")]
fn older() -> Vec<(&'static str, i64)> {
    vec![
        ("_sysctl", libc::SYS__sysctl),
        ("create_module", 174),
        ("get_kernel_syms", 177),
        ("ioperm", libc::SYS_ioperm),
        ("iopl", libc::SYS_iopl),
        ("query_module", 178),
        ("sysfs", libc::SYS_sysfs),
        ("uselib", libc::SYS_uselib),
        ("ustat", libc::SYS_ustat),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn older() -> Vec<(&'static str, i64)> {
    Vec::new()
}

fn d7_calls_that_the_ancestor_refuses(sandbox: &Sandbox) {
    let mut calls = refused();
    if !cfg!(target_arch = "x86_64") {
        calls.retain(|(name, _)| *name != "lookup_dcookie");
    }
    for (name, errno) in errors(sandbox, &[], &calls) {
        assert!(errno == EPERM || errno == ENOSYS, "{name}: {errno}");
    }
    // Without the filter and with all rights most of them get further: the errors above are the filter's.
    let open = errors(
        sandbox,
        &["--seccomp", "unconfined"],
        &[("get_mempolicy", libc::SYS_get_mempolicy), ("kcmp", libc::SYS_kcmp)],
    );
    assert!(open.values().all(|errno| *errno != EPERM), "{open:?}");
}

fn d8_the_ancestors_whole_list(sandbox: &Sandbox) {
    let socket = [("socket", libc::SYS_socket)];
    assert_eq!(errors(sandbox, &["--seccomp", "ancestor"], &socket)["socket"], EPERM);
    assert_ne!(errors(sandbox, &[], &socket)["socket"], EPERM);
    ancestor(sandbox, &["-a"], &["ping", "-c", "1", "127.0.0.1"]).ok();
}

fn d9_holes_that_came_later(sandbox: &Sandbox) {
    let calls = [
        ("io_uring_setup", 425),
        ("io_uring_enter", 426),
        ("io_uring_register", 427),
        ("open_tree", 428),
        ("move_mount", 429),
        ("fsopen", 430),
        ("fsconfig", 431),
        ("fsmount", 432),
        ("fspick", 433),
        ("clone3", 435),
        ("mount_setattr", 442),
        ("migrate_pages", libc::SYS_migrate_pages),
        ("pidfd_getfd", 438),
        ("open_tree_attr", 467),
        ("of_a_later_kernel", 999),
    ];
    for (name, errno) in errors(sandbox, &[], &calls) {
        assert!(errno == EPERM || errno == ENOSYS, "{name}: {errno}");
    }
    // Threads and processes are still made.
    let told = perl(sandbox, &[], "my $p = fork; exit 3 if !$p; waitpid $p, 0; print $? >> 8, \"\\n\"");
    assert_eq!(told.stdout, "3\n");
}

fn d10_no_filter_and_ones_own(sandbox: &Sandbox) {
    let shown = |profile: &str| run(sandbox, &["--seccomp", profile, "grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(shown("unconfined").ok().stdout, "Seccomp:\t0\n");
    let file = sandbox.dir().join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    std::fs::write(&file, profile).expect("our own");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(shown(file).ok().stdout, "Seccomp:\t2\n");
    let found = errors(sandbox, &["--seccomp", file], &[("getppid", libc::SYS_getppid)]);
    assert_eq!(found["getppid"], 95);
    shown("/nosuch/profile.json").refused(125, &["/nosuch/profile.json"]);
}

fn d11_a_failing_exec_is_still_told(sandbox: &Sandbox) {
    for flags in ["-a", "-aU"] {
        for profile in ["default", "ancestor"] {
            ancestor(sandbox, &[flags, "--seccomp", profile], &["/bin/nosuch"]).refused(127, &["/bin/nosuch"]);
        }
    }
}
