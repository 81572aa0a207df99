//! A finished program to the kernel.

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
