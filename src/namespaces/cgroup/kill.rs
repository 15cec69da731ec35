//! Stopping everything in a cgroup: for a while, or for good.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::files::{is_gone, keyed, read, try_write, write};
use super::{Cgroup, CgroupError, Hierarchies};

/// How long the kernel may take to bring every process to a stop.
const FREEZING: Duration = Duration::from_secs(2);

/// How long to wait between two looks at a file that cannot be polled.
const LOOK: Duration = Duration::from_millis(2);

impl Cgroup {
    /// Sends SIGKILL to every process in it and below it; none that forks meanwhile gets away.
    ///
    /// It does not wait for them to end. A cgroup that is gone has nobody in it.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(v2) = &self.v2 {
            let path = v2.dir.join("cgroup.kill");
            match try_write(&path, "1") {
                Ok(()) => return self.kill_strays(),
                // Since Linux 5.14; a host may also have taken the cgroup away.
                Err(error) if is_gone(&error) => {}
                Err(source) => return Err(CgroupError::Write { path, value: "1".to_owned(), source }),
            }
        }
        self.sweep()
    }

    /// Kills what is in a v1 directory and not in v2's: a process that had not joined everywhere yet.
    fn kill_strays(&self) -> Result<(), CgroupError> {
        if self.v1.is_empty() { Ok(()) } else { self.kill_listed() }
    }

    /// Kills by list. Nobody may fork while the list is read: the cgroup is frozen, or its pids run out.
    fn sweep(&self) -> Result<(), CgroupError> {
        let pids = self.v1_with("pids").map(|dir| dir.join("pids.max"));
        let frozen = self.freeze().is_ok();
        if let Some(file) = pids.as_ref().filter(|_| !frozen) {
            let _ = try_write(file, "0");
        }
        let killed = self.kill_listed();
        // A frozen v1 process dies when it thaws.
        if frozen {
            self.thaw()?;
        }
        killed
    }

    fn kill_listed(&self) -> Result<(), CgroupError> {
        let mut killed: BTreeSet<i32> = BTreeSet::new();
        loop {
            let fresh: Vec<i32> = self.processes()?.into_iter().filter(|pid| !killed.contains(pid)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for number in fresh {
                killed.insert(number);
                // 0 stands for a process of another pid namespace.
                let Some(pid) = Pid::from_raw(number).filter(|_| number > 0) else { continue };
                match kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(errno) => {
                        let path = self.directories().next().unwrap_or(Path::new("/")).to_owned();
                        return Err(CgroupError::Kill { path, pid: number, source: errno.into() });
                    }
                }
            }
        }
    }

    /// Stops every process in it and waits until they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        if let Some(v2) = &self.v2 {
            write(&v2.dir.join("cgroup.freeze"), "1")?;
            return wait_for(&v2.dir, "frozen", 1, "frozen", FREEZING);
        }
        let dir = self.v1_with("freezer").ok_or_else(|| CgroupError::NoFreezer { path: self.path().to_string() })?;
        let file = dir.join("freezer.state");
        let deadline = Instant::now() + FREEZING;
        while Instant::now() < deadline {
            // A process that forked in between makes it stick in FREEZING until it is asked again.
            write(&file, "FROZEN")?;
            if read(&file)?.trim() == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        write(&file, "THAWED")?;
        Err(CgroupError::Slow { path: dir.to_owned(), state: "frozen", patience: FREEZING })
    }

    /// Lets every process in it go on, whichever hierarchy they stand still in. A cgroup that is gone has nobody in it.
    ///
    /// # Errors
    /// [`CgroupError::NoFreezer`]; [`CgroupError::Write`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let freezer = self.v1_with("freezer").map(|dir| (dir.join("freezer.state"), "THAWED"));
        let freezes = self.v2.as_ref().map(|v2| (v2.dir.join("cgroup.freeze"), "0"));
        if freezer.is_none() && freezes.is_none() {
            return Err(CgroupError::NoFreezer { path: self.path().to_string() });
        }
        for (path, value) in freezer.into_iter().chain(freezes) {
            match try_write(&path, value) {
                Err(source) if !is_gone(&source) => {
                    return Err(CgroupError::Write { path, value: value.to_owned(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a process back that somebody has put into another cgroup of version 1's freezer: one that is frozen there does not even
    /// die. What cannot be done has no consequence here: the caller sees whether the process ends.
    pub fn take_back(&self, pid: i32) {
        if let Some(dir) = self.v1_with("freezer") {
            let _ = try_write(&dir.join("cgroup.procs"), &pid.to_string());
        }
    }
}

impl Hierarchies {
    /// Takes processes of a cgroup out of other cgroups of version 1's freezer in which somebody has frozen them: there they do not even
    /// die of SIGKILL. What cannot be done has no consequence here: the caller sees whether they end.
    pub fn release_frozen(&self, cgroup: &Cgroup) {
        let Some(freezer) = self.v1_with("freezer") else { return };
        for pid in cgroup.processes().unwrap_or_default() {
            let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { continue };
            let of_freezer = |line: &'_ str| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|name| name == "freezer").then(|| path.trim_start_matches('/').to_owned())
            };
            // One above our own root of the hierarchy (`/../x`) is out of reach.
            let Some(path) = text.lines().find_map(of_freezer).filter(|path| !path.starts_with("..")) else { continue };
            let state = read(&freezer.point.join(path).join("freezer.state"));
            if state.is_ok_and(|state| state.trim() != "THAWED") {
                let _ = try_write(&freezer.point.join("cgroup.procs"), &pid.to_string());
            }
        }
    }
}

/// Waits until a key of a v2 directory's `cgroup.events` has a value; a cgroup that is gone has every value.
pub(super) fn wait_for(
    dir: &Path,
    key: &str,
    value: u64,
    state: &'static str,
    patience: Duration,
) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.events");
    let failed = |source| CgroupError::Read { path: path.clone(), source };
    let deadline = Instant::now() + patience;
    let mut file = match File::open(&path) {
        Err(error) if is_gone(&error) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    loop {
        // Reading is what arms the next notification.
        let mut text = String::new();
        match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
            Err(error) if is_gone(&error) => return Ok(()),
            done => done.map_err(failed)?,
        };
        if keyed(&text, key) == Some(value) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::Slow { path: dir.to_owned(), state, patience });
        }
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}
