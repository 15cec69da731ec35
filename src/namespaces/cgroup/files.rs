//! Reading and writing the files of a cgroup. A value goes in by one write(2); nothing here creates a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::CgroupError;
use crate::sys::read_pseudo_file;

/// Writes a value to a file that exists.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    try_write(path, value).map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Writes a value; the error is the kernel's alone.
pub(super) fn try_write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    read_pseudo_file(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// Reads a file; `None` where it, or the cgroup, is not there.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read_pseudo_file(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(CgroupError::Read { path: path.to_owned(), source }),
    }
}

/// Answers whether an error means that the cgroup was removed. A file opened before that says ENODEV.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Returns the number behind a key in a file of lines `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
