//! `linux.seccomp` to one classic BPF program.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::arch::{Abi, X32_BIT};
use super::calls::{self, Calls, Decision, RuleSet, Run};
use super::code::{Code, MAX_LENGTH};
use super::numbers::Name;
use super::rules::{Rules, strictness};
use super::{Listener, Machine, SeccompPlan, support};
use crate::error::Faults;

/// The answer to calls that are newer than the profile.
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Decides what `profile` means: which answer each call gets, as the program that gives it.
///
/// `no_new_privileges` is `process.noNewPrivileges`: without it the filter has to be installed while `CAP_SYS_ADMIN` is held.
///
/// What is wrong with the profile goes to `faults`, with its path under `linux.seccomp`; the plan is of use only if there
/// is nothing. The kernel is asked only about what Linux 3.5 did not have and the profile uses.
///
/// How the program decides:
///
/// - A call made in a way (architecture) that the profile does not list kills the process. The machine's own is always
///   listed. Architectures of other machines are taken and have no code. x32 calls reach the kernel as x86_64 ones with
///   bit 30 set; if x32 is not listed they kill the process, and so does what else lies beyond that bit, except -1, with
///   which a tracer skips a call: it gets the default.
/// - A name that an architecture does not have means nothing there.
/// - A call with a number greater than all that the profile names for the architecture answers `ENOSYS` if the default
///   refuses (`KILL*`, `TRAP`, `ERRNO`), as in runc (its pull request 2750): numbers are given in
///   sequence, so these calls came after the profile was written, and a C library that gets `ENOSYS` falls back to what it
///   did before them. A number in a gap below gets the default. The names of a rule count even if the rule decides
///   nothing. Where the profile names no call of an architecture, all get the default.
/// - Of several rules for one call, one without conditions decides alone; else the first in the profile whose conditions
///   hold. Several conditions in one rule must all hold; if two of them are about the same argument, any of the rule's
///   conditions suffices, as in runc and crun.
/// - In 32-bit ABIs, x32 among them, the lower halves of argument and constant are compared, as by libseccomp.
/// - A rule for one of x86's socket or System V IPC calls is also one for the kind of socketcall or ipc that does the same.
pub fn plan(profile: &LinuxSeccomp, no_new_privileges: bool, faults: &mut Faults) -> SeccompPlan {
    plan_for(&Machine::OWN, profile, no_new_privileges, faults)
}

/// The same for another machine than this one.
pub fn plan_for(
    machine: &Machine,
    profile: &LinuxSeccomp,
    no_new_privileges: bool,
    faults: &mut Faults,
) -> SeccompPlan {
    let listener = Listener::of(profile, faults);
    let flags = flags(profile, listener.is_some(), faults);
    let rules = Rules::read(profile, faults);
    actions(profile, faults);

    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let abis = machine.select(profile.architectures().as_deref().unwrap_or_default());
    let names: Vec<Name> = syscalls.iter().flat_map(LinuxSyscall::names).map(|name| Name::new(name)).collect();
    let mut found = vec![false; names.len()];
    let mut set = RuleSet::new(&rules);
    let all: Vec<(Abi, Calls)> = abis
        .iter()
        .map(|&abi| (abi, Calls::new(abi, syscalls, &names, &rules, &mut set, &mut found, faults)))
        .collect();
    if log::log_enabled!(log::Level::Debug) {
        let names = syscalls.iter().flat_map(LinuxSyscall::names);
        for (name, _) in names.zip(&found).filter(|(_, found)| !**found) {
            log::debug!("linux.seccomp.syscalls: no call {name:?} in this filter's architectures: left out");
        }
    }

    let refuses = strictness(rules.default) <= strictness(libc::SECCOMP_RET_ERRNO);
    let newer = if refuses { NO_SUCH_CALL } else { rules.default };
    let program = program(&all, &set, rules.default, newer);
    if program.len() > MAX_LENGTH {
        faults.add(
            "linux.seccomp.syscalls",
            format_args!("{} instructions, more than the {MAX_LENGTH} that the kernel takes", program.len()),
        );
    }
    SeccompPlan {
        flags,
        early: !no_new_privileges,
        default_answer: rules.default,
        newer_answer: newer,
        architectures: abis.iter().map(|abi| abi.name()).collect(),
        rules: rules.all.len(),
        calls: all.first().map_or(0, |(_, calls)| calls.len()),
        unknown_names: found.iter().filter(|found| !**found).count(),
        program,
        listener,
    }
}

/// Writes the program, from its end: the sections of the architectures in reverse, then the way to them.
fn program(all: &[(Abi, Calls)], set: &RuleSet, default: u32, newer: u32) -> Vec<seccompiler::sock_filter> {
    let mut code = Code::new();
    let mut sections = Vec::with_capacity(all.len());
    let x32 = all.iter().find(|(abi, _)| *abi == Abi::X32);
    for (abi, calls) in all.iter().rev() {
        let mut runs: Vec<Run> = Vec::with_capacity(256);
        match abi {
            Abi::X32 => continue,
            Abi::X86_64 => {
                calls.runs(0, Some(X32_BIT), default, newer, &mut runs);
                if let Some((_, calls)) = x32 {
                    calls.runs(X32_BIT, None, default, newer, &mut runs);
                } else {
                    calls::add(&mut runs, X32_BIT, Decision::Answer(libc::SECCOMP_RET_KILL_PROCESS));
                    calls::add(&mut runs, u32::MAX, Decision::Answer(default));
                }
            }
            _ => calls.runs(0, None, default, newer, &mut runs),
        }
        let section = code.section(&runs, &|code, run| match (run.decision, x32) {
            (Decision::Answer(answer), _) => code.answer(answer),
            (Decision::List(list), Some((x32, calls))) if *abi == Abi::X86_64 && run.first >= X32_BIT => {
                code.list(*x32, calls, list, set)
            }
            (Decision::List(list), _) => code.list(*abi, calls, list, set),
        });
        sections.push((abi.audit(), section));
    }
    sections.reverse();
    code.dispatch(&sections);
    code.finish()
}

/// The kernel's bits for the profile's flags.
fn flags(profile: &LinuxSeccomp, notifies: bool, faults: &mut Faults) -> u32 {
    let mut flags = 0;
    for (at, &flag) in profile.flags().as_deref().unwrap_or_default().iter().enumerate() {
        let path = || format!("linux.seccomp.flags[{at}]");
        match libc::c_ulong::from(support::flag(flag)) {
            _ if !support::flag_available(flag) => {
                faults.unsupported(path(), format_args!("this kernel does not have {flag}"));
            }
            // The kernel refuses the flag there.
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV if !notifies => {
                faults.add(path(), format_args!("{flag} has no meaning without SCMP_ACT_NOTIFY"));
            }
            bit => flags |= bit as u32,
        }
    }
    flags
}

/// Asks the kernel about the actions that it may lack.
fn actions(profile: &LinuxSeccomp, faults: &mut Faults) {
    for action in
        [LinuxSeccompAction::ScmpActLog, LinuxSeccompAction::ScmpActKillProcess, LinuxSeccompAction::ScmpActNotify]
    {
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let path = if profile.default_action() == action {
            "linux.seccomp.defaultAction".to_owned()
        } else if let Some(at) = syscalls.iter().position(|syscall| syscall.action() == action) {
            format!("linux.seccomp.syscalls[{at}].action")
        } else {
            continue;
        };
        if !support::action_available(action) {
            faults.unsupported(path, format_args!("this kernel does not have {action}"));
        }
    }
}
