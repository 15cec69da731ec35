//! Where everything lies: options, then the environment, then defaults (DESIGN: names and defaults).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args::{Firewall, GlobalArgs, LogLevel, Policy, UsageError, shown};
use crate::network::cni::CONFIGURATIONS;
use crate::network::{FirewallChoice, FirewallOptions};
use crate::store::Directories;

/// Is what holds for every command, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The run and the data directory, absolute.
    pub directories: Directories,
    /// The parent of our cgroups, from each hierarchy's mount root.
    pub cgroup_parent: String,
    /// How the firewall's rules are made.
    pub firewall: FirewallOptions,
    /// Where CNI configurations are looked for beside those of a project, in order.
    pub cni_configurations: Vec<PathBuf>,
    /// Where CNI plugins are looked for, if somebody said so.
    pub cni_path: Option<String>,
    /// How much is told.
    pub log_level: LogLevel,
    /// What happens to a compose file whose services can take over the host, as the environment has it.
    pub policy: Policy,
    /// What `--rootfs` said, absolute: in `run` there is no IMAGE then.
    pub rootfs: Option<PathBuf>,
    /// What `image: root_fs` was said to mean, absolute.
    named_rootfs: Option<PathBuf>,
}

impl Settings {
    /// Fills in what the command line leaves open.
    ///
    /// # Errors
    /// [`UsageError`] for values that cannot be meant.
    pub fn new(args: &GlobalArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, UsageError> {
        let variable = |name: &str| env(name).filter(|value| !value.is_empty());
        let root = rustix::process::geteuid().is_root();
        let home = |name: &str, below_home: &str, last: &str| {
            let own = variable(name).map(PathBuf::from);
            let base = own.or_else(|| Some(PathBuf::from(variable("HOME")?).join(below_home)));
            base.map_or_else(|| PathBuf::from(last), |base| base.join("mydocker"))
        };
        let default_run =
            if root { "/run/mydocker".into() } else { home("XDG_RUNTIME_DIR", ".cache", "/run/mydocker") };
        let default_data =
            if root { "/var/lib/mydocker".into() } else { home("XDG_DATA_HOME", ".local/share", "/var/lib/mydocker") };
        let directory = |given: &Option<PathBuf>, name: &str, default: PathBuf| {
            absolute(&given.clone().or_else(|| variable(name).map(PathBuf::from)).unwrap_or(default))
        };
        let run = directory(&args.run_dir, "MYDOCKER_RUN_DIR", default_run)?;
        let data = directory(&args.data_dir, "MYDOCKER_DATA_DIR", default_data)?;
        let cgroup_parent = match (&args.cgroup_parent, variable("MYDOCKER_CGROUP_PARENT")) {
            (Some(given), _) => given.clone(),
            (None, Some(value)) => value.to_string_lossy().into_owned(),
            (None, None) => "/mydocker".into(),
        };
        let rootfs = args.rootfs.as_deref().map(absolute).transpose()?;
        let named = variable("MYDOCKER_ROOTFS").map(|path| absolute(Path::new(&path))).transpose()?;
        let own_configurations =
            args.cni_conf_dir.clone().or_else(|| variable("MYDOCKER_CNI_CONF_DIR").map(PathBuf::from));
        let own_configurations = own_configurations.map(|path| absolute(&path)).transpose()?;
        let cni_path =
            args.cni_path.clone().or_else(|| variable("CNI_PATH").map(|path| path.to_string_lossy().into_owned()));
        Ok(Self {
            cni_configurations: own_configurations.into_iter().chain([PathBuf::from(CONFIGURATIONS)]).collect(),
            cni_path: cni_path.map(|path| checked_cni_path(&path)).transpose()?,
            named_rootfs: rootfs.clone().or(named),
            rootfs,
            cgroup_parent: checked_cgroup(&cgroup_parent)?,
            firewall: FirewallOptions {
                choice: match args.firewall {
                    Some(choice) => choice.into(),
                    None => firewall(variable("MYDOCKER_FIREWALL"))?,
                },
                iptables: variable("MYDOCKER_IPTABLES").map(PathBuf::from),
            },
            log_level: match args.log_level {
                Some(level) => level,
                None => log_level(variable("MYDOCKER_LOG_LEVEL"))?,
            },
            policy: policy(variable("MYDOCKER_POLICY"))?,
            directories: Directories::new(run, data),
        })
    }

    /// Says what `image: root_fs` means, absolute; `None` when none is found.
    pub fn default_rootfs(&self) -> Option<PathBuf> {
        // A binary that is used where it was built needs no installation.
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("root_fs/rootfs");
        let found = || [self.directories.data().join("root_fs"), built].into_iter().find(|path| path.is_dir());
        self.named_rootfs.clone().or_else(found)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path)
        .map_err(|error| UsageError::new(format!("path `{}`: {error}", shown(&path.to_string_lossy()))))
}

/// The path is joined to each hierarchy's mount point: it must not lead out of there.
fn checked_cgroup(path: &str) -> Result<String, UsageError> {
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    if parts.clone().all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control)) {
        return Ok(format!("/{}", parts.collect::<Vec<_>>().join("/")));
    }
    let hint = "a path from each hierarchy's mount root: /mydocker";
    Err(UsageError::new(format!("`{}` is not the path of a cgroup", shown(path))).hint(hint))
}

impl From<Firewall> for FirewallChoice {
    fn from(given: Firewall) -> Self {
        match given {
            Firewall::Auto => Self::Auto,
            Firewall::Iptables => Self::Iptables,
            Firewall::Nftables => Self::Nftables,
            Firewall::None => Self::None,
        }
    }
}

fn firewall(value: Option<OsString>) -> Result<FirewallChoice, UsageError> {
    use clap::ValueEnum;
    let Some(value) = value else { return Ok(FirewallChoice::Auto) };
    Firewall::from_str(&value.to_string_lossy(), true).map(FirewallChoice::from).map_err(|_| {
        let message = format!("MYDOCKER_FIREWALL cannot be `{}`", shown(&value.to_string_lossy()));
        UsageError::new(message).hint("it can be auto, iptables, nftables, none")
    })
}

/// Plugins run as root, from `/`: a relative directory would be any.
fn checked_cni_path(path: &str) -> Result<String, UsageError> {
    if !path.is_empty() && path.split(':').all(|part| part.is_empty() || part.starts_with('/')) {
        return Ok(path.to_owned());
    }
    Err(UsageError::new(format!("`--cni-path {}` names a directory that is not absolute", shown(path))))
}

fn policy(value: Option<OsString>) -> Result<Policy, UsageError> {
    use clap::ValueEnum;
    let Some(value) = value else { return Ok(Policy::Warn) };
    Policy::from_str(&value.to_string_lossy(), true).map_err(|_| {
        let message = format!("MYDOCKER_POLICY cannot be `{}`", shown(&value.to_string_lossy()));
        UsageError::new(message).hint("it can be warn, strict")
    })
}

fn log_level(value: Option<OsString>) -> Result<LogLevel, UsageError> {
    use clap::ValueEnum;
    let Some(value) = value else { return Ok(LogLevel::Warn) };
    LogLevel::from_str(&value.to_string_lossy(), true).map_err(|_| {
        let message = format!("MYDOCKER_LOG_LEVEL cannot be `{}`", shown(&value.to_string_lossy()));
        UsageError::new(message).hint("it can be error, warn, info, debug, trace")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: GlobalArgs, env: &[(&str, &str)]) -> Result<Settings, UsageError> {
        Settings::new(&args, |name| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn options_win_over_the_environment_and_that_over_defaults() {
        let env = [("MYDOCKER_RUN_DIR", "/e/run"), ("MYDOCKER_DATA_DIR", "rel"), ("MYDOCKER_ROOTFS", "/e/root")];
        let args = GlobalArgs { run_dir: Some("/o/run".into()), ..Default::default() };
        let found = settings(args, &env).unwrap();
        assert_eq!(found.directories.run(), "/o/run");
        assert_eq!(found.directories.data(), std::env::current_dir().unwrap().join("rel"));
        assert_eq!((found.default_rootfs(), found.rootfs), (Some("/e/root".into()), None));
        let found = settings(GlobalArgs { rootfs: Some("/o/root".into()), ..Default::default() }, &env).unwrap();
        assert_eq!((found.default_rootfs(), found.rootfs), (Some("/o/root".into()), Some("/o/root".into())));
        let found = settings(GlobalArgs::default(), &[("MYDOCKER_RUN_DIR", "")]).unwrap();
        assert_eq!((found.directories.run(), &found.cgroup_parent[..]), ("/run/mydocker".as_ref(), "/mydocker"));
        assert_eq!(found.log_level, LogLevel::Warn);
    }

    #[test]
    fn cgroups_stay_below_their_root() {
        let parent = |text: &str| {
            settings(GlobalArgs { cgroup_parent: Some(text.into()), ..Default::default() }, &[])
                .map(|s| s.cgroup_parent)
        };
        assert_eq!(parent("a/b").unwrap(), "/a/b");
        for bad in ["", "/", "/../x", "a//b", "/a/", "."] {
            assert!(parent(bad).is_err(), "{bad}");
        }
        assert!(settings(GlobalArgs::default(), &[("MYDOCKER_LOG_LEVEL", "loud")]).is_err());
    }

    #[test]
    fn the_firewall_s_back_end_is_an_option_or_of_the_environment() {
        let env = [("MYDOCKER_FIREWALL", "nftables"), ("MYDOCKER_IPTABLES", "iptables-legacy")];
        let found = settings(GlobalArgs::default(), &env).unwrap().firewall;
        assert_eq!((found.choice, found.iptables), (FirewallChoice::Nftables, Some("iptables-legacy".into())));
        let args = GlobalArgs { firewall: Some(Firewall::None), ..Default::default() };
        assert_eq!(settings(args, &env).unwrap().firewall.choice, FirewallChoice::None);
        assert_eq!(settings(GlobalArgs::default(), &[]).unwrap().firewall, FirewallOptions::default());
        assert!(settings(GlobalArgs::default(), &[("MYDOCKER_FIREWALL", "ufw")]).is_err());
    }
}
