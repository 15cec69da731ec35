//! Why a command of the runtime could not be carried out, in the words that engines look for.

use std::io;
use std::path::PathBuf;

use super::Status;
use crate::container::{ContainerError, LaunchFailure, SpawnError};
use crate::namespaces::cgroup::CgroupError;
use crate::namespaces::mount::MountError;
use crate::namespaces::user::UserNamespaceError;
use crate::network::NetworkError;
use crate::seccomp::SeccompError;
use crate::store::StoreError;

/// Says what a command of the runtime could not do.
///
/// Engines read these texts: podman, containerd and docker tell by `executable file not found in $PATH`, `no such file or
/// directory`, `permission denied`, `does not exist` and `container not running` what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// An id that cannot be one.
    #[error("invalid container ID `{id}`: {reason}")]
    Id {
        /// Its beginning.
        id: String,
        /// Why not.
        reason: String,
    },
    /// There is no such container.
    #[error("container `{0}` does not exist")]
    Unknown(String),
    /// There is one already.
    #[error("container with id `{0}` already exists")]
    Exists(String),
    /// The container is in a state that the command cannot begin with.
    #[error("cannot {operation} container `{id}`: {reason}")]
    State {
        /// What was to be done.
        operation: &'static str,
        /// The container.
        id: String,
        /// What is in the way.
        reason: String,
    },
    /// A signal cannot be sent to a container that has ended.
    #[error("container not running: `{id}` is {status}")]
    NotRunning {
        /// The container.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// Another command works on the container.
    #[error("container `{id}` is busy{}", .holder.map(|pid| format!(": process {pid} works on it")).unwrap_or_default())]
    Busy {
        /// The container.
        id: String,
        /// Who.
        holder: Option<i32>,
    },
    /// A file of the bundle, or one that an option names.
    #[error("{operation} {}", .path.display())]
    File {
        /// `read`, `open`, `write` and the like.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file is not the JSON that it has to be.
    #[error("parse {}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration says something that cannot be.
    #[error("{key}: {reason}")]
    Config {
        /// The key of config.json, or an option.
        key: String,
        /// Why not.
        reason: String,
    },
    /// The descriptors that are to be passed on cannot be kept.
    #[error("--preserve-fds: keep what is open")]
    Descriptors(#[source] io::Error),
    /// A hook failed.
    #[error("{kind} hook {outcome}: {}{details}", .path.display())]
    Hook {
        /// The kind.
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// What happened: `failed with exit code 1`.
        outcome: String,
        /// What the kernel or the hook itself said, after a separator.
        details: String,
    },
    /// A step inside the new process.
    #[error("{}", failure_text(.0))]
    Init(LaunchFailure),
    /// The new process was killed.
    #[error("the container's process was killed while it was {during}{}", if *.out_of_memory { ": it ran out of memory, its limit may be too low to start anything" } else { "" })]
    Died {
        /// `created` or `started`.
        during: &'static str,
        /// The cgroup counted a kill.
        out_of_memory: bool,
    },
    /// The talk with the new process, or the making of what it needs.
    #[error("{operation}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A container that failed could not be taken away either.
    #[error("{}; and clearing it: {}", .first.line(), .then.line())]
    NotCleared {
        /// Why it failed.
        first: Box<Self>,
        /// What could not be cleared.
        then: Box<Self>,
    },
    /// A signal asked for an end before the container was made.
    #[error("a signal ended the making of the container")]
    Interrupted,
    /// Processes do not end.
    #[error("the processes of container `{0}` do not end: one is stuck in the kernel")]
    Stuck(String),
    /// The plan.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A network device of the host's that goes into the container.
    #[error("linux.netDevices")]
    NetDevices(#[source] NetworkError),
    /// A mount of the host's.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The process.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The user namespace.
    #[error(transparent)]
    UserNamespace(#[from] UserNamespaceError),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// Files of ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OciError {
    /// Makes an error of a call that is not about one file.
    pub(super) fn kernel(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { operation, source }
    }

    /// Returns the exit code of `exec` and `run`: 125 stays ours, 126 and 127 are those of a shell.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Init(failure) => failure.exit_code,
            Self::NotCleared { first, .. } => first.exit_code(),
            _ => 125,
        }
    }

    /// Says how to mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Init(failure) => failure.hint.clone(),
            Self::Stuck(id) => Some(format!(
                "it waits for a file system that does not answer, perhaps; when it does, `delete --force {id}` clears what is left"
            )),
            Self::NotCleared { then, .. } => then.hint(),
            Self::Container(error) => error.hint(),
            Self::NetDevices(error) => error.hint(),
            Self::Mount(error) => error.hint(),
            Self::Spawn(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::UserNamespace(error) => error.hint(),
            Self::Seccomp(error) => error.hint(),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }

    /// Writes it as one line, causes and all, as engines show it.
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let words = match cause.downcast_ref::<io::Error>() {
                Some(error) => kernel_words(error),
                None => cause.to_string(),
            };
            text = format!("{text}: {words}");
            next = cause.source();
        }
        text
    }
}

/// Says what the kernel said as C programs do: `no such file or directory`.
fn kernel_words(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(_) = error.raw_os_error() else { return text };
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) if !letters.as_str().starts_with(|next: char| next.is_ascii_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

/// A program that is not there is told as Go's os/exec tells it, for that is what engines know.
fn failure_text(failure: &LaunchFailure) -> String {
    let object = failure.object.as_deref().unwrap_or_default();
    let bare = !object.is_empty() && !object.contains('/');
    match (failure.exit_code, failure.cause()) {
        // The step that looks for it before `start` says so itself.
        (127, _) if object.ends_with("executable file not found in $PATH") => format!("exec: {object}"),
        (127, _) if bare => format!("exec: \"{object}\": executable file not found in $PATH"),
        (126 | 127, Some(cause)) if !object.is_empty() => format!("exec: {object}: {}", kernel_words(&cause)),
        (_, Some(cause)) => format!("{failure}: {}", kernel_words(&cause)),
        (_, None) => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(object: &str, errno: i32, exit_code: i32) -> String {
        let failure = LaunchFailure {
            step: "execute".to_owned(),
            object: Some(object.to_owned()),
            errno: Some(errno),
            hint: None,
            exit_code,
        };
        OciError::Init(failure).line()
    }

    #[test]
    fn engines_find_their_words() {
        assert_eq!(failure("nosuch", libc::ENOENT, 127), "exec: \"nosuch\": executable file not found in $PATH");
        let told = "`nosuch`: executable file not found in $PATH";
        assert_eq!(failure(told, libc::ENOENT, 127), format!("exec: {told}"));
        assert_eq!(failure("/bin/nosuch", libc::ENOENT, 127), "exec: /bin/nosuch: no such file or directory");
        assert_eq!(failure("/etc/passwd", libc::EACCES, 126), "exec: /etc/passwd: permission denied");
        let step = "open the directory /nosuch".to_owned();
        let directory = LaunchFailure { step, object: None, errno: Some(libc::ENOENT), hint: None, exit_code: 126 };
        assert_eq!(OciError::Init(directory).line(), "open the directory /nosuch: no such file or directory");
        let path = PathBuf::from("/b/config.json");
        let error = OciError::File { operation: "read", path, source: io::Error::from_raw_os_error(libc::ENOENT) };
        assert_eq!(error.line(), "read /b/config.json: no such file or directory");
        assert_eq!(kernel_words(&io::Error::from_raw_os_error(libc::EIO)), "input/output error");
    }
}
