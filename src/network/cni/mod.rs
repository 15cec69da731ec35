#![doc = include_str!("README.md")]

mod capability;
mod list;
mod object;
mod request;
mod result;
mod version;

#[cfg(test)]
mod tests;

pub use capability::{Bandwidth, PortMap, RuntimeConfig, RuntimeDns};
pub use list::{Additions, ListError, NetworkList, PluginConfig};
pub use object::{ErrorObject, VersionObject, code};
pub use request::{Operation, Parameters, PluginRequest, VALID_ATTACHMENTS, ValidAttachment};
pub use result::{AttachResult, Dns, Interface, IpConfig, ResultError, Route};
pub use version::{SpecVersion, UnknownVersion};
