//! The driver `cni`: networks of ours whose containers are attached by plugins.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cache::{Cache, CachedAttachment};
use super::capability::{PortMap, RuntimeConfig};
use super::error::CniError;
use super::exec;
use super::holding::{Holding, inode_of_netns};
use super::list::NetworkList;
use super::request::ValidAttachment;
use super::result::AttachResult;
use super::runtime::{Note, Runtime, Target};
use super::settings::CniSettings;
use crate::namespaces::network as netns;
use crate::network::config::{DriverKind, NetworkConfig};
use crate::network::driver::{DriverFuture, NetworkDriver};
use crate::network::polycube;
use crate::network::record::{Attachment, NetworkRecord};
use crate::network::{FirewallOptions, NetworkError};
use crate::spec::ContainerId;
use crate::store::ProcessIdentity;

/// How many containers are detached at once: each costs a process or several.
const AT_ONCE: usize = 8;

/// One for each set of directories and time limit: it remembers which versions plugins speak.
type Runtimes = HashMap<(Vec<PathBuf>, Duration), Arc<Runtime>>;

/// Attaches containers by plugins and keeps what DEL will need.
#[derive(Debug)]
pub struct CniDriver {
    cache: Cache,
    run_dir: PathBuf,
    /// How our own plugin is to make the host's rules.
    firewall: FirewallOptions,
    /// Namespaces of containers that are attached: they stay, and stay to be named to plugins, until DEL.
    held: Arc<Mutex<BTreeMap<String, OwnedFd>>>,
    runtimes: Mutex<Runtimes>,
}

impl CniDriver {
    /// Keeps attachments in `directory`, and has the directory `lock` for the lock that plugins run under. `run_dir` is where
    /// our own plugin keeps its records.
    pub(in crate::network) fn new(run_dir: &Path, directory: PathBuf, lock: PathBuf) -> Self {
        let run_dir = run_dir.to_owned();
        Self {
            cache: Cache { directory, lock },
            run_dir,
            firewall: FirewallOptions::default(),
            held: Arc::default(),
            runtimes: Mutex::default(),
        }
    }

    /// Says how our own plugin is to make the host's rules.
    pub(in crate::network) fn with_firewall(self, firewall: FirewallOptions) -> Self {
        Self { firewall, ..self }
    }

    /// Keeps attachments elsewhere.
    pub(in crate::network) fn move_cache(&mut self, directory: PathBuf) {
        self.cache.directory = directory;
    }

    /// Reads the configuration that a network names.
    ///
    /// # Errors
    /// [`CniError`]; options that cannot be.
    pub(in crate::network) fn load(&self, config: &NetworkConfig) -> Result<NetworkList, NetworkError> {
        match config.driver {
            DriverKind::Polycube => polycube::list_of(config, &self.run_dir),
            _ => Ok(CniSettings::check(config)?.list()?),
        }
    }

    /// Says whether networks of Polycube's cubes are there, which the host forwards for.
    pub(in crate::network) fn has_cubes(&self) -> bool {
        polycube::needs_forwarding(&self.run_dir)
    }

    /// Lists all attachments that were made and not taken back.
    ///
    /// # Errors
    /// [`CniError::Cache`], [`CniError::Store`].
    pub fn attachments(&self) -> Result<Vec<CachedAttachment>, CniError> {
        self.cache.list()
    }

    /// Attaches: all is written down before the first plugin runs, and `is_begun` says so. An error leaves what was made, for
    /// [`del`](Self::del); before that there is nothing of ours, and what is there may be another's.
    ///
    /// # Errors
    /// The first; [`CniError::Attached`].
    pub async fn add(&self, mut entry: CachedAttachment, is_begun: &mut bool) -> Result<AttachResult, CniError> {
        let runtime = self.runtime(&entry);
        let target = entry.target(entry.netns.clone());
        runtime.check_target(&entry.list, &target)?;
        entry.netns_inode = inode_of_netns(&target.netns)?;
        entry.version = runtime.negotiate(&entry.list).await?;
        let _own = self.cache.own(&entry.container_id, &entry.ifname).await?;
        let _shared = self.cache.lock(false).await?;
        if let Some(other) = self.cache.find(&entry.container_id, &entry.ifname)? {
            let (container, ifname) = (other.container_id, other.ifname);
            return Err(CniError::Attached { container, ifname, network: other.list.name });
        }
        *is_begun = true;
        self.cache.write(&entry)?;
        let (list, version) = (entry.list.clone(), entry.version);
        let write_down = |note: Note<'_>| {
            entry.plugin = None;
            match note {
                Note::Began(pid) => entry.plugin = ProcessIdentity::of(pid)?,
                Note::Made(result) => entry.result = Some(result.clone()),
            }
            self.cache.write(&entry)
        };
        let result = runtime.add(&list, version, &target, write_down).await?;
        entry.is_complete = true;
        self.cache.write(&entry)?;
        Ok(result)
    }

    /// Detaches one attachment as it was made; one that is not there is none to detach. What fails stays owed.
    ///
    /// # Errors
    /// Those of the plugins.
    pub async fn del(&self, container: &str, ifname: &str) -> Result<bool, CniError> {
        if self.cache.find(container, ifname)?.is_none() {
            return Ok(false);
        }
        let _own = self.cache.own(container, ifname).await?;
        match self.cache.find(container, ifname)? {
            Some(entry) => {
                let held = self.held().remove(container);
                let netns = del_netns(&entry, held.as_ref());
                take_back(&self.cache, &self.runtime(&entry), entry, netns).await.map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Asks the plugins of one attachment whether it is as it was made; `false` where the list forbids to ask.
    ///
    /// # Errors
    /// Those of the plugins; [`CniError::NotAttached`].
    pub async fn check_attachment(&self, container: &str, ifname: &str) -> Result<bool, CniError> {
        let entry = self.cache.find(container, ifname)?.filter(|entry| entry.is_complete && entry.owed.is_none());
        let not_attached = || CniError::NotAttached { container: container.to_owned(), ifname: ifname.to_owned() };
        let entry = entry.ok_or_else(not_attached)?;
        let Some(netns) = entry.seen_netns() else {
            return Err(CniError::Value(format!("the network namespace {} of {container} is gone", entry.netns)));
        };
        let target = entry.target(netns);
        let result = entry.result_for(&target).ok_or_else(not_attached)?;
        let _shared = self.cache.lock(false).await?;
        self.runtime(&entry).check(&entry.list, entry.version, &target, &result).await
    }

    /// Has the plugins of a list remove whatever belongs to no attachment that is on record. Tries DEL again before where it
    /// is owed. Returns the plugins that know GC.
    ///
    /// # Errors
    /// All.
    pub async fn gc(&self, runtime: &Runtime, list: &NetworkList) -> Result<Vec<String>, CniError> {
        let owed = self.retry(|entry| entry.list.name == list.name && entry.owed.is_some()).await;
        let _alone = self.cache.lock(true).await?;
        let of_list = self.cache.list()?.into_iter().filter(|entry| entry.list.name == list.name);
        let valid: Vec<_> =
            of_list.map(|entry| ValidAttachment { container_id: entry.container_id, ifname: entry.ifname }).collect();
        let asked = runtime.gc(list, &valid).await?;
        owed.map(|()| asked)
    }

    /// Tries DEL of all attachments that are meant; several at once, never two of one container.
    ///
    /// # Errors
    /// All.
    pub async fn retry(&self, is_meant: impl Fn(&CachedAttachment) -> bool + Send) -> Result<(), CniError> {
        let mut by_container: BTreeMap<String, Vec<CachedAttachment>> = BTreeMap::new();
        for entry in self.cache.list()?.into_iter().filter(is_meant) {
            by_container.entry(entry.container_id.clone()).or_default().push(entry);
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for (container, entries) in by_container {
            let work: Vec<_> = entries.into_iter().map(|entry| (self.runtime(&entry), entry)).collect();
            let (cache, places, held) = (self.cache.clone(), Arc::clone(&places), Arc::clone(&self.held));
            tasks.spawn(async move {
                let _place = places.acquire().await;
                let mut errors = Vec::new();
                let mut held = Holding { all: held, container, taken: None };
                for (runtime, entry) in work {
                    errors.extend(pay(&cache, &runtime, &entry, &mut held).await.err());
                }
                errors
            });
        }
        let mut errors = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            errors.extend(ended.unwrap_or_default());
        }
        CniError::all(errors)
    }

    /// Holds a container's namespace and says by which path plugins find it.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated, the record not be written.
    pub(in crate::network) fn hold(
        &self,
        container: &ContainerId,
        namespace: BorrowedFd<'_>,
    ) -> Result<String, CniError> {
        let failed = |source| CniError::Cache {
            operation: "hold the network namespace of",
            path: container.as_str().into(),
            source,
        };
        let held = namespace.try_clone_to_owned().map_err(failed)?;
        let path = held_path(&held);
        self.held().insert(container.as_str().to_owned(), held);
        Ok(path)
    }

    /// Takes a namespace over from an earlier supervisor: DEL and CHECK need a path that is good now.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub(in crate::network) fn resume(
        &self,
        container: &ContainerId,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), CniError> {
        let mut mine = self.cache.list()?;
        mine.retain(|entry| entry.container_id == container.as_str() && entry.network_id.is_some());
        if mine.is_empty() {
            return Ok(());
        }
        let path = self.hold(container, namespace)?;
        for entry in mine {
            self.cache.write(&CachedAttachment { netns_now: Some(path.clone()), ..entry })?;
        }
        Ok(())
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self, entry: &CachedAttachment) -> Arc<Runtime> {
        let own = polycube::plugin_directory(&self.run_dir);
        // Where it cannot be made, the plugin is not found, which is told with the directories that were looked at.
        if entry.plugin_directories.contains(&own) {
            let _ = polycube::offer_plugin(&own);
        }
        let (directories, limit) = (entry.plugin_directories.clone(), Duration::from_millis(entry.limit_ms));
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Runtime::new(directories.clone(), limit));
        Arc::clone(runtimes.entry((directories.clone(), limit)).or_insert_with(made))
    }

    /// Takes addresses and gateway from the result of ADD.
    pub(super) fn completed(&self, mut attachment: Attachment) -> Result<Attachment, NetworkError> {
        let (container, ifname) = (attachment.container.as_str(), attachment.ifname.as_str());
        let Some(CachedAttachment { result: Some(result), list, .. }) = self.cache.find(container, ifname)? else {
            return Ok(attachment);
        };
        let mac = result.interface(ifname).and_then(|interface| interface.mac.as_ref()?.parse().ok());
        let given: Vec<_> = result.addresses_of(ifname).map(|ip| (ip.address, ip.gateway)).collect();
        attachment.set_addresses(given.into_iter());
        attachment.mac = mac.or(attachment.mac);
        if !attachment.ports.is_empty() && list.plugins.iter().any(|plugin| plugin.plugin_type() == "polycube") {
            attachment.published_at = polycube::published_at(&self.run_dir, &list.name);
        }
        Ok(attachment)
    }

    /// Attaches one container as its network says.
    async fn plug_in(
        &self,
        network: &NetworkRecord,
        attachment: &Attachment,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let settings = match network.config.driver {
            DriverKind::Polycube => CniSettings::of_own_plugin(polycube::plugin_directory(&self.run_dir)),
            _ => CniSettings::check(&network.config)?,
        };
        netns::prepare(namespace)
            .map_err(|source| NetworkError::Namespace { container: attachment.container_name.clone(), source })?;
        let (container, ifname) = (attachment.container.as_str(), attachment.ifname.as_str());
        // Somebody was killed between ADD and DEL: what is there is taken back first.
        if let Err(error) = self.del(container, ifname).await {
            tracing::warn!(container, %error, "taking back an earlier CNI attachment");
            // A second ADD on top of it is what the specification forbids.
            return Err(error.into());
        }
        let list = match &network.cni {
            Some(list) => list.as_ref().clone(),
            None => settings.list()?,
        };
        let list = match network.config.driver {
            DriverKind::Polycube => polycube::with_firewall(list, &self.firewall),
            _ => list,
        };
        let runtime = runtime_config(&settings, &list, attachment);
        let entry = CachedAttachment {
            container_id: container.to_owned(),
            ifname: ifname.to_owned(),
            container_name: attachment.container_name.clone(),
            network_id: Some(network.id.clone()),
            version: super::SpecVersion::V1_1_0,
            list,
            netns: self.hold(&attachment.container, namespace)?,
            netns_inode: 0,
            netns_now: None,
            args: String::new(),
            runtime,
            plugin_directories: settings.plugin_directories,
            limit_ms: u64::try_from(settings.limit.as_millis()).unwrap_or(u64::MAX),
            result: None,
            is_complete: false,
            owed: None,
            plugin: None,
        };
        Ok(self.add(entry, &mut false).await.map(drop)?)
    }
}

/// Says by which path DEL finds the namespace: by the descriptor that we hold, or as somebody named it who attached by hand. Any
/// other path may lead to another container's by now, and DEL would take that one's interface.
fn del_netns(entry: &CachedAttachment, held: Option<&OwnedFd>) -> String {
    match held {
        Some(held) => held_path(held),
        None if entry.network_id.is_none() => entry.seen_netns().unwrap_or_default(),
        None => String::new(),
    }
}

fn held_path(held: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd())
}

/// Runs DEL for an attachment that was found on record, unless it is another by now, or gone.
async fn pay(cache: &Cache, runtime: &Runtime, found: &CachedAttachment, held: &mut Holding) -> Result<(), CniError> {
    let _own = cache.own(&found.container_id, &found.ifname).await?;
    match cache.find(&found.container_id, &found.ifname)?.filter(|entry| entry.is_same(found)) {
        Some(entry) => {
            let netns = del_netns(&entry, held.take());
            take_back(cache, runtime, entry, netns).await
        }
        None => Ok(()),
    }
}

/// Runs DEL; what works is forgotten, what does not is written down.
async fn take_back(
    cache: &Cache,
    runtime: &Runtime,
    mut entry: CachedAttachment,
    netns: String,
) -> Result<(), CniError> {
    let _shared = cache.lock(false).await?;
    if let Some(plugin) = entry.plugin.take() {
        exec::end_leftover(&plugin).await;
    }
    let (list, version) = (entry.list.clone(), entry.version);
    let target: Target = entry.target(netns);
    let result = entry.result_for(&target);
    let write_down = |note: Note<'_>| {
        if let Note::Began(pid) = note {
            entry.plugin = ProcessIdentity::of(pid)?;
        }
        // Where it cannot be written the plugin works all the same: a full disk must not keep anything attached.
        let _ = cache.write(&entry);
        Ok(())
    };
    match runtime.del(&list, version, &target, result.as_ref(), write_down).await {
        Ok(()) => cache.remove(&entry),
        Err(error) => {
            cache.write(&CachedAttachment { owed: Some(error.to_string()), plugin: None, ..entry })?;
            Err(error)
        }
    }
}

/// Turns what a container wants of a network into capabilities. Its names on the network are our own name server's work; a
/// plugin that wants them gets them too.
fn runtime_config(settings: &CniSettings, list: &NetworkList, attachment: &Attachment) -> RuntimeConfig {
    let some = |list: Vec<PortMap>| if list.is_empty() { None } else { Some(list) };
    let ports = attachment.ports.iter().map(|port| PortMap {
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: port.protocol,
        host_ip: port.host_ip,
    });
    let mut names = vec![attachment.container_name.clone()];
    names.extend(attachment.aliases.iter().filter(|alias| **alias != attachment.container_name).cloned());
    let names = list.capabilities().contains("aliases").then_some(names);
    let other = settings.capabilities.iter().map(|(name, value)| (name.clone(), value.clone()));
    let typed: serde_json::Map<String, Value> = other.collect();
    let mut runtime: RuntimeConfig = serde_json::from_value(Value::Object(typed)).unwrap_or_default();
    runtime.port_mappings = some(ports.collect()).or(runtime.port_mappings);
    let ips: Vec<String> = attachment.networks().into_iter().map(wanted_address).collect();
    runtime.ips = if ips.is_empty() { runtime.ips } else { Some(ips) };
    runtime.mac = attachment.mac.map(|mac| mac.to_string()).or(runtime.mac);
    runtime.aliases = runtime.aliases.or(names);
    runtime
}

/// A chosen address has no prefix of its own: the plugin knows its subnet.
fn wanted_address(address: IpNetwork) -> String {
    let longest = if address.is_ipv6() { 128 } else { 32 };
    if address.prefix() == longest { address.ip().to_string() } else { address.to_string() }
}

impl NetworkDriver for CniDriver {
    fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        if config.driver == DriverKind::Polycube {
            return self.load(config).map(drop);
        }
        let settings = CniSettings::check(config)?;
        let list = settings.list()?;
        for plugin in &list.plugins {
            if super::search::find_plugin(plugin.plugin_type(), &settings.plugin_directories).is_none() {
                let (plugin, directories) = (plugin.plugin_type().to_owned(), settings.plugin_directories);
                return Err(CniError::NoPlugin { network: list.name, plugin, directories }.into());
            }
        }
        Ok(())
    }

    /// Plugins make what each attachment needs.
    fn setup<'a>(&'a self, _: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(async { Ok(()) })
    }

    fn attach<'a>(
        &'a self,
        network: &'a NetworkRecord,
        attachment: &'a Attachment,
        namespace: BorrowedFd<'a>,
    ) -> DriverFuture<'a> {
        Box::pin(self.plug_in(network, attachment, namespace))
    }

    fn detach<'a>(&'a self, network: &'a NetworkRecord, attachments: &'a [Attachment]) -> DriverFuture<'a> {
        Box::pin(async move {
            // What is owed is tried by later starts: a plugin that hangs is not waited for twice.
            let is_leaving = |entry: &CachedAttachment| {
                entry.network_id.as_ref() == Some(&network.id)
                    && entry.owed.is_none()
                    && attachments.iter().any(|attachment| attachment.container.as_str() == entry.container_id)
            };
            let outcome = self.retry(is_leaving).await;
            for attachment in attachments {
                self.held().remove(attachment.container.as_str());
            }
            Ok(outcome?)
        })
    }

    /// Takes back what is left. What is owed already is not waited for again: later starts try it.
    fn teardown<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a> {
        let is_ours = |entry: &CachedAttachment| entry.network_id.as_ref() == Some(&network.id) && entry.owed.is_none();
        Box::pin(async move {
            let outcome = self.retry(is_ours).await;
            let own = polycube::plugin_directory(&self.run_dir);
            if !self.cache.list()?.iter().any(|entry| entry.plugin_directories.contains(&own)) {
                polycube::withdraw_plugin(&own);
            }
            Ok(outcome?)
        })
    }

    fn forgets_on_failure(&self) -> bool {
        true
    }
}

/// Returns the directory of our attachments below a data directory.
pub(super) fn cache_below(data: &Path) -> PathBuf {
    data.join("cni")
}
