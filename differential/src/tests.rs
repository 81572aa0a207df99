//! The programs agree, or the difference is one that has a name.

use std::collections::BTreeMap;

use libseccomp::ScmpArch;
use oci_spec::runtime::LinuxSeccomp;
use procrt::error::Faults;
use procrt::seccomp::{self, Explanation, Machine, Question};
use seccompiler::sock_filter;

use crate::generator::{self, Dice};
use crate::interpreter::{Call, run};
use crate::model::{self, Abi, Verdict, Why, verdict};
use crate::peer::{self, Made};

fn from_environment(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What libseccomp answers otherwise, and why that is right or harmless. Nothing if it is not explained.
fn named(call: &Call, verdict: &Verdict, theirs: u32, default: u32) -> Option<&'static str> {
    match verdict.why {
        // It kills the thread and leaves the others with whatever it held.
        Why::Foreign if theirs == libc::SECCOMP_RET_KILL_THREAD => {
            Some("foreign calls kill the process, not the thread")
        }
        // Runtimes put that in front of its program themselves.
        Why::Newer if theirs == default => Some("newer calls are not there"),
        // Its order follows from the shape of its tree.
        Why::First if verdict.all.contains(&theirs) => Some("the first rule decides"),
        // It compares the multiplexer's own second argument, which is an address, with a constant for the call's.
        Why::Through => Some("conditions do not hold through a multiplexer"),
        // The kernel takes a version out of the upper half of ipc's first argument, and the call from the lower.
        _ if (call.arch, call.number) == (0x4000_0003, 117) && call.arguments[0] & 0xffff_0000 != 0 => {
            Some("ipc has a version beside the call")
        }
        _ => None,
    }
}

/// What libseccomp answers when it is given one rule at a time, by the profile's order: the answer of a rule without
/// conditions, else of the first that holds, else the default. Generated profiles do not name uname.
fn one_by_one(machine: &Machines, profile: &LinuxSeccomp, call: &Call, default: u32) -> u32 {
    let mut first = None;
    for entry in profile.syscalls().iter().flatten() {
        let names = |name: &&String| {
            let stands_for = call.arch == 0x4000_0003 && entry.args().is_none() && model::stands_for(call, name);
            let is = |abi: &Abi| abi.2 == call.arch && peer::number(name, abi.1) == Some(call.number);
            stands_for || machine.abis.iter().any(is)
        };
        let Some(name) = entry.names().iter().find(names) else { continue };
        let args = entry.args().clone().unwrap_or_default();
        let several = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
        let alternatives: Vec<Vec<_>> = if several { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args] };
        for args in alternatives {
            let unconditional = args.is_empty();
            let mut one = entry.clone();
            one.set_names(vec![name.clone()]).set_args(Some(args));
            let mut alone = profile.clone();
            // A rule before it for a call that every architecture has, or libseccomp loses the first if its call is none of
            // the architecture's.
            let mut before = entry.clone();
            before.set_names(vec!["uname".to_owned()]).set_args(None);
            alone.set_syscalls(Some(vec![before, one]));
            let Made::Program(program) = peer::compile(&alone, machine.theirs, false) else { panic!("one rule") };
            match run(&program, call).0 {
                answer if answer == default => {}
                answer if unconditional => return answer,
                answer => first = first.or(Some(answer)),
            }
        }
    }
    first.unwrap_or(default)
}

struct Machines {
    abis: &'static [Abi],
    ours: Machine,
    theirs: ScmpArch,
}

const X86_64: Machines = Machines { abis: model::X86_64, ours: Machine::X86_64, theirs: ScmpArch::X8664 };
const AARCH64: Machines = Machines { abis: model::AARCH64, ours: Machine::AARCH64, theirs: ScmpArch::Aarch64 };

fn ours(machine: &Machines, profile: &LinuxSeccomp) -> Result<Vec<sock_filter>, String> {
    let mut faults = Faults::default();
    let plan = seccomp::plan_for(&machine.ours, profile, true, &mut faults);
    faults.into_result().map_err(|error| error.to_string())?;
    Ok(plan.program)
}

/// Compares the answers to `inputs` calls; counts the named differences.
fn compare(
    machine: &Machines,
    profile: &LinuxSeccomp,
    dice: &mut Dice,
    inputs: usize,
    counts: &mut BTreeMap<&'static str, usize>,
) {
    let mut count = |what| *counts.entry(what).or_default() += 1;
    let program = match ours(machine, profile) {
        Ok(program) => program,
        Err(fault) if fault.contains("contradicts") => return count("profiles refused for a contradiction"),
        Err(fault) => panic!("{fault}\n{}", serde_json::to_string(profile).unwrap()),
    };
    let peer = match peer::compile(profile, machine.theirs, false) {
        Made::Program(program) => Some(program),
        Made::Contradiction => {
            count("profiles that libseccomp alone refuses");
            None
        }
        Made::TooLong => {
            count("profiles too long for libseccomp");
            None
        }
    };
    count("profiles compared");
    let unlisted = Call { number: u32::MAX - 7, arch: machine.abis[0].2, arguments: [0; 6] };
    for at in 0..inputs {
        let call = if at == 0 { unlisted } else { generator::call(dice, profile, machine.abis) };
        let verdict = verdict(profile, machine.abis, &call);
        let shown = || format!("{call:x?}\n{verdict:x?}\n{}", serde_json::to_string(profile).unwrap());
        let (answer, _) = run(&program, &call);
        assert_eq!(answer, verdict.answer, "ours is {answer:#x}, not what the profile says: {}", shown());
        if at % 4 == 0 {
            explained(machine, profile, &call, &verdict);
        }
        let Some(peer) = &peer else { continue };
        let (theirs, _) = run(peer, &call);
        count("calls compared");
        if theirs != answer {
            let default = self::default(profile);
            let name = named(&call, &verdict, theirs, default).or_else(|| {
                let alone = one_by_one(machine, profile, &call, default);
                (alone == answer).then_some("libseccomp agrees about each rule alone, and not about all together")
            });
            count(name.unwrap_or_else(|| panic!("theirs is {theirs:#x}: {}", shown())));
        }
    }
}

/// The words of `procrt seccomp explain` come to the same answer.
fn explained(machine: &Machines, profile: &LinuxSeccomp, call: &Call, verdict: &Verdict) {
    let number = call.number.to_string();
    let question = Question { call: &number, arguments: &call.arguments, architecture: None };
    let ways = seccomp::explain(&machine.ours, profile, question, &|at| at.to_string());
    let made = |way: &&Explanation| {
        let name = format!("SCMP_ARCH_{}", way.architecture.to_uppercase());
        machine.abis.iter().any(|abi| abi.0 == name && abi.2 == call.arch)
    };
    match ways.iter().find(made) {
        Some(way) => assert_eq!(way.answer, Some(verdict.answer), "{call:x?} {way:?} {verdict:x?}"),
        None => assert!(verdict.why == Why::Foreign || call.number == u32::MAX, "{call:x?} {ways:?}"),
    }
}

fn default(profile: &LinuxSeccomp) -> u32 {
    let nothing = Call { number: 0, arch: X86_64.abis[0].2, arguments: [0; 6] };
    let mut alone = LinuxSeccomp::default();
    alone.set_default_action(profile.default_action());
    alone.set_default_errno_ret(profile.default_errno_ret());
    verdict(&alone, X86_64.abis, &nothing).answer
}

fn generated(machine: &Machines) {
    let (profiles, inputs) = (from_environment("PROCRT_PROFILES", 500), from_environment("PROCRT_INPUTS", 200));
    let seed = from_environment("PROCRT_SEED", 1) as u64;
    let mut counts = BTreeMap::new();
    for at in 0..profiles as u64 {
        let mut dice = Dice::new(seed.wrapping_mul(1 << 32) + at + 1);
        let profile = serde_json::from_value(generator::profile(&mut dice, machine.abis)).unwrap();
        compare(machine, &profile, &mut dice, inputs, &mut counts);
    }
    println!("{counts:#?}");
    assert!(counts["profiles compared"] > profiles / 3, "{counts:#?}");
}

#[test]
fn generated_profiles_on_x86_64() {
    generated(&X86_64);
}

#[test]
fn generated_profiles_on_aarch64() {
    generated(&AARCH64);
}

/// The profile of a container that an engine has configured: every number, with arguments around every constant.
fn an_engines(text: &str) {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let section = value.pointer("/linux/seccomp").unwrap_or(&value);
    let profile: LinuxSeccomp = serde_json::from_value(section.clone()).unwrap();
    let (ours, Made::Program(theirs)) =
        (ours(&X86_64, &profile).unwrap(), peer::compile(&profile, X86_64.theirs, false))
    else {
        panic!("libseccomp has no program")
    };
    let args = profile.syscalls().iter().flatten().flat_map(|entry| entry.args().iter().flatten());
    let mut values: Vec<u64> = args.flat_map(|arg| [arg.value(), arg.value_two().unwrap_or_default()]).collect();
    values.extend([0, 1, 1 << 32, u64::MAX]);
    for value in values.clone() {
        values.extend([value.wrapping_sub(1), value.wrapping_add(1), value ^ 1 << 32, value ^ 1 << 17]);
    }
    values.sort_unstable();
    values.dedup();
    let compares = |number, abi| {
        let entries = profile.syscalls().iter().flatten().filter(|entry| entry.args().is_some());
        entries.flat_map(|entry| entry.names()).any(|name| peer::number(name, abi) == Some(number))
    };
    let mut counts = BTreeMap::<_, usize>::new();
    for &(_, abi, arch, _) in X86_64.abis {
        let x32 = if abi == ScmpArch::X32 { 0x4000_0000 } else { 0 };
        for number in (0..600).map(|number| number | x32).chain([0x3fff_ffff, u32::MAX]) {
            let all = if compares(number, abi) { &values[..] } else { &values[..2] };
            for &value in all {
                let call = Call { number, arch, arguments: [value; 6] };
                let verdict = verdict(&profile, X86_64.abis, &call);
                let (answer, peer) = (run(&ours, &call).0, run(&theirs, &call).0);
                assert_eq!(answer, verdict.answer, "{call:x?} {verdict:x?}");
                let name = match answer == peer {
                    true => "agreed",
                    false => {
                        named(&call, &verdict, peer, default(&profile)).unwrap_or_else(|| panic!("{call:x?} {peer:#x}"))
                    }
                };
                *counts.entry(name).or_default() += 1;
            }
        }
    }
    println!("{counts:#?}");
}

#[test]
fn docker_20_10() {
    an_engines(include_str!("../../tests/configs/docker-default.json"));
}

#[test]
fn containerd_1_6() {
    an_engines(include_str!("../profiles/containerd-1.6.json"));
}

#[test]
fn podman_4_3() {
    an_engines(include_str!("../profiles/podman-4.3.json"));
}
