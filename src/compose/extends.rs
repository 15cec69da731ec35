//! `extends`: a service made of another, of the same file or of another one, with its own keys merged over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::{Finding, suggest};
use super::load::{Context, Loader};
use super::merge;
use super::schema::{Kind, SERVICE};
use super::source::Span;
use super::yaml::{Map, Node, Value};

static SERVICE_KIND: Kind = Kind::Object(SERVICE);

/// A longer chain of services is a mistake.
const MAX_CHAIN: usize = 100;

/// A file and a service of it.
type Link = (PathBuf, String);

/// Is one file whose services are being resolved.
struct Scope<'a> {
    root: Rc<Node>,
    file: &'a Path,
    context: Context<'a>,
}

/// Says which services are being resolved, outermost first, and holds those that are done.
#[derive(Default)]
struct Trail {
    chain: Vec<Link>,
    done: BTreeMap<Link, Node>,
}

impl Loader {
    /// Resolves `extends` in every service of one file.
    pub(super) fn apply_extends(&mut self, root: &mut Node, file: &Path, context: Context<'_>) {
        let uses = |node: &Node| node.get("extends").is_some();
        let any = services_of(root).is_some_and(|services| services.values().any(|entry| uses(&entry.node)));
        if !any {
            return;
        }
        let scope = Scope { root: Rc::new(root.clone()), file, context };
        let mut trail = Trail::default();
        let services = root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(|e| e.node.as_map_mut());
        for (name, entry) in services.into_iter().flatten() {
            if uses(&entry.node)
                && let Some(service) = self.extended_service(&scope, name, entry.key, &mut trail)
            {
                entry.node = service;
            }
        }
    }

    /// Returns a service with all that it extends put under it.
    fn extended_service(&mut self, scope: &Scope<'_>, name: &str, asked: Span, trail: &mut Trail) -> Option<Node> {
        let link: Link = (scope.file.to_owned(), name.to_owned());
        if let Some(node) = trail.done.get(&link) {
            return Some(node.clone());
        }
        if let Some(at) = trail.chain.iter().position(|other| *other == link) {
            self.report_cycle(&trail.chain[at..], &link, asked);
            return None;
        }
        let Some(entry) = services_of(&scope.root).and_then(|services| services.get(name)) else {
            self.report_missing(&scope.root, scope.file, name, asked);
            return None;
        };
        if trail.chain.len() >= MAX_CHAIN || !self.afford(&entry.node, 0, Some(asked)) {
            if trail.chain.len() >= MAX_CHAIN {
                let message = format!("`extends` goes on over more than {MAX_CHAIN} services");
                self.report.push(Finding::error(message).at(asked));
            }
            return None;
        }
        let mut service = entry.node.clone();
        let Some(extends) = take_extends(&mut service) else { return Some(service) };
        trail.chain.push(link.clone());
        let base = self.base(scope, &extends, trail);
        trail.chain.pop();
        let mut merged = base?;
        if !self.afford(&merged, 0, Some(asked)) {
            return None;
        }
        merge::settle(&mut merged, &SERVICE_KIND);
        merge::merge(&mut merged, service, &SERVICE_KIND, &mut self.report);
        trail.done.insert(link, merged.clone());
        Some(merged)
    }

    /// Returns what an `extends` names, resolved itself.
    fn base(&mut self, scope: &Scope<'_>, extends: &Node, trail: &mut Trail) -> Option<Node> {
        let name = extends.get("service")?;
        let text = name.as_str()?;
        let Some(file) = extends.get("file").filter(|node| !node.is_null()) else {
            return self.extended_service(scope, text, name.span, trail);
        };
        let path = Path::new(file.as_str()?);
        let root = self.extended_file(path, file.span, scope.context)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let context = Context { dir, environment: scope.context.environment };
        self.extended_service(&Scope { root, file: path, context }, text, name.span, trail)
    }

    /// Reads the file of an `extends`, once a load.
    fn extended_file(&mut self, path: &Path, place: Span, context: Context<'_>) -> Option<Rc<Node>> {
        if let Some(known) = self.extended.get(path) {
            return known.clone();
        }
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut tree: Option<Node> = None;
        for mut document in self.parse(path, Some(place)) {
            self.prepare(&mut document, Context { dir, environment: context.environment });
            match &mut tree {
                Some(base) => merge::merge(base, document, &super::schema::ROOT, &mut self.report),
                None => tree = Some(document),
            }
        }
        let tree = tree.map(Rc::new);
        self.extended.insert(path.to_owned(), tree.clone());
        tree
    }

    fn report_missing(&mut self, root: &Node, file: &Path, name: &str, asked: Span) {
        let known: Vec<&str> = services_of(root).into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        let message = format!("cannot extend service `{name}`: {} has no such service", self.shown(file));
        let help = suggest(name, known.iter().copied());
        self.report.push(Finding::error(message).at(asked).maybe_help(help));
    }

    fn report_cycle(&mut self, chain: &[Link], back: &Link, asked: Span) {
        if !self.cycles.insert(chain.iter().cloned().collect()) {
            return;
        }
        let one_file = chain.iter().all(|(file, _)| *file == back.0);
        let names: Vec<String> = chain
            .iter()
            .chain([back])
            .map(|(file, name)| if one_file { name.clone() } else { format!("{name} ({})", self.shown(file)) })
            .collect();
        self.report.push(Finding::error(format!("circular `extends`: {}", names.join(" → "))).at(asked));
    }
}

fn services_of(root: &Node) -> Option<&Map> {
    root.get("services")?.as_map()
}

fn take_extends(service: &mut Node) -> Option<Node> {
    let entry = service.as_map_mut()?.shift_remove("extends")?;
    (!matches!(entry.node.value, Value::Null)).then_some(entry.node)
}
