//! Reads the rules with iptables-save(8) and changes them with one call of iptables-restore(8).

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::plan;
use super::rules::Ruleset;
use crate::network::NetworkError;
use crate::network::state::StateDir;
use crate::store::{FileLock, Record};

const SAVE: &str = "iptables-save";
const RESTORE: &str = "iptables-restore";
/// Where distributions put them; the environment's PATH may lack the first.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// Where the last application is written down.
const APPLIED: &str = "firewall.json";
const LOCK: &str = "firewall.lock";

/// Is what was applied last, so that an unchanged set of networks costs no process.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    /// Digest of the rules.
    digest: String,
    /// The boot and the network namespace that they were applied in.
    place: String,
}

impl Record for Applied {
    const VERSION: u32 = 1;
}

/// Keeps the host's rules as the records want them.
#[derive(Debug)]
pub(in crate::network) struct Firewall {
    directories: Vec<PathBuf>,
    /// Counts changes of the records; a reconciliation covers all that it found.
    recorded: AtomicU64,
    covered: tokio::sync::Mutex<u64>,
}

impl Firewall {
    /// Looks for the programs in the usual places.
    pub(in crate::network) fn new() -> Self {
        Self::with_directories(DIRECTORIES.iter().map(PathBuf::from).collect())
    }

    fn with_directories(directories: Vec<PathBuf>) -> Self {
        Self { directories, recorded: AtomicU64::new(0), covered: tokio::sync::Mutex::new(0) }
    }

    /// Says that a record changed, after it was written.
    pub(in crate::network) fn note_change(&self) {
        self.recorded.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the rules follow the records.
    ///
    /// Of many callers at once one does the work for all whose records it finds. With `forced` the rules are compared with
    /// what is there even where the records did not change: somebody may have flushed them.
    pub(in crate::network) async fn reconcile(&self, state: &StateDir, forced: bool) -> Result<(), NetworkError> {
        self.follow(state, forced, None).await
    }

    /// Makes the rules follow the records of all networks but one, which is being removed.
    pub(in crate::network) async fn reconcile_without(
        &self,
        state: &StateDir,
        leaving: &str,
    ) -> Result<(), NetworkError> {
        self.note_change();
        self.follow(state, false, Some(leaving)).await
    }

    async fn follow(&self, state: &StateDir, forced: bool, leaving: Option<&str>) -> Result<(), NetworkError> {
        let asked = self.recorded.load(Ordering::SeqCst);
        let mut covered = self.covered.lock().await;
        if !forced && *covered >= asked && asked > 0 {
            return Ok(());
        }
        let lock = state.lock(LOCK).await?;
        let covers = self.recorded.load(Ordering::SeqCst);
        let wanted = Ruleset::of(&networks(state, leaving)?)?;
        let target = Applied { digest: digest(&wanted), place: place() };
        let last = state.read::<Applied>(APPLIED)?;
        let known = match &last {
            Some(last) => *last == target,
            // A host that never had rules of ours needs no iptables to have none.
            None => wanted.is_empty() && !state.was_damaged(APPLIED)?,
        };
        if !known || (forced && last.is_some()) {
            self.apply(state, wanted, target, lock).await?;
        }
        *covered = covers;
        Ok(())
    }

    /// Changes the rules. The record says before and after that there are some, so a kill between leaves none unknown.
    async fn apply(
        &self,
        state: &StateDir,
        wanted: Ruleset,
        target: Applied,
        lock: FileLock,
    ) -> Result<(), NetworkError> {
        let tools = self.tools()?;
        state.write(APPLIED, &Applied { digest: String::new(), place: target.place.clone() })?;
        let none = wanted.is_empty();
        let work = tokio::task::spawn_blocking(move || tools.apply(&wanted, &lock).map(|()| lock));
        let _lock = work.await.map_err(|_| NetworkError::WorkerLost("change the firewall rules"))??;
        if none { state.remove(APPLIED) } else { state.write(APPLIED, &target) }
    }

    fn tools(&self) -> Result<Tools, NetworkError> {
        let find = |program: &'static str| {
            let path = self.directories.iter().map(|dir| dir.join(program)).find(|path| path.exists());
            path.ok_or(NetworkError::ToolMissing(program))
        };
        Ok(Tools { save: find(SAVE)?, restore: find(RESTORE)? })
    }
}

fn networks(
    state: &StateDir,
    leaving: Option<&str>,
) -> Result<Vec<(crate::network::NetworkRecord, Vec<crate::network::Attachment>)>, NetworkError> {
    let with_attachments = |network: crate::network::NetworkRecord| {
        let attachments = state.attachments(&network.id)?;
        Ok((network, attachments))
    };
    let stays = |network: &crate::network::NetworkRecord| Some(network.id.as_str()) != leaving;
    state.networks()?.into_iter().filter(stays).map(with_attachments).collect()
}

fn digest(rules: &Ruleset) -> String {
    let mut hash = Sha256::new();
    for line in rules.filter.iter().chain(&rules.nat) {
        hash.update(line);
        hash.update("\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names the boot and the network namespace: rules of another one say nothing about this one.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let netns = std::fs::metadata("/proc/thread-self/ns/net").map(|meta| meta.ino()).unwrap_or_default();
    format!("{} {netns}", boot.trim())
}

/// Reads the rules that there are, as iptables-save(8) prints them.
pub(in crate::network) fn saved_rules() -> Result<String, NetworkError> {
    let saved = run(&find(SAVE)?, &[], "", Stdio::piped())?;
    Ok(String::from_utf8_lossy(&saved.stdout).into_owned())
}

/// Changes rules with one call of iptables-restore(8), which carries `lock` as long as it is at work.
pub(in crate::network) fn change_rules(text: &str, lock: &FileLock) -> Result<(), NetworkError> {
    let program = find(RESTORE)?;
    let carried = lock.as_fd().try_clone_to_owned().map_err(|source| failed(&program, source))?;
    run(&program, &["--noflush", "-w"], text, carried.into()).map(drop)
}

fn find(program: &'static str) -> Result<PathBuf, NetworkError> {
    let paths = DIRECTORIES.iter().map(|directory| Path::new(directory).join(program));
    paths.into_iter().find(|path| path.exists()).ok_or(NetworkError::ToolMissing(program))
}

/// Is the pair of programs; both are of one back end, whichever the host's `iptables` is.
struct Tools {
    save: PathBuf,
    restore: PathBuf,
}

impl Tools {
    fn apply(&self, wanted: &Ruleset, lock: &FileLock) -> Result<(), NetworkError> {
        let saved = run(&self.save, &[], "", Stdio::piped())?;
        match plan(&String::from_utf8_lossy(&saved.stdout), wanted) {
            Some(text) => {
                tracing::debug!(rules = %text, "iptables-restore");
                // It writes nothing to its stdout, and so carries the lock: where we are killed meanwhile it goes on, and nobody
                // may look at the rules before it has changed them.
                let carried = lock.as_fd().try_clone_to_owned();
                let carried = carried.map_err(|source| failed(&self.restore, source))?;
                run(&self.restore, &["--noflush", "-w"], &text, carried.into()).map(drop)
            }
            None => Ok(()),
        }
    }
}

fn failed(program: &Path, source: io::Error) -> NetworkError {
    NetworkError::Tool { program: program.display().to_string(), source }
}

fn run(program: &Path, args: &[&str], input: &str, stdout: Stdio) -> Result<Output, NetworkError> {
    let failed = |source| failed(program, source);
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses early closes its end: its own words say more than our EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let message = words.lines().filter(|line| !line.trim().is_empty()).take(3).collect::<Vec<_>>().join(" ");
    let message = if message.is_empty() { output.status.to_string() } else { message };
    Err(NetworkError::ToolFailed { program: program.display().to_string(), message })
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::network;
    use super::*;

    #[tokio::test]
    async fn a_host_without_iptables_is_told_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let firewall = Firewall::with_directories(vec![dir.path().join("nothing")]);
        firewall.reconcile(&state, true).await.unwrap();
        state.write_network(&network(1, false, true)).unwrap();
        let error = firewall.reconcile(&state, false).await.unwrap_err();
        assert!(error.hint().unwrap().contains("apt install iptables"), "{error:?}");
    }

    #[test]
    fn the_words_of_a_failing_program_are_kept() {
        let error = run(Path::new("/bin/ls"), &["/no/such/path"], "", Stdio::piped()).unwrap_err();
        assert!(error.to_string().contains("/no/such/path"), "{error}");
    }

    #[tokio::test]
    async fn the_lock_lasts_as_long_as_the_program_that_changes_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (begun, go_on) = (dir.path().join("begun"), dir.path().join("go-on"));
        rustix::fs::mknodat(rustix::fs::CWD, &begun, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &go_on, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let script = format!("echo >{}; read -r line <{}", begun.display(), go_on.display());
        let lock = state.lock(LOCK).await.unwrap();
        let path = lock.path().to_owned();
        let carried = lock.as_fd().try_clone_to_owned().unwrap();
        let program = std::thread::spawn(move || run(Path::new("/bin/sh"), &["-c", &script], "", carried.into()));
        std::fs::read(&begun).unwrap();
        // As if we were killed.
        drop(lock);
        assert!(FileLock::try_acquire(&path).is_err(), "the program is at work");
        std::fs::write(&go_on, "\n").unwrap();
        program.join().unwrap().unwrap();
        FileLock::try_acquire(&path).unwrap();
    }
}
