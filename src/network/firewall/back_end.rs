//! Who puts the rules into the kernel: iptables(8) or nft(8), and how it is called.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::iptables::Lines;
use super::plan::plan;
use super::rules::{Family, Ruleset, USER};
use super::{nftables, watch};
use crate::network::NetworkError;
use crate::store::FileLock;

/// Where distributions put the programs; the environment's PATH may lack the first.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// Says who is to make the firewall's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirewallChoice {
    /// Whoever made them last; else iptables where the host has it, else nftables.
    #[default]
    Auto,
    /// iptables(8), of whichever kind the host's is.
    Iptables,
    /// nft(8), in a table of our own.
    Nftables,
    /// Nobody: the host's owner does.
    None,
}

/// Says how the firewall's rules are to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallOptions {
    /// By whom.
    pub choice: FirewallChoice,
    /// The `iptables` to use, a path or a name; its `-save` and `-restore` lie beside it.
    pub iptables: Option<PathBuf>,
}

/// Is who makes the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BackEnd {
    /// Nobody.
    None,
    /// The program `iptables`; the others are named after it.
    Iptables(PathBuf),
    /// The program `nft`.
    Nftables(PathBuf),
}

/// Where programs are looked for.
#[derive(Debug)]
pub(super) struct Programs(pub(super) Vec<PathBuf>);

impl Default for Programs {
    fn default() -> Self {
        Self(DIRECTORIES.iter().map(PathBuf::from).collect())
    }
}

impl Programs {
    fn find(&self, name: &Path) -> Option<PathBuf> {
        // A name that is a path stays what it is: join(3) of an absolute one forgets the directory.
        self.0.iter().map(|dir| dir.join(name)).find(|path| path.exists())
    }

    /// Finds who is to make the rules. `last` is who made those that are there.
    pub(super) fn choose(&self, options: &FirewallOptions, last: Option<&BackEnd>) -> Result<BackEnd, NetworkError> {
        let nft = || self.find(Path::new("nft")).map(BackEnd::Nftables);
        let iptables = || self.find(Path::new("iptables")).map(BackEnd::Iptables);
        match (options.choice, &options.iptables) {
            (FirewallChoice::None, _) => Ok(BackEnd::None),
            (FirewallChoice::Nftables, _) => nft().ok_or(NetworkError::ToolMissing("nft")),
            (FirewallChoice::Auto | FirewallChoice::Iptables, Some(named)) => {
                let found = self.find(named).map(BackEnd::Iptables);
                found.ok_or_else(|| failed(named, io::ErrorKind::NotFound.into()))
            }
            (FirewallChoice::Iptables, None) => iptables().ok_or(NetworkError::ToolMissing("iptables")),
            (FirewallChoice::Auto, None) => match last {
                Some(BackEnd::Iptables(path) | BackEnd::Nftables(path)) if path.exists() => {
                    Ok(last.cloned().unwrap_or(BackEnd::None))
                }
                _ => iptables().or_else(nft).ok_or(NetworkError::ToolMissing("iptables")),
            },
        }
    }
}

impl BackEnd {
    /// Puts the rules into its own words; the same words mean that nothing changed.
    pub(super) fn words(&self, rules: &Ruleset) -> String {
        match self {
            Self::None => String::new(),
            Self::Nftables(_) => nftables::script(rules),
            Self::Iptables(_) => {
                let lines = Family::BOTH.map(|family| Lines::of(rules, family));
                lines.iter().flat_map(|lines| [lines.filter.join("\n"), lines.nat.join("\n")]).collect()
            }
        }
    }

    /// Whether the kernel tells of changes: it does of those of nf_tables, whoever makes them, and not of the older kind.
    pub(super) fn is_told_of(&self) -> bool {
        match self {
            Self::None | Self::Nftables(_) => true,
            Self::Iptables(program) => {
                let real = program.canonicalize().unwrap_or_else(|_| program.clone());
                real.file_name().is_some_and(|name| name.to_string_lossy().contains("nft"))
            }
        }
    }

    /// Makes the rules what is wanted. `v6` says that there may be some for IPv6.
    ///
    /// Returns the generation of nf_tables in which they are in place, where nobody else changed anything meanwhile.
    pub(super) fn apply(&self, wanted: &Ruleset, v6: bool, lock: &FileLock) -> Result<Option<u32>, NetworkError> {
        let before = if self.is_told_of() { watch::generation() } else { None };
        let changes = match self {
            Self::None => 0,
            Self::Nftables(nft) => apply_nftables(nft, wanted, lock)?,
            Self::Iptables(program) => {
                let mut changes = 0;
                for family in Family::BOTH {
                    let lines = Lines::of(wanted, family);
                    if family == Family::V4 || v6 || !lines.is_empty() {
                        changes += apply_iptables(program, family, &lines, lock)?;
                    }
                }
                changes
            }
        };
        Ok(before.map(|before| before.wrapping_add(changes)).filter(|after| watch::generation() == Some(*after)))
    }
}

/// Returns how many transactions it took.
fn apply_nftables(nft: &Path, wanted: &Ruleset, lock: &FileLock) -> Result<u32, NetworkError> {
    let text = if wanted.is_empty() {
        let listed = run(nft, &["-j", "list", "chain", "inet", nftables::TABLE, USER], "", Stdio::piped());
        match listed {
            Ok(listed) => nftables::removal(nftables::has_rules(&listed.stdout)),
            // There is no table of ours.
            Err(NetworkError::ToolFailed { .. }) => return Ok(0),
            Err(error) => return Err(error),
        }
    } else {
        nftables::script(wanted)
    };
    change(nft, &["-f", "-"], &text, lock)?;
    Ok(1)
}

/// Returns how many transactions it took.
fn apply_iptables(program: &Path, family: Family, wanted: &Lines, lock: &FileLock) -> Result<u32, NetworkError> {
    let save = sibling(program, family, "-save");
    if family == Family::V6 && wanted.is_empty() && !save.exists() {
        return Ok(0);
    }
    let saved = run(&save, &[], "", Stdio::piped())?;
    let Some(text) = plan(&String::from_utf8_lossy(&saved.stdout), wanted, family) else { return Ok(0) };
    change(&sibling(program, family, "-restore"), &["--noflush", "-w"], &text, lock)?;
    Ok(u32::try_from(text.matches("COMMIT\n").count()).unwrap_or_default())
}

/// Names the program of the same kind that does something else: `iptables-legacy`, `ip6tables-legacy-save`.
fn sibling(program: &Path, family: Family, ending: &str) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let name = match family {
        Family::V4 => name.into_owned(),
        Family::V6 => name.replacen("iptables", "ip6tables", 1),
    };
    program.with_file_name(name + ending)
}

/// Runs a program that changes rules.
fn change(program: &Path, args: &[&str], text: &str, lock: &FileLock) -> Result<(), NetworkError> {
    tracing::debug!(program = %program.display(), rules = %text, "changing the firewall's rules");
    // It writes nothing to its stdout, and so carries the lock: where we are killed meanwhile it goes on, and nobody may look at
    // the rules before it has changed them.
    let carried = lock.as_fd().try_clone_to_owned().map_err(|source| failed(program, source))?;
    run(program, args, text, carried.into()).map(drop)
}

pub(super) fn find(program: &'static str) -> Result<PathBuf, NetworkError> {
    Programs::default().find(Path::new(program)).ok_or(NetworkError::ToolMissing(program))
}

fn failed(program: &Path, source: io::Error) -> NetworkError {
    NetworkError::Tool { program: program.display().to_string(), source }
}

pub(super) fn run(program: &Path, args: &[&str], input: &str, stdout: Stdio) -> Result<Output, NetworkError> {
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
    use super::*;

    #[test]
    fn the_words_of_a_failing_program_are_kept() {
        let error = run(Path::new("/bin/ls"), &["/no/such/path"], "", Stdio::piped()).unwrap_err();
        assert!(error.to_string().contains("/no/such/path"), "{error}");
    }

    #[test]
    fn programs_of_a_kind_are_named_alike() {
        let legacy = Path::new("/usr/sbin/iptables-legacy");
        assert_eq!(sibling(legacy, Family::V4, "-save"), Path::new("/usr/sbin/iptables-legacy-save"));
        assert_eq!(sibling(legacy, Family::V6, "-restore"), Path::new("/usr/sbin/ip6tables-legacy-restore"));
    }

    #[test]
    fn what_is_asked_for_is_chosen_and_else_what_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs(vec![dir.path().to_owned()]);
        let options =
            |choice, iptables: Option<&str>| FirewallOptions { choice, iptables: iptables.map(PathBuf::from) };
        let auto = options(FirewallChoice::Auto, None);
        assert!(programs.choose(&auto, None).unwrap_err().hint().unwrap().contains("apt install iptables"));
        assert_eq!(programs.choose(&options(FirewallChoice::None, None), None).unwrap(), BackEnd::None);
        std::fs::write(dir.path().join("nft"), "").unwrap();
        let nftables = BackEnd::Nftables(dir.path().join("nft"));
        assert_eq!(programs.choose(&auto, None).unwrap(), nftables);
        std::fs::write(dir.path().join("iptables"), "").unwrap();
        let iptables = BackEnd::Iptables(dir.path().join("iptables"));
        assert_eq!(programs.choose(&auto, None).unwrap(), iptables);
        assert_eq!(programs.choose(&auto, Some(&nftables)).unwrap(), nftables);
        assert_eq!(programs.choose(&options(FirewallChoice::Iptables, None), Some(&nftables)).unwrap(), iptables);
        let named = options(FirewallChoice::Auto, Some("iptables-legacy"));
        assert!(programs.choose(&named, None).unwrap_err().to_string().contains("iptables-legacy"));
        std::fs::write(dir.path().join("iptables-legacy"), "").unwrap();
        let legacy = BackEnd::Iptables(dir.path().join("iptables-legacy"));
        assert_eq!(programs.choose(&named, Some(&nftables)).unwrap(), legacy);
    }

    #[test]
    fn the_lock_lasts_as_long_as_the_program_that_changes_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let (begun, go_on) = (dir.path().join("begun"), dir.path().join("go-on"));
        rustix::fs::mknodat(rustix::fs::CWD, &begun, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &go_on, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let script = format!("echo >{}; read -r line <{}", begun.display(), go_on.display());
        let path = dir.path().join("lock");
        let lock = FileLock::try_acquire(&path).unwrap();
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
