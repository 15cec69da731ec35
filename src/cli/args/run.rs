use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::spec::{ByteSize, SignalNumber, parse_duration};

/// `run`: a command in a new container. The ancestor's form fills the same, see [`crate::cli::legacy`].
#[derive(Debug, Default, PartialEq, Args)]
#[command(disable_help_flag = true)] // `-h` is `--hostname`, as Docker has it
#[command(after_help = "Example: mydocker run --rm -it --memory 64m root_fs sh")]
pub struct RunArgs {
    /// What is asked.
    #[command(flatten)]
    pub options: RunOptions,
    /// The image, the program and its arguments; with --rootfs there is no image.
    // One list, so that what follows the image is never taken for an option of ours.
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 0.., trailing_var_arg = true)]
    pub words: Vec<String>,
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Set by the ancestor's form alone.
    #[arg(skip)]
    pub ancestor: Option<AncestorLimits>,
}

/// What the ancestor's form (`-aUc -M -C -P -I`) says; without `-c` nothing is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AncestorLimits {
    /// `-U`: a user namespace with the map `0 → 100000 × 65536`.
    pub user_namespace: bool,
    /// `-c`: the four limits below hold.
    pub limited: bool,
    /// `-M`: bytes of memory.
    pub memory: u64,
    /// `-C`: percent of the default CPU weight.
    pub cpu_percent: u8,
    /// `-P`: the greatest number of processes.
    pub pids: i64,
    /// `-I`: relative block I/O weight.
    pub io_weight: u16,
}

/// The options of `run`, by Docker's names.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct RunOptions {
    /// Keep stdin open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal of its own
    #[arg(short, long)]
    pub tty: bool,
    /// Leave the container running and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// Remove the container when it has ended (in the foreground it always is)
    #[arg(long)]
    pub rm: bool,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Host name [default: the container's short id]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Set a variable; without `=`: as it is here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Program before the command; an empty one clears the image's
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// `user`, `uid`, `user:group` or `uid:gid`
    #[arg(short, long, value_name = "USER", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Supplementary group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Mount a directory or a volume: `SOURCE:TARGET[:ro]`
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount by keys: type=bind|volume|tmpfs,source=…,target=…
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Mount a file system in memory: `TARGET[:size=64m,mode=1777]`
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Make the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub shm_size: Option<ByteSize>,
    /// `none`, `host`, `bridge`, `container:NAME`, or a network, also more than one: `NAME` or `name=NAME[,alias=…,ip=…,mac-address=…,gw-priority=…]`
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Name under which others on the first network find it
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Find another container of the first network under a name of its own: `CONTAINER[:NAME]`
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub link: Vec<String>,
    /// Ethernet address in the first network
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Publish a port: `[ADDRESS:][HOST-PORT:]PORT[/udp]`
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Line of /etc/hosts: NAME:ADDRESS, or NAME:host-gateway for the host
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Name server for names that are not ours, asked from within the container
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Domain in which names are looked for; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of the resolver: ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Address in the first network
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// A fixed IPv6 address
    #[arg(long = "ip6", value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Capability to add, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Capability to take away, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing of /proc and /sys masked or read-only
    #[arg(long)]
    pub privileged: bool,
    /// `no-new-privileges`, `seccomp=default|ancestor|unconfined|FILE`, `systempaths=unconfined`
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// As --security-opt seccomp=…
    #[arg(long, value_name = "PROFILE")]
    pub seccomp: Option<String>,
    /// rlimit: `NAME=SOFT[:HARD]`
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Namespaced sysctl
    #[arg(long, value_name = "KEY=VALUE")]
    pub sysctl: Vec<String>,
    /// Most memory
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<ByteSize>,
    /// Memory protected under pressure
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<ByteSize>,
    /// Memory and swap together; -1 is unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Number of CPUs: 0.5
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short, long, value_name = "SHARES", allow_hyphen_values = true, value_parser = clap::value_parser!(u64).range(2..=262_144))]
    pub cpu_shares: Option<u64>,
    /// Microseconds of a period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_period: Option<u64>,
    /// CPUs that may be used: 0-3,5
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory that may be used: 0-1
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Relative block I/O weight
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true, value_parser = clap::value_parser!(u16).range(10..=1000))]
    pub blkio_weight: Option<u16>,
    /// Added to the OOM killer's score
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,
    /// Put an init in place of PID 1 that forwards signals and reaps
    #[arg(long)]
    pub init: bool,
    /// Give it a device of the host, or those below a directory: `HOST[:INSIDE][:rwm]`
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Let it use devices, also those that it makes nodes of itself: `c 10:200 rwm`
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// PID namespace: `private`, `host` or `container:NAME`
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace: `private`, `host` or `container:NAME`
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// UTS namespace: `private` or `host`
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Cgroup namespace: `private` or `host`
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// User namespace: `host`, the default
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// User namespace map for users: `INSIDE:OUTSIDE:COUNT[,…]`
    #[arg(long, value_name = "MAP")]
    pub uid_map: Vec<String>,
    /// User namespace map for groups: `INSIDE:OUTSIDE:COUNT[,…]`
    #[arg(long, value_name = "MAP")]
    pub gid_map: Vec<String>,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Write the container's id to a file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Annotation, as a label
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// What follows when it ends, with -d: `no`, `always`, `on-failure[:N]` or `unless-stopped`
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<crate::spec::RestartPolicy>,
    /// Signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<SignalNumber>,
    /// Seconds to wait before the command is killed
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Where its output goes, with -d: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the log: max-size=10m, max-file=3
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
    /// Probe its health with this command of a shell, with -d
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// From the end of a probe to the next [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_interval: Option<Duration>,
    /// After which a probe has failed [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_timeout: Option<Duration>,
    /// While it lasts, failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_start_period: Option<Duration>,
    /// From the end of a probe to the next while that lasts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// Say nothing of fetching the image
    #[arg(short, long, hide = true)]
    pub quiet: bool,
    /// No probe of its health
    #[arg(long, conflicts_with = "health_cmd")]
    pub no_healthcheck: bool,
    /// A port that others on its networks may use, as they may every one
    #[arg(long, value_name = "PORT", hide = true)]
    pub expose: Vec<String>,
    /// Whether to fetch the image
    #[arg(long, value_enum, value_name = "WHEN", hide = true)]
    pub pull: Option<PullPolicy>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Whether to fetch an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is the word that is written")]
pub enum PullPolicy {
    Always,
    Missing,
    Never,
}
