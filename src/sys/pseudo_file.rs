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
    let mut text = String::with_capacity(4096);
    // Behind `take` the file is not asked for its size.
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file that the kernel writes as one record, such as /proc/PID/stat or a setting: what is shorter than the room for it is
/// whole, and the end is not looked for. (Others, such as mountinfo, come a record at a time, and a read may stop between two.)
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_pseudo_record(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) if filled + count < bytes.len() => {
                bytes.truncate(filled + count);
                return Ok(bytes);
            }
            Ok(count) => {
                filled += count;
                bytes.resize(2 * filled, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, 4095, 4096, 4097, 20_000] {
            let path = dir.path().join(length.to_string());
            std::fs::write(&path, vec![7; length]).unwrap();
            assert_eq!(read_pseudo_record(&path).unwrap(), vec![7; length]);
        }
        let id = read_pseudo_record("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(id, std::fs::read("/proc/sys/kernel/random/boot_id").unwrap());
    }
}
