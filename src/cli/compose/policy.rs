//! What a file may do to the host: told, or refused.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::cli::args::Policy;
use crate::cli::project::ComposeContext;
use crate::cli::report::CliError;
use crate::compose::risks::{Host, Judgement};

/// Refuses a project that can take over the host where somebody asked for that: an option, MYDOCKER_POLICY or one of the files. The
/// strictest of them holds.
///
/// # Errors
/// [`CliError::File`] with every risk of the level high at its place.
pub fn enforce(context: &ComposeContext<'_>, judgement: &Judgement, given: Option<Policy>) -> Result<(), CliError> {
    let is_strict = judgement.is_strict || is_strict(context, given);
    match judgement.refusal() {
        Some(text) if is_strict => Err(CliError::File { text }),
        _ => Ok(()),
    }
}

/// Says whether an option or the environment asks for the policy `strict`.
pub fn is_strict(context: &ComposeContext<'_>, given: Option<Policy>) -> bool {
    given == Some(Policy::Strict) || context.settings.policy == Policy::Strict
}

/// Refuses as [`enforce`], or says in one line which of the services that are meant can take over the host.
///
/// # Errors
/// As [`enforce`].
pub fn tell(
    context: &ComposeContext<'_>,
    judgement: Judgement,
    meant: &BTreeSet<String>,
    given: Option<Policy>,
) -> Result<(), CliError> {
    let judgement = judgement.of_services(meant);
    enforce(context, &judgement, given)?;
    if let Some(line) = judgement.headline() {
        context.warn(&format!("{line}: mydocker compose config --risks tells more"));
    }
    Ok(())
}

/// Asks this host for `work`.
pub fn with_host<T>(context: &ComposeContext<'_>, work: impl FnOnce(&Host<'_>) -> T) -> T {
    // Read for the first path: most files bind none.
    let slow = OnceCell::new();
    let mounts = || slow_places(&String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap_or_default()));
    let answers = |path: &Path| !slow.get_or_init(mounts).iter().any(|place| path.starts_with(place));
    let home = context.variable("HOME").map(Path::new).filter(|home| home.is_absolute());
    work(&Host {
        home,
        run_dir: context.settings.directories.run(),
        data_dir: context.settings.directories.data(),
        read_link: &|path| if answers(path) { fs::read_link(path).ok() } else { None },
        is_socket: &|path| answers(path) && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()),
    })
}

/// Finds the mount points of file systems whose answer comes from elsewhere: one that does not come must hold up nobody but the
/// service that asks for it, so no link there is followed.
fn slow_places(mountinfo: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        let is_slow = kind.starts_with("fuse")
            || kind.starts_with("nfs")
            || matches!(
                kind,
                "cifs" | "smb3" | "9p" | "ceph" | "afs" | "autofs" | "virtiofs" | "lustre" | "gfs2" | "ocfs2"
            );
        let path = unescaped(mount.split(' ').nth(4)?);
        (is_slow && path != Path::new("/")).then_some(path)
    };
    mountinfo.lines().filter_map(place).collect()
}

/// Blanks and the like are octal there (proc_pid_mountinfo(5)).
fn unescaped(text: &str) -> PathBuf {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_may_not_answer_are_not_asked() {
        let mounts = "\
22 1 8:1 / / rw - fuseblk /dev/sda1 rw
36 22 0:33 / /mnt/my\\040share rw,relatime shared:1 - nfs4 server:/x rw
37 22 0:34 / /proc rw - proc proc rw
38 22 0:35 / /mnt/f rw master:1 - fuse.sshfs a:/ rw
";
        assert_eq!(slow_places(mounts), [PathBuf::from("/mnt/my share"), PathBuf::from("/mnt/f")]);
    }
}
