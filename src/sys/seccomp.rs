//! seccomp(2), filter mode.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use seccompiler::sock_filter;

fn seccomp(operation: libc::c_uint, flags: u32, argument: *const libc::c_void) -> Result<libc::c_long, Errno> {
    // SAFETY: the callers below pass what the operation reads as `argument`, or null; the kernel only reads it.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) })
}

/// Installs `program` for the calling thread (`SECCOMP_SET_MODE_FILTER`), with `flags` of `SECCOMP_FILTER_FLAG_*`, not
/// `NEW_LISTENER`.
///
/// # Errors
/// As in seccomp(2); `E2BIG` for a program whose length the kernel's structure cannot hold, and `ESRCH` if with `TSYNC`
/// a thread could not be brought under the filter.
pub fn set_filter(program: &[sock_filter], flags: u32) -> Result<(), Errno> {
    match set(program, flags)? {
        0 => Ok(()),
        // The id of the thread that stood in the way.
        _ => Err(Errno::ESRCH),
    }
}

/// Installs `program` as [`set_filter`] does, and gives the listener of its notifications, close-on-exec
/// (`SECCOMP_FILTER_FLAG_NEW_LISTENER`, Linux 5.0).
///
/// # Errors
/// As in seccomp(2); `EBUSY` if the thread has a filter with a listener already.
pub fn set_filter_with_listener(program: &[sock_filter], flags: u32) -> Result<OwnedFd, Errno> {
    let fd = set(program, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32)?;
    // SAFETY: on success the kernel answers a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn set(program: &[sock_filter], flags: u32) -> Result<libc::c_long, Errno> {
    // The kernel's structure; its pointer is to mutable memory for the sake of other uses.
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program).cast())
}

/// Whether the kernel knows the action `answer`, one of `SECCOMP_RET_*` (`SECCOMP_GET_ACTION_AVAIL`, Linux 4.14).
pub fn action_available(answer: u32) -> bool {
    seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, ptr::from_ref(&answer).cast()).is_ok()
}

/// Whether the kernel knows the flag bit `flag` of `SECCOMP_FILTER_FLAG_*`: asked with no program, it checks the flags
/// first and then fails to read the program.
pub fn flag_available(flag: u32) -> bool {
    seccomp(libc::SECCOMP_SET_MODE_FILTER, flag, ptr::null()) == Err(Errno::EFAULT)
}

/// A call that a filter has answered with `SECCOMP_RET_USER_NOTIF` and that waits for an answer: `struct seccomp_notif`.
pub type Notification = libc::seccomp_notif;

/// What becomes of such a call: `struct seccomp_notif_resp`. `id` is the notification's, `val` what the call answers,
/// `error` a negative error number instead, and the flag `SECCOMP_USER_NOTIF_FLAG_CONTINUE` lets it be carried out.
pub type Answer = libc::seccomp_notif_resp;

/// Waits for the next call that `listener` is to be told of.
///
/// # Errors
/// As in seccomp_unotify(2): `ENOENT` if the caller was killed meanwhile, `EINTR`.
pub fn receive(listener: BorrowedFd) -> Result<Notification, Errno> {
    // SAFETY: the structure is plain integers, for which zero is a valid value, and which the kernel wants to be zero.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one structure of this size.
    Errno::result(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, ptr::from_mut(&mut notification))
    })?;
    Ok(notification)
}

/// Answers a call.
///
/// # Errors
/// As in seccomp_unotify(2): `ENOENT` if it waits no more.
pub fn answer(listener: BorrowedFd, mut answer: Answer) -> Result<(), Errno> {
    // SAFETY: the request reads one structure of this size.
    Errno::result(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, ptr::from_mut(&mut answer))
    })
    .map(drop)
}
