//! The two ways in: [`load`] for what is to be run, [`config`] for what is to be printed.

use std::collections::BTreeMap;

use super::check::check;
use super::diagnostic::{Diagnostic, Finding};
use super::interpolate::{self, Variable};
use super::load::{LoadRequest, Loader, Merged, Skip, merged};
use super::model::Project;
use super::normalize::normalize;
use super::render::{self, Document};
use super::risks::{Host, Judgement, risks_of};
use super::wishes::{HostWish, wishes};

/// Is a loaded project and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What is not as it seems.
    pub warnings: Vec<Diagnostic>,
    /// What is to be asked of the host before the project is run on it.
    pub wishes: Vec<HostWish>,
}

/// Is what `config` prints and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The whole project in its canonical form.
    pub document: Document,
    /// One of the files says `x-mydocker: {policy: strict}`.
    pub is_strict: bool,
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
    load_and(request, |_, _| ()).map(|(loaded, ())| loaded)
}

/// Loads a project as [`load`] does, and says what its services can do to the host.
///
/// # Errors
/// [`LoadErrors`] as [`load`].
pub fn load_judged(request: &LoadRequest, host: &Host<'_>) -> Result<(Loaded, Judgement), LoadErrors> {
    load_and(request, |merged, loader| judgement(merged, loader, host))
}

fn load_and<T>(request: &LoadRequest, look: impl FnOnce(&Merged, &Loader) -> T) -> Result<(Loaded, T), LoadErrors> {
    let mut loader = Loader::new(request);
    let (merged, inactive) = meaning(request, &mut loader)?;
    let repeated = std::mem::take(&mut loader.repeated);
    repeated.into_iter().for_each(|finding| loader.report.push(finding));
    let project = super::build::project(&merged, inactive, &mut loader);
    let wishes = wishes(&merged.tree, &project, &loader.sources);
    let seen = look(&merged, &loader);
    let warnings = finish(loader)?;
    Ok((Loaded { project, warnings, wishes }, seen))
}

/// Says what the services of a project can do to the host; anything that the compose-spec knows is taken. The warnings are those of
/// [`config`].
///
/// # Errors
/// [`LoadErrors`] for files that [`config`] refuses, too.
pub fn judge(request: &LoadRequest, host: &Host<'_>) -> Result<(Judgement, Vec<Diagnostic>), LoadErrors> {
    let mut loader = Loader::new(request);
    let (merged, _) = meaning(request, &mut loader)?;
    let judgement = judgement(&merged, &loader, host);
    Ok((judgement, finish(loader)?))
}

fn judgement(merged: &Merged, loader: &Loader, host: &Host<'_>) -> Judgement {
    Judgement { risks: risks_of(merged, &loader.sources, host), is_strict: loader.strict.is_some() }
}

/// Loads a project to print it: anything that the compose-spec knows is taken.
pub fn config(request: &LoadRequest) -> Result<Config, LoadErrors> {
    let mut loader = Loader::new(request);
    let (merged, _) = meaning(request, &mut loader)?;
    let document = render::document(&merged);
    let is_strict = loader.strict.is_some();
    let warnings = finish(loader)?;
    Ok(Config { document, is_strict, warnings })
}

/// Lists the variables that the files of a project use, by name.
///
/// # Errors
/// [`LoadErrors`] for files that cannot be read.
pub fn variables(request: &LoadRequest) -> Result<BTreeMap<String, Variable>, LoadErrors> {
    let mut found = BTreeMap::new();
    interpolate::variables_in(&as_written(request)?.tree, &mut found);
    Ok(found)
}

/// Returns the variables that the files of a project may use, with their values: the caller's environment and below it what
/// `.env` files say.
///
/// # Errors
/// [`LoadErrors`] for files that cannot be read.
pub fn environment(request: &LoadRequest) -> Result<BTreeMap<String, String>, LoadErrors> {
    Ok(as_written(request)?.environment)
}

/// Joins the files and gives them no meaning.
fn as_written(request: &LoadRequest) -> Result<Merged, LoadErrors> {
    let skip = Skip { interpolation: true, paths: true, normalization: true, consistency: true };
    let request = LoadRequest { skip, profiles: vec!["*".to_owned()], ..request.clone() };
    let mut loader = Loader::new(&request);
    let (merged, _) = meaning(&request, &mut loader)?;
    finish(loader)?;
    Ok(merged)
}

/// The phases that both ways share.
fn meaning(request: &LoadRequest, loader: &mut Loader) -> Result<(Merged, BTreeMap<String, Vec<String>>), LoadErrors> {
    let mut merged = merged(request, loader);
    loader.keep_strict(&mut merged.tree);
    if loader.broken {
        // What the rest means together nobody can say; the faults found so far are all there is to tell.
        let mut loader = std::mem::replace(loader, Loader::new(request));
        if !loader.report.has_errors() {
            loader.report.push(Finding::error("the compose files cannot be read"));
        }
        return finish(loader).map(|_| (merged, BTreeMap::new()));
    }
    let inactive = normalize(&mut merged, request, loader);
    if !request.skip.consistency {
        check(&merged.tree, &inactive, &mut loader.report);
    }
    Ok((merged, inactive))
}

fn finish(loader: Loader) -> Result<Vec<Diagnostic>, LoadErrors> {
    let (errors, warnings) = loader.report.finish(&loader.sources);
    if errors.is_empty() { Ok(warnings) } else { Err(LoadErrors { errors, warnings }) }
}
