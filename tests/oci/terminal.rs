//! Terminals: sent through a socket, or carried to ours.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::bundle::{Bundle, expect_nothing, oci, wait_status};
use crate::support::{Case, Sandbox, Terminal, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_terminal_goes_through_the_socket,
        who_reads_create_to_its_end_does_not_wait_for_the_container,
        a_process_s_terminal_goes_through_the_socket,
        a_terminal_wants_a_taker,
        a_terminal_of_ours_is_carried_and_restored,
        a_terminal_of_ours_is_restored_after_a_kill,
    ]
}

/// Who takes terminals: an engine's part.
struct Taker {
    path: PathBuf,
    thread: JoinHandle<OwnedFd>,
}

impl Taker {
    fn listen(sandbox: &Sandbox, name: &str) -> Self {
        let path = sandbox.dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut name = [0; 64];
            let flags = RecvFlags::CMSG_CLOEXEC;
            rustix::net::recvmsg(connection.as_fd(), &mut [IoSliceMut::new(&mut name)], &mut control, flags).unwrap();
            let fds = control.drain().find_map(|part| match part {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            fds.unwrap()
        });
        Self { path, thread }
    }

    /// Reads everything that is written to the terminal until nobody has it open.
    fn read(self, type_this: &str) -> String {
        let mut master = File::from(self.thread.join().unwrap());
        master.write_all(type_this.as_bytes()).unwrap();
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        // EIO is how a pty says that the other end is closed.
        while let Ok(count @ 1..) = master.read(&mut chunk) {
            text.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn a_terminal_goes_through_the_socket(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "tty; test -t 0 && test -t 1 && test -t 2 && read word && echo got $word");
    bundle.edit(|config| config["process"]["terminal"] = true.into());
    let taker = Taker::listen(sandbox, "console.sock");
    bundle.oci(&["create", "--console-socket", taker.path.to_str().unwrap(), "web"]).ok();
    oci(sandbox, &["start", "web"]).ok();
    let text = taker.read("hello\n");
    assert!(text.contains("/dev/pts/0") && text.contains("got hello"), "{text}");
    wait_status(sandbox, "web", "stopped");
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn who_reads_create_to_its_end_does_not_wait_for_the_container(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.edit(|config| config["process"]["terminal"] = true.into());
    let taker = Taker::listen(sandbox, "console.sock");
    let script = format!(
        "$MYDOCKER oci create -b {} --console-socket {} web 2>&1 | cat",
        bundle.dir.display(),
        taker.path.display()
    );
    sandbox.shell(&script).ok();
    oci(sandbox, &["start", "web"]).ok();
    oci(sandbox, &["delete", "-f", "web"]).ok();
    taker.read("");
    expect_nothing(sandbox);
}

fn a_process_s_terminal_goes_through_the_socket(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["run", "-d", "web"]).ok();
    let taker = Taker::listen(sandbox, "console.sock");
    let socket = taker.path.to_str().unwrap();
    let words =
        ["exec", "--detach", "--tty", "--console-socket", socket, "web", "sh", "-c", "tty; read a; echo got $a"];
    oci(sandbox, &words).ok();
    let text = taker.read("hello\n");
    assert!(text.contains("/dev/pts/") && text.contains("got hello"), "{text}");
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_terminal_wants_a_taker(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    bundle.oci(&["create", "--console-socket", "/x.sock", "web"]).refused(1, &["--console-socket", "asks for none"]);
    bundle.edit(|config| config["process"]["terminal"] = true.into());
    bundle.oci(&["create", "web"]).refused(1, &["--console-socket"]);
    bundle.oci(&["run", "--detach", "web"]).refused(1, &["--console-socket"]);
    bundle.oci(&["create", "--console-socket", "/x.sock", "web"]).refused(1, &["/x.sock", "no such file or directory"]);
    expect_nothing(sandbox);
}

fn a_terminal_of_ours_is_carried_and_restored(sandbox: &Sandbox) {
    let bundle = Bundle::new(
        sandbox,
        "b",
        "stty size; trap 'stty size' WINCH; echo ready; while ! read word; do :; done; echo got $word; exit 6",
    );
    bundle.edit(|config| config["process"]["terminal"] = true.into());
    let words: Vec<String> =
        bundle.command(&["run", "web"]).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!(
        "before=$(stty -g); {}; code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo restored; exit $code",
        words.join(" ")
    );
    let mut terminal = Terminal::start(sandbox, sandbox.dir(), &["sh".into(), "-c".into(), script.into()]);
    terminal.wait_for("24 80");
    terminal.wait_for("ready");
    terminal.resize(30, 90);
    terminal.wait_for("30 90");
    terminal.write("hello\r");
    terminal.wait_for("got hello");
    let (code, screen) = terminal.wait();
    assert_eq!(code, 6, "{screen}");
    assert!(screen.contains("restored"), "{screen}");
    expect_nothing(sandbox);
}

fn a_terminal_of_ours_is_restored_after_a_kill(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "echo ready; exec sleep 300");
    bundle.edit(|config| config["process"]["terminal"] = true.into());
    let words: Vec<String> =
        bundle.command(&["run", "web"]).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!(
        "before=$(stty -g); {}; code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo restored; exit $code",
        words.join(" ")
    );
    let terminal = Terminal::start(sandbox, sandbox.dir(), &["sh".into(), "-c".into(), script.into()]);
    terminal.wait_for("ready");
    oci(sandbox, &["kill", "web", "KILL"]).ok();
    let (code, screen) = terminal.wait();
    assert_eq!(code, 137, "{screen}");
    assert!(screen.contains("restored"), "{screen}");
    expect_nothing(sandbox);
}
