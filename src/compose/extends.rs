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

/// One link of the chain that is being resolved: a file and a service of it.
type Link = (PathBuf, String);

impl Loader {
    /// Resolves `extends` in every service of one file.
    pub(super) fn apply_extends(&mut self, root: &mut Node, file: &Path, context: Context<'_>) {
        let uses = |node: &Node| node.get("extends").is_some();
        let any = services_of(root).is_some_and(|services| services.values().any(|entry| uses(&entry.node)));
        if !any {
            return;
        }
        let whole = Rc::new(root.clone());
        let mut done = BTreeMap::new();
        let Some(services) =
            root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(|e| e.node.as_map_mut())
        else {
            return;
        };
        for (name, entry) in services.iter_mut() {
            if uses(&entry.node) {
                let mut chain = Vec::new();
                if let Some(service) = self.service(&whole, file, name, entry.key, context, &mut chain, &mut done) {
                    entry.node = service;
                }
            }
        }
    }

    /// Returns a service with all that it extends put under it.
    #[expect(clippy::too_many_arguments, reason = "one step of a recursion that carries its whole state")]
    fn service(
        &mut self,
        root: &Rc<Node>,
        file: &Path,
        name: &str,
        asked: Span,
        context: Context<'_>,
        chain: &mut Vec<Link>,
        done: &mut BTreeMap<Link, Node>,
    ) -> Option<Node> {
        let link: Link = (file.to_owned(), name.to_owned());
        if let Some(node) = done.get(&link) {
            return Some(node.clone());
        }
        if let Some(at) = chain.iter().position(|other| *other == link) {
            self.report_cycle(&chain[at..], &link, asked);
            return None;
        }
        let Some(entry) = services_of(root).and_then(|services| services.get(name)) else {
            self.report_missing(root, file, name, asked);
            return None;
        };
        let mut service = entry.node.clone();
        let Some(extends) = take_extends(&mut service) else { return Some(service) };
        let (base_name, base_file) = (text_of(&extends, "service")?, text_of(&extends, "file"));
        chain.push(link.clone());
        let asked = extends.get("service").map_or(extends.span, |node| node.span);
        let base = match base_file {
            Some(other) => self.from_file(Path::new(&other), &extends, &base_name, asked, context, chain, done),
            None => self.service(root, file, &base_name, asked, context, chain, done),
        };
        chain.pop();
        let mut merged = base?;
        merge::settle(&mut merged, &SERVICE_KIND);
        merge::merge_service(&mut merged, service, &mut self.report);
        done.insert(link, merged.clone());
        Some(merged)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a recursion that carries its whole state")]
    fn from_file(
        &mut self,
        other: &Path,
        extends: &Node,
        name: &str,
        asked: Span,
        context: Context<'_>,
        chain: &mut Vec<Link>,
        done: &mut BTreeMap<Link, Node>,
    ) -> Option<Node> {
        let place = extends.get("file").map_or(extends.span, |node| node.span);
        let root = self.extended_file(other, place, context)?;
        let dir = other.parent().unwrap_or(Path::new("/")).to_owned();
        let context = Context { dir: &dir, environment: context.environment };
        self.service(&root, other, name, asked, context, chain, done)
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

fn text_of(node: &Node, key: &str) -> Option<String> {
    node.get(key)?.as_str().map(str::to_owned)
}
