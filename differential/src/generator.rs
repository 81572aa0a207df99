//! Profiles and calls made up from a seed: few names, arguments and constants, so that rules meet.

use libseccomp::ScmpArch;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::interpreter::Call;
use crate::model::Abi;
use crate::peer::number;

/// Numbers from a seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.roll() >> 33) as usize) % end
    }

    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// True `times` of `out_of`.
    pub fn chance(&mut self, times: usize, out_of: usize) -> bool {
        self.below(out_of) < times
    }
}

const ACTIONS: [&str; 9] = ["ALLOW", "ERRNO", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// Calls that rules meet at: some are in every ABI, some in few, some are reached through another.
const HOT: [&str; 24] = [
    "read",
    "write",
    "openat",
    "clone",
    "personality",
    "ioctl",
    "prctl",
    "socket",
    "bind",
    "sendmsg",
    "recvfrom",
    "shmat",
    "semop",
    "msgget",
    "socketcall",
    "ipc",
    "mmap",
    "mmap2",
    "waitpid",
    "execve",
    "rt_sigaction",
    "fcntl64",
    "set_tls",
    "openat2",
];

/// Others: their numbers are spread over the tables.
const COLD: [&str; 40] = [
    "accept4",
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "chdir",
    "clock_nanosleep",
    "close_range",
    "copy_file_range",
    "dup3",
    "epoll_wait",
    "faccessat2",
    "fadvise64",
    "fchmodat",
    "futex",
    "getcwd",
    "getpid",
    "getrandom",
    "io_submit",
    "landlock_create_ruleset",
    "lseek",
    "_llseek",
    "madvise",
    "mount",
    "mq_notify",
    "nanosleep",
    "pidfd_open",
    "pipe2",
    "preadv2",
    "process_vm_readv",
    "ptrace",
    "readv",
    "recvmmsg",
    "rseq",
    "set_robust_list",
    "statx",
    "timer_create",
    "umount2",
    "vmsplice",
    "waitid",
];

const CONSTANTS: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    16,
    0xff,
    0x0002_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0007,
    0x8000_0000_0000_0000,
    u64::MAX,
];

fn constant(dice: &mut Dice) -> u64 {
    if dice.chance(1, 8) { dice.roll() >> dice.below(64) } else { *dice.of(&CONSTANTS) }
}

/// A profile for a machine with these ABIs.
pub fn profile(dice: &mut Dice, machine: &[Abi]) -> Value {
    let mut profile = json!({"listenerPath": "/run/agent"});
    let default = if dice.chance(1, 2) { "ERRNO" } else { *dice.of(&ACTIONS) };
    profile["defaultAction"] = json!(format!("SCMP_ACT_{default}"));
    if ["ERRNO", "TRACE"].contains(&default) && dice.chance(1, 3) {
        profile["defaultErrnoRet"] = json!(dice.below(200));
    }
    let listed: Vec<&str> = machine.iter().map(|abi| abi.0).filter(|_| dice.chance(2, 3)).collect();
    profile["architectures"] = json!(listed);
    let most = if dice.chance(1, 10) { 120 } else { 12 };
    let entries = 1 + dice.below(most);
    let mut syscalls = Vec::with_capacity(entries);
    for _ in 0..entries {
        let count = if dice.chance(1, 4) { 1 + dice.below(12) } else { 1 };
        let mut names: Vec<&str> = (0..count).map(|_| name(dice)).collect();
        names.dedup();
        let action = if dice.chance(1, 12) { "NOTIFY" } else { *dice.of(&ACTIONS) };
        let mut entry = json!({"names": names, "action": format!("SCMP_ACT_{action}")});
        if ["ERRNO", "TRACE"].contains(&action) && dice.chance(1, 2) {
            entry["errnoRet"] = json!(dice.below(5));
        }
        let args = if dice.chance(2, 3) { [0, 1, 1, 1, 2, 3][dice.below(6)] } else { 0 };
        let args: Vec<Value> = (0..args).map(|_| argument(dice)).collect();
        if !args.is_empty() {
            entry["args"] = json!(args);
        }
        syscalls.push(entry);
    }
    profile["syscalls"] = json!(syscalls);
    profile
}

fn name(dice: &mut Dice) -> &'static str {
    let list: &[&'static str] = if dice.chance(2, 3) { &HOT } else { &COLD };
    list[dice.below(list.len())]
}

fn argument(dice: &mut Dice) -> Value {
    let index = if dice.chance(2, 3) { dice.below(2) } else { dice.below(6) };
    let operator = *dice.of(&OPERATORS);
    let mut argument = json!({"index": index, "op": format!("SCMP_CMP_{operator}"), "value": constant(dice)});
    if operator == "MASKED_EQ" {
        // A value with bits outside of its mask now and then.
        let value = constant(dice);
        let mask = argument["value"].as_u64().unwrap();
        argument["valueTwo"] = json!(if dice.chance(4, 5) { value & mask } else { value });
    }
    argument
}

/// A call that has to do with `profile`, or little, or nothing.
pub fn call(dice: &mut Dice, profile: &LinuxSeccomp, machine: &[Abi]) -> Call {
    let &(_, abi, audit, _) = if dice.chance(1, 2) { &machine[0] } else { dice.of(machine) };
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let named = if entries.is_empty() || dice.chance(1, 6) {
        name(dice).to_owned()
    } else {
        dice.of(dice.clone().of(entries).names()).clone()
    };
    let x32 = if abi == ScmpArch::X32 { 0x4000_0000 } else { 0 };
    let number = match number(&named, abi) {
        Some(number) if dice.chance(5, 6) => number,
        Some(number) if dice.chance(1, 2) => number.wrapping_add(1),
        _ if dice.chance(1, 20) => {
            *dice.of(&[u32::MAX, u32::MAX - 1, 0x3fff_ffff, 0x4000_0000, 0x8000_0000, 0x7fff_ffff])
        }
        _ => dice.below(520) as u32 | x32,
    };
    let arch = if dice.chance(1, 60) { *dice.of(&[0, 8, 0xc000_00b7, 0x4000_0028, 0x4000_0003]) } else { audit };
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = value(dice, profile);
    }
    if [102, 117].contains(&number) && dice.chance(3, 4) {
        arguments[0] = dice.below(26) as u64 | if dice.chance(1, 4) { 1 << 16 } else { 0 };
    }
    Call { number, arch, arguments }
}

/// A value that is one of the profile's, or beside one, or any.
fn value(dice: &mut Dice, profile: &LinuxSeccomp) -> u64 {
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let args = entries.iter().flat_map(|entry| entry.args().iter().flatten());
    let all: Vec<u64> = args.flat_map(|arg| [arg.value(), arg.value_two().unwrap_or_default()]).collect();
    let value = if all.is_empty() || dice.chance(1, 4) { constant(dice) } else { *dice.of(&all) };
    match dice.below(10) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ 1 << 32,
        3 => value ^ 1 << dice.below(64),
        4 => value & 0xffff_ffff,
        _ => value,
    }
}
