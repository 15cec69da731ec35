//! One run of a container: its live process, the pump of its output, what is kept for a successor.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::time::Instant;

use crate::compose::model::Logging;
use crate::engine::{self, Created, ExecTarget, LaunchError, Live, Output, Places};
use crate::logs::{Collection, ContainerOutput, Retention, Rotation};
use crate::network::Attachment;
use crate::spec::{ContainerId, SignalNumber};
use crate::supervisor::links::{Links, Shared};
use crate::supervisor::record::ContainerRecord;
use crate::sys::pidfd::send_signal;

/// Is a container that has a process.
#[derive(Debug)]
pub struct Run {
    live: Live,
    started: Instant,
    output: Carried,
    /// Our end of a stdin that is kept open: closing it would end the container's input.
    _stdin: Option<OwnedFd>,
}

/// Is a container's output on its way to its log.
#[derive(Debug)]
pub struct Carried {
    collection: Option<Collection>,
    keys: Vec<String>,
}

impl Run {
    /// Begins to carry the output of a container that is about to start, and gives its descriptors to the keeper.
    ///
    /// # Errors
    /// Descriptors that cannot be had.
    pub fn begin(links: &Shared, record: &ContainerRecord, created: &mut Created) -> Result<Carried, LaunchError> {
        let id = record.status.id.as_str();
        let mut named: Vec<(String, BorrowedFd<'_>)> = vec![(key(id, "pidfd"), created.live.pidfd.as_fd())];
        match &created.output {
            Output::Pipes { stdout, stderr } => {
                named.push((key(id, "stdout"), stdout.as_fd()));
                named.push((key(id, "stderr"), stderr.as_fd()));
            }
            Output::Terminal(master) => named.push((key(id, "terminal"), master.as_fd())),
        }
        named.extend(created.stdin.as_ref().map(|stdin| (key(id, "stdin"), stdin.as_fd())));
        named.extend(created.live.networking.kept().into_iter().map(|(name, fd)| (key(id, &name), fd)));
        links.keeper.store(&named);
        let keys = named.into_iter().map(|(key, _)| key).collect();
        let output = created.output.try_clone().map_err(LaunchError::Channel)?;
        Ok(Carried::start(links, record, output, keys))
    }

    /// Goes on with a run that an earlier supervisor began.
    pub fn resumed(live: Live, output: Carried, stdin: Option<OwnedFd>, age: Duration) -> Self {
        let now = Instant::now();
        Self { live, started: now.checked_sub(age).unwrap_or(now), output, _stdin: stdin }
    }

    /// Returns the process id of PID 1.
    pub fn pid(&self) -> i32 {
        self.live.process.pid
    }

    /// Returns the container.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Opens the way into it.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn target(&self) -> Result<ExecTarget, LaunchError> {
        ExecTarget::of(&self.live)
    }

    /// Returns how long it has run.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns its addresses on each network, those of IPv4 first, with commas between.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let shown = |place: &Attachment| place.ips().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let places = self.live.networking.attachments.iter();
        places.map(|place| (place.network_name.clone(), shown(place))).filter(|(_, shown)| !shown.is_empty()).collect()
    }

    /// Returns its published ports, as `ps` shows them.
    pub fn ports(&self) -> Vec<String> {
        let ports = self.live.networking.attachments.iter().flat_map(|place| &place.ports);
        ports
            .map(|port| {
                // One of IPv6 stands in brackets.
                let host = SocketAddr::new(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port.host_port);
                format!("{host}->{}/{}", port.container_port, port.protocol)
            })
            .collect()
    }

    /// Sends a signal to PID 1.
    ///
    /// # Errors
    /// ESRCH where it has ended.
    pub fn signal(&self, signal: SignalNumber) -> io::Result<()> {
        send_signal(self.live.pidfd.as_fd(), signal.get())
    }

    /// Kills everything in the container.
    pub fn kill(&self) {
        if let Err(error) = self.live.cgroup.kill() {
            tracing::error!(pid = self.pid(), %error, "killing a container by its cgroup");
        }
        // PID 1 takes all others of its PID namespace along. One that has ended needs no signal.
        let _ = self.signal(SignalNumber::KILL);
    }

    /// Says whether the kernel keeps a signal from PID 1 because it has no handler for it (pid_namespaces(7)). One that
    /// is blocked waits, and may be taken by sigwait(3) or a signalfd, as our built-in init does.
    pub fn ignores(&self, signal: SignalNumber) -> bool {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default();
        // While it waits in sigwait(3) the signals that it waits for do not show as blocked.
        let waits = read("syscall").split(' ').next() == Some(&libc::SYS_rt_sigtimedwait.to_string());
        let status = read("status");
        let has = |name: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_none_or(|mask| mask & (1 << (signal.get() - 1)) != 0)
        };
        !waits && signal != SignalNumber::KILL && !has("SigCgt:") && !has("SigBlk:")
    }

    /// Says whether the kernel killed one of its processes for want of memory.
    pub fn oom_killed(&self) -> bool {
        self.live.cgroup.oom_kills().is_ok_and(|kills| kills > 0)
    }

    /// Waits until what the dead container left in its pipes is in the log.
    pub async fn drain(&mut self, patience: Duration) {
        self.output.drain(patience).await;
    }

    /// Takes away all that is left of it.
    pub async fn clear(self, links: &Links, id: &ContainerId, places: Places) -> Vec<LaunchError> {
        links.keeper.forget(self.output.keys.clone());
        engine::clear(&links.host, id, self.live, places).await
    }
}

impl Carried {
    /// Begins to carry output to the container's log.
    pub fn start(links: &Shared, record: &ContainerRecord, output: Output, keys: Vec<String>) -> Self {
        let directory = links.host.dirs.container(record.status.id.as_str());
        let output = match output {
            Output::Pipes { stdout, stderr } => ContainerOutput::Pipes { stdout, stderr },
            Output::Terminal(master) => ContainerOutput::Terminal(master),
        };
        Self { collection: Some(links.collector.collect(output, directory, retention(record.desired.logging))), keys }
    }

    /// Completes a run that has started.
    pub fn with(self, created: Created) -> Run {
        Run { live: created.live, started: Instant::now(), output: self, _stdin: created.stdin }
    }

    /// Waits for the last output of a container that never ran its program.
    pub async fn drained(mut self, patience: Duration) {
        self.drain(patience).await;
    }

    /// Waits until what is in the pipes is in the log.
    pub async fn drain(&mut self, patience: Duration) {
        let Some(collection) = self.collection.take() else { return };
        match tokio::time::timeout(patience, collection.drain()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "output of a container was not kept"),
            Err(_) => tracing::warn!("output of a dead container is still on its way to the disk"),
        }
    }
}

fn retention(logging: Logging) -> Retention {
    match logging {
        Logging::Everything => Retention::Everything,
        Logging::Rotated { max_size, max_files } => Retention::Rotated(Rotation { max_size, max_files }),
        Logging::Nothing => Retention::Nothing,
    }
}

/// Names a descriptor of a container in the keeper's store.
pub fn key(id: &str, what: &str) -> String {
    format!("{id}/{what}")
}
