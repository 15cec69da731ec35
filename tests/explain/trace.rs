//! What strace(1) has seen of a run, process by process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One system call.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The call with its arguments, without its result.
    pub(crate) text: String,
    /// Whether it failed.
    pub(crate) failed: bool,
    /// The pid that it returned, where it made a process.
    made: Option<i32>,
}

/// All that was seen.
pub(crate) struct Trace {
    processes: BTreeMap<i32, Vec<Seen>>,
    parent: i32,
}

impl Trace {
    /// Reads the files of `strace -ff -y -o PREFIX`; the parent is the process that begins with an execve(2) of `program`.
    pub(crate) fn read(directory: &Path, program: &str) -> Self {
        let mut processes = BTreeMap::new();
        let mut parent = None;
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.rsplit_once('.')?.1.parse().ok()) else {
                continue;
            };
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            if text.starts_with(&format!("execve(\"{program}\"")) {
                parent = Some(pid);
            }
            expect_old_calls(&text);
            processes.insert(pid, text.lines().filter_map(parse).collect());
        }
        Self { processes, parent: parent.expect("the program was traced") }
    }

    /// The calls of mydocker itself, after its own execve(2).
    pub(crate) fn parent(&self) -> &[Seen] {
        &self.processes[&self.parent][1..]
    }

    /// The calls of what the parent cloned with `flag` among the flags, up to its execve(2).
    pub(crate) fn child(&self) -> &[Seen] {
        let made = |pid: i32| {
            let is_container = |seen: &&Seen| seen.text.starts_with("clone3(") && seen.text.contains("CLONE_NEWNS");
            self.processes[&pid].iter().find(is_container).and_then(|seen| seen.made)
        };
        let between = || self.processes.keys().copied().find_map(made);
        self.until_program(made(self.parent).or_else(between).expect("a container was cloned"))
    }

    /// The calls of the one process in between.
    pub(crate) fn between(&self) -> &[Seen] {
        let container = |seen: &Seen| seen.text.starts_with("clone3(") && seen.text.contains("CLONE_PARENT");
        let found = self.processes.iter().find(|(_, calls)| calls.iter().any(container));
        found.map_or(&[], |(_, calls)| calls)
    }

    /// The calls of the process that became `program` as a child of the built-in init.
    pub(crate) fn program(&self) -> &[Seen] {
        let is_it = |pid: &&i32| {
            **pid != self.parent && self.processes[*pid].first().is_some_and(|seen| !seen.text.starts_with("prctl("))
        };
        let pids: Vec<_> = self.processes.keys().filter(is_it).collect();
        pids.into_iter()
            .map(|pid| self.until_program(*pid))
            .find(|calls| calls.last().is_some_and(|seen| seen.text.starts_with("execve(")))
            .unwrap_or_default()
    }

    /// The calls of all threads and processes but the parent's first thread.
    pub(crate) fn threads(&self) -> impl Iterator<Item = &Seen> {
        self.processes.iter().filter(|(pid, _)| **pid != self.parent).flat_map(|(_, calls)| calls)
    }

    fn until_program(&self, pid: i32) -> &[Seen] {
        let calls = &self.processes[&pid];
        let last = calls.iter().position(|seen| seen.text.starts_with("execve(") && !seen.failed);
        &calls[..last.map_or(calls.len(), |at| at + 1)]
    }
}

/// Calls that came after Linux 5.15, the oldest kernel that there is support for: what is asked of it has to be there.
const NEWER: [&str; 21] = [
    "cachestat",
    "fchmodat2",
    "file_getattr",
    "file_setattr",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "listmount",
    "listxattrat",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "mseal",
    "open_tree_attr",
    "removexattrat",
    "set_mempolicy_home_node",
    "setxattrat",
    "statmount",
];

/// A call that strace does not know is newer than it is.
fn expect_old_calls(trace: &str) {
    for line in trace.lines() {
        let call = name(line);
        assert!(!NEWER.contains(&call) && !call.starts_with("syscall_"), "Linux 5.15 does not have this: {line}");
    }
}

/// `call(arguments)   = result`
fn parse(line: &str) -> Option<Seen> {
    let at = line.rfind(" = ")?;
    let (text, result) = (line[..at].trim_end(), &line[at + 3..]);
    if !text.ends_with(')') {
        return None;
    }
    // What strace adds: the path behind AT_FDCWD, and what it makes of numbers that it has no name for.
    let mut text = text.replace(" /* MS_??? */", "");
    while let Some(at) = text.find("AT_FDCWD<") {
        let end = text[at..].find('>').map(|end| at + end + 1)?;
        text.replace_range(at + "AT_FDCWD".len()..end, "");
    }
    let made = result.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    Some(Seen { text, failed: result.starts_with(['-', '?']), made })
}

/// The name of a call.
pub(crate) fn name(text: &str) -> &str {
    text.split('(').next().unwrap_or_default()
}
