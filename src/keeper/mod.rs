#![doc = include_str!("README.md")]

mod boot;
mod protocol;
mod role;
mod watch;

pub use boot::{KeeperError, KeeperStart, start_keeper};
pub use protocol::{BootReply, FromSupervisor, KeeperBoot, Orphan, ToShim, ToSupervisor};
pub use role::{Role, become_role, spawn_role};
pub use watch::run;
