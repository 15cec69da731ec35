//! A pseudo terminal with a program on it, as a person would have it. CI has none, so tests open their own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use super::sandbox::Sandbox;
use super::wait::{PATIENCE, eventually, eventually_within};

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `words` in `directory` of the sandbox's host on a new terminal of 80 × 24, as leader of its session.
    pub(crate) fn start(sandbox: &Sandbox, directory: &Path, words: &[OsString]) -> Self {
        // Not openpty(3): its descriptors are not close-on-exec, and what other tests start would keep them.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a pty");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let other_end =
            open(ptsname_r(&master).expect("it has one").as_str(), flags, Mode::empty()).expect("the other end");
        tcsetwinsize(&other_end, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a terminal");
        let slave = || Stdio::from(other_end.try_clone().expect("a descriptor"));
        let mut leader: Vec<OsString> = vec!["setsid".into(), "--ctty".into()];
        leader.extend(words.iter().cloned());
        let child = sandbox
            .command(directory, &leader)
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("nsenter starts");
        drop(other_end);
        let master = File::from(OwnedFd::from(master));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = {
            let (seen, mut master) = (Arc::clone(&seen), master.try_clone().expect("a descriptor"));
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                // EIO is how a pty says that nobody has the other end open any more.
                while let Ok(count @ 1..) = master.read(&mut chunk) {
                    seen.lock().expect("no panic while held").extend_from_slice(&chunk[..count]);
                }
            })
        };
        Self { child, master, seen, reader: Some(reader) }
    }

    /// Types `text`.
    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes input");
    }

    /// Types Ctrl-C.
    pub(crate) fn interrupt(&mut self) {
        self.write("\x03");
    }

    /// Gives it another size; the program hears of it by SIGWINCH.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a terminal");
    }

    /// What was shown so far, bytes as they came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.lock().expect("no panic while held").clone()
    }

    /// What was shown so far.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let what = format!("{text:?} on the terminal");
        eventually(&what, || Some(self.screen()).filter(|screen| screen.contains(text)))
    }

    /// Pid of the program.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// Waits for the program's end and returns its exit code and everything that was shown.
    #[track_caller]
    pub(crate) fn wait(self) -> (i32, String) {
        self.wait_within(PATIENCE)
    }

    /// [`Terminal::wait`] with a limit of its own.
    #[track_caller]
    pub(crate) fn wait_within(mut self, limit: Duration) -> (i32, String) {
        let what = format!("the program on the terminal ends; it shows {:?}", self.screen());
        let status = eventually_within(limit, &what, || self.child.try_wait().expect("it is our child"));
        // The last bytes may still be on their way; a daemon that kept the terminal would hold this up for ever.
        let what = "nobody holds the terminal after the program's end";
        eventually_within(limit, what, || self.reader.as_ref().is_some_and(JoinHandle::is_finished).then_some(()));
        (super::command::code(status), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
