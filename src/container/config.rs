//! Reading what others wrote: config.json and the file of `exec --process`.

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ContainerError;
use crate::spec::CapabilitySet;

/// Is a configuration that was read.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it says.
    pub spec: Spec,
    /// What of it is left out, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads config.json. Keys that the runtime specification does not have are ignored, as it says; capabilities that nobody
/// knows are worth a warning.
///
/// # Errors
/// [`ContainerError::Parse`] with the path of the key; also where `ociVersion` is not 1.x.
pub fn parse_config(text: &[u8]) -> Result<Config, ContainerError> {
    let mut value = parse("config.json", text)?;
    check_version(&value)?;
    let mut warnings = Vec::new();
    if let Some(process) = value.get_mut("process") {
        normalize_process(process, &mut warnings);
    }
    Ok(Config { spec: typed("config.json", value)?, warnings })
}

/// Reads a process as `exec --process` takes it; the second value is what of it is left out.
///
/// # Errors
/// [`ContainerError::Parse`] with the path of the key.
pub fn parse_process(text: &[u8]) -> Result<(Process, Vec<String>), ContainerError> {
    let mut value = parse("process", text)?;
    let mut warnings = Vec::new();
    normalize_process(&mut value, &mut warnings);
    Ok((typed("process", value)?, warnings))
}

fn parse(what: &'static str, text: &[u8]) -> Result<Value, ContainerError> {
    let error = |reason: String| ContainerError::Parse { what, key: ".".to_owned(), reason };
    let mut value: Value =
        serde_json::from_slice(text).map_err(|source| error(format!("cannot parse it: {source}")))?;
    if !value.is_object() {
        return Err(error("cannot parse it: it is no JSON object, which would have an `ociVersion`".to_owned()));
    }
    drop_nulls(&mut value);
    Ok(value)
}

fn typed<T: DeserializeOwned>(what: &'static str, value: Value) -> Result<T, ContainerError> {
    serde_path_to_error::deserialize(value).map_err(|error| ContainerError::Parse {
        what,
        key: error.path().to_string(),
        reason: error.inner().to_string(),
    })
}

/// Go writes a list that was never made as `null`: it is as good as not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Versions are numbered by semver: 1.x is compatible with every other 1.y.
fn check_version(value: &Value) -> Result<(), ContainerError> {
    let error = |reason: String| ContainerError::Parse { what: "config.json", key: "ociVersion".to_owned(), reason };
    let Some(text) = value.get("ociVersion").and_then(Value::as_str) else {
        return Err(error("it is missing".to_owned()));
    };
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<_> = core.split('.').map(str::parse::<u64>).collect();
    match &parts[..] {
        [Ok(1), Ok(_), Ok(_)] => Ok(()),
        [Ok(_), Ok(_), Ok(_)] => Err(error(format!("`{text}`: this runtime knows the versions 1.x"))),
        _ => Err(error(format!("`{text}` is no version number like 1.2.0"))),
    }
}

/// Brings a process into the form that our types know.
fn normalize_process(process: &mut Value, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else { return };
    process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        drop_unknown_capabilities(sets, warnings);
        drop_uninheritable_capabilities(sets, warnings);
    }
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        // The names of the specification are not those of our types.
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
}

fn drop_unknown_capabilities(sets: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    let mut unknown: Vec<String> = Vec::new();
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = name.as_str().is_none_or(|name| CapabilitySet::all().contains(name));
            if let (false, Some(name)) = (known, name.as_str())
                && !unknown.iter().any(|other| other == name)
            {
                unknown.push(name.to_owned());
            }
            known
        });
    }
    if !unknown.is_empty() {
        // In the words of other runtimes.
        let names = unknown.join(" ");
        warnings.push(format!("process.capabilities: ignoring unknown or unavailable capabilities: [{names}]"));
    }
}

/// capset(2) makes nothing inheritable that is not in the bounding set.
fn drop_uninheritable_capabilities(sets: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    let bounding = sets.get("bounding").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(inheritable) = sets.get_mut("inheritable").and_then(Value::as_array_mut) else { return };
    let left_out: Vec<_> = inheritable.extract_if(.., |name| !bounding.contains(name)).collect();
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().filter_map(Value::as_str).collect();
        let names = names.join(" ");
        warnings.push(format!(
            "process.capabilities: [{names}] cannot become inheritable outside of the bounding set: operation not permitted"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse_config(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn versions_are_one_dot_something() {
        for version in ["1.0.0", "1.2.1", "1.0.2-dev", "1.99.0+x"] {
            assert!(parse_config(format!("{{\"ociVersion\":\"{version}\"}}").as_bytes()).is_ok(), "{version}");
        }
        for version in ["0.1.0", "2.0.0", "1", "1.x.0", "", "1.0"] {
            assert!(error(&format!("{{\"ociVersion\":\"{version}\"}}")).contains("ociVersion"), "{version}");
        }
        assert_eq!(error("{}"), "config.json: ociVersion: it is missing");
    }

    #[test]
    fn errors_name_the_key() {
        let text = r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"pid"},{"type":"moon"}]}}"#;
        assert!(
            error(text).starts_with("config.json: linux.namespaces[1].type: unknown variant `moon`"),
            "{}",
            error(text)
        );
        let text =
            r#"{"ociVersion":"1.0.0","process":{"cwd":"/","rlimits":[{"type":"RLIMIT_SKY","soft":1,"hard":1}]}}"#;
        assert!(error(text).starts_with("config.json: process.rlimits[0].type"), "{}", error(text));
        assert!(error("[]").contains("no JSON object") && error("{").contains("EOF"));
    }

    #[test]
    fn unknown_keys_and_nulls_are_nothing() {
        let text =
            r#"{"ociVersion":"1.0.0","moon":1,"mounts":null,"process":{"cwd":"/","args":["a"],"env":null,"stars":{}}}"#;
        let config = parse_config(text.as_bytes()).unwrap();
        assert!(config.warnings.is_empty() && config.spec.process().is_some());
    }

    #[test]
    fn unknown_capabilities_are_a_warning() {
        let text = r#"{"cwd":"/","capabilities":{"bounding":["CAP_CHOWN","CAP_MOON"],"effective":["CAP_MOON"]}}"#;
        let (process, warnings) = parse_process(text.as_bytes()).unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        assert_eq!(warnings, ["process.capabilities: ignoring unknown or unavailable capabilities: [CAP_MOON]"]);
    }

    #[test]
    fn what_cannot_be_inherited_is_a_warning() {
        let text = r#"{"cwd":"/","capabilities":{"bounding":["CAP_CHOWN"],"inheritable":["CAP_CHOWN","CAP_KILL"]}}"#;
        let (process, warnings) = parse_process(text.as_bytes()).unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().inheritable().as_ref().unwrap().len(), 1);
        assert!(warnings.len() == 1 && warnings[0].contains("[CAP_KILL]"), "{warnings:?}");
        let text = r#"{"cwd":"/","capabilities":{"inheritable":["CAP_KILL"]}}"#;
        assert_eq!(parse_process(text.as_bytes()).unwrap().1.len(), 1);
    }

    #[test]
    fn scheduler_flags_have_the_names_of_the_specification() {
        let text = r#"{"cwd":"/","scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}}"#;
        assert_eq!(
            parse_process(text.as_bytes()).unwrap().0.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(),
            2
        );
    }
}
