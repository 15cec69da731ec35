//! Rules of the host: what is wanted, what is there, the way from one to the other, and the one call that goes it.
//!
//! Rules stand in chains of our own. Their content is made anew from the records of all networks each time, so there is
//! nothing to add or take away singly, and what a kill left half-done the next call puts right.

mod apply;
mod plan;
mod rules;

pub(super) use apply::Firewall;
