//! seccomp(2), filter mode.

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
    // The kernel's structure; its pointer is to mutable memory for the sake of other uses.
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    match seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program).cast())? {
        0 => Ok(()),
        // The id of the thread that stood in the way.
        _ => Err(Errno::ESRCH),
    }
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
