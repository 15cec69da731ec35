//! What the options of `compose` and the environment name: a project's file, or only its name.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use super::args::{AnsiMode, ComposeArgs, ProgressMode, ProjectArgs, UsageError};
use super::connect::Connector;
use super::host;
use super::progress::ProgressScreen;
use super::report::{CliError, say, warn};
use super::settings::Settings;
use super::style::Palette;
use crate::compose::model::Project;
use crate::compose::risks::{Host, Judgement};
use crate::compose::{self, Config, Diagnostic, LoadErrors, LoadRequest, Severity, Skip, Variable};

/// A compose file is not bigger than this; what comes after it on standard input is not read.
const MAX_STDIN: u64 = 64 << 20;

/// Is what every command of `compose` works with.
#[derive(Debug)]
pub struct ComposeContext<'a> {
    /// Directories and the like.
    pub settings: &'a Settings,
    /// For standard error.
    pub palette: Palette,
    /// `--ansi`.
    pub ansi: AnsiMode,
    progress: ProgressMode,
    request: LoadRequest,
}

/// What a command of `compose` returns.
pub type CommandResult = Result<ExitCode, CliError>;

impl<'a> ComposeContext<'a> {
    /// Takes the options of `compose` and the process's environment.
    ///
    /// # Errors
    /// [`CliError::Read`] for a working directory that is gone.
    pub fn new(args: &ComposeArgs, settings: &'a Settings, palette: Palette) -> Result<Self, CliError> {
        Ok(Self { ansi: args.ansi, progress: args.progress, ..Self::of(&args.project, settings, palette)? })
    }

    /// Takes a project's options alone.
    ///
    /// # Errors
    /// As [`ComposeContext::new`].
    pub fn of(args: &ProjectArgs, settings: &'a Settings, palette: Palette) -> Result<Self, CliError> {
        let working_dir =
            env::current_dir().map_err(|source| CliError::Read { file: "the working directory".into(), source })?;
        let request = LoadRequest {
            files: args.files.clone(),
            project_name: args.project_name.clone(),
            project_directory: args.project_directory.clone(),
            working_dir,
            // A variable that is no text cannot stand in a file that is.
            environment: env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            env_files: args.env_files.clone(),
            profiles: args.profiles.clone(),
            selected: Vec::new(),
            stdin: read_stdin(args)?,
            skip: Skip::default(),
        };
        Ok(Self { settings, palette, ansi: AnsiMode::default(), progress: ProgressMode::default(), request })
    }

    /// Loads the project; warnings are printed. `selected` are the services that the command line names.
    ///
    /// # Errors
    /// [`CliError::File`], and [`CliError::NoSuch`] for a service that the file does not have.
    pub fn load(&self, selected: &[String]) -> Result<Project, CliError> {
        let request = LoadRequest { selected: selected.to_vec(), ..self.request.clone() };
        let loaded = compose::load(&request).map_err(file_error)?;
        tell(&loaded.warnings);
        check_services(&loaded.project, selected)?;
        Ok(loaded.project)
    }

    /// Loads the project to be run here: what its services want of the host has to be there, and what they can do to it is told to
    /// `told`, which may refuse. `chosen` picks the services that are meant.
    ///
    /// # Errors
    /// As [`ComposeContext::load`], and those of `told`.
    pub fn load_to_run(
        &self,
        selected: &[String],
        known: &Host<'_>,
        chosen: impl FnOnce(&Project) -> BTreeSet<String>,
        told: impl FnOnce(Judgement, &BTreeSet<String>) -> Result<(), CliError>,
    ) -> Result<Project, CliError> {
        let request = LoadRequest { selected: selected.to_vec(), ..self.request.clone() };
        let (loaded, judgement) = compose::load_judged(&request, known).map_err(file_error)?;
        tell(&loaded.warnings);
        check_services(&loaded.project, selected)?;
        let meant = chosen(&loaded.project);
        told(judgement, &meant)?;
        let found = host::answer(loaded.wishes.iter().filter(|wish| meant.contains(&wish.service)));
        let (errors, warnings): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|finding| finding.severity == Severity::Error);
        if errors.is_empty() {
            tell(&warnings);
            return Ok(loaded.project);
        }
        Err(file_error(LoadErrors { errors, warnings }))
    }

    /// Says what the services can do to the host. Warnings are not printed: [`ComposeContext::config`] does that.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn judge(&self, selected: &[String], skip: Skip, host: &Host<'_>) -> Result<Judgement, CliError> {
        let request = LoadRequest { selected: selected.to_vec(), skip, ..self.request.clone() };
        compose::judge(&request, host).map(|(judgement, _)| judgement).map_err(file_error)
    }

    /// Loads the project to be printed: what mydocker cannot run is no error here.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn config(&self, selected: &[String], skip: Skip) -> Result<Config, CliError> {
        let request = LoadRequest { selected: selected.to_vec(), skip, ..self.request.clone() };
        let config = compose::config(&request).map_err(file_error)?;
        tell(&config.warnings);
        Ok(config)
    }

    /// Lists the variables that the files use.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn variables(&self) -> Result<BTreeMap<String, Variable>, CliError> {
        compose::variables(&self.request).map_err(file_error)
    }

    /// Returns the variables that the files may use, with their values.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn environment(&self) -> Result<BTreeMap<String, String>, CliError> {
        compose::environment(&self.request).map_err(file_error)
    }

    /// Finds the project's name. One that is given needs no file, where the file is not there.
    ///
    /// # Errors
    /// As [`ComposeContext::load`].
    pub fn name(&self, selected: &[String]) -> Result<String, CliError> {
        let given =
            self.request.project_name.clone().or_else(|| {
                self.request.environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned()
            });
        match (given, self.request.files.is_empty()) {
            (Some(name), true) if is_project_name(&name) => Ok(name),
            _ => Ok(self.load(selected)?.name),
        }
    }

    /// Makes what reaches a project's supervisor.
    pub fn connector(&self, project: &str) -> Connector {
        Connector::new(self.settings, project)
    }

    /// Makes what shows progress.
    pub fn screen(&self) -> ProgressScreen {
        ProgressScreen::new(self.progress, self.ansi, io::stderr().is_terminal(), self.palette)
    }

    /// Reads a variable of the caller's environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.request.environment.get(name).map(String::as_str)
    }

    /// Decides on colours of standard output.
    pub fn stdout_palette(&self) -> Palette {
        Palette::for_stream(&io::stdout(), self.ansi, |name| env::var_os(name))
    }

    /// Prints a warning.
    pub fn warn(&self, message: &str) {
        warn(message, self.palette);
    }
}

fn tell(warnings: &[Diagnostic]) {
    for warning in warnings {
        say(&warning.render());
    }
}

/// Warnings help to understand errors: they come first.
fn file_error(errors: LoadErrors) -> CliError {
    tell(&errors.warnings);
    CliError::File { text: errors.to_string() }
}

fn read_stdin(args: &ProjectArgs) -> Result<Option<Vec<u8>>, CliError> {
    let is_asked_for = match args.files.as_slice() {
        [] => env::var("COMPOSE_FILE").is_ok_and(|files| files == "-"),
        files => files.iter().any(|file| file.as_os_str() == "-"),
    };
    if !is_asked_for {
        return Ok(None);
    }
    let mut text = Vec::new();
    let read = io::stdin().lock().take(MAX_STDIN).read_to_end(&mut text);
    read.map_err(|source| CliError::Read { file: "standard input".into(), source })?;
    Ok(Some(text))
}

/// Refuses services that the file does not have, with the nearest that it has.
fn check_services(project: &Project, selected: &[String]) -> Result<(), CliError> {
    let known = || project.services.keys().chain(project.inactive.keys()).map(String::as_str);
    match selected.iter().find(|name| !known().any(|service| service == *name)) {
        None => Ok(()),
        Some(name) => Err(no_such_service(name, known()).into()),
    }
}

/// Makes the error for a service that is not there.
pub fn no_such_service<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> UsageError {
    let mut known: Vec<&str> = known.collect();
    known.sort_by_key(|service| (strsim::damerau_levenshtein(name, service), *service));
    known.dedup();
    let hint = match known.first() {
        None => "there are no services".into(),
        Some(near) if strsim::damerau_levenshtein(name, near) <= 2 => format!("did you mean `{near}`?"),
        Some(_) => {
            known.truncate(8);
            known.sort_unstable();
            format!("services are: {}", known.join(", "))
        }
    };
    UsageError::new(format!("no such service: `{}`", super::args::shown(name))).hint(hint)
}

fn is_project_name(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    name.bytes().all(sound) && name.bytes().next().is_some_and(|b| b != b'_' && b != b'-') && name.len() <= 200
}
