//! Rules as an eBPF program, which cgroup v2 runs at every use of a device: 1 allows, 0 denies with EPERM.
//!
//! The program goes through the rules from the last to the first with the uses that are still undecided in hand. A rule that fits
//! decides its share of them: a denial ends with 0, a permission takes them out, and when none is left the end is 1. So the last rule
//! counts, for each use on its own: a device may be opened for reading and writing by one rule for each.

use super::rule::{DeviceRule, Kind};

/// Operation codes of the instructions that are used (instruction-set.rst of the kernel).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The registers: the answer, the context, and what the program keeps.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Returns the instructions, `struct bpf_insn` each. What no rule decides is denied.
pub(super) fn assemble(rules: &[DeviceRule]) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx: the uses in the upper half of a word and the kind in the lower, then major, then minor.
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, UNDECIDED, KIND, 0, 0),
        instruction(SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.is_total() {
            // Nothing before it counts.
            program.extend(answer(rule.allow));
            return program;
        }
        program.extend(judge(rule));
    }
    program.extend(answer(false));
    program
}

/// Returns one rule's instructions: comparisons that jump behind it, then the decision.
fn judge(rule: &DeviceRule) -> Vec<u64> {
    let kind = rule.devices.kind.map(|kind| match kind {
        Kind::Block => 1,
        Kind::Character => 2,
    });
    let compared = [(KIND, kind), (MAJOR, rule.devices.major), (MINOR, rule.devices.minor)];
    let compared: Vec<(u8, u32)> =
        compared.into_iter().filter_map(|(register, number)| Some((register, number?))).collect();
    let mut decision = if rule.allow {
        vec![
            instruction(AND, UNDECIDED, 0, 0, !u32::from(rule.access)),
            instruction(JUMP_IF_NOT_EQUAL, UNDECIDED, 0, 2, 0),
        ]
    } else {
        vec![
            instruction(MOVE_REGISTER, ANSWER, UNDECIDED, 0, 0),
            instruction(AND, ANSWER, 0, 0, u32::from(rule.access)),
            instruction(JUMP_IF_EQUAL, ANSWER, 0, 2, 0),
        ]
    };
    decision.extend(answer(rule.allow));
    let mut judged = Vec::with_capacity(compared.len() + decision.len());
    for (at, (register, number)) in compared.iter().enumerate() {
        let past = compared.len() - at - 1 + decision.len();
        judged.push(instruction(JUMP_IF_NOT_EQUAL, *register, 0, i16::try_from(past).unwrap_or(i16::MAX), *number));
    }
    judged.append(&mut decision);
    judged
}

fn answer(allow: bool) -> [u64; 2] {
    [instruction(MOVE, ANSWER, 0, 0, u32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// Writes an instruction: code, two registers of four bits, jump, constant.
fn instruction(code: u8, to: u8, from: u8, jump: i16, constant: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let ([a, b], [c, d, e, f]) = (jump.to_ne_bytes(), constant.to_ne_bytes());
    u64::from_ne_bytes([code, registers, a, b, c, d, e, f])
}
