//! The two ways in: [`load`] for what is to be run, [`config`] for what is to be printed.

use std::collections::BTreeMap;

use super::check::check;
use super::diagnostic::{Diagnostic, Finding};
use super::load::{LoadRequest, Loader, Merged, merged};
use super::model::Project;
use super::normalize::normalize;
use super::render::{self, Document};

/// Is a loaded project and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What is not as it seems.
    pub warnings: Vec<Diagnostic>,
}

/// Is what `config` prints and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The whole project in its canonical form.
    pub document: Document,
    /// What is not as it seems.
    pub warnings: Vec<Diagnostic>,
}

/// Holds everything that is wrong with the files of one load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", render_all(.errors))]
pub struct LoadErrors {
    /// The errors, in the order of the files; never empty.
    pub errors: Vec<Diagnostic>,
    /// The warnings.
    pub warnings: Vec<Diagnostic>,
}

fn render_all(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::render).collect::<Vec<_>>().join("\n")
}

/// Loads a project that mydocker can run: what it cannot do is an error or a warning.
pub fn load(request: &LoadRequest) -> Result<Loaded, LoadErrors> {
    let mut loader = Loader::new(request);
    let (merged, inactive) = meaning(request, &mut loader)?;
    let project = super::build::project(&merged, inactive, &mut loader);
    let warnings = finish(loader)?;
    Ok(Loaded { project, warnings })
}

/// Loads a project to print it: anything that the compose-spec knows is taken.
pub fn config(request: &LoadRequest) -> Result<Config, LoadErrors> {
    let mut loader = Loader::new(request);
    let (merged, _) = meaning(request, &mut loader)?;
    let document = render::document(&merged);
    let warnings = finish(loader)?;
    Ok(Config { document, warnings })
}

/// The phases that both ways share.
fn meaning(request: &LoadRequest, loader: &mut Loader) -> Result<(Merged, BTreeMap<String, Vec<String>>), LoadErrors> {
    let mut merged = merged(request, loader);
    if loader.broken {
        // What the rest means together nobody can say; the faults found so far are all there is to tell.
        let mut loader = std::mem::replace(loader, Loader::new(request));
        if !loader.report.has_errors() {
            loader.report.push(Finding::error("the compose files cannot be read"));
        }
        return finish(loader).map(|_| (merged, BTreeMap::new()));
    }
    let inactive = normalize(&mut merged, request, loader);
    check(&merged.tree, &inactive, &mut loader.report);
    Ok((merged, inactive))
}

fn finish(loader: Loader) -> Result<Vec<Diagnostic>, LoadErrors> {
    let (errors, warnings) = loader.report.finish(&loader.sources);
    if errors.is_empty() { Ok(warnings) } else { Err(LoadErrors { errors, warnings }) }
}
