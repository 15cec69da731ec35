//! Compiled programs in a directory, for the processes that come later.
//!
//! A program from a file decides what a container may do, so a file that somebody else could have written is not read.
//! Nothing here is an error: without the cache the filter is compiled.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::CompiledFilter;
use super::filter::{INSTRUCTION, LONGEST};

/// Reads a program; `None` where there is none that can be trusted.
pub(super) fn read(dir: &Path, key: &str) -> Option<CompiledFilter> {
    if !ours(&open(dir, libc::O_DIRECTORY).ok()?) {
        return None;
    }
    let mut file = open(&path(dir, key), 0).ok()?;
    if !ours(&file) {
        return None;
    }
    // One read for the longest that a program can be, and a byte more than that is none.
    let mut bytes = vec![0; SUM + LONGEST * INSTRUCTION + 1];
    let read = file.read(&mut bytes).ok()?;
    let (sum, program) = bytes.get(..read)?.split_at_checked(SUM)?;
    (checksum(key, program) == sum).then(|| CompiledFilter::new(program).ok())?
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
        file.write_all(&checksum(key, filter.as_bytes()))?;
        file.write_all(filter.as_bytes())
    });
    if written.and_then(|()| std::fs::rename(&part, whole)).is_err() {
        let _ = std::fs::remove_file(part);
    }
}

/// The bytes of a checksum.
const SUM: usize = 32;

/// Finds files that were cut off, damaged, or put in another's place: the key is part of it. Against forgery stand owner and mode.
fn checksum(key: &str, program: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(key).chain_update([0]).chain_update(program).finalize().into()
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
