//! Options of `run` about namespaces: of its own, the host's, or another container's.

use super::limits;
use super::request::wrong;
use crate::cli::args::{AncestorLimits, RunOptions, UsageError, shown};
use crate::cli::report::CliError;
use crate::cli::settings::Settings;
use crate::engine::SharedNamespaces;
use crate::namespaces::Namespace;
use crate::spec::{ContainerRequest, NamespaceRequest, NamespaceSource};
use crate::supervisor::find_running;

/// Is what a container is to have of namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) request: NamespaceRequest,
    /// Which are another container's, and what that is called.
    pub(super) shared: Vec<(Namespace, String)>,
}

/// Reads `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns` and the maps; `network` is what `--network` says.
pub(super) fn namespaces(
    options: &RunOptions,
    ancestor: Option<&AncestorLimits>,
    network: NamespaceSource,
    network_of: Option<String>,
) -> Result<Namespaces, UsageError> {
    let mut shared: Vec<_> = network_of.map(|name| (Namespace::Network, name)).into_iter().collect();
    let user = limits::id_maps(options, ancestor)?;
    match options.userns.as_deref() {
        None | Some("") => {}
        Some("host") if user.is_none() => {}
        Some("host") => return Err(wrong("`--userns host` and maps of a user namespace contradict each other")),
        Some(other) => {
            return Err(wrong(format!("`--userns {}` is not supported", shown(other)))
                .hint("host; `--uid-map` and `--gid-map` make a user namespace"));
        }
    }
    let mut source = |kind: Namespace, option: &str, given: &Option<String>, known: &str| {
        let text = given.as_deref().unwrap_or_default();
        let is_known = known.split(", ").any(|word| word == text);
        match text.split_once(':') {
            None if text.is_empty() || (is_known && text != "host") => Ok(NamespaceSource::Private),
            None if is_known => Ok(NamespaceSource::Host),
            Some(("container", name)) if !name.is_empty() && known.contains("container:") => {
                shared.push((kind, name.to_owned()));
                // Which one that is, is looked up at the start.
                Ok(NamespaceSource::Private)
            }
            _ => Err(wrong(format!("`{option} {}` is not supported", shown(text))).hint(format!("known are {known}"))),
        }
    };
    let request = NamespaceRequest {
        user,
        network,
        pid: source(Namespace::Pid, "--pid", &options.pid, "private, host, container:NAME")?,
        ipc: source(Namespace::Ipc, "--ipc", &options.ipc, "private, shareable, host, container:NAME")?,
        uts: source(Namespace::Uts, "--uts", &options.uts, "private, host")?,
        cgroup: source(Namespace::Cgroup, "--cgroupns", &options.cgroupns, "private, host")?
            == NamespaceSource::Private,
    };
    if request.uts == NamespaceSource::Host && (options.hostname.is_some() || options.domainname.is_some()) {
        return Err(wrong(
            "with `--uts host` the host's name is the container's: `--hostname` and `--domainname` would change it",
        ));
    }
    Ok(Namespaces { request, shared })
}

/// Opens what is another container's, and notes in the request whose it is.
pub(super) fn share(
    wanted: &[(Namespace, String)],
    request: &mut ContainerRequest,
    settings: &Settings,
) -> Result<SharedNamespaces, CliError> {
    let mut shared = SharedNamespaces::default();
    for (kind, name) in wanted {
        let owner = find_running(&settings.directories, name, *kind)?;
        shared.add(*kind, &owner)?;
        let source = NamespaceSource::Container(owner.id);
        match kind {
            Namespace::Network => {
                request.namespaces.network = source;
                // As Docker: one network, one name.
                (request.hostname, request.domainname) = (owner.hostname, owner.domainname);
            }
            Namespace::Pid => request.namespaces.pid = source,
            _ => request.namespaces.ipc = source,
        }
    }
    Ok(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &RunOptions) -> Result<Namespaces, String> {
        namespaces(options, None, NamespaceSource::Private, None).map_err(|error| error.to_string())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn modes_are_docker_s() {
        assert_eq!(of(&RunOptions::default()).unwrap().request, NamespaceRequest::private());
        let options = RunOptions {
            pid: some("host"),
            ipc: some("container:db"),
            cgroupns: some("host"),
            ..RunOptions::default()
        };
        let found = of(&options).unwrap();
        assert_eq!((found.request.pid, found.request.cgroup), (NamespaceSource::Host, false));
        assert_eq!(found.shared, [(Namespace::Ipc, "db".to_owned())]);
        let options = RunOptions { ipc: some("shareable"), uts: some("private"), ..RunOptions::default() };
        assert_eq!(of(&options).unwrap().request, NamespaceRequest::private());
        for options in [
            RunOptions { pid: some("hosts"), ..RunOptions::default() },
            RunOptions { pid: some("container:"), ..RunOptions::default() },
            RunOptions { uts: some("container:x"), ..RunOptions::default() },
            RunOptions { uts: some("host"), hostname: some("x"), ..RunOptions::default() },
            RunOptions { userns: some("private"), ..RunOptions::default() },
            RunOptions { userns: some("host"), uid_map: vec!["0:1:1".to_owned()], ..RunOptions::default() },
        ] {
            assert!(of(&options).is_err(), "{options:?}");
        }
    }
}
