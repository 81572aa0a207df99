//! Any text as a seccomp profile: it is refused, or becomes a program that the kernel would take, and that answers every
//! call as `procrt seccomp explain` says.
//!
//! `cargo +nightly fuzz run seccomp`; the profiles of engines under `differential/profiles` and `tests/configs` are a corpus to
//! begin with (`hack/fuzz`).

#![no_main]

#[path = "../../src/seccomp/tests/interpreter.rs"]
mod interpreter;

use interpreter::{Call, run};
use libfuzzer_sys::{Corpus, fuzz_target};
use oci_spec::runtime::LinuxSeccomp;
use procrt::error::Faults;
use procrt::seccomp::{self, Machine, Question, listing};

const X86_64: &[(&str, u32)] = &[("x86_64", 0xc000_003e), ("x32", 0xc000_003e), ("x86", 0x4000_0003)];
const AARCH64: &[(&str, u32)] = &[("aarch64", 0xc000_00b7), ("arm", 0x4000_0028)];

fuzz_target!(|data: &[u8]| -> Corpus {
    // The last bytes are the arguments of calls.
    let (text, tail) = data.split_at(data.len().saturating_sub(16));
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(text).or_else(|_| serde_json::from_slice(data)) else {
        return Corpus::Reject;
    };
    for (machine, abis) in [(Machine::X86_64, X86_64), (Machine::AARCH64, AARCH64)] {
        let mut faults = Faults::default();
        let plan = seccomp::plan_for(&machine, &profile, true, &mut faults);
        if faults.into_result().is_err() {
            continue;
        }
        check(&plan.program);
        let _ = (plan.describe(), listing::assembly(&plan.program), listing::c(&plan.program));
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
    numbers.extend(tail.chunks(2).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) % 512));
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
