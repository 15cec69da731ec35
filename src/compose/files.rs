//! Which files make a project, where its directory is and what it is called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::LoadRequest;
use super::paths::cleaned;

/// In the order of preference.
const DEFAULT_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// Finds the default file in a directory or the nearest one above it, and the override file beside it.
pub(super) fn search(from: &Path) -> Vec<PathBuf> {
    for dir in from.ancestors() {
        let Some(found) = DEFAULT_NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists()) else { continue };
        let over = OVERRIDE_NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists());
        return std::iter::once(found).chain(over).collect();
    }
    Vec::new()
}

/// The files of a request: `-f`, else `COMPOSE_FILE`, else the search.
pub(super) fn chosen(request: &LoadRequest, environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let absolute =
        |path: &Path| if path == Path::new("-") { path.into() } else { cleaned(&request.working_dir.join(path)) };
    if !request.files.is_empty() {
        return request.files.iter().map(|path| absolute(path)).collect();
    }
    if let Some(list) = environment.get("COMPOSE_FILE").filter(|list| !list.is_empty()) {
        let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty()).map_or(":", |s| s);
        return list.split(separator).filter(|part| !part.is_empty()).map(|part| absolute(Path::new(part))).collect();
    }
    search(request.project_directory.as_deref().map_or(&request.working_dir, |dir| dir))
}

/// The project directory: what was asked for, else where the first file lies.
pub(super) fn project_directory(request: &LoadRequest, files: &[PathBuf]) -> PathBuf {
    if let Some(dir) = &request.project_directory {
        return cleaned(&request.working_dir.join(dir));
    }
    match files.first() {
        Some(file) if file != Path::new("-") => file.parent().map_or_else(|| "/".into(), Path::to_owned),
        _ => cleaned(&request.working_dir),
    }
}

/// Makes a project name out of a directory's: lower case, other characters left out, `-` and `_` not in front.
pub(super) fn normalised_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String =
        lower.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

/// Says why a project name that somebody chose cannot be one.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > 200 {
        return Err("the project name is longer than 200 bytes".into());
    }
    if !name.is_empty() && normalised_name(name) == name {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a project name: it must consist of lower-case letters, digits, `-` and `_` and begin with a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_compose() {
        assert_eq!(normalised_name("My App_1.x"), "myapp_1x");
        assert_eq!(normalised_name("--a"), "a");
        assert!(check_name("a-b_1").is_ok());
        for name in ["", "A", "_a", "a.b", "../x", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_search_goes_up() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        for name in ["docker-compose.yml", "compose.yml", "compose.override.yaml"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(search(&below), [dir.path().join("compose.yml"), dir.path().join("compose.override.yaml")]);
    }
}
