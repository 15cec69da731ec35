//! The files of one log: `log`, then `log.1`, `log.2` …; the highest number is the one that grows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the first file.
pub(super) const FIRST: &str = "log";

/// Returns the path of a generation.
pub(super) fn path_of(directory: &Path, generation: u64) -> PathBuf {
    directory.join(name_of(generation))
}

/// Returns the file name of a generation.
pub(super) fn name_of(generation: u64) -> String {
    if generation == 0 { FIRST.to_owned() } else { format!("{FIRST}.{generation}") }
}

/// Returns the generation that a file name stands for; `None` for any other file.
pub(super) fn number_of(name: &[u8]) -> Option<u64> {
    let rest = name.strip_prefix(FIRST.as_bytes())?;
    if rest.is_empty() {
        return Some(0);
    }
    let number = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?.parse().ok()?;
    (number > 0 && name_of(number).as_bytes() == name).then_some(number)
}

/// Lists the generations that are there, lowest first; none where there is no directory.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(number_of(entry?.file_name().as_encoded_bytes()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in [0, 1, 2, 10, u64::MAX] {
            assert_eq!(number_of(name_of(number).as_bytes()), Some(number));
        }
        for name in ["log.0", "log.01", "log.-1", "log.x", "log.", "logs", "dialog", "log.1.corrupt-1", ""] {
            assert_eq!(number_of(name.as_bytes()), None, "{name}");
        }
    }
}
