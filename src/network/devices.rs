//! Devices of the host's that go into a container's network namespace, and back where the container does not come to be.
//!
//! The kernel closes a device that it moves, and forgets its addresses (`dev_change_net_namespace`): they are read before and given
//! again.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::NetworkError;
use super::connection::with_links;
use super::link::{LinkView, Links};
use crate::namespaces::network::{NetnsError, in_namespace, open_current};
use crate::spec::{NetDeviceMove, NewDeviceName};

/// Are devices that have gone into a container's network namespace. Dropped, they stay there.
#[derive(Debug)]
pub struct MovedDevices {
    netns: OwnedFd,
    moved: Vec<Moved>,
}

/// Is a device on its way.
#[derive(Debug)]
struct Moved {
    /// What it was here.
    before: LinkView,
    /// All its permanent addresses.
    addresses: Vec<AddressMessage>,
    /// Its number there.
    index: u32,
}

impl MovedDevices {
    /// Moves `devices` out of the calling thread's network namespace into `netns`: each gets its new name, keeps its permanent global
    /// addresses, and is raised. Either all go, or none.
    ///
    /// # Errors
    /// [`NetworkError::Device`] for one that is not there, or whose name there is taken; [`NetworkError::Netlink`] for what the kernel
    /// refuses. Nothing has moved then, unless it could not be put back: the error says that, too.
    pub fn move_into(netns: OwnedFd, devices: &[NetDeviceMove]) -> Result<Self, NetworkError> {
        let taken = inside(netns.as_fd(), async |links| links.list().await)?;
        let on_their_way = with_links(|links| async move { look(&links, devices, &taken).await })??;
        let mut all = Self { netns, moved: Vec::new() };
        match all.carry_out(devices, on_their_way) {
            Ok(()) => Ok(all),
            Err(first) => match all.put_back() {
                Ok(()) => Err(first),
                Err(then) => Err(NetworkError::NotPutBack { first: Box::new(first), then: Box::new(then) }),
            },
        }
    }

    fn carry_out(&mut self, devices: &[NetDeviceMove], on_their_way: Vec<Moved>) -> Result<(), NetworkError> {
        for (device, moved) in devices.iter().zip(on_their_way) {
            let (on_its_way, netns) = (&moved, self.netns.as_fd());
            let sent = with_links(|links| async move { send(&links, device, on_its_way, netns).await })?;
            // The kernel renames after it has moved: one that cannot have its name may be there already.
            let is_gone = sent.is_ok() || !is_here(&moved.before)?;
            if is_gone {
                self.moved.push(moved);
            }
            sent?;
        }
        inside(self.netns.as_fd(), async |links| {
            for (device, moved) in devices.iter().zip(&self.moved) {
                settle(links, device, moved).await?;
            }
            Ok(())
        })
    }

    /// Takes the devices back to the calling thread's network namespace, with the names, numbers, addresses and state that they had.
    /// Routes that were more than their addresses' own are not known here, and do not come back.
    ///
    /// # Errors
    /// The first failure; the other devices come back all the same.
    pub fn put_back(self) -> Result<(), NetworkError> {
        if self.moved.is_empty() {
            return Ok(());
        }
        let home = open_current().map_err(namespace)?;
        let moved = &self.moved;
        let returned = inside(self.netns.as_fd(), async |links| {
            let mut results = Vec::new();
            for device in moved {
                let message = links.moving(device.index, &device.before.name, device.before.index, home.as_fd());
                results.push(links.change(message, || format!("put the interface {} back", device.before.name)).await);
            }
            Ok(results)
        })?;
        let restored = with_links(|links| async move {
            let mut results = Vec::new();
            for device in moved {
                results.push(restore(&links, device).await);
            }
            results
        })?;
        returned.into_iter().chain(restored).collect()
    }
}

/// Does `work` with a connection to `netns`.
fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl AsyncFnOnce(&Links) -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    in_namespace(netns, || with_links(async move |links| work(&links).await)).map_err(namespace)??
}

fn namespace(source: NetnsError) -> NetworkError {
    NetworkError::Namespace { container: "the new container".to_owned(), source }
}

fn refused(name: &impl ToString, reason: String) -> NetworkError {
    NetworkError::Device { name: name.to_string(), reason }
}

/// Looks at everything before the first device moves. `taken` are the links that are there already.
async fn look(links: &Links, devices: &[NetDeviceMove], taken: &[LinkView]) -> Result<Vec<Moved>, NetworkError> {
    let mut numbers: BTreeSet<u32> = taken.iter().map(|link| link.index).collect();
    let mut found = Vec::new();
    for device in devices {
        let before = links.find(device.name.as_str()).await?;
        let before = before.ok_or_else(|| refused(&device.name, "there is no such interface".to_owned()))?;
        if let NewDeviceName::Fixed(name) = &device.becomes
            && taken.iter().any(|link| link.name == name.as_str())
        {
            return Err(refused(
                &device.name,
                format!("the container's network namespace has an interface {name} already"),
            ));
        }
        // By its number it is found there, whatever the kernel makes of its name; two may not ask for one.
        let mut index = before.index;
        while !numbers.insert(index) {
            index = numbers.last().map_or(index, |last| last + 1);
        }
        let addresses = links.permanent_addresses(before.index).await?;
        found.push(Moved { before, addresses, index });
    }
    Ok(found)
}

fn is_here(link: &LinkView) -> Result<bool, NetworkError> {
    let found = with_links(|links| async move { links.find(&link.name).await })??;
    Ok(found.is_some_and(|found| found.index == link.index))
}

async fn send(links: &Links, device: &NetDeviceMove, moved: &Moved, netns: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let message = links.moving(moved.before.index, device.becomes.as_str(), moved.index, netns);
    match links.change(message, || format!("move the interface {} into the container", device.name)).await {
        Err(NetworkError::Netlink { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
            let reason = "the kernel moves no device of its kind, as lo, a bridge or a tunnel's fallback device";
            Err(refused(&device.name, reason.to_owned()))
        }
        done => done,
    }
}

/// Gives a device that has arrived what it had: its name may be one that the kernel made.
async fn settle(links: &Links, device: &NetDeviceMove, moved: &Moved) -> Result<(), NetworkError> {
    let keeps_name = device.becomes.as_str() == device.name.as_str();
    let is_global = |message: &&AddressMessage| message.header.scope == AddressScope::Universe;
    for message in moved.addresses.iter().filter(is_global) {
        let mut message = message.clone();
        message.header.index = moved.index;
        if !keeps_name {
            message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Label(_)));
        }
        links.give_back(message, device.becomes.as_str()).await?;
    }
    links.raise(&LinkView { index: moved.index, ..moved.before.clone() }).await
}

/// Makes a device that has come back what it was.
async fn restore(links: &Links, device: &Moved) -> Result<(), NetworkError> {
    for message in &device.addresses {
        links.give_back(message.clone(), &device.before.name).await?;
    }
    links.plug_back(&device.before).await?;
    if device.before.up { links.raise(&device.before).await } else { Ok(()) }
}

/// What of an address is asked for, and not what came of it.
pub(super) fn as_asked(mut message: AddressMessage) -> AddressMessage {
    let kept = AddressFlags::Nodad | AddressFlags::Noprefixroute | AddressFlags::Mcautojoin | AddressFlags::Homeaddress;
    message.header.flags = AddressHeaderFlags::empty();
    message.attributes.retain_mut(|attribute| match attribute {
        AddressAttribute::Flags(flags) => {
            *flags &= kept;
            true
        }
        AddressAttribute::Address(_)
        | AddressAttribute::Local(_)
        | AddressAttribute::Broadcast(_)
        | AddressAttribute::Label(_)
        | AddressAttribute::RoutePriority(_) => true,
        _ => false,
    });
    message
}
