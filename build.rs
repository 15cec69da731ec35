//! Links the `mydocker` binary statically and at a fixed address where the C library's static archives are installed.
//!
//! Every container begins with an execve of this binary, and each role of a project is one more: without a dynamic loader and
//! without relocations that takes half the time and a third of the page faults (docs/adr/0013-static-binary.md). Where an
//! archive is missing, or `MYDOCKER_DYNAMIC` is set, the binary is linked as any other.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the binary would otherwise load when it starts. `libgcc_s` has no archive: two others hold what is in it.
const LIBRARIES: [&str; 7] = ["c", "m", "util", "rt", "pthread", "dl", "seccomp"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MYDOCKER_DYNAMIC");
    println!("cargo::rerun-if-env-changed=CC");
    let is_gnu_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "gnu");
    let is_native = env::var("HOST") == env::var("TARGET");
    if !is_gnu_linux || !is_native || env::var_os("MYDOCKER_DYNAMIC").is_some() {
        return;
    }
    match archives() {
        Ok(directory) => {
            // The linker takes the first directory that has a library under either name; this one has archives only, so that
            // no shared object is left, and with that no dynamic loader.
            println!("cargo::rustc-link-arg-bins=-L{}", directory.display());
            println!("cargo::rustc-link-arg-bins=-no-pie");
            println!("cargo::rustc-link-arg-bins=-Wl,--no-dynamic-linker");
            if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
                // src/sys/entry.rs
                println!("cargo::rustc-link-arg-bins=-Wl,-e,mydocker_entry");
            }
        }
        Err(error) => println!("cargo::warning=the binary is linked dynamically: {error}"),
    }
}

/// Makes a directory with links to all archives.
fn archives() -> io::Result<PathBuf> {
    let directory = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?).join("archives");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    for library in LIBRARIES {
        let name = format!("lib{library}.a");
        symlink(archive(&name)?, directory.join(name))?;
    }
    let [unwinder, arithmetic] = [archive("libgcc_eh.a")?, archive("libgcc.a")?];
    let both = format!("GROUP ( {} {} )\n", unwinder.display(), arithmetic.display());
    fs::write(directory.join("libgcc_s.a"), both)?;
    Ok(directory)
}

/// Asks the C compiler, as the linker would.
fn archive(name: &str) -> io::Result<PathBuf> {
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler).arg(format!("-print-file-name={name}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = Path::new(text.trim());
    // What it does not find, it names as it was asked.
    if path.is_absolute() && path.exists() {
        path.canonicalize()
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} is not installed")))
    }
}
