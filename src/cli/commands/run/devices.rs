//! Options of `run` about devices of the host.

use crate::cli::args::UsageError;
use crate::spec::{DeviceRequest, DeviceRule, SpecError};

use super::request::wrong;

/// Reads `--device`.
pub(super) fn devices(list: &[String]) -> Result<Vec<DeviceRequest>, UsageError> {
    list.iter().map(|text| text.parse().map_err(|error: SpecError| wrong(format!("`--device`: {error}")))).collect()
}

/// Reads `--device-cgroup-rule`.
pub(super) fn rules(list: &[String]) -> Result<Vec<DeviceRule>, UsageError> {
    let read =
        |text: &String| text.parse().map_err(|error: SpecError| wrong(format!("`--device-cgroup-rule`: {error}")));
    list.iter().map(read).collect()
}
