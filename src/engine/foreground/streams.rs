//! The container's standard streams in the foreground: our own where that is safe, pipes or a terminal of the
//! container's own where it is not.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Uid};

use crate::engine::LaunchError;
use crate::spec::{ContainerRequest, IdMaps};

/// Is our side of what the container's streams are connected to; what is `None` is not to be carried.
#[derive(Debug, Default)]
pub struct StreamEnds {
    /// Takes what the container is to read.
    pub stdin: Option<OwnedFd>,
    /// Gives what it writes to standard output.
    pub stdout: Option<OwnedFd>,
    /// Gives what it writes to standard error.
    pub stderr: Option<OwnedFd>,
    /// The master of its terminal, instead of the three.
    pub terminal: Option<OwnedFd>,
}

impl StreamEnds {
    /// Says whether nothing has to be carried.
    pub fn is_empty(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none() && self.terminal.is_none()
    }
}

/// Is the container's side: what becomes 0, 1 and 2. `None` is our own descriptor of that number.
#[derive(Debug)]
pub(super) struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    /// Opens both sides.
    pub(super) fn open(request: &ContainerRequest) -> Result<(Self, StreamEnds), LaunchError> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        if request.tty {
            // Until it has its terminal.
            let (stdin, stdout, stderr) = (null().map_err(LaunchError::Null)?, null(), null());
            let (stdout, stderr) = (stdout.map_err(LaunchError::Null)?, stderr.map_err(LaunchError::Null)?);
            let streams = Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
            return Ok((streams, StreamEnds::default()));
        }
        let maps = request.namespaces.user.as_ref();
        let opens_by_name = maps.is_none() && matches!(request.user.as_deref(), None | Some("" | "0" | "root"));
        let (stdin, our_stdin) = match (request.stdin_open, io::stdin().is_terminal()) {
            (false, _) => (Some(null().map_err(LaunchError::Null)?), None),
            (true, false) => (None, None),
            (true, true) => {
                let (reader, writer) = pipe(maps)?;
                (Some(reader), Some(writer))
            }
        };
        let (stdout, our_stdout) = output(io::stdout().as_fd(), maps, opens_by_name)?;
        let (stderr, our_stderr) = output(io::stderr().as_fd(), maps, opens_by_name)?;
        let ends = StreamEnds { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr, terminal: None };
        Ok((Self { stdin, stdout, stderr }, ends))
    }

    pub(super) fn stdin(&self) -> BorrowedFd<'_> {
        self.stdin.as_ref().map_or(rustix::stdio::stdin(), AsFd::as_fd)
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.as_ref().map_or(rustix::stdio::stdout(), AsFd::as_fd)
    }

    pub(super) fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr.as_ref().map_or(rustix::stdio::stderr(), AsFd::as_fd)
    }
}

/// A terminal of ours never goes inside: who holds it can put words into it that our shell would read (TIOCSTI).
///
/// Many a program opens /dev/stdout by name. A pipe becomes the property of the container's user for that; a file stays
/// ours, and where that user is not root, a pipe leads to it.
fn output(
    ours: BorrowedFd<'_>,
    maps: Option<&IdMaps>,
    opens_by_name: bool,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>), LaunchError> {
    let kind = || rustix::fs::fstat(ours).map(|found| FileType::from_raw_mode(found.st_mode));
    if rustix::termios::isatty(ours) || (!opens_by_name && matches!(kind(), Ok(FileType::RegularFile))) {
        let (reader, writer) = pipe(maps)?;
        return Ok((Some(writer), Some(reader)));
    }
    if maps.is_some() && matches!(kind(), Ok(FileType::Fifo)) {
        own(ours, maps);
    }
    Ok((None, None))
}

fn pipe(maps: Option<&IdMaps>) -> Result<(OwnedFd, OwnedFd), LaunchError> {
    let (reader, writer) = io::pipe().map_err(LaunchError::Null)?;
    own(writer.as_fd(), maps);
    Ok((reader.into(), writer.into()))
}

/// Gives a pipe to the container's root, who opens it by name: /dev/stdout is a link to it. One that cannot be given
/// still works by its number.
fn own(pipe: BorrowedFd<'_>, maps: Option<&IdMaps>) {
    let root = |maps: &[crate::spec::IdMap]| maps.iter().find(|map| map.inside == 0).map(|map| map.outside);
    if let Some((uid, gid)) = maps.and_then(|maps| root(&maps.uid).zip(root(&maps.gid))) {
        let _ = rustix::fs::fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}
