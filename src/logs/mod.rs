#![doc = include_str!("README.md")]

mod clean;
mod collector;
mod cursor;
mod error;
mod follow;
mod follower;
pub mod frame;
mod generations;
mod mend;
mod mux;
mod open_lines;
mod pipe;
mod place;
mod pump;
mod writer;

pub use collector::{Collection, Collector};
pub use error::LogError;
pub use follow::{LogReader, LogSink, Progress, SourceId};
pub use follower::Follower;
pub use frame::{Line, Stamp, Stream, Tail};
pub use mux::{Mux, MuxOptions};
pub use pipe::{make_stdio_pipe, pipe_inode, reopen_stdio_pipe};
pub use place::LogQuery;
pub use pump::{ContainerOutput, Pump, PumpEnd};
pub use writer::{LogWriter, Retention, Rotation};
