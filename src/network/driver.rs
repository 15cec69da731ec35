//! What a driver of networks must be able to do, and the two that do next to nothing.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;

use super::NetworkError;
use super::config::{DriverKind, NetworkConfig};
use super::record::{Attachment, NetworkRecord};
use crate::namespaces::network as netns;

/// Is a driver's answer, on its way.
pub type DriverFuture<'a> = Pin<Box<dyn Future<Output = Result<(), NetworkError>> + Send + 'a>>;

/// Makes networks of one kind. What is to be made has been recorded before any of these is called.
///
/// Each of them may be called again after a kill at any instruction: what is there already is no error to the makers, what
/// is gone already none to the removers.
pub trait NetworkDriver: Send + Sync {
    /// Refuses a configuration that this driver cannot make; touches nothing.
    fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError>;

    /// Makes the network, or makes sure that it is there as recorded.
    fn setup<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a>;

    /// Attaches the namespace of one container.
    fn attach<'a>(
        &'a self,
        network: &'a NetworkRecord,
        attachment: &'a Attachment,
        netns: BorrowedFd<'a>,
    ) -> DriverFuture<'a>;

    /// Takes containers off the network; their namespaces may be gone.
    fn detach<'a>(&'a self, network: &'a NetworkRecord, attachments: &'a [Attachment]) -> DriverFuture<'a>;

    /// Says whether the driver itself keeps what it could not take off, and tries again: then its places are given up anyway.
    fn forgets_on_failure(&self) -> bool {
        false
    }

    /// Removes the network.
    fn teardown<'a>(&'a self, network: &'a NetworkRecord) -> DriverFuture<'a>;
}

/// Is the driver of `none` and of `host`: neither has anything outside the namespace.
#[derive(Debug)]
pub(super) struct PlainDriver(pub(super) DriverKind);

impl NetworkDriver for PlainDriver {
    fn check(&self, config: &NetworkConfig) -> Result<(), NetworkError> {
        let given = [
            ("a subnet", config.subnet.is_some()),
            ("a gateway", config.gateway.is_some()),
            ("an ip_range", config.ip_range.is_some()),
            ("a subnet", !config.pools.is_empty()),
            ("IPv6 addresses", config.ipv6),
            ("a bridge name", config.bridge_name.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((what, _)) => Err(NetworkError::Config {
                network: config.name.clone(),
                reason: format!("the driver `{}` has no use for {what}", self.0),
            }),
            None => Ok(()),
        }
    }

    fn setup<'a>(&'a self, _: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(async { Ok(()) })
    }

    /// Raises `lo` for `none`; the host's namespace is not ours to touch.
    fn attach<'a>(
        &'a self,
        _: &'a NetworkRecord,
        attachment: &'a Attachment,
        namespace: BorrowedFd<'a>,
    ) -> DriverFuture<'a> {
        Box::pin(async move {
            match self.0 {
                DriverKind::None => netns::prepare(namespace)
                    .map_err(|source| NetworkError::Namespace { container: attachment.container_name.clone(), source }),
                _ => Ok(()),
            }
        })
    }

    fn detach<'a>(&'a self, _: &'a NetworkRecord, _: &'a [Attachment]) -> DriverFuture<'a> {
        Box::pin(async { Ok(()) })
    }

    fn teardown<'a>(&'a self, _: &'a NetworkRecord) -> DriverFuture<'a> {
        Box::pin(async { Ok(()) })
    }
}
