//! Hooks that the runtime itself runs: programs of the host's, told of a container by its state on their standard input.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{Hook, Spec};

use super::hook_guard::{self, HookEnd, Job};
use super::{OciError, StateReport};
use crate::container::Role;
use crate::engine::foreground::MainSignals;
use crate::spec::{Mark, Stopwatch};

/// Annotations that name files to which the output of hooks is added, as in crun.
const OUTPUT: [&str; 2] = ["run.oci.hooks.stdout", "run.oci.hooks.stderr"];

/// Opens the files that get the output of the hooks that the new process runs itself, with what it knows them by.
pub(super) fn own_outputs(spec: &Spec) -> Result<Vec<(Role, File)>, OciError> {
    let own = spec.hooks().iter().flat_map(|hooks| [hooks.create_container(), hooks.start_container()]).flatten();
    if own.flatten().next().is_none() {
        return Ok(Vec::new());
    }
    let notes = spec.annotations().clone().unwrap_or_default();
    let named = OUTPUT.into_iter().zip([Role::HookStdout, Role::HookStderr]);
    let named = named.filter_map(|(name, role)| Some((name, role, notes.get(name)?)));
    let open = |(name, role, path): (&'static str, Role, &String)| {
        let failed =
            |error: io::Error| OciError::Config { key: name.to_owned(), reason: format!("open {path}: {error}") };
        open_output(path).map(|file| (role, file)).map_err(failed)
    };
    named.map(open).collect()
}

/// Says what hooks are noted in: they count from `first`.
#[derive(Clone, Copy)]
pub(super) struct HookTimes<'a> {
    pub(super) watch: &'a Stopwatch,
    pub(super) mark: fn(usize) -> Mark,
    pub(super) first: usize,
}

/// Runs hooks one after the other, in `directory`, and stops at the first that fails.
///
/// # Errors
/// [`OciError::Hook`]: it cannot be executed, ends with another status than 0, or takes longer than its timeout; whatever it
/// started is killed then. [`OciError::Interrupted`] where `signals` bring one that wants an end: as with the timeout.
pub(super) fn run_all(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    directory: &Path,
    state: &StateReport,
    HookTimes { watch, mark, first }: HookTimes<'_>,
    signals: Option<&MainSignals>,
) -> Result<(), OciError> {
    let mut numbered = hooks.into_iter().flatten().zip(first..);
    numbered.try_for_each(|(hook, number)| watch.time(mark(number), || run(kind, hook, directory, state, signals)))
}

/// Runs one hook.
pub(super) fn run(
    kind: &'static str,
    hook: &Hook,
    directory: &Path,
    state: &StateReport,
    signals: Option<&MainSignals>,
) -> Result<(), OciError> {
    let failed =
        |outcome: String, details: String| OciError::Hook { kind, path: hook.path().clone(), outcome, details };
    let unable = |operation: &'static str| {
        move |source| failed("failed".to_owned(), format!(": {}", OciError::kernel(operation)(source).line()))
    };
    let input = serde_json::to_vec(state).map_err(|error| unable("write the state for it")(error.into()))?;
    let [stdout, stderr] = OUTPUT.map(|name| state.annotations.get(name).map(open_output).transpose());
    let outputs = [stdout.map_err(unable(OUTPUT[0]))?, stderr.map_err(unable(OUTPUT[1]))?];
    let patience = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let job = Job { hook, directory, input: &input, patience, outputs: &outputs };
    let outcome = match hook_guard::run(&job, signals).map_err(unable("watch over it"))? {
        HookEnd::Exited { code: 0, .. } => return Ok(()),
        HookEnd::Interrupted => return Err(OciError::Interrupted),
        HookEnd::NotExecuted { errno } => return Err(unable("execute it")(io::Error::from_raw_os_error(errno))),
        HookEnd::Lost { errno } => return Err(unable("wait for it")(io::Error::from_raw_os_error(errno))),
        HookEnd::Exited { code, said } => (format!("failed with exit code {code}"), said),
        HookEnd::Killed { signal, said } => (format!("was ended by signal {signal}"), said),
        HookEnd::TimedOut { said } => {
            let seconds = patience.unwrap_or_default().as_secs();
            (format!("took longer than its timeout of {seconds} s and was killed"), said)
        }
    };
    let (outcome, said) = outcome;
    let said = said.trim();
    Err(failed(outcome, if said.is_empty() { String::new() } else { format!(", saying: {said}") }))
}

/// What a hook says is added to a file: it keeps what hooks before it said.
fn open_output(path: &String) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
