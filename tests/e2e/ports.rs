//! Published ports.

use crate::support::{Case, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![]
}
