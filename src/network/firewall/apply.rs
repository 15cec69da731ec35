//! Keeps the host's rules as the records want them: when to look, what was applied last, and by whom.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::back_end::{BackEnd, FirewallOptions, Programs};
use super::gates::closed_to;
use super::rules::{Family, Ruleset};
use super::watch::{self, RuleWatch};
use crate::network::polycube;
use crate::network::state::StateDir;
use crate::network::{Attachment, BridgeRecord, NetworkError, NetworkRecord};
use crate::store::{FileLock, Record};

/// Where the last application is written down.
const APPLIED: &str = "firewall.json";
const LOCK: &str = "firewall.lock";

/// Is what was applied last, so that an unchanged set of networks costs no process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Applied {
    /// Digest of the rules; empty while they are being changed.
    digest: String,
    /// The boot and the network namespace that they were applied in.
    place: String,
    /// Who made them; records of before there was a choice do not say.
    #[serde(default)]
    by: Option<BackEnd>,
    /// Whether there may be rules for IPv6.
    #[serde(default)]
    v6: bool,
    /// The generation of nf_tables in which they were seen in place: while it lasts nobody changed anything.
    #[serde(default)]
    generation: Option<u32>,
}

impl Record for Applied {
    const VERSION: u32 = 1;
}

impl Applied {
    /// Whether these are the rules that are wanted, wherever they came from.
    fn is(&self, wanted: &Self) -> bool {
        (&self.digest, &self.place, &self.by) == (&wanted.digest, &wanted.place, &wanted.by)
    }

    fn is_untouched(&self) -> bool {
        self.generation.is_some() && self.generation == watch::generation()
    }
}

/// Keeps the host's rules as the records want them.
#[derive(Debug, Default)]
pub(in crate::network) struct Firewall {
    programs: Programs,
    options: FirewallOptions,
    /// Counts changes of the records; a reconciliation covers all that it found.
    recorded: AtomicU64,
    covered: tokio::sync::Mutex<u64>,
}

impl Firewall {
    /// Takes whom `options` name; programs are looked for in the usual places.
    pub(in crate::network) fn new(options: FirewallOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Says that a record changed, after it was written.
    pub(in crate::network) fn note_change(&self) {
        self.recorded.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins to listen for rules that are taken away.
    pub(in crate::network) fn watch(&self) -> Result<RuleWatch, NetworkError> {
        let told = self.programs.choose(&self.options, None).map_or(true, |back_end| back_end.is_told_of());
        RuleWatch::start(told)
    }

    /// Names the chains of others, table and chain, that let no packet of this bridge out, whatever our rules say.
    pub(in crate::network) async fn closed_gates(
        &self,
        state: &StateDir,
        bridge: &BridgeRecord,
    ) -> Vec<(String, String)> {
        let last = state.read::<Applied>(APPLIED).ok().flatten().and_then(|last| last.by);
        let Ok(back_end) = self.programs.choose(&self.options, last.as_ref()) else { return Vec::new() };
        let subnets: Vec<_> = bridge.subnets.iter().map(|subnet| subnet.subnet).collect();
        let name = bridge.name.to_string();
        let look = tokio::task::spawn_blocking(move || closed_to(&back_end, &name, &subnets));
        look.await.unwrap_or_default().into_iter().map(|gate| (gate.table, gate.chain)).collect()
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
        let wanted = Ruleset::of(&networks(state, leaving)?)?.with_uplinks(&polycube::uplinks(state.run_dir())?);
        let last = state.read::<Applied>(APPLIED)?;
        // A host that never had rules of ours needs no program to have none.
        if last.is_some() || !wanted.is_empty() || state.was_damaged(APPLIED)? {
            self.make(state, wanted, last, forced, lock).await?;
        }
        *covered = covers;
        Ok(())
    }

    /// Makes the rules what is wanted, where they are not or may not be.
    async fn make(
        &self,
        state: &StateDir,
        wanted: Ruleset,
        last: Option<Applied>,
        forced: bool,
        lock: FileLock,
    ) -> Result<(), NetworkError> {
        let place = place();
        let here = last.filter(|last| last.place == place);
        let made_by = here.as_ref().and_then(|last| last.by.clone());
        let back_end = self.programs.choose(&self.options, made_by.as_ref())?;
        let wanted = if back_end == BackEnd::None { Ruleset::default() } else { wanted };
        let target = Applied {
            digest: digest(&back_end.words(&wanted)),
            place,
            by: Some(back_end.clone()),
            v6: wanted.has(Family::V6),
            generation: None,
        };
        if let Some(last) = &here
            && last.is(&target)
            && (!forced || last.is_untouched())
        {
            return Ok(());
        }
        let mut lock = lock;
        if let Some(former) = made_by.filter(|former| *former != back_end) {
            tracing::info!(from = ?former, to = ?back_end, "the firewall's rules change hands");
            let (_, back) = apply(former, Ruleset::default(), true, lock).await?;
            lock = back;
        }
        // The record says before and after that there are some, so a kill between leaves none unknown.
        let v6 = target.v6 || here.is_none_or(|last| last.v6);
        state.write(APPLIED, &Applied { digest: String::new(), v6, ..target.clone() })?;
        let none = wanted.is_empty();
        let (generation, _lock) = apply(back_end, wanted, v6, lock).await?;
        if none { state.remove(APPLIED) } else { state.write(APPLIED, &Applied { generation, ..target }) }
    }
}

async fn apply(
    back_end: BackEnd,
    wanted: Ruleset,
    v6: bool,
    lock: FileLock,
) -> Result<(Option<u32>, FileLock), NetworkError> {
    let work =
        tokio::task::spawn_blocking(move || back_end.apply(&wanted, v6, &lock).map(|generation| (generation, lock)));
    work.await.map_err(|_| NetworkError::WorkerLost("change the firewall rules"))?
}

fn networks(state: &StateDir, leaving: Option<&str>) -> Result<Vec<(NetworkRecord, Vec<Attachment>)>, NetworkError> {
    let with_attachments = |network: NetworkRecord| {
        let attachments = state.attachments(&network.id)?;
        Ok((network, attachments))
    };
    let stays = |network: &NetworkRecord| Some(network.id.as_str()) != leaving;
    state.networks()?.into_iter().filter(stays).map(with_attachments).collect()
}

fn digest(words: &str) -> String {
    Sha256::digest(words).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names the boot and the network namespace: rules of another one say nothing about this one.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let netns = std::fs::metadata("/proc/thread-self/ns/net").map(|meta| meta.ino()).unwrap_or_default();
    format!("{} {netns}", boot.trim())
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::network;
    use super::*;

    #[tokio::test]
    async fn a_host_without_iptables_is_told_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let firewall = Firewall { programs: Programs(vec![dir.path().join("nothing")]), ..Firewall::default() };
        firewall.reconcile(&state, true).await.unwrap();
        state.write_network(&network(1, false, true)).unwrap();
        let error = firewall.reconcile(&state, false).await.unwrap_err();
        assert!(error.hint().unwrap().contains("apt install iptables"), "{error:?}");
    }
}
