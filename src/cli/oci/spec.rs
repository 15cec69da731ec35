//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use oci_spec::runtime::{ProcessBuilder, Spec};

use super::args::SpecArgs;
use crate::cli::report::CliError;
use crate::engine::oci::OciError;

/// Writes a bundle's config.json: a shell with a terminal in `rootfs`. A file that is there stays as it is.
pub(super) fn run(args: &SpecArgs) -> Result<ExitCode, CliError> {
    let path = args.bundle.join(args.file.as_deref().unwrap_or("config.json".as_ref()));
    let text = serde_json::to_string_pretty(&specification(args.rootless)?)
        .map_err(|source| OciError::Json { path: path.clone(), source })?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()));
    written.map_err(|source| OciError::File { operation: "write", path, source })?;
    Ok(ExitCode::SUCCESS)
}

fn specification(rootless: bool) -> Result<Spec, OciError> {
    let failed = |error: oci_spec::OciSpecError| OciError::Config { key: "spec".to_owned(), reason: error.to_string() };
    let mut spec = match rootless {
        false => Spec::default(),
        true => Spec::rootless(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    let before = spec.process().clone().unwrap_or_default();
    let mut process = ProcessBuilder::default()
        .terminal(true)
        .user(before.user().clone())
        .args(["sh".to_owned()])
        .env(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(), "TERM=xterm".to_owned()])
        .cwd("/")
        .no_new_privileges(true);
    if let Some(capabilities) = before.capabilities() {
        process = process.capabilities(capabilities.clone());
    }
    if let Some(limits) = before.rlimits() {
        process = process.rlimits(limits.clone());
    }
    spec.set_version(super::SPECIFICATION.to_owned())
        .set_hostname(Some("mydocker".to_owned()))
        .set_process(Some(process.build().map_err(failed)?));
    Ok(spec)
}
