//! A supervisor's life: briefed by the keeper, recovered from the records, listening, working, gone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::config::BootConfig;
use super::container::{Container, ContainerHandle, Inherited};
use super::control::Server;
use super::control::protocol::Up;
use super::dispatcher::{Dispatcher, End};
use super::event::Event;
use super::links::{Execs, KeeperLink, Links, Shared};
use super::orchestrate::{lost_networks, restore_networks};
use super::record::Records;
use super::sharing::Running;
use crate::engine::{Host, LaunchError, ShimLink, watch};
use crate::keeper::{FromSupervisor, Role, ToSupervisor, become_role};
use crate::logs::Collector;
use crate::network::RuleWatch;
use crate::spec::ContainerId;
use crate::store::{Directories, ProjectDirectory, StoreError};
use crate::sys::{Channel, Received, parse_message, send_message};

/// How many events may wait. Sources wait with them; what must never wait says so where it is sent.
const EVENTS: usize = 1024;

/// So long a client may take to read its last replies.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Says why a supervisor cannot work.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Host(#[from] LaunchError),
    #[error("listen on the project's control.sock")]
    Listen(#[source] io::Error),
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

/// Is what the keeper says before anything else.
struct Briefing {
    config: BootConfig,
    generation: u32,
    shim: Option<OwnedFd>,
    inherited: Inherited,
}

/// Runs the supervisor of a project. `start_tracing` is given the filter for messages, which go to stderr.
///
/// # Errors
/// Only before it could be told to the keeper.
pub fn run(start_tracing: impl FnOnce(&str)) -> io::Result<()> {
    let mut keeper = become_role(Role::Supervisor)?;
    let briefing = hear_briefing(&mut keeper)?;
    start_tracing(&briefing.config.log_level);
    let _span = tracing::info_span!("project", name = %briefing.config.project).entered();
    // Signals that people send are ours to take; the keeper and the shim are deaf to them.
    SigSet::empty().thread_set_mask()?;
    let socket: OwnedFd = keeper.into_fd();
    let sender = Channel::new(socket.try_clone()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    let finish = Channel::new(socket.try_clone()?);
    match runtime.block_on(serve(briefing, Channel::new(socket), sender)) {
        Ok(()) => send_message(&finish, &FromSupervisor::Finish, &[]),
        Err(error) => {
            let chain: Vec<_> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect();
            tracing::error!(error = %chain.join(": "), "the supervisor cannot work");
            send_message(&finish, &FromSupervisor::Failed { message: chain.join("\n") }, &[])
        }
    }
}

fn hear_briefing(keeper: &mut Channel) -> io::Result<Briefing> {
    let mut briefing = None;
    let mut inherited = Inherited::new();
    loop {
        let mut frame = keeper.recv()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match parse_message(&frame)? {
            ToSupervisor::Boot { config, generation } => {
                briefing = Some((serde_json::from_value(config)?, generation, frame.fds.pop()));
            }
            ToSupervisor::Stored { keys } => inherited.extend(keys.into_iter().zip(frame.fds)),
            ToSupervisor::BootEnd => {
                let (config, generation, shim) = briefing.ok_or(io::ErrorKind::InvalidData)?;
                return Ok(Briefing { config, generation, shim, inherited });
            }
            other => return Err(io::Error::other(format!("an unexpected briefing: {other:?}"))),
        }
    }
}

async fn serve(briefing: Briefing, from_keeper: Channel, to_keeper: Channel) -> Result<(), ServeError> {
    let Briefing { config, generation, shim, mut inherited } = briefing;
    let dirs = Directories::new(&config.run_dir, &config.data_dir);
    let project = dirs.create_project(&config.project)?;
    let records = Records::of(&project);
    records.prepare()?;
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let links: Shared = Arc::new(Links {
        host: Host::open(dirs, config.firewall.clone())?,
        shim: ShimLink::default(),
        keeper: KeeperLink::new(to_keeper),
        records,
        collector: Collector::start().map_err(LaunchError::from)?,
        events: events.clone(),
        execs: Execs::default(),
        running: Running::default(),
        later: std::sync::Mutex::new(JoinSet::new()),
        config,
    });
    let mut tasks = JoinSet::new();
    forget_gone_places(&links).await;
    let (up, containers, warnings) = recover(&links, &mut inherited).await?;
    links.keeper.forget(inherited.into_keys().collect());
    let server = Server::bind(&project.socket()).map_err(ServeError::Listen)?;
    tasks.spawn(server.serve(events.clone()));
    tasks.spawn(hear_keeper(from_keeper, events.clone()));
    tasks.spawn(hear_signals(signals()?, events.clone()));
    if let Ok(rules) = links.host.networks.watch_firewall() {
        tasks.spawn(hear_rules(rules, events));
    }
    tracing::info!(generation, containers = containers.len(), "the supervisor listens");
    let mut dispatcher = Dispatcher::new(links.clone(), up, containers, warnings);
    dispatcher.connect_shim(shim);
    links.keeper.send(&FromSupervisor::Ready, &[]);
    let end = dispatcher.run(&mut inbox).await;
    leave(&links, &project, &end);
    see_off(end.clients, &mut inbox).await;
    Ok(())
}

/// Takes containers that no record knows of off their networks, and looks at the firewall's rules again. A place is
/// somebody else's where any project, or a `run` in the foreground, has a record of its container.
async fn forget_gone_places(links: &Shared) {
    let networks = &links.host.networks;
    let has_attachments = networks.has_cni_attachments();
    if !networks.list().is_ok_and(|networks| !networks.is_empty()) && !has_attachments {
        return;
    }
    if let Err(error) = networks.reconcile(&|id| is_recorded(links, id)).await {
        tracing::warn!(%error, "looking at the networks again");
    }
    if has_attachments {
        // Plugins that hang, or whose daemon is away, must not keep anybody waiting.
        let owner = links.clone();
        links.later(Duration::ZERO, async move {
            if let Err(error) = owner.host.networks.take_back_lost(&|id| is_recorded(&owner, id)).await {
                tracing::warn!(%error, "trying DEL again");
            }
        });
    }
}

/// Says whether any project, or a `run` in the foreground, has a record of a container.
fn is_recorded(links: &Shared, id: &ContainerId) -> bool {
    let dirs = &links.host.dirs;
    let record = format!("containers/{}.json", id.as_str());
    let projects = dirs.projects().unwrap_or_default();
    projects.iter().any(|project| dirs.project(project).join(&record).exists())
        || dirs.run().join("foreground").join(id.as_str()).exists()
}

/// What the records had to tell: the last `up`, the containers, what was damaged.
type Recovered = (Option<Up>, Vec<(Container, ContainerHandle)>, Vec<String>);

/// Brings every container on record back to where it was. Of one whose record is damaged nothing stays but its files, which are
/// kept until the project goes: they may be all that somebody has.
async fn recover(links: &Shared, inherited: &mut Inherited) -> Result<Recovered, ServeError> {
    let (project, damaged) = links.records.project()?;
    let (records, mut warnings) = links.records.containers()?;
    warnings.extend(damaged);
    let up = project.map(|record| record.up);
    let networks = &links.host.networks;
    if let Some(up) = &up {
        restore_networks(networks, &up.project).await;
    }
    let known: BTreeSet<_> = records.iter().map(|record| record.status.id.clone()).collect();
    let lost = links.records.lost_containers()?;
    warnings.extend(kept_files(links, &lost));
    links.host.sweep(&links.config.cgroup_parent, &links.config.project, &known, &lost).await;
    if known.is_empty() && up.is_none() {
        // Nobody knows what they were to be, and nobody is on them.
        for name in lost_networks(networks, &links.config.project, None) {
            if let Err(error) = networks.remove(&name).await {
                tracing::warn!(network = name, %error, "removing a network whose record was damaged");
            }
        }
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let mut containers = Vec::new();
    for record in records {
        let (mut container, handle) = Container::from_record(links.clone(), record);
        container.resume(inherited).await;
        containers.push((container, handle));
    }
    Ok((up, containers, warnings))
}

/// Says where the files are of containers whose record is damaged.
fn kept_files(links: &Shared, lost: &BTreeSet<ContainerId>) -> Vec<String> {
    let directories = lost.iter().map(|id| (id, links.host.dirs.container(id.as_str())));
    let there = directories.filter(|(_, directory)| directory.is_dir());
    there
        .map(|(id, directory)| {
            let directory = directory.display();
            format!(
                "container {} is lost with its record; its log and files stay in {directory} until `down`",
                id.short()
            )
        })
        .collect()
}

fn signals() -> Result<Signals, ServeError> {
    Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|source| ServeError::System("wait for signals", source))
}

async fn hear_signals(mut signals: Signals, events: mpsc::Sender<Event>) {
    while let Some(signal) = signals.next().await {
        let event = if signal == SIGHUP { Event::Reconcile } else { Event::Terminate };
        let _ = events.send(event).await;
    }
}

/// Somebody took firewall rules away: ours may be among them.
async fn hear_rules(mut rules: RuleWatch, events: mpsc::Sender<Event>) {
    loop {
        rules.changed().await;
        if events.send(Event::Reconcile).await.is_err() {
            return;
        }
    }
}

async fn hear_keeper(channel: Channel, events: mpsc::Sender<Event>) {
    let Ok(mut channel) = watch(channel, Interest::READABLE) else { return };
    loop {
        let Ok(mut ready) = channel.readable_mut().await else { return };
        match ready.get_inner_mut().try_recv() {
            Ok(Received::Frame(frame)) => match parse_message(&frame) {
                Ok(message) => {
                    let _ = events.send(Event::Keeper(message, frame.fds)).await;
                }
                Err(error) => tracing::error!(%error, "from the keeper"),
            },
            Ok(Received::Nothing) => ready.clear_ready(),
            Ok(Received::Closed) | Err(_) => {
                let _ = events.send(Event::KeeperLost).await;
                return;
            }
        }
    }
}

/// Nothing runs any more. The socket goes first: whoever comes now finds nobody, and waits for the lock.
fn leave(links: &Shared, project: &ProjectDirectory, end: &End) {
    if let Err(error) = crate::store::remove(&project.socket()) {
        tracing::warn!(%error, "leaving");
    }
    if end.project_gone {
        let name = &links.config.project;
        links.host.remove_empty_cgroups(&links.config.cgroup_parent, name);
        if !end.is_seen_off {
            // Nobody is there to do it after us.
            links.host.leave_cgroup(&links.config.cgroup_parent, name);
        }
        if let Err(error) = links.host.dirs.remove_project(name) {
            tracing::warn!(%error, "leaving");
        }
    }
}

/// Clients are still to be given their last replies: their connections end when they have them.
async fn see_off(mut clients: usize, inbox: &mut mpsc::Receiver<Event>) {
    let all = async {
        while clients > 0 {
            match inbox.recv().await {
                Some(Event::ClientLeft { .. }) => clients -= 1,
                // It came too late; its connection ends with us, and it finds the next supervisor.
                Some(_) => {}
                None => return,
            }
        }
    };
    if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
        tracing::warn!("a client does not read; it was left");
    }
}
