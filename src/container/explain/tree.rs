//! The calls of the steps that build what the container sees.

use std::path::{Component, Path, PathBuf};

use super::scene::Scene;
use super::strace::{self, Calls, fd, fsconfig, fsmount, fsopen, mount_setattr, move_mount, path, quoted};
use crate::container::plan::HookCall;
use crate::namespaces::mount::{BindMount, Device, DeviceKind, FilesystemMount, Overlay, Propagation};
use crate::sys::mount::{MountChange, NODEV, NOEXEC, NOSUID, RDONLY};

const MISSING: &str = "it is missing";
const REFUSED: &str = "the kernel refuses that: the host's is bound";
const ALLOWED: &str = "the kernel allows it";

pub(super) fn open_source(source: &Path, below: Option<&Path>, recursive: bool) -> Calls {
    Calls::one(match below {
        None => strace::open_tree("AT_FDCWD", &path(source), recursive),
        Some(_) => strace::clone_mount("…", recursive),
    })
}

pub(super) fn set_propagation(propagation: Propagation) -> Calls {
    // strace prints the flags in the order of their bits.
    let recursive = if propagation.recursive() { "MS_REC|" } else { "" };
    Calls::one(format!("mount(NULL, \"/\", NULL, {recursive}{}, NULL)", kind_of(propagation)))
}

fn kind_of(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private | Propagation::RecursivePrivate => "MS_PRIVATE",
        Propagation::Shared | Propagation::RecursiveShared => "MS_SHARED",
        Propagation::Slave | Propagation::RecursiveSlave => "MS_SLAVE",
        Propagation::Unbindable | Propagation::RecursiveUnbindable => "MS_UNBINDABLE",
    }
}

pub(super) fn set_root_propagation(propagation: Propagation) -> Calls {
    let change =
        MountChange { propagation: propagation.bits(), recursive: propagation.recursive(), ..MountChange::default() };
    Calls::one(mount_setattr("…", &change))
}

pub(super) fn mount_overlay(overlay: &Overlay, scene: &Scene<'_>) -> Calls {
    let mapped = scene.has_mapped_layers();
    let mut calls = Calls::default();
    if mapped {
        (0..2).for_each(|_| calls.add(move_mount(&fd(&overlay.mountpoint))));
    }
    let name = |path: &Path| match Overlay::plain_name(path).filter(|_| !mapped) {
        Some(text) => quoted(text),
        None => "\"/proc/self/fd/…\"".to_owned(),
    };
    let set = |key: &str, value: &str| format!("fsconfig(…, FSCONFIG_SET_STRING, \"{key}\", {value}, 0)");
    calls.add(fsopen("overlay"));
    calls.add(fsconfig("source", Some("overlay")));
    for lower in &overlay.lower {
        calls.when("Linux 6.5 or newer", set("lowerdir+", &name(lower)));
    }
    calls.when("an older kernel", set("lowerdir", "…"));
    calls.add(set("upperdir", &name(&overlay.upper)));
    calls.add(set("workdir", &name(&overlay.work)));
    if overlay.user_xattr {
        calls.add(fsconfig("userxattr", None));
    }
    if overlay.volatile {
        calls.add(fsconfig("volatile", None));
    }
    calls.add(strace::CREATE);
    calls.add(fsmount(0));
    calls.add(move_mount(&fd(&overlay.mountpoint)));
    calls
}

pub(super) fn bind_root(source: &Path) -> Calls {
    let mut calls = Calls::one(strace::clone_mount(&fd(source), true));
    calls.add(move_mount(&fd(source)));
    calls
}

/// Makes what is missing of a target: directories, and in the end whatever `last` says.
fn make_missing(target: &Path, scene: &Scene<'_>, last: &[&str]) -> Calls {
    let mut calls = Calls::default();
    let names: Vec<_> = target.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let mut above = PathBuf::from("/");
    for (at, name) in names.iter().enumerate() {
        let text = quoted(&name.as_os_str().to_string_lossy());
        let (parent, is_last) = (scene.inside(&above), at + 1 == names.len());
        for mode in if is_last { last } else { &["0755"] } {
            let verb = if mode.starts_with("S_IF") { "mknodat" } else { "mkdirat" };
            calls.when(MISSING, format!("{verb}({parent}, {text}, {mode})"));
        }
        above.push(name);
    }
    calls
}

const DIRECTORY: &[&str] = &["0755"];
const FILE: &[&str] = &["S_IFREG|0644"];
/// It is what its source is.
const EITHER: &[&str] = &["0755", "S_IFREG|0644"];

pub(super) fn mount(mount: &FilesystemMount, scene: &Scene<'_>) -> Calls {
    let target = scene.inside(&mount.target);
    let mut calls = make_missing(&mount.target, scene, DIRECTORY);
    calls.add(fsopen(&mount.fstype));
    calls.add(fsconfig("source", Some(&mount.source)));
    mount.options.iter().for_each(|(key, value)| calls.add(fsconfig(key, value.as_deref())));
    let mut rest = Calls::one(strace::CREATE);
    rest.add(fsmount(mount.attributes.bits()));
    if mount.copy_up {
        rest.append(copy_up());
    }
    if let Some(propagation) = mount.propagation {
        let change = MountChange { propagation: propagation.bits(), ..MountChange::default() };
        rest.add(mount_setattr("…", &change));
    }
    rest.add(move_mount(&target));
    // proc and sysfs belong to other namespaces, which may be the host's.
    let host = matches!(mount.fstype.as_str(), "proc" | "sysfs") && scene.in_user_namespace;
    if !host {
        calls.append(rest);
        return calls;
    }
    calls.append(rest.only(ALLOWED));
    let source = if mount.fstype == "proc" { "\"/proc\"" } else { "\"/sys\"" };
    calls.when(REFUSED, strace::open_tree("AT_FDCWD", source, true));
    let set = mount.attributes.bits();
    let change = MountChange { set, recursive: true, propagation: libc::MS_PRIVATE, ..MountChange::default() };
    calls.when(REFUSED, mount_setattr("…", &change));
    calls.when(REFUSED, move_mount(&target));
    calls
}

/// What is copied is known only then.
fn copy_up() -> Calls {
    const EACH: &str = "for each file of the image, where the volume is empty";
    let mut calls = Calls::default();
    for call in ["mkdirat(…)", "symlinkat(…)", "copy_file_range(…)", "fchownat(…)"] {
        calls.when(EACH, call);
    }
    calls
}

fn parent_and_name(target: &Path, scene: &Scene<'_>) -> (String, String) {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    (scene.inside(target.parent().unwrap_or(Path::new("/"))), quoted(&name))
}

pub(super) fn make_device(device: &Device, scene: &Scene<'_>) -> Calls {
    let Device { path: target, kind, major, minor, mode, uid, gid } = device;
    let number = |value: u32| if value == 0 { "0".to_owned() } else { format!("{value:#x}") };
    let (parent, name) = parent_and_name(target, scene);
    let kind = match kind {
        DeviceKind::Character => "S_IFCHR",
        DeviceKind::Block => "S_IFBLK",
        DeviceKind::Fifo => "S_IFIFO",
    };
    let device_number = match kind {
        "S_IFIFO" => String::new(),
        _ => format!(", makedev({}, {})", number(*major), number(*minor)),
    };
    let mut calls = make_missing(target.parent().unwrap_or(Path::new("/")), scene, DIRECTORY);
    calls.add(format!("mknodat({parent}, {name}, {kind}|0{mode:o}{device_number})"));
    if (*uid, *gid) != (0, 0) {
        calls.add(format!("fchownat({parent}, {name}, {uid}, {gid}, AT_SYMLINK_NOFOLLOW)"));
    }
    calls
}

pub(super) fn bind_device(device: &Device, scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::one(strace::open_tree("AT_FDCWD", &path(&device.path), false));
    calls.append(make_missing(&device.path, scene, FILE));
    calls.add(move_mount(&scene.inside(&device.path)));
    calls
}

/// The parent has made the node: it is attached.
pub(super) fn place_device(device: &Device, scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::default();
    calls.append(make_missing(&device.path, scene, FILE));
    calls.add(move_mount(&scene.inside(&device.path)));
    calls
}

pub(super) fn symlink(points_to: &str, at: &Path, scene: &Scene<'_>) -> Calls {
    let (parent, name) = parent_and_name(at, scene);
    Calls::one(format!("symlinkat({}, {parent}, {name})", quoted(points_to)))
}

pub(super) fn bind(bind: &BindMount, scene: &Scene<'_>) -> Calls {
    let mut calls = make_missing(&bind.target, scene, EITHER);
    if bind.copy_up {
        calls.append(copy_up());
    }
    let recursive = scene.recursive.contains(&bind.source);
    if bind.in_order {
        calls.when("the kernel can clone a detached mount (Linux 6.15)", strace::clone_mount("…", recursive));
    }
    bind.changes(recursive).iter().for_each(|change| calls.add(mount_setattr("…", change)));
    calls.add(move_mount(&scene.inside(&bind.target)));
    calls
}

pub(super) fn open_terminal(console: bool, size: Option<(u16, u16)>, scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::from(["ioctl(…, TIOCSPTLCK, [0])", "ioctl(…, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)"]);
    if let Some((rows, columns)) = size {
        let size = format!("{{ws_row={rows}, ws_col={columns}, ws_xpixel=0, ws_ypixel=0}}");
        calls.add(format!("ioctl(…, TIOCSWINSZ, {size})"));
    }
    if console {
        let target = Path::new("/dev/console");
        calls.append(make_missing(target, scene, FILE));
        calls.add(strace::clone_mount("…", false));
        calls.add(move_mount(&scene.inside(target)));
    }
    calls
}

pub(super) fn run_hook(hook: &HookCall) -> Calls {
    let mut calls = Calls::one("clone…(…)");
    let arguments = strace::list(&hook.args);
    calls.when("in the hook's own process", format!("execve({}, {arguments}, …)", path(&hook.path)));
    calls
}

pub(super) fn enter_root(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::one(format!("fchdir({})", scene.inside(Path::new("/"))));
    calls.append(Calls::from(["pivot_root(\".\", \".\")", "umount2(\".\", MNT_DETACH)", "chdir(\"/\")"]));
    calls
}

pub(super) fn change_root(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::one(format!("fchdir({})", scene.inside(Path::new("/"))));
    calls.append(Calls::from(["chroot(\".\")", "chdir(\"/\")"]));
    calls
}

pub(super) fn enter_root_by_move(scene: &Scene<'_>) -> Calls {
    let mut calls = Calls::one(format!("fchdir({})", scene.inside(Path::new("/"))));
    calls.add(move_mount("…</>"));
    calls.append(Calls::from(["chroot(\".\")", "chdir(\"/\")"]));
    calls
}

const THERE: &str = "there is such a path";

pub(super) fn protect_path(target: &Path, scene: &Scene<'_>) -> Calls {
    let target = scene.inside(target);
    let change = MountChange { set: RDONLY, recursive: true, ..MountChange::default() };
    let mut calls = Calls::one(strace::clone_mount(&target, true));
    calls.add(mount_setattr("…", &change));
    calls.add(move_mount(&target));
    calls.only(THERE)
}

/// The first directory is covered by a file system that is made for that, the next by clones of its mount.
pub(super) fn mask_path(target: &Path, scene: &Scene<'_>) -> Calls {
    const FIRST: &str = "it is the first directory to be hidden";
    let mut calls = Calls::default();
    calls.when(FIRST, fsopen("tmpfs"));
    for (key, value) in [("source", "tmpfs"), ("nr_inodes", "2"), ("mode", "755")] {
        calls.when(FIRST, fsconfig(key, Some(value)));
    }
    calls.when(FIRST, strace::CREATE);
    calls.when(FIRST, fsmount(RDONLY | NOSUID | NODEV | NOEXEC));
    calls.when("it is a file", strace::clone_mount("…<…/dev/null>", false));
    calls.when("it is another directory", strace::clone_mount("…", false));
    calls.when(THERE, move_mount(&scene.inside(target)));
    calls
}

/// Makes one mount read-only as it stands.
pub(super) fn protect(target: &Path, scene: &Scene<'_>) -> Calls {
    let change = MountChange { set: RDONLY, ..MountChange::default() };
    Calls::one(mount_setattr(&scene.inside(target), &change))
}

pub(super) fn write_sysctl(key: &str, value: &str, optional: bool, scene: &mut Scene<'_>) -> Calls {
    let mut calls = Calls::default();
    if !std::mem::replace(&mut scene.has_proc, true) {
        calls.append(Calls::from([fsopen("proc").as_str(), strace::CREATE, fsmount(0).as_str()]));
    }
    let file = Path::new("/sys").join(crate::container::checks::sysctl_path(key));
    let call = strace::write(&format!("…<…{}>", file.display()), value);
    if optional {
        calls.when("the kernel has it", call)
    } else {
        calls.add(call)
    }
    calls
}

pub(super) fn open_directory(target: &Path, make: bool, scene: &Scene<'_>) -> Calls {
    let inside = target.strip_prefix("/").unwrap_or(target);
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let how = "{flags=O_RDONLY|O_CLOEXEC|O_PATH|O_DIRECTORY, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}";
    let mut calls = Calls::one(format!("openat2({}, {}, {how}, 24)", scene.inside(Path::new("/")), path(inside)));
    if make {
        calls.append(make_missing(target, scene, DIRECTORY));
    }
    calls
}
