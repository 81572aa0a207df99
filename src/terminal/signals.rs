//! The signals of a procrt that has a container in the foreground: blocked, and read from a descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Context, Result};
use crate::sys::child::ChildrenKept;

/// What stays as it is: what the processor raises, which cannot wait, and the two that stop a job of the shell's that uses
/// the terminal from the background, which are about procrt and not about the container.
const LEFT: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// While it lives, every signal that can be is blocked and waits to be read; nothing that arrives between the cloning of a
/// container's process and its end is lost or ends procrt. Dropping it discards what was not read and restores the former
/// mask, so it should live until the container is cleaned up.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    former: SigSet,
    _children: ChildrenKept,
}

/// One signal, as far as a supervisor tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// A child ended.
    Child,
    /// The window size of our terminal changed.
    Resized,
    /// We were stopped and go on: the terminal may have other modes now, and the container is to know.
    Resumed,
    /// One for the container, by number.
    Forward(i32),
}

impl Signals {
    /// Blocks the signals of the calling thread. To be called before the container's process is cloned.
    ///
    /// # Errors
    /// signalfd(2)'s: no descriptor is left.
    pub fn block() -> Result<Self> {
        let what = || "block the signals to be forwarded";
        let mut set = SigSet::all();
        for signal in LEFT {
            set.remove(signal);
        }
        let children = ChildrenKept::new().context(what)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(what)?;
        let former = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).context(what)?;
        Ok(Self { fd, former, _children: children })
    }

    /// In the cloned child: puts the mask back that was in force before [`Signals::block`], for the container to inherit.
    ///
    /// # Errors
    /// None that the system gives for a mask it gave before.
    pub fn restore_in_child(&self) -> Result<()> {
        self.former.thread_set_mask().context(|| "restore the signal mask")
    }

    /// Readable when a signal waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next signal that means something to a supervisor. SIGPIPE does not: it is what our own writing to a closed
    /// stdout raises; and SIGURG's default is to be ignored.
    ///
    /// # Errors
    /// As read(2).
    pub fn next(&self) -> std::result::Result<Option<Arrived>, Errno> {
        loop {
            let number = match self.fd.read_signal() {
                Ok(Some(info)) => info.ssi_signo as i32,
                Ok(None) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            return Ok(Some(match number {
                libc::SIGPIPE | libc::SIGURG => continue,
                libc::SIGCHLD => Arrived::Child,
                libc::SIGWINCH => Arrived::Resized,
                libc::SIGCONT => Arrived::Resumed,
                _ => Arrived::Forward(number),
            }));
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        while let Ok(Some(_)) = self.next() {}
        // The mask was in force before: the system has no reason to refuse it.
        let _ = self.former.thread_set_mask();
    }
}
