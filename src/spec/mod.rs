#![doc = include_str!("README.md")]

mod bandwidth;
mod capability_names;
mod capability_set;
mod cpu_list;
mod device;
mod exit;
mod ids;
mod mac_address;
mod names;
mod net_device;
mod policy;
mod request;
mod signal;
mod stopwatch;
mod units;

pub use bandwidth::{Bandwidth, BitRate, RateLimit};
pub use capability_set::CapabilitySet;
pub use cpu_list::CpuList;
pub use device::{DeviceAccess, DeviceKind, DeviceRequest, DeviceRule};
pub use exit::ExitStatus;
pub use ids::{ContainerId, random_hex};
pub use mac_address::MacAddress;
pub use names::{InterfaceName, ObjectName, is_host_name};
pub use net_device::{NetDeviceMove, NewDeviceName};
pub use policy::{Healthcheck, RestartPolicy};
pub use request::{
    CapabilityBase, CapabilityRequest, ContainerRequest, CpuWeight, DnsRequest, HostAddress, IdMap, IdMaps,
    KernelFiles, MountKind, MountRequest, NamespaceRequest, NamespaceSource, ResourceLimits, SeccompRequest, Ulimit,
};
pub use signal::SignalNumber;
pub use stopwatch::{Mark, Moment, RunningStep, StepState, StepTime, Stopwatch};
pub use units::{ByteSize, parse_duration};

/// Says why a text is not a value of one of these types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a container id (64 hexadecimal digits)")]
    ContainerId(String),
    /// Not a byte value.
    #[error("`{0}` is not a size (a number below 16 EiB with an optional unit b, k, m, g, t or p: `512m`)")]
    ByteSize(String),
    /// Not a list of CPUs.
    #[error("`{0}` is not a list of numbers (`0-3`, `1` or `0,2`)")]
    CpuList(String),
    /// Not a rate.
    #[error("`{0}` is not a rate (from 8kbit to 1000gbit, with one of the units bit, kbit, mbit, gbit: `10mbit`)")]
    BitRate(String),
    /// Not a duration.
    #[error("`{0}` is not a duration (numbers with the units us, ms, s, m or h: `1m30s`)")]
    Duration(String),
    /// Not a signal.
    #[error("`{0}` is not a signal (a name such as `SIGTERM` or `RTMIN+3`, or a number from 1 to 64)")]
    Signal(String),
    /// Not an interface name.
    #[error("`{0}` is not an interface name (1 to 15 bytes without `/`, `:`, `%` and white space)")]
    InterfaceName(String),
    /// Neither the name of an interface nor a template.
    #[error(
        "`{0}` is neither an interface name (1 to 15 bytes without `/`, `:`, `%` and white space) nor a template with one `%d`"
    )]
    DeviceTemplate(String),
    /// Not an Ethernet address.
    #[error("`{0}` is not a hardware address (six bytes such as `02:42:ac:11:00:02`)")]
    MacAddress(String),
    /// Not a name of an object.
    #[error("`{0}` is not a name (a letter or digit, then letters, digits, `_`, `.` and `-`)")]
    ObjectName(String),
    /// Not letters of an access to devices.
    #[error("`{0}` is not an access to a device (one or more of the letters r, w and m, each once)")]
    DeviceAccess(String),
    /// Not a device of the host.
    #[error("`{0}` is not a device (`/dev/HOST`, `/dev/HOST:/dev/INSIDE`, and `:rwm` behind either)")]
    Device(String),
    /// Not a rule about devices.
    #[error(
        "`{0}` is not a rule about devices (such as `c 10:200 rwm`: a, b or c, numbers or `*`, letters of r, w and m)"
    )]
    DeviceRule(String),
    /// Not a restart policy.
    #[error("`{0}` is not a restart policy (`no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`)")]
    RestartPolicy(String),
    /// No capability has this name.
    #[error("`{name}` is not a capability{}", .nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    Capability {
        /// The name as written.
        name: String,
        /// The capability whose name is most like it.
        nearest: Option<&'static str>,
    },
}
