use std::collections::{BTreeMap, BTreeSet};

use super::super::diagnostic::Finding;
use super::super::load::{Loader, Merged};
use super::super::model::{Project, Service};
use super::super::schema::{ROOT, check_support};
use super::super::yaml::Node;
use super::network::network;
use super::reader::Reader;
use super::volume::{users, volume};

/// Builds the model; faults go to the loader's report.
pub(in super::super) fn project(
    merged: &Merged,
    inactive: BTreeMap<String, Vec<String>>,
    loader: &mut Loader,
) -> Project {
    check_support(&merged.tree, &ROOT, &mut loader.report);
    let tree = &merged.tree;
    let mut services = BTreeMap::new();
    for (name, node) in group(tree, "services") {
        let mut reader = Reader { node, path: format!("services.{name}"), report: &mut loader.report };
        services.insert(name.to_owned(), super::service::service(name, &mut reader, &merged.dir));
    }
    if services.is_empty() && !loader.report.has_errors() {
        let mut finding = Finding::error("no service selected");
        if !inactive.is_empty() {
            finding = finding.help("every service has profiles and none of them is active: add `--profile NAME`");
        }
        loader.report.push(finding);
    }
    let used: BTreeSet<&String> = services.values().flat_map(|service: &Service| service.networks.keys()).collect();
    let mut networks = BTreeMap::new();
    for (name, node) in group(tree, "networks") {
        let mut reader = Reader { node, path: format!("networks.{name}"), report: &mut loader.report };
        let network = network(&mut reader);
        if used.contains(&name.to_owned()) {
            networks.insert(name.to_owned(), network);
        }
    }
    super::network::check_addresses(tree, &networks, &services, loader);
    super::places::check_links(tree, &services, loader);
    super::places::check_bandwidth(tree, &networks, &services, loader);
    super::places::check_ports_on_lan(tree, &networks, &services, loader);
    super::network::check_overlaps(tree, &networks, loader);
    let mut volumes = BTreeMap::new();
    for (name, node) in group(tree, "volumes") {
        let mut reader = Reader { node, path: format!("volumes.{name}"), report: &mut loader.report };
        let containers = users(services.values(), name);
        let volume = volume(&mut reader, containers);
        // As Compose: what no service uses is neither made nor looked for.
        if containers > 0 {
            volumes.insert(name.to_owned(), volume);
        }
    }
    Project {
        name: merged.name.clone(),
        working_dir: merged.dir.clone(),
        files: merged.files.clone(),
        services,
        networks,
        volumes,
        inactive,
    }
}

/// The objects of one top-level group.
pub(in super::super) fn group<'n>(tree: &'n Node, key: &str) -> impl Iterator<Item = (&'n str, &'n Node)> {
    let map = tree.get(key).and_then(Node::as_map);
    map.into_iter().flatten().map(|(name, entry)| (name.as_str(), &entry.node))
}
