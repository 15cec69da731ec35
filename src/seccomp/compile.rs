//! From a request to a program, once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::plan::{BuiltIn, Plan};
use super::{CompiledFilter, SeccompError, cache, json};
use crate::spec::{CapabilitySet, SeccompRequest};

/// What this process has compiled, by fingerprint.
static COMPILED: LazyLock<Mutex<HashMap<String, CompiledFilter>>> = LazyLock::new(Mutex::default);

/// Compiles the filter that a request asks for; `None` is no filter.
///
/// The capabilities are those the container gets: they lift some of the refusals. The same filter is compiled once in a
/// process.
pub fn compile(request: &SeccompRequest, capabilities: &CapabilitySet) -> Result<Option<CompiledFilter>, SeccompError> {
    find(request, *capabilities, None)
}

/// Does what [`compile`] does and keeps the program in a directory for the processes that come later.
///
/// The directory is made, for us alone, where it is missing. A file is read only if it and the directory belong to us and
/// nobody else may write them; any doubt, and any failure of the cache, means compiling.
pub fn compile_cached(
    dir: &Path,
    request: &SeccompRequest,
    capabilities: &CapabilitySet,
) -> Result<Option<CompiledFilter>, SeccompError> {
    find(request, *capabilities, Some(dir))
}

fn find(
    request: &SeccompRequest,
    capabilities: CapabilitySet,
    dir: Option<&Path>,
) -> Result<Option<CompiledFilter>, SeccompError> {
    let built_in = match request {
        SeccompRequest::Unconfined => return Ok(None),
        SeccompRequest::File(path) => {
            let plan = json::plan(path, capabilities)?;
            let key = plan.fingerprint();
            return get(key, dir, || Ok(plan)).map(Some);
        }
        SeccompRequest::Default => BuiltIn::Docker,
        SeccompRequest::AncestorDefault => BuiltIn::Ancestor { socket: false },
        SeccompRequest::Ancestor => BuiltIn::Ancestor { socket: true },
    };
    get(name(built_in, capabilities), dir, || Plan::built_in(built_in, capabilities)).map(Some)
}

/// Returns the program of this key: from this process, else from the directory, else compiled.
pub(super) fn get(
    key: String,
    dir: Option<&Path>,
    plan: impl FnOnce() -> Result<Plan, SeccompError>,
) -> Result<CompiledFilter, SeccompError> {
    // A poisoned lock guards a map that is whole: entries are only ever added.
    if let Some(filter) = COMPILED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(filter.clone());
    }
    let filter = match dir.and_then(|dir| cache::read(dir, &key)) {
        Some(filter) => filter,
        None => {
            let filter = plan()?.compile()?;
            if let Some(dir) = dir {
                cache::write(dir, &key, &filter);
            }
            filter
        }
    };
    COMPILED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, filter.clone());
    Ok(filter)
}

/// Names a built-in profile and all that its program depends on: finding it takes no plan and no hash.
pub(super) fn name(which: BuiltIn, capabilities: CapabilitySet) -> String {
    let which = match which {
        BuiltIn::Docker => "docker",
        BuiltIn::Ancestor { socket: false } => "ancestor",
        BuiltIn::Ancestor { socket: true } => "ancestor-socket",
    };
    format!("{which}-{:x}-{}", capabilities.bits(), surroundings())
}

/// Names what a program depends on beside its profile: the machine, libseccomp, the running kernel and this code.
pub(super) fn surroundings() -> String {
    let arch = std::env::consts::ARCH;
    let library = match libseccomp::ScmpVersion::current() {
        Ok(version) => format!("{}.{}.{}", version.major, version.minor, version.micro),
        Err(_) => "0".to_owned(),
    };
    let kernel = rustix::system::uname().release().to_string_lossy().replace(|c: char| !c.is_ascii_graphic(), "_");
    format!("{arch}-{library}-{}-{WRITTEN:x}", kernel.replace('/', "_"))
}

/// A number that changes with the profiles and with what is made of them (FNV-1a over the source).
const WRITTEN: u64 = {
    let version = fnv(env!("CARGO_PKG_VERSION").as_bytes(), 0xcbf2_9ce4_8422_2325);
    let built_in = fnv(include_bytes!("profile.rs"), fnv(include_bytes!("plan.rs"), version));
    fnv(include_bytes!("json.rs"), fnv(include_bytes!("guard.rs"), built_in))
};

const fn fnv(bytes: &[u8], start: u64) -> u64 {
    let (mut hash, mut at) = (start, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}
