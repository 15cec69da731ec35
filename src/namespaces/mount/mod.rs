#![doc = include_str!("README.md")]

mod attributes;
mod bind;
mod copy_up;
mod device;
mod elsewhere;
mod error;
mod filesystem;
mod nodes;
mod overlay;
mod protect;
mod root;
mod target;

pub use attributes::{MountAttributes, Propagation};
pub use bind::{BindMount, Source, bind_node, open_source};
pub use copy_up::copy_tree;
pub use device::{Device, DeviceKind, Parents, make_symlink};
pub use elsewhere::clone_from;
pub use error::MountError;
pub use filesystem::{FilesystemMount, detached_proc};
pub use nodes::make_detached;
pub use overlay::{IdMappedLayers, Overlay, open_directory};
pub use protect::{Masks, protect_mount, protect_path};
pub use root::{
    bind_root, change_root, detach, enter_root, enter_root_by_move, mount_id, protect_root, set_own_propagation,
    set_propagation,
};
pub use target::{TargetKind, open_plain, open_target};
