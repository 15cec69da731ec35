//! The last step: from our program to the container's.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::failure::StepError;
use super::stage::Stage;
use super::{fail, process};
use crate::container::describe::PATH;
use crate::namespaces::pid::serve;
use crate::spec::{Mark, Stopwatch};
use crate::sys::process::{block_signals, execute as execve, unblock_signals};
use crate::sys::title::TitleMemory;
use crate::sys::{Channel, Fresh, exit_now};

/// Executes the program; comes back only with an error.
pub(super) fn execute(args: &[String], env: &[String], stage: &Stage) -> StepError {
    let env = environment(env, stage);
    let (Some(args), Some(env_texts)) = (texts(args), texts(&env)) else {
        return StepError::unexpected("a zero byte in an argument or in the environment");
    };
    unblock_signals();
    let Some(name) = args.first().map(|name| name.to_string_lossy().into_owned()) else {
        return StepError::unexpected("there is no program");
    };
    let mut refused = None;
    for path in candidates(&name, &env) {
        let Ok(text) = CString::new(path.as_str()) else { continue };
        let error = execve(&text, &args, &env_texts);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !Path::new(&path).exists() => {}
            // execvp(3): another directory of the path may have one that works.
            Some(libc::EACCES) => refused = refused.or(Some(explain(&path, &error))),
            _ => return explain(&path, &error),
        }
    }
    refused.unwrap_or_else(|| not_found(&name))
}

/// Is what the built-in init is made of, besides the stage.
pub(super) struct InitProcess<'a> {
    pub(super) channel: Channel,
    pub(super) fresh: Fresh,
    pub(super) watch: &'a Stopwatch,
    /// Its step.
    pub(super) mark: Mark,
}

/// Stays as PID 1 and runs the program in a child, which reports by itself if it cannot.
pub(super) fn execute_under_init(
    args: &[String],
    env: &[String],
    mut stage: Stage,
    process: InitProcess<'_>,
) -> Infallible {
    let InitProcess { channel, fresh, watch, mark } = process;
    let step_time = watch.begin(mark);
    let title = stage.title.take();
    // Before the fork, so that no signal is lost between it and the first wait.
    block_signals();
    let step = || format!("execute {args:?}");
    let forked = fresh.fork_process(|| {
        watch.begin(Mark::Program).leave_open();
        unblock_signals();
        if let Err(error) = process::start_session(stage.terminal.as_ref()) {
            return fail(&channel, "start a session".to_owned(), error);
        }
        fail(&channel, step(), execute(args, env, &stage))
    });
    match forked {
        Err(error) => fail(&channel, step(), StepError::io(&error)),
        Ok(child) => {
            // The parent learns of execve(2) from the end of the channel: the child's copy alone may hold it open.
            drop(channel);
            drop(stage);
            super::hide_memory();
            become_visible_as_init(title, args);
            step_time.done();
            exit_now(serve(child))
        }
    }
}

/// Takes the name and the command line of an init of its own, for people who look at `ps`. The command line and the environment of
/// the process that cloned us are nothing for the container.
fn become_visible_as_init(title: Option<TitleMemory>, args: &[String]) {
    // It cannot fail with a name of less than 16 bytes (prctl(2), PR_SET_NAME).
    let _ = rustix::thread::set_name(c"mydocker-init");
    if let Some(title) = title {
        let words: Vec<&str> = ["mydocker-init", "--"].into_iter().chain(args.iter().map(String::as_str)).collect();
        title.replace(&words);
    }
}

/// HOME is the user's, from the container's passwd, unless the request says otherwise.
fn environment(env: &[String], stage: &Stage) -> Vec<String> {
    let mut env = env.to_vec();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", stage.user.home.as_deref().unwrap_or("/")));
    }
    env
}

fn texts(list: &[String]) -> Option<Vec<CString>> {
    list.iter().map(|text| CString::new(text.as_str()).ok()).collect()
}

/// Returns the paths to try, in the order of the container's PATH.
fn candidates(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH);
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|d| format!("{d}/{name}"))
        .collect()
}

fn not_found(name: &str) -> StepError {
    if name.contains('/') {
        return StepError { errno: Some(libc::ENOENT), ..StepError::refused(name).with_exit_code(127) };
    }
    // In these words engines look for it.
    StepError::refused(format!("`{name}`: executable file not found in $PATH"))
        .with_exit_code(127)
        .with_hint("it is in none of the directories of PATH inside the container")
}

/// Looks whether `name` leads to something that somebody may execute, without executing it. The last word is execve(2)'s: it knows the
/// user, and the interpreter.
///
/// A relative path starts at the working directory.
pub(super) fn find_program(directory: Option<BorrowedFd<'_>>, name: &str, path: Option<&str>) -> Result<(), StepError> {
    let env: Vec<String> = path.map(|path| format!("PATH={path}")).into_iter().collect();
    let mut refused = None;
    for candidate in candidates(name, &env) {
        match inspect(directory.unwrap_or(CWD), &candidate) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => refused = refused.or(Some(explain(&candidate, &errno.into()))),
        }
    }
    Err(refused.unwrap_or_else(|| not_found(name)))
}

fn inspect(directory: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let file = rustix::fs::openat(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let is_program = FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o111 != 0;
    if is_program { Ok(()) } else { Err(Errno::ACCESS) }
}

/// Says what an error of execve(2) means for a file that exists.
fn explain(path: &str, error: &io::Error) -> StepError {
    let step = StepError::io(error).with_object(path).with_exit_code(126);
    match error.raw_os_error() {
        Some(libc::ENOENT) => step.with_exit_code(127).with_hint(match script_interpreter(path) {
            Some(interpreter) => {
                format!("its first line names the interpreter {interpreter}, which is not in the container")
            }
            None => "the loader that it names is not in the container (a program of another distribution?)".to_owned(),
        }),
        Some(libc::EACCES) if Path::new(path).is_dir() => step.with_hint("it is a directory"),
        Some(libc::EACCES) => step.with_hint("it is not executable by this user (`chmod +x`), or on a `noexec` mount"),
        Some(libc::ENOEXEC) => step.with_hint("it is neither a program for this machine nor a script with `#!`"),
        _ => step,
    }
}

fn script_interpreter(path: &str) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_ascii_whitespace().next().map(str::to_owned)
}
