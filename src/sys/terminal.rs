//! The terminal ioctls of ioctl_tty(2) and TIOCSPTLCK(2const) that nix has no function for.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::Winsize;

/// Unlocks the slave end of the pty whose master end is `master` (`TIOCSPTLCK`).
///
/// # Errors
/// `ENOTTY` if `master` is not a pty's master end.
pub fn unlock(master: BorrowedFd) -> Result<(), Errno> {
    let locked: libc::c_int = 0;
    // SAFETY: the request reads one int through the pointer, which is valid for the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) }).map(drop)
}

/// The slave end of the pty whose master end is `master`, by descriptor and never by path (`TIOCGPTPEER`, Linux 4.13).
/// It is close-on-exec and does not become the caller's controlling terminal.
///
/// # Errors
/// `EIO` if the slave is still locked; `ENOTTY` if `master` is not a pty's master end.
pub fn peer(master: BorrowedFd) -> Result<OwnedFd, Errno> {
    let flags = (OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits();
    // SAFETY: the request takes its flags by value and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `terminal` the controlling terminal of the calling session leader, which has none yet (`TIOCSCTTY`).
///
/// # Errors
/// `EPERM` if the caller leads no session, has a terminal already, or `terminal` is another session's.
pub fn set_controlling(terminal: BorrowedFd) -> Result<(), Errno> {
    // SAFETY: the request takes an int by value (0: take it from no other session).
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// The window size of `terminal`.
///
/// # Errors
/// `ENOTTY` if it is not a terminal.
pub fn window_size(terminal: BorrowedFd) -> Result<Winsize, Errno> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes one winsize through the pointer, which is valid and exclusive for the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// Sets the window size of `terminal`; on a pty's master end, the slave's foreground processes get SIGWINCH if it changed.
///
/// # Errors
/// `ENOTTY` if it is not a terminal.
pub fn set_window_size(terminal: BorrowedFd, size: Winsize) -> Result<(), Errno> {
    // SAFETY: the request reads one winsize through the pointer, which is valid for the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}
