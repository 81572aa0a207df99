//! Which answer every number of one ABI gets: the rules of a profile by call, laid out over the space of numbers.

use oci_spec::runtime::LinuxSyscall;

use super::arch::Abi;
use super::code::MAX_LENGTH;
use super::numbers::{self, ARM_PRIVATE, Name};
use super::rules::{Condition, Rule, Rules, Test, strictness};
use crate::error::Faults;

/// What is done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same answer always.
    Answer(u32),
    /// The first of these rules whose conditions hold, else the default: an index into [`Calls::lists`].
    List(usize),
}

/// A run of numbers with one decision, up to the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) decision: Decision,
}

/// All calls of one ABI.
#[derive(Debug)]
pub(super) struct Calls {
    /// The calls that rules decide, by number.
    decided: Vec<(u32, Decision)>,
    /// The greatest number of a call that the profile names, whatever it says about it.
    last: Option<u32>,
    /// Rules to be tried in order, as indices into [`RuleSet::all`].
    pub(super) lists: Vec<Vec<usize>>,
    /// Number above, rule below: sorted, a call's rules are together and in the profile's order.
    keys: Vec<u64>,
    /// Calls of ARM's that the profile names to give them what the default is: past the last one they would get another.
    private: Vec<u32>,
}

/// The profile's rules, and those that are made for calls reached through another.
#[derive(Debug)]
pub(super) struct RuleSet {
    pub(super) default: u32,
    pub(super) all: Vec<Rule>,
    /// How many of them are the profile's own; they are the first.
    own: usize,
    /// The pairs of entries that were found to contradict each other.
    contradictions: Vec<(usize, usize)>,
}

impl Calls {
    /// The calls of `abi` that `syscalls` names, with their decisions. `names` are the names of all entries in one row, and
    /// `found` is set for each that there is a call for.
    ///
    /// Where several rules are about one call, a rule without conditions decides it alone, wherever it stands, and the
    /// first of several. Otherwise the first rule in the profile whose conditions hold decides. libseccomp does the same
    /// except where conditions of rules with different answers overlap: there its order follows from the shape of its
    /// tree, not from the profile, and ours is the profile's. Two rules with the same conditions and different answers are
    /// a fault; libseccomp refuses the second of them. Without conditions they are not: the first counts, in libseccomp too,
    /// and Podman's own default profile has such rules.
    pub(super) fn new(
        abi: Abi,
        syscalls: &[LinuxSyscall],
        names: &[Name<'_>],
        rules: &Rules,
        set: &mut RuleSet,
        found: &mut [bool],
        faults: &mut Faults,
    ) -> Self {
        let mut calls = Self::gather(abi, syscalls, names, rules, set, found);
        calls.decided.reserve(calls.keys.len());
        let keys = std::mem::take(&mut calls.keys);
        let mut previous: (&[u64], _) = (&[], Decision::Answer(set.default));
        for call in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            let number = (call[0] >> 32) as u32;
            let of_call = call.iter().map(|key| *key as u32 as usize);
            let decision = if previous.0.iter().map(|key| *key as u32 as usize).eq(of_call.clone()) {
                previous.1
            } else if let Some(rule) = of_call.clone().find(|&rule| set.all[rule].conditions.is_empty()) {
                Decision::Answer(set.all[rule].answer)
            } else {
                calls.list(set.in_order(of_call, syscalls, faults))
            };
            calls.decided.push((number, decision));
            previous = (call, decision);
        }
        calls.private.sort_unstable();
        calls.private.dedup();
        for number in std::mem::take(&mut calls.private) {
            if let Err(at) = calls.decided.binary_search_by_key(&number, |decided| decided.0) {
                calls.decided.insert(at, (number, Decision::Answer(set.default)));
            }
        }
        calls
    }

    /// Which rules are about which call; nothing is decided yet.
    pub(super) fn gather(
        abi: Abi,
        syscalls: &[LinuxSyscall],
        names: &[Name<'_>],
        rules: &Rules,
        set: &mut RuleSet,
        found: &mut [bool],
    ) -> Self {
        let mut last = None;
        let mut private: Vec<u32> = Vec::new();
        let mut keys: Vec<u64> = Vec::with_capacity(found.len() + 16);
        let mut names = names.iter().zip(found);
        for (syscall, entry) in syscalls.iter().zip(&rules.entries) {
            for (&name, found) in names.by_ref().take(syscall.names().len()) {
                if let Some(number) = numbers::number(abi, name) {
                    *found = true;
                    if abi != Abi::Arm || number < ARM_PRIVATE {
                        last = last.max(Some(number));
                    } else if entry.is_empty() {
                        private.push(number);
                    }
                    keys.extend(entry.clone().map(|rule| u64::from(number) << 32 | rule as u64));
                }
                if let Some((multiplexer, kind)) = numbers::multiplexed(abi, name) {
                    *found = true;
                    for rule in entry.clone() {
                        let Some(through) = set.through(rule, multiplexer.mask(), kind) else { continue };
                        keys.push(u64::from(multiplexer.number()) << 32 | through as u64);
                    }
                }
            }
        }
        keys.sort_unstable();
        // Rules that are made stand behind the profile's own; their place is that of the entry that they come from.
        for call in keys.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
            if call.last().is_some_and(|key| *key as u32 as usize >= set.own) {
                call.sort_by_key(|key| set.all[*key as u32 as usize].entry);
            }
        }
        Self { decided: Vec::new(), last, lists: Vec::new(), keys, private }
    }

    /// The rules about the call `number`, in their order, as indices into [`RuleSet::all`]; of calls that were only gathered.
    pub(super) fn rules_of(&self, number: u32) -> impl Iterator<Item = usize> + use<'_> {
        self.keys.iter().filter(move |key| *key >> 32 == u64::from(number)).map(|key| *key as u32 as usize)
    }

    /// The greatest number of a call that the profile names.
    pub(super) fn last(&self) -> Option<u32> {
        self.last
    }

    /// Whether the profile names a private call of ARM's to give it the default.
    pub(super) fn names_private(&self, number: u32) -> bool {
        self.private.contains(&number)
    }

    fn list(&mut self, list: Vec<usize>) -> Decision {
        let at = self.lists.iter().position(|known| *known == list).unwrap_or_else(|| {
            self.lists.push(list);
            self.lists.len() - 1
        });
        Decision::List(at)
    }

    /// How many calls rules decide.
    pub(super) fn len(&self) -> usize {
        self.decided.len()
    }

    /// Appends the runs of numbers from `first` to below `end`: what rules decide, `default` for what else there is up to
    /// the last call that the profile names, and `newer` past it.
    pub(super) fn runs(&self, first: u32, end: Option<u32>, default: u32, newer: u32, runs: &mut Vec<Run>) {
        let past = self.last.and_then(|last| last.checked_add(1));
        let fill = |runs: &mut Vec<Run>, from: u32, to: Option<u32>| match past {
            Some(past) if to.is_none_or(|to| past < to) => {
                if from < past {
                    add(runs, from, Decision::Answer(default));
                }
                add(runs, from.max(past), Decision::Answer(newer));
            }
            _ => add(runs, from, Decision::Answer(default)),
        };
        let mut next = Some(first);
        for &(number, decision) in &self.decided {
            if let Some(from) = next.filter(|&from| from < number) {
                fill(runs, from, Some(number));
            }
            add(runs, number, decision);
            next = number.checked_add(1);
        }
        if let Some(from) = next.filter(|&from| end.is_none_or(|end| from < end)) {
            fill(runs, from, end);
        }
    }
}

/// Appends a run, or lengthens the last one.
pub(super) fn add(runs: &mut Vec<Run>, first: u32, decision: Decision) {
    if runs.last().is_none_or(|run| run.decision != decision) {
        runs.push(Run { first, decision });
    }
}

impl RuleSet {
    pub(super) fn new(rules: &Rules) -> Self {
        Self { default: rules.default, all: rules.all.clone(), own: rules.all.len(), contradictions: Vec::new() }
    }

    /// The rule that does for a call reached through another what rule `of` does for the call itself.
    ///
    /// The call's own arguments are in memory there, where no filter can look. So a rule with conditions becomes one
    /// without them if it is stricter than the default, and nothing if it is laxer: either way no call passes that the
    /// profile means to stop.
    fn through(&mut self, of: usize, mask: u64, kind: u32) -> Option<usize> {
        let Rule { answer, ref conditions, entry } = self.all[of];
        if !conditions.is_empty() && strictness(answer) >= strictness(self.default) {
            return None;
        }
        let condition = Condition { argument: 0, test: Test::Equal { mask }, value: kind.into(), denied: false };
        let conditions = vec![condition];
        // The alternatives of one entry all give the same.
        if self.all[self.own..].last().is_some_and(|last| last.entry == entry && last.conditions == conditions) {
            return None;
        }
        self.all.push(Rule { answer, conditions, entry });
        Some(self.all.len() - 1)
    }

    /// A call's rules, all with conditions, without those that say what an earlier one says.
    fn in_order(
        &mut self,
        rules: impl Iterator<Item = usize>,
        syscalls: &[LinuxSyscall],
        faults: &mut Faults,
    ) -> Vec<usize> {
        let mut list: Vec<usize> = Vec::new();
        for new in rules {
            // The program will be too long, and is refused for that: each rule takes an instruction at least.
            if list.len() > MAX_LENGTH {
                break;
            }
            let rule = &self.all[new];
            let known = list.iter().find(|&&old| self.all[old].conditions == rule.conditions);
            let Some(&known) = known else {
                list.push(new);
                continue;
            };
            // Only what the profile itself says can contradict: what is made of it has lost its conditions.
            let made = new >= self.own || known >= self.own;
            let known = &self.all[known];
            let pair = (known.entry, rule.entry);
            if !made && known.answer != rule.answer && !self.contradictions.contains(&pair) {
                self.contradictions.push(pair);
                let actions = (syscalls[rule.entry].action(), syscalls[known.entry].action());
                faults.add(
                    format!("linux.seccomp.syscalls[{}].action", rule.entry),
                    format_args!(
                        "{} contradicts the {} that linux.seccomp.syscalls[{}] has under the same conditions",
                        actions.0, actions.1, known.entry
                    ),
                );
            }
        }
        list
    }
}
