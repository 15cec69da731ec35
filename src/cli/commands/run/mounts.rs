//! Options of `run` about mounts: `-v`, `--mount`, `--tmpfs`, `--shm-size`.

use std::path::{Path, PathBuf};

use super::request::{absolute, wrong};
use crate::cli::args::{RunOptions, UsageError, shown};
use crate::cli::host;
use crate::spec::{ByteSize, MountKind, MountRequest, random_hex};
use crate::store::Directories;

const PROPAGATION: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Is what mounts ask for, and what they need on the host.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) requests: Vec<MountRequest>,
    /// Volumes that must exist.
    pub(super) volumes: Vec<String>,
    /// Those of them that go with the container.
    pub(super) own_volumes: Vec<String>,
    /// Directories to be made on the host where they are missing.
    pub(super) host_paths: Vec<PathBuf>,
}

/// Reads all of them, in the order in which they are mounted.
pub(super) fn mounts(options: &RunOptions, dirs: &Directories) -> Result<Mounts, UsageError> {
    let mut mounts = Mounts::default();
    if let Some(size) = options.shm_size {
        let kind = MountKind::Tmpfs { size: Some(size), mode: Some(0o1777), uid: None, gid: None, exec: false };
        mounts.requests.push(MountRequest { target: "/dev/shm".into(), read_only: false, kind });
    }
    for text in &options.volume {
        mounts.short(text, dirs)?;
    }
    for text in &options.mount {
        mounts.long(text, dirs)?;
    }
    for text in &options.tmpfs {
        let (target, list) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = Tmpfs::default();
        for option in list.split(',').filter(|option| !option.is_empty()) {
            if !tmpfs.take(option) {
                return Err(wrong(format!("`--tmpfs {}`: `{}` is no option of a tmpfs", shown(text), shown(option)))
                    .hint("known are size=64m, mode=1777, uid=N, gid=N, exec, noexec and ro"));
            }
        }
        let read_only = tmpfs.read_only;
        mounts.requests.push(MountRequest { target: target.into(), read_only, kind: tmpfs.kind() });
    }
    Ok(mounts)
}

impl Mounts {
    /// `[SOURCE:]TARGET[:OPTIONS]`.
    fn short(&mut self, text: &str, dirs: &Directories) -> Result<(), UsageError> {
        let bad = |reason: &str| {
            wrong(format!("`--volume {}`: {reason}", shown(text))).hint("--volume ./data:/data:ro, --volume name:/data")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, list) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, list] => (Some(source), target, list),
            _ => return Err(bad("it has more than three parts")),
        };
        if target.is_empty() || source == Some("") {
            return Err(bad("a part of it is empty"));
        }
        let (mut read_only, mut copy_up, mut propagation) = (false, true, None);
        for option in list.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "nocopy" => copy_up = false,
                "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                kind if PROPAGATION.contains(&kind) => propagation = Some(kind.to_owned()),
                other => return Err(bad(&format!("there is no option `{}`", shown(other)))),
            }
        }
        let kind = match source {
            Some(path) if path.starts_with('~') => {
                return Err(bad(
                    "the shell has not made a home directory of `~`: write it without quotes, or the path",
                ));
            }
            Some(path) if path.starts_with(['.', '/']) => {
                let source = absolute(Path::new(path))?;
                if let Some((reason, _)) = host::unusable_source(&source, true) {
                    return Err(bad(&reason));
                }
                self.host_paths.push(source.clone());
                MountKind::Bind { source, propagation, recursive: true }
            }
            source => self.volume(source, copy_up, dirs)?,
        };
        self.requests.push(MountRequest { target: target.into(), read_only, kind });
        Ok(())
    }

    /// `type=…,source=…,target=…`.
    fn long(&mut self, text: &str, dirs: &Directories) -> Result<(), UsageError> {
        let bad = |reason: String| {
            wrong(format!("`--mount {}`: {reason}", shown(text)))
                .hint("--mount type=bind,source=./data,target=/data,readonly")
        };
        let (mut kind, mut source, mut target, mut read_only) = ("volume", None, None, false);
        let (mut copy_up, mut recursive, mut propagation, mut tmpfs) = (true, true, None, Tmpfs::default());
        for entry in text.split(',') {
            let (key, value) = entry.split_once('=').unwrap_or((entry, "true"));
            let sound = match key {
                "type" => {
                    kind = value;
                    ["bind", "volume", "tmpfs"].contains(&value)
                }
                "source" | "src" => source.replace(value).is_none(),
                "target" | "dst" | "destination" => target.replace(value).is_none(),
                "readonly" | "ro" => flag(value).map(|flag| read_only = flag).is_some(),
                "bind-propagation" => PROPAGATION.contains(&value) && propagation.replace(value.to_owned()).is_none(),
                "bind-nonrecursive" => flag(value).map(|flag| recursive = !flag).is_some(),
                "volume-nocopy" => flag(value).map(|flag| copy_up = !flag).is_some(),
                "tmpfs-size" => tmpfs.take(&format!("size={value}")),
                "tmpfs-mode" => tmpfs.take(&format!("mode={value}")),
                _ => false,
            };
            if !sound {
                return Err(bad(format!("`{}` is not understood", shown(entry))));
            }
        }
        let target = PathBuf::from(target.ok_or_else(|| bad("`target` is missing".to_owned()))?);
        let kind = match (kind, source) {
            ("bind", None) => return Err(bad("`source` is missing".to_owned())),
            ("bind", Some(path)) => {
                let source = absolute(Path::new(path))?;
                if let Some((reason, hint)) = host::unusable_source(&source, false) {
                    return Err(wrong(format!("`--mount {}`: {reason}", shown(text)))
                        .hint(hint.unwrap_or_else(|| "`namei -l PATH` shows what is on the way".to_owned())));
                }
                MountKind::Bind { source, propagation, recursive }
            }
            ("tmpfs", _) => tmpfs.kind(),
            (_, source) => self.volume(source, copy_up, dirs)?,
        };
        self.requests.push(MountRequest { target, read_only, kind });
        Ok(())
    }

    /// A volume by its name; one without belongs to the container.
    fn volume(&mut self, name: Option<&str>, copy_up: bool, dirs: &Directories) -> Result<MountKind, UsageError> {
        let name = match name {
            None => {
                let name = random_hex();
                self.own_volumes.push(name.clone());
                name
            }
            Some(name) => {
                let name: crate::spec::ObjectName =
                    name.parse().map_err(|error: crate::spec::SpecError| wrong(error.to_string()))?;
                name.as_str().to_owned()
            }
        };
        let source = dirs.volume(&name);
        self.volumes.push(name);
        Ok(MountKind::Volume { source, subpath: None, recursive: true, copy_up })
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// What the options of a tmpfs say.
#[derive(Default)]
struct Tmpfs {
    size: Option<ByteSize>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    exec: bool,
    read_only: bool,
}

impl Tmpfs {
    /// Takes one option; says whether it is one.
    fn take(&mut self, option: &str) -> bool {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let octal = |text: &str| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        match key {
            "size" => value.parse().map(|size| self.size = Some(size)).is_ok(),
            "mode" => octal(value).map(|mode| self.mode = Some(mode)).is_some(),
            "uid" => value.parse().map(|uid| self.uid = Some(uid)).is_ok(),
            "gid" => value.parse().map(|gid| self.gid = Some(gid)).is_ok(),
            "exec" | "noexec" => {
                self.exec = key == "exec";
                value.is_empty()
            }
            "ro" => {
                self.read_only = true;
                value.is_empty()
            }
            "rw" | "nosuid" | "nodev" | "suid" | "dev" | "noatime" | "relatime" => value.is_empty(),
            _ => false,
        }
    }

    fn kind(self) -> MountKind {
        MountKind::Tmpfs { size: self.size, mode: self.mode, uid: self.uid, gid: self.gid, exec: self.exec }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> Directories {
        Directories::new("/r", "/d")
    }

    fn volume(text: &str) -> Result<Mounts, UsageError> {
        mounts(&RunOptions { volume: vec![text.to_owned()], ..RunOptions::default() }, &dirs())
    }

    #[test]
    fn volumes_are_paths_names_or_the_container_s_own() {
        let found = volume("/src:/d:ro,rslave").unwrap();
        let expected = MountKind::Bind { source: "/src".into(), propagation: Some("rslave".into()), recursive: true };
        assert_eq!((&found.requests[0].kind, found.requests[0].read_only), (&expected, true));
        assert_eq!(found.host_paths, [PathBuf::from("/src")]);
        let found = volume("db:/d").unwrap();
        let expected =
            MountKind::Volume { source: "/d/volumes/db/_data".into(), subpath: None, recursive: true, copy_up: true };
        assert_eq!((&found.requests[0].kind, &found.volumes[..]), (&expected, &["db".to_owned()][..]));
        assert!(found.own_volumes.is_empty());
        let found = volume("/d").unwrap();
        assert_eq!((found.own_volumes.len(), found.own_volumes.clone()), (1, found.volumes));
        for bad in ["/a:/b:xx", ":/d", "/a:", "/a:/b:ro:z", "b/../c:/d"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_mounts_are_docker_s() {
        let long = |text: &str| {
            let found = mounts(&RunOptions { mount: vec![text.to_owned()], ..RunOptions::default() }, &dirs());
            found.map(|found| found.requests[0].clone())
        };
        let found = long("type=bind,src=/,dst=/d,readonly,bind-nonrecursive=true").unwrap();
        let expected = MountKind::Bind { source: "/".into(), propagation: None, recursive: false };
        assert_eq!((found.kind, found.read_only), (expected, true));
        let found = long("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let size = Some(ByteSize(1 << 20));
        assert_eq!(found.kind, MountKind::Tmpfs { size, mode: Some(0o700), uid: None, gid: None, exec: false });
        for bad in
            ["type=bind,target=/d", "type=x,target=/d", "type=bind,src=/nope-nope,dst=/d", "source=v", "target=/d,x=1"]
        {
            assert!(long(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_knows_its_options() {
        let tmpfs = |text: &str| mounts(&RunOptions { tmpfs: vec![text.to_owned()], ..RunOptions::default() }, &dirs());
        let found = tmpfs("/t:size=1m,exec,ro").unwrap().requests.remove(0);
        assert!(
            found.read_only
                && matches!(found.kind, MountKind::Tmpfs { size: Some(ByteSize(1_048_576)), exec: true, .. })
        );
        assert!(tmpfs("/t:sise=1m").is_err());
    }
}
