//! From the options of `run` to the request for a container.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::life::Life;
use super::{devices, limits, mounts, names, namespaces, network};
use crate::cli::args::{RunArgs, RunOptions, UsageError, shown};
use crate::cli::exit::Family;
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::engine::NetworkWish;
use crate::namespaces::Namespace;
use crate::spec::{CapabilitySet, ContainerId, ContainerRequest, ObjectName, SignalNumber};

/// Is everything that a run needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) request: ContainerRequest,
    pub(super) networks: Vec<NetworkWish>,
    pub(super) names: Vec<String>,
    pub(super) shared: Vec<(Namespace, String)>,
    pub(super) volumes: Vec<String>,
    pub(super) own_volumes: Vec<String>,
    pub(super) host_paths: Vec<PathBuf>,
    pub(super) warnings: Vec<String>,
    pub(super) id_file: Option<PathBuf>,
    /// The image, as written.
    pub(super) image: String,
    /// What holds for one that lives on.
    pub(super) life: Life,
}

/// Looks a variable of ours up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Is a wrong command line, whose code is 125.
pub(super) fn wrong(message: impl Into<String>) -> UsageError {
    UsageError::new(message).of(Family::Container)
}

/// Makes a path absolute, from the working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(path).map_err(|error| wrong(format!("path `{}`: {error}", shown(&path.to_string_lossy()))))
}

/// Checks everything and fills in all defaults; touches nothing.
pub(super) fn plan(args: RunArgs, settings: &Settings, variable: Environment<'_>) -> Result<Plan, CliError> {
    let RunArgs { options, words, ancestor, .. } = args;
    let life = Life::of(&options)?;
    let (image, rootfs, command) = program(&options, words, ancestor.is_some(), settings)?;
    let id = ContainerId::generate();
    let name = match &options.name {
        Some(name) => name.parse::<ObjectName>().map_err(|error| wrong(error.to_string()))?.as_str().to_owned(),
        None => id.short().to_owned(),
    };
    let default_hostname = || match (options.uts.as_deref(), &ancestor) {
        (Some("host"), _) => host_s_name(),
        (_, Some(_)) => "container".to_owned(),
        (_, None) => id.short().to_owned(),
    };
    let host_name =
        |option: &str, text: &Option<String>| text.as_deref().map(|text| names::host_name(option, text)).transpose();
    let hostname = host_name("--hostname", &options.hostname)?.unwrap_or_else(default_hostname);
    let networks = network::networks(&options)?;
    let namespaces = namespaces::namespaces(&options, ancestor.as_ref(), networks.namespace, networks.shared_with)?;
    let mounts = mounts::mounts(&options, &settings.directories)?;
    let security = limits::security(&options, ancestor.is_some())?;
    let tty = options.tty || (ancestor.is_some() && std::io::stdin().is_terminal());
    let known_as = options.name.iter().cloned().chain([hostname.clone(), id.short().to_owned()]).collect();
    let request = ContainerRequest {
        name,
        rootfs,
        read_only: options.read_only,
        args: command,
        env: environment(&options, tty, ancestor.is_some(), variable)?,
        working_dir: options.workdir.clone(),
        user: options.user.clone(),
        groups: options.group_add.clone(),
        hostname,
        domainname: host_name("--domainname", &options.domainname)?,
        namespaces: namespaces.request,
        mounts: mounts.requests,
        capabilities: limits::capabilities(&options, ancestor.is_some())?,
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        devices: devices::devices(&options.device)?,
        device_rules: devices::rules(&options.device_cgroup_rule)?,
        kernel_files: security.kernel_files,
        apparmor: security.apparmor,
        limits: limits::resources(&options, ancestor.as_ref())?,
        ulimits: limits::ulimits(&options.ulimit)?,
        sysctls: pairs("--sysctl", &options.sysctl)?,
        init: options.init,
        tty,
        stdin_open: options.interactive || ancestor.is_some(),
        stop_signal: options.stop_signal.unwrap_or(SignalNumber::TERM),
        stop_grace_period: Duration::from_secs(options.stop_timeout.unwrap_or(10).into()),
        extra_hosts: names::extra_hosts(&options.add_host)?,
        dns: names::dns(&options)?,
        oom_score_adj: options.oom_score_adj,
        labels: labels(&[label_lines(&options)?, options.annotation.clone(), options.label.clone()].concat()),
        id,
    };
    let (volumes, own_volumes, host_paths) = (mounts.volumes, mounts.own_volumes, mounts.host_paths);
    let (networks, shared) = (networks.wishes, namespaces.shared);
    let (id_file, warnings, names) = (options.cidfile.clone(), risks(&options), known_as);
    Ok(Plan { request, networks, names, shared, volumes, own_volumes, host_paths, warnings, id_file, image, life })
}

/// What is done as asked, and may not be meant.
fn risks(options: &RunOptions) -> Vec<String> {
    let all = options.cap_add.iter().any(|text| text.split(',').any(CapabilitySet::is_all));
    let told = || "`--cap-add ALL`: with all capabilities the container can take over the host".to_owned();
    all.then(told).into_iter().collect()
}

fn host_s_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Finds the root filesystem and the command.
fn program(
    options: &RunOptions,
    words: Vec<String>,
    is_ancestor: bool,
    settings: &Settings,
) -> Result<(String, PathBuf, Vec<String>), UsageError> {
    let no_default = || {
        wrong("there is no default root filesystem")
            .hint("make one with `root_fs/build` and name it with `--rootfs DIR` or MYDOCKER_ROOTFS")
    };
    let mut words = words.into_iter();
    let (image, rootfs) = if is_ancestor || settings.rootfs.is_some() {
        let rootfs = settings.default_rootfs().ok_or_else(no_default)?;
        (format!("rootfs:{}", rootfs.display()), rootfs)
    } else {
        let image = words.next().ok_or_else(|| {
            wrong("neither an image nor `--rootfs` is given").hint("mydocker run --rootfs DIR /bin/sh")
        })?;
        let rootfs = match image.strip_prefix("rootfs:") {
            Some(path) => absolute(Path::new(path))?,
            None if image == "root_fs" => settings.default_rootfs().ok_or_else(no_default)?,
            None => {
                return Err(wrong(format!("there is no image `{}`", shown(&image)))
                    .hint("images are not there yet: `root_fs`, `rootfs:DIR`, or `--rootfs DIR` and no image"));
            }
        };
        (image, rootfs)
    };
    check_root(&rootfs)?;
    let entrypoint = options.entrypoint.iter().filter(|program| !program.is_empty()).cloned();
    let command: Vec<String> = entrypoint.chain(words).collect();
    if command.is_empty() {
        return Err(wrong("no command is given").hint("mydocker run --rootfs DIR /bin/sh"));
    }
    Ok((image, rootfs, command))
}

/// Refuses what cannot be a root filesystem, while its path can still be named.
fn check_root(rootfs: &Path) -> Result<(), UsageError> {
    let entries = std::fs::read_dir(rootfs).map(|entries| entries.take(1).count());
    let reason = match entries {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is not there".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
        Ok(_) if rootfs == Path::new("/") => "is the host's own".to_owned(),
        Ok(0) => "is empty".to_owned(),
        Ok(_) => return Ok(()),
    };
    let hint = format!("`root_fs/build {}` makes one from busybox; `--rootfs DIR` names another", rootfs.display());
    Err(wrong(format!("the root filesystem {} {reason}", rootfs.display())).hint(hint))
}

/// Nothing of ours but what is asked for by name, and what the terminal is.
fn environment(
    options: &RunOptions,
    tty: bool,
    is_ancestor: bool,
    variable: Environment<'_>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut env = BTreeMap::new();
    if tty || is_ancestor {
        env.insert("TERM".to_owned(), variable("TERM").filter(|term| !term.is_empty()).unwrap_or("xterm".to_owned()));
    }
    for file in &options.env_file {
        for line in said_lines(file)? {
            set(&mut env, &line, variable)?;
        }
    }
    for entry in &options.env {
        set(&mut env, entry, variable)?;
    }
    Ok(env)
}

/// `KEY=VALUE`, or `KEY` for the value that it has here; one that is not set here is not set there.
fn set(env: &mut BTreeMap<String, String>, entry: &str, variable: Environment<'_>) -> Result<(), UsageError> {
    let (key, value) = match entry.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (entry, variable(entry)),
    };
    if key.is_empty() || key.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(wrong(format!("`{}` is not KEY=VALUE", shown(entry))));
    }
    env.extend(value.map(|value| (key.to_owned(), value)));
    Ok(())
}

fn pairs(option: &str, list: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    list.iter()
        .map(|text| {
            let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) = pair.ok_or_else(|| wrong(format!("`{option} {}` is not KEY=VALUE", shown(text))))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The lines of `--label-file` that say something.
fn label_lines(options: &RunOptions) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    for file in &options.label_file {
        lines.extend(said_lines(file)?);
    }
    Ok(lines)
}

/// The lines of a file, without those that are empty or a comment.
fn said_lines(file: &Path) -> Result<Vec<String>, CliError> {
    let read = std::fs::read_to_string(file);
    let text = read.map_err(|source| CliError::Read { file: file.display().to_string(), source })?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// A label without a value has an empty one.
fn labels(list: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    list.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{AncestorLimits, GlobalArgs};
    use crate::spec::{CapabilityBase, SeccompRequest};

    fn settings(rootfs: Option<&str>) -> Settings {
        let args = GlobalArgs { rootfs: rootfs.map(PathBuf::from), ..GlobalArgs::default() };
        Settings::new(&args, |name| (name == "MYDOCKER_ROOTFS").then(|| "/tmp".into())).unwrap()
    }

    fn args(words: &[&str], options: RunOptions, ancestor: Option<AncestorLimits>) -> RunArgs {
        RunArgs { options, words: words.iter().map(|word| (*word).to_owned()).collect(), help: None, ancestor }
    }

    fn told(result: Result<Plan, CliError>) -> String {
        result.map_or_else(|error| error.to_string(), |plan| format!("{:?}", plan.request.args))
    }

    #[test]
    fn with_a_rootfs_there_is_no_image() {
        let nothing: Environment<'_> = &|_| None;
        let run = |words: &[&str], rootfs| plan(args(words, RunOptions::default(), None), &settings(rootfs), nothing);
        assert_eq!(run(&["sh", "-e"], Some("/tmp")).unwrap().request.args, ["sh", "-e"]);
        let found = run(&["root_fs", "sh"], None).unwrap().request;
        assert_eq!((found.rootfs, found.args), (PathBuf::from("/tmp"), vec!["sh".to_owned()]));
        assert_eq!(run(&["rootfs:/usr", "sh"], None).unwrap().request.rootfs, Path::new("/usr"));
        assert_eq!(told(run(&["alpine", "sh"], None)), "there is no image `alpine`");
        assert_eq!(told(run(&["root_fs"], None)), "no command is given");
        assert_eq!(told(run(&[], None)), "neither an image nor `--rootfs` is given");
        assert!(told(run(&["sh"], Some("/nope-nope"))).contains("/nope-nope is not there"));
    }

    #[test]
    fn the_ancestor_has_its_own_defaults() {
        let ancestor = AncestorLimits { user_namespace: true, ..AncestorLimits::default() };
        let found = plan(args(&["sh"], RunOptions::default(), Some(ancestor)), &settings(None), &|_| None).unwrap();
        let request = found.request;
        assert_eq!((&request.hostname[..], request.capabilities.base), ("container", CapabilityBase::Ancestor));
        assert_eq!((request.seccomp, request.no_new_privileges), (SeccompRequest::AncestorDefault, true));
        assert!(request.namespaces.user.is_some() && request.stdin_open && request.limits.memory.is_none());
        assert_eq!(request.env, BTreeMap::from([("TERM".to_owned(), "xterm".to_owned())]));
    }

    #[test]
    fn the_environment_is_what_is_asked_for() {
        let here: Environment<'_> = &|name| (name == "HERE").then(|| "1".to_owned());
        let options =
            RunOptions { env: ["A=b=c", "HERE", "GONE", "E="].map(str::to_owned).to_vec(), ..RunOptions::default() };
        let found = environment(&options, false, false, here).unwrap();
        let expected = [("A", "b=c"), ("E", ""), ("HERE", "1")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let options = RunOptions { env: vec!["=x".to_owned()], ..RunOptions::default() };
        assert!(environment(&options, false, false, here).is_err());
    }
}
