//! The runtime's side: which plugins, which version, in which order, with what between them (SPEC.md section 3).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::capability::RuntimeConfig;
use super::error::CniError;
use super::exec::{self, Ended, Failed};
use super::list::{Additions, NetworkList, PluginConfig};
use super::object::{ErrorObject, VersionObject, code};
use super::request::{Operation, Parameters, ValidAttachment};
use super::result::AttachResult;
use super::search::{PLUGINS, find_plugin, split_path};
use super::stand_in::{StandIn, is_whole, reads_the_interface};
use super::version::{SpecVersion, versions_text};

/// How long one plugin may take, if nobody says otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);

/// What makes a plugin's file another one: device, inode, size, time of its last change.
type FileState = (u64, u64, u64, i64, i64);

/// Runs the plugins of configurations.
#[derive(Debug)]
pub struct Runtime {
    /// Where plugins are looked for, in order.
    pub directories: Vec<PathBuf>,
    /// How long one plugin may take.
    pub limit: Duration,
    /// What VERSION said: it costs a process each time.
    spoken: Mutex<HashMap<PathBuf, (FileState, Vec<SpecVersion>)>>,
}

/// Is what is to be attached: all that a plugin is told beside its configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The container's id.
    pub container_id: String,
    /// A path of its network namespace; empty where that is gone.
    pub netns: String,
    /// The interface inside.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// Capabilities.
    pub runtime: RuntimeConfig,
}

impl Default for Runtime {
    fn default() -> Self {
        Self::new(split_path(PLUGINS), TIME_LIMIT)
    }
}

impl Runtime {
    /// Looks for plugins in these directories.
    pub fn new(directories: Vec<PathBuf>, limit: Duration) -> Self {
        Self { directories, limit, spoken: Mutex::default() }
    }

    /// Chooses the version in which all plugins of a list are spoken to: the newest that the list names and all plugins
    /// speak. A list that names none of theirs may still be of a version that is compatible with one of theirs.
    ///
    /// # Errors
    /// A plugin that is missing or does not answer, [`CniError::NoCommonVersion`].
    pub async fn negotiate(&self, list: &NetworkList) -> Result<SpecVersion, CniError> {
        let mut common: BTreeSet<SpecVersion> = SpecVersion::ALL.into();
        let mut spoken = Vec::new();
        for plugin in &list.plugins {
            let versions = self.versions(list, plugin.plugin_type()).await?;
            spoken.push(format!("{} {}", plugin.plugin_type(), versions_text(&versions)));
            common.retain(|version| versions.contains(version));
        }
        let named = common.iter().rev().find(|version| list.versions.contains(version));
        let compatible =
            || common.iter().rev().find(|own| list.versions.iter().any(|other| other.is_compatible(**own)));
        named.or_else(compatible).copied().ok_or_else(|| CniError::NoCommonVersion {
            network: list.name.clone(),
            written: list.versions.clone(),
            spoken: spoken.join(", "),
        })
    }

    /// Refuses what is asked for and no plugin of the list can do.
    ///
    /// # Errors
    /// [`CniError::NoCapability`], and values that must not reach a plugin.
    pub fn check_target(&self, list: &NetworkList, target: &Target) -> Result<(), CniError> {
        super::list::check_network_name(&target.container_id).map_err(CniError::Value)?;
        if let Err(error) = target.ifname.parse::<crate::spec::InterfaceName>() {
            return Err(CniError::Value(error.to_string()));
        }
        if target.args.chars().any(char::is_control) || target.netns.chars().any(char::is_control) {
            return Err(CniError::Value("control characters in CNI_ARGS or CNI_NETNS".to_owned()));
        }
        let is_pair = |part: &str| part.split_once('=').is_some_and(|(key, _)| is_key(key));
        if let Some(part) = target.args.split(';').find(|part| !is_pair(part)).filter(|_| !target.args.is_empty()) {
            let part = part.escape_debug();
            return Err(CniError::Value(format!("`{part}` in CNI_ARGS is not KEY=VALUE; pairs have `;` between them")));
        }
        let declared = list.capabilities();
        let missing: Vec<String> = target
            .runtime
            .members()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !declared.contains(name.as_str()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let wanted: Vec<&str> = missing.iter().map(|name| in_users_words(name)).collect();
        Err(CniError::NoCapability { network: list.name.clone(), wanted: wanted.join(", "), capabilities: missing })
    }

    /// Attaches: ADD of each plugin in order. `note` hears who works and what came of it, to be written down.
    ///
    /// # Errors
    /// The first; whoever calls this calls [`del`](Self::del) then.
    pub async fn add(
        &self,
        list: &NetworkList,
        version: SpecVersion,
        target: &Target,
        mut note: impl FnMut(Note<'_>) -> Result<(), CniError> + Send,
    ) -> Result<AttachResult, CniError> {
        let mut previous: Option<AttachResult> = None;
        for plugin in &list.plugins {
            let call = Call { list, plugin, operation: Operation::Add, version, target };
            let request = Request { previous: previous.as_ref(), valid: None };
            let ended = self.call(&call, request, |pid| note(Note::Began(pid))).await?;
            let result = parse_result(&call, &ended)?;
            note(Note::Made(&result))?;
            previous = Some(result);
        }
        previous.ok_or_else(|| CniError::NoPlugins(list.name.clone()))
    }

    /// Detaches: DEL of each plugin in reverse order. One that fails does not keep the others from it. `note` hears who works.
    ///
    /// # Errors
    /// All; it is to be called again then.
    pub async fn del(
        &self,
        list: &NetworkList,
        version: SpecVersion,
        target: &Target,
        result: Option<&AttachResult>,
        mut note: impl FnMut(Note<'_>) -> Result<(), CniError> + Send,
    ) -> Result<(), CniError> {
        let previous = result.filter(|_| version.has_check());
        let mut errors = Vec::new();
        for plugin in list.plugins.iter().rev() {
            let known = result.filter(|_| reads_the_interface(plugin));
            let is_whole = known.is_none_or(|result| is_whole(&target.netns, &target.ifname, result));
            if is_whole || !target.netns.is_empty() {
                let call = Call { list, plugin, operation: Operation::Del, version, target };
                errors.extend(self.del_one(&call, previous, &mut note).await.err());
            }
            if let Some(result) = known.filter(|_| !is_whole) {
                let stand_in = StandIn::make(&target.ifname, result);
                if let Err(error) = &stand_in {
                    tracing::warn!(network = %list.name, %error, "rules of masquerading may stay");
                }
                let netns = stand_in.as_ref().map(StandIn::path).unwrap_or_default();
                let target = &Target { netns, ..target.clone() };
                let call = Call { list, plugin, operation: Operation::Del, version, target };
                errors.extend(self.del_one(&call, previous, &mut note).await.err());
            }
        }
        CniError::all(errors)
    }

    async fn del_one(
        &self,
        call: &Call<'_>,
        previous: Option<&AttachResult>,
        note: &mut (impl FnMut(Note<'_>) -> Result<(), CniError> + Send),
    ) -> Result<(), CniError> {
        match self.call(call, Request { previous, valid: None }, |pid| note(Note::Began(pid))).await {
            // There is no such container: nothing is left to do.
            Err(error) if error.code() == Some(code::UNKNOWN_CONTAINER) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Asks each plugin whether the attachment is as it was made; `false` where the list forbids to ask.
    ///
    /// # Errors
    /// The first, and [`CniError::NoOperation`] before 0.4.0.
    pub async fn check(
        &self,
        list: &NetworkList,
        version: SpecVersion,
        target: &Target,
        result: &AttachResult,
    ) -> Result<bool, CniError> {
        if list.disable_check {
            return Ok(false);
        }
        let operation = Operation::Check;
        if !version.has_check() {
            return Err(CniError::NoOperation { operation, network: list.name.clone(), version });
        }
        for plugin in &list.plugins {
            let request = Request { previous: Some(result), valid: None };
            self.call(&Call { list, plugin, operation, version, target }, request, |_| Ok(())).await?;
        }
        Ok(true)
    }

    /// Tells each plugin that knows GC which attachments are valid; whatever else it has of the network, it removes.
    /// Returns the plugins that were asked.
    ///
    /// # Errors
    /// All.
    pub async fn gc(&self, list: &NetworkList, valid: &[ValidAttachment]) -> Result<Vec<String>, CniError> {
        if list.disable_gc {
            return Ok(Vec::new());
        }
        self.ask_all(list, Operation::Gc, Some(json!(valid))).await
    }

    /// Asks each plugin that knows STATUS whether it can serve. Returns the plugins that were asked.
    ///
    /// # Errors
    /// All.
    pub async fn status(&self, list: &NetworkList) -> Result<Vec<String>, CniError> {
        self.ask_all(list, Operation::Status, None).await
    }

    /// Returns the versions a plugin speaks, oldest first.
    ///
    /// # Errors
    /// It is missing, or does not answer.
    pub async fn versions(&self, list: &NetworkList, plugin_type: &str) -> Result<Vec<SpecVersion>, CniError> {
        let file = self.find(list, plugin_type)?;
        let state = file_state(&file);
        let known = self.spoken.lock().unwrap_or_else(PoisonError::into_inner).get(&file).cloned();
        if let (Some((then, versions)), Some(now)) = (known, state)
            && then == now
        {
            return Ok(versions);
        }
        let parameters = self.parameters(Operation::Version, &Target::default());
        let input = json!({ "cniVersion": SpecVersion::V1_1_0 }).to_string();
        let about = About { plugin: plugin_type, operation: Operation::Version, network: &list.name };
        let ended = self.run(&file, &parameters, &input, &about, |_| Ok(())).await?;
        let versions = match ended.code {
            Some(0) => match serde_json::from_slice::<VersionObject>(&ended.stdout) {
                Ok(answer) => answer.known(),
                Err(error) => {
                    return Err(about.broken(format!("its answer is no version object: {error}"), &ended.stderr));
                }
            },
            // Before 0.2.0 there was no VERSION.
            _ => match serde_json::from_slice::<ErrorObject>(&ended.stdout) {
                Ok(object) if object.msg.contains("CNI_COMMAND") => vec![SpecVersion::V0_1_0],
                _ => return Err(about.refused(&ended)),
            },
        };
        if let Some(state) = state {
            self.spoken.lock().unwrap_or_else(PoisonError::into_inner).insert(file, (state, versions.clone()));
        }
        Ok(versions)
    }

    /// GC and STATUS: of plugins that speak 1.1.0, whatever the others do.
    async fn ask_all(
        &self,
        list: &NetworkList,
        operation: Operation,
        valid: Option<Value>,
    ) -> Result<Vec<String>, CniError> {
        let version = SpecVersion::V1_1_0;
        let target = Target::default();
        let is_allowed = list.versions.iter().any(|own| own.is_compatible(version));
        let (mut asked, mut errors) = (Vec::new(), Vec::new());
        for plugin in &list.plugins {
            match self.versions(list, plugin.plugin_type()).await {
                Ok(versions) if is_allowed && versions.contains(&version) => {
                    let call = Call { list, plugin, operation, version, target: &target };
                    let request = Request { previous: None, valid: valid.clone() };
                    errors.extend(self.call(&call, request, |_| Ok(())).await.err());
                    asked.push(plugin.plugin_type().to_owned());
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        CniError::all(errors).map(|()| asked)
    }

    async fn call(
        &self,
        call: &Call<'_>,
        request: Request<'_>,
        begun: impl FnOnce(i32) -> Result<(), CniError>,
    ) -> Result<Ended, CniError> {
        let plugin = call.plugin;
        let file = self.find(call.list, plugin.plugin_type())?;
        let additions = Additions {
            runtime: call.target.runtime.for_plugin(&plugin.capabilities()),
            previous: request.previous.filter(|_| call.version.has_chains()),
            valid_attachments: request.valid,
        };
        let input = plugin.request(call.version, &call.list.name, additions).to_string();
        let about = call.about();
        let ended = self.run(&file, &self.parameters(call.operation, call.target), &input, &about, begun).await?;
        tracing::debug!(plugin = about.plugin, operation = %about.operation, network = about.network, how = %ended.how, "a CNI plugin ended");
        if ended.code == Some(0) { Ok(ended) } else { Err(about.refused(&ended)) }
    }

    async fn run(
        &self,
        file: &Path,
        parameters: &Parameters,
        input: &str,
        about: &About<'_>,
        begun: impl FnOnce(i32) -> Result<(), CniError>,
    ) -> Result<Ended, CniError> {
        exec::run(file, parameters, input.as_bytes(), self.limit, begun).await.map_err(|failed| match failed {
            Failed::NotNoted(error) => error,
            Failed::Start(source) => CniError::Start { path: file.to_owned(), source },
            Failed::TooMuch { stderr } => about.broken("it printed more than 1 MiB and was killed".to_owned(), &stderr),
            Failed::TimedOut { stderr } => CniError::TimedOut {
                plugin: about.plugin.to_owned(),
                operation: about.operation,
                network: about.network.to_owned(),
                limit: self.limit,
                stderr,
            },
        })
    }

    fn find(&self, list: &NetworkList, plugin_type: &str) -> Result<PathBuf, CniError> {
        find_plugin(plugin_type, &self.directories).ok_or_else(|| CniError::NoPlugin {
            network: list.name.clone(),
            plugin: plugin_type.to_owned(),
            directories: self.directories.clone(),
        })
    }

    fn parameters(&self, operation: Operation, target: &Target) -> Parameters {
        let path: Vec<_> = self.directories.iter().map(|directory| directory.to_string_lossy()).collect();
        Parameters {
            operation,
            container_id: target.container_id.clone(),
            netns: target.netns.clone(),
            ifname: target.ifname.clone(),
            args: target.args.clone(),
            path: path.join(":"),
        }
    }
}

/// Is what happens while plugins work, for whoever keeps a record.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// A plugin has been started, with this process id, and has not been told anything yet.
    Began(i32),
    /// A plugin has ended well; this is the attachment so far.
    Made(&'a AttachResult),
}

/// Is what one invocation has beside the configuration.
struct Request<'a> {
    previous: Option<&'a AttachResult>,
    valid: Option<Value>,
}

/// Is one invocation of a plugin of a list.
struct Call<'a> {
    list: &'a NetworkList,
    plugin: &'a PluginConfig,
    operation: Operation,
    version: SpecVersion,
    target: &'a Target,
}

impl Call<'_> {
    fn about(&self) -> About<'_> {
        About { plugin: self.plugin.plugin_type(), operation: self.operation, network: &self.list.name }
    }
}

/// Names what an error is about.
struct About<'a> {
    plugin: &'a str,
    operation: Operation,
    network: &'a str,
}

impl About<'_> {
    /// Makes the error of a plugin that ended in failure: with the object that it owes, or without.
    fn refused(&self, ended: &Ended) -> CniError {
        match serde_json::from_slice::<ErrorObject>(&ended.stdout) {
            Ok(object) => CniError::Plugin {
                plugin: self.plugin.to_owned(),
                operation: self.operation,
                network: self.network.to_owned(),
                object: Box::new(object),
                stderr: ended.stderr.clone(),
            },
            Err(_) => self.broken(format!("it ended with {} and without an error object", ended.how), &ended.stderr),
        }
    }

    fn broken(&self, reason: String, stderr: &str) -> CniError {
        CniError::Broken {
            plugin: self.plugin.to_owned(),
            operation: self.operation,
            network: self.network.to_owned(),
            reason,
            stderr: stderr.to_owned(),
        }
    }
}

fn parse_result(call: &Call<'_>, ended: &Ended) -> Result<AttachResult, CniError> {
    let about = call.about();
    let value: Value = serde_json::from_slice(&ended.stdout)
        .map_err(|error| about.broken(format!("it ended well and printed no JSON: {error}"), &ended.stderr))?;
    AttachResult::from_json(value, call.version).map_err(|source| CniError::Answer {
        plugin: about.plugin.to_owned(),
        operation: about.operation,
        network: about.network.to_owned(),
        source,
    })
}

/// A key of CNI_ARGS is a word (SPEC.md section 2: "alphanumeric"; those in use have `_`, too).
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Says what a user wrote to have this capability asked for.
fn in_users_words(capability: &str) -> &str {
    match capability {
        "portMappings" => "`ports` were",
        "ips" => "`ipv4_address` or `ipv6_address` was",
        "mac" => "`mac_address` was",
        other => other,
    }
}

fn file_state(path: &Path) -> Option<FileState> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
