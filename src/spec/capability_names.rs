//! The capabilities by number, with their names.

/// Every capability that has a name, in the kernel's order: the place in the list is the number (capabilities(7)).
pub(super) const NAMED: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Finds a capability's number by its name, with or without `CAP_`, in any case.
pub(super) fn number(name: &str) -> Option<u32> {
    let bare = bare(name);
    NAMED.iter().position(|known| *known == bare).and_then(|at| u32::try_from(at).ok())
}

/// Finds the name most like one that nobody knows.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let bare = bare(name);
    NAMED
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, &bare), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .map(|(_, known)| known)
}

/// Returns a name in the form of [`NAMED`].
pub(super) fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest() {
        assert_eq!(nearest("CAP_SYS_ADMN"), Some("SYS_ADMIN"));
        assert_eq!(nearest("net-admin"), Some("NET_ADMIN"));
        assert_eq!(nearest("xyzzy"), None);
    }
}
