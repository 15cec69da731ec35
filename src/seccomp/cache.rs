//! Compiled programs in a directory, for the processes that come later.
//!
//! A program from a file decides what a container may do, so a file that somebody else could have written is not read.
//! Nothing here is an error: without the cache the filter is compiled.

use std::collections::hash_map::DefaultHasher;
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::Hasher;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CompiledFilter;

/// Reads a program; `None` where there is none that can be trusted.
pub(super) fn read(dir: &Path, key: &str) -> Option<CompiledFilter> {
    if !ours(&open(dir, libc::O_DIRECTORY).ok()?) {
        return None;
    }
    let mut file = open(&path(dir, key), 0).ok()?;
    if !ours(&file) {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let (sum, program) = bytes.split_at_checked(8)?;
    (checksum(program) == sum).then(|| CompiledFilter::new(program).ok())?
}

/// Writes a program beside the place and renames it there, so that nobody reads a part of one.
pub(super) fn write(dir: &Path, key: &str, filter: &CompiledFilter) {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).is_ok();
    if !made || !open(dir, libc::O_DIRECTORY).is_ok_and(|dir| ours(&dir)) {
        return;
    }
    let whole = path(dir, key);
    let part = dir.join(format!(".{key}.{}", std::process::id()));
    let new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&part);
    let written = new.and_then(|mut file| {
        file.write_all(&checksum(filter.as_bytes()))?;
        file.write_all(filter.as_bytes())
    });
    if written.and_then(|()| std::fs::rename(&part, whole)).is_err() {
        let _ = std::fs::remove_file(part);
    }
}

/// Finds files that were cut off or damaged; against forgery stand owner and mode. A build by another Rust may count
/// differently, and then compiles anew.
fn checksum(program: &[u8]) -> [u8; 8] {
    let mut hasher = DefaultHasher::new();
    hasher.write(program);
    hasher.finish().to_le_bytes()
}

fn path(dir: &Path, key: &str) -> PathBuf {
    dir.join(format!("{key}.bpf"))
}

fn open(path: &Path, flags: i32) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | flags).open(path)
}

/// Answers whether only we can have written it.
fn ours(file: &File) -> bool {
    let me = rustix::process::geteuid().as_raw();
    file.metadata().is_ok_and(|meta| meta.uid() == me && meta.mode() & 0o022 == 0)
}
