//! What a container inherits: its three streams as they are, the descriptors that are counted, and nothing else.

use crate::bundle::{Bundle, expect_nothing, oci, wait_status};
use crate::support::{Case, Sandbox, cases};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_streams_of_create_are_the_container_s,
        descriptors_are_passed_that_are_counted,
        sockets_of_systemd_s_protocol_are_passed,
        nothing_is_inherited_by_accident,
        pipes_are_the_user_s,
        groups_stay_that_were_to_be_kept,
    ]
}

fn the_streams_of_create_are_the_container_s(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "cat; echo err >&2");
    let dir = bundle.dir.display();
    sandbox.shell(&format!("echo in | $MYDOCKER oci create -b {dir} web > out.txt 2> err.txt")).ok();
    let read = |name: &str| std::fs::read_to_string(sandbox.dir().join(name)).unwrap();
    assert_eq!((read("out.txt"), read("err.txt")), (String::new(), String::new()));
    oci(sandbox, &["start", "web"]).ok();
    wait_status(sandbox, "web", "stopped");
    assert_eq!((read("out.txt").as_str(), read("err.txt").as_str()), ("in\n", "err\n"));
    oci(sandbox, &["delete", "web"]).ok();
    expect_nothing(sandbox);
}

fn descriptors_are_passed_that_are_counted(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "cat <&3; cat <&4; ls /proc/self/fd | sort -n | tr '\\n' ' '");
    let dir = bundle.dir.display();
    let script = |words: &str| format!("echo three > 3; echo four > 4; $MYDOCKER oci {words} 3< 3 4< 4 5< 3");
    let output = sandbox.shell(&script(&format!("run --preserve-fds 2 -b {dir} web"))).ok();
    // The last number is that of the directory that ls reads.
    assert_eq!(output.stdout, "three\nfour\n0 1 2 3 4 5 ");
    // A number that is not open stays so, and what is behind it keeps its own.
    bundle.edit(|config| config["process"]["args"][2] = "ls /proc/self/fd | sort -n | tr '\\n' ' '; cat <&7".into());
    let holes = format!("echo seven > 7; $MYDOCKER oci run --preserve-fds 6 -b {dir} web 4< 7 7< 7");
    assert_eq!(sandbox.shell(&holes).ok().stdout, "0 1 2 3 4 7 seven\n");
    bundle.edit(|config| config["process"]["args"] = serde_json::json!(["sleep", "300"]));
    bundle.oci(&["run", "-d", "web"]).ok();
    let output = sandbox.shell(&script("exec --preserve-fds=2 web sh -c 'cat <&3; cat <&4'")).ok();
    assert_eq!(output.stdout, "three\nfour\n");
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
}

fn sockets_of_systemd_s_protocol_are_passed(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    let dir = bundle.dir.display();
    let output = sandbox.shell(&format!("echo three > 3; LISTEN_FDS=1 $MYDOCKER oci run -b {dir} web 3< 3")).ok();
    assert_eq!(output.stdout, "1 1\nthree\n");
    bundle.edit(|config| config["process"]["args"][2] = "echo $LISTEN_FDS $LISTEN_PID".into());
    let output = sandbox.shell(&format!("LISTEN_FDS=1 $MYDOCKER oci run -b {dir} web")).ok();
    assert_eq!(output.stdout, "1 1\n");
    expect_nothing(sandbox);
}

fn pipes_are_the_user_s(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "stat -L -c %u:%g /proc/self/fd/1; echo again > /dev/stdout");
    bundle.edit(|config| config["process"]["user"] = serde_json::json!({ "uid": 5, "gid": 6 }));
    let output = sandbox.shell(&format!("$MYDOCKER oci run -b {} web | cat", bundle.dir.display())).ok();
    assert_eq!(output.stdout, "5:6\nagain\n");
    expect_nothing(sandbox);
}

/// podman's `--group-add keep-groups`.
fn groups_stay_that_were_to_be_kept(sandbox: &Sandbox) {
    let bundle = Bundle::new(sandbox, "b", "id -G");
    let run = || sandbox.shell(&format!("setpriv --groups 7,8 $MYDOCKER oci run -b {} web", bundle.dir.display())).ok();
    assert_eq!(run().stdout, "0\n");
    bundle.edit(|config| config["annotations"] = serde_json::json!({ "run.oci.keep_original_groups": "1" }));
    assert_eq!(run().stdout, "0 7 8\n");
    expect_nothing(sandbox);
}

fn nothing_is_inherited_by_accident(sandbox: &Sandbox) {
    let script = "ls /proc/self/fd | sort -n | tr '\\n' ' '; readlink /proc/self/cwd";
    let bundle = Bundle::new(sandbox, "b", script);
    let dir = bundle.dir.display();
    let output = sandbox.shell(&format!("$MYDOCKER oci run -b {dir} web 3< / 7< / 9< /")).ok();
    assert_eq!(output.stdout, "0 1 2 3 /\n");
    bundle.edit(|config| config["process"]["args"] = serde_json::json!(["sleep", "300"]));
    bundle.oci(&["run", "-d", "web"]).ok();
    let output = sandbox
        .shell(&format!("$MYDOCKER oci exec web sh -c \"{}\" 3< / 7< / 9< /", script.replace('\\', "\\\\")))
        .ok();
    assert!(output.stdout.starts_with("0 1 2 3"), "{}", output.describe());
    assert!(!output.stdout.contains('9'), "{}", output.describe());
    oci(sandbox, &["delete", "-f", "web"]).ok();
    expect_nothing(sandbox);
}
