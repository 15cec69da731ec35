//! Files that the kernel writes while they are read: /proc (proc(5)) and cgroups.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a whole file of the kernel's. Such files have size 0: nothing is asked about that, and room is made beforehand,
/// without which they would be read by small steps.
///
/// # Errors
/// Those of open(2) and read(2); `InvalidData` where it is no UTF-8.
pub fn read_pseudo_file(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read_pseudo_bytes(path)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// As [`read_pseudo_file`], whatever the bytes: names of processes are theirs to choose.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_pseudo_bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    // Behind `take` the file is not asked for its size.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
