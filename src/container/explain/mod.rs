#![doc = include_str!("README.md")]

mod launch;
mod process;
mod scene;
mod strace;
mod tree;
mod words;

use serde::Serialize;

use self::scene::Scene;
pub use self::strace::Call;
use self::strace::Calls;
use super::Prepared;
use super::plan::{Action, LaunchPlan};
use crate::spec::Mark;

/// Says which process makes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// mydocker: of a compose project its supervisor and its shim.
    Parent,
    /// Threads of it, and programs that it starts, which make networks while the child mounts.
    Networks,
    /// A process in between, where namespaces are joined that hold for children alone.
    Between,
    /// The container's first process.
    Child,
    /// The program's, where the container's first process is the built-in init.
    Program,
}

/// Is one step of a launch in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who makes it.
    pub process: Process,
    /// What kind of step it is, one word.
    pub kind: String,
    /// What is done.
    pub step: String,
    /// The system calls that do it.
    pub calls: Vec<Call>,
    /// Why it is done, and why here.
    pub reason: String,
    /// What would happen without it.
    pub without: String,
    /// Manual pages and specifications to read on in.
    pub manual: Vec<String>,
    /// What its time is noted under.
    #[serde(skip)]
    pub mark: Option<Mark>,
    /// In it a process becomes the program: it can begin the step and not end it.
    #[serde(skip)]
    pub becomes_program: bool,
}

impl Explanation {
    /// Begins an explanation; calls, reasons and pages are added to it.
    pub fn new(process: Process, kind: &str, step: &str) -> Self {
        Self {
            process,
            kind: kind.to_owned(),
            step: step.to_owned(),
            calls: Vec::new(),
            reason: String::new(),
            without: String::new(),
            manual: Vec::new(),
            mark: None,
            becomes_program: false,
        }
    }

    /// Says what its time is noted under.
    #[must_use]
    pub fn marked(self, mark: Mark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// Returns the mark of the step in which a process becomes the program.
    pub fn becomes_program(&self) -> Option<Mark> {
        self.mark.filter(|_| self.becomes_program)
    }

    /// Adds a call as strace(1) writes it, and when it is made: always where there is nothing.
    #[must_use]
    pub fn call(mut self, call: impl Into<String>, when: Option<&'static str>) -> Self {
        self.calls.push(Call { call: call.into(), when: when.map(Into::into) });
        self
    }

    /// Says why it is done, and what would happen without it.
    #[must_use]
    pub fn because(self, reason: &str, without: &str) -> Self {
        Self { reason: reason.to_owned(), without: without.to_owned(), ..self }
    }

    /// Says where to read on.
    #[must_use]
    pub fn read(self, manual: &[&str]) -> Self {
        Self { manual: manual.iter().map(|page| (*page).to_owned()).collect(), ..self }
    }

    fn with(self, calls: Calls, manual: &[&str]) -> Self {
        Self { calls: calls.0, ..self }.read(manual)
    }
}

/// Is a launch in words, in the order in which each process goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// How the process is made.
    pub clone: Vec<Explanation>,
    /// What the parent does for it then.
    pub set_up: Vec<Explanation>,
    /// What the process does before its plan.
    pub begin: Explanation,
    /// The plan up to `created`, one for each of [`LaunchPlan::create`].
    pub create: Vec<Explanation>,
    /// The process says so.
    pub created: Explanation,
    /// The parent answers, where the plan waits for that.
    pub say_start: Option<Explanation>,
    /// The rest of the plan, one for each of [`LaunchPlan::start`].
    pub start: Vec<Explanation>,
    /// What the program's own process does, under the built-in init.
    pub program: Option<Explanation>,
}

/// Explains a launch: the very data that is carried out. `into_cgroup` says that the process is born in its cgroup of version 2, `sent`
/// that the plan travels to it ([`super::InitChannel::send_plan`]).
pub fn explain(prepared: &Prepared, into_cgroup: bool, sent: bool) -> Launch {
    let plan = &prepared.plan;
    let mut scene = Scene::of(plan);
    let mut explain_all = |actions: &[Action], mark: fn(usize) -> Mark| -> Vec<_> {
        let numbered = actions.iter().enumerate();
        numbered.map(|(number, action)| explain_action(action, &mut scene).marked(mark(number))).collect()
    };
    let create = explain_all(&plan.create, Mark::Create);
    let start = explain_all(&plan.start, Mark::Start);
    let mut set_up = launch::set_up(prepared);
    set_up.extend(sent.then(|| launch::send_plan(plan.create.len() + plan.start.len())));
    Launch {
        clone: launch::clone(&prepared.spawn, into_cgroup),
        set_up,
        begin: launch::begin(&prepared.spawn),
        create,
        created: launch::created(plan.start_at_once),
        say_start: (!plan.start_at_once).then(launch::say_start),
        start,
        program: program(plan, &scene),
    }
}

fn explain_action(action: &Action, scene: &mut Scene<'_>) -> Explanation {
    let calls = calls(action, scene);
    scene.after(action);
    let (without, manual) = words::of(action);
    let explanation = Explanation::new(Process::Child, &kind(action), &action.to_string())
        .with(calls, manual)
        .because(action.reason(), without);
    Explanation { becomes_program: matches!(action, Action::Execute { init: false, .. }), ..explanation }
}

/// The name that a step has in a plan.
fn kind(action: &Action) -> String {
    let name = match serde_json::to_value(action) {
        Ok(serde_json::Value::String(name)) => Some(name),
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned(),
        _ => None,
    };
    name.unwrap_or_default()
}

/// Under the built-in init the program has a process of its own.
fn program(plan: &LaunchPlan, scene: &Scene<'_>) -> Option<Explanation> {
    let action = plan.start.iter().find(|action| matches!(action, Action::Execute { init: true, .. }))?;
    let Action::Execute { args, .. } = action else { return None };
    let mut calls = process::start_session(scene);
    calls.append(process::execute(args));
    let explanation = Explanation::new(Process::Program, "program", &format!("start a session and execute {args:?}"));
    let explanation = Explanation { becomes_program: true, ..explanation.marked(Mark::Program) };
    Some(explanation.with(calls, &["setsid(2)", "execve(2)"]).because(
        "a child of the init, which reaps it and whatever is left without a parent",
        "the init would have nothing to wait for",
    ))
}

/// Lists the calls of a step that change something, and those that show how it looks before it does.
fn calls(action: &Action, scene: &mut Scene<'_>) -> Calls {
    match action {
        Action::JoinCgroups => process::join_cgroups(scene),
        Action::UnshareCgroupNamespace => Calls::one("unshare(CLONE_NEWCGROUP)"),
        Action::JoinKeyring(name) => process::join_keyring(name),
        Action::SetLabel(label) => Calls::one(strace::write("…<…/attr/…>", &label.text())),
        // It came with the plan.
        Action::TakeSource { .. } => Calls::default(),
        Action::OpenSource { source, below, recursive, .. } => tree::open_source(source, below.as_deref(), *recursive),
        Action::SetPropagation(propagation) => tree::set_propagation(*propagation),
        Action::OpenMountpoint(at) => {
            Calls::one(format!("openat(AT_FDCWD, {}, …O_PATH|O_DIRECTORY)", strace::path(at)))
        }
        Action::BecomeNamespaceRoot { keep_groups } => process::become_namespace_root(*keep_groups),
        Action::MountOverlay(overlay) => tree::mount_overlay(overlay, scene),
        Action::BindRoot { source } => tree::bind_root(source),
        Action::Mount(mount) => tree::mount(mount, scene),
        Action::MakeDevice(device) => tree::make_device(device, scene),
        Action::BindDevice(device) => tree::bind_device(device, scene),
        Action::PlaceDevice { device, .. } => tree::place_device(device, scene),
        Action::Symlink { points_to, path } => tree::symlink(points_to, path, scene),
        Action::Bind(bind) => tree::bind(bind, scene),
        Action::OpenTerminal { console, size } => tree::open_terminal(*console, *size, scene),
        Action::RunHook(hook) => tree::run_hook(hook),
        Action::AwaitHooks => Calls::from(["sendmsg(…hooks_due…)", "recvmsg(…)"]),
        Action::EnterRoot => tree::enter_root(scene),
        Action::EnterRootByMove => tree::enter_root_by_move(scene),
        Action::ChangeRoot => tree::change_root(scene),
        Action::SetRootPropagation(propagation) => tree::set_root_propagation(*propagation),
        Action::SetHostname(name) => Calls::one(format!("sethostname({}, {})", strace::quoted(name), name.len())),
        Action::SetDomainname(name) => Calls::one(format!("setdomainname({}, {})", strace::quoted(name), name.len())),
        Action::RaiseLoopback => Calls::one("ioctl(…, SIOCSIFFLAGS, {ifr_name=\"lo\", ifr_flags=IFF_UP|…})"),
        Action::WriteSysctl { key, value, optional } => tree::write_sysctl(key, value, *optional, scene),
        Action::ProtectPath(path) => tree::protect_path(path, scene),
        Action::MaskPath(path) => tree::mask_path(path, scene),
        Action::ProtectMount(path) => tree::protect(path, scene),
        Action::ProtectRoot => tree::protect(std::path::Path::new("/"), scene),
        Action::FindProgram { name, .. } => Calls::one(format!("openat(…{}, …O_PATH…)", &strace::quoted(name)[1..])),
        Action::SetPersonality(persona) => process::set_personality(*persona),
        Action::SetScheduler(_) => Calls::one("sched_setattr(0, …)"),
        Action::SetAffinity(_) => Calls::one("sched_setaffinity(0, …)"),
        Action::SetIoPriority { class, priority } => process::set_io_priority(*class, *priority),
        Action::SetMemoryPolicy { .. } => Calls::one("set_mempolicy(…)"),
        Action::SetUmask(mask) => Calls::one(format!("umask(0{mask:02o})")),
        Action::SetLimit(limit) => process::set_limit(limit),
        Action::SetOomScore(score) => process::write_oom_score(*score),
        Action::ResolveUser(_) => process::resolve_user(),
        Action::StartSession => process::start_session(scene),
        Action::LimitBounding(kept) => process::limit_bounding(*kept),
        Action::ForbidNewPrivileges => Calls::one("prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"),
        Action::InstallSeccomp(program) => process::install_seccomp(&program.0, 0),
        Action::InstallSeccompWith { program, flags } => process::install_seccomp(&program.0, *flags),
        Action::SetIdentity => process::set_identity(scene),
        Action::SetCapabilities(set) => process::set_capabilities(*set),
        Action::SetCapabilitySets(sets) => process::set_capability_sets(sets),
        Action::DieWithParent => Calls::one("prctl(PR_SET_PDEATHSIG, SIGKILL)"),
        Action::OpenDirectory { path, make } => tree::open_directory(path, *make, scene),
        Action::EnterDirectory => Calls::one(format!("fchdir({})", scene.inside(&scene.directory))),
        Action::Execute { args, init: false, .. } => process::execute(args),
        Action::Execute { init: true, .. } => process::stay_as_init(),
    }
}
