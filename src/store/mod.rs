#![doc = include_str!("README.md")]

mod directories;
mod error;
mod lock;
mod process;
mod record;

pub use directories::{CONTROL_SOCKET, Directories, ProjectDirectory};
pub use error::StoreError;
pub use lock::FileLock;
pub use process::ProcessIdentity;
pub use record::{
    Durability, Loaded, Record, Versioned, load_record, name_before, read_json, read_record, remove, remove_set_aside,
    remove_temporaries, set_aside, write_json_atomic, write_json_durable, write_record,
};
