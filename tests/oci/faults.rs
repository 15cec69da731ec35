//! Bundles that are wrong, and commands that are killed.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bundle::{Bundle, expect_nothing, oci};
use crate::support::{Case, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_failure_is_told_in_the_log,
        bundles_that_are_wrong,
        a_program_that_is_not_there,
        create_may_be_killed_at_any_moment,
        a_directory_without_a_record_is_taken_over,
        a_damaged_record_is_told_of,
    ]
}

fn a_failure_is_told_in_the_log(sandbox: &Sandbox) {
    let file = sandbox.dir().join("log");
    let path = file.to_str().unwrap();
    fs::write(&file, "before\n").unwrap();
    oci(sandbox, &["--log", path, "--log-format", "json", "start", "web"]).refused(1, &["error:", "does not exist"]);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "before"));
    let entry: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((&entry["level"], &entry["msg"]), (&"error".into(), &"container `web` does not exist".into()));
    oci(sandbox, &["--log", path, "start", "web"]).expect_code(1);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().last().unwrap().contains("level=error msg=\"container `web` does not exist\""), "{text}");
    oci(sandbox, &["--log", "/nosuch/log", "start", "web"]).refused(1, &["/nosuch/log", "no such file or directory"]);
}

fn bundles_that_are_wrong(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    let config = bundle.dir.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let refused = |words: &[&str]| {
        bundle.oci(&["create", "web"]).refused(1, words);
        expect_nothing(sandbox);
    };
    oci(sandbox, &["create", "-b", "/nosuch", "web"]).refused(1, &["/nosuch", "no such file or directory"]);
    fs::remove_file(&config).unwrap();
    refused(&["config.json", "no such file or directory"]);
    sandbox.shell(&format!("mkfifo {}", config.display())).ok();
    refused(&["config.json", "not a regular file"]);
    fs::remove_file(&config).unwrap();
    for (wrong, words) in [("", "parse"), ("{", "parse"), ("[]", "ociVersion"), ("null", "parse"), ("{}", "ociVersion")]
    {
        fs::write(&config, wrong).unwrap();
        refused(&["config.json", words]);
    }
    fs::write(&config, vec![b' '; 17 << 20]).unwrap();
    refused(&["config.json", "16 MiB"]);
    fs::write(&config, &text).unwrap();
    bundle.edit(|config| config["ociVersion"] = "2.0.0".into());
    refused(&["ociVersion", "2.0.0"]);
    fs::write(&config, &text).unwrap();
    bundle.edit(|config| config["root"]["path"] = "nosuch".into());
    refused(&["no such file or directory"]);
    fs::write(&config, &text).unwrap();
    // Another file than config.json, in the bundle or elsewhere.
    fs::rename(&config, bundle.dir.join("other.json")).unwrap();
    bundle.oci(&["run", "--detach", "--config", "other.json", "web"]).ok();
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_program_that_is_not_there(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "");
    for (program, code, words) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/bin/nosuch", 127, "no such file or directory"),
        ("/etc", 126, "permission denied"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        bundle.edit(|config| config["process"]["args"] = json!([program]));
        bundle.oci(&["run", "web"]).refused(code, &[program, words]);
        expect_nothing(sandbox);
    }
}

fn create_may_be_killed_at_any_moment(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "exec sleep 300");
    // Deeper than our own parent: what was made on the way goes too.
    let path = format!("/{}/deep/er", sandbox.token());
    bundle.edit(|config| config["linux"]["cgroupsPath"] = path.into());
    let begun = std::time::Instant::now();
    bundle.oci(&["create", "web"]).ok();
    let whole = begun.elapsed();
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
    const MOMENTS: u32 = 24;
    for moment in 0..MOMENTS {
        let mut running = bundle.spawn(&["create", "web"]);
        // This is the moment that is tested, not a wait for something.
        std::thread::park_timeout(whole * moment / MOMENTS + Duration::from_micros(100));
        if running.ended().is_none() {
            running.signal(Signal::SIGKILL);
        }
        drop(running);
        oci(sandbox, &["delete", "--force", "web"]).ok();
        expect_nothing(sandbox);
    }
}

fn a_directory_without_a_record_is_taken_over(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "true");
    fs::create_dir(sandbox.run_dir().join("oci/web")).unwrap();
    oci(sandbox, &["state", "web"]).refused(1, &["does not exist"]);
    assert_eq!(oci(sandbox, &["list", "-q"]).ok().stdout, "");
    bundle.oci(&["run", "web"]).ok();
    expect_nothing(sandbox);
}

fn a_damaged_record_is_told_of(sandbox: &Sandbox) {
    let directory = sandbox.run_dir().join("oci/web");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("state.json"), "{").unwrap();
    oci(sandbox, &["state", "web"]).refused(1, &["state.json is damaged"]);
    oci(sandbox, &["delete", "--force", "web"]).ok();
    expect_nothing(sandbox);
}
