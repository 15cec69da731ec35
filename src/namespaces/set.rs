use std::fmt;

use serde::{Deserialize, Serialize};

/// Is one kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// Users, groups and what privileges mean (user_namespaces(7)).
    User,
    /// The tree of mounts (mount_namespaces(7)).
    Mount,
    /// Process ids (pid_namespaces(7)).
    Pid,
    /// Interfaces, routes, sockets (network_namespaces(7)).
    Network,
    /// Host name (uts_namespaces(7)).
    Uts,
    /// System V and POSIX message queues (ipc_namespaces(7)).
    Ipc,
    /// What /proc/PID/cgroup shows as `/` (cgroup_namespaces(7)).
    Cgroup,
    /// The clocks since the machine's start (time_namespaces(7)).
    Time,
}

impl Namespace {
    /// All kinds, the user namespace first.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Mount, Self::Pid, Self::Network, Self::Uts, Self::Ipc, Self::Cgroup, Self::Time];

    /// Returns its `CLONE_NEW*` bit.
    pub fn bits(self) -> u64 {
        (match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => libc::CLONE_NEWTIME,
        }) as u64
    }

    /// Returns the name of its `CLONE_NEW*` bit.
    pub fn flag(self) -> &'static str {
        match self {
            Self::User => "CLONE_NEWUSER",
            Self::Mount => "CLONE_NEWNS",
            Self::Pid => "CLONE_NEWPID",
            Self::Network => "CLONE_NEWNET",
            Self::Uts => "CLONE_NEWUTS",
            Self::Ipc => "CLONE_NEWIPC",
            Self::Cgroup => "CLONE_NEWCGROUP",
            Self::Time => "CLONE_NEWTIME",
        }
    }

    /// Returns its name below /proc/PID/ns.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}

/// Is a set of kinds of namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceSet(u64);

impl NamespaceSet {
    /// Returns what is in either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Says whether `kind` is in it.
    pub fn contains(self, kind: Namespace) -> bool {
        self.0 & kind.bits() != 0
    }

    /// Iterates over the kinds in it, the user namespace first.
    pub fn kinds(self) -> impl Iterator<Item = Namespace> {
        Namespace::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// Adds a kind.
    #[must_use]
    pub fn with(self, kind: Namespace) -> Self {
        Self(self.0 | kind.bits())
    }

    /// Takes a kind away.
    #[must_use]
    pub fn without(self, kind: Namespace) -> Self {
        Self(self.0 & !kind.bits())
    }

    /// Returns what is in this set and not in the other.
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the `CLONE_NEW*` bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<Namespace> for NamespaceSet {
    fn from_iter<T: IntoIterator<Item = Namespace>>(kinds: T) -> Self {
        kinds.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Display for NamespaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.kinds().map(Namespace::file_name).collect();
        f.write_str(&names.join(" "))
    }
}
