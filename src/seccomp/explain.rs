//! Which rule decides a call, in words.

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};

use super::arch::{Abi, X32_BIT};
use super::calls::{Calls, RuleSet};
use super::numbers::{self, Name};
use super::rules::{Condition, Rules, Test, strictness};
use super::{Machine, words};
use crate::error::Faults;

/// What a profile means for one call, made in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The way: the architecture's name as people write it.
    pub architecture: &'static str,
    /// The call's number there.
    pub number: u32,
    /// The answer, `SECCOMP_RET_*` with its data; none if it depends on arguments that are not given.
    pub answer: Option<u32>,
    /// How it comes about, a line each, the answer last.
    pub lines: Vec<String>,
}

/// A call to be explained.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its name, or its number, decimal or hexadecimal.
    pub call: &'a str,
    /// Its arguments, as many as are known.
    pub arguments: &'a [u64],
    /// The only architecture to look at, by its name as people write it.
    pub architecture: Option<&'a str>,
}

/// Explains what `profile`, which has no faults, means for a call on `machine`: once for each architecture of the profile
/// that has it. `rule` is how the rule of a place in `syscalls` is called.
pub fn explain(
    machine: &Machine,
    profile: &LinuxSeccomp,
    question: Question,
    rule: &dyn Fn(usize) -> String,
) -> Vec<Explanation> {
    // The profile was compiled before: there are none.
    let mut faults = Faults::default();
    let rules = Rules::read(profile, &mut faults);
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let names: Vec<Name> = syscalls.iter().flat_map(LinuxSyscall::names).map(|name| Name::new(name)).collect();
    let mut found = vec![false; names.len()];
    let mut set = RuleSet::new(&rules);
    let abis = machine.select(profile.architectures().as_deref().unwrap_or_default());
    let wanted = abis.into_iter().filter(|abi| question.architecture.is_none_or(|name| name == abi.name()));
    wanted
        .filter_map(|abi| {
            let number = number(abi, question.call)?;
            let calls = Calls::gather(abi, syscalls, &names, &rules, &mut set, &mut found);
            let told = Told { abi, set: &set, rule };
            let mut lines = vec![match numbers::name(abi, number) {
                Some(name) => format!("{name} is call {number}"),
                None => format!("call {number} has no name"),
            }];
            let answer = told.decide(&calls, number, question.arguments, &mut lines);
            if let Some((multiplexer, kind)) = numbers::multiplexed(abi, Name::new(question.call)) {
                let through = told.decide(&calls, multiplexer.number(), &[kind.into()], &mut Vec::new());
                let through = through.map_or_else(|| "it depends on the arguments".to_owned(), words);
                let name = numbers::name(abi, multiplexer.number()).unwrap_or_default();
                lines.push(format!("made as {name}({kind}, …): {through}"));
            }
            lines.push(answer.map_or_else(|| "it depends on the arguments".to_owned(), words));
            Some(Explanation { architecture: abi.name(), number, answer, lines })
        })
        .collect()
}

/// Whether the architecture called `architecture` has a call of that name or number.
pub fn has_call(architecture: &str, call: &str) -> bool {
    let abis = [Machine::X86_64, Machine::AARCH64].into_iter().flat_map(|machine| machine.abis());
    abis.into_iter().any(|abi| abi.name() == architecture && number(abi, call).is_some())
}

/// The number of a call that is given by name or number.
fn number(abi: Abi, call: &str) -> Option<u32> {
    let number = match call.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => call.parse().ok(),
    };
    match number {
        Some(number) => {
            let fits = match abi {
                Abi::X32 => number >= X32_BIT,
                Abi::X86_64 => number < X32_BIT,
                _ => true,
            };
            fits.then_some(number)
        }
        None => numbers::number(abi, Name::new(call)),
    }
}

/// What is needed to tell of a call.
struct Told<'a> {
    abi: Abi,
    set: &'a RuleSet,
    rule: &'a dyn Fn(usize) -> String,
}

impl Told<'_> {
    /// The answer to a call, if its arguments suffice; adds a line for each rule about it.
    fn decide(&self, calls: &Calls, number: u32, arguments: &[u64], lines: &mut Vec<String>) -> Option<u32> {
        let rules: Vec<_> = calls.rules_of(number).map(|rule| &self.set.all[rule]).collect();
        let alone = rules.iter().position(|rule| rule.conditions.is_empty());
        let mut answer = None;
        let mut open = false;
        for (at, rule) in rules.iter().enumerate() {
            let holds = self.holds(&rule.conditions, arguments);
            let verdict = match (holds, alone) {
                (_, Some(alone)) if at == alone => "this decides, whatever the arguments are",
                (_, Some(_)) => "does not count, as another has no conditions",
                (Some(false), None) => "no",
                (Some(true), None) if answer.is_none() && !open => "yes, and this decides",
                (Some(true), None) if answer.is_none() => "yes, if none above does",
                (Some(true), None) => "yes, and one above decides",
                (None, None) => "depends on the arguments",
            };
            match alone {
                Some(alone) => answer = Some(rules[alone].answer),
                None if holds == Some(true) && answer.is_none() && !open => answer = Some(rule.answer),
                None => open |= holds.is_none() && answer.is_none(),
            }
            let conditions: Vec<String> = rule.conditions.iter().map(in_words).collect();
            let conditions =
                if conditions.is_empty() { String::new() } else { format!(" if {}", conditions.join(" and ")) };
            lines.push(format!("{}: {}{conditions}: {verdict}", (self.rule)(rule.entry), words(rule.answer)));
        }
        if answer.is_some() || open {
            return answer;
        }
        let default = self.set.default;
        let refuses = strictness(default) <= strictness(libc::SECCOMP_RET_ERRNO);
        if refuses && rules.is_empty() && !calls.names_private(number) && calls.last().is_some_and(|last| number > last)
        {
            lines.push("newer than all calls that the profile names".to_owned());
            return Some(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        }
        lines.push(
            if rules.is_empty() { "no rule: the default decides" } else { "none: the default decides" }.to_owned(),
        );
        Some(default)
    }

    /// Whether all conditions hold, as far as the arguments are known.
    fn holds(&self, conditions: &[Condition], arguments: &[u64]) -> Option<bool> {
        let mut unknown = false;
        for condition in conditions {
            match arguments.get(usize::from(condition.argument)) {
                Some(&argument) if !holds(condition, argument, self.abi.wide()) => return Some(false),
                Some(_) => {}
                None => unknown = true,
            }
        }
        (!unknown).then_some(true)
    }
}

fn holds(condition: &Condition, argument: u64, wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (argument, value) = (cut(argument), cut(condition.value));
    let holds = match condition.test {
        Test::Equal { mask } => argument & mask == value,
        Test::Greater => argument > value,
        Test::GreaterOrEqual => argument >= value,
    };
    holds != condition.denied
}

fn in_words(condition: &Condition) -> String {
    let Condition { argument, test, value, denied } = *condition;
    let operator = match (test, denied) {
        (Test::Equal { .. }, false) => "==",
        (Test::Equal { .. }, true) => "!=",
        (Test::Greater, false) => ">",
        (Test::Greater, true) => "<=",
        (Test::GreaterOrEqual, false) => ">=",
        (Test::GreaterOrEqual, true) => "<",
    };
    match test {
        Test::Equal { mask } if mask != u64::MAX => format!("argument {argument} & {mask:#x} {operator} {value:#x}"),
        _ => format!("argument {argument} {operator} {value:#x}"),
    }
}
