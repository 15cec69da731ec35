use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::failure::StepError;
use super::user::ResolvedUser;
use super::{execute, hooks, mounts, process, scheduling};
use crate::capabilities;
use crate::container::plan::{Action, LaunchPlan, Role};
use crate::namespaces::mount::{
    self, FilesystemMount, Masks, Parents, Source, change_root, enter_root, enter_root_by_move, make_symlink,
    open_source, protect_mount, protect_path, protect_root, set_own_propagation, set_propagation,
};
use crate::namespaces::uts::{set_domainname, set_hostname};
use crate::sys;
use crate::sys::title::TitleMemory;

/// Holds what steps leave for later ones.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) descriptors: Vec<(Role, OwnedFd)>,
    /// How many descriptors from 3 on the program inherits.
    pub(super) preserved: u32,
    pub(super) sources: Vec<Option<Source>>,
    pub(super) mountpoint: Option<OwnedFd>,
    pub(super) root: Option<OwnedFd>,
    /// No other descriptor reaches the program any more.
    pub(super) descriptors_marked: bool,
    /// The proc file system that a step mounted.
    pub(super) proc: Option<OwnedFd>,
    /// What answers a seccomp filter, on its way to the parent.
    pub(super) listener: Option<OwnedFd>,
    pub(super) parents: Parents,
    pub(super) masks: Masks,
    pub(super) terminal_master: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) user: ResolvedUser,
    /// The user namespace denies setgroups(2).
    pub(super) groups_denied: bool,
    pub(super) directory: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
    /// The last step had nothing to do: what it is about is not there.
    pub(super) was_idle: bool,
    /// For a process that stays as PID 1.
    pub(super) title: Option<TitleMemory>,
}

impl Stage {
    pub(super) fn new(plan: &LaunchPlan, fds: Vec<OwnedFd>) -> Self {
        let descriptors = plan.descriptors.iter().cloned().zip(fds).collect();
        Self { descriptors, preserved: plan.preserved, ..Self::default() }
    }

    /// Returns the container's root: the mount that a step made, or the `/` that an exec finds itself in.
    pub(super) fn root(&mut self) -> Result<BorrowedFd<'_>, StepError> {
        if self.root.is_none() {
            self.root = Some(mounts::open_current_root()?);
        }
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::unexpected("there is no root"))
    }

    /// Returns the files that get what hooks say, where some came with the plan.
    fn hook_outputs(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let find = |role: &Role| self.descriptors.iter().find(|(have, _)| have == role).map(|(_, fd)| fd.as_fd());
        [find(&Role::HookStdout), find(&Role::HookStderr)]
    }

    /// Takes a descriptor that came with the plan.
    pub(super) fn take(&mut self, role: &Role) -> Result<OwnedFd, StepError> {
        match self.descriptors.iter().position(|(have, _)| have == role) {
            Some(at) => Ok(self.descriptors.swap_remove(at).1),
            None => Err(StepError::unexpected(&format!("no descriptor came for {role:?}"))),
        }
    }

    /// Carries one step out. `AwaitHooks`, `DieWithParent` and `Execute` belong to the caller, who has the channel.
    pub(super) fn apply(&mut self, action: &Action) -> Result<(), StepError> {
        match action {
            Action::JoinCgroups => process::join_cgroups(self)?,
            Action::UnshareCgroupNamespace => sys::process::unshare(libc::CLONE_NEWCGROUP as u64)?,
            Action::SetPropagation(propagation) => set_propagation(*propagation)?,
            Action::BecomeNamespaceRoot { keep_groups } => {
                self.groups_denied = process::become_namespace_root(*keep_groups)?;
            }
            Action::SetHostname(name) => set_hostname(name)?,
            Action::SetDomainname(name) => set_domainname(name)?,
            Action::RaiseLoopback => sys::netdevice::raise("lo")?,
            Action::WriteSysctl { key, value, optional } => {
                self.was_idle = !mounts::write_sysctl(self.proc()?, key, value, *optional)?;
            }
            Action::SetLabel(label) => mounts::write_label(self.proc()?, label)?,
            Action::SetUmask(mask) => {
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
            }
            Action::SetLimit(limit) => self.warnings.extend(process::set_limit(limit)?),
            Action::SetOomScore(score) => self.warnings.extend(process::set_oom_score(*score)?),
            Action::ResolveUser(choice) => self.user = super::user::resolve(self.root()?, choice)?,
            Action::StartSession => process::start_session(self.terminal.as_ref())?,
            Action::LimitBounding(set) => capabilities::limit_bounding(*set)?,
            Action::ForbidNewPrivileges => rustix::thread::set_no_new_privs(true)?,
            Action::InstallSeccomp(program) => sys::seccomp::install(&program.0)?,
            Action::InstallSeccompWith { program, flags } => {
                self.listener = sys::seccomp::install_with(&program.0, *flags)?;
            }
            Action::SetIdentity => {
                self.user.keep_groups |= self.groups_denied && self.user.groups.is_empty();
                process::set_identity(&self.user, self.terminal.as_ref())?;
            }
            Action::SetCapabilities(set) => capabilities::apply(*set)?,
            Action::SetCapabilitySets(sets) => capabilities::apply_sets(sets)?,
            Action::OpenDirectory { path, make } => {
                self.directory = Some(mounts::open_directory(self.root()?, path, *make)?);
            }
            Action::EnterDirectory => process::enter_directory(self.directory.take())?,
            Action::AwaitHooks | Action::DieWithParent | Action::Execute { .. } => {
                return Err(StepError::unexpected("this step has no place here"));
            }
            other if scheduling::apply(other)? => {}
            other => self.apply_to_tree(other)?,
        }
        Ok(())
    }

    /// Returns the proc file system: the one that a step mounted, or one that is nowhere attached. The image's directory of that name
    /// may hold anything.
    fn proc(&mut self) -> Result<BorrowedFd<'_>, StepError> {
        if self.proc.is_none() {
            self.proc = Some(mount::detached_proc()?);
        }
        self.proc.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::unexpected("there is no proc file system"))
    }

    /// What is mounted on `/` is the root from then on.
    fn replace_root(&mut self, target: &Path, mount: OwnedFd) {
        if target == Path::new("/") {
            self.root = Some(mount);
        }
    }

    fn mount(&mut self, asked: &FilesystemMount) -> Result<(), StepError> {
        let mut parents = std::mem::take(&mut self.parents);
        let mounted = mounts::mount(self.root()?, asked, &mut parents)?;
        self.parents = parents;
        if let Some(mount) = mounted {
            if asked.fstype == "proc" {
                self.proc = Some(mount);
            } else {
                self.replace_root(&asked.target, mount);
            }
        }
        Ok(())
    }

    /// Carries out the steps that build the container's tree.
    fn apply_to_tree(&mut self, action: &Action) -> Result<(), StepError> {
        match action {
            Action::OpenSource { number, source, below, recursive } => {
                self.sources.resize_with((number + 1).max(self.sources.len()), || None);
                self.sources[*number] = Some(open_source(source, below.as_deref(), *recursive)?);
            }
            Action::OpenMountpoint(path) => self.mountpoint = Some(mount::open_directory(path)?),
            Action::MountOverlay(overlay) => self.root = Some(mounts::mount_overlay(self, overlay)?),
            Action::BindRoot { source } => self.root = Some(mount::bind_root(source)?),
            Action::TakeSource { number, recursive } => {
                let tree = self.take(&Role::Source(*number))?;
                self.sources.resize_with((number + 1).max(self.sources.len()), || None);
                self.sources[*number] = Some(Source::of_tree(tree, *recursive)?);
            }
            Action::Mount(mount) => self.mount(mount)?,
            Action::MakeDevice(device) => {
                let mut parents = std::mem::take(&mut self.parents);
                mounts::make_device(self.root()?, device, &mut parents)?;
                self.parents = parents;
            }
            Action::BindDevice(device) => device.bind(self.root()?)?,
            Action::PlaceDevice { number, device } => {
                let node = self.take(&Role::Device(*number))?;
                device.place(self.root()?, node.as_fd())?;
            }
            Action::Symlink { points_to, path } => {
                let mut parents = std::mem::take(&mut self.parents);
                make_symlink(self.root()?, &mut parents, points_to, path)?;
                self.parents = parents;
            }
            Action::Bind(bind) => {
                let source = self.sources.get_mut(bind.source).and_then(Option::take);
                let source = source.ok_or_else(|| StepError::unexpected("its source was not opened"))?;
                // What was open may lie below the new mount now.
                self.parents = Parents::default();
                let mount = bind.attach(self.root()?, source)?;
                self.replace_root(&bind.target, mount);
            }
            Action::OpenTerminal { console, size } => {
                let (master, terminal) = mounts::open_terminal(self.root()?, *console, *size)?;
                (self.terminal_master, self.terminal) = (Some(master), Some(terminal));
            }
            Action::RunHook(hook) => hooks::run(hook, self.hook_outputs())?,
            Action::EnterRoot => enter_root(self.root()?)?,
            Action::ChangeRoot => change_root(self.root()?)?,
            Action::EnterRootByMove => enter_root_by_move(self.root()?)?,
            Action::SetRootPropagation(propagation) => set_own_propagation(self.root()?, *propagation)?,
            Action::ProtectMount(path) => protect_mount(self.root()?, path)?,
            Action::FindProgram { name, path } => {
                execute::find_program(self.directory.as_ref().map(AsFd::as_fd), name, path.as_deref())?
            }
            Action::ProtectPath(path) => self.was_idle = !protect_path(self.root()?, path)?,
            Action::MaskPath(path) => {
                let mut masks = std::mem::take(&mut self.masks);
                self.was_idle = !masks.hide(self.root()?, path)?;
                self.masks = masks;
            }
            Action::ProtectRoot => protect_root(self.root()?)?,
            _ => return Err(StepError::unexpected("this step has no place here")),
        }
        Ok(())
    }
}
