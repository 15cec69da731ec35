//! Where configurations and plugins are found.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::CniError;
use super::list::{LONGEST, ListError, NetworkList, PluginConfig, check_network_name};

/// Where configurations lie that came with no other place.
pub const CONFIGURATIONS: &str = "/etc/cni/net.d";
/// Where plugins lie, unless CNI_PATH says otherwise.
pub const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni";
/// The endings of configuration files.
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// Finds a configuration: a text with a `/` is a path, any other the network's name or the file's.
///
/// Of several in a directory one whose `name` it is wins, then the first by file name; earlier directories win.
///
/// # Errors
/// [`CniError::NoList`] with all that was looked at, and those of [`load_list`].
pub fn find_list(wanted: &str, directories: &[PathBuf]) -> Result<(PathBuf, NetworkList), CniError> {
    if wanted.contains('/') {
        let path = PathBuf::from(wanted);
        return load_list(&path).map(|list| (path, list));
    }
    check_network_name(wanted).map_err(CniError::Value)?;
    let mut unread = Vec::new();
    for directory in directories {
        let mut by_file = None;
        for path in configurations(directory) {
            let is_file = path.file_name().is_some_and(|name| name == wanted)
                || path.file_stem().is_some_and(|stem| stem == wanted);
            match load_list(&path) {
                Ok(list) if list.name == wanted => return Ok((path, list)),
                Ok(list) if is_file && by_file.is_none() => by_file = Some((path, list)),
                Ok(_) => {}
                Err(error) if is_file => return Err(error),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    unread.push(format!("{}{cause}", path.display()));
                }
            }
        }
        if let Some(found) = by_file {
            return Ok(found);
        }
    }
    Err(CniError::NoList { name: wanted.to_owned(), directories: directories.to_vec(), unread })
}

/// Lists the configuration files of a directory, by name; none where it is not there.
pub fn configurations(directory: &Path) -> Vec<PathBuf> {
    files_with(directory, &ENDINGS)
}

fn files_with(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let has_ending = |path: &PathBuf| {
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(has_ending).collect();
    paths.sort();
    paths
}

/// Reads a configuration, and the plugins that lie beside it in a directory with the network's name (CNI 1.1).
///
/// # Errors
/// [`CniError::Read`], [`CniError::List`].
pub fn load_list(path: &Path) -> Result<NetworkList, CniError> {
    let wrong = |source: ListError| CniError::List { path: path.to_owned(), source };
    let mut list = NetworkList::parse(&read(path)?).map_err(wrong)?;
    if list.loads_from_directory
        && let Some(directory) = path.parent()
    {
        let mut plugins = Vec::new();
        for file in files_with(&directory.join(&list.name), &["conf"]) {
            let wrong = |source: ListError| CniError::List { path: file.clone(), source };
            let value: Value = serde_json::from_slice(&read(&file)?).map_err(|error| wrong(error.into()))?;
            plugins.push(PluginConfig::from_value(value).map_err(wrong)?);
        }
        list.extend(plugins).map_err(wrong)?;
    }
    if list.plugins.is_empty() {
        return Err(CniError::NoPlugins(list.name));
    }
    Ok(list)
}

/// Reads a regular file that is not too long: a pipe in its place must not hold anybody up.
fn read(path: &Path) -> Result<Vec<u8>, CniError> {
    let failed = |source| CniError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// Finds a plugin's file: the first that is one and may be executed.
pub(super) fn find_plugin(plugin_type: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    // `check_type` has been here: this joins one name.
    let candidates = directories.iter().map(|directory| directory.join(plugin_type));
    let can_run = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(can_run)
}

/// Splits `DIR:DIR`; empty parts and relative directories are left out: a plugin runs as root.
pub fn split_path(text: &str) -> Vec<PathBuf> {
    text.split(':').filter(|part| part.starts_with('/')).map(PathBuf::from).collect()
}
