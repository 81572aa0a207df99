//! Anything as a seccomp profile: it is refused, or becomes a program that the kernel would take, and that answers calls as
//! `procrt seccomp explain` says.
//!
//! An input that begins with a brace is JSON; any other is read as the choices of which a profile is made, so that most
//! inputs are profiles. `hack/fuzz` runs it, and begins with engines' profiles.

#![no_main]

#[path = "../../src/seccomp/tests/interpreter.rs"]
mod interpreter;

use interpreter::{Call, run};
use libfuzzer_sys::{Corpus, fuzz_target};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};
use procrt::error::Faults;
use procrt::seccomp::{self, Machine, Question, listing};

const X86_64: &[(&str, u32)] = &[("x86_64", 0xc000_003e), ("x32", 0xc000_003e), ("x86", 0x4000_0003)];
const AARCH64: &[(&str, u32)] = &[("aarch64", 0xc000_00b7), ("arm", 0x4000_0028)];

fuzz_target!(|data: &[u8]| -> Corpus {
    // The last bytes are the arguments of calls.
    let (text, tail) = data.split_at(data.len().saturating_sub(16));
    let profile = if data.first() == Some(&b'{') {
        match serde_json::from_slice::<LinuxSeccomp>(text).or_else(|_| serde_json::from_slice(data)) {
            Ok(profile) => profile,
            Err(_) => return Corpus::Reject,
        }
    } else {
        made_of(Choices(text.iter()))
    };
    for (machine, abis) in [(Machine::X86_64, X86_64), (Machine::AARCH64, AARCH64)] {
        let mut faults = Faults::default();
        let plan = seccomp::plan_for(&machine, &profile, true, &mut faults);
        if faults.into_result().is_err() {
            continue;
        }
        check(&plan.program);
        if tail.first().is_some_and(|byte| byte.is_multiple_of(16)) {
            let _ = (plan.describe(), listing::assembly(&plan.program), listing::c(&plan.program));
        }
        for (name, audit) in abis {
            for number in calls(&profile, tail) {
                let mut arguments = [0_u64; 6];
                for (at, argument) in arguments.iter_mut().enumerate() {
                    *argument = constant(&profile, tail, at);
                }
                let x32 = number & 0x4000_0000 != 0;
                if *audit == 0xc000_003e && x32 != (*name == "x32") {
                    continue;
                }
                let question = Question { call: &number.to_string(), arguments: &arguments, architecture: Some(name) };
                let told = seccomp::explain(&machine, &profile, question, &|at| at.to_string());
                let (answer, steps) = run(&plan.program, &Call { number, arch: *audit, arguments });
                assert!(steps <= 4096);
                match told.first() {
                    Some(told) => assert_eq!(told.answer, Some(answer), "{number} {told:?}"),
                    // Not an architecture of the profile.
                    None => assert_eq!(answer, 0x8000_0000, "{number} on {name}"),
                }
            }
        }
    }
    Corpus::Keep
});

/// The bytes of an input, one choice each; zeros when they are used up.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default())
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.byte() % list.len()]
    }

    fn value(&mut self) -> u64 {
        const NEAR: [u64; 8] = [0, 5, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 1 << 63, u64::MAX, 0x7e02_0000];
        match self.byte() {
            byte @ 0..128 => NEAR[byte % 8].wrapping_add(byte as u64 / 8),
            byte @ 128..192 => byte as u64,
            _ => (0..8).fold(0, |value, _| value << 8 | self.byte() as u64),
        }
    }
}

fn made_of(mut choices: Choices) -> LinuxSeccomp {
    use LinuxSeccompAction as Action;
    use LinuxSeccompOperator as Operator;
    const ACTIONS: [Action; 9] = [
        Action::ScmpActErrno,
        Action::ScmpActAllow,
        Action::ScmpActKill,
        Action::ScmpActKillProcess,
        Action::ScmpActTrap,
        Action::ScmpActTrace,
        Action::ScmpActLog,
        Action::ScmpActNotify,
        Action::ScmpActKillThread,
    ];
    const OPERATORS: [Operator; 7] = [
        Operator::ScmpCmpEq,
        Operator::ScmpCmpNe,
        Operator::ScmpCmpLt,
        Operator::ScmpCmpLe,
        Operator::ScmpCmpGt,
        Operator::ScmpCmpGe,
        Operator::ScmpCmpMaskedEq,
    ];
    const NAMES: [&str; 32] = [
        "read",
        "clone",
        "execve",
        "socketcall",
        "ipc",
        "personality",
        "socket",
        "bind",
        "accept",
        "recvmmsg",
        "semop",
        "msgget",
        "shmat",
        "set_tls",
        "breakpoint",
        "mseal",
        "openat2",
        "fcntl64",
        "waitpid",
        "rt_sigaction",
        "ioctl",
        "write",
        "open",
        "close",
        "stat",
        "fstat",
        "lstat",
        "poll",
        "lseek",
        "mmap",
        "",
        "no_such_call",
    ];
    const ARCHES: [Arch; 6] = [
        Arch::ScmpArchX86_64,
        Arch::ScmpArchX86,
        Arch::ScmpArchX32,
        Arch::ScmpArchAarch64,
        Arch::ScmpArchArm,
        Arch::ScmpArchMips,
    ];
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(choices.of(&ACTIONS));
    profile.set_listener_path(Some("/agent".into()));
    let mask = choices.byte();
    profile.set_architectures(Some((0..6).filter(|bit| mask & 1 << bit != 0).map(|bit| ARCHES[bit]).collect()));
    if mask & 64 != 0 {
        profile.set_default_errno_ret(Some(choices.byte() as u32));
    }
    let mut syscalls = Vec::new();
    while !choices.0.as_slice().is_empty() {
        let mut rule = LinuxSyscall::default();
        let kind = choices.byte();
        rule.set_action(choices.of(&ACTIONS));
        let names = (0..=kind % 4).map(|_| match choices.byte() {
            byte @ 0..200 => NAMES[byte % 32].to_owned(),
            // Numbers spread over the table, so that there are long searches.
            byte => syscalls_of(byte - 200 + choices.byte()),
        });
        rule.set_names(names.collect());
        if kind & 16 != 0 {
            rule.set_errno_ret(Some((choices.byte() << (kind & 8)) as u32));
        }
        let args = (0..kind >> 5 & 3).map(|_| {
            let arg = LinuxSeccompArgBuilder::default()
                .index(choices.byte() % 7)
                .op(choices.of(&OPERATORS))
                .value(choices.value())
                .value_two(choices.value());
            arg.build().unwrap()
        });
        rule.set_args(Some(args.collect()));
        syscalls.push(rule);
    }
    profile.set_syscalls(Some(syscalls));
    profile
}

/// The name of an x86_64 call.
fn syscalls_of(number: usize) -> String {
    let question = Question { call: &number.to_string(), arguments: &[], architecture: None };
    let everything = LinuxSeccomp::default();
    let told = seccomp::explain(&Machine::X86_64, &everything, question, &|at| at.to_string());
    let line = told.first().and_then(|told| told.lines.first().cloned()).unwrap_or_default();
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// What the kernel's `seccomp_check_filter` wants of a program, as far as these instructions can fail it.
fn check(program: &[seccompiler::sock_filter]) {
    assert!((1..=4096).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match instruction.code {
            0x20 => assert!(instruction.k < 64 && instruction.k.is_multiple_of(4)),
            0x05 => assert!((instruction.k as usize) < left),
            0x15 | 0x25 | 0x35 => assert!((instruction.jt.max(instruction.jf) as usize) < left),
            0x54 => {}
            0x06 => continue,
            other => panic!("instruction {other:#x}"),
        }
        assert!(left > 0);
    }
    assert_eq!(program.last().unwrap().code, 0x06);
}

/// Numbers of calls: some everywhere, some by the input.
fn calls(profile: &LinuxSeccomp, tail: &[u8]) -> Vec<u32> {
    let mut numbers = vec![0, 56, 59, 102, 117, 135, 400, 600, 0x4000_0000, 0x4000_0208, 0x000f_0005];
    numbers
        .extend(tail.chunks(2).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) % 512));
    numbers.truncate(11 + 4 * usize::from(profile.syscalls().is_some()));
    numbers
}

/// A constant of the profile's, or beside one.
fn constant(profile: &LinuxSeccomp, tail: &[u8], at: usize) -> u64 {
    let byte = usize::from(tail.get(at).copied().unwrap_or_default());
    let args = profile.syscalls().iter().flatten().flat_map(|entry| entry.args().iter().flatten());
    let all: Vec<u64> = args.take(64).map(|arg| arg.value()).collect();
    let value = if all.is_empty() { byte as u64 } else { all[byte % all.len()] };
    match byte >> 6 {
        0 => value,
        1 => value.wrapping_add(1),
        2 => value.wrapping_sub(1),
        _ => value ^ 1 << 32,
    }
}
