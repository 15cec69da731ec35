//! A filter as the kernel takes it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SeccompError;

/// The most instructions the kernel takes in one filter (BPF_MAXINSNS).
pub(super) const LONGEST: usize = 4096;

/// Is the size of one `struct sock_filter`.
pub(super) const INSTRUCTION: usize = 8;

/// Is a compiled filter: an array of `struct sock_filter`, ready for seccomp(2). Cloning it is cheap.
///
/// In JSON it is one number an instruction.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct CompiledFilter(Arc<[u8]>);

impl CompiledFilter {
    /// Takes bytes that are whole instructions, at least one and no more than the kernel takes.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, SeccompError> {
        let instructions = bytes.len() / INSTRUCTION;
        if bytes.is_empty() || !bytes.len().is_multiple_of(INSTRUCTION) || instructions > LONGEST {
            return Err(SeccompError::TooLong { instructions });
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the instructions' bytes, for [`crate::sys::seccomp::install`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Counts the instructions.
    pub fn instructions(&self) -> usize {
        self.0.len() / INSTRUCTION
    }
}

impl fmt::Debug for CompiledFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompiledFilter({} instructions)", self.instructions())
    }
}

impl From<CompiledFilter> for Vec<u64> {
    fn from(filter: CompiledFilter) -> Self {
        filter.0.as_chunks::<INSTRUCTION>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect()
    }
}

impl TryFrom<Vec<u64>> for CompiledFilter {
    type Error = SeccompError;

    fn try_from(words: Vec<u64>) -> Result<Self, SeccompError> {
        Self::new(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())
    }
}
