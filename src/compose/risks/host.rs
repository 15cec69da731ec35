//! What is known of the host: asked through functions that the caller gives, so that nothing here touches it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Says what of the host the judgement depends on.
#[derive(Clone, Copy)]
pub struct Host<'h> {
    /// The caller's home directory.
    pub home: Option<&'h Path>,
    /// Where mydocker has its control sockets.
    pub run_dir: &'h Path,
    /// Where mydocker has volumes and root file systems.
    pub data_dir: &'h Path,
    /// readlink(2): what a symbolic link names; `None` for what is none, or not there.
    pub read_link: &'h dyn Fn(&Path) -> Option<PathBuf>,
    /// Says whether a path is a socket.
    pub is_socket: &'h dyn Fn(&Path) -> bool,
}

/// As many links in one path the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

impl Host<'_> {
    /// Follows every symbolic link of an absolute path, as mount(2) will. What is not there is taken as it is written: a
    /// bind makes it, behind the links that lead to it.
    pub(super) fn resolved(&self, path: &Path) -> PathBuf {
        let mut open: VecDeque<OsString> = parts(path);
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = open.pop_front() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match (self.read_link)(&next) {
                Some(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    for part in parts(&target).into_iter().rev() {
                        open.push_front(part);
                    }
                }
                _ => done = next,
            }
        }
        done
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
