//! Filters that ask an agent.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci, state};
use crate::support::{Case, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![an_agent_gets_ready_while_the_container_is_created]
}

struct Agent {
    path: PathBuf,
    heard: Receiver<(Option<OwnedFd>, Value)>,
}

impl Agent {
    fn listen(sandbox: &Sandbox) -> Self {
        let path = sandbox.dir().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut text = [0; 4096];
            let mut parts = [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = rustix::net::recvmsg(connection.as_fd(), &mut parts, &mut control, flags).unwrap();
            let listener = control.drain().find_map(|part| match part {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            let said = serde_json::from_slice(&text[..got.bytes]).unwrap();
            let _ = sender.send((listener, said));
        });
        Self { path, heard }
    }

    /// What was said of the container; its listener lives as long as this.
    fn heard(self) -> (OwnedFd, Value) {
        let (listener, said) =
            self.heard.recv_timeout(Duration::from_secs(30)).expect("the agent hears of the container");
        (listener.unwrap(), said)
    }
}

/// A filter that asks for a call which nobody here makes.
fn asking<'a>(sandbox: &'a Sandbox, agent: &Agent, no_new_privileges: bool) -> Bundle<'a> {
    let bundle = Bundle::new(sandbox, "b", "grep -q Seccomp:.2 /proc/self/status && exec sleep 300");
    bundle.edit(|config| {
        config["process"]["noNewPrivileges"] = no_new_privileges.into();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path, "listenerMetadata": "for the agent",
            "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
    bundle
}

fn an_agent_gets_ready_while_the_container_is_created(sandbox: &Sandbox) {
    for no_new_privileges in [false, true] {
        let agent = Agent::listen(sandbox);
        let bundle = asking(sandbox, &agent, no_new_privileges);
        bundle.oci(&["create", "web"]).ok();
        std::fs::remove_file(sandbox.dir().join("agent.sock")).unwrap();
        let (_listener, said) = agent.heard();
        let pid = &state(sandbox, "web")["pid"];
        let wanted = (&json!("for the agent"), &json!(["seccompFd"]), pid);
        assert_eq!((&said["metadata"], &said["fds"], &said["pid"]), wanted);
        let told = &said["state"];
        assert_eq!((&told["status"], &told["id"], &told["pid"]), (&json!("creating"), &json!("web"), pid));
        oci(sandbox, &["start", "web"]).ok();
        assert_eq!(state(sandbox, "web")["status"], "running");
        oci(sandbox, &["delete", "--force", "web"]).ok();
        expect_nothing(sandbox);
    }
}
