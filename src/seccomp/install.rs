//! A finished program to the kernel.

use std::os::fd::OwnedFd;

use super::Finished;
use crate::error::{Context, Result};
use crate::sys;

/// Puts the calling thread, and what it becomes and makes, under the filter: every call from the return of this
/// one on, that of `execve` among them, is decided by it.
///
/// The caller has `no_new_privs` set, or holds `CAP_SYS_ADMIN` in its user namespace. Allocates nothing unless it fails.
///
/// # Errors
/// The kernel's refusal (seccomp(2)): `EACCES` without either, `EINVAL` for a flag that it does not have, `ENOSYS` or
/// `EINVAL` if it was built without filters.
pub fn install(filter: Finished) -> Result<()> {
    sys::seccomp::set_filter(filter.program, filter.flags).context(|| "install the seccomp filter")
}

/// Does the same and gives the listener of the filter's notifications, close-on-exec. Other threads of the process stay as
/// they are, whatever the flags say: one of them has to bring the listener out.
///
/// # Errors
/// As [`install`]; `EBUSY` if the thread is under a filter with a listener already.
pub fn install_with_listener(filter: Finished) -> Result<OwnedFd> {
    let flags = filter.flags & !(libc::SECCOMP_FILTER_FLAG_TSYNC as u32);
    sys::seccomp::set_filter_with_listener(filter.program, flags)
        .context(|| "install the seccomp filter and its listener")
}
