//! Classic BPF from back to front.
//!
//! All jumps of classic BPF go forward, so a program that is written from its end knows the place of everything it jumps
//! to. A conditional jump reaches 255 instructions; past that an answer is written again where it is needed, and anything
//! else gets a far jump, which reaches everywhere.

use seccompiler::sock_filter;

use super::arch::Abi;
use super::calls::{Calls, RuleSet, Run};
use super::rules::{Condition, Test};

/// The longest program that the kernel takes: `BPF_MAXINSNS` of `linux/bpf_common.h`.
pub(super) const MAX_LENGTH: usize = 4096;
/// How far a conditional jump reaches.
const REACH: usize = u8::MAX as usize;
/// How many single numbers are tried one after the other: as many as a search for them has levels.
const SINGLES: usize = 3;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

// Where the fields of `struct seccomp_data` (linux/seccomp.h) are.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;
const LOW: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };

/// An instruction that is already written, by how many stand behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

/// A program that grows at its front.
#[derive(Debug)]
pub(super) struct Code {
    reversed: Vec<sock_filter>,
    /// The foremost instruction for each answer.
    answers: Vec<(u32, Place)>,
    /// The foremost instruction of each list of rules, and whether it compares 64 bits.
    lists: Vec<(bool, Vec<usize>, Place)>,
}

impl Code {
    pub(super) fn new() -> Self {
        Self { reversed: Vec::with_capacity(512), answers: Vec::new(), lists: Vec::new() }
    }

    /// The program, from front to back.
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Place {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Place(self.reversed.len() - 1)
    }

    /// How many instructions lie between `to` and the one written next.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - 1 - to.0
    }

    /// An instruction that answers `answer`.
    pub(super) fn answer(&mut self, answer: u32) -> Place {
        match self.answers.iter().find(|(known, _)| *known == answer) {
            Some(&(_, place)) => place,
            None => self.answer_here(answer),
        }
    }

    fn answer_here(&mut self, answer: u32) -> Place {
        let place = self.push(RETURN, answer, 0, 0);
        match self.answers.iter_mut().find(|(known, _)| *known == answer) {
            Some(known) => known.1 = place,
            None => self.answers.push((answer, place)),
        }
        place
    }

    /// A place that does what `to` does, at most `reach` instructions from the one written next.
    fn within(&mut self, reach: usize, to: Place) -> Place {
        if self.distance(to) <= reach {
            return to;
        }
        let sock_filter { code, k, .. } = self.reversed[to.0];
        if code != RETURN {
            return self.push(JUMP, self.distance(to) as u32, 0, 0);
        }
        let nearest = self.answer(k);
        if self.distance(nearest) <= reach { nearest } else { self.answer_here(k) }
    }

    /// An instruction that does not jump, followed by `next`.
    fn step(&mut self, code: u16, k: u32, next: Place) -> Place {
        self.within(0, next);
        self.push(code, k, 0, 0)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        if yes == no {
            return yes;
        }
        // One less for the first, as the second may need an instruction between.
        let yes = self.within(REACH - 1, yes);
        let no = self.within(REACH, no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, k, jt, jf)
    }

    /// Goes to the section for the call's architecture, and kills the process if there is none.
    ///
    /// libseccomp kills the thread, which leaves the rest of a process running with a lock held; a call in a way that the
    /// profile does not list is no accident, so the whole process ends.
    pub(super) fn dispatch(&mut self, sections: &[(u32, Place)]) -> Place {
        let mut next = self.answer(libc::SECCOMP_RET_KILL_PROCESS);
        for &(arch, section) in sections.iter().rev() {
            next = self.branch(IF_EQUAL, arch, section, next);
        }
        self.step(LOAD, ARCH, next)
    }

    /// Loads the call's number and finds its run.
    pub(super) fn section(&mut self, runs: &[Run], place: &impl Fn(&mut Self, &Run) -> Place) -> Place {
        let next = self.search(runs, None, place);
        self.step(LOAD, NUMBER, next)
    }

    /// A binary search for the run that the loaded number is in; the last one ends before `end`.
    fn search(&mut self, runs: &[Run], end: Option<u32>, place: &impl Fn(&mut Self, &Run) -> Place) -> Place {
        if let Some(found) = self.singles(runs, end, place) {
            return found;
        }
        let (below, above) = runs.split_at(runs.len() / 2);
        let yes = self.search(above, end, place);
        let no = self.search(below, Some(above[0].first), place);
        self.branch(IF_GREATER_OR_EQUAL, above[0].first, yes, no)
    }

    /// The same for a few runs of which all but those of one decision are single numbers: one comparison for each single
    /// number takes no longer than a search, and half the instructions, as a search has one for either side of it.
    fn singles(&mut self, runs: &[Run], end: Option<u32>, place: &impl Fn(&mut Self, &Run) -> Place) -> Option<Place> {
        if runs.len() > 2 * SINGLES + 1 {
            return None;
        }
        let single = |at: usize| runs.get(at + 1).map(|next| next.first).or(end) == runs[at].first.checked_add(1);
        let other = (0..runs.len()).find(|&at| !single(at)).unwrap_or(runs.len() - 1);
        let apart: Vec<usize> = (0..runs.len()).filter(|&at| runs[at].decision != runs[other].decision).collect();
        if apart.len() > SINGLES || apart.iter().any(|&at| !single(at)) {
            return None;
        }
        let mut next = place(self, &runs[other]);
        for at in apart.into_iter().rev() {
            let yes = place(self, &runs[at]);
            next = self.branch(IF_EQUAL, runs[at].first, yes, next);
        }
        Some(next)
    }

    /// The rules of `abi`'s list number `list`, tried in order.
    pub(super) fn list(&mut self, abi: Abi, calls: &Calls, list: usize, set: &RuleSet) -> Place {
        let list = &calls.lists[list];
        if let Some(known) = self.lists.iter().find(|(wide, known, _)| *wide == abi.wide() && known == list) {
            return known.2;
        }
        let mut next = self.answer(set.default);
        let mut rest = list.as_slice();
        while let Some((&last, before)) = rest.split_last() {
            // Rules about the same word of the same argument: the word is loaded, and its upper half compared, once.
            let run = set.alike(rest);
            if run > 1 {
                (rest, next) = self.alternatives(&rest[rest.len() - run..], &rest[..rest.len() - run], abi, set, next);
            } else {
                let mut place = self.answer(set.all[last].answer);
                for condition in set.all[last].conditions.iter().rev() {
                    place = self.condition(abi, condition, place, next);
                }
                (rest, next) = (before, place);
            }
        }
        self.lists.push((abi.wide(), list.clone(), next));
        next
    }

    /// Rules of which each compares the same argument with a constant, all constants having the same upper half.
    fn alternatives<'a>(
        &mut self,
        rules: &[usize],
        before: &'a [usize],
        abi: Abi,
        set: &RuleSet,
        none: Place,
    ) -> (&'a [usize], Place) {
        let first = set.all[rules[0]].conditions[0];
        let mut next = none;
        for &rule in rules.iter().rev() {
            let yes = self.answer(set.all[rule].answer);
            next = self.branch(IF_EQUAL, set.all[rule].conditions[0].value as u32, yes, next);
        }
        next = self.step(LOAD, low(&first), next);
        if abi.wide() {
            next = self.branch(IF_EQUAL, high_word(first.value), next, none);
            next = self.step(LOAD, high(&first), next);
        }
        (before, next)
    }

    /// Goes to `yes` where the condition holds, else to `no`.
    fn condition(&mut self, abi: Abi, condition: &Condition, yes: Place, no: Place) -> Place {
        let (yes, no) = if condition.denied { (no, yes) } else { (yes, no) };
        let (value_high, value_low) = (high_word(condition.value), condition.value as u32);
        match condition.test {
            Test::Equal { mask } => {
                let mut next = self.masked(low(condition), mask as u32, value_low, yes, no);
                if abi.wide() {
                    next = self.masked(high(condition), high_word(mask), value_high, next, no);
                }
                next
            }
            Test::Greater | Test::GreaterOrEqual => {
                let code = if condition.test == Test::Greater { IF_GREATER } else { IF_GREATER_OR_EQUAL };
                let mut next = self.branch(code, value_low, yes, no);
                next = self.step(LOAD, low(condition), next);
                if abi.wide() {
                    // No upper half is less than zero.
                    if value_high != 0 {
                        next = self.branch(IF_EQUAL, value_high, next, no);
                    }
                    next = self.branch(IF_GREATER, value_high, yes, next);
                    next = self.step(LOAD, high(condition), next);
                }
                next
            }
        }
    }

    /// Goes to `yes` where the word at `offset`, masked, is `value`, else to `no`.
    fn masked(&mut self, offset: u32, mask: u32, value: u32, yes: Place, no: Place) -> Place {
        // Nothing is compared: the value has no bits outside its mask.
        if mask == 0 {
            return yes;
        }
        let mut next = self.branch(IF_EQUAL, value, yes, no);
        if mask != u32::MAX {
            next = self.step(AND, mask, next);
        }
        self.step(LOAD, offset, next)
    }
}

impl RuleSet {
    /// How many of the last rules of `list` can be tried at once: each is one comparison for equality, of one argument,
    /// with constants of the same upper half.
    fn alike(&self, list: &[usize]) -> usize {
        let shape = |rule: usize| match self.all[rule].conditions[..] {
            [Condition { argument, test: Test::Equal { mask: u64::MAX }, value, denied: false }] => {
                Some((argument, high_word(value)))
            }
            _ => None,
        };
        let Some(shape_of_last) = list.last().and_then(|&last| shape(last)) else { return 0 };
        list.iter().rev().take_while(|&&rule| shape(rule) == Some(shape_of_last)).count()
    }
}

fn high_word(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Where the lower half of the condition's argument is.
fn low(condition: &Condition) -> u32 {
    ARGUMENTS + u32::from(condition.argument) * 8 + LOW
}

/// Where the upper half is.
fn high(condition: &Condition) -> u32 {
    ARGUMENTS + u32::from(condition.argument) * 8 + (4 - LOW)
}
