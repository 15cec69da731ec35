//! One invocation of a plugin as both sides see it: the environment (SPEC.md section 2), and what stands on standard input (section 3).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::capability::RuntimeConfig;
use super::list::{check_network_name, check_type};
use super::object::{ErrorObject, code};
use super::result::AttachResult;
use super::version::SpecVersion;

/// Names the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "each variant is the specification's word")]
pub enum Operation {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Operation {
    /// Returns the word of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = ErrorObject;

    fn from_str(text: &str) -> Result<Self, ErrorObject> {
        let all = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];
        all.into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or_else(|| ErrorObject::new(code::BAD_ENVIRONMENT, format!("unknown CNI_COMMAND: {text}")))
    }
}

/// Is an invocation's environment. What the operation does not need may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `CNI_COMMAND`.
    pub operation: Operation,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`, a path; empty where the namespace has gone (DEL).
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`, `KEY=VALUE;KEY=VALUE`.
    pub args: String,
    /// `CNI_PATH`, directories with colons between.
    pub path: String,
}

impl Parameters {
    /// Reads the environment as a plugin has to: what the operation needs must be there.
    ///
    /// # Errors
    /// An error object with code 4 that names every variable.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ErrorObject> {
        let text = |name: &str| variable(name).unwrap_or_default();
        if text("CNI_COMMAND").is_empty() {
            let details = "a runtime runs CNI plugins, and sets it: ADD, DEL, CHECK, GC, STATUS or VERSION";
            let object = ErrorObject::new(code::BAD_ENVIRONMENT, "required env variables [CNI_COMMAND] missing");
            return Err(object.details(details));
        }
        let parameters = Self {
            operation: text("CNI_COMMAND").parse()?,
            container_id: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: text("CNI_PATH"),
        };
        let of_container = matches!(parameters.operation, Operation::Add | Operation::Del | Operation::Check);
        let needs_netns = matches!(parameters.operation, Operation::Add | Operation::Check);
        let missing: Vec<&str> = [
            ("CNI_CONTAINERID", of_container && parameters.container_id.is_empty()),
            ("CNI_NETNS", needs_netns && parameters.netns.is_empty()),
            ("CNI_IFNAME", of_container && parameters.ifname.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
        if !missing.is_empty() {
            let message = format!("required env variables [{}] missing", missing.join(","));
            return Err(ErrorObject::new(code::BAD_ENVIRONMENT, message));
        }
        if of_container && check_network_name(&parameters.container_id).is_err() {
            let message = format!("CNI_CONTAINERID cannot be `{}`", parameters.container_id.escape_debug());
            return Err(ErrorObject::new(code::BAD_ENVIRONMENT, message));
        }
        if of_container && parameters.ifname.parse::<crate::spec::InterfaceName>().is_err() {
            let message = format!("CNI_IFNAME cannot be `{}`", parameters.ifname.escape_debug());
            return Err(ErrorObject::new(code::BAD_ENVIRONMENT, message));
        }
        Ok(parameters)
    }

    /// Returns the variables a plugin is run with. All six are set, so that none of ours shines through.
    pub fn environment(&self) -> [(&'static str, &str); 6] {
        [
            ("CNI_COMMAND", self.operation.as_str()),
            ("CNI_CONTAINERID", &self.container_id),
            ("CNI_NETNS", &self.netns),
            ("CNI_IFNAME", &self.ifname),
            ("CNI_ARGS", &self.args),
            ("CNI_PATH", &self.path),
        ]
    }
}

/// Identifies an attachment among those of a network, as GC lists them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

/// The member of a request in which GC lists what is still valid.
pub const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// The same as the first text of 1.1.0 had it; plugins written by that know no other, and runtimes send both.
pub const OLD_VALID_ATTACHMENTS: &str = "cni.dev/attachments";

/// Is what a plugin reads from standard input, taken apart: what the protocol knows has a type, the plugin's own keys stay JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginRequest {
    /// `cniVersion`.
    pub version: SpecVersion,
    /// The network's name.
    pub name: String,
    /// The plugin's type, which is the name of its file.
    pub plugin_type: String,
    /// `runtimeConfig`.
    pub runtime: RuntimeConfig,
    /// What the plugin before made of the attachment (ADD), or what came of all (CHECK, DEL).
    pub previous: Option<AttachResult>,
    /// What is still valid (GC).
    pub valid_attachments: Vec<ValidAttachment>,
    /// The whole configuration with all keys.
    pub config: Map<String, Value>,
}

impl PluginRequest {
    /// Reads standard input as a plugin has to. `supported` are the versions that the plugin speaks.
    ///
    /// # Errors
    /// An error object with code 1, 6 or 7.
    pub fn parse(bytes: &[u8], supported: &[SpecVersion]) -> Result<Self, ErrorObject> {
        let undecoded = |error: serde_json::Error| {
            ErrorObject::new(code::DECODE_FAILURE, format!("cannot decode the configuration: {error}"))
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            let details = "a plugin reads its part of the network's configuration list there";
            return Err(ErrorObject::new(code::DECODE_FAILURE, "standard input is empty").details(details));
        }
        let config: Map<String, Value> = serde_json::from_slice(bytes).map_err(undecoded)?;
        let version_text = config.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
        let version = version_text.parse::<SpecVersion>().ok().filter(|version| supported.contains(version));
        let version = version.ok_or_else(|| {
            let details = format!(
                "the configuration has {version_text}, the plugin {}",
                super::version::versions_text(supported)
            );
            ErrorObject::new(code::INCOMPATIBLE_VERSION, "incompatible CNI versions").details(details)
        })?;
        let wrong = |message: String| ErrorObject::new(code::BAD_CONFIGURATION, message).of(version);
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, plugin_type) = (text("name"), text("type"));
        check_network_name(&name).map_err(&wrong)?;
        check_type(&plugin_type).map_err(&wrong)?;
        let member = |key: &str| config.get(key).filter(|value| !value.is_null()).cloned();
        let previous = member("prevResult").map(|value| AttachResult::from_json(value, version)).transpose();
        let previous = previous.map_err(|error| wrong(format!("prevResult: {error}")))?;
        Ok(Self {
            runtime: typed(member("runtimeConfig")).map_err(|error| wrong(format!("runtimeConfig: {error}")))?,
            valid_attachments: typed(member(VALID_ATTACHMENTS).or_else(|| member(OLD_VALID_ATTACHMENTS)))
                .map_err(|error| wrong(format!("{VALID_ATTACHMENTS}: {error}")))?,
            version,
            name,
            plugin_type,
            previous,
            config,
        })
    }
}

fn typed<T: serde::de::DeserializeOwned + Default>(value: Option<Value>) -> Result<T, serde_json::Error> {
    value.map_or_else(|| Ok(T::default()), serde_json::from_value)
}
