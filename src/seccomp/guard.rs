//! What libseccomp cannot say, in front of its program: numbers that nobody has judged are answered ENOSYS, calls it has no
//! name for are refused by number, personality(2) is compared twice in one rule, and socket(2) is judged without its 32-bit
//! double socketcall(2), whose arguments lie in memory.
//!
//! The program is classic BPF (seccomp(2), "Filters"): it reads words of `struct seccomp_data`, jumps forward, returns.

use std::ops::RangeInclusive;

use super::filter::INSTRUCTION;

/// Where in `struct seccomp_data` the number, the architecture and the lower half of the first argument stand.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Is the part of the guard for one architecture.
#[derive(Debug, Default)]
pub(super) struct Block {
    audit: u32,
    known: Vec<RangeInclusive<u32>>,
    checks: Vec<(u32, Check)>,
}

/// Judges a call by the lower half of its first argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// Refuses every value with other bits than these, but for one.
    Bits {
        /// What may be set.
        allowed: u32,
        /// What passes all the same.
        but: u32,
    },
    /// Refuses these values.
    Not(&'static [u32]),
}

impl Check {
    /// Returns the instructions behind the comparison of the number; each way through them is decided.
    fn steps(self) -> Vec<Step> {
        let refuse = Step(RETURN, refusal(libc::EPERM), To::Next, To::Next);
        let mut steps = vec![Step(LOAD, ARG0, To::Next, To::Next)];
        match self {
            Self::Bits { allowed, but } => {
                steps.push(Step(EQUAL, but, To::Pass, To::Next));
                steps.push(Step(AND, !allowed, To::Next, To::Next));
                steps.push(Step(EQUAL, 0, To::Pass, To::Next));
            }
            Self::Not(values) => {
                for (at, value) in values.iter().enumerate() {
                    // All that is left behind the last value is the refusal.
                    let left = u8::try_from(values.len() - at - 1).unwrap_or(u8::MAX);
                    let otherwise = if left == 0 { To::Pass } else { To::Next };
                    steps.push(Step(EQUAL, *value, To::Skip(left), otherwise));
                }
            }
        }
        steps.push(refuse);
        steps
    }
}

impl Block {
    /// Answers ENOSYS to every number outside these ranges, which rise.
    pub(super) fn known(&mut self, ranges: &[RangeInclusive<u32>]) {
        self.known = ranges.to_vec();
    }

    /// Judges a call by its first argument; one that the architecture does not have needs no judging.
    pub(super) fn check(&mut self, number: Option<u32>, check: Check) {
        self.checks.extend(number.map(|number| (number, check)));
    }
}

/// Is the whole guard.
#[derive(Debug, Default)]
pub(super) struct Guard {
    blocks: Vec<Block>,
    refused: Vec<(u32, i32)>,
}

/// Where an instruction's jump goes.
#[derive(Clone, Copy, PartialEq)]
enum To {
    /// The instruction behind.
    Next,
    /// Some instructions further.
    Skip(u8),
    /// The answer to what nobody knows.
    Unknown,
    /// Past the block: libseccomp's program decides.
    Pass,
}

struct Step(u16, u32, To, To);

impl Guard {
    /// Begins the part for the architecture that a filter sees as `audit`.
    pub(super) fn arch(&mut self, audit: u32) -> &mut Block {
        self.blocks.push(Block { audit, ..Block::default() });
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// Refuses a number on every architecture.
    pub(super) fn refuse(&mut self, number: u32, errno: i32) {
        self.refused.push((number, errno));
    }

    /// Returns the guard's instructions. Its way out is its end, where libseccomp's program is to stand.
    pub(super) fn assemble(&self) -> Vec<u8> {
        let mut program = Vec::new();
        for block in &self.blocks {
            let body = self.body(block);
            put(&mut program, LOAD, 0, 0, ARCH);
            put(&mut program, EQUAL, 1, 0, block.audit);
            put(&mut program, ALWAYS, 0, 0, u32::try_from(body.len() / INSTRUCTION).unwrap_or(u32::MAX));
            program.extend(body);
        }
        program
    }

    /// Returns one architecture's instructions: the number in hand, decisions, then the two exits.
    fn body(&self, block: &Block) -> Vec<u8> {
        let mut steps = vec![Step(LOAD, NR, To::Next, To::Next)];
        for (number, errno) in &self.refused {
            // x32 has the same numbers, marked.
            for number in [*number, super::profile::X32 + number] {
                steps.push(Step(EQUAL, number, To::Next, To::Skip(1)));
                steps.push(Step(RETURN, refusal(*errno), To::Next, To::Next));
            }
        }
        for (number, check) in &block.checks {
            let judged = check.steps();
            steps.push(Step(EQUAL, *number, To::Next, To::Skip(u8::try_from(judged.len()).unwrap_or(u8::MAX))));
            steps.extend(judged);
        }
        for range in &block.known {
            steps.push(Step(AT_LEAST, *range.start(), To::Next, To::Unknown));
            steps.push(Step(ABOVE, *range.end(), To::Next, To::Pass));
        }
        resolve(&steps)
    }
}

/// Writes the steps with their jumps counted, and the exit `Unknown` behind them.
fn resolve(steps: &[Step]) -> Vec<u8> {
    let mut program = Vec::with_capacity((steps.len() + 1) * INSTRUCTION);
    for (at, Step(code, constant, then, otherwise)) in steps.iter().enumerate() {
        let exit = steps.len() - at - 1;
        let jump = |to: &To| match to {
            To::Next => 0,
            To::Skip(count) => *count,
            To::Unknown => u8::try_from(exit).unwrap_or(u8::MAX),
            To::Pass => u8::try_from(exit + 1).unwrap_or(u8::MAX),
        };
        put(&mut program, *code, jump(then), jump(otherwise), *constant);
    }
    put(&mut program, RETURN, 0, 0, refusal(libc::ENOSYS));
    program
}

/// Returns what a filter returns to refuse with an errno.
fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(0) & libc::SECCOMP_RET_DATA
}

fn put(program: &mut Vec<u8>, code: u16, then: u8, otherwise: u8, constant: u32) {
    program.extend(code.to_ne_bytes());
    program.extend([then, otherwise]);
    program.extend(constant.to_ne_bytes());
}
