use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// Names the program in what it writes.
const MADE_BY: &str = concat!("mydocker ", env!("CARGO_PKG_VERSION"));
/// Ends the names of files that are being written.
const TEMPORARY: &str = ".tmp";
/// Follows the name of a damaged file, before a number.
const SET_ASIDE: &str = ".corrupt-";

/// Is a value that is kept in a file of its own, with the number of its format.
pub trait Record: Serialize + DeserializeOwned {
    /// The format; raised when an older program would misread the file.
    const VERSION: u32;
}

/// Is what stands in a record's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The format of `record`.
    pub version: u32,
    /// The program that wrote it.
    pub made_by: String,
    /// The value.
    pub record: T,
}

/// Is the part of a record's file that every version can read.
#[derive(Deserialize)]
struct Header {
    version: u32,
    made_by: String,
}

/// Says what must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process of ours; enough for what a reboot ends anyway.
    Process,
    /// A loss of power: file and directory are synced, which costs milliseconds.
    Power,
}

/// Is what was found where a record should be.
#[derive(Debug)]
pub enum Loaded<T> {
    /// The record.
    Record(T),
    /// No file.
    Absent,
    /// A damaged file, which was moved out of the way.
    SetAside {
        /// Where it is now.
        moved_to: PathBuf,
        /// What was wrong with it.
        reason: StoreError,
    },
}

/// Replaces the file by the JSON form of `value`: readers see the old file or the new one, whole.
///
/// # Errors
/// On any error the old file is as it was and no temporary file is left.
pub fn write_json_atomic<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), StoreError> {
    replace(path, value, Durability::Process)
}

/// Does what [`write_json_atomic`] does and syncs file and directory.
///
/// # Errors
/// As [`write_json_atomic`].
pub fn write_json_durable<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), StoreError> {
    replace(path, value, Durability::Power)
}

/// Reads a JSON file; `None` when there is none.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is empty, cut off or something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    read_bytes(path)?.map(|bytes| decode(path, &bytes)).transpose()
}

/// Writes a record with its format version.
///
/// # Errors
/// As [`write_json_atomic`]; [`StoreError::Newer`] is not checked here: read before you replace.
pub fn write_record<T: Record>(path: &Path, record: &T, durability: Durability) -> Result<(), StoreError> {
    replace(path, &Versioned { version: T::VERSION, made_by: MADE_BY.to_owned(), record }, durability)
}

/// Reads a record; `None` when there is none.
///
/// # Errors
/// [`StoreError::Newer`] when a later program wrote it, [`StoreError::Corrupt`] when it is damaged.
pub fn read_record<T: Record>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    let Header { version, made_by } = decode(path, &bytes)?;
    if version > T::VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), version, made_by, known: T::VERSION });
    }
    decode::<Versioned<T>>(path, &bytes).map(|file| Some(file.record))
}

/// Reads a record as recovery does: a damaged file is moved aside, and its object rebuilt from the kernel.
///
/// # Errors
/// As [`read_record`], without [`StoreError::Corrupt`].
pub fn load_record<T: Record>(path: &Path) -> Result<Loaded<T>, StoreError> {
    match read_record(path) {
        Ok(Some(record)) => Ok(Loaded::Record(record)),
        Ok(None) => Ok(Loaded::Absent),
        Err(reason @ StoreError::Corrupt { .. }) => Ok(Loaded::SetAside { moved_to: set_aside(path)?, reason }),
        Err(error) => Err(error),
    }
}

/// Renames a damaged file to `<name>.corrupt-<n>` with the first free n, and returns the new path.
///
/// # Errors
/// [`StoreError::Rename`].
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1_u64;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{SET_ASIDE}{number}"));
        let target = PathBuf::from(name);
        match rustix::fs::renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(target),
            Err(Errno::EXIST) => number += 1,
            Err(errno) => return Err(StoreError::Rename { path: path.to_owned(), source: errno.into() }),
        }
    }
}

/// Returns the name that a damaged file had before it was set aside; `None` for any other file.
pub fn name_before(file_name: &str) -> Option<&str> {
    let (name, number) = file_name.rsplit_once(SET_ASIDE)?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Removes what was set aside of a file: its object has gone, and nobody will look for what it was.
///
/// # Errors
/// [`StoreError::Read`] and [`StoreError::Remove`].
pub fn remove_set_aside(path: &Path) -> Result<(), StoreError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let failed = |source| StoreError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().and_then(name_before) == Some(name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file; that there is none is no error.
///
/// # Errors
/// [`StoreError::Remove`].
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes what writers that were killed left half-written in a directory. The caller holds the directory's lock.
///
/// # Errors
/// [`StoreError::Read`] and [`StoreError::Remove`].
pub fn remove_temporaries(directory: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Corrupt { path: path.to_owned(), source })
}

fn replace<T: Serialize + ?Sized>(path: &Path, value: &T, durability: Durability) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec(value).map_err(|source| StoreError::Encode { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    let temporary = temporary_beside(path);
    write_and_rename(path, &temporary, &bytes, durability).map_err(|source| {
        // The first error is the one to tell; a leftover is swept by `remove_temporaries`.
        let _ = fs::remove_file(&temporary);
        StoreError::Write { path: path.to_owned(), source }
    })
}

fn write_and_rename(path: &Path, temporary: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    if durability == Durability::Power {
        file.sync_all()?;
    }
    fs::rename(temporary, path)?;
    if durability == Durability::Power {
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    }
    Ok(())
}

/// Names a file that no other writer, in this process or another, uses: two writers of one record never mix.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{count}{TEMPORARY}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Lease {
        address: String,
        port: u16,
    }

    impl Record for Lease {
        const VERSION: u32 = 2;
    }

    fn lease() -> Lease {
        Lease { address: "10.11.0.2".to_owned(), port: 80 }
    }

    #[test]
    fn a_record_comes_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        assert!(read_record::<Lease>(&path).unwrap().is_none());
        for durability in [Durability::Process, Durability::Power] {
            write_record(&path, &lease(), durability).unwrap();
            assert_eq!(read_record::<Lease>(&path).unwrap(), Some(lease()));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        fs::write(&path, r#"{"version":9,"made_by":"mydocker 7.1.0","shape":["unknown"]}"#).unwrap();
        let error = read_record::<Lease>(&path).unwrap_err();
        assert!(error.to_string().contains("mydocker 7.1.0"), "{error}");
        assert!(error.hint().unwrap().contains("mydocker 7.1.0"));
        assert!(matches!(load_record::<Lease>(&path), Err(StoreError::Newer { version: 9, known: 2, .. })));
        assert!(path.exists(), "a newer file is not moved");
    }

    #[test]
    fn damaged_files_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        write_record(&path, &lease(), Durability::Process).unwrap();
        let whole = fs::read(&path).unwrap();
        let samples: [&[u8]; 5] = [b"", b"\0\0\0\0", b"\xff\xfe{", b"[]", b"{\"version\":\"x\"}"];
        let cuts = (0..whole.len() - 1).map(|n| whole[..n].to_vec());
        for (n, sample) in samples.iter().map(|s| s.to_vec()).chain(cuts).enumerate() {
            fs::write(&path, &sample).unwrap();
            let Loaded::SetAside { moved_to, .. } = load_record::<Lease>(&path).unwrap() else { panic!("{sample:?}") };
            assert_eq!(moved_to.extension().unwrap().to_str().unwrap(), format!("corrupt-{}", n + 1));
            assert_eq!(name_before(moved_to.file_name().unwrap().to_str().unwrap()), Some("web.json"));
            assert_eq!(fs::read(moved_to).unwrap(), sample);
            assert!(!path.exists());
        }
        fs::write(dir.path().join("web.json.corrupt-x"), "").unwrap();
        remove_set_aside(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only what has a number was set aside");
    }

    #[test]
    fn removal_is_idempotent_and_temporaries_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        write_json_atomic(&path, &lease()).unwrap();
        fs::write(temporary_beside(&path), "half").unwrap();
        remove_temporaries(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_json_atomic(&dir.path().join("no/such.json"), &lease()).unwrap_err();
        assert!(matches!(error, StoreError::Write { .. }));
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        write_json_atomic(&path, &lease()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
    }
}
