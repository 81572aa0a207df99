//! A profile's rules, checked and brought to their plain form: a filter's answer, and the conditions for it.

use std::ops::Range;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::error::Faults;

/// The largest error number that the kernel lets a filter answer: `MAX_ERRNO` of `linux/err.h`.
const MAX_ERRNO: u32 = 4095;
/// The bits of a filter's answer that carry its number: `SECCOMP_RET_DATA`.
const DATA: u32 = libc::SECCOMP_RET_DATA;

/// What a condition compares its argument by; the other operators are these, denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// `argument & mask == value`
    Equal {
        mask: u64,
    },
    Greater,
    GreaterOrEqual,
}

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) test: Test,
    pub(super) value: u64,
    /// Whether the condition holds when the test does not.
    pub(super) denied: bool,
}

/// A filter's answer for one call, given when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// `SECCOMP_RET_*` with its data.
    pub(super) answer: u32,
    pub(super) conditions: Vec<Condition>,
    /// The profile's entry that it comes from.
    pub(super) entry: usize,
}

/// A profile without its names: the answers and conditions of each entry of `syscalls`.
#[derive(Debug)]
pub(super) struct Rules {
    /// The answer where no rule has one.
    pub(super) default: u32,
    pub(super) all: Vec<Rule>,
    /// For each entry of `syscalls`, its rules: none when it says what the default does, several when its conditions are
    /// alternatives.
    pub(super) entries: Vec<Range<usize>>,
}

/// The kernel's constant for `action`, and the largest number that it takes with it.
pub(super) fn base(action: LinuxSeccompAction) -> (u32, u32) {
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => (libc::SECCOMP_RET_KILL_THREAD, 0),
        LinuxSeccompAction::ScmpActKillProcess => (libc::SECCOMP_RET_KILL_PROCESS, 0),
        LinuxSeccompAction::ScmpActTrap => (libc::SECCOMP_RET_TRAP, 0),
        LinuxSeccompAction::ScmpActErrno => (libc::SECCOMP_RET_ERRNO, MAX_ERRNO),
        LinuxSeccompAction::ScmpActTrace => (libc::SECCOMP_RET_TRACE, DATA),
        LinuxSeccompAction::ScmpActLog => (libc::SECCOMP_RET_LOG, 0),
        LinuxSeccompAction::ScmpActAllow => (libc::SECCOMP_RET_ALLOW, 0),
        LinuxSeccompAction::ScmpActNotify => (libc::SECCOMP_RET_USER_NOTIF, 0),
    }
}

/// How strict an answer is, the strictest least: the order in which the kernel prefers the answers of several filters
/// (seccomp(2)), so `KILL_PROCESS` is a negative number.
pub(super) const fn strictness(answer: u32) -> i32 {
    (answer & libc::SECCOMP_RET_ACTION_FULL) as i32
}

impl Rules {
    pub(super) fn read(profile: &LinuxSeccomp, faults: &mut Faults) -> Self {
        let default = answer(
            profile.default_action(),
            profile.default_errno_ret(),
            || ["linux.seccomp.defaultAction".into(), "linux.seccomp.defaultErrnoRet".into()],
            faults,
        );
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let mut rules =
            Self { default, all: Vec::with_capacity(syscalls.len()), entries: Vec::with_capacity(syscalls.len()) };
        for (entry, syscall) in syscalls.iter().enumerate() {
            rules.add(entry, syscall, faults);
        }
        rules
    }

    fn add(&mut self, entry: usize, syscall: &LinuxSyscall, faults: &mut Faults) {
        if syscall.names().is_empty() {
            faults
                .add(format!("linux.seccomp.syscalls[{entry}].names"), "empty: a rule needs at least one system call");
        }
        for (at, _) in syscall.names().iter().enumerate().filter(|(_, name)| name.is_empty()) {
            faults.add(format!("linux.seccomp.syscalls[{entry}].names[{at}]"), "\"\" is not the name of a system call");
        }
        let answer = answer(
            syscall.action(),
            syscall.errno_ret(),
            || ["action", "errnoRet"].map(|field| format!("linux.seccomp.syscalls[{entry}].{field}")),
            faults,
        );
        let arguments = syscall.args().as_deref().unwrap_or_default();
        let mut seen = 0_u8;
        let mut alternatives = false;
        for (at, argument) in arguments.iter().enumerate() {
            if argument.index() > 5 {
                let path = format!("linux.seccomp.syscalls[{entry}].args[{at}].index");
                faults.add(path, format_args!("{} is greater than 5", argument.index()));
                continue;
            }
            let bit = 1 << argument.index();
            alternatives |= seen & bit != 0;
            seen |= bit;
        }

        let first = self.all.len();
        // libseccomp refuses a rule that does what the default does, and runc leaves it out; so it decides nothing.
        let decides = answer != self.default;
        if decides && alternatives {
            // One rule of libseccomp has at most one condition for an argument. runc and crun make of an entry that has
            // more a rule for each of its conditions, so that any of them suffices, and profiles rely on it.
            log::debug!(
                "linux.seccomp.syscalls[{entry}].args: an argument has several conditions: any of all suffices"
            );
            for argument in arguments {
                self.all.push(Rule { answer, conditions: vec![condition(argument)], entry });
            }
        } else if decides {
            self.all.push(Rule { answer, conditions: arguments.iter().map(condition).collect(), entry });
        }
        self.entries.push(first..self.all.len());
    }
}

/// The answer of `action` with its number. `paths` are the action's and the number's.
fn answer(
    action: LinuxSeccompAction,
    number: Option<u32>,
    paths: impl FnOnce() -> [String; 2],
    faults: &mut Faults,
) -> u32 {
    match (base(action), number) {
        ((base, 0), None) => base,
        ((base, 0), Some(number)) => {
            // "When the action doesn't support an errno, the runtime MUST print and error and fail", config-linux.md.
            let [_, path] = paths();
            faults.add(path, format_args!("{number} has no meaning with {action}"));
            base
        }
        ((base, most), number) => {
            let number = number.unwrap_or(libc::EPERM as u32);
            if number > most {
                let [_, path] = paths();
                faults.add(path, format_args!("{number} is greater than {most}"));
            }
            base | number & DATA
        }
    }
}

fn condition(argument: &LinuxSeccompArg) -> Condition {
    let exact = Test::Equal { mask: u64::MAX };
    let value = argument.value();
    let (test, value, denied) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => (exact, value, false),
        LinuxSeccompOperator::ScmpCmpNe => (exact, value, true),
        LinuxSeccompOperator::ScmpCmpGt => (Test::Greater, value, false),
        LinuxSeccompOperator::ScmpCmpLe => (Test::Greater, value, true),
        LinuxSeccompOperator::ScmpCmpGe => (Test::GreaterOrEqual, value, false),
        LinuxSeccompOperator::ScmpCmpLt => (Test::GreaterOrEqual, value, true),
        // Bits of the second value that the mask does not have are left out, as by libseccomp.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Test::Equal { mask: value }, argument.value_two().unwrap_or_default() & value, false)
        }
    };
    Condition { argument: argument.index() as u8, test, value, denied }
}
