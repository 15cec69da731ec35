//! Network configurations: lists of plugins and single ones, SPEC.md section 1.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::request::{OLD_VALID_ATTACHMENTS, VALID_ATTACHMENTS};
use super::result::AttachResult;
use super::version::SpecVersion;

/// The longest configuration that is read, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// The most plugins in a list.
const MOST_PLUGINS: usize = 64;

/// Is a network configuration list; a single configuration is a list of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkList {
    /// The network's name, which plugins see.
    pub name: String,
    /// The versions of the specification it is written for, oldest first.
    pub versions: Vec<SpecVersion>,
    /// Forbids CHECK.
    pub disable_check: bool,
    /// Forbids GC.
    pub disable_gc: bool,
    /// Whether plugins may also come from the directory beside the file that has the network's name.
    pub loads_from_directory: bool,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<PluginConfig>,
}

/// Is one plugin's configuration, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PluginConfig(pub Map<String, Value>);

/// Says what is wrong with a network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

impl NetworkList {
    /// Reads a list (it has `plugins`) or a single configuration (it has `type`).
    ///
    /// # Errors
    /// [`ListError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ListError> {
        if bytes.len() as u64 > LONGEST {
            return Err(wrong(format!("longer than {LONGEST} bytes")));
        }
        let mut object: Map<String, Value> = serde_json::from_slice(bytes)?;
        let name = match object.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(_) => return Err(wrong("`name` is no text")),
            None => return Err(wrong("`name` is missing")),
        };
        check_network_name(&name).map_err(wrong)?;
        let inlined_only = flag(&object, "loadOnlyInlinedPlugins")?;
        let plugins = match object.get_mut("plugins").map(Value::take) {
            Some(Value::Array(plugins)) => {
                plugins.into_iter().map(PluginConfig::from_value).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(wrong("`plugins` is no list")),
            None if object.contains_key("type") => vec![PluginConfig::from_value(Value::Object(object.clone()))?],
            None if inlined_only => return Err(wrong("`loadOnlyInlinedPlugins` is set and there are no `plugins`")),
            None => Vec::new(),
        };
        let is_single = object.contains_key("type");
        let list = Self {
            versions: versions(&object)?,
            disable_check: flag(&object, "disableCheck")?,
            disable_gc: flag(&object, "disableGC")?,
            loads_from_directory: !inlined_only && !is_single,
            name,
            plugins,
        };
        list.check_count()?;
        Ok(list)
    }

    /// Adds plugins that lie in files of their own beside the list.
    ///
    /// # Errors
    /// Too many plugins.
    pub fn extend(&mut self, plugins: Vec<PluginConfig>) -> Result<(), ListError> {
        self.plugins.extend(plugins);
        self.check_count()
    }

    /// Returns the capabilities that any of the plugins declares.
    pub fn capabilities(&self) -> BTreeSet<&str> {
        self.plugins.iter().flat_map(PluginConfig::capabilities).collect()
    }

    fn check_count(&self) -> Result<(), ListError> {
        match self.plugins.len() {
            0..=MOST_PLUGINS => Ok(()),
            count => Err(wrong(format!("{count} plugins, and at most {MOST_PLUGINS} are run"))),
        }
    }
}

impl PluginConfig {
    /// Takes a JSON value for a plugin's configuration.
    ///
    /// # Errors
    /// It is no object, or has no sound `type`.
    pub fn from_value(value: Value) -> Result<Self, ListError> {
        let Value::Object(object) = value else { return Err(wrong("a plugin's configuration is no object")) };
        let Some(plugin_type) = object.get("type").and_then(Value::as_str) else {
            return Err(wrong("a plugin's `type` is missing"));
        };
        check_type(plugin_type).map_err(wrong)?;
        if let Some(ipam) = object.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str)
            && !ipam.is_empty()
        {
            check_type(ipam).map_err(|reason| wrong(format!("ipam: {reason}")))?;
        }
        Ok(Self(object))
    }

    /// Returns the `type`: the name of the plugin's file.
    pub fn plugin_type(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the capabilities it declares.
    pub fn capabilities(&self) -> BTreeSet<&str> {
        let declared = self.0.get("capabilities").and_then(Value::as_object);
        let declared = declared.into_iter().flatten().filter(|(_, value)| value.as_bool() == Some(true));
        declared.map(|(name, _)| name.as_str()).collect()
    }

    /// Makes what the plugin reads: its keys unchanged, the protocol's own replaced (SPEC.md section 3, "Deriving request
    /// configuration").
    pub fn request(&self, version: SpecVersion, network: &str, additions: Additions<'_>) -> Value {
        let is_protocol = |key: &str| {
            matches!(key, "capabilities" | "runtimeConfig" | "prevResult" | "cniVersions")
                || key.starts_with("cni.dev/")
        };
        let mut request: Map<String, Value> = self
            .0
            .iter()
            .filter(|(key, _)| !is_protocol(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        request.insert("cniVersion".to_owned(), json!(version));
        request.insert("name".to_owned(), json!(network));
        if !additions.runtime.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(additions.runtime));
        }
        if let Some(previous) = additions.previous {
            request.insert("prevResult".to_owned(), previous.to_json(version));
        }
        if let Some(valid) = additions.valid_attachments {
            request.insert(OLD_VALID_ATTACHMENTS.to_owned(), valid.clone());
            request.insert(VALID_ATTACHMENTS.to_owned(), valid);
        }
        Value::Object(request)
    }
}

/// Is what a runtime adds to a plugin's configuration for one invocation.
#[derive(Debug, Default)]
pub struct Additions<'a> {
    /// Members of `runtimeConfig` that this plugin declares.
    pub runtime: Map<String, Value>,
    /// `prevResult`.
    pub previous: Option<&'a AttachResult>,
    /// What GC is told.
    pub valid_attachments: Option<Value>,
}

/// Refuses a network's name that is none: a letter or digit, then letters, digits, `_`, `.` and `-`.
pub(super) fn check_network_name(name: &str) -> Result<(), String> {
    let sound = name.len() <= 200
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if sound {
        return Ok(());
    }
    let shown: String = name.escape_debug().take(80).collect();
    Err(format!("the name `{shown}` is not a letter or digit followed by up to 199 letters, digits, `_`, `.` and `-`"))
}

/// Refuses a type that is not simply the name of a file: it is joined to directories and run.
pub(super) fn check_type(plugin_type: &str) -> Result<(), String> {
    let sound = !plugin_type.is_empty()
        && plugin_type.len() <= 255
        && !matches!(plugin_type, "." | "..")
        && plugin_type.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\' | ':'));
    if sound && !plugin_type.contains("..") {
        return Ok(());
    }
    let shown: String = plugin_type.escape_debug().take(80).collect();
    Err(format!("the type `{shown}` is not the name of a file"))
}

/// Reads `cniVersion` and `cniVersions`. Of several those that we do not know are left out.
fn versions(object: &Map<String, Value>) -> Result<Vec<SpecVersion>, ListError> {
    let own = match object.get("cniVersion") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(wrong("`cniVersion` is no text")),
    };
    let more = match object.get("cniVersions") {
        None => Vec::new(),
        Some(Value::Array(all)) => {
            let texts: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| wrong("`cniVersions` has something that is no text"))?
        }
        Some(_) => return Err(wrong("`cniVersions` is no list")),
    };
    let written: Vec<&str> = own.into_iter().chain(more).collect();
    if written.is_empty() {
        return Ok(vec![SpecVersion::V0_1_0]);
    }
    let mut known: Vec<SpecVersion> = written.iter().filter_map(|text| text.parse().ok()).collect();
    known.sort_unstable();
    known.dedup();
    match written.first() {
        Some(first) if known.is_empty() => {
            Err(wrong(super::UnknownVersion(first.escape_debug().take(80).collect()).to_string()))
        }
        _ => Ok(known),
    }
}

/// Reads a switch; some write it as text.
fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, ListError> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(wrong(format!("`{key}` is neither true nor false"))),
    }
}

fn wrong(reason: impl Into<String>) -> ListError {
    ListError::Value(reason.into())
}
