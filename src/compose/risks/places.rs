//! Paths of the host: what somebody can do who can write there, and who can only read.

use std::path::Path;

use super::host::Host;
use super::risk::RiskLevel::{self, High, Low, Medium};

/// Is a level and what can be done, to go after the service's name.
pub(super) type Judged = Option<(RiskLevel, &'static str)>;

/// Is one line of the table.
struct Place {
    path: &'static str,
    /// It holds for what lies below, too.
    below: bool,
    writable: Judged,
    read_only: Judged,
}

const fn only(path: &'static str, writable: Judged, read_only: Judged) -> Place {
    Place { path, below: false, writable, read_only }
}

const fn tree(path: &'static str, writable: Judged, read_only: Judged) -> Place {
    Place { path, below: true, writable, read_only }
}

const SOCKETS: Judged =
    Some((High, "can talk to the sockets there, of engines and of the service manager: read-only does not hinder it"));
const ENGINE: Judged =
    Some((High, "can make the engine that listens there start a privileged container: read-only does not hinder it"));
const PROGRAMS: Judged = Some((High, "can replace programs and libraries that root of this host runs"));
const CONFIGURES: Judged = Some((High, "can change what this host runs: users, services, cron jobs, libraries"));
const KEYS: Judged = Some((Medium, "reads password hashes, keys or tokens of this host"));
const STORE: Judged = Some((High, "can change what other containers or the package manager keep, and what root runs"));
const READS_STORE: Judged = Some((Medium, "reads the files of other containers or of the host's services"));
const HOME: Judged = Some((High, "can add keys and start-up files of a user, root among them perhaps"));
const PRIVATE: Judged = Some((Medium, "reads the private files of a user, keys among them"));
const ALL_READ: Judged =
    Some((High, "reads every file of this host, keys and password hashes too, and can talk to every socket in it"));
const KERNEL: Judged =
    Some((High, "can make the kernel run a program as root of this host (core_pattern, uevent_helper), or stop it"));
const SEES: Judged = Some((Low, "sees processes, devices and settings of this host"));

/// The table; the longest path that fits counts.
const PLACES: &[Place] = &[
    only("/", Some((High, "can change every file of this host, and so become root on it")), ALL_READ),
    only("/etc", CONFIGURES, KEYS),
    tree("/etc/", CONFIGURES, Some((Low, "reads how this host is configured"))),
    tree("/etc/shadow", CONFIGURES, KEYS),
    tree("/etc/gshadow", CONFIGURES, KEYS),
    tree("/etc/ssh", CONFIGURES, KEYS),
    tree("/etc/kubernetes", CONFIGURES, KEYS),
    tree("/etc/rancher", CONFIGURES, KEYS),
    tree("/etc/ssl/private", CONFIGURES, KEYS),
    tree("/etc/ssl", CONFIGURES, None),
    tree("/etc/pki", CONFIGURES, None),
    tree("/etc/ca-certificates", CONFIGURES, None),
    tree("/etc/localtime", Some((Medium, "can change the time zone of this host")), None),
    tree("/etc/timezone", Some((Medium, "can change the time zone of this host")), None),
    tree("/etc/os-release", CONFIGURES, None),
    tree("/etc/resolv.conf", CONFIGURES, None),
    tree("/etc/hosts", CONFIGURES, None),
    tree("/etc/hostname", CONFIGURES, None),
    only("/proc", KERNEL, Some((Medium, "sees every process of this host, with its arguments"))),
    tree("/proc/", KERNEL, SEES),
    tree("/sys", KERNEL, SEES),
    tree(
        "/sys/fs/cgroup",
        Some((High, "can lift every limit and, on cgroup v1, run a program as root of this host (release_agent)")),
        SEES,
    ),
    only(
        "/dev",
        Some((High, "has the nodes of every disk and of the memory before it; only the device cgroup stands between")),
        Some((
            Medium,
            "has the nodes of every disk and of the memory before it; only the device cgroup stands between",
        )),
    ),
    tree(
        "/dev/",
        Some((Medium, "has a device's node that the device cgroup may let it open")),
        Some((Medium, "has a device's node that the device cgroup may let it open")),
    ),
    tree("/dev/shm", Some((Medium, "changes the shared memory of the host's programs")), SEES),
    tree("/dev/log", Some((Low, "writes to the log of this host")), Some((Low, "writes to the log of this host"))),
    tree("/dev/null", None, None),
    tree("/dev/zero", None, None),
    tree("/dev/full", None, None),
    tree("/dev/random", None, None),
    tree("/dev/urandom", None, None),
    tree("/boot", Some((High, "can change the kernel that this host boots next")), SEES),
    only("/root", HOME, PRIVATE),
    only("/home", HOME, PRIVATE),
    only("/var", STORE, READS_STORE),
    only("/var/lib", STORE, READS_STORE),
    tree("/var/lib/docker", STORE, READS_STORE),
    tree("/var/lib/containerd", STORE, READS_STORE),
    tree("/var/lib/containers", STORE, READS_STORE),
    tree("/var/lib/kubelet", STORE, READS_STORE),
    tree("/var/lib/etcd", STORE, READS_STORE),
    tree("/var/lib/mydocker", STORE, READS_STORE),
    tree("/var/lib/systemd", STORE, None),
    tree("/var/lib/dpkg", STORE, None),
    tree("/var/lib/rpm", STORE, None),
    tree("/var/spool", CONFIGURES, SEES),
    tree("/var/log", Some((Medium, "can change the logs of this host")), Some((Low, "reads the logs of this host"))),
    only("/run", SOCKETS, SOCKETS),
    tree(
        "/run/",
        Some((Low, "shares run-time files of a host's service")),
        Some((Low, "shares run-time files of a host's service")),
    ),
    tree(
        "/run/user",
        Some((Medium, "can talk to the session of a user")),
        Some((Medium, "can talk to the session of a user")),
    ),
    tree("/run/dbus", SOCKETS, SOCKETS),
    tree("/run/systemd", SOCKETS, SOCKETS),
    tree("/run/docker", ENGINE, ENGINE),
    tree("/run/containerd", ENGINE, ENGINE),
    tree("/run/podman", ENGINE, ENGINE),
    tree("/run/crio", ENGINE, ENGINE),
    tree("/run/mydocker", ENGINE, ENGINE),
    tree("/usr", PROGRAMS, None),
    tree("/usr/share", Some((Medium, "can change data of the host's programs")), None),
    tree("/bin", PROGRAMS, None),
    tree("/sbin", PROGRAMS, None),
    tree("/lib", PROGRAMS, None),
    tree("/lib32", PROGRAMS, None),
    tree("/lib64", PROGRAMS, None),
    only(
        "/tmp",
        Some((Low, "shares temporary files with every program of this host")),
        Some((Low, "reads temporary files of every program of this host")),
    ),
    tree(
        "/tmp/.X11-unix",
        Some((Medium, "can talk to the display server: it sees every key and every window")),
        Some((Medium, "can talk to the display server: it sees every key and every window")),
    ),
];

/// Sockets of engines, wherever they lie.
const ENGINES: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "podman.sock",
    "crio.sock",
    "cri-dockerd.sock",
    "dockershim.sock",
    "buildkitd.sock",
    "k3s.sock",
];

/// What lies in a home and opens other doors.
const IN_A_HOME: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".config",
    ".local",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".bash_history",
];

/// Says what can be done with a path of the host, links followed.
pub(super) fn judge(path: &Path, read_only: bool, host: &Host<'_>) -> Judged {
    let path = match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    };
    // A path that ends in `/` is not the same text; joining nothing adds one.
    let path: &Path = &path.components().collect::<std::path::PathBuf>();
    let found =
        [socket(path, host), ours(path, read_only, host), in_home(path, read_only, host), in_table(path, read_only)];
    found.into_iter().flatten().min_by_key(|(level, _)| *level)
}

/// Says whether a path is the socket of an engine, or a directory that has them.
pub(super) fn is_socket(path: &Path, host: &Host<'_>) -> bool {
    path.extension().is_some_and(|extension| extension == "sock")
        || path.file_name().and_then(|name| name.to_str()).is_some_and(|name| ENGINES.contains(&name))
        || (host.is_socket)(path)
}

fn socket(path: &Path, host: &Host<'_>) -> Judged {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if ENGINES.contains(&name) {
        return ENGINE;
    }
    is_socket(path, host)
        .then_some((Medium, "can talk to the host's program that listens there: read-only does not hinder it"))
}

/// Our own directories: whoever has the control socket of a project can have any container made.
fn ours(path: &Path, read_only: bool, host: &Host<'_>) -> Judged {
    let meets = |dir: &Path| path.starts_with(dir) || (dir.starts_with(path) && path.parent().is_some());
    match () {
        () if meets(host.run_dir) => ENGINE,
        () if meets(host.data_dir) && read_only => READS_STORE,
        () if meets(host.data_dir) => STORE,
        () => None,
    }
}

fn in_home(path: &Path, read_only: bool, host: &Host<'_>) -> Judged {
    let judged = if read_only { PRIVATE } else { HOME };
    let of_a_user = path.strip_prefix("/home").ok().filter(|rest| !rest.as_os_str().is_empty()).and_then(|rest| {
        let user = rest.components().next()?;
        Some(Path::new("/home").join(user))
    });
    let homes = [of_a_user.as_deref(), Some(Path::new("/root")), host.home.filter(|home| home.parent().is_some())];
    homes.into_iter().flatten().find_map(|home| {
        let rest = path.strip_prefix(home).ok()?;
        let first = rest.components().next().map(|part| part.as_os_str());
        let tells = first.is_none_or(|name| IN_A_HOME.iter().any(|known| name == *known));
        if tells { judged } else { None }
    })
}

fn in_table(path: &Path, read_only: bool) -> Judged {
    let fits = |place: &&Place| {
        let own = Path::new(place.path);
        // `/etc/` is what lies below /etc, and not /etc itself.
        let below_only = place.path.len() > 1 && place.path.ends_with('/');
        path == own && !below_only || place.below && path != own && path.starts_with(own)
    };
    let place = PLACES.iter().filter(fits).max_by_key(|place| place.path.trim_end_matches('/').len())?;
    if read_only { place.read_only } else { place.writable }
}
