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
    let Some(plan) = plan(request, capabilities)? else { return Ok(None) };
    let key = plan.fingerprint();
    // A poisoned lock guards a map that is whole: entries are only ever added.
    if let Some(filter) = COMPILED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Some(filter.clone()));
    }
    let filter = match dir.and_then(|dir| cache::read(dir, &key)) {
        Some(filter) => filter,
        None => {
            let filter = plan.compile()?;
            if let Some(dir) = dir {
                cache::write(dir, &key, &filter);
            }
            filter
        }
    };
    COMPILED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, filter.clone());
    Ok(Some(filter))
}

fn plan(request: &SeccompRequest, capabilities: CapabilitySet) -> Result<Option<Plan>, SeccompError> {
    let built_in = match request {
        SeccompRequest::Unconfined => return Ok(None),
        SeccompRequest::File(path) => return json::plan(path, capabilities).map(Some),
        SeccompRequest::Default => BuiltIn::Docker,
        SeccompRequest::AncestorDefault => BuiltIn::Ancestor { socket: false },
        SeccompRequest::Ancestor => BuiltIn::Ancestor { socket: true },
    };
    Plan::built_in(built_in, capabilities).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_compile() {
        for request in [SeccompRequest::Default, SeccompRequest::AncestorDefault, SeccompRequest::Ancestor] {
            for capabilities in [CapabilitySet::EMPTY, CapabilitySet::docker(), CapabilitySet::all()] {
                let plan = plan(&request, capabilities).unwrap().unwrap();
                let before = std::time::Instant::now();
                let key = plan.fingerprint();
                let named = before.elapsed();
                let filter = plan.compile().unwrap();
                println!("{request:?}: {filter:?} in {:?}, fingerprint {named:?} {key}", before.elapsed());
            }
        }
    }
}
