//! Making processes, and what a process can say about itself: clone3, pidfds, descriptors, capabilities, scheduling.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// `CLONE_INTO_CGROUP` (Linux 5.7), which does not fit the libc crate's signed constants.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone`] gave: in the parent, the child's pid and a pidfd of it; in the child, nothing.
#[derive(Debug)]
pub enum Cloned {
    /// This is the parent.
    Parent {
        /// The child's pid in this process's PID namespace.
        pid: i32,
        /// A descriptor of the child.
        pidfd: OwnedFd,
    },
    /// This is the child.
    Child,
}

/// A child by `clone3(2)` with its own copy of the memory, like fork(2): `namespaces` are `CLONE_NEW*` flags, `cgroup`
/// a cgroup v2 directory that the child is born in, `sibling` makes it a child of this process's parent (`CLONE_PARENT`).
///
/// # Errors
/// As clone3(2).
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd>, sibling: bool) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    if sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of everything, stack included (stack 0: the parent's address);
    // this process has one thread, so no lock is held that the child would wait for. `args` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), std::mem::size_of::<libc::clone_args>())
    });
    let pid = match pid {
        // A filter that cannot see the flags, such as the sandbox's own, says that there is no such call.
        Err(Errno::ENOSYS) if cgroup.is_none() => {
            let signal = if sibling { 0 } else { libc::SIGCHLD as u64 };
            let place = std::ptr::from_mut(&mut pidfd);
            // SAFETY: as above; with CLONE_PIDFD the third argument is where the descriptor goes, the others are unused.
            check(unsafe { libc::syscall(libc::SYS_clone, args.flags | signal, 0_usize, place, 0_usize, 0_usize) })?
        }
        pid => pid?,
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
    Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// A child as fork(2) makes it, also in a program with threads: of those only this one is in the child, where what another
/// one holds is held for ever. The C library's memory can be used there (glibc and musl see to that); output through the
/// standard library and the like are better left alone. Answers the child's pid, and in the child nothing.
///
/// # Errors
/// As fork(2).
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: no arguments; what the child may do is what the caller is told.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok((pid != 0).then_some(pid as i32))
}

/// A descriptor of the process `pid` (Linux 5.3).
///
/// # Errors
/// `ESRCH` if there is none, else as pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends `signal` to the process that `pidfd` refers to.
///
/// # Errors
/// `ESRCH` if it has ended and was reaped, else as pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: integers and a null pointer, which the kernel takes as "as kill(2) would".
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) })?;
    Ok(())
}

/// Closes every descriptor from `first` on but those of `kept`, which it sorts (close_range(2), Linux 5.9).
///
/// It is for a process that was just cloned, or is about to execute: whatever owned one of the others here must not use
/// or drop it any more.
///
/// # Errors
/// As close_range(2).
pub fn close_all_but(first: u32, kept: &mut [RawFd]) -> Result<(), Errno> {
    kept.sort_unstable();
    let mut from = first;
    for number in kept.iter().map(|fd| *fd as u32) {
        if number > from {
            close_range(from, number - 1)?;
        }
        from = from.max(number + 1);
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: integers only; that nobody uses the descriptors any more is what the caller promises.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// The first of the `count` descriptors from 3 on that was not passed to this program: it is not open, or the program has
/// opened it itself (then it is close-on-exec).
pub fn first_not_passed(count: u32) -> Option<u32> {
    (3..3_u32.saturating_add(count)).find(|number| {
        // SAFETY: integers only; a number that is no descriptor is an error.
        let flags = unsafe { libc::fcntl(*number as RawFd, libc::F_GETFD) };
        flags < 0 || flags & libc::FD_CLOEXEC != 0
    })
}

/// A copy, close-on-exec, of the descriptor `number`, which was passed to this program.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn copy_passed(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only; a number that is no descriptor is an error.
    let copy = check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }))?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// The effective user and group id that this program began with, as the kernel passed them (getauxval(3)): no system call.
pub fn ids_at_start() -> (u32, u32) {
    // SAFETY: integers only; the values are the kernel's, and there on every Linux.
    unsafe { (libc::getauxval(libc::AT_EUID) as u32, libc::getauxval(libc::AT_EGID) as u32) }
}

/// Five capability sets as bit masks, bit N for capability number N of linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCapabilities {
    /// The effective set.
    pub effective: u64,
    /// The permitted set.
    pub permitted: u64,
    /// The inheritable set.
    pub inheritable: u64,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This thread's effective, permitted and inheritable sets.
///
/// # Errors
/// As capget(2).
pub fn capabilities() -> Result<ThreadCapabilities, Errno> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: version 3 writes two data structures, which `data` holds.
    check(unsafe { libc::syscall(libc::SYS_capget, std::ptr::from_mut(&mut header), data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(ThreadCapabilities {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets this thread's effective, permitted and inheritable sets at once.
///
/// # Errors
/// `EPERM` where a set would grow beyond what capset(2) allows.
pub fn set_capabilities(sets: ThreadCapabilities) -> Result<(), Errno> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapabilityData {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two data structures, which `data` holds.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_mut(&mut header), data.as_ptr()) })?;
    Ok(())
}

/// Takes capability number `capability` out of the bounding set.
///
/// # Errors
/// `EINVAL` for a number that the kernel does not know, `EPERM` without CAP_SETPCAP.
pub fn drop_from_bounding_set(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, capability as u64, 0)
}

/// Whether capability number `capability` is in the bounding set; `None` past the kernel's last.
pub fn in_bounding_set(capability: u32) -> Option<bool> {
    // SAFETY: integers only.
    let answer = unsafe { libc::prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0, 0, 0) };
    (answer >= 0).then_some(answer == 1)
}

/// Empties the ambient set.
///
/// # Errors
/// As prctl(2).
pub fn clear_ambient_set() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
}

/// Puts a capability that is permitted and inheritable into the ambient set.
///
/// # Errors
/// `EPERM` if it is not both.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability))
}

fn prctl(option: i32, first: u64, second: u64) -> Result<(), Errno> {
    // SAFETY: integers only, for options that take integers.
    check(libc::c_long::from(unsafe { libc::prctl(option, first, second, 0, 0) }))?;
    Ok(())
}

/// Joins a new session keyring called `name`.
///
/// # Errors
/// `ENOSYS` without keyrings, `EDQUOT` past the quota, else as keyctl(2).
pub fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: `name` is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    Ok(())
}

/// Sets this process's I/O priority: `class` 1 real-time, 2 best effort, 3 idle; `level` 0 (highest) to 7.
///
/// # Errors
/// As ioprio_set(2).
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let value = i32::from(class) << 13 | i32::from(level);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// `struct sched_attr` of linux/sched/types.h, version 1 (56 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchedulerAttributes {
    /// The structure's size.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
    /// Utilization clamp.
    pub util_min: u32,
    /// Utilization clamp.
    pub util_max: u32,
}

/// Whether this process is scheduled as `SCHED_FIFO` or `SCHED_RR` (sched(7)).
pub fn is_real_time() -> bool {
    // SAFETY: the call takes a number and answers one.
    let policy = unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK;
    matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR)
}

/// Sets this thread's scheduling policy.
///
/// # Errors
/// As sched_setattr(2).
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> Result<(), Errno> {
    attributes.size = std::mem::size_of::<SchedulerAttributes>() as u32;
    // SAFETY: the structure says its own size and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) })?;
    Ok(())
}

/// Sets this process's supplementary groups (the system call itself: this process has one thread).
///
/// # Errors
/// `EPERM` without CAP_SETGID or where a user namespace denies setgroups.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// Sets the soft and hard limit of `resource` (`RLIMIT_*`).
///
/// # Errors
/// `EPERM` where the hard limit would grow without CAP_SYS_RESOURCE.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let nothing = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `limit` outlives the call; the old limit is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::from_ref(&limit), nothing) })?;
    Ok(())
}

/// Argument or environment strings in the form execve(2) takes, made ahead of time.
#[derive(Debug)]
pub struct StringTable {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringTable {
    /// The table of `strings`.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }
}

/// Replaces this process's program with the open file `program`. Returns only on failure.
pub fn exec(program: impl AsFd, arguments: &StringTable, environment: &StringTable) -> Errno {
    let fd = program.as_fd().as_raw_fd();
    // SAFETY: both tables are null-terminated arrays of pointers to C strings that they own.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// Replaces this process's program with the file at `path`. Returns only on failure.
pub fn exec_path(path: &CStr, arguments: &StringTable, environment: &StringTable) -> Errno {
    // SAFETY: `path` is a C string; both tables are null-terminated arrays of pointers to C strings that they own.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}

/// Brings up the loopback interface of this process's network namespace.
///
/// # Errors
/// As netdevice(7)'s `SIOCSIFFLAGS`.
pub fn bring_up_loopback() -> Result<(), Errno> {
    // SAFETY: integers only.
    let socket =
        check(libc::c_long::from(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }))?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as RawFd) };
    // SAFETY: ifreq is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request))
    }))?;
    Ok(())
}

/// Ends this process at once, running nothing of the standard library's.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of this process.
    unsafe { libc::_exit(status) }
}

/// The `CLONE_NEW*` flag of the namespace that `fd` refers to (Linux 4.11).
///
/// # Errors
/// `ENOTTY` if it refers to no namespace.
pub fn namespace_kind(fd: impl AsFd) -> Result<u64, Errno> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: this request takes no argument.
    let kind = check(libc::c_long::from(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) }))?;
    Ok(kind as u64)
}

/// The namespace above the PID or user namespace that `fd` refers to (Linux 4.9).
///
/// # Errors
/// `EPERM` if that is above this process's own, or there is none.
pub fn parent_namespace(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    const NS_GET_PARENT: u64 = 0xb702;
    // SAFETY: this request takes no argument.
    let parent = check(libc::c_long::from(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_PARENT) }))?;
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(parent as RawFd) })
}

/// Takes ownership of a descriptor that `recvmsg(2)` has just made in this process.
pub fn take_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for this process in that call, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Lets a write to a closed pipe end the program again, as programs expect: Rust's runtime ignores the signal, and what
/// is ignored stays so over execve.
///
/// # Errors
/// As sigaction(2).
pub fn restore_sigpipe() -> Result<(), Errno> {
    // SAFETY: the default action is no handler: nothing of this process runs.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) }?;
    Ok(())
}

/// Sets the NIS domain name of this process's UTS namespace.
///
/// # Errors
/// As setdomainname(2).
pub fn set_domain_name(name: &str) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one string; the call wants no NUL byte at its end.
    check(libc::c_long::from(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }))?;
    Ok(())
}

/// Names this thread, as ps(1) and /proc/PID/comm show it; at most 15 bytes count.
///
/// # Errors
/// As prctl(2).
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is a C string that outlives the call.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }))?;
    Ok(())
}
