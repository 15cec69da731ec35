//! A root file system made of busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const APPLETS: &[&str] = &[
    "sh", "true", "false", "cat", "echo", "ls", "id", "mount", "umount", "touch", "mkdir", "rm", "readlink",
    "hostname", "kill", "sleep", "head", "dd", "grep", "stat", "env", "ps", "tty", "chmod", "wc", "test", "tail", "ip",
    "stty", "cut", "sort", "tr", "ping", "chown", "find", "od",
];

/// Makes it in `directory`.
pub(crate) fn build(directory: &Path) {
    for name in ["bin", "etc", "tmp", "root", "data", "proc", "dev", "sys"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::set_permissions(directory.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", directory.join("bin/busybox")).unwrap();
    for name in APPLETS {
        symlink("busybox", directory.join("bin").join(name)).unwrap();
    }
    fs::write(directory.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/data:/bin/sh\n").unwrap();
    fs::write(directory.join("etc/group"), "root:x:0:\nweb:x:1000:\nadm:x:4:web\n").unwrap();
    fs::write(directory.join("etc/marker"), "from the image\n").unwrap();
}
