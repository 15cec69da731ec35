use std::io;
use std::path::PathBuf;

/// Says which operation on which log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log could not be opened for writing.
    #[error("open the log {}", .path.display())]
    Open {
        /// The file or its directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A log could not be read.
    #[error("read the log {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A pipe for a container's output could not be made or opened again.
    #[error("make the pipe of a container's output")]
    Pipe(#[source] io::Error),
    /// A descriptor of a container's output is none that can be waited for.
    #[error("wait for a container's output")]
    Output(#[source] io::Error),
    /// The kernel does not report changes of a log.
    #[error("watch {}", .path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A thread of its own for logs could not be started.
    #[error("start a thread for logs")]
    Thread(#[source] io::Error),
    /// What was read could not be shown.
    #[error("show the log")]
    Show(#[source] io::Error),
}

impl LogError {
    /// Returns what probably is the cause and the command that shows it, where the error has a known one.
    pub fn hint(&self) -> Option<String> {
        use rustix::io::Errno;
        let (path, source) = match self {
            Self::Open { path, source } | Self::Read { path, source } | Self::Watch { path, source } => (path, source),
            Self::Pipe(_) | Self::Output(_) | Self::Thread(_) | Self::Show(_) => return None,
        };
        let shown = path.display();
        match (self, Errno::from_io_error(source)?) {
            (Self::Watch { .. }, Errno::NOSPC) => {
                Some("too many watches: `sysctl fs.inotify.max_user_watches` shows the limit, and raises it".to_owned())
            }
            (Self::Watch { .. }, Errno::MFILE) => Some(
                "too many followers: `sysctl fs.inotify.max_user_instances` shows the limit, and raises it".to_owned(),
            ),
            (_, Errno::NOSPC | Errno::DQUOT) => Some(format!("the file system is full: see `df -h {shown}`")),
            (_, Errno::ROFS) => Some(format!("the file system is mounted read-only: see `findmnt -T {shown}`")),
            (_, Errno::ACCESS | Errno::PERM) => Some(format!("see `namei -l {shown}`")),
            _ => None,
        }
    }
}
