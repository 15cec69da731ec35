//! A bundle of a test's own, and the runtime called on it.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{MYDOCKER, Output, Running, Sandbox, eventually, rootfs};

/// A directory with a config.json whose root is the read-only one of all tests.
pub(crate) struct Bundle<'a> {
    sandbox: &'a Sandbox,
    pub(crate) dir: PathBuf,
}

impl<'a> Bundle<'a> {
    /// A container that runs `script` in a shell.
    pub(crate) fn new(sandbox: &'a Sandbox, name: &str, script: &str) -> Self {
        let dir = sandbox.dir().join("bundles").join(name);
        fs::create_dir_all(&dir).expect("a directory of our own");
        let bundle = Self { sandbox, dir };
        bundle.write(&config(&["sh", "-c", script]));
        bundle
    }

    /// The same with a root of its own, to be written to, and a directory `x` of the bundle's at /x.
    pub(crate) fn with_own_root(sandbox: &'a Sandbox, name: &str, script: &str) -> Self {
        let bundle = Self::new(sandbox, name, script);
        fs::create_dir(bundle.dir.join("x")).expect("a directory of our own");
        sandbox.shell(&format!("cp -a \"$MYDOCKER_ROOTFS\" {}/rootfs", bundle.dir.display())).ok();
        bundle.edit(|config| config["root"] = json!({ "path": "rootfs" }));
        bundle.mount(json!({ "destination": "/x", "type": "bind", "source": "x", "options": ["bind"] }));
        bundle
    }

    /// Adds a mount.
    pub(crate) fn mount(&self, mount: Value) {
        self.edit(|config| config["mounts"].as_array_mut().expect("a list").push(mount));
    }

    pub(crate) fn write(&self, config: &Value) {
        fs::write(self.dir.join("config.json"), config.to_string()).expect("a file of our own");
    }

    /// Changes the configuration.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) -> &Self {
        let text = fs::read(self.dir.join("config.json")).expect("it was written");
        let mut config = serde_json::from_slice(&text).expect("it is JSON");
        change(&mut config);
        self.write(&config);
        self
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w str> {
        let mut all = words.to_vec();
        all.extend(["--bundle", self.dir.to_str().expect("made of ASCII")]);
        all
    }

    /// Runs `create` or `run` with this bundle.
    #[track_caller]
    pub(crate) fn oci(&self, words: &[&str]) -> Output {
        oci(self.sandbox, &self.words(words))
    }

    /// Starts `create` or `run` with this bundle.
    pub(crate) fn spawn(&self, words: &[&str]) -> Running {
        let own = self.words(words);
        let words: Vec<&str> = std::iter::once("oci").chain(own).collect();
        self.sandbox.spawn(&words)
    }

    /// The same as words for a shell or a terminal.
    pub(crate) fn command(&self, words: &[&str]) -> Vec<OsString> {
        [MYDOCKER, "oci"].into_iter().chain(self.words(words)).map(OsString::from).collect()
    }
}

/// Runs a command of the runtime.
#[track_caller]
pub(crate) fn oci(sandbox: &Sandbox, words: &[&str]) -> Output {
    let words: Vec<&str> = std::iter::once("oci").chain(words.iter().copied()).collect();
    sandbox.mydocker(&words)
}

/// What `state` says.
#[track_caller]
pub(crate) fn state(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_str(&oci(sandbox, &["state", id]).ok().stdout).expect("it is JSON")
}

/// Waits until a container has a status.
#[track_caller]
pub(crate) fn wait_status(sandbox: &Sandbox, id: &str, status: &str) {
    eventually(&format!("{id} is {status}"), || (state(sandbox, id)["status"] == status).then_some(()));
}

/// Asserts that nothing is left: no state, and no process below the sandbox's cgroup.
#[track_caller]
pub(crate) fn expect_nothing(sandbox: &Sandbox) {
    let states: Vec<_> = fs::read_dir(sandbox.run_dir().join("oci")).expect("it is there").flatten().collect();
    assert!(states.is_empty(), "states are left: {states:?}");
    eventually("no process is left", || sandbox.processes().is_empty().then_some(()));
    assert!(sandbox.cgroups().is_empty(), "cgroups are left: {:?}", sandbox.cgroups());
}

/// A configuration as engines write it, less what a test does not need.
pub(crate) fn config(args: &[&str]) -> Value {
    let caps = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"];
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "HOME=/root"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs(), "readonly": true },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
}
