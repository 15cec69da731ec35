//! What is written where, as data, and writing it: with an undo for a cgroup that is in use.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::super::files::{read_if_there, try_write};
use super::super::{CgroupError, library};

/// Is one value for one file of a cgroup's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Setting {
    /// Where the runtime specification has it, below `linux.resources`.
    pub key: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    /// Why it has no effect where the kernel has no such file, or does not take it any more; `None` makes that an error.
    pub without: Option<&'static str>,
    pub undo: Undo,
}

/// Says how a value is set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Undo {
    /// What the file held is written.
    Whole,
    /// The file has a line a device: that line is written, or this behind the device's name where there was none.
    Line(&'static str),
    /// The file has lines `key value`: the value behind this key is written.
    Keyed(&'static str),
}

/// Is one thing to do to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// Writes a value.
    Write(Setting),
    /// Writes values that the kernel holds against each other: what it refuses is tried again behind the others.
    Together(Vec<Setting>),
    /// Writes to the first of these files that is there.
    First(Vec<Setting>),
    /// Says that something has no effect.
    Note(String),
}

impl Setting {
    pub fn new(key: &'static str, file: &'static str, value: impl ToString) -> Self {
        Self { key: key.into(), file: file.into(), value: value.to_string(), without: None, undo: Undo::Whole }
    }

    /// The same, with no effect instead of an error where the kernel lacks the file.
    pub fn or_else(self, without: &'static str) -> Self {
        Self { without: Some(without), ..self }
    }

    /// The same, with nothing said where the kernel lacks the file.
    pub fn quietly(self) -> Self {
        self.or_else("")
    }

    /// The same, with another way back.
    pub fn undone_by(self, undo: Undo) -> Self {
        Self { undo, ..self }
    }

    /// Returns what brings back what the file holds now.
    fn previous(&self, held: &str) -> String {
        match self.undo {
            Undo::Whole => held.trim_end().to_owned(),
            Undo::Keyed(key) => {
                held.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
            }
            Undo::Line(unset) => {
                let device = self.value.split(' ').next().unwrap_or_default();
                let line = held.lines().find(|line| line.split(' ').next() == Some(device));
                line.map_or_else(|| format!("{device} {unset}"), str::to_owned)
            }
        }
    }
}

/// Carries out steps in cgroup directories, and remembers how to undo them where that was asked for.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// What has no effect.
    pub warnings: Vec<String>,
    /// What was there before; `None` where nobody will ask.
    undo: Option<Vec<(PathBuf, String)>>,
}

impl Writer {
    /// For a cgroup that is in use.
    pub fn with_undo() -> Self {
        Self { warnings: Vec::new(), undo: Some(Vec::new()) }
    }

    /// Carries out one step.
    pub fn apply(&mut self, dir: &Path, v1: bool, step: &Step) -> Result<(), CgroupError> {
        match step {
            Step::Write(setting) => self.write(dir, v1, setting),
            Step::Together(settings) => self.together(dir, v1, settings),
            Step::First(settings) => {
                let mut last = Ok(());
                for setting in settings {
                    last = self.write(dir, v1, setting);
                    if !last.as_ref().is_err_and(is_missing) {
                        break;
                    }
                }
                last
            }
            Step::Note(text) => {
                self.warnings.push(text.clone());
                Ok(())
            }
        }
    }

    /// Goes round until everything is written or a whole round wrote nothing.
    fn together(&mut self, dir: &Path, v1: bool, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut left: Vec<&Setting> = settings.iter().collect();
        while !left.is_empty() {
            let mut refused = Vec::new();
            let mut first = None;
            for setting in &left {
                match self.write(dir, v1, setting) {
                    Ok(()) => {}
                    Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EBUSY)) => {
                        refused.push(*setting);
                        first.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match first {
                Some(error) if refused.len() == left.len() => return Err(error),
                _ => left = refused,
            }
        }
        Ok(())
    }

    fn write(&mut self, dir: &Path, v1: bool, setting: &Setting) -> Result<(), CgroupError> {
        let path = dir.join(setting.file.as_ref());
        let held = match &self.undo {
            Some(_) => read_if_there(&path).ok().flatten(),
            None => None,
        };
        let by_library = if v1 { library::write(dir, &setting.file, &setting.value) } else { None };
        let written = by_library
            .unwrap_or_else(|| try_write(&path, &setting.value))
            .map_err(|source| CgroupError::Write { path: path.clone(), value: setting.value.clone(), source });
        match (written, setting.without) {
            (Ok(()), _) => {
                if let (Some(undo), Some(held)) = (&mut self.undo, held) {
                    undo.push((path, setting.previous(&held)));
                }
                Ok(())
            }
            (Err(error), Some(warning)) if is_missing(&error) => {
                self.warnings.extend((!warning.is_empty()).then(|| warning.to_owned()));
                Ok(())
            }
            (Err(error), _) => {
                Err(CgroupError::Resource { key: setting.key.clone().into_owned(), source: Box::new(error) })
            }
        }
    }

    /// Writes back what was there, the last first. What cannot be written back stays.
    pub fn roll_back(self) {
        for (path, held) in self.undo.unwrap_or_default().into_iter().rev() {
            // An empty value is a line end: a write of nothing is no write at all.
            let _ = try_write(&path, if held.is_empty() { "\n" } else { &held });
        }
    }
}

/// Answers whether an error means that this kernel does not have what was to be set.
fn is_missing(error: &CgroupError) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_known_in_each_form() {
        let setting = |value, undo| Setting::new("k", "f", value).undone_by(undo);
        assert_eq!(setting("5", Undo::Whole).previous("max\n"), "max");
        assert_eq!(setting("1", Undo::Keyed("oom_kill_disable ")).previous("oom_kill_disable 0\nunder_oom 0\n"), "0");
        let io = setting("8:0 rbps=9", Undo::Line("rbps=max"));
        assert_eq!(io.previous("8:16 rbps=1 wbps=max\n"), "8:0 rbps=max");
        assert_eq!(io.previous("8:0 rbps=1 wbps=max\n"), "8:0 rbps=1 wbps=max");
    }

    #[test]
    fn what_fails_is_named_and_what_went_before_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pids.max"), "max").unwrap();
        let mut writer = Writer::with_undo();
        writer.apply(dir.path(), false, &Step::Write(Setting::new("pids.limit", "pids.max", 5))).unwrap();
        let missing = Setting::new("cpu.burst", "cpu.max.burst", 7);
        writer.apply(dir.path(), false, &Step::Write(missing.clone().or_else("no burst"))).unwrap();
        assert_eq!(writer.warnings, ["no burst"]);
        let error = writer.apply(dir.path(), false, &Step::First(vec![missing.clone(), missing])).unwrap_err();
        assert_eq!(error.to_string(), "set linux.resources.cpu.burst");
        writer.roll_back();
        assert_eq!(std::fs::read_to_string(dir.path().join("pids.max")).unwrap(), "max");
    }
}
