//! A profile given to libseccomp, as other runtimes give it.

use std::cell::RefCell;
use std::collections::HashMap;

use libseccomp::error::{SeccompErrno, SeccompError};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};
use seccompiler::sock_filter;

/// What libseccomp makes of a profile.
#[derive(Debug)]
pub enum Made {
    /// Its program.
    Program(Vec<sock_filter>),
    /// It refuses a rule because of another that it has.
    Contradiction,
    /// Its program is too long.
    TooLong,
}

/// The filter for `profile` on the machine whose own architecture is `native`, not exported yet; nothing if libseccomp
/// refuses a rule because of another.
///
/// A rule that does what the default does is left out, as libseccomp takes none; a name that it does not know is skipped;
/// and of a rule with several conditions for one argument each condition is made a rule, since a rule of libseccomp has at
/// most one.
pub fn context(profile: &LinuxSeccomp, native: ScmpArch, tree: bool) -> Option<ScmpFilterContext> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default).unwrap();
    if native != ScmpArch::native() {
        context.add_arch(native).unwrap();
        context.remove_arch(ScmpArch::native()).unwrap();
    }
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(of(*arch)).unwrap();
    }
    if tree {
        context.set_ctl_optimize(2).unwrap();
    }
    for syscall in profile.syscalls().iter().flatten() {
        let action = action(syscall.action(), syscall.errno_ret());
        if action == default {
            continue;
        }
        let args = syscall.args().as_deref().unwrap_or_default();
        let several = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
        for name in syscall.names() {
            let Ok(number) = ScmpSyscall::from_name(name) else { continue };
            let compared: Vec<ScmpArgCompare> = args.iter().map(compare).collect();
            let added = if several {
                compared.iter().try_for_each(|one| context.add_rule_conditional(action, number, &[*one]).map(drop))
            } else {
                context.add_rule_conditional(action, number, &compared).map(drop)
            };
            match added {
                Ok(()) => {}
                Err(error) if is(&error, SeccompErrno::EEXIST) => return None,
                Err(error) => panic!("{name} {compared:?}: {error}"),
            }
        }
    }
    Some(context)
}

fn is(error: &SeccompError, errno: SeccompErrno) -> bool {
    error.errno() == Some(errno)
}

/// The program for `profile`; `tree` asks for the binary search that libseccomp has as an option.
pub fn compile(profile: &LinuxSeccomp, native: ScmpArch, tree: bool) -> Made {
    let Some(context) = context(profile, native, tree) else { return Made::Contradiction };
    export(&context)
}

/// The program of a filter.
pub fn export(context: &ScmpFilterContext) -> Made {
    use std::io::{Read, Seek};
    let fd = nix::sys::memfd::memfd_create("filter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(fd);
    if let Err(error) = context.export_bpf(&file) {
        assert!(is(&error, SeccompErrno::ENOMEM) || is(&error, SeccompErrno::EINVAL), "{error}");
        return Made::TooLong;
    }
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let half = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
    let instruction = |bytes: &[u8]| sock_filter {
        code: half(bytes),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    let program: Vec<_> = bytes.chunks_exact(8).map(instruction).collect();
    if program.len() > 4096 { Made::TooLong } else { Made::Program(program) }
}

/// The number that libseccomp gives `name` on `arch`, as a filter sees it; nothing if there is no such call.
pub fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    thread_local! {
        static KNOWN: RefCell<HashMap<(ScmpArch, String), Option<u32>>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| *known.entry((arch, name.to_owned())).or_insert_with(|| look_up(name, arch)))
}

fn look_up(name: &str, arch: ScmpArch) -> Option<u32> {
    let number = ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall();
    let direct = DIRECT.iter().find(|(known, _)| arch == ScmpArch::X86 && *known == name);
    direct.map(|direct| direct.1).or_else(|| u32::try_from(number).ok())
}

/// x86's calls that there once were only through socketcall and ipc: libseccomp has their numbers, and does not tell them
/// (`arch/x86/entry/syscalls/syscall_32.tbl`).
const DIRECT: [(&str, u32); 27] = [
    ("socket", 359),
    ("socketpair", 360),
    ("bind", 361),
    ("connect", 362),
    ("listen", 363),
    ("accept4", 364),
    ("getsockopt", 365),
    ("setsockopt", 366),
    ("getsockname", 367),
    ("getpeername", 368),
    ("sendto", 369),
    ("sendmsg", 370),
    ("recvfrom", 371),
    ("recvmsg", 372),
    ("shutdown", 373),
    ("recvmmsg", 337),
    ("sendmmsg", 345),
    ("semget", 393),
    ("semctl", 394),
    ("shmget", 395),
    ("shmctl", 396),
    ("shmat", 397),
    ("shmdt", 398),
    ("msgget", 399),
    ("msgsnd", 400),
    ("msgrcv", 401),
    ("msgctl", 402),
];

fn of(arch: Arch) -> ScmpArch {
    arch.to_string().parse().unwrap()
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> ScmpAction {
    let number = number.unwrap_or(libc::EPERM as u32);
    match action {
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number as i32),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(number as u16),
        other => ScmpAction::from_str(&other.to_string(), None).unwrap(),
    }
}

fn compare(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (op, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // The operator has the mask, and the value is the second one.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or_default())
        }
    };
    ScmpArgCompare::new(arg.index() as u32, op, value)
}
