//! `include`: whole compose files with a directory and variables of their own, put into this one.

use std::path::{Path, PathBuf};

use super::diagnostic::Finding;
use super::load::{Context, Loader};
use super::paths::Paths;
use super::yaml::{Map, Node, Value};

/// What an include may bring.
const GROUPS: [&str; 6] = ["services", "networks", "volumes", "secrets", "configs", "models"];
/// Includes deeper than this are a mistake.
const MAX_DEPTH: usize = 50;

impl Loader {
    /// Takes `include` out of a document and puts what it names in.
    pub(super) fn apply_include(&mut self, document: &mut Node, context: Context<'_>, chain: &[PathBuf]) {
        let Some(include) = document.as_map_mut().and_then(|map| map.shift_remove("include")) else { return };
        for item in include.node.as_seq().unwrap_or_default() {
            if let Some(tree) = self.included(item, context, chain) {
                self.import(document, tree);
            }
        }
    }

    fn included(&mut self, item: &Node, context: Context<'_>, chain: &[PathBuf]) -> Option<Node> {
        let paths = Paths { dir: context.dir, environment: context.environment };
        let texts = |key: &str| -> Vec<String> {
            let items = item.get(key).and_then(Node::as_seq).unwrap_or_default();
            items.iter().filter_map(Node::as_str).map(str::to_owned).collect()
        };
        let files: Vec<PathBuf> = texts("path").iter().map(|text| paths.absolute(text)).collect();
        let first = files.first()?;
        if let Some(again) = files.iter().find(|file| chain.contains(file)) {
            let at = chain.iter().position(|file| file == again).unwrap_or(0);
            let names: Vec<String> = chain[at..].iter().chain([again]).map(|path| self.shown(path)).collect();
            self.report.push(Finding::error(format!("circular `include`: {}", names.join(" → "))).at(item.span));
            return None;
        }
        if chain.len() > MAX_DEPTH {
            self.report.push(Finding::error(format!("includes nested deeper than {MAX_DEPTH} files")).at(item.span));
            return None;
        }
        let dir = match item.get("project_directory").and_then(Node::as_str) {
            Some(text) => paths.absolute(text),
            None => first.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned),
        };
        let env_files = match texts("env_file") {
            named if !named.is_empty() => named.iter().map(|text| (paths.absolute(text), true)).collect(),
            _ => vec![(dir.join(".env"), false)],
        };
        let environment = self.read_env_files(&env_files, context.environment, Some(item.span));
        let parsed: Vec<_> = files.iter().map(|path| (path.clone(), self.parse(path, Some(item.span)))).collect();
        Some(self.tree(parsed, Context { dir: &dir, environment: &environment }, chain))
    }

    /// Puts the objects of an included tree into a document; the same name with another meaning is an error.
    fn import(&mut self, document: &mut Node, tree: Node) {
        let Value::Map(tree) = tree.value else { return };
        let span = document.span;
        let Some(document) = document.as_map_mut() else { return };
        for (group, imported) in tree {
            let Value::Map(imported_map) = imported.node.value else { continue };
            if !GROUPS.contains(&group.as_str()) {
                continue;
            }
            let own = document.entry(group.clone()).or_insert_with(|| super::yaml::Entry {
                key: imported.key,
                node: Node::new(Value::Map(Map::new()), span),
            });
            let Some(own) = own.node.as_map_mut() else { continue };
            for (name, entry) in imported_map {
                match own.get(&name) {
                    Some(old) if old.node != entry.node => {
                        let message = format!("`{group}.{name}` conflicts with an included one of the same name");
                        let finding = Finding::error(message).at(old.key).related("included", entry.key);
                        self.report.push(finding.help("change included objects in an override file"));
                    }
                    _ => {
                        own.insert(name, entry);
                    }
                }
            }
        }
    }
}
