//! A container whose program is ours: `/proc/self/exe` is the runtime's own file until execve(2), and with it root inside could overwrite the
//! host's binary (CVE-2019-5736). Each test runs a copy of the binary and, from outside and as the host's root, does with that file what
//! code inside could do, and more.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mydocker::sys::mount::{MountChange, RDONLY, change_mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bundle::{Bundle, oci};
use crate::support::{Case, MYDOCKER, Running, Sandbox, cases, eventually};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        it_is_the_entrypoint_of_a_bundle,
        it_is_the_interpreter_of_a_script,
        it_is_the_interpreter_of_a_program,
        it_is_the_program_of_an_exec,
        it_is_the_program_of_run_and_of_a_service,
        code_inside_opens_it,
    ]
}

/// With this argument, and a variable, our binary waits for its standard input to end.
const WAITS: &str = "@polycube";
const VARIABLE: &str = "CNI_COMMAND=VERSION";

/// A copy of the binary, as it may be installed.
struct Victim<'a> {
    sandbox: &'a Sandbox,
    path: PathBuf,
}

impl<'a> Victim<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let path = sandbox.dir().join("mydocker");
        fs::copy(MYDOCKER, &path).unwrap();
        Self { sandbox, path }
    }

    /// Starts it with a standard input that does not end.
    fn spawn(&self, words: &[&str]) -> Running {
        let words = std::iter::once(self.path.to_str().unwrap()).chain(words.iter().copied());
        let words: Vec<_> = words.map(Into::into).collect();
        self.sandbox.start(self.sandbox.dir(), &words, Stdio::piped())
    }

    /// Waits for the process in the container that runs our program, opens the program's file as it could, and tries to make the
    /// mount writable.
    fn open(&self) -> (Pid, File) {
        let pid = eventually("our program runs inside", || {
            self.sandbox.pids().into_iter().find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"/proc/self/exe\0") || line.starts_with(b"/x/program\0")
            })
        });
        let file = File::open(format!("/proc/{pid}/exe")).unwrap();
        let writable = MountChange { clear: RDONLY, ..MountChange::default() };
        change_mount(file.as_fd(), &writable).expect_err("its mount cannot be changed");
        (pid, file)
    }

    /// Tries to write when nothing runs from the file any more.
    fn attack(&self, file: &File) {
        self.sandbox.expect_quiet();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let opened = OpenOptions::new().write(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(b"overwritten"));
        let changed = fs::set_permissions(&path, fs::Permissions::from_mode(0o777));
        self.expect_unchanged();
        assert!(written.is_err(), "whatever was written to, it could be written to");
        drop(changed);
    }

    fn expect_unchanged(&self) {
        assert!(fs::read(&self.path).unwrap() == fs::read(MYDOCKER).unwrap(), "it was overwritten");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&self.path), mode(Path::new(MYDOCKER)), "its mode was changed");
    }
}

/// A bundle that runs `words`.
fn bundle<'a>(sandbox: &'a Sandbox, words: &[&str]) -> Bundle<'a> {
    let bundle = Bundle::with_own_root(sandbox, "b", "");
    bundle.edit(|config| {
        config["process"]["args"] = json!(words);
        config["process"]["env"].as_array_mut().unwrap().push(VARIABLE.into());
    });
    bundle
}

/// Runs the bundle, and attacks what runs in it.
fn attack_bundle(victim: &Victim<'_>, bundle: &Bundle<'_>) {
    let running = victim.spawn(&["oci", "run", "--bundle", bundle.dir.to_str().unwrap(), "web"]);
    let (pid, file) = victim.open();
    kill(pid, Signal::SIGKILL).unwrap();
    running.wait().expect_code(137);
    victim.attack(&file);
}

fn write_program(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn it_is_the_entrypoint_of_a_bundle(sandbox: &Sandbox) {
    attack_bundle(&Victim::new(sandbox), &bundle(sandbox, &["/proc/self/exe", WAITS]));
}

fn it_is_the_interpreter_of_a_script(sandbox: &Sandbox) {
    let bundle = bundle(sandbox, &["/x/script"]);
    write_program(&bundle.dir.join("x/script"), format!("#!/proc/self/exe {WAITS}\n").as_bytes());
    attack_bundle(&Victim::new(sandbox), &bundle);
}

/// The file of the process is its own then; ours is mapped into it, and a link to each mapping is in /proc.
fn it_is_the_interpreter_of_a_program(sandbox: &Sandbox) {
    let victim = Victim::new(sandbox);
    let bundle = bundle(sandbox, &["/x/program", WAITS]);
    write_program(&bundle.dir.join("x/program"), &program_interpreted_by("/proc/self/exe"));
    let running = victim.spawn(&["oci", "run", "--bundle", bundle.dir.to_str().unwrap(), "web"]);
    let (pid, own) = victim.open();
    let own = own.metadata().unwrap().ino();
    let ours = fs::read_dir(format!("/proc/{pid}/map_files")).unwrap().flatten().find_map(|entry| {
        let file = File::open(entry.path()).ok()?;
        (file.metadata().ok()?.ino() != own).then_some(file)
    });
    kill(pid, Signal::SIGKILL).unwrap();
    running.wait().expect_code(137);
    victim.attack(&ours.expect("our binary is mapped"));
}

/// An ELF file whose interpreter is another program: with a segment of its own, and our own description of thread-local storage,
/// which a program looks for in the headers of what was executed.
fn program_interpreted_by(interpreter: &str) -> Vec<u8> {
    const ADDRESS: u64 = 0x6000_0000;
    let ours = fs::read(MYDOCKER).unwrap();
    let number = |at: usize, size: usize| {
        let bytes = ours[at..at + size].iter().rev();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (table, count) = (number(32, 8) as usize, number(56, 2) as usize);
    let storage = (0..count).map(|at| table + at * 56).find(|at| number(*at, 4) == 7).expect("it has PT_TLS");
    let entry = |kind: u32, flags: u32, offset: u64, size: u64| {
        let [address, align] = [ADDRESS + offset, 0x1000];
        let words = [offset, address, address, size, size, align];
        [kind.to_le_bytes(), flags.to_le_bytes()]
            .concat()
            .into_iter()
            .chain(words.into_iter().flat_map(u64::to_le_bytes))
    };
    let at = 64 + 3 * 56;
    let text = format!("{interpreter}\0");
    let mut file = ours[..64].to_vec();
    file[16..18].copy_from_slice(&2_u16.to_le_bytes()); // ET_EXEC
    file[24..32].copy_from_slice(&(ADDRESS + at).to_le_bytes()); // entry: never reached
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[40..48].fill(0);
    file[56..58].copy_from_slice(&3_u16.to_le_bytes());
    file[58..64].fill(0);
    file.extend(entry(3, 4, at, text.len() as u64)); // PT_INTERP
    file.extend(entry(1, 5, 0, at + text.len() as u64)); // PT_LOAD
    file.extend(&ours[storage..storage + 56]);
    file.extend(text.as_bytes());
    file
}

fn it_is_the_program_of_an_exec(sandbox: &Sandbox) {
    let victim = Victim::new(sandbox);
    let bundle = bundle(sandbox, &["sleep", "300"]);
    bundle.oci(&["run", "--detach", "web"]).ok();
    let running = victim.spawn(&["oci", "exec", "web", "/proc/self/exe", WAITS]);
    let (pid, file) = victim.open();
    kill(pid, Signal::SIGKILL).unwrap();
    running.wait().expect_code(137);
    oci(sandbox, &["delete", "--force", "web"]).ok();
    victim.attack(&file);
}

fn it_is_the_program_of_run_and_of_a_service(sandbox: &Sandbox) {
    let victim = Victim::new(sandbox);
    for init in [&[][..], &["--init"]] {
        let words =
            [&["run", "-i", "--network", "none", "-e", VARIABLE], init, &["root_fs", "/proc/self/exe", WAITS]].concat();
        let running = victim.spawn(&words);
        let (pid, file) = victim.open();
        kill(pid, Signal::SIGKILL).unwrap();
        running.wait().expect_code(137);
        victim.attack(&file);
    }
    let directory = sandbox.dir().join("project");
    fs::create_dir(&directory).unwrap();
    let yaml = format!(
        "services:\n  one:\n    image: root_fs\n    network_mode: none\n    stdin_open: true\n    \
         environment: [{VARIABLE}]\n    entrypoint: [/proc/self/exe, '{WAITS}']\n"
    );
    fs::write(directory.join("compose.yaml"), yaml).unwrap();
    let file = directory.join("compose.yaml");
    let compose = |words: &[&str]| victim.spawn(&[&["compose", "-f", file.to_str().unwrap()], words].concat()).wait();
    compose(&["up", "-d"]).ok();
    let (_, file) = victim.open();
    compose(&["down", "-t0"]).ok();
    victim.attack(&file);
}

/// The whole of it, from inside: a container waits for somebody to enter it through /proc/self/exe.
fn code_inside_opens_it(sandbox: &Sandbox) {
    let victim = Victim::new(sandbox);
    let script = "
        while :; do
            for p in /proc/[0-9]*; do
                case $(tr '\\0' ' ' <$p/cmdline) in '/proc/self/exe '*) exec 9<$p/exe && break 2;; esac
            done
        done 2>/dev/null
        echo held >/x/held
        until [ -e /x/go ]; do sleep 0.01; done
        (echo overwritten >/proc/self/fd/9) 2>/x/refused || echo refused >>/x/refused
        chmod 777 /proc/self/fd/9
        echo ended >/x/ended
        exec sleep 300";
    let bundle = bundle(sandbox, &["sh", "-c", script]);
    bundle.edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_ADMIN".into());
        }
    });
    bundle.oci(&["run", "--detach", "web"]).ok();
    let running = victim.spawn(&["oci", "exec", "web", "/proc/self/exe", WAITS]);
    let file =
        |name: &str| fs::read_to_string(bundle.dir.join("x").join(name)).ok().filter(|text| text.ends_with('\n'));
    eventually("it is held", || file("held"));
    let (pid, _) = victim.open();
    kill(pid, Signal::SIGKILL).unwrap();
    running.wait().expect_code(137);
    fs::write(bundle.dir.join("x/go"), "").unwrap();
    eventually("the attack is over", || file("ended"));
    victim.expect_unchanged();
    let said = file("refused").unwrap_or_default();
    assert!(said.ends_with("refused\n"), "{said}");
    oci(sandbox, &["delete", "--force", "web"]).ok();
}
