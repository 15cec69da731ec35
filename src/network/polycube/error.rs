use std::io;
use std::path::PathBuf;

use super::super::NetworkError;
use crate::namespaces::network::NetnsError;
use crate::network::cni::{ErrorObject, code};
use crate::store::StoreError;

/// polycubed answered, and refused.
const REFUSED: u32 = 100;
/// The kernel refused.
const KERNEL: u32 = 101;

/// Says why an attachment to a Polycube network failed.
#[derive(Debug, thiserror::Error)]
pub enum PolycubeError {
    /// A key of the configuration that cannot be.
    #[error("{0}")]
    Configuration(String),
    /// The namespace or the interface of the call cannot be used.
    #[error("{0}")]
    Environment(String),
    /// Nobody answers, or not in time.
    #[error("polycubed not reachable")]
    Unreachable {
        /// Method and address.
        request: String,
        /// What came instead of an answer.
        reason: String,
    },
    /// polycubed answered, and refused.
    #[error("polycubed refused: {message}")]
    Refused {
        /// Method and address.
        request: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Something stands where ours should.
    #[error("{object} is in use otherwise: {found}, needed: {wanted}")]
    Conflict {
        /// A cube, port or route.
        object: String,
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// `masquerade/enable` was answered with `false`.
    #[error("the nat cube {0} does not masquerade: its router's port has no address")]
    NoMasquerade(String),
    /// The plugin that gives addresses failed.
    #[error("{plugin}: {}", .error.msg)]
    Ipam {
        /// Its type.
        plugin: String,
        /// Its own error.
        error: ErrorObject,
    },
    /// The plugin that gives addresses could not be run.
    #[error("run the plugin {plugin}")]
    IpamProcess {
        /// Its type.
        plugin: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plugin that gives addresses printed something else.
    #[error("{plugin}: {reason}")]
    IpamAnswer {
        /// Its type.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// CHECK found something else than ADD had made.
    #[error("{0}")]
    Changed(String),
    /// STATUS: no ADD can be served.
    #[error("polycubed not reachable")]
    NotAvailable {
        /// What came instead of an answer.
        reason: String,
        /// Whether there are attachments.
        attached: bool,
    },
    /// A request to the kernel failed.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// Work inside a network namespace failed.
    #[error("{0}")]
    Namespace(#[from] NetnsError),
    /// A record or lock.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A file or directory.
    #[error("{operation} {}", .path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PolycubeError {
    /// Says whether polycubed is away: what is left for it to do is done later.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Turns it into what a plugin prints.
    pub fn to_object(&self) -> ErrorObject {
        let mut details = self.details();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let text = error.to_string();
            if !details.contains(&text) {
                details = if details.is_empty() { text } else { format!("{details}: {text}") };
            }
            source = error.source();
        }
        ErrorObject::new(self.code(), self.to_string()).details(details)
    }

    fn code(&self) -> u32 {
        match self {
            Self::Configuration(_) | Self::Conflict { .. } => code::BAD_CONFIGURATION,
            Self::Environment(_) => code::BAD_ENVIRONMENT,
            Self::Unreachable { .. } => code::TRY_AGAIN,
            Self::NotAvailable { attached: false, .. } => code::NOT_AVAILABLE,
            Self::NotAvailable { attached: true, .. } => code::NOT_AVAILABLE_AND_LIMITED,
            Self::Refused { .. } | Self::NoMasquerade(_) | Self::Changed(_) => REFUSED,
            Self::Ipam { error, .. } => error.code,
            Self::IpamAnswer { .. } => code::DECODE_FAILURE,
            Self::IpamProcess { .. } | Self::Store(_) | Self::File { .. } => code::IO_FAILURE,
            Self::Network(_) | Self::Namespace(_) => KERNEL,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Unreachable { request, reason } => format!("{request}: {reason}; start polycubed or set url"),
            Self::NotAvailable { reason, .. } => reason.clone(),
            Self::Refused { request, status, .. } => format!("{request}: {status}"),
            Self::Ipam { error, .. } => error.details.clone(),
            Self::Network(error) => error.hint().unwrap_or_default(),
            Self::Namespace(error) => error.hint().unwrap_or_default(),
            _ => String::new(),
        }
    }
}
