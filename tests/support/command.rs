//! A program that runs in a sandbox, and what came of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::eventually_within;

/// What a program that has ended left.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The command line, for messages.
    pub(crate) command: String,
    /// Exit code, or 128 + the signal that ended it.
    pub(crate) code: i32,
    /// Everything it wrote to stdout.
    pub(crate) stdout: String,
    /// Everything it wrote to stderr.
    pub(crate) stderr: String,
    /// How long it ran.
    pub(crate) took: Duration,
}

impl Output {
    /// Fails the test unless the program exited with `code`.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {}", self.describe());
        self
    }

    /// Fails the test unless the program exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Fails the test unless it refused its input as every command has to: with `code`, in under two seconds, in words
    /// that contain each of `words`, and without the traces of a panic.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        let output = self.expect_code(code);
        for word in words {
            assert!(
                output.stderr.to_lowercase().contains(&word.to_lowercase()),
                "stderr should say {word:?}: {}",
                output.describe()
            );
        }
        assert!(output.took < Duration::from_secs(2), "a refusal must take less than 2 s: {}", output.describe());
        output.without_panic()
    }

    /// Fails the test if the program panicked.
    #[track_caller]
    pub(crate) fn without_panic(self) -> Self {
        assert!(!self.stderr.contains("panicked at"), "panic: {}", self.describe());
        self
    }

    /// Everything about it, for a failure's message.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{}\n  code {} after {:?}\n  stdout: {}\n  stderr: {}",
            self.command, self.code, self.took, self.stdout, self.stderr
        )
    }
}

/// A program that is running, its output going to two files.
pub(crate) struct Running {
    pub(super) child: Child,
    pub(super) command: String,
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
    pub(super) begun: Instant,
}

impl Running {
    /// Its process id (that of `mydocker` itself: what stands before it on the way into the sandbox only execs).
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the program still runs");
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until stdout contains `text`; fails the test if the program ends before.
    #[track_caller]
    pub(crate) fn wait_for_stdout(&mut self, text: &str) -> String {
        self.wait_for(&format!("{text:?} on stdout"), |stdout, _| stdout.contains(text))
    }

    /// Waits until `seen` holds for stdout and stderr; fails the test if the program ends before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, seen: impl Fn(&str, &str) -> bool) -> String {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            // Asked first: what a program wrote before it ended counts.
            let ended = self.ended();
            let (stdout, stderr) = (self.stdout(), self.stderr());
            if seen(&stdout, &stderr) {
                return stdout;
            }
            assert!(
                ended.is_none(),
                "{} ended with {ended:?} before {what}\nstdout: {stdout}\nstderr: {stderr}",
                self.command
            );
            assert!(
                Instant::now() < deadline,
                "{} did not show {what}\nstdout: {stdout}\nstderr: {stderr}",
                self.command
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Its exit code if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("it is our child").map(code)
    }

    /// Waits for its end, for `limit` at most.
    #[track_caller]
    pub(crate) fn wait_within(mut self, limit: Duration) -> Output {
        let what = format!("{} ends; stdout: {} stderr: {}", self.command, self.stdout(), self.stderr());
        let code = eventually_within(limit, &what, || self.ended());
        Output {
            code,
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: self.begun.elapsed(),
            command: self.command.clone(),
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(self) -> Output {
        self.wait_within(super::PATIENCE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
