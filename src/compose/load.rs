//! The phases from files to one tree: parse, interpolate, hold to the schema, resolve paths, extends, include, merge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::{Finding, Report};
use super::interpolate::{Interpolator, MAX_TEXT};
use super::key_path::KeyPath;
use super::paths::Paths;
use super::schema::{Conform, ROOT};
use super::source::{self, FileId, SourceError, Sources, Span};
use super::yaml::{self, Entry, Map, Node, NodeTag, Value};
use super::{dotenv, files, merge};

/// Says what to load.
#[derive(Clone, Debug, Default)]
pub struct LoadRequest {
    /// The files of `-f`, in merge order; `-` is standard input. Empty: `COMPOSE_FILE`, else the default names, upwards.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// The caller's working directory, absolute.
    pub working_dir: PathBuf,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
    /// `--env-file`; empty: `COMPOSE_ENV_FILES`, else `.env` in the project directory.
    pub env_files: Vec<PathBuf>,
    /// `--profile`; those of `COMPOSE_PROFILES` come on top.
    pub profiles: Vec<String>,
    /// Services named on the command line: their profiles are active.
    pub selected: Vec<String>,
    /// What standard input holds, for `-f -`.
    pub stdin: Option<Vec<u8>>,
    /// Phases that are left out.
    pub skip: Skip,
}

/// Names phases that a load leaves out, so that `config` shows what a file says before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// Variables stay as they are written, and so do values that have one in them.
    pub interpolation: bool,
    /// Relative paths stay relative.
    pub paths: bool,
    /// Nothing is filled in: no default network, no names, no variables of `env_file`.
    pub normalization: bool,
    /// What does not fit together is not looked for.
    pub consistency: bool,
}

/// A file counts for as many values as this, however small it is.
const FILE_COST: usize = 250;

/// The state of one load.
pub(super) struct Loader {
    /// Every file that was read.
    pub(super) sources: Sources,
    /// What was found.
    pub(super) report: Report,
    /// Variables that were used and not set, with their first place.
    pub(super) unset: BTreeMap<String, Span>,
    /// A file could not be read or parsed: nothing can be said about what the others mean together.
    pub(super) broken: bool,
    /// Where a file says `x-mydocker: {policy: strict}`.
    pub(super) strict: Option<Span>,
    working_dir: PathBuf,
    stdin: Option<Vec<u8>>,
    skip: Skip,
    /// Files that `extends` read, ready for use.
    pub(super) extended: BTreeMap<PathBuf, Option<Rc<Node>>>,
    /// Values read and copied so far, over all files.
    nodes: usize,
    /// Bytes of text, likewise.
    text: usize,
    /// One of these is more than anybody needs, and it was said.
    is_too_much: bool,
    /// Mount targets that one file names twice in one service: the last would win, and nobody means that.
    pub(super) repeated: Vec<Finding>,
    /// Cycles of `extends` that were told, as sets of file and service.
    pub(super) cycles: BTreeSet<BTreeSet<(PathBuf, String)>>,
}

/// What a file is read with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// Its paths are relative to this directory.
    pub(super) dir: &'a Path,
    /// Its variables.
    pub(super) environment: &'a BTreeMap<String, String>,
}

impl Loader {
    /// Begins.
    pub(super) fn new(request: &LoadRequest) -> Self {
        Self {
            sources: Sources::default(),
            report: Report::default(),
            unset: BTreeMap::new(),
            broken: false,
            strict: None,
            working_dir: request.working_dir.clone(),
            stdin: request.stdin.clone(),
            skip: request.skip,
            extended: BTreeMap::new(),
            nodes: 0,
            text: 0,
            is_too_much: false,
            repeated: Vec::new(),
            cycles: BTreeSet::new(),
        }
    }

    /// Reads and parses a file; what is wrong is reported, with the place that asked for the file.
    pub(super) fn parse(&mut self, path: &Path, asked: Option<Span>) -> Vec<Node> {
        let shown = path.to_string_lossy();
        if let Some(at) = shown.find("://") {
            let from = shown[..at].rfind('/').map_or(0, |slash| slash + 1);
            let mut finding = Finding::error(format!("{}: remote files are not supported", &shown[from..]));
            if let Some(span) = asked {
                finding = finding.at(span);
            }
            self.report.push(finding.help("fetch it and name the copy"));
            self.broken = true;
            return Vec::new();
        }
        let Some((text, id)) = self.read(path, asked) else {
            self.broken = true;
            return Vec::new();
        };
        let before = self.report.has_errors();
        let documents = yaml::parse(&text, id, &mut self.report);
        if documents.is_empty() {
            let syntax_error = self.report.has_errors() && !before;
            self.broken |= syntax_error;
            if !syntax_error {
                self.report_empty(path);
            }
        } else if documents.iter().all(Node::is_null) {
            self.report_empty(path);
        }
        let sound = documents.iter().all(|node| self.afford(node, FILE_COST, asked));
        if sound { documents.into_iter().filter(|node| !node.is_null()).collect() } else { Vec::new() }
    }

    /// Counts a tree that is read or copied: files that include or extend a big one many times end here.
    pub(super) fn afford(&mut self, node: &Node, more: usize, asked: Option<Span>) -> bool {
        self.nodes += node.size() + more;
        self.text += node.text_bytes();
        let message = if self.nodes > yaml::MAX_NODES {
            format!("the files together stand for more than {} values", yaml::MAX_NODES)
        } else if self.text > MAX_TEXT {
            format!("the files together stand for more than {} MiB of text", MAX_TEXT >> 20)
        } else {
            return true;
        };
        if !self.is_too_much {
            self.report.push(Finding::error(message).at(asked.unwrap_or(node.span)));
        }
        (self.is_too_much, self.broken) = (true, true);
        false
    }

    fn report_empty(&mut self, path: &Path) {
        let shown = self.shown(path);
        let finding = Finding::error(format!("{shown}: empty compose file"));
        self.report
            .push(finding.help("the least there can be is `services: {web: {image: root_fs, command: \"true\"}}`"));
        self.broken = true;
    }

    fn read(&mut self, path: &Path, asked: Option<Span>) -> Option<(String, FileId)> {
        let shown = self.shown(path);
        let text = if path == Path::new("-") {
            match self.stdin.clone() {
                Some(bytes) => source::decode(Path::new(&shown), bytes),
                None => {
                    self.report.push(Finding::error("`-f -` asks for standard input, and there is none"));
                    return None;
                }
            }
        } else {
            source::read_text(path)
        };
        match text {
            Ok(text) => {
                let id = self.sources.add(shown, text.clone());
                Some((text, id))
            }
            Err(error) => {
                self.report_unreadable(&error, asked);
                None
            }
        }
    }

    /// Reports a file that cannot be read, at the place that asked for it.
    pub(super) fn report_unreadable(&mut self, error: &SourceError, asked: Option<Span>) {
        let mut finding = Finding::error(format!("cannot read {error}"));
        if let Some(span) = asked {
            finding = finding.at(span);
        }
        self.report.push(finding);
    }

    /// Shows a path below the working directory as relative to it.
    pub(super) fn shown(&self, path: &Path) -> String {
        if path == Path::new("-") {
            return "<stdin>".into();
        }
        match path.strip_prefix(&self.working_dir) {
            Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
            _ => path.display().to_string(),
        }
    }

    /// Takes one parsed document through all that concerns it alone.
    pub(super) fn prepare(&mut self, node: &mut Node, context: Context<'_>) {
        let mut path = KeyPath::default();
        if !self.skip.interpolation {
            Interpolator {
                variables: context.environment,
                sources: &self.sources,
                report: &mut self.report,
                unset: &mut self.unset,
                text: &mut self.text,
            }
            .run(node, &mut path);
        }
        Conform { report: &mut self.report, path, takes_variables: self.skip.interpolation }.check(node, &ROOT);
        self.strict = self.strict.or_else(|| strict_policy(node));
        if !self.skip.paths {
            Paths { dir: context.dir, environment: context.environment }.resolve_file(node);
        }
        self.repeated.extend(repeated_targets(node));
    }

    /// Puts the strict policy of any file of the load into what all of them say together: a later file cannot loosen it, not even
    /// with `!reset`, and what `config` prints says it again.
    pub(super) fn keep_strict(&self, tree: &mut Node) {
        let (Some(span), Some(root)) = (self.strict, tree.as_map_mut()) else { return };
        let entry = |value| Entry { key: span, node: Node::new(value, span) };
        let policy = [("policy".to_owned(), entry(Value::Str("strict".into())))];
        root.insert("x-mydocker".into(), entry(Value::Map(policy.into_iter().collect())));
    }

    /// Loads several files over one another. `chain` holds the files that are being included, outermost first.
    pub(super) fn tree(&mut self, parsed: Vec<(PathBuf, Vec<Node>)>, context: Context<'_>, chain: &[PathBuf]) -> Node {
        let mut tree: Option<Node> = None;
        for (path, documents) in parsed {
            for mut document in documents {
                self.prepare(&mut document, context);
                if document.as_map().is_none() {
                    continue;
                }
                self.apply_extends(&mut document, &path, context);
                self.apply_include(&mut document, context, &with(chain, &path));
                let base = tree.get_or_insert_with(|| document.here(Value::Map(Map::new())));
                merge::merge(base, document, &ROOT, &mut self.report);
            }
        }
        tree.unwrap_or_else(|| {
            let span = Span { file: 0, line: 1, column: 0, end_line: 1, end_column: 0 };
            Node { value: Value::Map(Map::new()), span, tag: NodeTag::None }
        })
    }

    /// Reads files of variables. Those of the environment win; a later file wins over an earlier one.
    pub(super) fn read_env_files(
        &mut self,
        paths: &[(PathBuf, bool)],
        environment: &BTreeMap<String, String>,
        asked: Option<Span>,
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (path, required) in paths {
            let found = self.read_env_file(path, *required, false, &layered(&all, environment), asked);
            all.extend(found);
        }
        layered(&all, environment)
    }

    /// Reads one file of variables.
    pub(super) fn read_env_file(
        &mut self,
        path: &Path,
        required: bool,
        raw: bool,
        environment: &BTreeMap<String, String>,
        asked: Option<Span>,
    ) -> BTreeMap<String, String> {
        let text = match source::read_text(path) {
            Ok(text) => text,
            Err(error) if error.is_not_found() && !required => return BTreeMap::new(),
            Err(error) => {
                let mut finding = Finding::error(format!("cannot read the env file {error}"));
                if let Some(span) = asked {
                    finding = finding.at(span);
                }
                self.report.push(finding.help("make the file, or write `required: false`"));
                return BTreeMap::new();
            }
        };
        let id = self.sources.add(self.shown(path), text.clone());
        dotenv::parse(&text, id, environment, raw).unwrap_or_else(|fault| {
            self.report.push(*fault);
            BTreeMap::new()
        })
    }
}

/// Finds the targets of `volumes` that stand twice in one service of one document.
fn repeated_targets(document: &Node) -> Vec<Finding> {
    let mut found = Vec::new();
    let services = document.get("services").and_then(Node::as_map).into_iter().flatten();
    for (name, entry) in services {
        let mut seen: BTreeMap<PathBuf, Span> = BTreeMap::new();
        let mounts = entry.node.get("volumes").and_then(Node::as_seq).unwrap_or_default();
        for (index, mount) in mounts.iter().enumerate() {
            let Some(target) = mount.get("target").and_then(Node::as_str) else { continue };
            if let Some(first) = seen.insert(super::paths::cleaned(Path::new(target)), mount.span) {
                let finding = Finding::error(format!("{target} is a mount target already")).at(mount.span);
                let finding = finding.path(format!("services.{name}.volumes[{index}].target"));
                found.push(finding.related("first here", first).help("take one of the two away"));
            }
        }
    }
    found
}

fn strict_policy(document: &Node) -> Option<Span> {
    let policy = document.get("x-mydocker")?.get("policy")?;
    (policy.as_str() == Some("strict")).then_some(policy.span)
}

/// Lays one set of variables over another.
pub(super) fn layered(below: &BTreeMap<String, String>, above: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = below.clone();
    all.extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

fn with(chain: &[PathBuf], path: &Path) -> Vec<PathBuf> {
    chain.iter().cloned().chain([path.to_owned()]).collect()
}

/// What all files together say, before any of it is given its meaning.
pub(super) struct Merged {
    /// The tree.
    pub(super) tree: Node,
    /// The project's name.
    pub(super) name: String,
    /// The project directory.
    pub(super) dir: PathBuf,
    /// The files.
    pub(super) files: Vec<PathBuf>,
    /// The caller's environment with that of `.env` files below it.
    pub(super) environment: BTreeMap<String, String>,
}

/// Finds, reads and merges the files of a request.
pub(super) fn merged(request: &LoadRequest, loader: &mut Loader) -> Merged {
    let mut environment = request.environment.clone();
    let first_guess = files::chosen(request, &environment);
    let dir = files::project_directory(request, &first_guess);
    environment = load_dot_env(request, loader, &dir, environment);
    let files = files::chosen(request, &environment);
    let dir = files::project_directory(request, &files);
    if files.is_empty() {
        loader.broken = true;
        let finding = Finding::error(
            "no compose file found: neither compose.yaml, compose.yml, docker-compose.yml nor docker-compose.yaml, here or in a directory above",
        );
        loader.report.push(finding.help("name one with `-f FILE`"));
    }
    let parsed: Vec<(PathBuf, Vec<Node>)> = files.iter().map(|path| (path.clone(), loader.parse(path, None))).collect();
    let name = project_name(request, loader, &environment, &parsed, &dir);
    environment.insert("COMPOSE_PROJECT_NAME".into(), name.clone());
    let tree = loader.tree(parsed, Context { dir: &dir, environment: &environment }, &[]);
    for (name, span) in std::mem::take(&mut loader.unset) {
        let message = format!("the variable `{name}` is not set; a blank string takes its place");
        loader.report.push(Finding::warning(message).at(span));
    }
    Merged { tree, name, dir, files, environment }
}

fn load_dot_env(
    request: &LoadRequest,
    loader: &mut Loader,
    dir: &Path,
    environment: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let named = |paths: Vec<&Path>| paths.iter().map(|path| (request.working_dir.join(path), true)).collect();
    let paths: Vec<(PathBuf, bool)> = match environment.get("COMPOSE_ENV_FILES").filter(|list| !list.is_empty()) {
        _ if !request.env_files.is_empty() => named(request.env_files.iter().map(PathBuf::as_path).collect()),
        Some(list) => named(list.split(',').map(Path::new).collect()),
        None => vec![(dir.join(".env"), false)],
    };
    // A directory called `.env` (a Python habit) is no file of variables.
    let paths: Vec<_> = paths.into_iter().filter(|(path, required)| *required || !path.is_dir()).collect();
    loader.read_env_files(&paths, &environment, None)
}

/// `-p`, else `COMPOSE_PROJECT_NAME`, else the last `name:`, else the directory's name.
fn project_name(
    request: &LoadRequest,
    loader: &mut Loader,
    environment: &BTreeMap<String, String>,
    parsed: &[(PathBuf, Vec<Node>)],
    dir: &Path,
) -> String {
    let from_variable = environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned();
    if let Some(name) = request.project_name.clone().or(from_variable) {
        if let Err(reason) = files::check_name(&name) {
            loader.report.push(Finding::error(reason));
        }
        return name;
    }
    let last = parsed.iter().rev().flat_map(|(_, documents)| documents.iter().rev()).find_map(|node| node.get("name"));
    if let Some((node, text)) = last.and_then(|node| Some((node, node.as_str()?))) {
        // Faults of interpolation are reported when the file is.
        let name = super::interpolate::substitute(text, environment, &mut Default::default()).unwrap_or_default();
        if let Err(reason) = files::check_name(&name) {
            loader.report.push(Finding::error(reason).at(node.span).path("name"));
        }
        return name;
    }
    let base = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = files::normalised_name(&base);
    if name.is_empty() && !loader.broken {
        loader.report.push(
            Finding::error(format!("no project name can be made of the directory {}", dir.display()))
                .help("give one with `-p NAME` or `name:`"),
        );
    }
    name
}
