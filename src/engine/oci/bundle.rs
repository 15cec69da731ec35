//! A bundle: a directory with a configuration and, mostly, a root file system.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use super::OciError;
use super::state::file;
use crate::container::{Config, parse_config, parse_process};

/// A longer configuration is refused.
const LONGEST: u64 = 16 << 20;

/// Is a bundle whose configuration was read.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its absolute path, without symbolic links.
    pub path: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// What of it is left out: for whoever reads it to tell.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `path`; `config` names another file than its `config.json`.
    ///
    /// # Errors
    /// [`OciError::File`], [`OciError::Json`], [`OciError::Config`].
    pub fn read(path: &Path, config: Option<&Path>) -> Result<Self, OciError> {
        let directory = path.canonicalize().map_err(file("open the bundle", path))?;
        let config = directory.join(config.unwrap_or(Path::new("config.json")));
        let Config { spec, warnings } = parse_config(&read_text(&config)?)?;
        Ok(Self { path: directory, spec, warnings })
    }

    /// Returns the absolute path of the root directory.
    pub fn rootfs(&self) -> PathBuf {
        self.path.join(self.spec.root().as_ref().map_or(Path::new(""), |root| root.path().as_path()))
    }

    /// Tells the program of so many sockets that it inherits.
    pub fn pass_sockets(&mut self, count: u32) {
        if let Some(process) = self.spec.process_mut() {
            pass_sockets(process, count);
        }
    }

    /// Says whether the process is to have a terminal.
    pub fn wants_terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(Process::terminal).unwrap_or(false)
    }
}

/// Tells a program of the sockets that it inherits as systemd does (sd_listen_fds(3)): it is process 1 of its own.
pub fn pass_sockets(process: &mut Process, count: u32) {
    if count == 0 {
        return;
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| !entry.starts_with("LISTEN_FDS=") && !entry.starts_with("LISTEN_PID="));
    env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
    process.set_env(Some(env));
}

/// Reads a JSON file of somebody else's: a regular one, of 16 MiB at most.
///
/// # Errors
/// [`OciError::File`], [`OciError::Json`].
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, OciError> {
    serde_json::from_slice(&read_text(path)?).map_err(|source| OciError::Json { path: path.to_owned(), source })
}

/// Reads the process that a file describes as config.json does; the second value is what of it is left out.
///
/// # Errors
/// [`OciError::File`], [`OciError::Config`].
pub fn read_process(path: &Path) -> Result<(Process, Vec<String>), OciError> {
    let text = read_text(path)?;
    parse_process(&text)
        .map_err(|error| OciError::Config { key: path.display().to_string(), reason: error.to_string() })
}

/// Reads a file of somebody else's: a regular one, of 16 MiB at most.
///
/// # Errors
/// [`OciError::File`].
fn read_text(path: &Path) -> Result<Vec<u8>, OciError> {
    // O_NONBLOCK: opening a FIFO would wait for a writer.
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let opened = open.map_err(file("open", path))?;
    let metadata = opened.metadata().map_err(file("open", path))?;
    let refused = |reason: &str| OciError::Config { key: path.display().to_string(), reason: reason.to_owned() };
    if !metadata.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if metadata.len() > LONGEST {
        return Err(refused("it has more than 16 MiB"));
    }
    let mut text = Vec::with_capacity(metadata.len() as usize + 1);
    opened.take(LONGEST).read_to_end(&mut text).map_err(file("read", path))?;
    Ok(text)
}
