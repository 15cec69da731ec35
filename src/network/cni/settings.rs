//! What a network with `driver: cni` says of its configuration: its `driver_opts`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::capability::RuntimeConfig;
use super::error::CniError;
use super::list::NetworkList;
use super::runtime::TIME_LIMIT;
use super::search::{CONFIGURATIONS, PLUGINS, find_list, load_list, split_path};
use crate::network::NetworkError;
use crate::network::config::NetworkConfig;
use crate::spec::ObjectName;

/// Names the configuration: a file's path, or a name to be found.
pub const OPTION_LIST: &str = "conflist";
/// Names directories of plugins, with colons between.
pub const OPTION_PATH: &str = "cni_path";
/// Says how many seconds a plugin may take.
pub const OPTION_TIMEOUT: &str = "timeout";
/// Begins the options that give capabilities, as JSON: `capability.bandwidth`.
pub const OPTION_CAPABILITY: &str = "capability.";

/// Is what a network says of its configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CniSettings {
    pub(super) list: String,
    pub(super) plugin_directories: Vec<PathBuf>,
    pub(super) limit: Duration,
    pub(super) capabilities: Map<String, Value>,
}

impl CniSettings {
    /// Checks a configuration; reads no file.
    pub(super) fn check(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
        config.name.parse::<ObjectName>().map_err(|error| wrong(error.to_string()))?;
        if config.name.len() > 200 {
            return Err(wrong("its name is longer than 200 bytes".to_owned()));
        }
        let of_bridge = [
            ("a subnet", config.subnet.is_some()),
            ("a gateway", config.gateway.is_some()),
            ("an ip_range", config.ip_range.is_some()),
            ("a subnet", !config.pools.is_empty()),
            ("`enable_ipv6`", config.ipv6),
            ("`enable_ipv4`", config.without_ipv4),
            ("aux_addresses", !config.reserved.is_empty()),
            ("a bridge name", config.bridge_name.is_some()),
            ("`internal`", config.internal),
            ("an mtu", config.mtu.is_some()),
        ];
        if let Some((what, _)) = of_bridge.iter().find(|(_, given)| *given) {
            return Err(wrong(format!("the driver `cni` has no use for {what}: its configuration says such things")));
        }
        let mut settings = Self {
            list: config.name.clone(),
            plugin_directories: split_path(PLUGINS),
            limit: TIME_LIMIT,
            capabilities: Map::new(),
        };
        for (key, value) in &config.options {
            settings.set(key, value).map_err(wrong)?;
        }
        Ok(settings)
    }

    /// Returns what a network has whose configuration and plugin are ours.
    pub(super) fn of_own_plugin(directory: PathBuf) -> Self {
        let plugin_directories = [vec![directory], split_path(PLUGINS)].concat();
        Self { list: String::new(), plugin_directories, limit: TIME_LIMIT, capabilities: Map::new() }
    }

    /// Reads the configuration.
    pub(super) fn list(&self) -> Result<NetworkList, CniError> {
        if self.list.contains('/') {
            return load_list(Path::new(&self.list));
        }
        find_list(&self.list, &[PathBuf::from(CONFIGURATIONS)]).map(|(_, list)| list)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            OPTION_LIST => self.list = value.to_owned(),
            OPTION_PATH => {
                self.plugin_directories = split_path(value);
                if self.plugin_directories.is_empty() {
                    return Err(format!("`{OPTION_PATH}` names no absolute directory: `{value}`"));
                }
            }
            OPTION_TIMEOUT => {
                let seconds =
                    value.trim_end_matches('s').parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
                let seconds =
                    seconds.ok_or_else(|| format!("`{OPTION_TIMEOUT}` is a number of seconds, not `{value}`"))?;
                self.limit = Duration::from_secs_f64(seconds);
            }
            _ => match key.strip_prefix(OPTION_CAPABILITY) {
                Some(name) if !name.is_empty() => {
                    let value: Value =
                        serde_json::from_str(value).map_err(|error| format!("`{key}` is not JSON: {error}"))?;
                    let member: Map<String, Value> = [(name.to_owned(), value)].into_iter().collect();
                    serde_json::from_value::<RuntimeConfig>(Value::Object(member.clone()))
                        .map_err(|error| format!("`{key}`: {error}"))?;
                    self.capabilities.extend(member);
                }
                _ => {
                    let known = format!("{OPTION_LIST}, {OPTION_PATH}, {OPTION_TIMEOUT}, {OPTION_CAPABILITY}NAME");
                    return Err(format!("the driver `cni` has no option `{key}`; there are {known}"));
                }
            },
        }
        Ok(())
    }
}
