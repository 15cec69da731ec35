#![doc = include_str!("README.md")]
#![expect(unsafe_code, reason = "this folder is the wall around it: everything it offers is safe to call")]

pub mod bpf;
pub mod capability;
pub mod channel;
pub mod clone;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod entry;
pub mod executable;
pub mod heap;
pub mod message;
pub mod mount;
pub mod netdevice;
pub mod nsfs;
pub mod pidfd;
pub mod process;
pub mod pseudo_file;
pub mod scheduling;
pub mod seccomp;
pub mod shared_numbers;
pub mod signals;
pub mod title;
pub mod wait;

pub use channel::{Channel, Frame, Received};
pub use clone::{Child, CloneError, CloneRequest, Fresh, clone_process, exit_now};
pub use heap::{grow_at_once, trim_heap};
pub use message::{parse_message, send_message};
pub use nsfs::namespace_kind;
pub use pseudo_file::{read_pseudo_file, read_pseudo_record};
pub use shared_numbers::{SharedNumbers, monotonic_nanoseconds};
