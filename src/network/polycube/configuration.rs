//! The configuration of a network with `driver: polycube`, and the place where its plugin is found: ourselves.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::conf::Conf;
use super::record::Records;
use crate::network::cni::{Additions, NetworkList, PluginRequest, SpecVersion};
use crate::network::config::NetworkConfig;
use crate::network::{FirewallOptions, NetworkError};
use crate::spec::ObjectName;

/// The plugin's type, and the name by which the binary is the plugin.
const NAME: &str = "polycube";
/// What the options of a compose file become.
const OPTIONS: [(&str, &str); 5] = [
    ("url", "/url"),
    ("uplink_mode", "/uplink/mode"),
    ("uplink_dev", "/uplink/dev"),
    ("uplink_force", "/uplink/force"),
    ("gateway", "/uplink/gateway"),
];

/// Writes the configuration list that a network of ours means.
///
/// # Errors
/// [`NetworkError::Config`] with what the plugin would say.
pub(in crate::network) fn list_of(config: &NetworkConfig, run_dir: &Path) -> Result<NetworkList, NetworkError> {
    let wrong = |reason: String| NetworkError::Config { network: config.name.clone(), reason };
    config.name.parse::<ObjectName>().map_err(|error| wrong(error.to_string()))?;
    if config.name.len() > 200 {
        return Err(wrong("its name is longer than 200 bytes".to_owned()));
    }
    let without = [
        ("an ip_range", config.ip_range.is_some()),
        ("aux_addresses", !config.reserved.is_empty()),
        ("a bridge name", config.bridge_name.is_some()),
        ("`internal`", config.internal),
    ];
    if let Some((what, _)) = without.iter().find(|(_, given)| *given) {
        return Err(wrong(format!("the driver `polycube` has no use for {what}")));
    }
    let mut plugin = json!({
        "type": NAME,
        "stateDir": run_dir,
        "uplink": {},
        "capabilities": {"ips": true, "mac": true, "portMappings": true},
    });
    for (key, value) in &config.options {
        let Some((_, place)) = OPTIONS.iter().find(|(name, _)| name == key) else {
            let known: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
            return Err(wrong(format!("the driver `polycube` has no option `{key}`; there are {}", known.join(", "))));
        };
        let value = match (key.as_str(), value.as_str()) {
            ("uplink_force", "true" | "1") => json!(true),
            ("uplink_force", "false" | "0" | "") => json!(false),
            ("uplink_force", other) => return Err(wrong(format!("`{key}` is true or false, not `{other}`"))),
            (_, text) => json!(text),
        };
        set(&mut plugin, place, value);
    }
    let given = [
        ("subnet", config.subnet.map(|subnet| json!(subnet))),
        ("gateway", config.gateway.map(|gateway| json!(gateway))),
        ("mtu", config.mtu.map(|mtu| json!(mtu))),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            plugin[key] = value;
        }
    }
    let list = json!({"cniVersion": SpecVersion::V1_1_0, "name": config.name, "plugins": [plugin]});
    let list = NetworkList::parse(list.to_string().as_bytes()).map_err(|error| wrong(error.to_string()))?;
    check(&list).map_err(wrong)?;
    Ok(list)
}

/// Has the plugin make the host's rules as this engine does: for one call, and no part of what the network is.
pub(in crate::network) fn with_firewall(mut list: NetworkList, options: &FirewallOptions) -> NetworkList {
    for plugin in &mut list.plugins {
        plugin.0.insert("firewall".to_owned(), json!(options.choice));
        if let Some(iptables) = &options.iptables {
            plugin.0.insert("iptables".to_owned(), json!(iptables));
        }
    }
    list
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(members)) = object.pointer_mut(parent) {
        members.insert(key.to_owned(), value);
    }
}

/// Has the plugin's own check look at it, before anything is made.
fn check(list: &NetworkList) -> Result<(), String> {
    let Some(plugin) = list.plugins.first() else { return Ok(()) };
    let request = plugin.request(SpecVersion::V1_1_0, &list.name, Additions::default());
    let request = PluginRequest::parse(request.to_string().as_bytes(), &[SpecVersion::V1_1_0]);
    let request = request.map_err(|error| error.to_string())?;
    Conf::check(&request).map(drop).map_err(|error| error.to_string())
}

/// Names the directory, for CNI_PATH, that holds our own plugin.
pub(in crate::network) fn plugin_directory(run_dir: &Path) -> PathBuf {
    run_dir.join("networks/plugins")
}

/// Makes the plugin be found: a link to whatever the process is that runs it, so that it is always of the same build, and found also
/// where the file it was started from is gone.
///
/// # Errors
/// The link cannot be made.
pub(in crate::network) fn offer_plugin(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    match std::os::unix::fs::symlink("/proc/self/exe", directory.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Takes the link away again.
pub(in crate::network) fn withdraw_plugin(directory: &Path) {
    let _ = fs::remove_file(directory.join(NAME));
    let _ = fs::remove_dir(directory);
}

/// Says whether networks of the plugin's need the host to forward.
pub(in crate::network) fn needs_forwarding(run_dir: &Path) -> bool {
    Records::below(run_dir).has_uplinks().unwrap_or(true)
}

/// Reads where the plugin keeps its records, if the configuration says so.
pub(super) fn state_directory(config: &Map<String, Value>) -> Option<PathBuf> {
    let directory = config.get("stateDir").and_then(Value::as_str).filter(|directory| directory.starts_with('/'));
    directory.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::DriverKind;

    fn config(options: &[(&str, &str)]) -> NetworkConfig {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NetworkConfig { name: "p_blue".into(), driver: DriverKind::Polycube, options, ..NetworkConfig::default() }
    }

    #[test]
    fn options_become_the_plugins_keys() {
        let options =
            [("url", "http://[::1]:9"), ("uplink_mode", "netdev"), ("uplink_dev", "eth1"), ("gateway", "10.0.0.1")];
        let list = list_of(&config(&options), Path::new("/run/mydocker")).unwrap();
        let plugin = Value::Object(list.plugins[0].0.clone());
        assert_eq!((list.name.as_str(), list.plugins[0].plugin_type()), ("p_blue", "polycube"));
        assert_eq!(plugin["uplink"], json!({"mode": "netdev", "dev": "eth1", "gateway": "10.0.0.1"}));
        assert_eq!((&plugin["url"], &plugin["stateDir"]), (&json!("http://[::1]:9"), &json!("/run/mydocker")));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_made() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[("uplnk_mode", "veth")], "uplink_mode"),
            (&[("uplink_mode", "netdev")], "dev"),
            (&[("gateway", "here")], "here"),
            (&[("uplink_force", "maybe")], "maybe"),
        ];
        for (options, word) in cases {
            let error = list_of(&config(options), Path::new("/run/mydocker")).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let internal = NetworkConfig { internal: true, ..config(&[]) };
        assert!(list_of(&internal, Path::new("/")).unwrap_err().to_string().contains("internal"));
    }
}
