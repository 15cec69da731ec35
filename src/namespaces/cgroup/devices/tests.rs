//! The program in an interpreter of our own, v1's lists, and both on the running kernel.

use std::process::Command;

use proptest::prelude::*;

use super::super::tests::{PATIENCE, Subtree};
use super::list::DeviceList;
use super::rule::{Devices, EVERYTHING, Kind, MAKE, READ, WRITE};
use super::*;

/// Is one use of a device, as the kernel asks about it.
#[derive(Clone, Copy, Debug)]
struct Use {
    kind: Kind,
    major: u32,
    minor: u32,
    access: u8,
}

/// What rules mean, in the plainest words: each use on its own, the last rule that fits.
fn allowed(rules: &[DeviceRule], asked: Use) -> bool {
    let it = Devices { kind: Some(asked.kind), major: Some(asked.major), minor: Some(asked.minor) };
    [READ, WRITE, MAKE].into_iter().filter(|bit| asked.access & bit != 0).all(|bit| {
        let fitting = rules.iter().rev().find(|rule| rule.devices.hold(it) && rule.access & bit != 0);
        fitting.is_some_and(|rule| rule.allow)
    })
}

/// Runs a program: the few instructions that ours has, by the kernel's documentation of them.
fn run(program: &[u64], asked: Use) -> bool {
    let kind = if asked.kind == Kind::Block { 1 } else { 2 };
    let context = [u32::from(asked.access) << 16 | kind, asked.major, asked.minor];
    let mut registers = [0_u64; 11];
    let mut at = 0;
    loop {
        let bytes = program[at].to_ne_bytes();
        let (to, from) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
        let jump = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let constant = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as i64 as u64;
        at += 1;
        let mut go = |taken: bool| at = if taken { at.checked_add_signed(isize::from(jump)).unwrap() } else { at };
        match bytes[0] {
            0x61 => registers[to] = u64::from(context[usize::try_from(jump / 4).unwrap()]),
            0xb7 => registers[to] = constant,
            0xbf => registers[to] = registers[from],
            0x57 => registers[to] &= constant,
            0x77 => registers[to] >>= constant,
            0x15 => go(registers[to] == constant),
            0x55 => go(registers[to] != constant),
            0x95 => return registers[0] != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn devices() -> impl Strategy<Value = Devices> {
    let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Character))];
    let number = || prop_oneof![Just(None), (0_u32..4).prop_map(Some)];
    (kind, number(), number()).prop_map(|(kind, major, minor)| Devices { kind, major, minor })
}

fn rules() -> impl Strategy<Value = Vec<DeviceRule>> {
    let rule = (any::<bool>(), devices(), 1_u8..=7);
    let rule = rule.prop_map(|(allow, devices, access)| DeviceRule { allow, devices, access });
    proptest::collection::vec(rule, 0..12)
}

fn every_use() -> impl Iterator<Item = Use> {
    let kinds = [Kind::Block, Kind::Character].into_iter();
    let numbered = kinds.flat_map(|kind| (0..20).map(move |n| (kind, n / 4, n % 4)));
    numbered.flat_map(|(kind, major, minor)| (1..=7).map(move |access| Use { kind, major, minor, access }))
}

proptest! {
    #[test]
    fn the_program_says_what_the_rules_mean(rules in rules()) {
        let program = program::assemble(&rules);
        for asked in every_use() {
            prop_assert_eq!(run(&program, asked), allowed(&rules, asked), "{:?} by {:?}", asked, rules);
        }
        if rule::allow_everything(&rules) {
            prop_assert!(every_use().all(|asked| allowed(&rules, asked)));
        }
    }

    #[test]
    fn what_v1_can_say_it_says_alike(rules in rules()) {
        let Ok(list) = DeviceList::from_rules(&rules) else { return Ok(()) };
        for asked in every_use() {
            let it = Devices { kind: Some(asked.kind), major: Some(asked.major), minor: Some(asked.minor) };
            // As the kernel judges: an exception counts with all its uses, or with one of them against what is allowed.
            let uses: u8 = list.exceptions.iter().filter(|(d, _)| d.hold(it)).fold(0, |all, (_, access)| all | access);
            let verdict = if list.allow { uses & asked.access == 0 } else { asked.access & !uses == 0 };
            prop_assert_eq!(verdict, allowed(&rules, asked), "{:?} by {:?} as {:?}", asked, rules, list);
        }
    }
}

fn spec(json: &str) -> Vec<DeviceRule> {
    rule::from_spec(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap()
}

const DISK: &str = r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
    {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "w"}]"#;

#[test]
fn two_rules_may_make_one_permission_and_defaults_stay() {
    let program = program::assemble(&spec(DISK));
    let asked = |kind, major, minor, access| Use { kind, major, minor, access };
    assert!(run(&program, asked(Kind::Block, 8, 0, READ | WRITE)));
    assert!(!run(&program, asked(Kind::Block, 8, 1, READ)));
    assert!(run(&program, asked(Kind::Block, 8, 1, MAKE)));
    assert!(run(&program, asked(Kind::Character, 1, 3, EVERYTHING)));
    assert!(!run(&program, asked(Kind::Character, 1, 11, READ)));
    // Nobody said anything: the default ones alone.
    let program = program::assemble(&spec("[]"));
    assert!(run(&program, asked(Kind::Character, 136, 7, READ | WRITE)));
    assert!(!run(&program, asked(Kind::Block, 8, 0, READ)));
    assert!(rule::allow_everything(&spec(r#"[{"allow": true, "access": "rwm"}]"#)));
    assert!(!rule::allow_everything(&spec(
        r#"[{"allow": true}, {"allow": false, "type": "c", "major": 1, "minor": 11}]"#
    )));
}

#[test]
fn the_first_instructions_are_these() {
    let words: Vec<String> = program::assemble(&[]).iter().map(|word| format!("{word:016x}")).collect();
    if cfg!(target_endian = "little") {
        let loads = ["0000000000001261", "00000000000023bf", "0000001000000377", "0000ffff00000257"];
        assert_eq!(words[..4], loads);
        assert_eq!(words[4..], ["0000000000041461", "0000000000081561", "00000000000000b7", "0000000000000095"]);
    }
}

#[test]
fn what_cannot_be_a_rule_is_named() {
    for (json, expected) in [
        (r#"[{"allow": true, "type": "c", "access": "rx"}]"#, "set linux.resources.devices[0]: access `rx` has other"),
        (r#"[{"allow": true}, {"allow": true, "type": "p"}]"#, "set linux.resources.devices[1]: a FIFO"),
        (r#"[{"allow": true, "type": "c", "major": -2}]"#, "set linux.resources.devices[0]: major -2"),
    ] {
        let error = rule::from_spec(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap_err();
        assert!(super::super::resources::chain(&error).starts_with(expected), "{error}");
    }
    let hole = spec(r#"[{"allow": true, "type": "c"}, {"allow": false, "type": "c", "major": 1, "minor": 11}]"#);
    let error = DeviceList::from_rules(&hole).unwrap_err();
    let text = super::super::resources::chain(&error);
    assert!(text.ends_with("cgroup v1 cannot make an exception of `c 1:11 rwm` from `c *:* rwm`"), "{text}");
}

#[test]
fn v1_is_changed_by_what_differs() {
    let list = |text| DeviceList::parse(text);
    let everything = list("a *:* rwm\n");
    let disk = DeviceList::from_rules(&spec(DISK)).unwrap();
    let writes = disk.writes_from(&everything);
    assert_eq!(writes[..2], [(false, "a".to_owned()), (true, "b 8:0 rw".to_owned())]);
    assert_eq!(writes.len(), 2 + rule::DEFAULT.len());
    assert!(disk.writes_from(&disk).is_empty());
    let other = list("b 8:0 r\nc 1:11 rw\n");
    let next = list("b 8:0 rw\n");
    assert_eq!(next.writes_from(&other), [(true, "b 8:0 w".to_owned()), (false, "c 1:11 rw".to_owned())]);
    assert_eq!(everything.writes_from(&other), [(true, "a".to_owned())]);
}

/// Opens a node in a cgroup and says how that went.
fn open_in(cgroup: &Cgroup, node: &Path) -> String {
    let script = "for f in $PROCS; do echo 0 > $f || exit 9; done; exec 2>&1; : < \"$NODE\" && echo opened";
    let procs: Vec<String> =
        cgroup.directories().map(|dir| dir.join("cgroup.procs").to_string_lossy().into_owned()).collect();
    let done =
        Command::new("sh").args(["-c", script]).env("PROCS", procs.join(" ")).env("NODE", node).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// A private node of /dev/kmsg: a device that is in no list, and that can be opened outside.
fn node() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kmsg");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::CharacterDevice,
        mode,
        rustix::fs::makedev(1, 11),
    );
    made.unwrap();
    assert!(std::fs::File::open(&path).is_ok(), "the test needs a device that may be opened outside");
    (dir, path)
}

#[test]
fn a_bundle_gets_what_it_names_and_an_update_takes_it() {
    let tree = Subtree::new("devices");
    let (_dir, node) = node();
    let with = |json: &str| serde_json::from_str::<LinuxResources>(json).unwrap();
    let path = tree.path.join("c").unwrap();
    let create = |json: &str| tree.hierarchies.create_for_bundle(&path, 0, &with(json)).unwrap();
    let granted =
        r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}]}"#;
    let denied = r#"{"devices": [{"allow": false}]}"#;
    let cgroup = create(granted);
    assert_eq!(open_in(&cgroup, &node), "opened\n");
    cgroup.update(&with(denied)).unwrap();
    assert!(open_in(&cgroup, &node).contains("Operation not permitted"));
    assert_eq!(open_in(&cgroup, Path::new("/dev/null")), "opened\n");
    cgroup.update(&with(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#)).unwrap();
    assert_eq!(open_in(&cgroup, &node), "opened\n");
    cgroup.update(&with(denied)).unwrap();
    assert!(open_in(&cgroup, &node).contains("Operation not permitted"));
    cgroup.update(&with(r#"{"pids": {"limit": 50}}"#)).unwrap();
    assert!(open_in(&cgroup, &node).contains("Operation not permitted"), "rules that nobody named stay");
    cgroup.remove(PATIENCE).unwrap();
    assert!(open_in(&create("{}"), &node).contains("Operation not permitted"));
}

#[test]
fn an_ordinary_container_gets_the_default() {
    let (_dir, node) = node();
    for tree in [Subtree::new("default"), Subtree::without_v2("default1")] {
        let path = tree.path.join("c").unwrap();
        let Ok(cgroup) = tree.hierarchies.create(&path, &crate::spec::ResourceLimits::default()) else { continue };
        assert!(cgroup.warnings().is_empty(), "{:?}", cgroup.warnings());
        assert_eq!(cgroup.confine_devices(&[]), None);
        assert!(open_in(&cgroup, &node).contains("Operation not permitted"));
        assert_eq!(open_in(&cgroup, Path::new("/dev/zero")), "opened\n");
        cgroup.remove(PATIENCE).unwrap();
        for (rule, opened) in [("c 1:11 r", true), ("c 1:11 w", false), ("b *:* rwm", false), ("a *:* rwm", true)] {
            let cgroup = tree.hierarchies.create(&path, &crate::spec::ResourceLimits::default()).unwrap();
            assert_eq!(cgroup.confine_devices(&[rule.parse().unwrap()]), None);
            assert_eq!(open_in(&cgroup, &node) == "opened\n", opened, "{rule}");
            cgroup.remove(PATIENCE).unwrap();
        }
    }
}

#[test]
fn on_v2_the_program_is_replaced_and_never_doubled() {
    let mut tree = Subtree::new("replaced");
    // A bundle on a host whose v1 has no such controller.
    tree.hierarchies.v1_others.retain(|mount| !mount.controllers.iter().any(|name| name == "devices"));
    if !tree.hierarchies.has_v2() {
        return;
    }
    let (_dir, node) = node();
    let with = |json: &str| serde_json::from_str::<LinuxResources>(json).unwrap();
    let denied = with(r#"{"devices": [{"allow": false}]}"#);
    let cgroup = tree.hierarchies.create_for_bundle(&tree.path.join("c").unwrap(), 0, &denied).unwrap();
    let programs = || bpf::attached(cgroup.clone_into().unwrap(), NAME).unwrap().len();
    assert_eq!(programs(), 1);
    assert!(open_in(&cgroup, &node).contains("Operation not permitted"));
    let granted =
        r#"{"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
    cgroup.update(&with(granted)).unwrap();
    assert_eq!((programs(), open_in(&cgroup, &node).as_str()), (1, "opened\n"));
    cgroup.update(&with(r#"{"devices": [{"allow": true}]}"#)).unwrap();
    assert_eq!((programs(), open_in(&cgroup, &node).as_str()), (0, "opened\n"));
    cgroup.update(&denied).unwrap();
    assert_eq!(programs(), 1);
    assert!(open_in(&cgroup, &node).contains("Operation not permitted"));
}
