use std::fmt;

use crate::container::LaunchPlan;

/// Hears what a new process is told to do, step by step, before it is told (`--debug`).
#[derive(Clone, Copy, Default)]
pub struct Trace<'a>(Option<&'a dyn Fn(&str)>);

impl<'a> Trace<'a> {
    /// Names who hears it.
    pub fn new(hear: &'a dyn Fn(&str)) -> Self {
        Self(Some(hear))
    }

    pub(super) fn tell(self, plan: &LaunchPlan) {
        let Some(hear) = self.0 else { return };
        plan.create.iter().chain(&plan.start).for_each(|action| hear(&action.to_string()));
    }
}

impl fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "heard" } else { "not heard" })
    }
}
