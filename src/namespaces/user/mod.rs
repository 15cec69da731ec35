#![doc = include_str!("README.md")]

mod layers;
mod maps;

pub use layers::{MappedTree, OwnedLayers, map_layers, mapped_layers};
pub use maps::{SetGroups, UserNamespaceError, write_maps};
