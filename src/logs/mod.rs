#![doc = include_str!("README.md")]

mod error;
pub mod frame;
mod generations;
mod pipe;
mod pump;
mod writer;

pub use error::LogError;
pub use frame::{Line, Stamp, Stream, Tail};
pub use pipe::{make_stdio_pipe, pipe_inode, reopen_stdio_pipe};
pub use pump::{ContainerOutput, Pump, PumpEnd};
pub use writer::{LogWriter, Rotation};
