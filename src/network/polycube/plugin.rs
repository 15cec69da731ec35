//! The plugin from its environment and standard input to what it prints.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::PolycubeError;
use super::conf::Conf;
use super::configuration::state_directory;
use super::record::{NetworkState, Records};
use super::rest::Polycubed;
use super::{add, check, release};
use crate::network::cni::{ErrorObject, Operation, Parameters, PluginRequest, SpecVersion, VersionObject, code};

/// Lists the versions of the specification that the plugin speaks.
pub const VERSIONS: [SpecVersion; 2] = [SpecVersion::V1_0_0, SpecVersion::V1_1_0];
/// The longest configuration that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Is what the plugin has to print, and how it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Goes to standard output.
    pub stdout: String,
    /// Goes to standard error, a line each.
    pub warnings: Vec<String>,
    /// Whether the exit code is 0.
    pub is_success: bool,
}

/// Is one call with everything it needs.
pub(super) struct Session<'a> {
    pub(super) call: &'a Parameters,
    pub(super) request: &'a PluginRequest,
    pub(super) conf: Conf,
    pub(super) daemon: Polycubed,
    pub(super) records: Records,
    pub(super) run_dir: PathBuf,
    /// Whether polycubed answers; once it does not, it is not asked again.
    pub(super) is_reachable: bool,
    pub(super) warnings: Vec<String>,
}

/// Answers one call. `variable` reads the environment, `run_dir` is where records lie.
pub fn answer(variable: impl Fn(&str) -> Option<String>, stdin: &mut dyn Read, run_dir: &Path) -> Answer {
    let call = match Parameters::from_environment(variable) {
        Ok(call) => call,
        Err(error) => return failed(&error, Vec::new()),
    };
    let mut bytes = Vec::new();
    if let Err(error) = stdin.take(LONGEST).read_to_end(&mut bytes) {
        let object = ErrorObject::new(code::IO_FAILURE, "cannot read standard input").details(error.to_string());
        return failed(&object, Vec::new());
    }
    if call.operation == Operation::Version {
        return versions(&bytes);
    }
    let request = match PluginRequest::parse(&bytes, &VERSIONS) {
        Ok(request) => request,
        Err(error) => return failed(&error, Vec::new()),
    };
    let mut warnings = Vec::new();
    match operate(&call, &request, run_dir, &mut warnings) {
        Ok(text) => Answer { stdout: text, warnings, is_success: true },
        Err(error) => failed(&error.to_object().of(request.version), warnings),
    }
}

fn failed(error: &ErrorObject, warnings: Vec<String>) -> Answer {
    let stdout = serde_json::to_string_pretty(error).unwrap_or_default() + "\n";
    Answer { stdout, warnings, is_success: false }
}

/// Needs neither a whole configuration nor the daemon.
fn versions(bytes: &[u8]) -> Answer {
    let asked = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let asked = asked.get("cniVersion").and_then(Value::as_str).and_then(|text| text.parse::<SpecVersion>().ok());
    let answer_in = asked.filter(|version| VERSIONS.contains(version)).unwrap_or(SpecVersion::V1_1_0);
    let object = VersionObject::of(answer_in.as_str(), &VERSIONS);
    let stdout = serde_json::to_string_pretty(&object).unwrap_or_default() + "\n";
    Answer { stdout, warnings: Vec::new(), is_success: true }
}

fn operate(
    call: &Parameters,
    request: &PluginRequest,
    run_dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<String, PolycubeError> {
    let conf = Conf::check(request)?;
    let run_dir = state_directory(&request.config).unwrap_or_else(|| run_dir.to_owned());
    let mut session = Session {
        call,
        request,
        daemon: Polycubed::new(&conf.url, conf.limit)?,
        conf,
        records: Records::below(&run_dir),
        run_dir,
        is_reachable: true,
        warnings: Vec::new(),
    };
    let done = match call.operation {
        Operation::Add => add::add(&mut session).map(|result| result.to_json(request.version).to_string() + "\n"),
        Operation::Del => release::del(&mut session).map(|()| String::new()),
        Operation::Gc => release::gc(&mut session).map(|()| String::new()),
        Operation::Check => check::check(&session).map(|()| String::new()),
        Operation::Status => check::status(&session).map(|()| String::new()),
        Operation::Version => Ok(String::new()),
    };
    warnings.append(&mut session.warnings);
    done
}

impl Session<'_> {
    /// Reads the network's record.
    pub(super) fn load(&self) -> Result<NetworkState, PolycubeError> {
        self.records.load(&self.conf.hash, &self.conf.network)
    }

    /// Writes the network's record.
    pub(super) fn save(&self, state: &NetworkState) -> Result<(), PolycubeError> {
        self.records.save(&self.conf.hash, state)
    }

    /// Returns the call as another operation, and for another attachment.
    pub(super) fn call_as(&self, operation: Operation, container: &str, ifname: &str) -> Parameters {
        let same = container == self.call.container_id && ifname == self.call.ifname;
        Parameters {
            operation,
            container_id: container.to_owned(),
            ifname: ifname.to_owned(),
            netns: if same { self.call.netns.clone() } else { String::new() },
            ..self.call.clone()
        }
    }
}
