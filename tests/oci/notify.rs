//! A service manager that wants to hear when the container is ready: NOTIFY_SOCKET (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::bundle::{Bundle, expect_nothing, oci, state, wait_status};
use crate::support::{Case, Running, Sandbox, cases, eventually, inside_network};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        start_waits_until_it_is_ready,
        a_run_passes_it_on,
        a_container_that_ends_holds_nobody_up,
        nobody_who_listens_is_a_warning,
        nobody_asks,
    ]
}

/// The manager's socket, of which every command here knows.
fn manager(sandbox: &Sandbox) -> UnixDatagram {
    let path = sandbox.dir().join("manager");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    sandbox.set_env("NOTIFY_SOCKET", &path);
    socket
}

fn hear(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// A program that shows its variable, waits, and is told by nobody.
fn bundle<'a>(sandbox: &'a Sandbox, script: &str) -> Bundle<'a> {
    let bundle = Bundle::new(sandbox, "b", script);
    bundle.mount(json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] }));
    bundle.edit(|config| {
        config["process"]["env"].as_array_mut().unwrap().push("NOTIFY_SOCKET=/what/it/was".into());
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    bundle
}

/// The container's socket, by the path that its program knows.
fn inside(sandbox: &Sandbox) -> PathBuf {
    let pid = state(sandbox, "web")["pid"].to_string();
    format!("/proc/{pid}/root/run/notify/notify.sock").into()
}

#[track_caller]
fn goes_on(running: &mut Running) {
    assert_eq!(running.ended(), None, "{} {}", running.stdout(), running.stderr());
}

fn start_waits_until_it_is_ready(sandbox: &Sandbox) {
    let manager = manager(sandbox);
    bundle(sandbox, "exec sleep 300").oci(&["create", "web"]).ok();
    let mut start = sandbox.spawn(&["oci", "start", "web"]);
    wait_status(sandbox, "web", "running");
    let socket = inside(sandbox);
    // Anybody inside may write to it, and nobody may put another in its place.
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o777);
    oci(sandbox, &["exec", "--user", "0", "web", "rm", "/run/notify/notify.sock"]).expect_code(1);
    let environment = oci(sandbox, &["exec", "web", "cat", "/proc/1/environ"]).ok().stdout;
    assert_eq!(environment.matches("NOTIFY_SOCKET=").count(), 1, "{environment}");
    assert!(environment.contains("NOTIFY_SOCKET=/run/notify/notify.sock\0"), "{environment}");
    let program = UnixDatagram::unbound().unwrap();
    for message in ["STATUS=not yet", "READY=0", "XREADY=1", "\n\n", "MAINPID=1"] {
        program.send_to(message.as_bytes(), &socket).unwrap();
    }
    goes_on(&mut start);
    // While it waits others may look, and work.
    oci(sandbox, &["pause", "web"]).ok();
    oci(sandbox, &["resume", "web"]).ok();
    program.send_to(b"STATUS=almost\nREADY=1\nMAINPID=1\n", &socket).unwrap();
    let pid = state(sandbox, "web")["pid"].to_string();
    assert_eq!([hear(&manager), hear(&manager)], ["READY=1\n".to_owned(), format!("MAINPID={pid}\n")]);
    // Until that is taken, with the descriptor that comes with it, nobody goes.
    goes_on(&mut start);
    assert_eq!(hear(&manager), "BARRIER=1");
    start.wait().ok();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_run_passes_it_on(sandbox: &Sandbox) {
    let manager = manager(sandbox);
    let bundle = bundle(sandbox, "exec sleep 300");
    for detached in [true, false] {
        let words: &[&str] = if detached { &["run", "--detach", "web"] } else { &["run", "web"] };
        let run = bundle.spawn(words);
        eventually("it runs", || (oci(sandbox, &["state", "web"]).stdout.contains("running")).then_some(()));
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", inside(sandbox)).unwrap();
        // Who stays is who the manager knows.
        let pid = if detached { state(sandbox, "web")["pid"].to_string() } else { run.pid().to_string() };
        assert_eq!([hear(&manager), hear(&manager)], ["READY=1\n".to_owned(), format!("MAINPID={pid}\n")]);
        if detached {
            assert_eq!(hear(&manager), "BARRIER=1");
            run.wait().ok();
            oci(sandbox, &["delete", "--force", "web"]).ok();
        } else {
            oci(sandbox, &["kill", "web", "KILL"]).ok();
            run.wait().expect_code(137);
        }
        expect_nothing(sandbox);
    }
}

fn a_container_that_ends_holds_nobody_up(sandbox: &Sandbox) {
    let _manager = manager(sandbox);
    let bundle = bundle(sandbox, "true");
    bundle.oci(&["run", "web"]).ok();
    bundle.oci(&["run", "--detach", "web"]).ok();
    oci(sandbox, &["delete", "web"]).ok();
    bundle.oci(&["create", "web"]).ok();
    oci(sandbox, &["start", "web"]).ok();
    oci(sandbox, &["delete", "web"]).ok();
    // Nor does one that is killed.
    bundle.edit(|config| config["process"]["args"] = json!(["sleep", "300"]));
    bundle.oci(&["create", "web"]).ok();
    let start = sandbox.spawn(&["oci", "start", "web"]);
    wait_status(sandbox, "web", "running");
    oci(sandbox, &["delete", "--force", "web"]).ok();
    start.wait().ok();
    expect_nothing(sandbox);
}

fn nobody_who_listens_is_a_warning(sandbox: &Sandbox) {
    drop(manager(sandbox));
    let bundle = bundle(sandbox, "true");
    let log = sandbox.dir().join("log");
    let words = ["oci", "--log", log.to_str().unwrap(), "run", "--detach", "-b", bundle.dir.to_str().unwrap(), "web"];
    sandbox.mydocker(&words).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("NOTIFY_SOCKET") && text.contains("connection refused"), "{text}");
    oci(sandbox, &["delete", "--force", "web"]).ok();
    // A name that is no file's.
    let name = format!("{}-manager", sandbox.token());
    sandbox.set_env("NOTIFY_SOCKET", format!("@{name}"));
    let holder = sandbox.spawn_shell("echo ready; exec sleep 300");
    eventually("somebody is on the host", || holder.stdout().contains("ready").then_some(()));
    let manager = inside_network(&format!("/proc/{}/ns/net", holder.pid()), || {
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap()
    });
    bundle.edit(|config| config["process"]["args"] = json!(["sleep", "300"]));
    let run = bundle.spawn(&["run", "--detach", "web"]);
    eventually("it runs", || (oci(sandbox, &["state", "web"]).stdout.contains("running")).then_some(()));
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", inside(sandbox)).unwrap();
    assert_eq!(hear(&manager), "READY=1\n");
    drop((hear(&manager), hear(&manager), holder));
    run.wait().ok();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn nobody_asks(sandbox: &Sandbox) {
    let bundle = bundle(sandbox, "echo $NOTIFY_SOCKET; ls /run");
    assert_eq!(bundle.oci(&["run", "web"]).ok().stdout, "/what/it/was\n");
    sandbox.set_env("NOTIFY_SOCKET", "");
    assert_eq!(bundle.oci(&["run", "web"]).ok().stdout, "/what/it/was\n");
    expect_nothing(sandbox);
}
