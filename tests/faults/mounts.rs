//! B24, B25, B26, B28: what is mounted, where, and into what kind of image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;
use crate::support::{Case, Output, Sandbox, cases};
use crate::{good_up, refused_bundle, refused_run, refused_up, run, up_file};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        sources_that_are_none,
        sources_that_are_no_directories,
        targets_that_are_none,
        targets_of_bundles,
        targets_that_stand_twice,
        images_full_of_links,
        volumes_by_name_and_driver,
    ]
}

fn sources(sandbox: &Sandbox) {
    let at = |name: &str| sandbox.dir().join(name);
    symlink("two", at("one")).expect("our own");
    symlink("one", at("two")).expect("our own");
    symlink("nothing", at("dangling")).expect("our own");
    fs::write(at("file"), "text\n").expect("our own");
    fs::create_dir(at("dir")).expect("our own");
}

fn bind(source: &str, create: bool) -> String {
    format!("volumes: [{{type: bind, source: {source}, target: /x, bind: {{create_host_path: {create}}}}}]")
}

fn sources_that_are_none(sandbox: &Sandbox) {
    sources(sandbox);
    for (source, create, words) in [
        ("./missing", false, &["does not exist", "mkdir -p"] as &[&str]),
        ("../missing-too", false, &["does not exist", "/missing-too"]),
        ("~/missing-too", false, &["/root/missing-too does not exist"]),
        ("./one", true, &["loop of symbolic links"]),
        ("./one", false, &["loop of symbolic links"]),
        ("./dangling", true, &["symbolic link to what is not there"]),
        ("./file/x", true, &["below a file"]),
    ] {
        refused_up(sandbox, &bind(source, create), &[words, &["f.yaml:7", "services.web.volumes[0].source"]].concat());
        if create {
            refused_run(sandbox, &["--volume", &format!("{source}:/x")], words);
        } else if !source.starts_with('~') {
            refused_run(sandbox, &["--mount", &format!("type=bind,source={source},target=/x")], words);
        }
    }
    refused_run(sandbox, &["--volume", "~/x:/x"], &["`~`"]);
    assert!(!sandbox.dir().join("~").exists() && !sandbox.dir().join("missing").exists());
    for (name, word) in [("missing", "no such file"), ("one", "too many levels of symbolic links")] {
        let source = sandbox.dir().join(name);
        let mount = json!({ "destination": "/tmp/x", "type": "bind", "source": source, "options": ["bind"] });
        refused_bundle(sandbox, |config| config["mounts"].as_array_mut().expect("a list").push(mount), &[name, word]);
    }
    // A directory is made where nothing is, as Docker does.
    good_up(sandbox, &bind("./made", true));
    assert!(sandbox.dir().join("made").is_dir());
    // Without `bound` the volume would be a directory that nobody meant.
    let text = format!(
        "services:\n  web: {{image: root_fs, network_mode: none, command: ['true'], volumes: ['data:/x']}}\nvolumes:\n  data: {{driver_opts: {{type: none, o: bind, device: {}}}}}\n",
        sandbox.dir().join("missing").display()
    );
    up_file(sandbox, &text).refused(2, &["f.yaml:4", "volumes.data.driver_opts.device", "does not exist"]);
    crate::expect_nothing(sandbox);
}

fn sources_that_are_no_directories(sandbox: &Sandbox) {
    sources(sandbox);
    let script = "import os, socket, sys\nos.mkfifo('fifo')\nsocket.socket(socket.AF_UNIX).bind('sock')\n";
    sandbox.host(&["python3", "-c", script]).ok();
    for (source, kind) in
        [("./file", "regular file"), ("./fifo", "fifo"), ("./sock", "socket"), ("/dev/null", "character special file")]
    {
        let volume = format!("{source}:/x");
        let told = run(sandbox, &["--volume", &volume, "stat", "-c", "%F", "/x"]).ok();
        assert!(told.stdout.trim().ends_with(kind), "{source}: {}", told.stdout);
        good_up(sandbox, &format!("volumes: ['{volume}']"));
    }
    // Relative, with `..`: from the directory of the file.
    fs::create_dir(sandbox.dir().join("below")).expect("our own");
    let told = run(sandbox, &["--volume", "below/../file:/x", "true"]);
    told.refused(125, &["below/../file"]);
    assert_eq!(run(sandbox, &["--volume", "./below/../file:/x", "cat", "/x"]).ok().stdout, "text\n");
}

fn targets_that_are_none(sandbox: &Sandbox) {
    sources(sandbox);
    for (target, word) in [
        ("/", "/"),
        ("//", "/"),
        ("/proc", "/proc"),
        ("/proc/self/attr", "/proc"),
        ("//proc//self", "/proc"),
        ("/sys", "container's own"),
        ("/dev", "container's own"),
        ("/..", "`..`"),
        ("/x/../proc", "`..`"),
        ("relative", "absolute"),
        ("./relative", "absolute"),
    ] {
        refused_up(
            sandbox,
            &format!("volumes: ['./dir:{target}']"),
            &[word, "f.yaml:7", "services.web.volumes[0].target"],
        );
        refused_up(sandbox, &format!("volumes: [{{type: tmpfs, target: '{target}'}}]"), &[word, "volumes[0].target"]);
        refused_up(sandbox, &format!("tmpfs: ['{target}']"), &[word, "services.web.tmpfs[0]"]);
        refused_run(sandbox, &["--volume", &format!("./dir:{target}")], &["mount target"]);
        refused_run(sandbox, &["--mount", &format!("type=bind,source=./dir,target={target}")], &["mount target"]);
        refused_run(sandbox, &["--tmpfs", target], &["mount target"]);
    }
}

/// A bundle's targets are looked up inside its root, whatever they are called; only a proc file system takes no mounts.
fn targets_of_bundles(sandbox: &Sandbox) {
    fs::create_dir(sandbox.dir().join("dir")).expect("our own");
    let source = sandbox.dir().join("dir");
    let mount = |target: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["bind"] });
    for target in ["/proc", "/proc/self/attr", "/tmp/../proc"] {
        let change =
            |config: &mut serde_json::Value| config["mounts"].as_array_mut().expect("a list").push(mount(target));
        refused_bundle(sandbox, change, &["/proc", "refused"]);
    }
    fs::write(source.join("seen"), "").expect("our own");
    for target in ["/tmp/x/../y", "tmp/y", "/../../tmp/y"] {
        let bundle = Bundle::new(sandbox, "up", "ls /tmp/y");
        bundle.mount(mount(target));
        assert_eq!(bundle.oci(&["run", "up"]).ok().stdout, "seen\n", "{target}");
    }
    assert!(!Path::new("/tmp/y").exists());
}

fn targets_that_stand_twice(sandbox: &Sandbox) {
    sources(sandbox);
    for lines in [
        "volumes: ['./dir:/x', './file:/x']",
        "volumes: ['./dir:/x', './dir:/x/']",
        "volumes: ['./dir:/x', {type: tmpfs, target: /x}]",
        "volumes: ['./dir:/x']\n    tmpfs: [/x]",
        "tmpfs: ['/x', '/x:size=1m']",
    ] {
        refused_up(sandbox, lines, &["/x", "already", "first here"]);
    }
    refused_run(sandbox, &["--volume", "./dir:/x", "--volume", "./file:/x"], &["two mounts on `/x`"]);
    refused_run(sandbox, &["--volume", "./dir:/x", "--tmpfs", "/x/"], &["two mounts on `/x/`"]);
    // A later file may say it anew: the last one counts, as with Compose.
    fs::write(sandbox.dir().join("over.yaml"), "services: {web: {volumes: ['./file:/x']}}\n").expect("our own");
    let text = "services:\n  web: {image: root_fs, network_mode: none, command: [cat, /x], volumes: ['./dir:/x']}\n";
    fs::write(sandbox.dir().join("f.yaml"), text).expect("our own");
    let words = ["compose", "-p", "bad", "-f", "f.yaml", "-f", "over.yaml"];
    let told = sandbox.mydocker(&[&words as &[&str], &["up", "--no-log-prefix"]].concat()).ok();
    assert!(told.stdout.contains("text\n"), "{}", told.describe());
    sandbox.mydocker(&[&words as &[&str], &["down"]].concat()).ok();
}

/// An image whose directories lead elsewhere: what they name is looked up inside it, and the host keeps what it has.
fn images_full_of_links(sandbox: &Sandbox) {
    let image = sandbox.dir().join("image");
    sandbox.shell(&format!("mkdir {0} && cp -a \"$MYDOCKER_ROOTFS\"/. {0}", image.display())).ok();
    let victim = sandbox.dir().join("victim");
    fs::create_dir(&victim).expect("our own");
    fs::create_dir(sandbox.dir().join("mine")).expect("our own");
    let root = image.to_str().expect("UTF-8");
    let run = |words: &[&str]| sandbox.mydocker(&[&["run", "--network", "none", "--rootfs", root], words].concat());
    let host = victim.to_str().expect("UTF-8");
    let told = "echo in > /dev/shm/t && ls /proc/1/status && echo alive";
    for (name, leads_to, is_refused) in
        [("etc", "/", false), ("proc", "/etc", true), ("dev", host, true), ("sys", host, true), ("x", "/", false)]
    {
        let place = image.join(name);
        let kept = sandbox.dir().join("kept");
        if place.exists() {
            fs::rename(&place, &kept).expect("our own");
        }
        symlink(leads_to, &place).unwrap_or_else(|error| panic!("{name}: {error}"));
        let volume = if name == "x" { vec!["--volume", "./mine:/x/inside"] } else { vec![] };
        let one = run(&[&volume as &[&str], &["sh", "-c", told]].concat());
        expect_linked(one, 125, name, is_refused);
        let text =
            format!("services:\n  web: {{image: 'rootfs:./image', network_mode: none, command: [sh, -c, {told:?}]}}\n");
        expect_linked(up_file(sandbox, &text), 1, name, is_refused);
        crate::down(sandbox);
        let bundle = Bundle::new(sandbox, "links", told);
        bundle.edit(|config| {
            config["root"] = json!({ "path": image });
            let shm = json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" });
            let sys = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] });
            config["mounts"].as_array_mut().expect("a list").extend([shm, sys]);
        });
        let code = bundle.oci(&["run", "links"]).without_panic().code;
        assert!(code == 0 || (code == 125 && is_refused), "{name} of a bundle: {code}");
        fs::remove_file(&place).expect("our own");
        if kept.exists() {
            fs::rename(&kept, &place).expect("our own");
        }
        assert_eq!(fs::read_dir(&victim).expect("our own").count(), 0, "{name}: the host has something new");
    }
    assert!(!Path::new("/inside").exists());
}

#[track_caller]
fn expect_linked(told: Output, code: i32, name: &str, is_refused: bool) {
    if is_refused {
        told.refused(code, &[&format!("/{name}")]);
    } else {
        told.without_panic().ok();
    }
}

fn volumes_by_name_and_driver(sandbox: &Sandbox) {
    for (volume, word) in [
        ("{name: ../x}", "is not a name"),
        ("{name: a/b}", "is not a name"),
        ("{driver: nosuch}", "unknown volume driver `nosuch`"),
        ("{driver_opts: {type: tmpfs, device: tmpfs, o: 'size=1m,lowerdir=/etc'}}", "`lowerdir=/etc` is not an option"),
        ("{driver_opts: {type: tmpfs, device: tmpfs, o: 'size=lots'}}", "`size=lots` is not an option"),
        ("{driver_opts: {type: 'tmpfs,x', device: tmpfs}}", "type `tmpfs,x`"),
        ("{driver_opts: {type: overlay, device: overlay, o: 'lowerdir=/etc,upperdir=/tmp'}}", "type `overlay`"),
        ("{driver_opts: {foo: bar}}", "no option `foo`"),
        ("{driver_opts: {type: none, o: bind, device: relative}}", "does not exist"),
    ] {
        let text = format!(
            "services:\n  web: {{image: root_fs, network_mode: none, command: ['true'], volumes: ['data:/x']}}\nvolumes:\n  data: {volume}\n"
        );
        up_file(sandbox, &text).refused(2, &["f.yaml:4", "volumes.data", word]);
        crate::expect_nothing(sandbox);
    }
    refused_up(sandbox, "volumes: ['a/../x:/y']", &["a/../x"]);
    refused_run(sandbox, &["--volume", "a/../x:/y"], &["is not a name"]);
    refused_run(sandbox, &["--mount", "type=volume,source=../x,target=/y"], &["is not a name"]);
    refused_run(
        sandbox,
        &["--mount", "type=volume,source=x,target=/y,volume-driver=nosuch"],
        &["volume-driver=nosuch"],
    );
    refused_run(sandbox, &["--tmpfs", "/y:size=1m,lowerdir=/etc"], &["`lowerdir=/etc` is no option"]);
    assert_eq!(fs::read_dir(sandbox.data_dir().join("volumes")).expect("it is there").count(), 0, "volumes are left");
    // Each option of a bundle's mount is one key for fsconfig(2): a comma does not begin another.
    let mount = json!({ "destination": "/tmp/y", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m,mode=700"] });
    refused_bundle(sandbox, |config| config["mounts"].as_array_mut().expect("a list").push(mount), &["/tmp/y", "size"]);
}
