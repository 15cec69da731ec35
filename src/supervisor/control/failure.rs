//! Errors on their way to a client.

use std::error::Error;

use super::protocol::Failure;
use crate::engine::LaunchError;
use crate::network::NetworkError;

impl Failure {
    /// Makes a failure of one line, exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { chain: vec![message.into()], hint: None, code: 1 }
    }

    /// Makes a failure with its cause.
    pub fn caused(message: impl Into<String>, cause: &dyn Error) -> Self {
        let mut chain = vec![message.into(), cause.to_string()];
        let mut source = cause.source();
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        Self { chain, hint: None, code: 1 }
    }

    /// Makes a failure of `exec` itself, exit code 125.
    pub fn exec(message: impl Into<String>) -> Self {
        Self { code: 125, ..Self::new(message) }
    }

    /// Says that a container could not be started.
    pub fn of_launch(container: &str, error: &LaunchError) -> Self {
        Self { hint: error.hint(), ..Self::caused(format!("start container {container}"), error) }
    }

    /// Says that a command could not be run in a container: 126, 127 or 125.
    pub fn of_exec(container: &str, error: &LaunchError) -> Self {
        let code = u8::try_from(error.exit_code()).unwrap_or(125);
        Self { hint: error.hint(), code, ..Self::caused(format!("run a command in container {container}"), error) }
    }

    /// Says that a network could not be made, found or removed.
    pub fn of_network(network: &str, error: &NetworkError) -> Self {
        Self { hint: error.hint(), ..Self::caused(format!("network {network}"), error) }
    }
}
