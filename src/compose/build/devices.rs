use std::fmt::Display;
use std::str::FromStr;

use super::reader::Reader;
use crate::compose::yaml::Node;
use crate::spec::{DeviceRequest, DeviceRule};

/// Builds `devices`.
pub(super) fn devices(reader: &mut Reader<'_>) -> Vec<DeviceRequest> {
    let text = |node: &Node| {
        let part = |key| node.get(key).and_then(|value| value.value.scalar_text()).filter(|text| !text.is_empty());
        let source = part("source").unwrap_or_default();
        let (target, access) = (part("target"), part("permissions"));
        let target = target.unwrap_or_else(|| source.clone());
        format!("{source}:{target}:{}", access.as_deref().unwrap_or("rwm"))
    };
    read(reader, "devices", text)
}

/// Builds `device_cgroup_rules`.
pub(super) fn rules(reader: &mut Reader<'_>) -> Vec<DeviceRule> {
    read(reader, "device_cgroup_rules", |node| node.value.scalar_text().unwrap_or_default())
}

fn read<T: FromStr>(reader: &mut Reader<'_>, key: &str, text: impl Fn(&Node) -> String) -> Vec<T>
where
    T::Err: Display,
{
    let mut out = Vec::new();
    for (index, node) in reader.items(key).iter().enumerate() {
        match text(node).parse::<T>() {
            Ok(value) => out.push(value),
            Err(error) => reader.fault(node, &format!("{key}[{index}]"), error.to_string(), None),
        }
    }
    out
}
