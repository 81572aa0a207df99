//! System call names to numbers.
//!
//! The tables are those of the `syscalls` crate, which are generated from the kernel's own; here each becomes, when procrt
//! is compiled, a hash table from the name, since a profile brings hundreds of names and this is on the way of every
//! container's start.

use super::arch::{Abi, X32_BIT};

/// Slots of a hash table: a power of two above twice the calls of any architecture.
const SLOTS: usize = 1024;
/// A free slot: no table has a call of this number.
const FREE: u16 = u16::MAX;
/// One past the largest number of any table.
const NUMBERS: usize = 600;

/// A call's name with its hash, made once for all tables.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    text: &'a str,
    hash: u32,
}

impl<'a> Name<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        // FNV-1a: names are short, and the tables are fixed, so quality beyond few collisions buys nothing.
        let bytes = text.as_bytes();
        let mut hash = 0x811c_9dc5_u32;
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
            at += 1;
        }
        Self { text, hash: hash ^ (hash >> 15) }
    }

    const fn slot(self) -> usize {
        self.hash as usize & (SLOTS - 1)
    }
}

macro_rules! table {
    ($name:ident, $sysno:ty, |$number:ident, $known:ident| $called:expr) => {
        mod $name {
            use super::{FREE, NUMBERS, Name, SLOTS};

            /// The name of a number, if there is such a call.
            pub(super) const fn called($number: usize) -> Option<&'static str> {
                let $known = match <$sysno>::new($number) {
                    Some(call) => Some(call.name()),
                    None => None,
                };
                $called
            }

            static TABLE: [u16; SLOTS] = {
                assert!((<$sysno>::last().id() as usize) < NUMBERS);
                let mut table = [FREE; SLOTS];
                let mut number = 0;
                while number < NUMBERS {
                    if let Some(name) = called(number) {
                        let mut slot = Name::new(name).slot();
                        while table[slot] != FREE {
                            slot = (slot + 1) & (SLOTS - 1);
                        }
                        table[slot] = number as u16;
                    }
                    number += 1;
                }
                table
            };

            pub(super) fn number(name: Name<'_>) -> Option<u32> {
                let mut slot = name.slot();
                loop {
                    let number = TABLE[slot];
                    if number == FREE {
                        return None;
                    }
                    if called(number as usize) == Some(name.text) {
                        return Some(u32::from(number));
                    }
                    slot = (slot + 1) & (SLOTS - 1);
                }
            }
        }
    };
}

table!(x86_64, syscalls::x86_64::Sysno, |number, known| known);
table!(x86, syscalls::x86::Sysno, |number, known| known);
table!(arm, syscalls::arm::Sysno, |number, known| known);
// The crate's table is that of the generic header: it calls newfstatat by the C library's name, and has the calls with
// 64-bit times that only 32-bit architectures have (arch/arm64/tools/syscall_64.tbl has none of them).
table!(aarch64, syscalls::aarch64::Sysno, |number, known| match number {
    79 => Some("newfstatat"),
    403..=423 => None,
    _ => known,
});

/// Where ARM's private calls begin: `__ARM_NR_BASE` of `arch/arm/include/uapi/asm/unistd.h`. They are no part of the
/// sequence that new calls are numbered in.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// The number that a call has in `abi`, as a filter sees it; none if the ABI does not have the call.
pub(super) fn number(abi: Abi, name: Name<'_>) -> Option<u32> {
    match abi {
        Abi::X86_64 => x86_64::number(name),
        Abi::X86 => x86::number(name),
        Abi::X32 => x86_64::number(name).and_then(x32).map(|number| number | X32_BIT),
        Abi::Aarch64 => aarch64::number(name),
        Abi::Arm => arm::number(name).or_else(|| arm_private(name.text)),
    }
}

/// The name of the call that has `number` in `abi`.
pub(super) fn name(abi: Abi, number: u32) -> Option<&'static str> {
    let known = |called: fn(usize) -> Option<&'static str>, number: u32| {
        (number < NUMBERS as u32).then(|| called(number as usize)).flatten()
    };
    match abi {
        Abi::X86_64 => known(x86_64::called, number),
        Abi::X86 => known(x86::called, number),
        // The calls that have other numbers there are few.
        Abi::X32 => (0..NUMBERS as u32)
            .find(|common| x86_64::called(*common as usize).is_some() && x32(*common) == Some(number ^ X32_BIT))
            .and_then(|common| x86_64::called(common as usize)),
        Abi::Aarch64 => known(aarch64::called, number),
        Abi::Arm if number > ARM_PRIVATE => PRIVATE.get((number - ARM_PRIVATE - 1) as usize).copied(),
        Abi::Arm => known(arm::called, number),
    }
}

const PRIVATE: [&str; 6] = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"];

fn arm_private(name: &str) -> Option<u32> {
    PRIVATE.iter().position(|&known| known == name).map(|at| ARM_PRIVATE + 1 + at as u32)
}

/// What x32 calls the x86_64 call `number`, without its bit: from `arch/x86/entry/syscalls/syscall_64.tbl`, where "common"
/// calls keep their number, "x32" calls have one from 512 on, and the other "64" calls are not there.
fn x32(number: u32) -> Option<u32> {
    Some(match number {
        13 => 512,  // rt_sigaction
        15 => 513,  // rt_sigreturn
        16 => 514,  // ioctl
        19 => 515,  // readv
        20 => 516,  // writev
        45 => 517,  // recvfrom
        46 => 518,  // sendmsg
        47 => 519,  // recvmsg
        59 => 520,  // execve
        101 => 521, // ptrace
        127 => 522, // rt_sigpending
        128 => 523, // rt_sigtimedwait
        129 => 524, // rt_sigqueueinfo
        131 => 525, // sigaltstack
        222 => 526, // timer_create
        244 => 527, // mq_notify
        246 => 528, // kexec_load
        247 => 529, // waitid
        273 => 530, // set_robust_list
        274 => 531, // get_robust_list
        278 => 532, // vmsplice
        279 => 533, // move_pages
        295 => 534, // preadv
        296 => 535, // pwritev
        297 => 536, // rt_tgsigqueueinfo
        299 => 537, // recvmmsg
        307 => 538, // sendmmsg
        310 => 539, // process_vm_readv
        311 => 540, // process_vm_writev
        54 => 541,  // setsockopt
        55 => 542,  // getsockopt
        206 => 543, // io_setup
        209 => 544, // io_submit
        322 => 545, // execveat
        327 => 546, // preadv2
        328 => 547, // pwritev2
        // uselib, _sysctl, create_module, get_kernel_syms, query_module, nfsservctl, set_thread_area, get_thread_area,
        // epoll_ctl_old, epoll_wait_old, vserver, uretprobe, uprobe, map_shadow_stack
        134 | 156 | 174 | 177 | 178 | 180 | 205 | 211 | 214 | 215 | 236 | 335 | 336 | 453 => return None,
        common => common,
    })
}

/// The calls of x86 that are also reached through another, and by which first argument of it: through socketcall
/// (`SYS_*` of `linux/net.h`) or ipc (`linux/ipc.h`). The others call their kinds by a number each and nothing else.
pub(super) fn multiplexed(abi: Abi, name: Name<'_>) -> Option<(Multiplexer, u32)> {
    if abi != Abi::X86 {
        return None;
    }
    let (multiplexer, kind) = match name.text {
        "socket" => (Multiplexer::Socketcall, 1),
        "bind" => (Multiplexer::Socketcall, 2),
        "connect" => (Multiplexer::Socketcall, 3),
        "listen" => (Multiplexer::Socketcall, 4),
        "accept" => (Multiplexer::Socketcall, 5),
        "getsockname" => (Multiplexer::Socketcall, 6),
        "getpeername" => (Multiplexer::Socketcall, 7),
        "socketpair" => (Multiplexer::Socketcall, 8),
        "send" => (Multiplexer::Socketcall, 9),
        "recv" => (Multiplexer::Socketcall, 10),
        "sendto" => (Multiplexer::Socketcall, 11),
        "recvfrom" => (Multiplexer::Socketcall, 12),
        "shutdown" => (Multiplexer::Socketcall, 13),
        "setsockopt" => (Multiplexer::Socketcall, 14),
        "getsockopt" => (Multiplexer::Socketcall, 15),
        "sendmsg" => (Multiplexer::Socketcall, 16),
        "recvmsg" => (Multiplexer::Socketcall, 17),
        "accept4" => (Multiplexer::Socketcall, 18),
        "recvmmsg" => (Multiplexer::Socketcall, 19),
        "sendmmsg" => (Multiplexer::Socketcall, 20),
        "semop" => (Multiplexer::Ipc, 1),
        "semget" => (Multiplexer::Ipc, 2),
        "semctl" => (Multiplexer::Ipc, 3),
        "semtimedop" => (Multiplexer::Ipc, 4),
        "msgsnd" => (Multiplexer::Ipc, 11),
        "msgrcv" => (Multiplexer::Ipc, 12),
        "msgget" => (Multiplexer::Ipc, 13),
        "msgctl" => (Multiplexer::Ipc, 14),
        "shmat" => (Multiplexer::Ipc, 21),
        "shmdt" => (Multiplexer::Ipc, 22),
        "shmget" => (Multiplexer::Ipc, 23),
        "shmctl" => (Multiplexer::Ipc, 24),
        _ => return None,
    };
    Some((multiplexer, kind))
}

/// A call of x86 whose first argument says which of several others is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiplexer {
    Socketcall,
    Ipc,
}

impl Multiplexer {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Socketcall => 102,
            Self::Ipc => 117,
        }
    }

    /// The bits of the first argument that the kernel chooses by: ipc has a version in the upper half (`ipc/syscall.c`).
    pub(super) const fn mask(self) -> u64 {
        match self {
            Self::Socketcall => 0xffff_ffff,
            Self::Ipc => 0xffff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(abi: Abi, name: &str) -> Option<u32> {
        number(abi, Name::new(name))
    }

    #[test]
    fn every_call_of_every_table_is_found_by_its_name() {
        let mut found = 0;
        macro_rules! check {
            ($abi:expr, $sysno:ty) => {
                for call in (0..NUMBERS).filter_map(<$sysno>::new) {
                    if $abi == Abi::Aarch64 && (call.id() == 79 || (403..=423).contains(&call.id())) {
                        continue;
                    }
                    assert_eq!(of($abi, call.name()), Some(call.id() as u32), "{}", call.name());
                    assert_eq!(name($abi, call.id() as u32), Some(call.name()));
                    found += 1;
                }
            };
        }
        check!(Abi::X86_64, syscalls::x86_64::Sysno);
        check!(Abi::X86, syscalls::x86::Sysno);
        check!(Abi::Aarch64, syscalls::aarch64::Sysno);
        check!(Abi::Arm, syscalls::arm::Sysno);
        assert!(found > 1500, "{found}");
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(of(Abi::X86_64, "clone3"), Some(435));
        assert_eq!(of(Abi::X86, "socketcall"), Some(102));
        assert_eq!(of(Abi::X86, "ipc"), Some(117));
        assert_eq!(of(Abi::X86_64, "socketcall"), None);
        assert_eq!(of(Abi::X32, "read"), Some(X32_BIT));
        assert_eq!(of(Abi::X32, "execve"), Some(X32_BIT + 520));
        assert_eq!(of(Abi::X32, "uselib"), None);
        assert_eq!(of(Abi::Aarch64, "openat"), Some(56));
        assert_eq!(of(Abi::Aarch64, "newfstatat"), Some(79));
        assert_eq!(of(Abi::Aarch64, "clock_gettime64"), None);
        assert_eq!(of(Abi::Arm, "set_tls"), Some(0x000f_0005));
        assert_eq!(of(Abi::Arm, "open"), Some(5));
        assert_eq!(of(Abi::X86_64, ""), None);
        assert_eq!(name(Abi::X32, X32_BIT + 520), Some("execve"));
        assert_eq!(name(Abi::X32, X32_BIT + 59), None);
        assert_eq!(name(Abi::Arm, 0x000f_0005), Some("set_tls"));
        assert_eq!(name(Abi::X86_64, u32::MAX), None);
        assert_eq!(of(Abi::X86_64, "no_such_call"), None);
    }
}
