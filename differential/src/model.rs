//! A profile read word by word: no program, no tables of procrt's, and as simple as can be.

use libseccomp::ScmpArch;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::interpreter::Call;
use crate::peer::number;

const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const X32_BIT: u32 = 0x4000_0000;

/// The ways of calling the kernel of a machine, its own first: the name in a profile, libseccomp's, the audit number, and
/// whether arguments have 64 bits.
pub type Abi = (&'static str, ScmpArch, u32, bool);

/// Of an x86_64 machine.
pub const X86_64: &[Abi] = &[
    ("SCMP_ARCH_X86_64", ScmpArch::X8664, 0xc000_003e, true),
    ("SCMP_ARCH_X86", ScmpArch::X86, 0x4000_0003, false),
    ("SCMP_ARCH_X32", ScmpArch::X32, 0xc000_003e, false),
];

/// Of a 64-bit ARM machine.
pub const AARCH64: &[Abi] = &[
    ("SCMP_ARCH_AARCH64", ScmpArch::Aarch64, 0xc000_00b7, true),
    ("SCMP_ARCH_ARM", ScmpArch::Arm, 0x4000_0028, false),
];

/// What a profile says about a call, and how it comes to that.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `SECCOMP_RET_*` with its data.
    pub answer: u32,
    /// Why.
    pub why: Why,
    /// The answers of all rules that hold.
    pub all: Vec<u32>,
}

/// How a verdict comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The profile does not list the way in which the call is made.
    Foreign,
    /// The call is newer than what the profile names.
    Newer,
    /// No rule holds.
    Default,
    /// One rule holds, or the first of several with the same answer.
    Rule,
    /// The first of several rules holds that have different answers.
    First,
    /// The call is one of x86's that stand for others, and rules for those have conditions.
    Through,
}

/// The ABI that `call` is made by, if the profile lists it.
fn abi_of(profile: &LinuxSeccomp, machine: &'static [Abi], call: &Call) -> Option<Abi> {
    let listed = |abi: &Abi| {
        *abi == machine[0] || profile.architectures().iter().flatten().any(|arch| arch.to_string() == abi.0)
    };
    // -1 is what a tracer skips a call with.
    let x32 = call.number & X32_BIT != 0 || call.number > X32_BIT;
    let skipped = call.number == u32::MAX;
    machine.iter().copied().filter(|abi| abi.2 == call.arch).find(|abi| match abi.1 {
        ScmpArch::X8664 => !x32 || skipped && !listed(&X86_64[2]),
        ScmpArch::X32 => x32 && listed(abi),
        _ => listed(abi),
    })
}

/// What `profile` says about `call`.
pub fn verdict(profile: &LinuxSeccomp, machine: &'static [Abi], call: &Call) -> Verdict {
    let default = answer(profile.default_action(), profile.default_errno_ret());
    let Some((_, arch, _, wide)) = abi_of(profile, machine, call) else {
        return Verdict { answer: KILL_PROCESS, why: Why::Foreign, all: vec![] };
    };
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let names = |entry: &LinuxSyscall| entry.names().iter().any(|name| number(name, arch) == Some(call.number));
    let mut all = Vec::new();
    let mut alone = None;
    let mut through = false;
    let mut named = false;
    for entry in entries {
        named |= names(entry);
        let given = answer(entry.action(), entry.errno_ret());
        if given == default {
            continue;
        }
        let args = entry.args().as_deref().unwrap_or_default();
        let mut holds = names(entry) && conditions_hold(args, call, wide);
        if names(entry) && args.is_empty() {
            alone = alone.or(Some(given));
        }
        if arch == ScmpArch::X86 && entry.names().iter().any(|name| stands_for(call, name)) {
            through |= !args.is_empty();
            // What stands in memory cannot be compared: the stricter side is taken.
            holds |= args.is_empty() || ((given & 0xffff_0000) as i32) < (default & 0xffff_0000) as i32;
        }
        if holds {
            all.push(given);
        }
    }
    if let Some(&first) = all.first() {
        let why = match (through, all.iter().all(|one| *one == first)) {
            (true, _) => Why::Through,
            (false, true) => Why::Rule,
            (false, false) => Why::First,
        };
        return Verdict { answer: alone.unwrap_or(first), why, all };
    }
    let last = entries.iter().flat_map(LinuxSyscall::names).filter_map(|name| number(name, arch));
    // ARM's private calls are beyond all others.
    let last = last.filter(|number| arch != ScmpArch::Arm || *number < 0xf_0000).max();
    let refuses = (default & 0xffff_0000) as i32 <= libc::SECCOMP_RET_ERRNO as i32;
    let skipped = arch == ScmpArch::X8664 && call.number == u32::MAX;
    if !named && !skipped && refuses && last.is_some_and(|last| call.number > last) {
        let answer = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        return Verdict { answer, why: if through { Why::Through } else { Why::Newer }, all };
    }
    Verdict { answer: default, why: if through { Why::Through } else { Why::Default }, all }
}

/// Whether `call`, an x86 one, is socketcall(2) or ipc(2) standing for the call `name`.
pub fn stands_for(call: &Call, name: &str) -> bool {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(u64, &str); 12] = [
        (1, "semop"),
        (2, "semget"),
        (3, "semctl"),
        (4, "semtimedop"),
        (11, "msgsnd"),
        (12, "msgrcv"),
        (13, "msgget"),
        (14, "msgctl"),
        (21, "shmat"),
        (22, "shmdt"),
        (23, "shmget"),
        (24, "shmctl"),
    ];
    let kind = call.arguments[0] & 0xffff_ffff;
    match call.number {
        102 => kind > 0 && SOCKETCALL.get(kind as usize - 1) == Some(&name),
        117 => IPC.contains(&(kind & 0xffff, name)),
        _ => false,
    }
}

fn conditions_hold(args: &[LinuxSeccompArg], call: &Call, wide: bool) -> bool {
    let several = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    let mut each = args.iter().map(|arg| holds(arg, call, wide));
    if several { each.any(|holds| holds) } else { each.all(|holds| holds) }
}

fn holds(arg: &LinuxSeccompArg, call: &Call, wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (argument, value) = (cut(call.arguments[arg.index()]), cut(arg.value()));
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => argument != value,
        LinuxSeccompOperator::ScmpCmpLt => argument < value,
        LinuxSeccompOperator::ScmpCmpLe => argument <= value,
        LinuxSeccompOperator::ScmpCmpEq => argument == value,
        LinuxSeccompOperator::ScmpCmpGe => argument >= value,
        LinuxSeccompOperator::ScmpCmpGt => argument > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => argument & value == cut(arg.value_two().unwrap_or_default()) & value,
    }
}

fn answer(action: LinuxSeccompAction, number: Option<u32>) -> u32 {
    let number = number.unwrap_or(libc::EPERM as u32);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | number,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | number,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
    }
}
