//! Images and descriptions that mean ill. Each of these leads a naive runtime out of the container.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use super::bundle_cases::Bundle;
use super::cases::{Case, equal};

/// Returns every case.
pub(crate) fn all() -> Vec<Case> {
    vec![
        ("bundle_attack_targets_through_links", linked_targets),
        ("bundle_attack_kernel_directories_as_links", kernel_links),
        ("bundle_attack_fake_proc", fake_proc),
        ("bundle_attack_fake_null", fake_null),
        ("bundle_attack_cwd_in_proc", cwd_in_proc),
        ("bundle_attack_inheritable_capabilities", inheritable),
        ("bundle_attack_passwd", passwd),
        ("bundle_attack_masks_through_links", linked_masks),
        ("bundle_attack_setgroups", setgroups),
        ("bundle_attack_racing_target", racing_target),
        ("bundle_attack_racing_kernel_directories", racing_kernel_directories),
    ]
}

fn linked_targets() -> Result<(), String> {
    let mut bundle = Bundle::new("cat /inside/file");
    let outside = bundle.base.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(bundle.base.join("file"), "bound\n").unwrap();
    symlink(&outside, bundle.rootfs.join("escape")).unwrap();
    symlink("../../../../../../..", bundle.rootfs.join("up")).unwrap();
    symlink("/data", bundle.rootfs.join("inside")).unwrap();
    bundle.mount(json!({ "destination": "/inside/file", "type": "bind", "source": "file" }));
    equal(bundle.run().ok()?, "bound\n")?;
    for target in ["/escape/x".to_owned(), format!("/up{}/x", outside.display())] {
        let mut bundle = Bundle::new("true");
        symlink(&outside, bundle.rootfs.join("escape")).unwrap();
        symlink("../../../../../../..", bundle.rootfs.join("up")).unwrap();
        bundle.mount(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs" }));
        bundle.run();
        equal(fs::read_dir(&outside).unwrap().count(), 0).map_err(|e| format!("{target}: {e}"))?;
    }
    Ok(())
}

fn kernel_links() -> Result<(), String> {
    for name in ["proc", "dev", "sys"] {
        let bundle = Bundle::new("true");
        let outside = bundle.base.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir(bundle.rootfs.join(name)).unwrap();
        symlink("/data", bundle.rootfs.join(name)).unwrap();
        bundle.run().fails(125, "a symbolic link stands there").map_err(|e| format!("{name}: {e}"))?;
        equal(fs::read_dir(&outside).unwrap().count(), 0)?;
    }
    // On a /dev of the image's own, the console and the null device.
    let mut bundle = Bundle::new("true");
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["destination"] != "/dev" && mount["type"] != "devpts");
    let victim = bundle.base.join("victim");
    fs::write(&victim, "unchanged").unwrap();
    symlink(&victim, bundle.rootfs.join("dev/console")).unwrap();
    bundle.set("/process/terminal", json!(true));
    bundle.run().fails(125, "a symbolic link stands there")?;
    equal(fs::read_to_string(&victim).unwrap().as_str(), "unchanged")?;
    equal(fs::metadata(&victim).unwrap().mode() & 0o777, 0o644)
}

fn fake_proc() -> Result<(), String> {
    let mut bundle = Bundle::new("true");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
    let victim = bundle.rootfs.join("proc/sys/net/ipv4");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("ip_forward"), "unchanged").unwrap();
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.run().ok()?;
    equal(fs::read_to_string(victim.join("ip_forward")).unwrap().as_str(), "unchanged")?;
    // With a proc of its own the setting holds; by the host's way of writing it, too.
    let mut bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding");
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/forwarding": "0" }));
    equal(bundle.run().ok()?, "1\n0\n")
}

fn fake_null() -> Result<(), String> {
    let mut bundle = Bundle::new("cat /etc/secret");
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["destination"] != "/dev" && mount["type"] != "devpts");
    fs::write(bundle.rootfs.join("etc/secret"), "secret").unwrap();
    fs::write(bundle.rootfs.join("dev/null"), "").unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    bundle.run().fails(125, "something else stands there")?;
    fs::remove_file(bundle.rootfs.join("dev/null")).unwrap();
    equal(bundle.run().ok()?, "")
}

fn cwd_in_proc() -> Result<(), String> {
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd", "/proc/self/root"] {
        let mut bundle = Bundle::new("pwd");
        bundle.set("/process/cwd", json!(cwd));
        let ran = bundle.run();
        if ran.code == Some(0) || !ran.out.is_empty() {
            return Err(format!("{cwd}: {ran:?}"));
        }
        // And through a link of the image's.
        let mut bundle = Bundle::new("pwd");
        symlink(cwd, bundle.rootfs.join("link")).unwrap();
        bundle.set("/process/cwd", json!("/link"));
        let ran = bundle.run();
        if ran.code == Some(0) {
            return Err(format!("a link to {cwd}: {ran:?}"));
        }
        let mut bundle = Bundle::new("touch /ready; sleep 600");
        bundle.job.exec = Some(json!({ "args": ["/bin/pwd"], "cwd": cwd }));
        let ran = bundle.run();
        if ran.code == Some(0) {
            return Err(format!("exec in {cwd}: {ran:?}"));
        }
    }
    Ok(())
}

fn inheritable() -> Result<(), String> {
    // What is not asked for is empty, also where our own process has some.
    let out = Bundle::new("grep -E 'CapInh|CapAmb' /proc/self/status | tr -d '\\t'").run().ok()?;
    equal(out, "CapInh:0000000000000000\nCapAmb:0000000000000000\n")
}

fn passwd() -> Result<(), String> {
    let bundle = Bundle::new("echo $HOME");
    let file = bundle.rootfs.join("etc/passwd");
    fs::remove_file(&file).unwrap();
    let name = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        name.as_c_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    equal(bundle.run().ok()?, "/\n")?;
    fs::remove_file(&file).unwrap();
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    equal(bundle.run().ok()?, "/\n")?;
    fs::remove_file(&file).unwrap();
    fs::write(bundle.base.join("theirs"), "root:x:0:0::/leaked:\n").unwrap();
    symlink(bundle.base.join("theirs"), &file).unwrap();
    equal(bundle.run().ok()?, "/\n")
}

fn linked_masks() -> Result<(), String> {
    let mut bundle = Bundle::new("cat /etc/secret; echo x > /etc/kept/file || cat /etc/kept/file");
    fs::write(bundle.rootfs.join("etc/secret"), "secret").unwrap();
    fs::create_dir(bundle.rootfs.join("etc/kept")).unwrap();
    fs::write(bundle.rootfs.join("etc/kept/file"), "kept\n").unwrap();
    symlink("/etc", bundle.rootfs.join("alias")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/alias/secret", "/no/such"]));
    bundle.set("/linux/readonlyPaths", json!(["/alias/kept", "/no/such"]));
    equal(bundle.run().out, "kept\n")
}

fn setgroups() -> Result<(), String> {
    // The caller's own groups do not come along.
    let mut bundle = Bundle::new("id -G");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    equal(bundle.run().ok()?, "1000\n")
}

/// Exchanges two paths all the time while `work` runs.
fn while_exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
            }
        });
        work();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Somebody who shares a directory with the container turns a target into a link while it is being opened.
fn racing_target() -> Result<(), String> {
    let mut bundle = Bundle::new("true");
    let outside = bundle.base.join("outside");
    fs::create_dir(&outside).unwrap();
    let (target, aside) = (bundle.rootfs.join("data/target"), bundle.rootfs.join("data/aside"));
    fs::create_dir(&target).unwrap();
    symlink(&outside, &aside).unwrap();
    for name in ["a", "b", "c", "d"] {
        bundle.mount(json!({ "destination": format!("/data/target/{name}"), "type": "tmpfs", "source": "tmpfs" }));
    }
    while_exchanging(&target, &aside, || (0..40).for_each(|_| drop(bundle.run())));
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    equal(fs::read_dir(&outside).unwrap().count(), 0)
}

/// The same with the directories that the kernel's file systems and the devices go to: who follows links puts them, and what is made
/// below them, into a directory of the host.
fn racing_kernel_directories() -> Result<(), String> {
    let bundle = Bundle::new("true");
    let outside = bundle.base.join("outside");
    for name in ["dev", "proc", "sys"] {
        let (target, aside) = (bundle.rootfs.join(name), bundle.rootfs.join("data/aside"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(&target).unwrap();
        let before = fs::read_dir(&target).unwrap().count();
        symlink(&outside, &aside).unwrap();
        while_exchanging(&target, &aside, || (0..30).for_each(|_| drop(bundle.run())));
        equal(fs::read_dir(&outside).unwrap().count(), 0)?;
        // Whichever of the two is the directory now.
        let directory = if target.is_symlink() { &aside } else { &target };
        equal(fs::read_dir(directory).unwrap().count(), before)?;
        if target.is_symlink() {
            fs::rename(&aside, bundle.rootfs.join("data/was")).unwrap();
            fs::remove_file(&target).unwrap();
            fs::rename(bundle.rootfs.join("data/was"), &target).unwrap();
        } else {
            fs::remove_file(&aside).unwrap();
        }
    }
    Ok(())
}
