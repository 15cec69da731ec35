//! The order of services: who waits for whom, what can start at the same time, and where the order bites its tail.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{DependencyCondition, Project};

/// Is the order of a project's services. Starting follows `dependencies`, stopping follows `dependants`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DependencyGraph {
    dependencies: BTreeMap<String, BTreeMap<String, DependencyCondition>>,
    dependants: BTreeMap<String, BTreeSet<String>>,
}

impl DependencyGraph {
    /// Makes the graph of a loaded project, which has no cycles.
    pub fn of(project: &Project) -> Self {
        let mut graph = Self::default();
        for (name, service) in &project.services {
            graph.dependants.entry(name.clone()).or_default();
            let own = graph.dependencies.entry(name.clone()).or_default();
            for (other, dependency) in service.depends_on.iter().filter(|(o, _)| project.services.contains_key(*o)) {
                own.insert(other.clone(), dependency.condition);
                graph.dependants.entry(other.clone()).or_default().insert(name.clone());
            }
        }
        graph
    }

    /// Returns what a service waits for, with the condition of each.
    pub fn dependencies(&self, service: &str) -> impl Iterator<Item = (&str, DependencyCondition)> {
        self.dependencies.get(service).into_iter().flatten().map(|(name, condition)| (name.as_str(), *condition))
    }

    /// Returns what waits for a service: what must stop before it.
    pub fn dependants(&self, service: &str) -> impl Iterator<Item = &str> {
        self.dependants.get(service).into_iter().flatten().map(String::as_str)
    }

    /// Returns services in levels: all of one level can start at the same time, once those before are as they must be.
    pub fn levels(&self) -> Vec<Vec<&str>> {
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        let mut levels = Vec::new();
        while placed.len() < self.dependencies.len() {
            let next: Vec<&str> = self
                .dependencies
                .iter()
                .filter(|(name, _)| !placed.contains(name.as_str()))
                .filter(|(_, needs)| needs.keys().all(|need| placed.contains(need.as_str())))
                .map(|(name, _)| name.as_str())
                .collect();
            if next.is_empty() {
                break;
            }
            placed.extend(&next);
            levels.push(next);
        }
        levels
    }

    /// Returns the named services and all that they wait for, directly or not.
    pub fn with_dependencies<'s>(&'s self, names: impl IntoIterator<Item = &'s str>) -> BTreeSet<&'s str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = names.into_iter().collect();
        while let Some(name) = open.pop() {
            if let Some((name, needs)) = self.dependencies.get_key_value(name)
                && found.insert(name.as_str())
            {
                open.extend(needs.keys().map(String::as_str));
            }
        }
        found
    }
}

/// Finds cycles, each once, as the list of its services; a service that depends on itself is a list of one.
pub(super) fn cycles<'n>(edges: &BTreeMap<&'n str, Vec<&'n str>>) -> Vec<Vec<&'n str>> {
    let mut finished: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for start in edges.keys() {
        // Depth first without recursion: a chain may be as long as the file.
        let mut trail: Vec<(&str, usize)> = Vec::new();
        let mut on_trail: BTreeMap<&str, usize> = BTreeMap::new();
        if !finished.contains(start) {
            on_trail.insert(start, 0);
            trail.push((start, 0));
        }
        while let Some((name, next)) = trail.last_mut() {
            let target = edges.get(name).and_then(|targets| targets.get(*next)).copied();
            *next += 1;
            match target {
                None => {
                    let done = *name;
                    finished.insert(done);
                    on_trail.remove(done);
                    trail.pop();
                }
                Some(target) => match on_trail.get(target) {
                    Some(at) => found.push(trail[*at..].iter().map(|(name, _)| *name).collect()),
                    None if finished.contains(target) || !edges.contains_key(target) => {}
                    None => {
                        on_trail.insert(target, trail.len());
                        trail.push((target, 0));
                    }
                },
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(edges: &[(&'static str, &[&'static str])]) -> Vec<Vec<&'static str>> {
        cycles(&edges.iter().map(|(name, to)| (*name, to.to_vec())).collect())
    }

    #[test]
    fn cycles_are_found_once() {
        assert_eq!(find(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]), [["a", "b", "c"]]);
        assert_eq!(find(&[("a", &["a"]), ("b", &["a"])]), [["a"]]);
        assert!(find(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("d", &["gone"])]).is_empty());
        assert_eq!(find(&[("a", &["b"]), ("b", &["a"]), ("c", &["d"]), ("d", &["c"])]).len(), 2);
    }

    #[test]
    fn long_chains_do_not_overflow() {
        let names: Vec<String> = (0..20_000).map(|n| format!("s{n:05}")).collect();
        let edges = names.iter().zip(names.iter().skip(1)).map(|(a, b)| (a.as_str(), vec![b.as_str()])).collect();
        assert!(cycles(&edges).is_empty());
    }
}
