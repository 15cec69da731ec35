//! A bundle's filter: what it decides, and on the running kernel.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use oci_spec::runtime::LinuxSeccomp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tests::{I386, X86_64, on, verdict};
use super::*;
use crate::sys::seccomp::install_with;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;

fn config(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn compiled(json: &str) -> SpecFilter {
    compile_spec(&config(json), None, false).unwrap()
}

fn refused(json: &str) -> String {
    compile_spec(&config(json), None, false).unwrap_err().to_string()
}

#[test]
fn unknown_names_are_passed_over_or_refused() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chown", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let error = compile_spec(&config(json), None, true).unwrap_err().to_string();
    assert!(error.contains("no system call `no_such_call`"), "{error}");
    assert!(compile_spec(&config(json), None, false).is_ok());
    assert!(compile_spec(&config(&json.replace("no_such_call", "fchown")), None, true).is_ok());
}

#[test]
fn every_action_is_what_the_kernel_calls_it() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "listenerMetadata": "m", "syscalls": [
            {"names": ["chown"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["chmod", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, {"names": ["rmdir"], "action": "SCMP_ACT_TRAP"},
            {"names": ["link"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}, {"names": ["unlink"], "action": "SCMP_ACT_LOG"},
            {"names": ["symlink"], "action": "SCMP_ACT_KILL"}, {"names": ["rename"], "action": "SCMP_ACT_KILL_THREAD"},
            {"names": ["chroot"], "action": "SCMP_ACT_KILL_PROCESS"}, {"names": ["chown"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    for (name, expected) in [
        ("read", ALLOW),
        ("chown", ERRNO | 1),
        ("chmod", ERRNO | 38),
        ("mkdir", libc::SECCOMP_RET_USER_NOTIF),
        ("rmdir", libc::SECCOMP_RET_TRAP),
        ("link", libc::SECCOMP_RET_TRACE | 7),
        ("unlink", libc::SECCOMP_RET_LOG),
        ("symlink", libc::SECCOMP_RET_KILL_THREAD),
        ("rename", libc::SECCOMP_RET_KILL_THREAD),
        ("chroot", libc::SECCOMP_RET_KILL_PROCESS),
    ] {
        assert_eq!(on(&filter.program, name, &[]), expected, "{name}");
    }
    assert_eq!(filter.listener, Some(Listener { path: "/run/agent".into(), metadata: Some("m".to_owned()) }));
    assert_ne!(filter.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, 0);
}

#[test]
fn every_comparison_compares() {
    for (op, value, two, yes, no) in [
        ("NE", 5, 0, &[4_u64, 6][..], &[5_u64][..]),
        ("LT", 5, 0, &[4], &[5, 6]),
        ("LE", 5, 0, &[4, 5], &[6]),
        ("EQ", 5, 0, &[5], &[4, 6, 1 << 32 | 5]),
        ("GE", 5, 0, &[5, 6], &[4]),
        ("GT", 5, 0, &[6, 1 << 40], &[4, 5]),
        ("MASKED_EQ", 0xf0, 0x50, &[0x50, 0x55], &[0x40, 0]),
    ] {
        let filter = compiled(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["personality"], "action": "SCMP_ACT_ERRNO",
                "args": [{{"index": 0, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}}]}}]}}"#
        ));
        for (values, expected) in [(yes, ERRNO | 1), (no, ALLOW)] {
            for value in values {
                assert_eq!(on(&filter.program, "personality", &[*value]), expected, "{op} {value}");
            }
        }
    }
}

#[test]
fn architectures_that_are_not_named_are_killed() {
    let with = |architectures: &str| {
        compiled(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [{architectures}],
                "syscalls": [{{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        ))
        .program
    };
    let both = with(r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32""#);
    // 15 and 90 are chmod.
    assert_eq!((verdict(&both, I386, 15, &[]), verdict(&both, X86_64, 90, &[])), (ERRNO | 1, ERRNO | 1));
    assert_eq!(verdict(&both, I386, 3, &[]), ALLOW);
    let one = with(r#""SCMP_ARCH_X86_64""#);
    assert_eq!(verdict(&one, X86_64, 90, &[]), ERRNO | 1);
    assert_eq!(verdict(&one, I386, 3, &[]) & libc::SECCOMP_RET_ACTION_FULL, libc::SECCOMP_RET_KILL_THREAD);
}

#[test]
fn what_cannot_be_is_refused() {
    let notify = |name: &str| {
        refused(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_NOTIFY"}}]}}"#
        ))
    };
    assert!(notify("mkdir").ends_with("needs a `listenerPath`, the socket of the agent that answers"));
    assert!(notify("sendmsg").contains("cannot be used for `sendmsg`"));
    assert!(refused(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("cannot be the default action"));
    let index = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(refused(index), "understand linux.seccomp: `6` is not an argument's index, 0 to 5,");
}

#[test]
fn flags_are_those_that_can_be_had() {
    let with = |flags: &str| compiled(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW" {flags}}}"#)).flags;
    assert_eq!(with(""), libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(with(r#", "flags": []"#), 0);
    let all = r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    assert_eq!(with(all), libc::SECCOMP_FILTER_FLAG_LOG);
    let asked = r#", "listenerPath": "/a", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]"#;
    assert_eq!(with(&format!("{all}{asked}")), libc::SECCOMP_FILTER_FLAG_LOG | 1 << 3 | 1 << 5);
}

#[test]
fn the_kernel_asks_the_agent() {
    let filter = compiled(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "SECCOMP_FILTER_FLAG_TSYNC"], "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    let (give, take) = std::sync::mpsc::channel::<OwnedFd>();
    let asking = std::thread::spawn(move || {
        give.send(install_with(filter.program.as_bytes(), filter.flags).unwrap().unwrap()).unwrap();
        std::fs::create_dir("/nowhere/at/all").unwrap_err().raw_os_error()
    });
    let listener = take.recv().unwrap();
    // Over a socket, as the runtime hands it to an agent.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    let state = vec![b'x'; 300_000];
    let sent = state.clone();
    let sender = std::thread::spawn(move || send_listener(&path, &sent, listener.as_fd()).unwrap());
    let (mut connection, _) = agent.accept().unwrap();
    let (mut text, received) = receive(&connection);
    connection.read_to_end(&mut text).unwrap();
    sender.join().unwrap();
    assert_eq!(text, state);
    let wait = Timespec::try_from(Duration::from_secs(10)).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&received, PollFlags::IN)], Some(&wait)), Ok(1), "nobody was asked");
    // An agent that goes away leaves ENOSYS behind.
    drop(received);
    assert_eq!(asking.join().unwrap(), Some(libc::ENOSYS));
}

/// Receives the beginning of a message and the one descriptor with it.
fn receive(socket: impl AsFd) -> (Vec<u8>, OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [std::io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    bytes.truncate(got.bytes);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
        _ => None,
    });
    (bytes, fds.flatten().next().unwrap())
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = send_listener(std::path::Path::new("/nonexistent/agent"), b"{}", null.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "hand the seccomp listener to /nonexistent/agent");
}

#[test]
fn a_bundles_program_is_cached_and_one_in_its_place_is_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("seccomp");
    let with = |name: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        )
    };
    let strict = compile_spec(&config(&with("chmod")), Some(&cache), false).unwrap().program;
    let file = |besides: Option<&std::path::Path>| {
        let mut files = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| Some(path.as_path()) != besides).unwrap()
    };
    let first = file(None);
    assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    let key = first.file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(cache::read(&cache, &key), Some(strict));
    // A whole program of ours, but of another profile.
    compile_spec(&config(&with("getrandom")), Some(&cache), false).unwrap();
    std::fs::copy(file(Some(&first)), &first).unwrap();
    assert_eq!(cache::read(&cache, &key), None);
}
