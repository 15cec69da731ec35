//! Compares what is told with what was seen: in order, with the arguments, and nothing left over of the families that a plan is
//! made of.

use serde_json::Value;

use crate::trace::{Seen, name};

/// A call that an explanation tells of.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The number of its step.
    pub(crate) step: u64,
    pattern: String,
    /// It may be missing.
    pub(crate) conditional: bool,
}

impl Told {
    /// Says whether a call is as told.
    pub(crate) fn fits(&self, text: &str) -> bool {
        fits(&self.pattern, text)
    }
}

/// Collects what is told of one process.
pub(crate) fn told(explanation: &Value, process: &str) -> Vec<Told> {
    let mut all = Vec::new();
    for step in explanation["steps"].as_array().unwrap().iter().filter(|step| step["process"] == process) {
        for call in step["calls"].as_array().unwrap() {
            all.push(Told {
                step: step["number"].as_u64().unwrap(),
                pattern: call["call"].as_str().unwrap().to_owned(),
                conditional: !call["when"].is_null(),
            });
        }
    }
    all
}

/// The calls that a plan is made of: none may be seen that was not told of.
pub(crate) fn is_covered(seen: &Seen, of_container: bool) -> bool {
    let text = &seen.text;
    if seen.failed || text.contains("CLONE_THREAD") {
        return false;
    }
    let has = |part: &str| text.contains(part);
    match name(text) {
        "clone" | "clone3" | "fork" | "vfork" | "unshare" | "setns" | "open_tree" | "move_mount" | "mount_setattr"
        | "fsopen" | "fsconfig" | "fsmount" | "mount" | "umount" | "umount2" | "pivot_root" | "chroot"
        | "sethostname" | "setdomainname" | "capset" | "setsid" | "setuid" | "setgid" | "setresuid" | "setresgid"
        | "setgroups" | "keyctl" | "personality" | "sched_setattr" | "sched_setscheduler" | "ioprio_set"
        | "set_mempolicy" | "mknod" | "mknodat" | "symlink" | "symlinkat" | "mkdirat" | "execve" | "execveat" => true,
        "sched_setaffinity" | "umask" | "chdir" | "fchdir" | "fchownat" | "fchown" | "chown" => of_container,
        "prctl" => {
            has("PR_SET_")
                || has("PR_CAPBSET_DROP")
                || has("AMBIENT_RAISE")
                || has("AMBIENT_CLEAR")
                || has("AMBIENT_LOWER")
        }
        "seccomp" => has("SECCOMP_SET_MODE_"),
        "prlimit64" => !has(", NULL, "),
        "bpf" => has("BPF_PROG_ATTACH"),
        "mkdir" | "rmdir" => has("\"/sys/fs/cgroup") && name(text) == "mkdir",
        "write" => has("</proc/") || has("</sys/") || has("<cgroup"),
        _ => false,
    }
}

/// Says whether a call is as told: `…` is anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// What was seen of one process beside what is told of it.
pub(crate) struct Comparison<'a> {
    seen: &'a [Seen],
    told: Vec<Told>,
    covered: Vec<bool>,
    /// Whether a seen call is as a told one, both by number.
    fits: Vec<Vec<bool>>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(seen: &'a [Seen], told: Vec<Told>, of_container: bool) -> Self {
        let covered = seen.iter().map(|seen| is_covered(seen, of_container)).collect();
        // A call that failed has changed nothing; those that only look are told of whatever comes of them.
        let counts = |seen: &Seen| !seen.failed || matches!(name(&seen.text), "openat2" | "openat");
        let row = |seen: &Seen| told.iter().map(|told| counts(seen) && told.fits(&seen.text)).collect();
        let fits = seen.iter().map(row).collect();
        Self { seen, told, covered, fits }
    }

    /// The numbers of the steps that told of a call which had to be told of.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn steps(&self) -> Result<Vec<u64>, String> {
        self.align(None)
    }

    /// Says whether the two differ where one step is left out of what is told.
    pub(crate) fn misses(&self, step: u64) -> bool {
        self.align(Some(step)).is_err()
    }

    fn align(&self, without: Option<u64>) -> Result<Vec<u64>, String> {
        let told: Vec<usize> = (0..self.told.len()).filter(|at| Some(self.told[*at].step) != without).collect();
        let (rows, columns) = (self.seen.len(), told.len());
        // good[i][j]: what is seen from i on can be what is told from j on.
        let mut good = vec![vec![false; columns + 1]; rows + 1];
        for i in (0..=rows).rev() {
            for j in (0..=columns).rev() {
                good[i][j] = (i == rows && j == columns)
                    || (i < rows && j < columns && self.fits[i][told[j]] && good[i + 1][j + 1])
                    || (i < rows && !self.covered[i] && good[i + 1][j])
                    || (j < columns && self.told[told[j]].conditional && good[i][j + 1]);
            }
        }
        if !good[0][0] {
            return Err(self.difference(&told));
        }
        let (mut i, mut j, mut steps) = (0, 0, Vec::new());
        while i < rows || j < columns {
            // As late as it can be: a step whose path is missing takes no call from the next.
            if j < columns && self.told[told[j]].conditional && good[i][j + 1] {
                j += 1;
            } else if i < rows && !self.covered[i] && good[i + 1][j] {
                i += 1;
            } else {
                if self.covered[i] {
                    steps.push(self.told[told[j]].step);
                }
                (i, j) = (i + 1, j + 1);
            }
        }
        steps.dedup();
        Ok(steps)
    }

    /// Goes as far as the two agree.
    fn difference(&self, told: &[usize]) -> String {
        let (rows, columns) = (self.seen.len(), told.len());
        let mut reached = vec![vec![false; columns + 1]; rows + 1];
        reached[0][0] = true;
        let mut furthest = (0, 0);
        for i in 0..=rows {
            for j in 0..=columns {
                if !reached[i][j] {
                    continue;
                }
                furthest = furthest.max((i, j));
                if i < rows && j < columns && self.fits[i][told[j]] {
                    reached[i + 1][j + 1] = true;
                }
                if i < rows && !self.covered[i] {
                    reached[i + 1][j] = true;
                }
                if j < columns && self.told[told[j]].conditional {
                    reached[i][j + 1] = true;
                }
            }
        }
        let (i, _) = furthest;
        let open: Vec<_> = (0..=columns).filter(|j| reached[i][*j]).collect();
        let next = |j: &usize| told.get(*j).map(|at| format!("{:?}", self.told[*at]));
        let seen = self.seen.get(i).map_or("the end", |seen| &seen.text);
        let next: Vec<_> = open.iter().filter_map(next).collect();
        format!("seen: {seen}\ntold of at this place, one of:\n  {}", next.join("\n  "))
    }
}
