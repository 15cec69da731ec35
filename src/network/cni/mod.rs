#![doc = include_str!("README.md")]

mod cache;
mod capability;
mod door;
mod driver;
mod error;
mod exec;
mod holding;
mod list;
mod object;
mod request;
mod result;
mod runtime;
mod search;
mod settings;
mod stand_in;
mod version;

#[cfg(test)]
mod tests;

pub use cache::CachedAttachment;
pub use capability::{Bandwidth, PortMap, RuntimeConfig, RuntimeDns};
pub use driver::CniDriver;
pub use error::CniError;
pub use list::{Additions, ListError, NetworkList, PluginConfig};
pub use object::{ErrorObject, VersionObject, code};
pub use request::{Operation, Parameters, PluginRequest, VALID_ATTACHMENTS, ValidAttachment};
pub use result::{AttachResult, Dns, Interface, IpConfig, ResultError, Route};
pub use runtime::{Note, Runtime, TIME_LIMIT, Target};
pub use search::{CONFIGURATIONS, PLUGINS, configurations, find_list, load_list, split_path};
pub use settings::{OPTION_CAPABILITY, OPTION_LIST, OPTION_PATH, OPTION_TIMEOUT};
pub use version::{SpecVersion, UnknownVersion};
