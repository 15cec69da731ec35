//! What the steps of a plan that come before a step have changed about its calls.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::strace::fd;
use crate::container::plan::{Action, LaunchPlan, Role, UserChoice};

/// Is where a plan has come to.
#[derive(Debug, Default)]
pub(super) struct Scene<'a> {
    pub(super) plan: Option<&'a LaunchPlan>,
    /// Where the new root stands.
    root: PathBuf,
    /// The sources that hold mounts below them.
    pub(super) recursive: BTreeSet<usize>,
    /// Some rights depend on a user namespace.
    pub(super) in_user_namespace: bool,
    /// The container has a terminal of its own.
    pub(super) terminal: bool,
    /// Supplementary groups stay as they are.
    pub(super) keeps_groups: bool,
    /// User and group, where they are numbers.
    pub(super) user: Option<(u32, u32)>,
    /// A proc file system was mounted.
    pub(super) has_proc: bool,
    /// The working directory.
    pub(super) directory: PathBuf,
}

impl<'a> Scene<'a> {
    pub(super) fn of(plan: &'a LaunchPlan) -> Self {
        let steps = || plan.create.iter().chain(&plan.start);
        Self {
            plan: Some(plan),
            in_user_namespace: steps().any(|step| matches!(step, Action::BecomeNamespaceRoot { .. })),
            ..Self::default()
        }
    }

    /// A descriptor that is open on `path` of the container.
    pub(super) fn inside(&self, path: &Path) -> String {
        fd(&self.root.join(path.strip_prefix("/").unwrap_or(path)).components().collect::<PathBuf>())
    }

    /// Says whether the parent sends the overlay's layers with their ids mapped.
    pub(super) fn has_mapped_layers(&self) -> bool {
        self.plan.is_some_and(|plan| plan.descriptors.contains(&Role::LowerLayer))
    }

    /// Takes note of what a step leaves for those after it.
    pub(super) fn after(&mut self, action: &Action) {
        match action {
            Action::MountOverlay(overlay) => self.root.clone_from(&overlay.mountpoint),
            Action::BindRoot { source } => self.root.clone_from(source),
            Action::EnterRoot | Action::EnterRootByMove | Action::ChangeRoot => self.root = PathBuf::from("/"),
            Action::OpenSource { number, recursive: true, .. } | Action::TakeSource { number, recursive: true } => {
                self.recursive.insert(*number);
            }
            Action::OpenTerminal { .. } => self.terminal = true,
            Action::Mount(mount) if mount.fstype == "proc" => self.has_proc = true,
            Action::OpenDirectory { path, .. } => self.directory.clone_from(path),
            Action::ResolveUser(choice) => {
                self.keeps_groups = choice.keep_groups;
                self.user = numbers(choice);
            }
            _ => {}
        }
    }
}

/// Root where nothing is said, and what is written in digits with its group.
fn numbers(choice: &UserChoice) -> Option<(u32, u32)> {
    let (user, group) = match choice.user.split_once(':') {
        Some(both) => both,
        None if choice.user.is_empty() => ("0", "0"),
        None => return None,
    };
    Some((user.parse().ok()?, group.parse().ok()?))
}
