//! Classes of service for caches and memory bandwidth: the resctrl file system (runtime specification, "IntelRdt"; the kernel's
//! Documentation/filesystems/resctrl.rst).
//!
//! A directory of it is a class: `schemata` says what its tasks may use, `tasks` who they are. A directory below `mon_groups` counts
//! what some of them use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use super::OciError;
use crate::sys::read_pseudo_file;

const KEY: &str = "linux.intelRdt";
/// Where it is mounted as a rule, and what the kernel calls it (statfs(2)).
const USUAL: &str = "/sys/fs/resctrl";
const MAGIC: i64 = 0x0765_5821;
/// What the kernel has there itself.
const RESERVED: [&str; 5] = ["info", "mon_groups", "mon_data", ".", ".."];

/// Is a container's place in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlRecord {
    root: PathBuf,
    /// The class.
    class: PathBuf,
    /// It goes with the container: it has its name, and was not there before.
    is_own: bool,
    /// The group that counts what the container uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
}

/// Is what a class is to have.
#[derive(Debug)]
pub(super) struct Schemata(Vec<String>);

impl ResctrlRecord {
    /// Finds the place that a configuration asks for; nothing is made.
    ///
    /// # Errors
    /// [`OciError::Config`] with the key: no such file system is mounted, a name or a line that cannot be one, a class that has to be there
    /// and is not, or is another than the lines say.
    pub(super) fn plan(asked: &LinuxIntelRdt, id: &str) -> Result<(Self, Schemata), OciError> {
        Self::plan_at(mountpoint()?, asked, id)
    }

    fn plan_at(root: PathBuf, asked: &LinuxIntelRdt, id: &str) -> Result<(Self, Schemata), OciError> {
        let schemata = lines(asked)?;
        let named = asked.clos_id().as_deref().filter(|name| !name.is_empty());
        let class = match named {
            Some("/") => root.clone(),
            Some(name) => root.join(checked("closID", name)?),
            None => root.join(checked("closID", id)?),
        };
        match (named.is_some(), class.exists()) {
            (true, true) => schemata.compare(&class)?,
            (true, false) if schemata.0.is_empty() => {
                let reason = format!("there is no class {}, and no schemata to make one of", class.display());
                return Err(wrong("closID", reason));
            }
            _ => {}
        }
        let is_own = named.is_none() && !class.exists();
        let monitors = asked.enable_monitoring().unwrap_or(false);
        let monitor = monitors.then(|| checked("enableMonitoring", id)).transpose()?;
        let monitor = monitor.map(|name| class.join("mon_groups").join(name));
        Ok((Self { root, class, is_own, monitor }, schemata))
    }

    /// Makes what is missing and writes the lines. Once it is on record.
    ///
    /// # Errors
    /// [`OciError::Config`] with what the kernel says.
    pub(super) fn make(&self, schemata: &Schemata) -> Result<(), OciError> {
        self.make_directory(&self.class)?;
        if !schemata.0.is_empty() {
            self.write(&self.class.join("schemata"), &schemata.text())?;
        }
        self.monitor.as_ref().map_or(Ok(()), |monitor| self.make_directory(monitor))
    }

    /// Puts a process into the class; what it makes follows it.
    ///
    /// # Errors
    /// [`OciError::Config`] with what the kernel says.
    pub(super) fn join(&self, pid: i32) -> Result<(), OciError> {
        let places = [Some(&self.class), self.monitor.as_ref()];
        places.into_iter().flatten().try_for_each(|place| self.write(&place.join("tasks"), &pid.to_string()))
    }

    /// Removes what was made for the container.
    ///
    /// # Errors
    /// [`OciError::Config`] with what the kernel says.
    pub(super) fn clear(&self) -> Result<(), OciError> {
        let own = self.is_own.then_some(&self.class);
        for directory in [self.monitor.as_ref(), own].into_iter().flatten() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", directory, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> Result<(), OciError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(self.failed("make", path, &error)),
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), OciError> {
        let opened = File::options().write(true).open(path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| self.failed("write", path, &error))
    }

    /// The kernel tells more in a file than by a number.
    fn failed(&self, operation: &str, path: &Path, error: &io::Error) -> OciError {
        let told = read_pseudo_file(self.root.join("info/last_cmd_status")).unwrap_or_default();
        let told = match told.trim() {
            "" | "ok" => String::new(),
            told => format!(" ({told})"),
        };
        OciError::Config { key: KEY.to_owned(), reason: format!("{operation} {}: {error}{told}", path.display()) }
    }
}

impl Schemata {
    fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A class that somebody made must be what the container is to have.
    fn compare(&self, class: &Path) -> Result<(), OciError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let path = class.join("schemata");
        let failed = |error| wrong("closID", format!("read {}: {error}", path.display()));
        let has = read_pseudo_file(&path).map_err(failed)?;
        let has: Vec<_> = has.lines().filter_map(parse).collect();
        for line in &self.0 {
            let Some((resource, domains)) = parse(line) else {
                return Err(wrong("schemata", format!("`{line}` is no line like `L3:0=ff;1=f`")));
            };
            let there = has.iter().filter(|(other, _)| *other == resource).flat_map(|(_, domains)| domains);
            let there: Vec<_> = there.collect();
            if !domains.iter().all(|domain| there.contains(&domain)) {
                let reason = format!("the class {} is there and has other schemata than `{line}`", class.display());
                return Err(wrong("closID", reason));
            }
        }
        Ok(())
    }
}

/// Reads `L3:0=7ff;1=0f` as the kernel writes it, with any number of zeros and spaces.
fn parse(line: &str) -> Option<(&str, Vec<(String, String)>)> {
    let (resource, domains) = line.split_once(':')?;
    let domain = |text: &'_ str| {
        let (number, value) = text.split_once('=')?;
        Some((number.trim().to_owned(), value.trim().trim_start_matches('0').to_ascii_lowercase()))
    };
    Some((resource.trim(), domains.split(';').map(domain).collect::<Option<_>>()?))
}

fn wrong(field: &str, reason: String) -> OciError {
    OciError::Config { key: format!("{KEY}.{field}"), reason }
}

/// A name is one directory's, and none that the kernel has.
fn checked<'a>(field: &str, name: &'a str) -> Result<&'a str, OciError> {
    let is_name = !name.contains(['/', '\n', '\0']) && !RESERVED.contains(&name);
    if is_name { Ok(name) } else { Err(wrong(field, format!("`{name}` cannot be the name of a group"))) }
}

/// The lines, in the order in which they are written.
fn lines(asked: &LinuxIntelRdt) -> Result<Schemata, OciError> {
    let one = |field: &'static str, line: &Option<String>| {
        line.clone().filter(|line| !line.is_empty()).map(|line| (field, line))
    };
    let schemata = asked.schemata().iter().flatten().map(|line| ("schemata", line.clone()));
    let single = [one("l3CacheSchema", asked.l3_cache_schema()), one("memBwSchema", asked.mem_bw_schema())];
    let mut all = Vec::new();
    for (field, line) in single.into_iter().flatten().chain(schemata) {
        if line.contains(['\n', '\0']) {
            return Err(wrong(field, "a line holds no line end".to_owned()));
        }
        if field == "memBwSchema" && !line.starts_with("MB:") {
            return Err(wrong(field, format!("`{line}` does not begin with `MB:`")));
        }
        all.push(line);
    }
    Ok(Schemata(all))
}

fn mountpoint() -> Result<PathBuf, OciError> {
    if rustix::fs::statfs(USUAL).is_ok_and(|found| found.f_type == MAGIC) {
        return Ok(USUAL.into());
    }
    let mounts = read_pseudo_file("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts.lines().find(|line| line.contains(" - resctrl ")).and_then(|line| line.split(' ').nth(4));
    found.map(PathBuf::from).ok_or_else(|| OciError::Config {
        key: KEY.to_owned(),
        reason: format!("this host has no resctrl file system (`mount -t resctrl resctrl {USUAL}`)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree like the kernel's: what mkdir(2) makes there has files at once.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            fs::create_dir(fake.path().join("info")).unwrap();
            fs::create_dir(fake.path().join("mon_groups")).unwrap();
            fake.fill("");
            fake
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn fill(&self, class: &str) {
            ["schemata", "tasks"].iter().for_each(|file| fs::write(self.path().join(class).join(file), "").unwrap());
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.path().join(file)).unwrap()
        }

        fn plan(&self, asked: serde_json::Value) -> Result<(ResctrlRecord, Schemata), String> {
            let asked = serde_json::from_value(asked).unwrap();
            ResctrlRecord::plan_at(self.path().to_owned(), &asked, "web").map_err(|error| error.line())
        }
    }

    #[test]
    fn a_class_of_the_container_s_own_goes_with_it() {
        let fake = Fake::new();
        let asked = serde_json::json!({
            "schemata": ["L2:0=f"], "memBwSchema": "MB:0=20;1=70", "l3CacheSchema": "L3:0=7f0;1=1f", "enableMonitoring": true,
        });
        let (record, schemata) = fake.plan(asked).unwrap();
        assert!(!fake.path().join("web").exists(), "nothing is made before it is on record");
        fs::create_dir_all(fake.path().join("web/mon_groups/web")).unwrap();
        fake.fill("web");
        fake.fill("web/mon_groups/web");
        record.make(&schemata).unwrap();
        record.join(4242).unwrap();
        assert_eq!(fake.read("web/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
        assert_eq!((fake.read("web/tasks"), fake.read("web/mon_groups/web/tasks")), ("4242".into(), "4242".into()));
        assert_eq!((fake.read("schemata"), fake.read("tasks")), (String::new(), String::new()));
        // The kernel's files are none that rmdir(2) minds.
        for directory in ["web/mon_groups/web", "web"] {
            ["schemata", "tasks"]
                .iter()
                .for_each(|file| fs::remove_file(fake.path().join(directory).join(file)).unwrap());
        }
        fs::rename(fake.path().join("web/mon_groups"), fake.path().join("aside")).unwrap();
        fs::create_dir_all(fake.path().join("web")).unwrap();
        record.clear().unwrap();
        assert!(!fake.path().join("web").exists());
        record.clear().unwrap();
    }

    #[test]
    fn a_class_that_has_a_name_stays() {
        let fake = Fake::new();
        let asked = |class: &str, schema: &str| serde_json::json!({ "closID": class, "l3CacheSchema": schema });
        let (record, schemata) = fake.plan(asked("gold", "L3:0=f")).unwrap();
        fs::create_dir(fake.path().join("gold")).unwrap();
        fake.fill("gold");
        record.make(&schemata).unwrap();
        assert_eq!(fake.read("gold/schemata"), "L3:0=f\n");
        record.clear().unwrap();
        assert!(fake.path().join("gold").exists());
        // It is there now, and has to be what is asked for, however it is written.
        fs::write(fake.path().join("gold/schemata"), "    MB:0=100;1=100\n    L3:0=00f;1=7ff\n").unwrap();
        for same in ["L3:0=f", "L3:1=7FF;0=0f"] {
            fake.plan(asked("gold", same)).unwrap();
        }
        for other in ["L3:0=1f", "L3:0=f;1=0", "L2:0=f", "L3:2=f", "L3"] {
            let error = fake.plan(asked("gold", other)).unwrap_err();
            assert!(error.starts_with("linux.intelRdt."), "{other}: {error}");
        }
        let (root, _) = fake.plan(serde_json::json!({ "closID": "/" })).unwrap();
        root.join(7).unwrap();
        assert_eq!(fake.read("tasks"), "7");
        root.clear().unwrap();
        assert!(fake.path().exists());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fake = Fake::new();
        fs::write(fake.path().join("info/last_cmd_status"), "mask f is out of range\n").unwrap();
        for (asked, words) in [
            (serde_json::json!({ "closID": "nosuch" }), "no class"),
            (serde_json::json!({ "closID": "../out", "schemata": ["L3:0=f"] }), "closID"),
            (serde_json::json!({ "closID": "info" }), "closID"),
            (serde_json::json!({ "closID": "..", "schemata": ["L3:0=f"] }), "closID"),
            (serde_json::json!({ "l3CacheSchema": "L3:0=f\nMB:0=1" }), "l3CacheSchema"),
            (serde_json::json!({ "schemata": ["L3:0=f\n"] }), "schemata"),
            (serde_json::json!({ "memBwSchema": "0=20" }), "MB:"),
        ] {
            let error = fake.plan(asked).unwrap_err();
            assert!(error.starts_with("linux.intelRdt.") && error.contains(words), "{error}");
        }
        // What the kernel refuses it explains.
        let (record, schemata) = fake.plan(serde_json::json!({ "schemata": ["L3:0=f"] })).unwrap();
        let error = record.make(&schemata).unwrap_err().line();
        assert!(error.contains("web/schemata") && error.contains("out of range"), "{error}");
    }
}
