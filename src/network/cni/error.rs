use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::list::ListError;
use super::object::{ErrorObject, code};
use super::request::Operation;
use super::result::ResultError;
use super::version::{SpecVersion, versions_text};

/// Says which operation of CNI failed, with its object.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// No file has a list of this name.
    #[error("find the CNI configuration `{name}`: it is not in {}{}", paths_text(.directories), unread_text(.unread))]
    NoList {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
        /// Files that cannot be read, with the reason: one of them may be it.
        unread: Vec<String>,
    },
    /// A configuration file cannot be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A configuration file is none.
    #[error("use the CNI configuration {}", .path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ListError,
    },
    /// A configuration without plugins makes nothing.
    #[error("use the CNI network {0}: its configuration has no plugins")]
    NoPlugins(String),
    /// No directory has the plugin.
    #[error("find the CNI plugin `{plugin}` of the network {network}: it is not in {}", paths_text(.directories))]
    NoPlugin {
        /// The network.
        network: String,
        /// The `type`.
        plugin: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// Plugins and configuration have no version in common.
    #[error("use the CNI network {network}: it is written for CNI {}, and its plugins speak {spoken}", versions_text(.written))]
    NoCommonVersion {
        /// The network.
        network: String,
        /// What the configuration says.
        written: Vec<SpecVersion>,
        /// What each plugin says.
        spoken: String,
    },
    /// Somebody asked for what no plugin of the chain does.
    #[error("attach to the CNI network {network}: {wanted} asked for, and no plugin of its configuration has the capability {}", .capabilities.join(", "))]
    NoCapability {
        /// The network.
        network: String,
        /// In the words of who asked.
        wanted: String,
        /// The capabilities.
        capabilities: Vec<String>,
    },
    /// A value that must not reach a plugin.
    #[error("run CNI plugins: {0}")]
    Value(String),
    /// A plugin ran and refused.
    #[error("CNI plugin {plugin}: {operation} for the network {network}: {object}{}", words_text(.stderr))]
    Plugin {
        /// Its type.
        plugin: String,
        /// What it was to do.
        operation: Operation,
        /// For which network.
        network: String,
        /// What it said.
        object: Box<ErrorObject>,
        /// What it said besides, shortened.
        stderr: String,
    },
    /// A plugin ended without the answer it owes.
    #[error("CNI plugin {plugin}: {operation} for the network {network}: {reason}{}", words_text(.stderr))]
    Broken {
        /// Its type.
        plugin: String,
        /// What it was to do.
        operation: Operation,
        /// For which network.
        network: String,
        /// How it ended.
        reason: String,
        /// What it said besides, shortened.
        stderr: String,
    },
    /// A plugin's answer to ADD is no result.
    #[error("CNI plugin {plugin}: {operation} for the network {network}: it printed no result")]
    Answer {
        /// Its type.
        plugin: String,
        /// What it was to do.
        operation: Operation,
        /// For which network.
        network: String,
        /// What is wrong with it.
        #[source]
        source: ResultError,
    },
    /// A plugin did not end.
    #[error("CNI plugin {plugin}: {operation} for the network {network}: it had not ended after {} s and was killed{}", .limit.as_secs_f32(), words_text(.stderr))]
    TimedOut {
        /// Its type.
        plugin: String,
        /// What it was to do.
        operation: Operation,
        /// For which network.
        network: String,
        /// How long it had.
        limit: Duration,
        /// What it said, shortened.
        stderr: String,
    },
    /// A plugin could not be started.
    #[error("run the CNI plugin {}", .path.display())]
    Start {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The attachment is there already.
    #[error("attach {container} to a CNI network: its interface {ifname} is attached already, to {network}")]
    Attached {
        /// The container.
        container: String,
        /// Its interface.
        ifname: String,
        /// The network that it is on.
        network: String,
    },
    /// The attachment was never made, or is gone.
    #[error("find the CNI attachment of {container} with the interface {ifname}")]
    NotAttached {
        /// The container.
        container: String,
        /// The interface.
        ifname: String,
    },
    /// The version in use has no such operation.
    #[error("{operation} the CNI network {network}: version {version} of CNI has no {operation}")]
    NoOperation {
        /// The operation.
        operation: Operation,
        /// The network.
        network: String,
        /// The version.
        version: SpecVersion,
    },
    /// An attachment's file cannot be read or written.
    #[error("keep the record of CNI attachments")]
    Store(#[from] crate::store::StoreError),
    /// A directory or lock of the cache.
    #[error("{operation} {}", .path.display())]
    Cache {
        /// What was done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Several plugins failed; each is told.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<CniError>),
}

impl CniError {
    /// Joins errors; `Ok` where there is none.
    pub(super) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(errors)),
        }
    }

    /// Returns the plugin's error code, where a plugin gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Plugin { object, .. } => Some(object.code),
            Self::Several(errors) => errors.iter().find_map(Self::code),
            _ => None,
        }
    }

    /// Names the known cause and the way out, where there is one.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoPlugin { .. } => {
                "Debian has the reference plugins in the package containernetworking-plugins; `--cni-path` or CNI_PATH names \
                 other directories"
            }
            Self::NoList { .. } => {
                "a file there has to end in .conflist, .conf or .json; `--cni-conf-dir DIR` names another directory"
            }
            Self::NoCapability { .. } => {
                "the plugin that does it has to declare it: `\"capabilities\": {\"portMappings\": true}` for portmap, `ips` for \
                 host-local or static, `mac` for tuning"
            }
            Self::Attached { container, ifname, .. } => {
                return Some(format!(
                    "`mydocker cni del --container-id {container} --ifname {ifname}` detaches it; `--ifname` names another interface"
                ));
            }
            Self::NotAttached { .. } => {
                "an attachment is named as `mydocker cni add` did it: `--container-id ID --ifname NAME` (by-hand and eth0 where they \
                 were not said)"
            }
            Self::NoCommonVersion { .. } => {
                "write a `cniVersion` that all plugins speak; `CNI_COMMAND=VERSION PLUGIN </dev/null` shows theirs"
            }
            Self::TimedOut { .. } => "driver_opts `timeout` (seconds) gives a plugin more time",
            Self::Plugin { object, .. } if object.code == code::TRY_AGAIN => {
                "the plugin says that this may pass: try again"
            }
            Self::Broken { plugin, operation: Operation::Check, .. } if plugin == "bandwidth" => {
                "this plugin crashes in CHECK where no bandwidth was asked for (known of 1.1.1); `disableCheck` in the configuration \
                 leaves CHECK out"
            }
            Self::Plugin { plugin, operation: Operation::Check, .. } if plugin == "portmap" => {
                "portmap's CHECK looks for rules of IPv6 that there may not be (known of 1.1.1); `disableCheck` in the configuration leaves \
                 CHECK out"
            }
            Self::Store(source) => return source.hint(),
            Self::Several(errors) => return errors.iter().find_map(Self::hint),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn paths_text(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn unread_text(unread: &[String]) -> String {
    if unread.is_empty() { String::new() } else { format!(" (not read: {})", unread.join("; ")) }
}

fn words_text(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(" [stderr: {stderr}]") }
}
