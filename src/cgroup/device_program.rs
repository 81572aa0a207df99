//! A device policy as the eBPF program that cgroup2 asks about every access (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! An access can be several at once (opening for reading and writing). The program keeps those that are not yet decided
//! and goes through the rules from the last to the first: an allowing rule that matches takes away its own, and when none is left the
//! access is allowed; a denying rule that matches one that is left refuses it.

use super::devices::{Access, DeviceKind, DevicePolicy, DeviceRule};
use crate::sys::bpf::Instruction;

// struct bpf_cgroup_dev_ctx: __u32 access_type (access << 16 | type), __u32 major, __u32 minor.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

// Registers: r0 is the answer, r1 the context.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR_NUMBER: u8 = 4;
const MINOR_NUMBER: u8 = 5;

const fn load(to: u8, offset: i16) -> Instruction {
    Instruction::new(0x61, to, CONTEXT, offset, 0) // BPF_LDX | BPF_MEM | BPF_W
}
const fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(0xbc, to, from, 0, 0) // BPF_ALU | BPF_MOV | BPF_X
}
const fn set(to: u8, value: i32) -> Instruction {
    Instruction::new(0xb4, to, 0, 0, value) // BPF_ALU | BPF_MOV | BPF_K
}
const fn and(to: u8, value: i32) -> Instruction {
    Instruction::new(0x54, to, 0, 0, value) // BPF_ALU | BPF_AND | BPF_K
}
const fn shift_right(to: u8, bits: i32) -> Instruction {
    Instruction::new(0x74, to, 0, 0, bits) // BPF_ALU | BPF_RSH | BPF_K
}
const fn jump_if_equal(register: u8, value: i32) -> Instruction {
    Instruction::new(0x16, register, 0, 0, value) // BPF_JMP32 | BPF_JEQ | BPF_K
}
const fn jump_unless_equal(register: u8, value: i32) -> Instruction {
    Instruction::new(0x56, register, 0, 0, value) // BPF_JMP32 | BPF_JNE | BPF_K
}
const fn jump_if_any(register: u8, bits: i32) -> Instruction {
    Instruction::new(0x46, register, 0, 0, bits) // BPF_JMP32 | BPF_JSET | BPF_K
}
const fn jump() -> Instruction {
    Instruction::new(0x05, 0, 0, 0, 0) // BPF_JMP | BPF_JA
}
const fn exit() -> Instruction {
    Instruction::new(0x95, 0, 0, 0, 0) // BPF_JMP | BPF_EXIT
}

/// The program of `policy`.
///
/// Rules for character and for block devices never meet, and make two parts; both answers stand once, at the end. The
/// verifier's time, of which every container pays some, goes by the instructions and the ways through them.
pub fn build(policy: &DevicePolicy) -> Vec<Instruction> {
    let mut program = Program { code: Vec::with_capacity(64), answers: Vec::new() };
    program.code.extend([
        load(KIND, ACCESS_TYPE),
        copy(UNDECIDED, KIND),
        and(KIND, 0xffff),
        shift_right(UNDECIDED, 16),
        load(MAJOR_NUMBER, MAJOR),
        load(MINOR_NUMBER, MINOR),
    ]);
    let other_kind = program.code.len();
    program.code.push(jump_unless_equal(KIND, 2)); // BPF_DEVCG_DEV_CHAR
    program.append_rules(policy, DeviceKind::Char);
    program.land(other_kind);
    program.append_rules(policy, DeviceKind::Block);
    program.finish()
}

struct Program {
    code: Vec<Instruction>,
    /// The jumps that lead to an answer, and to which.
    answers: Vec<(usize, bool)>,
}

impl Program {
    /// Lets the jump at `from` lead to what comes next.
    fn land(&mut self, from: usize) {
        self.code[from].offset = (self.code.len() - from - 1) as i16;
    }

    /// A jump that leads to the answer `allow`.
    fn answer(&mut self, jump: Instruction, allow: bool) {
        self.answers.push((self.code.len(), allow));
        self.code.push(jump);
    }

    fn append_rules(&mut self, policy: &DevicePolicy, kind: DeviceKind) {
        for rule in policy.rules.iter().rev().filter(|rule| rule.kind == kind) {
            if self.append_rule(rule) {
                return;
            }
        }
        self.answer(jump(), policy.allow);
    }

    /// Appends one rule, and answers whether nothing comes past it (the kernel refuses code that nothing leads to).
    fn append_rule(&mut self, rule: &DeviceRule) -> bool {
        let numbers = [(MAJOR_NUMBER, rule.major), (MINOR_NUMBER, rule.minor)];
        let mut tests: Vec<(u8, i32)> =
            numbers.iter().filter_map(|(register, number)| Some((*register, number.as_ref()?.cast_signed()))).collect();
        let access = i32::from(rule.access.0);
        let allows_all = rule.allow && rule.access == Access::ALL;
        let last = if allows_all { tests.pop() } else { None };
        let mut to_next = Vec::with_capacity(tests.len());
        for (register, value) in tests {
            to_next.push(self.code.len());
            self.code.push(jump_unless_equal(register, value));
        }
        let mut is_last = false;
        match last {
            Some((register, value)) => self.answer(jump_if_equal(register, value), true),
            None if allows_all => {
                self.answer(jump(), true);
                is_last = true;
            }
            None if rule.allow => {
                self.code.push(and(UNDECIDED, i32::from(Access::ALL.0) & !access));
                self.answer(jump_if_equal(UNDECIDED, 0), true);
            }
            None => self.answer(jump_if_any(UNDECIDED, access), false),
        }
        for from in to_next {
            self.land(from);
        }
        is_last
    }

    /// Appends the answers that are wanted.
    fn finish(mut self) -> Vec<Instruction> {
        for allow in [false, true] {
            let wanted: Vec<usize> =
                self.answers.iter().filter(|answer| answer.1 == allow).map(|answer| answer.0).collect();
            if wanted.is_empty() {
                continue;
            }
            for from in wanted {
                self.land(from);
            }
            self.code.extend([set(ANSWER, allow.into()), exit()]);
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, for the few instructions that it is made of.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let now = program[at];
            let (to, from) = (usize::from(now.registers & 15), usize::from(now.registers >> 4));
            let value = now.immediate.cast_unsigned();
            at += 1;
            let jumps = match now.code {
                0x61 => {
                    registers[to] = [access << 16 | kind, major, minor][now.offset as usize / 4];
                    false
                }
                0xbc => {
                    registers[to] = registers[from];
                    false
                }
                0xb4 => {
                    registers[to] = value;
                    false
                }
                0x54 => {
                    registers[to] &= value;
                    false
                }
                0x74 => {
                    registers[to] >>= value;
                    false
                }
                0x16 => registers[to] == value,
                0x56 => registers[to] != value,
                0x46 => registers[to] & value != 0,
                0x05 => true,
                0x95 => return registers[0] == 1,
                code => panic!("instruction {code:#x}"),
            };
            if jumps {
                at += now.offset as usize;
            }
        }
    }

    /// What the rules say, said plainly: for every access that is asked for, the last rule that matches.
    fn expected(policy: &DevicePolicy, kind: u32, access: u32, major: u32, minor: u32) -> bool {
        [1, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let matches = |rule: &&DeviceRule| {
                (rule.kind == DeviceKind::Block) == (kind == 1)
                    && rule.major.is_none_or(|m| m == major)
                    && rule.minor.is_none_or(|m| m == minor)
                    && u32::from(rule.access.0) & bit != 0
            };
            policy.rules.iter().rev().find(matches).map_or(policy.allow, |rule| rule.allow)
        })
    }

    #[test]
    fn the_last_rule_that_matches_decides_every_access_and_as_root_the_kernel_takes_the_program() {
        let rule = |allow, kind, major, minor, access| DeviceRule { allow, kind, major, minor, access: Access(access) };
        let (b, c) = (DeviceKind::Block, DeviceKind::Char);
        let lists = [
            vec![],
            vec![rule(false, c, Some(5), Some(1), 7), rule(true, c, None, None, 7), rule(false, b, None, Some(1), 7)],
            vec![rule(true, b, None, None, 7), rule(true, c, None, None, 7)],
            vec![rule(true, c, Some(1), Some(3), 7)],
            vec![rule(true, c, None, None, 2), rule(false, c, Some(1), None, 6), rule(true, c, Some(1), Some(3), 4)],
            vec![rule(true, b, Some(8), None, 7), rule(false, b, None, Some(1), 1), rule(true, c, None, None, 1)],
            vec![
                rule(false, b, None, None, 4),
                rule(true, b, Some(u32::MAX), Some(1), 4),
                rule(false, c, None, None, 7),
            ],
        ];
        for (allow, rules) in [true, false].into_iter().flat_map(|a| lists.iter().map(move |l| (a, l.clone()))) {
            let policy = DevicePolicy { allow, rules };
            let program = build(&policy);
            for (kind, access) in [1, 2].into_iter().flat_map(|k| (1..8).map(move |a| (k, a))) {
                for (major, minor) in [(1, 3), (1, 1), (8, 1), (8, 0), (u32::MAX, 1), (3, 3)] {
                    let (want, got) =
                        (expected(&policy, kind, access, major, minor), run(&program, kind, access, major, minor));
                    assert_eq!(got, want, "{policy:?}: kind {kind}, access {access}, {major}:{minor}");
                }
            }
            if nix::unistd::geteuid().is_root() {
                crate::sys::bpf::load_device_program(&program).unwrap_or_else(|errno| panic!("{errno}: {policy:?}"));
            } else {
                eprintln!("not loaded: that needs root");
            }
        }
    }

    #[test]
    fn the_standard_devices_are_a_short_program() {
        let program = build(&DevicePolicy::new(&[], &mut crate::error::Faults::default()));
        assert!(program.len() < 40, "{} instructions", program.len());
        assert!(run(&program, 2, 6, 1, 3) && run(&program, 1, 1, 8, 0));
        assert!(!run(&program, 1, 2, 8, 0) && !run(&program, 2, 3, 1, 11));
    }
}
