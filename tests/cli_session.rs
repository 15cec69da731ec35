//! The client against a supervisor that the test plays: what it sends, shows, survives, and leaves behind.

#![expect(clippy::unwrap_used, reason = "a test: the panic is the message")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use mydocker::spec::{ContainerId, ExitStatus};
use mydocker::store::{Directories, FileLock, ProjectDirectory};
use mydocker::supervisor::control::protocol::{
    Command as Asked, ContainerStatus, Failure, ObjectKind, Progress, Reply, ReplyBody, Request, Selection, State, Step,
};
use mydocker::sys::{Channel, parse_message, send_message};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// A project whose supervisor is this test.
struct Stage {
    base: tempfile::TempDir,
    directories: Directories,
    project: ProjectDirectory,
    /// Held as a keeper would.
    _lock: FileLock,
    listener: UnixListener,
}

impl Stage {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let directories = Directories::new(base.path().join("run"), base.path().join("data"));
        directories.create().unwrap();
        let project = directories.create_project("demo").unwrap();
        let lock = FileLock::try_acquire(&project.path().join("lock")).unwrap();
        let listener = UnixListener::bind(project.socket()).unwrap();
        let file = "services:\n  web: {image: root_fs, command: [x]}\n  db: {image: root_fs, command: [x]}\n";
        fs::write(base.path().join("compose.yaml"), file).unwrap();
        Self { base, directories, project, _lock: lock, listener }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mydocker"));
        command
            .args(["compose", "-p", "demo"])
            .args(words)
            .current_dir(self.base.path())
            .env("MYDOCKER_RUN_DIR", self.directories.run())
            .env("MYDOCKER_DATA_DIR", self.directories.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }

    fn accept(&self) -> Peer {
        Peer(Channel::new(self.listener.accept().unwrap().0.into()))
    }

    /// Plays the beginning of a foreground `up`, until the containers run.
    fn begin_up(&self, peer: &mut Peer, web: &ContainerStatus) {
        assert!(matches!(peer.hear().command, Asked::Watch));
        peer.answer_list(&[]);
        let up = peer.hear();
        let Asked::Up(asked) = &up.command else { panic!("{up:?}") };
        assert_eq!((asked.project.name.as_str(), asked.project.services.len()), ("demo", 2));
        let row = Progress { kind: ObjectKind::Container, name: web.name.clone(), step: Step::Started };
        peer.say(up.number, ReplyBody::Progress(row));
        peer.say(1, ReplyBody::Event(Box::new(web.clone())));
        peer.say(up.number, ReplyBody::Done);
        peer.answer_list(std::slice::from_ref(web));
    }

    fn container(&self) -> ContainerStatus {
        let id = ContainerId::generate();
        self.directories.create_container(id.as_str()).unwrap();
        ContainerStatus {
            name: "demo-web-1".into(),
            project: "demo".into(),
            service: "web".into(),
            number: 1,
            image: "root_fs".into(),
            command: vec!["x".into()],
            state: State::Running,
            health: None,
            pid: Some(1),
            exit: None,
            oom_killed: false,
            restarts: 0,
            created_at: 1_800_000_000,
            started_at: Some(1_800_000_000),
            finished_at: None,
            ports: Vec::new(),
            addresses: [].into(),
            log: Some(self.directories.log(id.as_str())),
            tty: false,
            labels: [].into(),
            changes: 1,
            id,
        }
    }
}

struct Peer(Channel);

impl Peer {
    fn hear(&mut self) -> Request {
        self.hear_with_fds().0
    }

    fn hear_with_fds(&mut self) -> (Request, Vec<OwnedFd>) {
        let frame = self.0.recv().unwrap().expect("the client hung up");
        (parse_message(&frame).unwrap(), frame.fds)
    }

    fn say(&self, number: u64, body: ReplyBody) {
        send_message(&self.0, &Reply { number, body }, &[]).unwrap();
    }

    fn answer_list(&mut self, found: &[ContainerStatus]) {
        let request = self.hear();
        assert!(matches!(request.command, Asked::List), "{request:?}");
        self.say(request.number, ReplyBody::Containers(found.to_vec()));
    }
}

fn write_log(container: &ContainerStatus, text: &str) {
    let path = container.log.as_ref().unwrap();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for line in text.lines() {
        writeln!(file, "2026-11-23T10:00:00.000000000Z stdout F {line}").unwrap();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn ended(mut container: ContainerStatus, code: i32) -> ContainerStatus {
    container.state = State::Exited;
    container.exit = Some(ExitStatus::Code(code));
    container.finished_at = Some(1_800_000_009);
    container.changes += 1;
    container
}

#[test]
fn up_shows_every_line_and_one_signal_stops_gracefully() {
    let stage = Stage::new();
    let child = stage.start(&["up"]);
    let (mut peer, web) = (stage.accept(), stage.container());
    write_log(&web, "hello");
    stage.begin_up(&mut peer, &web);
    signal(&child, Signal::SIGINT);
    let stop = peer.hear();
    assert!(
        matches!(&stop.command, Asked::Stop { which: Selection::Services(services), .. } if services.is_empty()),
        "{stop:?}"
    );
    // Written while it stops, and after it was told of the end: nothing of it may be missing.
    let lines: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    write_log(&web, &lines);
    peer.say(1, ReplyBody::Event(Box::new(ended(web.clone(), 3))));
    write_log(&web, "bye");
    peer.say(stop.number, ReplyBody::Done);
    peer.answer_list(&[ended(web.clone(), 3)]);
    let (code, stdout, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(" Container demo-web-1  Started\n"), "{stderr}");
    assert!(stderr.contains("Gracefully Stopping... press Ctrl+C again to force\n"), "{stderr}");
    let shown: Vec<&str> = stdout.lines().filter(|line| line.starts_with("web-1  | ")).collect();
    assert_eq!((shown.len(), shown[0], shown[2001]), (2002, "web-1  | hello", "web-1  | bye"));
    assert!(stdout.contains("web-1 exited with code 3\n"), "{stdout}");
}

#[test]
fn up_ends_when_the_last_container_has_ended() {
    let stage = Stage::new();
    let child = stage.start(&["up", "--no-log-prefix"]);
    let (mut peer, web) = (stage.accept(), stage.container());
    stage.begin_up(&mut peer, &web);
    write_log(&web, "a line");
    peer.say(1, ReplyBody::Event(Box::new(ended(web, 0))));
    let (code, stdout, _) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, &stdout[..]), (Some(0), "a line\nweb-1 exited with code 0\n"));
}

#[test]
fn an_end_is_told_once_though_a_list_overtakes_the_events() {
    let stage = Stage::new();
    let child = stage.start(&["up"]);
    let (mut peer, web) = (stage.accept(), stage.container());
    assert!(matches!(peer.hear().command, Asked::Watch));
    peer.answer_list(&[]);
    let up = peer.hear();
    peer.say(up.number, ReplyBody::Done);
    let list = peer.hear();
    let other = ContainerStatus { id: ContainerId::generate(), ..web.clone() };
    peer.say(list.number, ReplyBody::Containers(vec![ended(web.clone(), 0), other.clone()]));
    // What was on its way when the list was made.
    peer.say(1, ReplyBody::Event(Box::new(web.clone())));
    peer.say(1, ReplyBody::Event(Box::new(ended(web.clone(), 0))));
    peer.say(1, ReplyBody::Event(Box::new(ended(other, 5))));
    let (code, stdout, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout.matches("exited with code 0").count(), 1, "{stdout}");
    assert_eq!(stdout.matches("exited with code 5").count(), 1, "{stdout}");
}

#[test]
fn a_second_signal_kills_and_a_third_leaves() {
    let stage = Stage::new();
    let child = stage.start(&["up"]);
    let (mut peer, web) = (stage.accept(), stage.container());
    stage.begin_up(&mut peer, &web);
    signal(&child, Signal::SIGTERM);
    let stop = peer.hear();
    assert!(matches!(stop.command, Asked::Stop { .. }));
    signal(&child, Signal::SIGINT);
    let kill = peer.hear();
    assert!(matches!(kill.command, Asked::Kill { signal, .. } if signal.get() == 9));
    peer.say(kill.number, ReplyBody::Done);
    peer.say(stop.number, ReplyBody::Done);
    peer.answer_list(&[ended(web.clone(), 137)]);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));

    let child = stage.start(&["up"]);
    let mut peer = stage.accept();
    stage.begin_up(&mut peer, &web);
    for number in 1..=3 {
        signal(&child, Signal::SIGINT);
        if number < 3 {
            peer.hear();
        }
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn a_closed_output_stops_as_a_signal_does() {
    let stage = Stage::new();
    let mut child = stage.start(&["up"]);
    let (mut peer, web) = (stage.accept(), stage.container());
    stage.begin_up(&mut peer, &web);
    drop(child.stdout.take());
    let stop = peer.hear();
    assert!(matches!(stop.command, Asked::Stop { .. }), "{stop:?}");
    peer.say(stop.number, ReplyBody::Done);
    peer.answer_list(&[]);
    let (code, _, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(141), "{stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}

#[test]
fn a_failed_up_is_told_with_its_causes_and_hint() {
    let stage = Stage::new();
    let child = stage.start(&["up", "-d"]);
    let mut peer = stage.accept();
    let up = peer.hear();
    let failure =
        Failure { chain: vec!["start `web`".into(), "no root".into()], hint: Some("make it".into()), code: 1 };
    peer.say(up.number, ReplyBody::Warning { message: "careful".into() });
    peer.say(up.number, ReplyBody::Failed(failure));
    let (code, stdout, stderr) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, &stdout[..]), (Some(1), ""));
    assert_eq!(stderr, "warning: careful\nerror: start `web`\ncaused by: no root\nhint: make it\n");
}

#[test]
fn a_request_survives_the_supervisor_s_death() {
    let stage = Stage::new();
    let child = stage.start(&["up", "-d"]);
    for _ in 0..3 {
        let mut peer = stage.accept();
        assert!(matches!(peer.hear().command, Asked::Up(_)));
    }
    // The keeper's next one: the old socket is there, and nobody answers until it is replaced.
    fs::remove_file(stage.project.socket()).unwrap();
    let mut peer = {
        let listener = UnixListener::bind(stage.project.socket()).unwrap();
        // A connection may still wait at the old listener; that one ends now.
        let _ = stage.listener.set_nonblocking(true);
        while stage.listener.accept().is_ok() {}
        Peer(Channel::new(listener.accept().unwrap().0.into()))
    };
    let up = peer.hear();
    assert_eq!(up.number, 1);
    peer.say(1, ReplyBody::Done);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn ps_and_logs_ask_the_supervisor() {
    let stage = Stage::new();
    let (web, child) = (stage.container(), stage.start(&["ps", "--format", "json"]));
    stage.accept().answer_list(std::slice::from_ref(&web));
    let (code, stdout, _) = told(&child.wait_with_output().unwrap());
    let line: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, line["Service"].as_str(), line["State"].as_str()), (Some(0), Some("web"), Some("running")));

    write_log(&web, "one\ntwo");
    let child = stage.start(&["logs", "-n", "1"]);
    stage.accept().answer_list(std::slice::from_ref(&web));
    assert_eq!(told(&child.wait_with_output().unwrap()).1, "web-1  | two\n");

    let child = stage.start(&["logs", "-f", "web"]);
    let mut peer = stage.accept();
    assert!(matches!(peer.hear().command, Asked::Watch));
    peer.answer_list(std::slice::from_ref(&web));
    write_log(&web, "three");
    peer.say(1, ReplyBody::Event(Box::new(ended(web, 0))));
    assert_eq!(told(&child.wait_with_output().unwrap()).1, "web-1  | one\nweb-1  | two\nweb-1  | three\n");
}

#[test]
fn exec_carries_bytes_over_pipes_and_returns_the_command_s_code() {
    let stage = Stage::new();
    let web = stage.container();
    let mut child =
        stage.command(&["exec", "-T", "-e", "A=1", "web", "cat", "-x"]).stdin(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let (mut to_child, sent) = (child.stdin.take().unwrap(), bytes.clone());
    let feeder = std::thread::spawn(move || to_child.write_all(&sent).unwrap());
    stage.accept().answer_list(std::slice::from_ref(&web));
    let mut peer = stage.accept();
    let (request, fds) = peer.hear_with_fds();
    let Asked::Exec(exec) = &request.command else { panic!() };
    assert_eq!((&exec.args[..], exec.env["A"].as_str(), exec.tty), (&["cat".to_owned(), "-x".into()][..], "1", false));
    let supervisor = std::thread::spawn(move || {
        let [mut stdin, mut stdout, mut stderr] = <[OwnedFd; 3]>::try_from(fds).unwrap().map(fs::File::from);
        peer.say(request.number, ReplyBody::ExecStarted { pid: 1 });
        std::io::copy(&mut stdin, &mut stdout).unwrap();
        stderr.write_all(b"told\n").unwrap();
        // Its streams stay open, as those of a daemon that it left behind.
        peer.say(request.number, ReplyBody::ExecEnded { status: ExitStatus::Code(7) });
        (peer, stdout)
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout == bytes && output.stderr == b"told\n");
    feeder.join().unwrap();
    drop(supervisor.join().unwrap());
}

#[test]
fn exec_on_a_terminal_is_raw_and_the_terminal_is_restored() {
    let stage = Stage::new();
    let web = stage.container();
    let (ours, inside) = (openpty(None, None).unwrap(), openpty(None, None).unwrap());
    let before = tcgetattr(&ours.slave).unwrap();
    let end = || Stdio::from(ours.slave.try_clone().unwrap());
    let mut child = stage.command(&["exec", "web", "sh"]).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    stage.accept().answer_list(std::slice::from_ref(&web));
    let mut peer = stage.accept();
    let request = peer.hear();
    assert!(matches!(&request.command, Asked::Exec(exec) if exec.tty && !exec.detach));
    let started = Reply { number: request.number, body: ReplyBody::ExecStarted { pid: 1 } };
    send_message(&peer.0, &started, &[inside.master.as_fd()]).unwrap();
    drop(inside.master);
    // A Ctrl-C is a byte for the command; the answer comes back untouched.
    let (mut terminal, mut command) = (fs::File::from(ours.master), fs::File::from(inside.slave));
    rustix::termios::tcsetattr(&command, rustix::termios::OptionalActions::Now, &raw(&command)).unwrap();
    command.write_all(b"ready").unwrap();
    let mut seen = [0; 5];
    terminal.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"ready");
    assert!(!tcgetattr(&ours.slave).unwrap().local_flags.contains(LocalFlags::ISIG));
    terminal.write_all(b"\x03x").unwrap();
    let mut typed = [0; 2];
    command.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"\x03x");
    command.write_all(b"last words").unwrap();
    peer.say(request.number, ReplyBody::ExecEnded { status: ExitStatus::Signal(9) });
    assert_eq!(child.wait().unwrap().code(), Some(137));
    let mut last = [0; 10];
    terminal.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"last words");
    assert_eq!(tcgetattr(&ours.slave).unwrap(), before);
}

fn raw(terminal: &fs::File) -> rustix::termios::Termios {
    let mut attributes = rustix::termios::tcgetattr(terminal).unwrap();
    attributes.make_raw();
    attributes
}

#[test]
fn exec_into_what_does_not_run_is_refused_with_125() {
    let stage = Stage::new();
    let web = stage.container();
    let refused = |words: &[&str], found: &[ContainerStatus]| {
        let child = stage.start(words);
        stage.accept().answer_list(found);
        told(&child.wait_with_output().unwrap())
    };
    let (code, _, stderr) = refused(&["exec", "-T", "wbe", "ls"], std::slice::from_ref(&web));
    assert_eq!(code, Some(125));
    assert!(stderr.contains("did you mean `web`?"), "{stderr}");
    let (code, _, stderr) = refused(&["exec", "-T", "web", "ls"], &[ended(web.clone(), 0)]);
    assert!(code == Some(125) && stderr.contains("is not running"), "{stderr}");
    let (code, _, stderr) = refused(&["exec", "-T", "--index", "2", "web", "ls"], &[web]);
    assert!(code == Some(125) && stderr.contains("no container 2"), "{stderr}");
    let output = stage.command(&["exec", "-t", "web", "ls"]).output().unwrap();
    assert!(told(&output).2.contains("the input device is not a TTY"));
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_project_that_nobody_works_on_is_only_looked_at() {
    let base = tempfile::tempdir().unwrap();
    let run: PathBuf = base.path().join("run");
    for words in [&["ps"][..], &["logs"], &["stop"], &["kill"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_mydocker"))
            .args(["compose", "-p", "nobody"])
            .args(words)
            .current_dir(base.path())
            .env("MYDOCKER_RUN_DIR", &run)
            .env("MYDOCKER_DATA_DIR", base.path().join("data"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    }
    assert!(!run.exists());
}

#[test]
fn up_says_who_can_take_over_the_host() {
    let stage = Stage::new();
    let file = "services:\n  web: {image: root_fs, command: [x], privileged: true, depends_on: [db]}\n  \
                db: {image: root_fs, command: [x], volumes: [\"/etc:/e\"]}\n  other: {image: root_fs, command: [x], pid: host}\n";
    fs::write(stage.base.path().join("compose.yaml"), file).unwrap();
    let said = |words: &[&str]| {
        let child = stage.start(words);
        let mut peer = stage.accept();
        let up = peer.hear();
        assert!(matches!(up.command, Asked::Up(_)), "{up:?}");
        peer.say(up.number, ReplyBody::Done);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let line = "warning: 2 services can take over this host (db: bind of /etc, writable; web: privileged): \
                mydocker compose config --risks tells more\n";
    assert_eq!(said(&["up", "-d", "web"]), line);
    fs::write(
        stage.base.path().join("compose.yaml"),
        "services: {web: {image: root_fs, command: [x], ports: [\"80\"]}}",
    )
    .unwrap();
    assert_eq!(said(&["up", "-d"]), "");
}
