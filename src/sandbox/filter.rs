//! The sandbox's own filter of system calls: a profile as any container's, compiled by the same code.
//!
//! It lists what programs need and refuses the rest with EPERM, calls that are newer than the list with ENOSYS. Beside
//! what Docker's profile refuses to a container without capabilities, it refuses: io_uring (its requests pass no filter),
//! ptrace and the other ways into another process's memory, kernel keyrings, userfaultfd, bpf, perf_event_open, new
//! namespaces and the joining of others, all calls that mount or look at mounts, file handles, modify_ldt, fanotify,
//! sockets of other families than AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK's routing, and the terminal's TIOCSTI and
//! TIOCLINUX, which type what a shell outside would read. 32-bit programs (i386, x32) are killed: their calls have ways
//! past a look at arguments (socketcall). Files cannot be given the bits that make whoever runs them their owner
//! (setuid, setgid), so that none is left for others in a directory that is shared. clone3 fails with ENOSYS, since the flags
//! are out of a filter's sight, and C libraries then call clone.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::policy::{Network, NetworkMode};
use crate::bundle::{Circumstances, kernel_version, read_profile};
use crate::error::{Context, Result};
use crate::seccomp::Machine;
use crate::seccomp::{SeccompPlan, from_digits};

/// Calls that are let through whatever their arguments are, at every level.
const ANYWAY: &str = "\
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chown clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range dup \
    dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat \
    exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchown fchownat fcntl fdatasync fgetxattr \
    file_getattr flistxattr flock fork fstat fstatfs fsync ftruncate futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 \
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom \
    getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioprio_get kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lgetxattr link linkat listen listxattr listxattrat llistxattr lseek lsm_get_self_attr \
    lsm_list_modules lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mlock \
    mlock2 mlockall mmap mprotect mremap mseal msync munlock munlockall munmap nanosleep newfstatat pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 \
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages rename renameat renameat2 restart_syscall rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_yield \
    seccomp select sendfile set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer \
    setpgid setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid shutdown sigaltstack signalfd \
    signalfd4 splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate umask uname \
    unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid write writev";

/// Calls that change who may do what with a file. Landlock leaves them alone, whatever file they name.
const ATTRIBUTES: &str = "\
    file_setattr fremovexattr fsetxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat";

/// Calls that change a file's mode, and which of their arguments that is.
const MODES: [(&str, usize); 4] = [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)];
/// What a mode may not have: the set-id bits, and that the group or others write.
const BAD_MODE: u64 = 0o6022;

/// Calls that reach other processes of the same user by number; System V's and POSIX's means of communication, which have
/// a namespace of their own at the levels that use this filter as it is.
const OTHERS: &str = "\
    ioprio_set mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink msgctl msgget msgrcv msgsnd prlimit64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    semctl semget semop semtimedop semtimedop_time64 setpriority shmat shmctl shmdt shmget";

/// The `CLONE_NEW*` flags as clone(2) has them.
const NAMESPACES: u64 = 0x7e02_0000;
/// `CLONE_NEWTIME`, which is one of unshare(2)'s only.
const NEW_TIME: u64 = 0x80;
/// The lower half of an argument: the kernel takes no more of an `int`.
const INT: u64 = 0xffff_ffff;
/// `S_ISUID` and `S_ISGID`.
const SET_IDS: u64 = 0o6000;
/// What has open(2) look at its third argument.
const MAKES: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
/// `NETLINK_ROUTE`.
const ROUTE: u64 = 0;

/// The filter for containers: of the levels `enhanced` and `container`, and of those with a kernel of their own.
pub fn default_filter() -> LinuxSeccomp {
    let mut rules = always();
    rules.push(rule(OTHERS, ALLOW, None, vec![]));
    rules.push(rule(ATTRIBUTES, ALLOW, None, vec![]));
    rules.extend(MODES.map(|(call, mode)| rule(call, ALLOW, None, vec![equals(mode, SET_IDS, 0)])));
    rules.push(rule("sendmmsg sendmsg sendto socketpair", ALLOW, None, vec![]));
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        rules.push(rule("socket", ALLOW, None, vec![equals(0, INT, family as u64)]));
    }
    rules.push(routing());
    profile(rules)
}

/// [`default_filter`], compiled for this machine: it is the same each time, and compiling it takes a tenth of the time that
/// a short command takes in all. A test sees to it that it is the same.
pub fn compiled_default_filter() -> SeccompPlan {
    let digits = if cfg!(target_arch = "aarch64") { COMPILED[1].1 } else { COMPILED[0].1 };
    SeccompPlan::of_program(from_digits(digits.trim_end()).unwrap_or_default())
}

/// By machine. `UPDATE_FILTERS=1 cargo test --lib filter` writes them anew.
const COMPILED: [(&str, &str); 2] =
    [("x86_64", include_str!("filter/x86_64.digits")), ("aarch64", include_str!("filter/aarch64.digits"))];

/// The filter for a process without namespaces (level `default`), which shares the host's network, processes and means of
/// communication, and where landlock does not reach: UDP, sockets in the file system, limits and priorities of other
/// processes of the same user.
///
/// Sockets of AF_UNIX are to be had in pairs only, as there is no way to hold connect(2) to named paths; with no network
/// there are no other sockets; with named TCP ports, TCP alone, and without what connects past landlock's rules (fast
/// open, other protocols). Limits, scheduling and priorities can be set of the calling process alone.
///
/// Any file of the user's can be named to chmod(2) and setxattr(2), which sets access control lists too: extended
/// attributes cannot be set (EOPNOTSUPP, which programs take), and modes only without the set-id bits and without writing by
/// the group or others. For `root`, whose files are the system's, modes cannot be set at all.
pub fn process_filter(network: &Network, root: bool) -> LinuxSeccomp {
    let mut rules = always();
    rules.push(rule(ATTRIBUTES, REFUSE, Some(libc::EOPNOTSUPP), vec![]));
    if !root {
        rules.extend(MODES.map(|(call, mode)| rule(call, ALLOW, None, vec![equals(mode, BAD_MODE, 0)])));
    }
    rules.push(rule("ioprio_set", ALLOW, None, vec![equals(0, INT, 1), equals(1, INT, 0)]));
    rules.push(rule("setpriority", ALLOW, None, vec![equals(0, INT, 0), equals(1, INT, 0)]));
    let own = "prlimit64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler";
    rules.push(rule(own, ALLOW, None, vec![equals(0, INT, 0)]));
    // The other flags of the type are SOCK_CLOEXEC and SOCK_NONBLOCK.
    for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        rules.push(rule("socketpair", ALLOW, None, vec![equals(0, INT, 1), equals(1, 0xf, kind as u64)]));
    }
    let host = network.mode == Some(NetworkMode::Host);
    let inet = [libc::AF_INET, libc::AF_INET6].map(|family| equals(0, INT, family as u64));
    if host && network.allow_tcp.is_empty() {
        rules.extend(inet.map(|family| rule("socket", ALLOW, None, vec![family])));
        rules.push(rule("sendmmsg sendmsg sendto", ALLOW, None, vec![]));
        rules.push(routing());
        return profile(rules);
    }
    for (call, flags) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
        rules.push(rule(call, ALLOW, None, vec![equals(flags, libc::MSG_FASTOPEN as u64, 0)]));
    }
    if host {
        for family in inet {
            for protocol in [0, libc::IPPROTO_TCP as u64] {
                let tcp = [equals(1, 0xf, libc::SOCK_STREAM as u64), equals(2, INT, protocol)];
                rules.push(rule("socket", ALLOW, None, [family].into_iter().chain(tcp).collect()));
            }
        }
        rules.push(routing());
    }
    profile(rules)
}

/// The filter of a profile's file, for a process that has no capabilities.
///
/// # Errors
/// As [`read_profile`].
pub(super) fn from_file(path: &std::path::Path) -> Result<LinuxSeccomp> {
    let release = nix::sys::utsname::uname().context(|| "ask the kernel for its version")?;
    let around = Circumstances {
        capabilities: Vec::new(),
        machine: Machine::OWN.go_name(),
        architecture: Machine::OWN.architecture(),
        kernel: kernel_version(&release.release().to_string_lossy()).unwrap_or_default(),
    };
    read_profile(path, &around).map(|profile| profile.section).context(|| "seccomp")
}

const ALLOW: LinuxSeccompAction = LinuxSeccompAction::ScmpActAllow;
const REFUSE: LinuxSeccompAction = LinuxSeccompAction::ScmpActErrno;

/// What holds at every level.
fn always() -> Vec<LinuxSyscall> {
    let mut rules = vec![
        rule(ANYWAY, ALLOW, None, vec![]),
        rule("clone", ALLOW, None, vec![equals(0, NAMESPACES, 0)]),
        rule("clone3", REFUSE, Some(libc::ENOSYS), vec![]),
        rule("unshare", ALLOW, None, vec![equals(0, NAMESPACES | NEW_TIME, 0)]),
    ];
    // A file with these bits in a directory that is shared would be a way for others outside to become its owner, who may be
    // root. openat2 has the mode where a filter cannot see it, and programs do without.
    for (calls, mode) in [("creat mknod", 1), ("mknodat open", 2), ("openat", 3)] {
        rules.push(rule(calls, ALLOW, None, vec![equals(mode, SET_IDS, 0)]));
    }
    for (call, flags) in [("open", 1), ("openat", 2)] {
        rules.push(rule(call, ALLOW, None, vec![equals(flags, MAKES, 0)]));
    }
    rules.push(rule("openat2", REFUSE, Some(libc::ENOSYS), vec![]));
    // As the kernel answers where it has been told to (dev.tty.legacy_tiocsti, Linux 6.2). A rule that did what the default
    // does would not be one.
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        rules.push(rule("ioctl", REFUSE, Some(libc::EIO), vec![equals(1, INT, request)]));
    }
    // Of several rules with conditions the first that holds decides: this always does.
    rules.push(rule("ioctl", ALLOW, None, vec![equals(1, 0, 0)]));
    for persona in [0, 8, INT] {
        rules.push(rule("personality", ALLOW, None, vec![equals(0, INT, persona)]));
    }
    rules
}

/// Sockets that tell of addresses and routes, which C libraries ask for.
fn routing() -> LinuxSyscall {
    rule("socket", ALLOW, None, vec![equals(0, INT, libc::AF_NETLINK as u64), equals(2, INT, ROUTE)])
}

/// That the bits `mask` of an argument are `value`.
fn equals(index: usize, mask: u64, value: u64) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(LinuxSeccompOperator::ScmpCmpMaskedEq);
    built(builder.value(mask).value_two(value).build())
}

fn rule(names: &str, action: LinuxSeccompAction, errno: Option<i32>, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.split_ascii_whitespace().map(str::to_owned).collect();
    let mut builder = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno as u32);
    }
    if !args.is_empty() {
        builder = builder.args(args);
    }
    built(builder.build())
}

fn profile(rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let builder = LinuxSeccompBuilder::default().default_action(REFUSE).default_errno_ret(libc::EPERM as u32);
    built(builder.syscalls(rules).build())
}

/// What a builder gives whose every field has been set.
fn built<T, E: std::fmt::Debug>(result: std::result::Result<T, E>) -> T {
    result.expect("every field that is wanted is set")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Faults;
    use crate::seccomp::{Machine, Question, explain, plan_for, to_digits};

    /// What a filter does with a call, in the words that `procrt seccomp explain` ends with.
    fn answer(profile: &LinuxSeccomp, call: &str, arguments: &[u64]) -> String {
        let question = Question { call, arguments, architecture: None };
        let explanations = explain(&Machine::X86_64, profile, question, &|at| at.to_string());
        explanations[0].lines.last().unwrap().clone()
    }

    fn check(profile: &LinuxSeccomp, calls: &[(&str, &[u64], &str)]) {
        for (call, arguments, wanted) in calls {
            let answer = answer(profile, call, arguments);
            assert!(answer.contains(wanted), "{call}{arguments:?}: {answer}");
        }
    }

    #[test]
    fn both_filters_compile_and_name_only_calls_that_there_are() {
        let networks = [
            Network::default(),
            Network { mode: Some(NetworkMode::Host), allow_tcp: vec![] },
            Network { mode: Some(NetworkMode::Host), allow_tcp: vec![80] },
        ];
        for profile in networks.iter().map(|network| process_filter(network, false)).chain([default_filter()]) {
            for machine in [Machine::X86_64, Machine::named("aarch64").unwrap()] {
                let mut faults = Faults::default();
                let plan = plan_for(&machine, &profile, true, &mut faults);
                faults.into_result().unwrap();
                assert_eq!(plan.architectures.len(), 1);
            }
            for name in profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names) {
                let known = ["x86_64", "aarch64", "arm"].iter().any(|arch| crate::seccomp::has_call(arch, name));
                assert!(known, "{name}");
            }
        }
    }

    #[test]
    fn the_compiled_filter_is_that_of_the_profile() {
        for (name, digits) in COMPILED {
            let machine = Machine::named(name).unwrap();
            let mut faults = Faults::default();
            let plan = plan_for(&machine, &default_filter(), true, &mut faults);
            assert_eq!((plan.flags, plan.early), (0, false));
            let text = to_digits(&plan.program) + "\n";
            if std::env::var_os("UPDATE_FILTERS").is_some() {
                let path = format!("{}/src/sandbox/filter/{name}.digits", env!("CARGO_MANIFEST_DIR"));
                std::fs::write(path, text).unwrap();
            } else {
                assert!(text == digits, "UPDATE_FILTERS=1 cargo test --lib filter");
            }
        }
        assert!(!compiled_default_filter().program.is_empty());
    }

    #[test]
    fn what_no_level_allows_is_refused() {
        let newuser = 0x1000_0000;
        for profile in [default_filter(), process_filter(&Network::default(), false)] {
            check(
                &profile,
                &[
                    ("read", &[], "allow"),
                    ("io_uring_setup", &[], "EPERM"),
                    ("keyctl", &[], "EPERM"),
                    ("add_key", &[], "EPERM"),
                    ("request_key", &[], "EPERM"),
                    ("bpf", &[], "EPERM"),
                    ("ptrace", &[], "EPERM"),
                    ("process_vm_writev", &[], "EPERM"),
                    ("userfaultfd", &[], "EPERM"),
                    ("mount", &[], "EPERM"),
                    ("fsopen", &[], "EPERM"),
                    ("setns", &[], "EPERM"),
                    ("chmod", &[0, 0o755], "allow"),
                    ("chmod", &[0, 0o4755], "EPERM"),
                    ("fchmodat", &[0, 0, 0o2755], "EPERM"),
                    ("openat", &[0, 0, 0o2, 0o7777], "allow"),
                    ("openat", &[0, 0, 0o102, 0o644], "allow"),
                    ("openat", &[0, 0, 0o102, 0o4755], "EPERM"),
                    ("openat", &[0, 0, 0o20_200_002, 0o4755], "EPERM"),
                    ("open", &[0, 0o102, 0o4755], "EPERM"),
                    ("openat2", &[], "ENOSYS"),
                    ("clone", &[0x11], "allow"),
                    ("clone", &[newuser | 0x11], "EPERM"),
                    ("clone3", &[], "ENOSYS"),
                    ("unshare", &[0x400], "allow"),
                    ("unshare", &[newuser], "EPERM"),
                    ("unshare", &[NEW_TIME], "EPERM"),
                    ("ioctl", &[0, 0x5401], "allow"),
                    ("ioctl", &[0, 0x5412], "EIO"),
                    ("ioctl", &[0, 0x1_0000_5412], "EIO"),
                    ("ioctl", &[0, 0x541c], "EIO"),
                    ("personality", &[INT], "allow"),
                    ("personality", &[u64::MAX], "allow"),
                    ("personality", &[0x40000], "EPERM"),
                    ("socket", &[38, 5, 0], "EPERM"),
                    ("socket", &[17, 3, 0], "EPERM"),
                    ("socket", &[16, 3, 15], "EPERM"),
                ],
            );
        }
    }

    #[test]
    fn a_process_without_namespaces_reaches_no_socket_and_no_other_process() {
        let none = process_filter(&Network::default(), false);
        check(
            &none,
            &[
                ("socket", &[1, 1, 0], "EPERM"),
                ("socket", &[2, 1, 0], "EPERM"),
                ("socket", &[10, 2, 0], "EPERM"),
                ("socket", &[16, 3, 0], "EPERM"),
                ("socketpair", &[1, 0o2_000_001, 0], "allow"),
                ("socketpair", &[1, 5, 0], "allow"),
                ("socketpair", &[1, 2, 0], "EPERM"),
                ("prlimit64", &[0], "allow"),
                ("prlimit64", &[1], "EPERM"),
                ("setpriority", &[0, 0], "allow"),
                ("setpriority", &[2, 0], "EPERM"),
                ("sched_setaffinity", &[4], "EPERM"),
                ("shmget", &[], "EPERM"),
                ("mq_open", &[], "EPERM"),
                ("sendto", &[3, 0, 0, 0], "allow"),
                ("chmod", &[0, 0o755], "allow"),
                ("chmod", &[0, 0o4755], "EPERM"),
                ("fchmodat", &[3, 0, 0o666], "EPERM"),
                ("setxattr", &[], "EOPNOTSUPP"),
            ],
        );
        check(
            &process_filter(&Network::default(), true),
            &[("chmod", &[0, 0o700], "EPERM"), ("fchmod", &[3, 0o644], "EPERM")],
        );
        let host = process_filter(&Network { mode: Some(NetworkMode::Host), allow_tcp: vec![] }, false);
        check(
            &host,
            &[
                ("socket", &[2, 1, 0], "allow"),
                ("socket", &[10, 2, 0], "allow"),
                ("socket", &[16, 3, 0], "allow"),
                ("socket", &[1, 1, 0], "EPERM"),
            ],
        );
        let ports = process_filter(&Network { mode: Some(NetworkMode::Host), allow_tcp: vec![443] }, false);
        check(
            &ports,
            &[
                ("socket", &[2, 0x80801, 6], "allow"),
                ("socket", &[10, 1, 0], "allow"),
                ("socket", &[2, 2, 0], "EPERM"),
                ("socket", &[2, 1, 262], "EPERM"),
                ("socket", &[1, 1, 0], "EPERM"),
                ("sendto", &[3, 0, 0, 0x4000], "allow"),
                ("sendto", &[3, 0, 0, 0x2000_0000], "EPERM"),
                ("sendmsg", &[3, 0, 0x2000_0000], "EPERM"),
                ("sendmmsg", &[3, 0, 1, 0x2000_0000], "EPERM"),
            ],
        );
        check(
            &default_filter(),
            &[("socket", &[1, 1, 0], "allow"), ("shmget", &[], "allow"), ("prlimit64", &[9], "allow")],
        );
    }
}
